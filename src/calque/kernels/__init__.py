"""Kernels in C: what a CPU does in one pass over memory, where PyTorch would take several.

Each does what plain code elsewhere does, and a test holds the two equal. They are compiled at
first use, by the machine's own compiler for its own processor; without one, the plain code runs.
"""
