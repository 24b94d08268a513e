"""The fast path of a Transformer's training on a CPU: tokens alone are computed, padding is not.

All tokens of a batch stand in one matrix of rows, from the embeddings to the features. What a row
becomes by itself, in projections, norms, feed-forwards and dropout, is then as much work as there
are tokens. Attention alone knows sentences, see `kernels.attention`; there is one product for all
that comes of the same rows, and the gradient is written out.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calque.kernels.attention import Attend
from calque.kernels.library import library
from calque.models.fast_training import ROWS, RoundedLinear, transposed_product
from calque.models.parts.fused_attention import has_one_width, is_scaled_dot_product
from calque.models.parts.norms import NoNorm, RMSNorm
from calque.models.parts.positioned_attention import RotaryAttention, turned, unturned
from calque.models.transformer import Attention, LayerNorm, MultiHeadAttention, Transformer


class PackedTransformer:
    """A Transformer whose layers are fast, see `use_fast_layers`, for training alone."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    @staticmethod
    def can_take(model: nn.Module) -> TypeGuard[Transformer]:
        """Whether there are kernels, layers are fast, attention is the paper's, and norms see one
        row at a time.

        Queries and keys may turn with their positions.
        """
        if not isinstance(model, Transformer) or library() is None:
            return False
        layers = [*model.encoder, *model.decoder]
        norms = {type(residual.norm) for layer in layers for residual in layer.residuals}
        heads = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
        return norms <= {LayerNorm, RMSNorm, NoNorm} and all(map(_can_take, heads))

    def features(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        tree: Int[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "tokens d_model"]:
        """What every token of the target but BOS is predicted from, sentence after sentence.

        The features that `Transformer.features` has where the next token is no padding.
        """
        model, pad_id, seen = self.model, self.model.config.pad_id, target[:, :-1]
        sources, targets = Rows(source != pad_id), Rows(target[:, 1:] != pad_id)
        positions = sources.of(model.positions.source(source, tree))
        x = model.dropout(model.embedding.source(sources.of(source)[None])[0] + positions)
        attend = partial(_SubLayer, sides=[sources], attend=self._attend(sources, sources))
        for layer in model.encoder:
            x = layer.residuals[0](x, attend(layer.self_attention))
            x = layer.residuals[1](x, layer.feed_forward)
        memory = model.encoder_norm(x)
        positions = targets.of(model.positions.target(seen, start=0))
        x = model.dropout(model.embedding.target(targets.of(seen)[None])[0] + positions)
        causal = self._attend(targets, targets, causal=True)
        attend = partial(_SubLayer, sides=[targets], attend=causal)
        across = self._attend(targets, sources)
        look_back = partial(_SubLayer, sides=[targets, sources], attend=across, memory=memory)
        for layer in model.decoder:
            x = layer.residuals[0](x, attend(layer.self_attention))
            x = layer.residuals[1](x, look_back(layer.cross_attention))
            x = layer.residuals[2](x, layer.feed_forward)
        return model.decoder_norm(x)[: targets.number]

    def _attend(self, queries: "Rows", keys: "Rows", *, causal: bool = False) -> Attend:
        return Attend(queries.starts, keys.starts, self.model.config.num_heads, causal)


def _can_take(heads: MultiHeadAttention) -> bool:
    attention: Any = unturned(heads.attention)
    fast, plain = type(heads.query) is RoundedLinear, type(attention) is Attention
    papers = has_one_width(heads) and is_scaled_dot_product(attention)
    return fast and plain and papers and not attention.dropout.p


class Rows:
    """Where the tokens of a batch of sentences stand among its rows, one sentence after the other.

    Their number is a multiple of ROWS. What the last ones hold, of no token, is never looked at,
    and their gradient is zero.
    """

    def __init__(self, present: Bool[Tensor, "batch length"]) -> None:
        self.batch, self.length = present.shape
        places = present.flatten().nonzero().squeeze(1)
        self.number = len(places)
        self.places = torch.cat([places, places.new_zeros(-self.number % ROWS)])
        self.starts = nn.functional.pad(present.sum(dim=1).cumsum(dim=0), (1, 0))

    def of(self, x: Tensor) -> Tensor:
        """The rows of x, which has something for each place of each sentence or of any."""
        return x.expand(self.batch, *x.shape[1:]).flatten(0, 1)[self.places]


@dataclass(frozen=True)
class _SubLayer:
    """The attention of all rows to those of their own sentence, or of its like in `memory`."""

    attention: MultiHeadAttention
    sides: list[Rows]
    attend: Attend
    memory: Float[Tensor, "rows d_model"] | None = None

    def __call__(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
        heads = self.attention
        layers = heads.query, heads.key, heads.value, heads.output
        parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
        attention: Any = heads.attention
        angles = []
        if isinstance(attention, RotaryAttention):
            angles = [attention.angles(s.length)[s.places % s.length] for s in self.sides]
        return _Attend.apply(self.sides, self.attend, angles, x, self.memory, *parameters)  # pyright: ignore[reportReturnType]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sides: list[Rows],
        attend: Attend,
        angles: list[Tensor],
        x: Tensor,
        memory: Tensor | None,
        *parameters: Any,
    ) -> Tensor:
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        inputs = [rows.to(low) for rows in (x, memory) if rows is not None]
        (*weights, output), (*biases, last_bias) = parameters[:4], parameters[4:]
        # Queries, keys and values of the same rows, or queries of these and the others of memory.
        parts = [slice(3)] if len(inputs) == 1 else [slice(1), slice(1, 3)]
        weights = [_stacked(weights[part], low) for part in parts]
        biases = [_stacked(biases[part], low) for part in parts]
        projected = [_linear(*one) for one in zip(inputs, weights, biases, strict=True)]
        vectors = _vectors(projected, x.size(1))
        _turn(vectors, angles, attend.num_heads)
        found = attend(vectors)
        output = output.to(low)
        ctx.sides, ctx.attend, ctx.angles, ctx.biased = sides, attend, angles, last_bias is not None
        ctx.save_for_backward(found, output, *vectors, *weights, *inputs)
        return _linear(found, output, _stacked([last_bias], low))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found, output, query, key, value, *saved = ctx.saved_tensors
        number, d_model = len(ctx.sides), found.size(1)
        weights, inputs = saved[:number], saved[number:]
        pairs = list(zip(inputs, weights, strict=True))
        projected = [rows.new_empty(len(rows), len(weight)) for rows, weight in pairs]
        grads = _vectors(projected, d_model)
        ctx.attend.gradient([query, key, value], grad @ output, grads)
        _turn(grads, [-angle for angle in ctx.angles], ctx.attend.num_heads)  # back again
        of_inputs: list[Tensor | None] = []
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        for side, of_projected, (rows, weight) in zip(ctx.sides, projected, pairs, strict=True):
            of_projected[side.number :] = 0
            of_inputs.append(of_projected @ weight)
            of_weights += transposed_product(of_projected, rows).split(d_model)
            of_biases += of_projected.sum(dim=0).split(d_model) if ctx.biased else ()
        of_inputs += [None] * (2 - number)
        of_weights.append(transposed_product(grad, found))
        of_biases += [grad.sum(dim=0)] if ctx.biased else []
        return None, None, None, *of_inputs, *of_weights, *(of_biases or [None] * 4)


def _vectors(projected: list[Tensor], d_model: int) -> list[Tensor]:
    """Queries, keys and values, side by side in their rows."""
    return [vectors for rows in projected for vectors in rows.split(d_model, dim=1)]


def _turn(vectors: list[Tensor], angles: list[Tensor], num_heads: int) -> None:
    """Queries and keys by the angles of the rows of their sides, if there are any, in place."""
    if angles:
        for rows, angle in zip(vectors[:2], (angles[0], angles[-1]), strict=True):
            heads = rows.unflatten(1, (num_heads, -1)).transpose(0, 1)
            heads.copy_(turned(heads, angle))


def _stacked(parameters: Any, dtype: torch.dtype) -> Any:
    """One upon the other, in a precision; None if they are."""
    return None if parameters[0] is None else torch.cat(parameters).to(dtype)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
