"""What a model attends to, seen from outside: by hooks, without a flag in the model."""

from calque.inspection.capture import Look, look

__all__ = ["Look", "look"]
