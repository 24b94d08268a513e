"""The fast path of training on a CPU: the same sums from few kernels, and few random draws."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from calque.models.parts.dropout import RandomBitsDropout

ROWS = 128


class RoundedLinear(nn.Linear):
    """nn.Linear that, in training, multiplies a multiple of ROWS rows, the last of zeros.

    oneDNN compiles a bf16 kernel for each number of rows that it meets. Batches have as many
    numbers as there are batches, so that half of a small model's step went into compiling.
    """

    @classmethod
    def like(cls, layer: nn.Linear) -> "RoundedLinear":
        """A layer with the very parameters of another."""
        made = cls(layer.in_features, layer.out_features, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.flatten(0, -2)
        spare = -len(rows) % ROWS
        if not self.training or not spare:
            return super().forward(input)
        rounded = torch.cat([rows, rows.new_zeros(spare, rows.size(-1))])
        return linear(rounded, self.weight, self.bias)[: len(rows)].unflatten(0, input.shape[:-1])


def use_fast_layers(model: nn.Module) -> None:
    """Put fast layers in the place of every nn.Dropout and nn.Linear of a model, for a CPU."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, RandomBitsDropout(child.p).train(child.training))
            elif type(child) is nn.Linear:
                setattr(module, name, RoundedLinear.like(child))
