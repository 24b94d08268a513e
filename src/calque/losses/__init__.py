"""Functions of tensors: they never sample or read."""
