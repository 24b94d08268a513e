"""What holds of the recurrent and the convolutional family, for every cell, score and window."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from calque.checkpoint import load_weights, save_tensors
from calque.decoding.beam import beam_search
from calque.decoding.config import DecodingConfig
from calque.decoding.greedy import greedy_search
from calque.losses.projected import projected_loss
from calque.models.convolutional import Convolutional, ConvolutionalConfig
from calque.models.interface import Memory, Past, Seq2Seq
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.recurrent import ATTENTIONS, CELLS, Recurrent, RecurrentConfig

FIRST_WORD, LAST_WORD, SOURCE_WORDS, MORE_TARGET_WORDS = 4, 21, 23, 6
PAD, BOS, EOS = 0, 2, 3
SIZES: dict[str, Any] = {"num_encoder_layers": 2, "num_decoder_layers": 3, "d_model": 16}

Family = Recurrent | Convolutional
Variant = dict[str, Any]
VARIANTS: list[Variant] = [
    *({"cell": cell, "attention": attention} for cell in CELLS for attention in ATTENTIONS),
    *({"window": window} for window in (1, 3, 5)),
    {"cell": "gru", "num_encoder_layers": 1, "num_decoder_layers": 1, "vocabulary": "separate"},
    {"window": 3, "num_encoder_layers": 1, "num_decoder_layers": 1, "vocabulary": "separate"},
]


def told(variant: Variant) -> str:
    return "-".join(f"window{x}" if isinstance(x, int) else x for x in variant.values())


def make(variant: Variant, seed: int = 1, dropout: float = 0.3) -> Family:
    """A model whose parameters are all as if trained: no bias is 0."""
    sizes = {**SIZES, "dropout": dropout, **variant}
    vocabulary = sizes.pop("vocabulary", "joint")
    more = MORE_TARGET_WORDS * (vocabulary == "separate")
    vocabularies = {"source_vocab_size": SOURCE_WORDS, "target_vocab_size": SOURCE_WORDS + more}
    torch.manual_seed(seed)
    embedding = EMBEDDINGS[vocabulary]
    model = (
        Convolutional(ConvolutionalConfig(**sizes, **vocabularies), embedding)
        if "window" in variant
        else Recurrent(RecurrentConfig(**sizes, **vocabularies), embedding)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=VARIANTS, ids=told)
def variant(request: pytest.FixtureRequest) -> Variant:
    return request.param


@pytest.fixture
def model(variant: Variant) -> Family:
    return make(variant)


@pytest.fixture
def source() -> Tensor:
    """Three sources of 7, 4 and 1 tokens, padded."""
    ids = words((3, 7))
    ids[1, 4:], ids[2, 1:] = PAD, PAD
    return ids


@pytest.fixture
def target() -> Tensor:
    return torch.cat([torch.full((3, 1), BOS), words((3, 5), seed=1)], dim=1)


def words(shape: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST_WORD, LAST_WORD + 1, shape, generator=generator)


def other(ids: Tensor) -> Tensor:
    """At each place some other word."""
    return FIRST_WORD + (ids - FIRST_WORD + 1) % (LAST_WORD + 1 - FIRST_WORD)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    missing = [name for name, gradient in found.items() if gradient is None]
    assert not missing
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def randomly_weighted(logits: Tensor) -> Tensor:
    """A number that depends on every logit, and on each in another way."""
    generator = torch.Generator().manual_seed(2)
    return (logits * torch.randn(logits.shape, generator=generator)).sum()


# What is seen and what is not


def test_the_future_is_unseen(model: Family, source: Tensor, target: Tensor) -> None:
    logits = model(source, target)
    for i in range(1, target.size(1)):
        changed = target.clone()
        changed[:, i:] = other(target[:, i:])
        after = model(source, changed)
        assert_close(after[:, :i], logits[:, :i], rtol=0, atol=1e-6)
        assert not torch.isclose(after[:, i:], logits[:, i:], atol=1e-3).all(dim=-1).any()


def test_all_of_the_source_is_seen_but_padding(
    model: Family, source: Tensor, target: Tensor
) -> None:
    logits = model(source, target)
    for j in range(source.size(1)):
        changed = torch.where(source == PAD, source, other(source))
        changed = torch.where(torch.arange(source.size(1)) == j, changed, source)
        difference = (model(changed, target) - logits).abs().amax(dim=(1, 2))
        there = source[:, j] != PAD
        assert (difference[there] > 1e-4).all()
        assert (difference[~there] < 1e-6).all()


def test_source_padding_changes_nothing(model: Family, source: Tensor, target: Tensor) -> None:
    logits = model(source, target)
    wider = nn.functional.pad(source, (0, 5), value=PAD)
    assert_close(model(wider, target), logits, rtol=0, atol=1e-5)
    for row, length in enumerate((source != PAD).sum(dim=1)):
        alone = model(source[row : row + 1, :length], target[row : row + 1])
        assert_close(alone[0], logits[row], rtol=0, atol=1e-5)


def test_the_order_of_words_matters(model: Family, target: Tensor) -> None:
    source = words((3, 7))
    backwards = model(source.flip(1), target)
    assert not torch.isclose(backwards, model(source, target), atol=1e-3).all(dim=-1).any()


# Decoding


def test_a_family_is_what_search_asks_for(model: Family, source: Tensor) -> None:
    memory = model.encode(source)
    assert isinstance(model, Seq2Seq)
    assert isinstance(memory, Memory)
    assert isinstance(model.start(memory), Past)


@pytest.mark.parametrize("steps", [[1] * 6, [6], [2, 1, 3]], ids=str)
def test_step_by_step_equals_all_at_once(
    model: Family, source: Tensor, target: Tensor, steps: list[int]
) -> None:
    memory = model.encode(source)
    past = model.start(memory)
    logits = [model.decode(new, memory, past) for new in target.split(steps, dim=1)]
    assert_close(torch.cat(logits, dim=1), model(source, target), rtol=0, atol=1e-5)


def test_a_past_belongs_to_one_decoding(model: Family, source: Tensor, target: Tensor) -> None:
    memory = model.encode(source)
    first = model.decode(target, memory, model.start(memory))
    assert torch.equal(model.decode(target, memory, model.start(memory)), first)


def test_hypotheses_share_memory_and_rows_move(model: Family, source: Tensor) -> None:
    k = 4
    tokens = words((3 * k, 4))  # of each row: what it goes on with
    memory = model.encode(source)
    past = model.start(memory)
    model.decode(torch.full((3, 1), BOS), memory, past)
    past.select(torch.arange(3).repeat_interleave(k))  # rows i*k to i*k+k-1 belong to source i
    model.decode(tokens[:, :1], memory, past)
    # Source 1 is done; of the others, a hypothesis may go on twice and another not at all.
    memory = memory.select(torch.tensor([2, 0]))
    rows = torch.tensor([11, 8, 8, 10, 2, 0, 0, 1])
    past.select(rows)
    model.decode(tokens[:8, 1:2], memory, past)
    logits = model.decode(tokens[:8, 2:4], memory, past)

    begin = torch.full((8, 1), BOS)
    whole = torch.cat([begin, tokens[rows, :1], tokens[:8, 1:4]], dim=1)
    of_row = source[[2] * k + [0] * k]
    assert_close(logits, model(of_row, whole)[:, -2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_what_a_search_finds_has_the_models_own_probability(
    model: Family, source: Tensor, search: Any
) -> None:
    found = search(model, source, DecodingConfig(beam_size=3, max_length=6))
    assert [len(of_source) for of_source in found] == [3 if search is beam_search else 1] * 3
    for row, of_source in zip(source, found, strict=True):
        for hypothesis in of_source:
            target = torch.tensor([[BOS, *hypothesis.tokens]])
            log_probs = model(row[None], target)[0].log_softmax(dim=-1)
            steps = [
                log_probs[i, token].item() for i, token in enumerate((*hypothesis.tokens, EOS))
            ]
            assert hypothesis.token_log_probs == pytest.approx(steps, abs=1e-4)


# Training


def test_every_parameter_gets_a_gradient(model: Family, source: Tensor, target: Tensor) -> None:
    randomly_weighted(model(source, target)).backward()
    assert [n for n, gradient in gradients(model).items() if gradient.abs().max() < 1e-3] == []


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_rows_that_are_all_padding_never_make_nan(
    model: Family, source: Tensor, target: Tensor, bf16: bool
) -> None:
    source = torch.cat([source, torch.full((1, 7), PAD)])
    target = torch.cat([target, torch.full((1, 6), PAD)])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        memory = model.encode(source)
        features = model.features(target, memory, model.start(memory)).flatten(0, 1)
        loss = projected_loss(features, *model.output_weights, words((4, 6)).flatten(), 0.1)
    loss.total.backward()
    assert features.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_low_precision_changes_little(model: Family, source: Tensor, target: Tensor) -> None:
    logits = model(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(source, target)
    assert (low - logits).abs().max() < 0.05 * logits.abs().max()


def test_dropout_is_drawn_from_the_seed_and_only_in_training(
    model: Family, source: Tensor, target: Tensor
) -> None:
    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(source, target)

    assert torch.equal(run(1), run(2))
    model.train()
    assert torch.equal(run(1), run(1))
    assert not torch.isclose(run(1), run(2)).all(dim=-1).any()


@pytest.mark.parametrize(
    "variant",
    [
        {"cell": "gru", "attention": "general"},
        {"cell": "lstm", "attention": "additive"},
        {"window": 3},
    ],
    ids=told,
)
def test_it_learns_to_reverse(variant: Variant) -> None:
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 32}
    model = make({**variant, **sizes}, dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(200):
        source = words((32, 4), seed=step)
        target = torch.cat([torch.full((32, 1), BOS), source.flip(1)[:, :-1]], dim=1)
        logits = model(source, target)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), source.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6  # by chance 2.9, the logarithm of 18 words


# Weights


def test_save_and_load_change_nothing(
    model: Family, variant: Variant, source: Tensor, target: Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    save_tensors(file, model.state_dict())
    again: Any = make(variant, seed=2)
    assert not torch.allclose(again(source, target), model(source, target))
    load_weights(again, file)
    assert torch.equal(again(source, target), model(source, target))


def test_the_output_is_tied_to_the_targets_embedding(
    model: Family, source: Tensor, target: Tensor
) -> None:
    weight, bias = model.output_weights
    memory = model.encode(source)
    features = model.features(target, memory, model.start(memory))
    assert weight is model.embedding.output_weight
    assert bias is None
    assert_close(model(source, target), features @ weight.T)
