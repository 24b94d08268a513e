"""Every attention matrix of a model, by forward hooks on the plain path."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.parts.fused_attention import FusedAttention
from calque.models.parts.sparse_attention import SparseAttention
from calque.models.transformer import Attention, MultiHeadAttention

Model = TypeVar("Model", bound=nn.Module)
Calls = dict[str, list[Tensor]]
"""By the name of the attention, such as `decoder.0.cross_attention`: a tensor of each call."""

KINDS = ("encoder", "decoder", "cross")
"""Self-attention of the encoder and of the decoder, and attention of the second to the first."""


def captured(model: nn.Module) -> AbstractContextManager[Calls]:
    """While the block runs, the weights of every attention, call by call.

    An attention is what has a child named `softmax`. Raises CalqueError for a model on the fused
    path, which never has weights.
    """
    return _recorded(model, lambda _, weights: weights)


def scored(model: nn.Module) -> AbstractContextManager[Calls]:
    """As `captured`, of the scores that the softmax is taken of."""
    return _recorded(model, lambda scores, _: scores)


def plain(model: Model) -> Model:
    """A copy on the plain path, in evaluation mode, that shares the weights.

    Hooks on it are nobody else's: the model may translate in another thread meanwhile.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copy = deepcopy(model, shared)
    for module in copy.modules():
        if isinstance(module, SparseAttention):
            module.by_blocks = module.dense
        for name, child in module.named_children():
            if isinstance(child, FusedAttention):
                setattr(module, name, Attention(copy.config))  # pyright: ignore[reportArgumentType]
    return copy.eval()


def kind_of(name: str) -> str:
    """Which of KINDS an attention is, by its name."""
    if name.startswith("encoder"):
        return "encoder"
    return "decoder" if "self_attention" in name else "cross"


def by_heads(calls: list[Tensor], sentence: int = 0) -> Float[Tensor, "heads query key"]:
    """The weights of one attention in one pass, for one sentence of its batch.

    A family that goes token by token calls it for each query; one without heads has a single one.
    """
    rows = [call[sentence] for call in calls]
    rows = [row[None, None] if row.dim() == 1 else row for row in rows]
    return torch.cat([row[None] if row.dim() == 2 else row for row in rows], dim=1)


@contextmanager
def _recorded(model: nn.Module, choose: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Calls]:
    calls: Calls = {}
    handles = []
    try:
        for name, softmax in _softmaxes(model).items():
            handles.append(softmax.register_forward_hook(_keep(calls, name, choose)))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _softmaxes(model: nn.Module) -> dict[str, nn.Module]:
    """The softmax of each attention, by the name of the attention."""
    modules = dict(model.named_modules())
    outer = [name for name, module in modules.items() if isinstance(module, MultiHeadAttention)]
    found = {}
    for path, module in modules.items():
        name, _, last = path.rpartition(".")
        if last == "softmax":
            within = (o for o in outer if not o or f"{name}.".startswith(f"{o}."))
            found[next(within, name)] = module
    if not found.keys() >= set(outer):
        raise CalqueError("attention is captured on the plain path; build the model so")
    return found


def _keep(
    calls: Calls, name: str, choose: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.setdefault(name, []).append(choose(inputs[0], output).detach())

    return hook
