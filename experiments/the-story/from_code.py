"""Figures of stations that the code itself computes, without any training."""

import numpy as np
import torch
from matplotlib.axes import Axes
from panels import COLOURS, RULE, bars, heat, label, lines, words
from torch import Tensor

from calque.models.build import ModelConfig, build
from calque.models.convolutional import interaction_distance
from calque.models.parts.heads import SharedQueryKey
from calque.models.parts.positions import Count, NormalisedCount
from calque.models.transformer import (
    Attention,
    SinusoidalPositions,
    Transformer,
    TransformerConfig,
)


def windows(ax: Axes) -> None:
    """What a position on top of a stack of windows sees."""
    layers, reach, length = 3, interaction_distance(1, 3), 13
    middle = length // 2
    for layer in range(layers + 1):
        seen = reach * (layers - layer)
        for place in range(length):
            inside = abs(place - middle) <= seen
            colour = COLOURS[2] if inside else RULE
            ax.plot(place, layer, "o", color=colour, markersize=11, zorder=2)
            for below in range(place - reach, place + reach + 1) if layer and inside else ():
                ax.plot([place, below], [layer, layer - 1], color=COLOURS[2], linewidth=1, zorder=1)
    label(ax, f"{interaction_distance(layers, 3)} words to each side are seen from the top", "")
    ax.set_yticks(range(layers + 1), ["words", *(f"layer {n}" for n in range(1, layers + 1))])
    ax.set_xticks([])
    ax.margins(y=0.12)
    ax.spines[:].set_visible(False)


def weights(*panels: Axes) -> None:
    """The worked example of the page."""
    config = TransformerConfig(d_model=2, num_heads=1, source_vocab_size=9, target_vocab_size=9)
    query, key = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    value = torch.tensor([[10.0], [20], [30]])
    seen = torch.ones(1, 3, dtype=torch.bool)
    identity, attention = torch.eye(3), Attention(config)
    shares = attention(query, key, identity, seen)  # of values that are one-hot: the weights
    for ax, title, numbers in zip(
        panels,
        ("query · key", "weights: softmax of it / √2", "weight × value"),
        (query @ key.T, shares, shares * value.T),
        strict=True,
    ):
        heat(ax, numbers.numpy(), title, numbers=True)
        words(ax, ["key 1", "key 2", "key 3"], [""])


def symmetry(left: Axes, right: Axes) -> None:
    """One matrix for queries and keys, before training: scores, and what softmax makes of them."""
    config = TransformerConfig(d_model=16, num_heads=1, source_vocab_size=9, target_vocab_size=9)
    heads = SharedQueryKey(config, Attention)
    with torch.no_grad():
        x = torch.randn(6, config.d_model)
        key, _ = heads.keys_values(x[None])
        score = heads.query(x) @ key[0, 0].T / config.d_model**0.5
    heat(left, score.numpy(), "scores: the same both ways", numbers=True, signed=True)
    heat(right, score.softmax(dim=1).numpy(), "weights: not the same", numbers=True)
    for ax in (left, right):
        words(ax, [f"word {n}" for n in range(1, 7)], [f"word {n}" for n in range(1, 7)])


@torch.no_grad()
def encoded(model: Transformer, source: Tensor) -> Tensor:
    """What comes out of the last layer of the encoder, for one sentence: [length, d_model]."""
    found = []
    hook = model.encoder[-1].register_forward_hook(lambda *given: found.append(given[-1][0]))
    model.encode(source)
    hook.remove()
    return found[0]


def order(ax: Axes) -> None:
    """How much the encoder's output of a word changes when the words around it change places."""
    source = torch.arange(4, 16)[None]
    places = torch.randperm(source.size(1))
    changes = {}
    for name in ("none", "sinusoidal", "learned", "relative", "rotary", "alibi"):
        sizes = ModelConfig(
            num_encoder_layers=2, num_decoder_layers=1, d_model=64, num_heads=4, positions=name
        )
        model = build(sizes, 20, 20).eval()
        plain, moved = encoded(model, source), encoded(model, source[:, places])
        changes[name] = (100 * (moved - plain[places]).norm() / plain.norm()).item()
    bars(
        ax,
        changes,
        "change of the encoder's output, %, before training",
        "words in another order, by positions",
    )


def counts(*panels: Axes) -> None:
    """The codes of two sentences."""
    config = TransformerConfig(d_model=16, num_heads=1, source_vocab_size=9, target_vocab_size=9)
    codes = {
        "count": Count,
        "normalised count": NormalisedCount,
        "sinusoids, one of 16": SinusoidalPositions,
    }
    for ax, (name, kind) in zip(panels, codes.items(), strict=True):
        feature = 4 if kind is SinusoidalPositions else 0
        series = {}
        for length in (10, 30):
            code = kind(config).source(torch.full((1, length), 5))[0, :, feature]
            series[f"{length} words"] = dict(enumerate(code.tolist()))
        lines(ax, series, "position", "what is added to the word", name)
        ax.set_ylim(auto=True)
        ax.lines[1].set_linestyle("--")


def masks(left: Axes, right: Axes) -> None:
    """Who sees whom: what is blue."""
    there = np.array([1, 1, 1, 1, 0, 0])
    heat(left, np.tile(there, (6, 1)).astype(float), "source of 4 words, padded to 6")
    heat(right, np.tril(np.ones((6, 6))), "target: itself and what is before")
    for ax in (left, right):
        words(ax, [f"key {n}" for n in range(1, 7)], [f"query {n}" for n in range(1, 7)])
        for border in np.arange(0.5, 5):
            ax.axhline(border, color=RULE)
            ax.axvline(border, color=RULE)
