"""Sequence-to-sequence models: ids in, logits out."""
