"""Every tokenizer: ids and text, files, training, and the pair of them that a run keeps."""

import hashlib
import io
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from calque.config import CalqueError
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.excerpt import MAX_LINE, excerpt
from calque.text.tokenizers.interface import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    SpecialIds,
    Tokenizer,
    TokenizerConfig,
)
from calque.text.tokenizers.pair import Tokenizers

SIZES = {"bpe": 400, "unigram": 330, "wordpiece": 150, "characters": 40, "words": 40}
SAMPLED = ["bpe", "unigram"]
RESTORING_ALL = ["bpe", "unigram"]
RESTORING_SPACES = ["bpe", "unigram", "wordpiece", "characters"]


def corpus() -> list[str]:
    words = (
        "ein kleiner Hund läuft über die grüne Wiese und springt fröhlich durch das hohe Gras "
        "a small dog runs across the green meadow and jumps happily through high grass while "
        "children watch from their garden behind another house 3 42 1999 (café), ! quiet zebra"
    )
    generator = random.Random(3)
    return [" ".join(generator.choices(words.split(), k=8)) for _ in range(200)]


@cache
def trained(kind: str) -> Tokenizer:
    return TOKENIZERS[kind].train(corpus(), SIZES[kind])


@pytest.fixture(params=TOKENIZERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def nearest_size(kind: str, lines: list[str], vocab_size: int) -> tuple[str, int]:
    """What the message for a wrong size proposes."""
    with pytest.raises(CalqueError) as error:
        TOKENIZERS[kind].train(lines, vocab_size)
    proposal = re.search(rf"vocab_size: {vocab_size} .* (at most|at least) (\d+)", str(error.value))
    assert proposal, error.value
    return proposal[1], int(proposal[2])


@cache
def complete(kind: str) -> Tokenizer:
    """The largest vocabulary that the corpus gives: nothing in it is unknown."""
    return TOKENIZERS[kind].train(corpus(), nearest_size(kind, corpus(), 10**5)[1])


def test_ids_are_entries_and_never_special(kind: str) -> None:
    ids = [i for row in complete(kind).encode(corpus()) for i in row]
    assert ids
    assert all(len(SPECIALS) <= i < complete(kind).vocab_size for i in ids)


def test_vocabulary_has_the_size_asked_for(kind: str) -> None:
    assert trained(kind).vocab_size == SIZES[kind]
    assert len(set(trained(kind).pieces(range(SIZES[kind])))) == SIZES[kind]


def test_empty_line_is_no_ids(kind: str) -> None:
    assert trained(kind).encode(["", "Hund", ""])[::2] == [[], []]
    assert trained(kind).decode([[], [PAD, BOS, EOS]]) == ["", ""]
    assert trained(kind).encode([]) == []
    assert trained(kind).decode([]) == []
    assert trained(kind).pieces([]) == []


def test_lines_do_not_depend_on_each_other(kind: str) -> None:
    lines = corpus()[:20]
    assert trained(kind).encode(lines) == [trained(kind).encode([line])[0] for line in lines]


def test_decoding_leaves_special_ids_out_and_shows_the_unknown(kind: str) -> None:
    (row,) = complete(kind).encode(["ein Hund"])
    assert complete(kind).decode([[BOS, *row, EOS, PAD, PAD]]) == ["ein Hund"]
    assert complete(kind).decode([[*row, UNK]])[0].split("⁇")[1:] == [""]
    assert trained(kind).pieces([PAD, UNK, BOS, EOS]) == list(SPECIALS)


def test_single_spaced_text_comes_back(kind: str) -> None:
    assert complete(kind).decode(complete(kind).encode(corpus())) == corpus()


@pytest.mark.parametrize("kind", RESTORING_SPACES)
def test_all_spaces_come_back(kind: str) -> None:
    lines = ["a  dog", " a dog ", "   ", "(a)dog", "a (dog) ,a", "dog!3"]
    assert complete(kind).decode(complete(kind).encode(lines)) == lines


@pytest.mark.parametrize("kind", RESTORING_ALL)
@given(line=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_any_text_comes_back(kind: str, line: str) -> None:
    assert trained(kind).decode(trained(kind).encode([line])) == [line]
    assert UNK not in trained(kind).encode([line])[0]


@pytest.mark.parametrize("kind", RESTORING_ALL)
def test_characters_never_seen_come_back(kind: str) -> None:
    lines = ["一只狗跑过草地。", "🐕‍🦺 läuft", "Ω\u00a0x\ty"]
    assert trained(kind).decode(trained(kind).encode(lines)) == lines


@pytest.mark.parametrize("kind", sorted(set(TOKENIZERS) - set(RESTORING_ALL)))
def test_what_was_never_seen_is_unknown(kind: str) -> None:
    lines = ["狗", "a 狗", "a 狗 dog", "a Ωmega dog"]
    rows = complete(kind).encode(lines)
    assert [UNK in row for row in rows] == [True] * 4
    shown = ["⁇", "a ⁇", "a ⁇ dog", "a ⁇mega dog" if kind == "characters" else "a ⁇ dog"]
    assert complete(kind).decode(rows) == shown


def test_names_of_special_ids_are_mere_text(kind: str) -> None:
    lines = [f"a {name} b {name}{name}" for name in SPECIALS]
    tokenizer = TOKENIZERS[kind].train(lines, nearest_size(kind, lines, 10**5)[1])
    assert all(min(row) >= len(SPECIALS) for row in tokenizer.encode(lines))
    assert tokenizer.decode(tokenizer.encode(lines)) == lines
    for row in trained(kind).encode(lines):  # trained on text without them
        assert not {PAD, BOS, EOS} & set(row)


# Vocabularies learnt elsewhere


def foreign(file: Path, vocab_size: int = 400, **ids: int) -> Path:
    """A SentencePiece model whose special ids are those given."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        minloglevel=2,
        **ids,
    )
    file.write_bytes(model.getvalue())
    return file


LAST = SIZES["bpe"] - 1


@pytest.mark.parametrize(
    ("ids", "special"),
    [
        ({"pad_id": LAST, "bos_id": -1, "eos_id": 0, "unk_id": 1}, SpecialIds(LAST, 1, LAST, 0)),
        ({"pad_id": 3, "bos_id": 1, "eos_id": 2, "unk_id": 0}, SpecialIds(3, 0, 1, 2)),
    ],
    ids=["Marian's", "BART's"],
)
def test_a_vocabulary_learnt_elsewhere_keeps_its_ids(
    ids: dict[str, int], special: SpecialIds, tmp_path: Path
) -> None:
    loaded = TOKENIZERS["bpe"].load(foreign(tmp_path / "x.model", **ids))
    assert loaded.special == special
    rows = loaded.encode(corpus())
    assert not {special.pad, special.unk, special.bos, special.eos} & {i for r in rows for i in r}
    framed = [[special.bos, *row, special.eos, special.pad] for row in rows]
    assert loaded.decode(framed) == corpus()
    loaded.save(tmp_path / "y.model")
    assert TOKENIZERS["bpe"].load(tmp_path / "y.model").special == special


def test_a_vocabulary_learnt_here_has_our_ids(kind: str) -> None:
    assert trained(kind).special == SpecialIds(PAD, UNK, BOS, EOS)


def test_a_vocabulary_without_padding_is_refused(tmp_path: Path) -> None:
    file = foreign(tmp_path / "x.model", pad_id=-1)
    with pytest.raises(CalqueError, match=f"{re.escape(str(file))}: has no entry for padding"):
        TOKENIZERS["bpe"].load(file)


def test_both_sides_of_a_run_have_the_same_special_ids(tmp_path: Path) -> None:
    asked = config(vocabulary="separate")
    foreign(tmp_path / "source.model", pad_id=3)
    target = foreign(tmp_path / "target.model", pad_id=2, eos_id=3)
    with pytest.raises(CalqueError, match=f"{re.escape(str(target))}: its ids for padding"):
        Tokenizers.load(asked, tmp_path)
    foreign(target, pad_id=3, vocab_size=350)
    assert Tokenizers.load(asked, tmp_path).special.pad == 3


# Files


def test_saving_and_loading_changes_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{TOKENIZERS[kind].suffix}"
    trained(kind).save(path)
    loaded = TOKENIZERS[kind].load(path)
    lines = [*corpus(), "nie gesehen 狗 <s>"]
    assert loaded.encode(lines) == trained(kind).encode(lines)
    assert loaded.vocab_size == trained(kind).vocab_size
    assert loaded.pieces(range(SIZES[kind])) == trained(kind).pieces(range(SIZES[kind]))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b'{"a": 1}', b'["a", "a"]', None])
def test_a_damaged_file_is_named(kind: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    trained(kind).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CalqueError, match=re.escape(str(path))):
        TOKENIZERS[kind].load(path)


def fingerprints(folder: Path) -> dict[str, str]:
    found = {}
    for kind, cls in TOKENIZERS.items():
        cls.train(corpus(), SIZES[kind]).save(folder / kind)
        found[kind] = hashlib.sha256((folder / kind).read_bytes()).hexdigest()
    return found


def test_training_twice_gives_the_same_file(tmp_path: Path) -> None:
    first = fingerprints(tmp_path)
    assert fingerprints(tmp_path) == first
    assert len(set(first.values())) == len(TOKENIZERS)


def segmentations() -> list[list[list[list[int]]]]:
    tokenizers = [TOKENIZERS[kind].train(corpus(), SIZES[kind]) for kind in ("bpe", "unigram")]
    return [tokenizer.sample(corpus()[:20], 0.3, seed=7) for tokenizer in tokenizers]


def test_another_process_draws_the_same_segmentations() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_tokenizers import segmentations\n"
        "print(segmentations())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(segmentations())


def test_training_in_another_process_gives_the_same_file(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_tokenizers import fingerprints\n"
        f"print(fingerprints(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(fingerprints(tmp_path))


def test_training_says_nothing(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    TOKENIZERS[kind].train(corpus(), SIZES[kind])
    assert capfd.readouterr() == ("", "")


def test_too_large_vocabulary_names_the_largest(kind: str) -> None:
    bound, largest = nearest_size(kind, corpus(), 10**5)
    assert bound == "at most"
    assert TOKENIZERS[kind].train(corpus(), largest).vocab_size == largest
    assert nearest_size(kind, corpus(), largest + 1) == ("at most", largest)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_too_small_vocabulary_names_the_smallest(kind: str) -> None:
    bound, smallest = nearest_size(kind, corpus(), 10)
    assert bound == "at least"
    assert TOKENIZERS[kind].train(corpus(), smallest).vocab_size == smallest


@pytest.mark.parametrize("lines", [[], ["", ""]])
def test_corpus_without_text_is_refused(kind: str, lines: list[str]) -> None:
    with pytest.raises(CalqueError, match="no text"):
        TOKENIZERS[kind].train(lines, 300)


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_the_most_frequent_entries_stay(kind: str) -> None:
    tokenizer = TOKENIZERS[kind].train(["c c c b b a a d"], 4 + 3)
    kept = {"words": ["c", "a", "b"], "characters": ["▁", "c", "a"]}[kind]
    assert tokenizer.pieces([4, 5, 6]) == kept


@pytest.mark.parametrize("kind", SAMPLED)
def test_a_sample_depends_on_its_arguments_alone(kind: str) -> None:
    lines = corpus()[:20]

    def sample(seed: int) -> list[list[int]]:
        return trained(kind).sample(lines, 0.1, seed)

    one_by_one = [sample(seed) for seed in range(-3, 20)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(sample, range(-3, 20))) == one_by_one
    assert len({str(rows) for rows in one_by_one}) == len(one_by_one)
    assert sample(2**32 - 1) == sample(2**32 - 1)


@pytest.mark.parametrize("kind", SAMPLED)
def test_a_sample_is_another_segmentation_of_the_same_text(kind: str) -> None:
    rows = trained(kind).sample(corpus(), 0.3, 7)
    assert trained(kind).decode(rows) == corpus()
    assert rows != trained(kind).encode(corpus())
    assert trained(kind).sample(["", "a"], 0.3, 7)[0] == []


def test_bpe_leaves_out_more_merges_the_stronger_it_samples() -> None:
    lengths = [
        sum(map(len, trained("bpe").sample(corpus(), strength, 7)))
        for strength in (0.001, 0.2, 0.5, 0.9)
    ]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 1.5 * lengths[0]


@pytest.mark.parametrize("kind", sorted(set(TOKENIZERS) - set(SAMPLED)))
def test_kinds_with_one_segmentation_refuse_to_sample(kind: str) -> None:
    with pytest.raises(CalqueError, match="bpe or unigram"):
        trained(kind).sample(["a"], 0.1, 0)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_very_long_lines_are_learned_from(kind: str) -> None:
    long_line = "meadowgarden " * 5000
    tokenizer = TOKENIZERS[kind].train([*corpus(), long_line], SIZES[kind])
    (known,), (new,) = (t.encode(["meadowgarden"]) for t in (tokenizer, trained(kind)))
    assert len(known) < len(new)
    assert tokenizer.decode(tokenizer.encode([long_line])) == [long_line]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_very_long_words_are_no_obstacle(kind: str) -> None:
    long_word = "meadowgarden" * 10000
    tokenizer = TOKENIZERS[kind].train([*corpus(), long_word], SIZES[kind])
    (text,) = tokenizer.decode(tokenizer.encode([long_word]))
    assert text == ("⁇" if kind == "wordpiece" else long_word)


def test_excerpt_is_everything_if_that_is_little() -> None:
    assert excerpt(["a", "", " ", "bc"]) == ["a", "bc"]
    parts = excerpt(["x" * (2 * MAX_LINE + 1)])
    assert [len(part) for part in parts] == [MAX_LINE, MAX_LINE, 1]


def test_excerpt_is_bounded_and_taken_from_everywhere() -> None:
    lines = [f"é{i:05}" for i in range(20000)]
    kept = excerpt(iter(lines), max_bytes=7000)
    assert kept == excerpt(iter(lines), max_bytes=7000)
    assert 0.3 * 7000 < sum(len(line.encode()) for line in kept) <= 7000
    places = [int(line[1:]) for line in kept]
    assert places == sorted(set(places))
    quarters = [sum(place // 5000 == quarter for place in places) for quarter in range(4)]
    assert min(quarters) > 0.15 * len(kept)
    assert 0.4 < sum(place % 2 for place in places) / len(places) < 0.6


def pairs() -> list[tuple[str, str]]:
    lines = corpus()
    return [(line, line.upper()) for line in lines]


def config(**values: object) -> TokenizerConfig:
    return TokenizerConfig(**{"kind": "bpe", "vocab_size": 350, **values})


@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
def test_tokenizers_of_a_run_are_saved_and_loaded(
    kind: str, vocabulary: str, tmp_path: Path
) -> None:
    asked = config(kind=kind, vocab_size=SIZES[kind], vocabulary=vocabulary)
    tokenizers = Tokenizers.train(asked, lambda: iter(pairs()))
    paths = tokenizers.save(tmp_path)
    names = ["joint"] if vocabulary == "joint" else ["source", "target"]
    assert paths == [tmp_path / f"{name}{TOKENIZERS[kind].suffix}" for name in names]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    loaded = Tokenizers.load(asked, tmp_path)
    for one in (tokenizers, loaded):
        assert (one.source is one.target) == (vocabulary == "joint")
    source, target = map(list, zip(*pairs(), strict=True))
    assert loaded.source.encode(source) == tokenizers.source.encode(source)
    assert loaded.target.encode(target) == tokenizers.target.encode(target)


def test_joint_vocabulary_knows_both_sides_and_a_separate_one_its_own() -> None:
    def known(tokenizer: Tokenizer) -> tuple[bool, bool]:
        rows = tokenizer.encode(["meadow", "MEADOW"])
        return UNK not in rows[0], UNK not in rows[1]

    lines = [line for pair in pairs() for line in pair]
    largest = nearest_size("characters", lines, 10**5)[1]
    joint = Tokenizers.train(config(kind="characters", vocab_size=largest), pairs)
    assert known(joint.source) == (True, True)
    asked = config(kind="characters", vocab_size=40, vocabulary="separate")
    separate = Tokenizers.train(asked, pairs)
    assert known(separate.source) == (True, False)
    assert known(separate.target) == (False, True)


def test_unknown_kind_is_an_error_with_the_choices() -> None:
    with pytest.raises(CalqueError, match=r"tokenizer\.kind.*'bpe'.*wordpiece"):
        Tokenizers.train(config(kind="bpee"), pairs)


def test_missing_file_is_named(kind: str, tmp_path: Path) -> None:
    asked = config(kind=kind, vocab_size=SIZES[kind], vocabulary="separate")
    _, target = Tokenizers.train(asked, pairs).save(tmp_path)
    target.unlink()
    with pytest.raises(CalqueError, match=re.escape(str(target))):
        Tokenizers.load(asked, tmp_path)


def test_joint_bpe_of_multi30k(shared_data: Path) -> None:
    source, target = (
        (shared_data / "multi30k" / f"train.{language}").read_text(encoding="utf-8").split("\n")
        for language in ("en", "de")
    )
    tokenizer = Tokenizers.train(TokenizerConfig(), lambda: zip(source, target, strict=True)).source
    assert tokenizer.vocab_size == 8000
    for lines in (source, target):
        ids = tokenizer.encode(lines)
        assert tokenizer.decode(ids) == lines
        words = sum(len(line.split()) for line in lines)
        assert words < sum(map(len, ids)) < 1.6 * words
