"""The fast path of decoding gives the plain one's logits, whatever a search does with the rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from calque.models import fast_decoding
from calque.models.build import ATTENTIONS, SLOTS, ModelConfig, build
from calque.models.fast_decoding import FastTransformer
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.transformer import Attention, Parts, ScaledDotProduct, Transformer

WORDS = 30
SIZES: dict[str, Any] = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "d_model": 16,
    "d_ff": 24,
    "num_heads": 2,
}
PAPER = vars(ModelConfig()) | {"vocabulary": "joint", "attention": "plain"}
PARTS = [
    {},
    *({slot: name} for slot, names in SLOTS.items() for name in names if name != PAPER[slot]),
    *({"vocabulary": name} for name in EMBEDDINGS if name != "joint"),
    *({"attention": name} for name in ATTENTIONS if name != "plain"),
    {
        "positions": "half_split",
        "heads": "biased",
        "feed_forward": "swish",
        "output": "biased",
        "attention": "fused",
        "vocabulary": "separate",
        "pad_id": WORDS - 1,
        "bos_id": WORDS - 1,
        "eos_id": 0,
    },
]
SLOW = {
    "positions": {"relative", "alibi"},
    "score": set(SLOTS["score"]) - {"scaled_dot"},
    "heads": {"shared_query_key"},
}
"""Parts of decoders with another attention than the paper's."""
FAST = [
    parts for parts in PARTS if not any(parts.get(slot) in names for slot, names in SLOW.items())
]


def told(parts: dict[str, Any]) -> str:
    return "-".join(map(str, parts.values())) or "paper"


def make(parts: dict[str, Any]) -> Transformer:
    """A model whose parameters are all as if trained, in evaluation mode."""
    chosen = {slot: name for slot, name in parts.items() if slot in SLOTS}
    others = {name: value for name, value in parts.items() if name not in SLOTS}
    torch.manual_seed(4)
    more = 7 * (parts.get("vocabulary") == "separate")
    model = build(ModelConfig(dropout=0.4, **SIZES, **chosen), WORDS, WORDS + more, **others)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def some_sources(model: Transformer, number: int = 6) -> Tensor:
    """Sources of several lengths, padded; one of them fills its row."""
    ids = torch.randint(4, WORDS - 1, (number, 9))
    for row in range(1, number):
        ids[row, torch.randint(1, 9, ()) :] = model.config.pad_id
    return ids


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, which grows with the numbers: not every norm keeps them small."""
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * largest)


@torch.inference_mode()
def walk(model: Transformer, seed: int, steps: int = 40) -> None:
    """Go along a random search in both ways at once: at each step both give the same logits."""
    torch.manual_seed(seed)
    fast = FastTransformer(model)
    both = model, fast
    source = some_sources(model)
    memories: list[Any] = [one.encode(source) for one in both]
    pasts: list[Any] = [one.start(memory) for one, memory in zip(both, memories, strict=True)]
    sources, width = len(source), 1
    for _ in range(steps):
        target = torch.randint(WORDS, (sources * width, 1))
        plain, quick = (
            one.decode(target, memory, past)
            for one, memory, past in zip(both, memories, pasts, strict=True)
        )
        assert_same(quick, plain)
        kept = torch.arange(sources)
        if sources > 1 and torch.rand(()) < 0.15:  # some sources are done
            kept = torch.randperm(sources)[: int(torch.randint(1, sources, ()))].sort().values
        # Beams widen, become narrower, and of what is there some goes on often, some not at all.
        wider = int(torch.randint(1, 5, ())) if torch.rand(()) < 0.3 else width
        parents = torch.randint(width, (len(kept), wider))
        rows = (kept[:, None] * width + parents).flatten()
        for past in pasts:
            past.select(rows)
        if len(kept) < sources:
            memories = [memory.select(kept) for memory in memories]
        sources, width = len(kept), wider


@pytest.mark.parametrize("parts", FAST, ids=told)
def test_logits_are_those_of_the_plain_path(parts):
    model = make(parts)
    assert FastTransformer.can_take(model)
    for seed in range(2):
        walk(model, seed)


@pytest.mark.parametrize("growth", [1, 3])
def test_however_often_it_makes_room(growth, monkeypatch):
    monkeypatch.setattr(fast_decoding, "GROWTH", growth)
    model = make({})
    for seed in range(3):
        walk(model, seed)


@torch.inference_mode()
def test_what_has_no_descendants_is_forgotten():
    model = make({})
    fast = FastTransformer(model)
    memory = fast.encode(some_sources(model, 2))
    past, width = fast.start(memory), 4
    fast.decode(torch.tensor([[5], [6]]), memory, past)
    past.select(torch.tensor([0] * width + [1] * width))
    for _ in range(100):
        fast.decode(torch.randint(WORDS, (2 * width, 1)), memory, past)
        past.select(torch.tensor([0] * width + [width] * width))  # the first goes on alone
    # 400 were tried of each source; these have 101 ancestors, and there is room for some more.
    assert past.keys_values.size(2) <= 101 + width * (fast_decoding.GROWTH + 1)


@torch.inference_mode()
@pytest.mark.parametrize("bias", ["tied", "biased"])
def test_many_rows_are_padded_and_cut_into_blocks_unseen(bias, monkeypatch):
    model = make({"output": bias})
    monkeypatch.setattr(fast_decoding, "BLOCK", 8)
    monkeypatch.setattr(fast_decoding, "PADDED", 4)
    for rows in (1, 2, 3, 4, 7, 8, 9, 21):
        source = torch.randint(4, WORDS, (rows, 3))
        target = torch.randint(4, WORDS, (rows, 1))
        logits = []
        for one in (model, FastTransformer(model)):
            memory = one.encode(source)
            logits.append(one.decode(target, memory, one.start(memory)))
        assert_same(logits[1], logits[0])


def test_other_attention_is_not_its_own():
    for slot, names in SLOTS.items():
        for name in names:
            can = name not in SLOW.get(slot, ())
            assert FastTransformer.can_take(make({slot: name})) is can

    class Sharper(ScaledDotProduct):
        """Another score function."""

        def forward(self, query: Tensor, key: Tensor) -> Tensor:
            return 2 * super().forward(query, key)

    class Hard(Attention):
        """Another way to attend."""

    for own in (lambda config: Attention(config, Sharper), Hard):
        for place in ("decoder_attention", "cross_attention"):
            parts = Parts(**{place: own})
            assert not FastTransformer.can_take(Transformer(make({}).config, parts))
    assert FastTransformer.can_take(Transformer(make({}).config, Parts()))
