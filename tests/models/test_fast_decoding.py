"""The fast paths of decoding give the plain one's logits, whatever a search does with the rows."""

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from calque.decoding import SEARCHES
from calque.decoding.beam import beam_search
from calque.decoding.config import DecodingConfig
from calque.kernels.library import library
from calque.models import fast_decoding, kernel_decoding
from calque.models.build import ATTENTIONS, SLOTS, ModelConfig, build
from calque.models.fast_decoding import FastTransformer
from calque.models.kernel_decoding import KernelTransformer
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
UNKNOWN = {
    **SLOW,
    "positions": {"relative", "alibi", "structural_relative"},
    "pattern": set(SLOTS["pattern"]) - {"full"},
    "feed_forward": {"none"},
    "norm": {"batch", "padded_batch"},
}
"""Parts that there are no kernels for."""
KINDS = [(FastTransformer, SLOW), *([(KernelTransformer, UNKNOWN)] if library() else [])]
FAST = [
    pytest.param(kind, parts, id=f"{kind.__name__}-{'-'.join(map(str, parts.values())) or 'paper'}")
    for kind, others in KINDS
    for parts in PARTS
    if not any(parts.get(slot) in names for slot, names in others.items())
]
every_kind = pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])


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
def walk(model: Transformer, kind: Any, seed: int, steps: int = 40) -> None:
    """Go along a random search in both ways at once: at each step both give the same logits."""
    torch.manual_seed(seed)
    fast = kind(model)
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


@pytest.mark.parametrize(("kind", "parts"), FAST)
def test_logits_are_those_of_the_plain_path(kind, parts):
    model = make(parts)
    assert kind.can_take(model)
    for seed in range(2):
        walk(model, kind, seed)


@every_kind
@pytest.mark.parametrize("growth", [1, 3])
def test_however_often_it_makes_room(kind, growth, monkeypatch):
    for module in (fast_decoding, kernel_decoding):
        monkeypatch.setattr(module, "GROWTH", growth)
    model = make({})
    for seed in range(3):
        walk(model, kind, seed)


@every_kind
@torch.inference_mode()
def test_what_has_no_descendants_is_forgotten(kind):
    model = make({})
    fast = kind(model)
    memory = fast.encode(some_sources(model, 2))
    past, width = fast.start(memory), 4
    fast.decode(torch.tensor([[5], [6]]), memory, past)
    past.select(torch.tensor([0] * width + [1] * width))
    for _ in range(100):
        fast.decode(torch.randint(WORDS, (2 * width, 1)), memory, past)
        past.select(torch.tensor([0] * width + [width] * width))  # the first goes on alone
    # 400 were tried of each source; these have 101 ancestors, and there is room for some more.
    assert past.descent.size(2) <= 101 + width * (fast_decoding.GROWTH + 1)


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


@pytest.mark.parametrize(("kind", "others"), KINDS)
def test_others_are_not_its_own(kind, others):
    for slot, names in SLOTS.items():
        for name in names:
            can = name not in others.get(slot, ())
            assert kind.can_take(make({slot: name})) is can

    class Sharper(ScaledDotProduct):
        """Another score function."""

        def forward(self, query: Tensor, key: Tensor) -> Tensor:
            return 2 * super().forward(query, key)

    class Hard(Attention):
        """Another way to attend."""

    for own in (lambda config: Attention(config, Sharper), Hard):
        for place in ("decoder_attention", "cross_attention"):
            parts = Parts(**{place: own})
            assert not kind.can_take(Transformer(make({}).config, parts))
    assert kind.can_take(Transformer(make({}).config, Parts()))


needs_kernels = pytest.mark.skipif(library() is None, reason="no C compiler")


@needs_kernels
@pytest.mark.parametrize("threads", [2, 5])
@torch.inference_mode()
def test_threads_change_nothing(threads, monkeypatch):
    model = make({"positions": "rotary"})
    walk(model, KernelTransformer, 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    walk(model, KernelTransformer, 0)


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("sizes", [(48, 40, 3), (120, 300, 2), (34, 7, 1)], ids=str)
def test_any_sizes_and_many_rows(sizes, monkeypatch):
    names = dict(zip(("d_model", "d_ff", "num_heads"), sizes, strict=True))
    monkeypatch.setitem(globals(), "SIZES", SIZES | names)
    model = make({"heads": "biased", "feed_forward": "gelu", "positions": "rotary"})
    for sources, width in ((1, 300), (150, 1), (90, 7)):
        source = some_sources(model, sources)
        logits = []
        for one in (model, KernelTransformer(model)):
            torch.manual_seed(sources)
            memory = one.encode(source)
            past: Any = one.start(memory)
            one.decode(torch.randint(WORDS, (sources, 1)), memory, past)
            past.select(torch.arange(sources).repeat_interleave(width))
            logits.append(one.decode(torch.randint(WORDS, (sources * width, 1)), memory, past))
        assert_same(logits[1], logits[0])


@needs_kernels
@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_by_kernels_a_source_is_the_same_in_any_batch(search):
    model = make({"positions": "rotary"})
    source, config = some_sources(model, 40), DecodingConfig(beam_size=3, max_length=9)
    fast = KernelTransformer(model)
    together = search(fast, source, config)
    for row, found in zip(source, together, strict=True):
        (alone,) = search(fast, row[row != model.config.pad_id][None], config)
        log_probs = [one.token_log_probs for one in alone]
        assert [one.token_log_probs for one in found] == log_probs


@needs_kernels
def test_another_process_has_it_too():
    model = make({})
    source = some_sources(model)
    again = pickle.loads(pickle.dumps(KernelTransformer(model)))
    config = DecodingConfig(beam_size=3, max_length=9)
    assert beam_search(again, source, config) == beam_search(
        KernelTransformer(model), source, config
    )


def test_what_is_not_on_a_cpu_in_float32_is_for_others():
    assert not KernelTransformer.can_take(make({}).double())
    assert not KernelTransformer.can_take(make({}).to("meta"))


@every_kind
@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_what_is_no_number_is_not_hidden(kind, search):
    model = make({})
    with torch.no_grad():
        model.decoder[0].feed_forward[0].weight[3, 5] = torch.nan
    source, config = some_sources(model), DecodingConfig(beam_size=3, max_length=6)
    for plain, found in zip(
        search(model, source, config), search(kind(model), source, config), strict=True
    ):
        assert len(found) == len(plain)
        assert all(math.isnan(one.score) for one in found)
