"""A stack of layers over rows, from embeddings to the likeliest next words, and whole searches:
`layers.c` and `search.c`."""

import ctypes
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from calque.kernels.library import Arguments, library, run

KINDS = ["norm", "product", "turn", "keep", "attend_own", "attend_past", "attend_memory"]
ACTIVATIONS = ["none", "relu", "swish", "gelu"]
WAYS = ["set", "add", "multiply"]
"""What becomes of a product: it is what the columns hold, or is added to it, or multiplies it."""


def _pointers(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


def _sizes(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_int64) for name in names.split()]


class _Step(Arguments):
    _fields_ = [  # noqa: RUF012
        *_sizes("kind at to width made how activation centred layer"),
        *_pointers("weight bias"),
        ("epsilon", ctypes.c_float),
    ]


class Words(Arguments):
    """What to do with the features: `predicting` in likeliest.h."""

    _fields_ = [  # noqa: RUF012
        *_pointers("weight bias logits scores must_end totals log_probs parents tokens"),
        *_sizes("at vocab made size pad bos eos"),
    ]


class _Layers(Arguments):
    _fields_ = [  # noqa: RUF012
        *_pointers("steps x starts cosine sine memory memory_at keys past past_at descent"),
        *_sizes("number d_model columns heads d_head angles room"),
        ("words", Words),
    ]


class Search(Arguments):
    """How to search for targets, and where to leave them: `search` in search.c."""

    _fields_ = [  # noqa: RUF012
        ("step", _Layers),
        *_pointers("embeddings positions limits penalties stop tokens log_probs scores"),
        *_sizes("sources parts beam longest greedy depth"),
    ]


def lanes() -> int:
    """Numbers of a vector, of which keys, heads and norms have whole ones."""
    return ctypes.c_int64.in_dll(library(), "lanes").value  # pyright: ignore[reportArgumentType]


def whole(number: int, of: int) -> int:
    """The next multiple."""
    return -(-number // of) * of


class Panels:
    """A matrix for products, turned, 2 * lanes of its columns at a time; with a bias or none."""

    def __init__(self, weight: Float[Tensor, "made width"], bias: Tensor | None) -> None:
        of = 2 * lanes()
        spare = -len(weight) % of
        turned = pad(weight.detach(), (0, 0, 0, spare)).unflatten(0, (-1, of)).transpose(1, 2)
        self.weight = turned.contiguous()
        self.bias = None if bias is None else pad(bias.detach(), (0, spare))
        self.width, self.made = weight.size(1), len(weight) + spare


class Stack:
    """Steps to take with rows, in columns: x, what is normed of it, work, and what is found."""

    def __init__(self, d_model: int, heads: int, d_head: int, widest: int) -> None:
        """`widest` numbers are the most that a product makes."""
        of = 2 * lanes()
        self.d_model, self.heads, self.d_head = d_model, heads, whole(d_head, lanes())
        self.inner = self.heads * self.d_head
        self.x, self.normed = 0, whole(d_model, of)
        self.work = 2 * self.normed
        self.found = self.work + whole(widest, of)
        self.columns = self.found + whole(self.inner, of)
        self._steps: list[_Step] = []
        self._kept: list[Tensor] = []

    def norm(
        self,
        to: int,
        weight: Float[Tensor, " d_model"],
        bias: Float[Tensor, " d_model"] | None,
        epsilon: float,
        *,
        centred: bool,
    ) -> None:
        """Layer norm of x if centred, else RMS norm."""
        spare = -self.d_model % lanes()
        weight = pad(weight.detach(), (0, spare))
        bias = None if bias is None else pad(bias.detach(), (0, spare))
        others = {"width": self.d_model, "centred": centred, "epsilon": epsilon}
        self._add("norm", at=self.x, to=to, weight=weight, bias=bias, **others)

    def product(
        self, at: int, to: int, panels: Panels, activation: str = "none", how: str = "set"
    ) -> None:
        """With a matrix; see ACTIVATIONS and WAYS."""
        others = {"activation": ACTIVATIONS.index(activation), "how": WAYS.index(how)}
        sizes = {"width": panels.width, "made": panels.made}
        weights = {"weight": panels.weight, "bias": panels.bias}
        self._add("product", at=at, to=to, **others, **sizes, **weights)

    def turn(self) -> None:
        """Queries and keys of the work, by their angles."""
        self._add("turn", at=self.work, width=2 * self.inner)

    def attend(self, kind: str, layer: int = 0) -> None:
        """The queries of the work, or to `keep` its keys and values for a layer of a decoder."""
        self._add(kind, at=self.work, to=self.found, layer=layer)

    def _add(self, kind: str, **values: Any) -> None:
        self._steps.append(_Step(kind=KINDS.index(kind), **values))
        self._kept += [value for value in values.values() if isinstance(value, Tensor)]

    @cached_property
    def _table(self) -> Any:
        return (_Step * len(self._steps))(*self._steps)

    def run(self, x: Float[Tensor, "rows d_model"], starts: Tensor, **others: Any) -> None:
        """All steps with all rows; those of a source begin where `starts` says."""
        arguments = self._arguments(x=x, starts=starts, **others)
        run("run_layers", arguments, len(starts) - 1)

    def search(self, step: dict[str, Any], sources: int, **others: Any) -> None:
        """All steps with the last tokens of all targets, until they end.

        `step` is what `run` takes beside the rows, and `others` are the fields of Search.
        """
        # Sources come by length: each thread takes some of all lengths.
        parts = min(torch.get_num_threads(), sources)
        stop = torch.zeros(1, dtype=torch.int64)
        layers = self._arguments(**step)
        arguments = Search(step=layers, sources=sources, parts=parts, stop=stop, **others)
        run("run_search", arguments, parts, stop)

    def _arguments(self, **others: Any) -> _Layers:
        return _Layers(
            steps=ctypes.addressof(self._table),
            number=len(self._table),
            d_model=self.d_model,
            columns=self.columns,
            heads=self.heads,
            d_head=self.d_head,
            **others,
        )
