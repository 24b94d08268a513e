"""The fast path of dropout on a CPU: many cheap random bits instead of one draw per number."""

import torch
from torch import Tensor, nn

STEPS = 65536  # of probability: one for each value of 16 random bits


class RandomBitsDropout(nn.Dropout):
    """nn.Dropout on a CPU, about three times faster, from PyTorch's own generator.

    The probability is kept to within 1/131,072, and what survives is scaled by the inverse of what
    was kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        dropped = round(self.p * STEPS)
        if not self.training or not dropped:
            return input
        words = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)
        keep = (bits >= dropped - STEPS // 2).to(input.dtype)
        return input * keep.mul_(STEPS / (STEPS - dropped))


def use_random_bits(model: nn.Module) -> None:
    """Put RandomBitsDropout in the place of every nn.Dropout of a model that trains on a CPU."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, RandomBitsDropout(child.p).train(child.training))
