"""Captured attention is what the model attends with, and looking changes nothing."""

import pytest
import torch
from torch import Tensor, nn

from calque.config import CalqueError
from calque.decoding.config import DecodingConfig
from calque.inspection.capture import captured, look
from calque.models.build import SLOTS, ModelConfig, build
from calque.models.parts.fused_attention import FusedAttention
from calque.models.parts.residuals import RESIDUALS
from calque.models.transformer import Transformer
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import PAD, TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator

PAIRS = [
    ("The old man opens the door.", "Der alte Mann öffnet die Tür."),
    ("A small cat sleeps in the house.", "Eine kleine Katze schläft im Haus."),
    ("The house is old and small.", "Das Haus ist alt und klein."),
    ("Where does the man sleep?", "Wo schläft der Mann?"),
]
SIZE = {"bpe": 320, "unigram": 300, "wordpiece": 80, "characters": 30, "words": 30}
HEADS, LAYERS = 4, 2
NAMES = [
    *(f"encoder.{layer}.self_attention" for layer in range(LAYERS)),
    *(
        f"decoder.{layer}.{kind}"
        for layer in range(LAYERS)
        for kind in ("self_attention", "cross_attention")
    ),
]


@pytest.fixture(params=["joint", "separate"])
def config(request: pytest.FixtureRequest) -> TokenizerConfig:
    return TokenizerConfig(kind="bpe", vocab_size=SIZE["bpe"], vocabulary=request.param)


@pytest.fixture
def tokenizers(config: TokenizerConfig) -> Tokenizers:
    return Tokenizers.train(config, lambda: PAIRS)


def make_model(
    tokenizers: Tokenizers, vocabulary: str, attention: str = "plain", **parts: str
) -> Transformer:
    torch.manual_seed(1)
    config = ModelConfig(
        num_encoder_layers=LAYERS,
        num_decoder_layers=LAYERS,
        d_model=32,
        d_ff=48,
        num_heads=HEADS,
        **parts,
    )
    return build(
        config,
        tokenizers.source.vocab_size,
        tokenizers.target.vocab_size,
        vocabulary=vocabulary,
        attention=attention,
    ).eval()


@pytest.fixture(params=RESIDUALS)
def model(
    tokenizers: Tokenizers, config: TokenizerConfig, request: pytest.FixtureRequest
) -> Transformer:
    return make_model(tokenizers, config.vocabulary, residual=request.param)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Sources of 6, 3 and 1 tokens, padded, and targets of 4."""
    source, target = torch.arange(4, 22).view(3, 6), torch.arange(22, 34).view(3, 4)
    source[1, 3:], source[2, 1:] = PAD, PAD
    return source, target


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


# Capture


def test_every_attention_is_captured(model: Transformer, batch: tuple[Tensor, Tensor]) -> None:
    with captured(model) as weights:
        model(*batch)
    assert list(weights) == NAMES
    source, target = (ids.size(1) for ids in batch)
    for name, tensor in weights.items():
        query = source if name.startswith("encoder") else target
        key = source if name.startswith("encoder") or name.endswith("cross_attention") else target
        assert tensor.shape == (3, HEADS, query, key)
        assert not tensor.requires_grad


def test_weights_sum_to_one_and_are_zero_where_masked(
    model: Transformer, batch: tuple[Tensor, Tensor]
) -> None:
    with captured(model) as weights:
        model(*batch)
    padding = (batch[0] == PAD)[:, None, None, :]
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)
    for name, tensor in weights.items():
        in_decoder = name.startswith("decoder") and name.endswith("self_attention")
        hidden = (future if in_decoder else padding).expand_as(tensor)
        torch.testing.assert_close(tensor.sum(dim=-1), torch.ones(tensor.shape[:-1]))
        assert (tensor[hidden] == 0).all()
        assert (tensor[~hidden] > 0).all()


def test_weights_are_those_the_output_is_made_with(
    model: Transformer, batch: tuple[Tensor, Tensor]
) -> None:
    attention = model.encoder[0].self_attention
    x = torch.randn(3, 6, 32)
    keys_values = attention.keys_values(x)
    mask = (batch[0] != PAD)[:, None, None, :]
    with captured(attention) as weights:
        y = attention(x, keys_values, mask)
    heads = (weights[""] @ keys_values[1]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.output(heads), y)


def test_capture_changes_no_output_and_leaves_no_hook(
    model: Transformer, batch: tuple[Tensor, Tensor]
) -> None:
    before = model(*batch)
    with captured(model):
        during = model(*batch)
        assert hooks(model) == len(NAMES)
    assert torch.equal(during, before)
    assert torch.equal(model(*batch), before)
    assert hooks(model) == 0


def test_the_latest_weights_are_kept(model: Transformer, batch: tuple[Tensor, Tensor]) -> None:
    source, target = batch
    with captured(model) as weights:
        model(source, target)
        model(source[:1, :2], target[:1, :3])
    assert weights["decoder.0.cross_attention"].shape == (1, HEADS, 3, 2)


def test_no_hook_is_left_by_an_error(model: Transformer) -> None:
    with pytest.raises(KeyError), captured(model):
        raise KeyError
    assert hooks(model) == 0


def test_a_fused_model_is_refused(tokenizers: Tokenizers, config: TokenizerConfig) -> None:
    model = make_model(tokenizers, config.vocabulary, attention="fused")
    with pytest.raises(CalqueError, match="plain path"), captured(model):
        pass


def test_one_fused_attention_is_enough_to_be_refused(model: Transformer) -> None:
    model.decoder[1].cross_attention.attention = FusedAttention(model.config)
    with pytest.raises(CalqueError, match="plain path"), captured(model):
        pass
    assert hooks(model) == 0


def test_relative_positions_are_added_to_what_the_weights_sum_up(
    tokenizers: Tokenizers, config: TokenizerConfig, batch: tuple[Tensor, Tensor]
) -> None:
    model = make_model(tokenizers, config.vocabulary, positions="relative")
    with captured(model) as weights:
        model(*batch)
    assert list(weights) == NAMES
    assert weights["encoder.0.self_attention"].shape == (3, HEADS, 6, 6)


# Look


EVERY_PART = [(slot, name) for slot, names in SLOTS.items() for name in names]


@pytest.mark.parametrize(("slot", "name"), EVERY_PART)
def test_look_shows_every_part_at_work(slot: str, name: str) -> None:
    tokenizers = Tokenizers.train(TokenizerConfig(kind="words", vocab_size=30), lambda: PAIRS)
    model = make_model(tokenizers, "joint", **{slot: name})
    translator = Translator(model, tokenizers, DecodingConfig(beam_size=3, max_length=12))
    seen = look(translator, "the old house")
    assert seen.translation == translator.n_best(["the old house"])[0][0]
    assert list(seen.weights) == NAMES


@pytest.fixture
def translator(model: Transformer, tokenizers: Tokenizers) -> Translator:
    decoding = DecodingConfig(beam_size=3, max_length=12, precision="float32")
    return Translator(model, tokenizers, decoding)


@pytest.mark.parametrize("line", ["The small cat opens the door.", "xyzzy ☃", "old", ""])
def test_look_shows_the_translation_that_translate_gives(translator: Translator, line: str) -> None:
    seen = look(translator, line)
    assert seen.translation == translator.n_best([line])[0][0]
    assert [seen.translation.text] == translator.translate([line])
    sides = translator.tokenizers
    (ids,) = sides.source.encode([line])
    assert seen.source == [*sides.source.pieces(ids), "</s>"]
    assert seen.target == [*sides.target.pieces(seen.translation.hypothesis.tokens), "</s>"]


def test_a_row_for_each_predicted_piece_and_a_column_for_each_piece_seen(
    translator: Translator,
) -> None:
    seen = look(translator, "The small cat opens the door.")
    source, target = len(seen.source), len(seen.target)
    assert list(seen.weights) == NAMES
    shapes = {name: (HEADS, target, target) for name in NAMES if name.startswith("decoder")}
    for name in NAMES:
        if name.startswith("encoder"):
            shapes[name] = (HEADS, source, source)
        elif name.endswith("cross_attention"):
            shapes[name] = (HEADS, target, source)
    assert {name: tuple(tensor.shape) for name, tensor in seen.weights.items()} == shapes


@torch.inference_mode()
def test_looks_weights_are_those_of_decoding_step_by_step(translator: Translator) -> None:
    model, (ids,) = translator.model, translator.tokenizers.source.encode(["The house."])
    seen = look(translator, "The house.")
    memory = model.encode(torch.tensor([[*ids, model.config.eos_id]]))
    past, steps = model.start(memory), []
    target = [model.config.bos_id, *seen.translation.hypothesis.tokens]
    with captured(model) as weights:
        for i, token in enumerate(target):
            model.decode(torch.tensor([[token]]), memory, past)
            steps.append({name: weights[name][0, :, 0] for name in NAMES if "decoder" in name})
            for name, row in steps[-1].items():
                expected = seen.weights[name][:, i, : row.size(1)]
                torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)
    assert len(steps) == len(seen.target) > 2


def test_looking_leaves_the_translator_as_it_was(translator: Translator) -> None:
    lines = [source for source, _ in PAIRS]
    before = translator.translate(lines)
    look(translator, lines[0])
    assert translator.translate(lines) == before
    assert hooks(translator.model) == 0


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizers_pieces_can_be_looked_at(kind: str) -> None:
    tokenizers = Tokenizers.train(TokenizerConfig(kind=kind, vocab_size=SIZE[kind]), lambda: PAIRS)
    model = make_model(tokenizers, "joint")
    seen = look(Translator(model, tokenizers, DecodingConfig(max_length=5)), "the old house")
    assert len(seen.source) == len(tokenizers.source.encode(["the old house"])[0]) + 1
