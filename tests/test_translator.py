"""The front door: lines to lines, in order, whatever they stand beside."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import count, islice

import pytest
import torch

from calque.config import CalqueError
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.kernels.library import library
from calque.models.build import ModelConfig, build
from calque.models.fast_decoding import FastTransformer
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import LARGEST_WINDOW, Translator

TEXT = "a small dog runs across the green meadow and jumps happily through high grass"
WORDS = TEXT.split()
LINES = [" ".join(WORDS[start : start + 1 + start % 5]) for start in range(9)]
EMPTY = ["", " ", "\t \u3000"]


@pytest.fixture(scope="module")
def translator() -> Translator:
    config = TokenizerConfig(kind="words", vocab_size=16)
    tokenizers = Tokenizers.train(config, lambda: ((line, line) for line in LINES))
    torch.manual_seed(3)
    size = tokenizers.source.vocab_size
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 32}
    model = build(ModelConfig(num_heads=2, dropout=0.5, **sizes), size, size)
    decoding = DecodingConfig(beam_size=3, max_length=12, precision="float32")
    return Translator(model.eval(), tokenizers, decoding)


def test_each_line_is_translated_as_if_it_were_alone(translator):
    alone = [translator.translate([line])[0] for line in LINES]
    assert len(set(alone)) > 3
    assert translator.translate(LINES) == alone
    assert translator.translate(LINES[::-1]) == alone[::-1]
    assert translator.translate([*LINES[4:], *EMPTY, *LINES[:4]]) == [
        *alone[4:],
        *[""] * 3,
        *alone[:4],
    ]


def test_a_line_beyond_learned_positions_is_an_error_that_names_the_limit(translator):
    size = translator.tokenizers.source.vocab_size
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 32}
    model = build(ModelConfig(positions="learned", num_heads=2, **sizes), size, size).eval()
    short = Translator(model, translator.tokenizers, DecodingConfig(max_length=1023))
    assert len(short.translate(["dog " * 1023])) == 1
    with pytest.raises(CalqueError, match=r"text of 1,025 tokens.* 1,024 positions"):
        short.translate(["a dog", "dog " * 1024])


def test_scores_are_those_of_the_line_alone(translator):
    for line, together in zip(LINES, translator.n_best(LINES), strict=True):
        (alone,) = translator.n_best([line])
        assert [one.text for one in together] == [one.text for one in alone]
        assert [one.score for one in together] == pytest.approx(
            [one.score for one in alone], rel=1e-4
        )


SIZES = {"num_encoder_layers": 1, "num_decoder_layers": 2, "d_model": 32, "d_ff": 64}


def livelier(translator: Translator, decoding: DecodingConfig, **parts: str) -> Translator:
    """Of other parts, with weights that make translations which differ in length."""
    size = translator.tokenizers.source.vocab_size
    torch.manual_seed(6)
    model = build(ModelConfig(num_heads=2, **SIZES, **parts), size, size).eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3 if "embedding" in name else 0.4)
    return Translator(model, translator.tokenizers, decoding)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("positions", ["sinusoidal", "relative"])
def test_it_finds_what_a_search_in_the_model_itself_finds(search, positions, translator):
    decoding = DecodingConfig(search=search, beam_size=3, max_length=12, precision="float32")
    own = livelier(translator, decoding, positions=positions)
    assert FastTransformer.can_take(own.model) is (positions == "sinusoidal")
    lines = [*LINES, *WORDS, *(f"{line} {word}" for line, word in zip(LINES, WORDS, strict=False))]
    found = own.n_best(lines)
    for line, of_line in zip(lines, found, strict=True):
        (ids,) = own.tokenizers.source.encode([line])
        source = torch.tensor([[*ids, own.model.config.eos_id]])
        [plain] = SEARCHES[search](own.model, source, decoding)
        assert [one.hypothesis.tokens for one in of_line] == [one.tokens for one in plain]
    assert len({best.hypothesis.tokens for best, *_ in found}) > 3


def test_in_bf16_nearly_all_translations_are_the_same(translator):
    lines = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 5] + WORDS[i % 11 :][:3]) for i in range(60)]
    decoding = DecodingConfig(beam_size=3, max_length=12, precision="float32")
    exact = livelier(translator, decoding)
    quick = Translator(exact.model, exact.tokenizers, replace(decoding, precision="bf16"))
    before = torch.backends.mkldnn.matmul.fp32_precision
    found, expected = quick.n_best(lines), exact.n_best(lines)
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    best = [(one[0], other[0]) for one, other in zip(found, expected, strict=True)]
    assert all(math.isfinite(one.score) for of_line in found for one in of_line)
    assert len({one.text for one, _ in best}) > 10
    same = [(one, other) for one, other in best if one.text == other.text]
    assert len(same) >= 0.9 * len(lines)
    for one, other in same:
        assert one.score == pytest.approx(other.score, rel=0.1)


@pytest.mark.parametrize(
    ("precision", "has", "expected"),
    [
        ("bf16", {}, "bf16"),
        ("float32", {"amx_bf16": True}, "ieee"),
        ("auto", {}, "ieee"),
        ("auto", {"avx512_bf16": True}, "ieee" if library() else "bf16"),
        ("auto", {"amx_bf16": True}, "bf16"),
    ],
)
def test_products_are_those_that_the_recipe_asks_for(
    precision, has, expected, translator, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    before, seen = torch.backends.mkldnn.matmul.fp32_precision, []

    def search(*_: object) -> None:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        raise RuntimeError("out of memory")

    monkeypatch.setitem(SEARCHES, "beam", search)
    decoding = DecodingConfig(precision=precision)
    broken = Translator(translator.model, translator.tokenizers, decoding)
    with pytest.raises(RuntimeError, match="out of memory"):
        broken.translate(LINES)
    assert seen == [expected]
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_n_best_are_the_beam_best_first(translator):
    for found in translator.n_best(LINES):
        assert len(found) == 3
        assert len({one.hypothesis.tokens for one in found}) == 3
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)


def test_empty_lines_stay_empty(translator):
    assert translator.translate(EMPTY) == ["", "", ""]
    assert [len(found) for found in translator.n_best(EMPTY)] == [1, 1, 1]
    assert translator.translate([]) == []
    assert list(translator.stream([])) == []


@pytest.mark.parametrize("number", [1, 63, 64, 65, 300])
def test_a_stream_is_in_order(number, translator):
    lines = [(LINES + EMPTY)[index % 12] for index in range(number)]
    known = dict(zip(LINES + EMPTY, translator.translate(LINES + EMPTY), strict=True))
    streamed = [best.text for best, *_ in translator.stream(iter(lines))]
    assert streamed == [known[line] for line in lines]


def test_a_stream_reads_only_a_little_ahead(translator):
    numbers = count()

    def endless():
        for _ in numbers:
            yield ""

    found = translator.stream(endless())
    next(found)
    assert next(numbers) <= 65
    for given in range(2, 40_000):
        next(found)
        if given % 1000 == 0:
            assert next(numbers) - given <= LARGEST_WINDOW + 100


def test_a_stream_gives_the_first_lines_before_the_last_are_there(translator):
    def broken():
        yield from LINES * 10
        raise RuntimeError("the sender has gone")

    found = translator.stream(broken())
    assert len(list(islice(found, 64))) == 64
    with pytest.raises(RuntimeError, match="the sender has gone"):
        next(found)


def test_another_beam_leaves_the_translator_as_it_was(translator):
    wider = translator.with_decoding(beam_size=5)
    assert [len(found) for found in wider.n_best(LINES[:2])] == [5, 5]
    assert [len(found) for found in translator.n_best(LINES[:2])] == [3, 3]
    assert translator.with_decoding().decoding == translator.decoding
    assert translator.with_decoding(length_penalty=0.0).decoding.length_penalty == 0.0


def test_the_length_penalty_divides_the_score(translator):
    (plain,) = translator.with_decoding(length_penalty=0.0).n_best(LINES[:1])
    for one in plain:
        assert one.score == pytest.approx(one.hypothesis.log_prob, rel=1e-5)


@pytest.mark.parametrize("change", [{"beam_size": 0}, {"length_penalty": -1.0}])
def test_a_decoding_that_cannot_be_is_refused(change, translator):
    with pytest.raises(CalqueError, match=f"decoding.{next(iter(change))}"):
        translator.with_decoding(**change)


def test_a_run_that_is_none_is_refused(tmp_path):
    with pytest.raises(CalqueError, match="not a run folder"):
        Translator.load(tmp_path)


def test_weights_that_are_written_over_are_those_that_translate(translator):
    model = deepcopy(translator.model)
    known = Translator(model, translator.tokenizers, translator.decoding)
    before = known.n_best(LINES)
    with torch.no_grad():
        model.output_weights[0].neg_()
        model.decoder[0].self_attention.query.weight.neg_()
    fresh = Translator(model, translator.tokenizers, translator.decoding)
    assert known.n_best(LINES) == fresh.n_best(LINES) != before
