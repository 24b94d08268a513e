"""Scaled dot-product attention among rows: the sentences of a batch, one behind the other."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.kernels.library import Arguments, run

Vectors = Sequence[Tensor]
"""Queries, keys and values: each [rows, d_model], float32 or bf16, its last axis without gaps."""
POINTERS = "query_starts key_starts query key value of_found found of_query of_key of_value"
SIZES = "heads d_head query_stride key_stride value_stride found_stride causal low"


class _Arguments(Arguments):
    _fields_ = [  # noqa: RUF012
        *((name, ctypes.c_void_p) for name in POINTERS.split()),
        *((name, ctypes.c_int64) for name in SIZES.split()),
    ]


@dataclass(frozen=True)
class Attend:
    """Who attends to whom: the queries of a sentence to its keys, each head by itself."""

    query_starts: Int[Tensor, " sentences+1"]
    """The first row of each sentence, and the end of the last."""
    key_starts: Int[Tensor, " sentences+1"]
    num_heads: int
    causal: bool = False
    """A query sees no key behind its own place."""

    def __call__(self, vectors: Vectors) -> Float[Tensor, "rows d_model"]:
        """What is found; zero in rows of no sentence."""
        found = torch.empty_like(vectors[0], memory_format=torch.contiguous_format)
        self._run("attend", vectors, found.stride(0), found=found)
        found[self.query_starts[-1] :] = 0
        return found

    def gradient(
        self, vectors: Vectors, of_found: Float[Tensor, "rows d_model"], out: Vectors
    ) -> None:
        """Write those of queries, keys and values; rows of no sentence are left as they are.

        `out` has the strides of `vectors`.
        """
        places = dict(zip(("of_query", "of_key", "of_value"), out, strict=True))
        self._run("attend_gradient", vectors, of_found.stride(0), of_found=of_found, **places)

    def _run(self, kernel: str, vectors: Vectors, stride: int, **others: Tensor) -> None:
        query, key, value = vectors
        arguments = _Arguments(
            query_starts=self.query_starts,
            key_starts=self.key_starts,
            query=query,
            key=key,
            value=value,
            heads=self.num_heads,
            d_head=query.size(1) // self.num_heads,
            query_stride=query.stride(0),
            key_stride=key.stride(0),
            value_stride=value.stride(0),
            found_stride=stride,
            causal=self.causal,
            low=query.dtype == torch.bfloat16,
            **others,
        )
        run(kernel, arguments, (len(self.query_starts) - 1) * self.num_heads)
