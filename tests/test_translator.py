"""The front door: lines to lines, in order, whatever they stand beside."""

from itertools import count, islice

import pytest
import torch

from calque.config import CalqueError
from calque.decoding.config import DecodingConfig
from calque.models.build import ModelConfig, build
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
    return Translator(model.eval(), tokenizers, DecodingConfig(beam_size=3, max_length=12))


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
