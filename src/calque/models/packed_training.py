"""The fast path of a Transformer's training on a CPU: tokens alone are computed, padding is not.

All tokens of a batch stand in one matrix of rows, from the embeddings to the features. What a row
becomes by itself, in projections, norms, feed-forwards and dropout, is then as much work as there
are tokens. Attention alone knows sentences: it gathers its queries, keys and values by sentence and
head, with one product for all that comes of the same rows and the gradient written out.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calque.models.fast_training import ROWS, RoundedLinear, transposed_product
from calque.models.packed_attention import LONG, attend_long, attend_short
from calque.models.parts.fused_attention import has_one_width, is_scaled_dot_product
from calque.models.parts.norms import NoNorm, RMSNorm
from calque.models.parts.positioned_attention import RotaryAttention, turned, unturned
from calque.models.precision import WIDTH
from calque.models.transformer import Attention, LayerNorm, MultiHeadAttention, Transformer


class PackedTransformer:
    """A Transformer whose layers are fast, see `use_fast_layers`, for training alone."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.num_heads = model, model.config.num_heads

    @staticmethod
    def can_take(model: nn.Module) -> TypeGuard[Transformer]:
        """Whether layers are fast, attention is the paper's, and norms see one row at a time.

        Queries and keys may turn with their positions.
        """
        if not isinstance(model, Transformer):
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
        layout = Layout(sources, sources, self.num_heads)
        attend = partial(_SubLayer, layout=layout)
        for layer in model.encoder:
            x = layer.residuals[0](x, attend(layer.self_attention))
            x = layer.residuals[1](x, layer.feed_forward)
        memory = model.encoder_norm(x)
        positions = targets.of(model.positions.target(seen, start=0))
        x = model.dropout(model.embedding.target(targets.of(seen)[None])[0] + positions)
        layout = Layout(targets, targets, self.num_heads, causal=True)
        attend = partial(_SubLayer, layout=layout)
        layout = Layout(targets, sources, self.num_heads)
        look_back = partial(_SubLayer, layout=layout, memory=memory)
        for layer in model.decoder:
            x = layer.residuals[0](x, attend(layer.self_attention))
            x = layer.residuals[1](x, look_back(layer.cross_attention))
            x = layer.residuals[2](x, layer.feed_forward)
        return model.decoder_norm(x)[: targets.number]


def _can_take(heads: MultiHeadAttention) -> bool:
    attention: Any = unturned(heads.attention)
    fast, plain = type(heads.query) is RoundedLinear, type(attention) is Attention
    papers = has_one_width(heads) and is_scaled_dot_product(attention)
    return fast and plain and papers and not attention.dropout.p


class Rows:
    """Where the tokens of a batch of sentences stand among its rows.

    There is at least one row more than there are tokens, up to a multiple of ROWS, in the place of
    padding. What such rows hold is never looked at, and their gradient is zero.
    """

    def __init__(self, present: Bool[Tensor, "batch length"]) -> None:
        self.batch, self.length = present.shape
        places = present.flatten().nonzero().squeeze(1)
        self.number = len(places)
        self.places = torch.cat([places, places.new_zeros(ROWS - self.number % ROWS)])
        self.wide = self.length + -self.length % WIDTH
        # The row of each place, also of places behind: [batch, wide].
        self.rows = places.new_full((self.batch, self.wide), self.number)
        self.rows[:, : self.length].masked_scatter_(present, torch.arange(self.number))

    def of(self, x: Tensor) -> Tensor:
        """The rows of x, which has something for each place of each sentence or of any."""
        return x.expand(self.batch, *x.shape[1:]).flatten(0, 1)[self.places]

    @property
    def mask(self) -> Float[Tensor, "batch 1 1 wide"]:
        """To add to scores, to let every query see the tokens of its sentence."""
        return _to_add(self.rows < self.number)[:, None, None]

    @property
    def causal_mask(self) -> Float[Tensor, "1 1 length wide"]:
        """To add to scores, to let a token see those up to it: padding comes after all of them."""
        return _to_add(torch.ones(self.length, self.wide, dtype=torch.bool).tril())[None, None]


def _to_add(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)


class Layout:
    """Which part of which row is each head's, and back: indices of vectors of d_head numbers.

    Rows are projected to queries, keys and values, or to queries those of one side and to keys and
    values those of the other.
    """

    def __init__(self, queries: Rows, keys: Rows, num_heads: int, *, causal: bool = False) -> None:
        self.heads = torch.arange(num_heads)
        long = keys.wide >= LONG
        self.attend: Any = attend_long if long else attend_short
        self.mask = keys.mask if not causal else None if long else keys.causal_mask
        self.sides = [queries] if queries is keys else [queries, keys]
        self.lengths = queries.length, keys.wide
        self.parts = [3] if queries is keys else [1, 2]
        # From projections to [batch, heads, length], and for the gradient of what is found there.
        asking, last = queries.rows[:, : queries.length], self.parts[-1]
        self.query = self._of_heads(asking, 0, self.parts[0])
        self.key_value = torch.cat([self._of_heads(keys.rows, last - n, last) for n in (2, 1)])
        self.found = self._of_heads(asking, 0, 1)
        # And back to rows: what is found, and its gradients.
        query = self._of_rows(queries, queries.length)
        key = self._of_rows(keys, keys.wide) + len(self.query)
        value = key + len(self.key_value) // 2
        self.joined = query.flatten()
        grads = [[query, key, value]] if queries is keys else [[query], [key, value]]
        # In those of queries, keys and values, one behind the other.
        self.grads = [torch.stack(of_side, dim=1).flatten() for of_side in grads]

    def _of_heads(self, rows: Tensor, part: int, parts: int) -> Int[Tensor, " all"]:
        """[batch, heads, length] in [rows, parts, heads]."""
        index = (rows[:, None] * parts + part) * len(self.heads) + self.heads[:, None]
        return index.flatten()

    def _of_rows(self, side: Rows, length: int) -> Int[Tensor, "rows heads"]:
        """[rows, heads] in [batch, heads, length]."""
        sentence, place = side.places // side.length, side.places % side.length
        return (sentence[:, None] * len(self.heads) + self.heads) * length + place[:, None]


@dataclass(frozen=True)
class _SubLayer:
    """The attention of all rows to those of their own sentence, or of its like in `memory`."""

    attention: MultiHeadAttention
    layout: Layout
    memory: Float[Tensor, "rows d_model"] | None = None

    def __call__(self, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
        heads = self.attention
        layers = heads.query, heads.key, heads.value, heads.output
        parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
        attention: Any = heads.attention
        turns = isinstance(attention, RotaryAttention)
        angle = attention.angles(self.layout.lengths[1]) if turns else None
        return _Attend.apply(self.layout, angle, x, self.memory, *parameters)  # pyright: ignore[reportReturnType]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layout: Layout,
        angle: Tensor | None,
        x: Tensor,
        memory: Tensor | None,
        *parameters: Any,
    ) -> Tensor:
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        inputs = [rows.to(low) for rows in (x, memory) if rows is not None]
        (*weights, output), (*biases, last_bias) = parameters[:4], parameters[4:]
        first = layout.parts[0]  # of queries, keys and values: those of the first input
        sides = [slice(first), slice(first, None)][: len(inputs)]
        weights = [_stacked(weights[side], low) for side in sides]
        biases = [_stacked(biases[side], low) for side in sides]
        projected = [_linear(*one) for one in zip(inputs, weights, biases, strict=True)]
        d_head, (length, wide) = x.size(1) // len(layout.heads), layout.lengths
        query = _vectors(projected[0], d_head, layout.query).view(-1, length, d_head)
        both = _vectors(projected[-1], d_head, layout.key_value)
        key, value = both.view(2, -1, wide, d_head)
        if angle is not None:
            query, key = turned(query, angle[:length]), turned(key, angle)
        found, ctx.gradients = layout.attend([query, key, value], layout.mask, len(layout.heads))
        joined = _vectors(found, d_head, layout.joined).view(x.shape)
        output = output.to(low)
        ctx.layout, ctx.angle, ctx.biased = layout, angle, last_bias is not None
        ctx.shapes = query.shape, key.shape, value.shape
        ctx.save_for_backward(joined, output, *weights, *inputs)
        return _linear(joined, output, _stacked([last_bias], low))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        joined, output, *saved = ctx.saved_tensors
        layout: Layout = ctx.layout
        d_model, d_head = joined.size(1), ctx.shapes[0][2]
        grads = joined.new_empty(sum(shape.numel() for shape in ctx.shapes))
        parts = grads.split([shape.numel() for shape in ctx.shapes])
        parts = [part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        ctx.gradients(_vectors(grad @ output, d_head, layout.found).view(ctx.shapes[0]), parts)
        del ctx.gradients  # and what it has kept
        if ctx.angle is not None:  # back by the same angles
            for part in parts[:2]:
                part.copy_(turned(part, -ctx.angle[: part.size(1)]))
        of_inputs: list[Tensor | None] = []
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        number = len(layout.sides)
        sides = zip(layout.sides, layout.grads, saved[:number], saved[number:], strict=True)
        for side, index, weight, rows in sides:
            of_projected = _vectors(grads, d_head, index).view(len(rows), -1)
            of_projected[side.number :] = 0
            of_inputs.append(of_projected @ weight)
            of_weights += transposed_product(of_projected, rows).split(d_model)
            of_biases += of_projected.sum(dim=0).split(d_model) if ctx.biased else ()
        of_inputs += [None] * (2 - number)
        of_weights.append(transposed_product(grad, joined))
        of_biases += [grad.sum(dim=0)] if ctx.biased else []
        return None, None, *of_inputs, *of_weights, *(of_biases or [None] * 4)


def _vectors(x: Tensor, size: int, index: Tensor) -> Float[Tensor, "chosen size"]:
    return x.view(-1, size).index_select(0, index)


def _stacked(parameters: Any, dtype: torch.dtype) -> Any:
    """One upon the other, in a precision; None if they are."""
    first, *more = parameters
    if first is None or not more:
        return first if first is None else first.to(dtype)
    stacked = first.new_empty(len(parameters), *first.shape, dtype=dtype)
    for place, parameter in zip(stacked, parameters, strict=True):
        place.copy_(parameter)
    return stacked.flatten(0, 1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
