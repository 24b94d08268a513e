"""Softmax over a vocabulary that rows are projected to, whose logits are never all in memory."""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from calque.kernels.library import Arguments, library, run

TOKENS, PART, SIDE = 64, 256, 16
"""Rows, words and columns that are worked on at a time, as in vocabulary.c."""
MULTIPLE, WIDEST = 32, 256
"""Columns: of any vectors, and beyond which oneDNN's products are as fast."""
MOST = 80.0
"""What the logarithm of a sum may be: beyond it a logit may have been cut off."""
POINTERS = "features weight pairs bias references sums of_features parts scaled of_weight of_bias"


class _Arguments(Arguments):
    _fields_ = [  # noqa: RUF012
        *((name, ctypes.c_void_p) for name in POINTERS.split()),
        *((name, ctypes.c_int64) for name in ["rows", "vocab", "width"]),
    ]


class ProjectedSoftmax:
    """Of `features @ weight.T + bias`, block of rows by block of rows; numbers are bf16.

    Adds the gradient of the rows' log-normalisers to `of_weight` and `of_bias`, float32. `parts` is
    written over; a block has as many rows at most, a multiple of TOKENS.
    """

    def __init__(
        self,
        weight: Float[Tensor, "vocab width"],
        bias: Float[Tensor, " vocab"] | None,
        of_weight: Float[Tensor, "vocab width"],
        of_bias: Float[Tensor, " vocab"] | None,
        parts: Float[Tensor, "block vocab"],
    ) -> None:
        vocab, width = weight.shape
        pairs = weight.new_empty(vocab + vocab % 2, width)
        self.weights = {"weight": weight, "pairs": pairs, "bias": bias}
        self.weights |= {"of_weight": of_weight, "of_bias": of_bias, "vocab": vocab, "width": width}
        self.parts = parts
        self.scaled = weight.new_empty(len(parts), width)
        run("pair_vocabulary", _Arguments(**self.weights), width // SIDE)

    @staticmethod
    def can_take(weight: Float[Tensor, "vocab width"], products: torch.dtype) -> bool:
        """Whether there is a kernel for a matrix that is learned, and nothing faster."""
        processor = torch.cpu.get_capabilities()
        quick = processor.get("avx512_bf16", False) and not processor.get("amx_bf16", False)
        plain = weight.device.type == "cpu" and weight.is_contiguous()
        right = plain and (weight.dtype, products) == (torch.float32, torch.bfloat16)
        narrow = weight.size(1) <= WIDEST and weight.size(1) % MULTIPLE == 0
        return right and narrow and quick and library() is not None

    def add(
        self, features: Float[Tensor, "rows width"], near: Float[Tensor, " rows"]
    ) -> tuple[Tensor, Tensor] | None:
        """The log-normalisers and their gradient by the features; None if `near` is too far.

        `near` has a logit of each row: less than 80 below the log-normaliser.
        """
        number = len(features)
        spare = -number % TOKENS
        features, references = pad(features, (0, 0, 0, spare)).contiguous(), pad(near, (0, spare))
        of_features = features.new_empty(features.shape, dtype=torch.float32)
        sums = references.new_empty(len(features))
        arguments = _Arguments(
            features=features,
            references=references,
            sums=sums,
            of_features=of_features,
            parts=self.parts,
            scaled=self.scaled,
            rows=len(features),
            **self.weights,
        )
        run("sum_over_vocabulary", arguments, len(features) // TOKENS)
        logarithms = sums[:number].log()
        if not bool((logarithms < MOST).all()):
            return None
        sums[number:] = torch.inf  # there is no such row
        run("vocabulary_gradient", arguments, -(-self.weights["vocab"] // PART))
        return near + logarithms, of_features[:number]
