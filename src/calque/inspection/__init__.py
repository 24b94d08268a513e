"""What a model attends to, seen from outside: by hooks, without a flag in the model."""
