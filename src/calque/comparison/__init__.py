"""`calque compare`: a recipe and changes of it, trained under one budget and measured alike."""
