"""The token store: what it holds, what it leaves out, and when it is made anew."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calque.config import CalqueError
from calque.text import store as store_module
from calque.text.batching import collate
from calque.text.data import CorpusConfig
from calque.text.resampling import resample
from calque.text.store import TokenStore, fingerprint, prepare
from calque.text.tokenizers.frequent import Characters, Words
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.text.trees import CONTINUES, Sentence, token_trees

NUM_PAIRS = 60
LIMITS: dict[str, Any] = {"max_length": None, "max_ratio": None}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of a few dozen pairs still has several chunks."""
    monkeypatch.setattr(store_module, "CHUNK", 7)


def write(folder: Path, sources: list[str], targets: list[str]) -> CorpusConfig:
    for name, lines in (("source", sources), ("target", targets)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return CorpusConfig(source=str(folder / "source"), target=str(folder / "target"))


def sentences(seed: int) -> list[str]:
    generator = random.Random(seed)
    line = "ein kleiner Hund läuft über die grüne Wiese und springt fröhlich"
    words = line.split()
    return [
        " ".join(generator.choices(words, k=generator.randint(1, 12))) for _ in range(NUM_PAIRS)
    ]


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    return write(tmp_path, sentences(1), sentences(2))


@pytest.fixture(scope="session")
def tokenizers() -> Tokenizers:
    pairs = list(zip(sentences(1), sentences(2), strict=True))
    config = TokenizerConfig(kind="bpe", vocab_size=310, vocabulary="separate")
    return Tokenizers.train(config, lambda: pairs)


@pytest.fixture(scope="session")
def letters() -> Tokenizers:
    """One token for each word, so that a test can see how long a line is."""
    words = Words.train(["a b c d e f"], 10)
    return Tokenizers(words, words)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def all_rows(store: TokenStore) -> list[tuple[list[int], list[int]]]:
    sources, targets = store.rows(np.arange(len(store)))
    return [(s.tolist(), t.tolist()) for s, t in zip(sources, targets, strict=True)]


def test_rows_are_what_the_tokenizers_give(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    store = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    expected = list(
        zip(
            tokenizers.source.encode(sentences(1)),
            tokenizers.target.encode(sentences(2)),
            strict=True,
        )
    )
    assert len(store) == NUM_PAIRS
    assert all_rows(store) == expected
    assert store.lengths.tolist() == [[len(source), len(target)] for source, target in expected]
    assert store.lengths.dtype == np.int32


def test_rows_and_texts_come_in_the_order_asked_for(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    store = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    asked = np.array([33, 2, 59, 2, 0])
    lines = list(zip(sentences(1), sentences(2), strict=True))
    assert store.texts(asked) == [lines[row] for row in asked]
    everything = all_rows(store)
    sources, targets = store.rows(asked)
    assert [ids.tolist() for ids in sources] == [everything[row][0] for row in asked]
    assert [ids.tolist() for ids in targets] == [everything[row][1] for row in asked]


def test_rows_stay_right_after_their_pages_were_given_back(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAPPED_ROWS", 10)
    store = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    sources, _ = store.rows(np.arange(NUM_PAIRS))
    before = [ids.tolist() for ids in sources]
    for row in range(NUM_PAIRS):
        store.rows(np.array([row]))
    assert [ids.tolist() for ids in sources] == before == [row[0] for row in all_rows(store)]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's own accounts")
def test_what_was_read_does_not_stay_in_memory(
    letters: Tokenizers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAPPED_ROWS", 100)
    line = "a " * 20_000
    corpus = write(tmp_path, [line] * NUM_PAIRS, [line] * NUM_PAIRS)
    store = prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")

    def resident() -> int:
        """Kilobytes of the store's file that count as this process's memory."""
        _, _, account = Path("/proc/self/smaps").read_text().partition(str(store.path))
        return int(account.partition("\nRss:")[2].split()[0])

    def read(rows: range) -> int:
        for row in rows:
            sources, targets = store.rows(np.array([row]))
            assert sources[0].sum() == targets[0].sum() > 0
        return resident()

    everything = read(range(NUM_PAIRS))
    assert everything > 2 * NUM_PAIRS * 20_000 * 4 / 1024
    assert read(range(store_module.MAPPED_ROWS + 1 - NUM_PAIRS)) < everything / 4


def test_a_row_knows_its_file_line_and_weight(letters: Tokenizers, tmp_path: Path) -> None:
    corpora = []
    for name, weight in (("one", 1.0), ("two", 0.25)):
        (tmp_path / name).mkdir()
        corpus = write(tmp_path / name, ["a", "", "b c"], ["a", "b", "c d"])
        corpora.append(replace(corpus, weight=weight))
    store = prepare(corpora, letters, **LIMITS, cache=tmp_path / "cache")
    assert [store.origin(row) for row in range(len(store))] == [
        f"{tmp_path / name / 'source'}:{line}" for name in ("one", "two") for line in (1, 3)
    ]
    assert store.weights.tolist() == [1, 1, 0.25, 0.25]


def test_what_is_left_out_is_counted_by_reason(letters: Tokenizers, tmp_path: Path) -> None:
    ten, two = "a " * 10, "a b"
    corpus = write(
        tmp_path,
        ["", two, two, "a " * 13, "a", ten, two, "a", "  ", "a " * 12],
        [two, "", "", two, "a " * 13, two, ten, "a " * 9, two, "a " * 12],
    )
    expected = Counter(
        {
            "empty source": 2,
            "empty target": 2,
            "source over 12 tokens": 1,
            "target over 12 tokens": 1,
            "ratio over 4": 2,
        }
    )
    # The second time it is read from the file of the first.
    for _ in range(2):
        store = prepare([corpus], letters, max_length=12, max_ratio=4, cache=tmp_path / "cache")
        assert store.left_out == expected
        assert store.lengths.tolist() == [[1, 9], [12, 12]]


def test_a_line_of_spaces_is_empty_even_where_a_space_is_a_token(tmp_path: Path) -> None:
    characters = Characters.train(["a b c"], 8)
    corpus = write(tmp_path, ["a", "  ", "b"], ["a", "a", " \u3000 "])
    store = prepare(
        [corpus], Tokenizers(characters, characters), **LIMITS, cache=tmp_path / "cache"
    )
    assert len(store) == 1
    assert store.left_out == {"empty source": 1, "empty target": 1}


def test_a_ratio_at_the_limit_is_within_it(letters: Tokenizers, tmp_path: Path) -> None:
    corpus = write(tmp_path, ["a b c"] * 2, ["a " * 12, "a " * 13])
    store = prepare([corpus], letters, max_length=99, max_ratio=4, cache=tmp_path / "cache")
    assert store.lengths.tolist() == [[3, 12]]


def test_without_limits_only_empty_pairs_are_left_out(letters: Tokenizers, tmp_path: Path) -> None:
    corpus = write(tmp_path, ["a " * 5000, "", "a"], ["a", "a", "a"])
    store = prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")
    assert store.lengths.tolist() == [[5000, 1], [1, 1]]
    assert store.left_out == {"empty source": 1}


def test_what_the_reader_leaves_out_is_counted_too(letters: Tokenizers, tmp_path: Path) -> None:
    lines = [{"x": "a b", "y": "c"}, {"x": None, "y": "c"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    corpus = CorpusConfig(file=str(tmp_path / "pairs.jsonl"), source="x", target="y")
    store = prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")
    assert len(store) == 1
    assert store.left_out.total() == 1


@pytest.mark.parametrize("reuse", [True, False])
def test_progress_tells_the_pairs_read_so_far(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path, reuse: bool
) -> None:
    if reuse:
        prepare([corpus], tokenizers, **LIMITS, cache=cache)
    told: list[int] = []
    prepare([corpus], tokenizers, **LIMITS, cache=cache, progress=told.append)
    assert told == ([] if reuse else [*range(7, NUM_PAIRS, 7), NUM_PAIRS])


def test_nothing_left_is_an_error_that_tells_why(letters: Tokenizers, tmp_path: Path) -> None:
    corpus = write(tmp_path, ["a " * 20, "", "a"], ["a", "a", ""])
    with pytest.raises(CalqueError, match="1 source over 12 tokens, 1 empty source, 1 empty targ"):
        prepare([corpus], letters, max_length=12, max_ratio=4, cache=tmp_path / "cache")


def test_empty_files_are_an_error_that_names_them(letters: Tokenizers, tmp_path: Path) -> None:
    corpus = write(tmp_path, [], [])
    with pytest.raises(CalqueError, match=str(tmp_path / "source")):
        prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("*.arrow*"))


def test_a_folder_in_place_of_a_file_is_an_error(letters: Tokenizers, tmp_path: Path) -> None:
    corpus = CorpusConfig(source=str(tmp_path), target=str(tmp_path))
    with pytest.raises(CalqueError, match=f"{tmp_path}: not a file"):
        prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")


def test_unchanged_inputs_reuse_the_file(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path, tmp_path: Path
) -> None:
    first = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    written = first.path.stat().st_mtime_ns
    # The tokenizers of a resumed run come from its folder.
    tokenizers.save(tmp_path)
    loaded = Tokenizers.load(TokenizerConfig(vocabulary="separate"), tmp_path)
    second = prepare([corpus], loaded, **LIMITS, cache=cache)
    assert second.path == first.path
    assert second.path.stat().st_mtime_ns == written
    assert all_rows(second) == all_rows(first)


def test_the_file_has_another_name_as_soon_as_anything_changes(
    corpus: CorpusConfig, tokenizers: Tokenizers, letters: Tokenizers, tmp_path: Path
) -> None:
    limits = {"max_length": 50, "max_ratio": 9.0}
    other = tmp_path / "other"
    other.write_bytes((tmp_path / "target").read_bytes())
    names = [
        fingerprint([corpus], tokenizers, **limits),
        fingerprint([corpus], letters, **limits),
        fingerprint([corpus], tokenizers, **{**limits, "max_length": 51}),
        fingerprint([corpus], tokenizers, **{**limits, "max_ratio": None}),
        fingerprint([replace(corpus, weight=2.0)], tokenizers, **limits),
        fingerprint([replace(corpus, target=str(other))], tokenizers, **limits),
        fingerprint([corpus, corpus], tokenizers, **limits),
    ]
    text = (tmp_path / "target").read_text()
    (tmp_path / "target").write_text(text.replace("Hund", "Bund", 1))
    names.append(fingerprint([corpus], tokenizers, **limits))
    assert len(set(names)) == len(names)
    (tmp_path / "target").write_text(text)
    assert fingerprint([corpus], tokenizers, **limits) == names[0]


def test_a_changed_corpus_is_tokenised_anew(
    tokenizers: Tokenizers, cache: Path, tmp_path: Path
) -> None:
    prepare([write(tmp_path, ["Hund"], ["Wiese"])], tokenizers, **LIMITS, cache=cache)
    changed = write(tmp_path, ["Wiese"], ["Hund"])
    store = prepare([changed], tokenizers, **LIMITS, cache=cache)
    assert store.texts(np.array([0])) == [("Wiese", "Hund")]


def test_a_renamed_file_is_known_by_its_new_name(letters: Tokenizers, tmp_path: Path) -> None:
    old, new = tmp_path / "old.tsv", tmp_path / "new.tsv"
    old.write_text("x\ty\na b\tc d\n")
    corpus = CorpusConfig(file=str(tmp_path / "*.tsv"), source="x", target="y")
    for path in (old, new):
        store = prepare([corpus], letters, **LIMITS, cache=tmp_path / "cache")
        assert store.origin(0).startswith(f"{path}:")
        if path == old:
            old.rename(new)


def test_half_a_file_of_a_killed_preparation_is_not_taken_for_whole(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    store = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    whole = store.path.read_bytes()
    part = store.path.with_suffix(".arrow.part")
    part.write_bytes(whole[: len(whole) // 2])
    store.path.unlink()
    again = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    assert again.path.read_bytes() == whole
    assert not part.exists()


@pytest.mark.parametrize("left", [0, 20, 1000, -20])
def test_a_store_that_was_cut_short_is_made_again(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path, left: int
) -> None:
    path = prepare([corpus], tokenizers, **LIMITS, cache=cache).path
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert len(prepare([corpus], tokenizers, **LIMITS, cache=cache)) == NUM_PAIRS
    assert path.read_bytes() == whole


def test_an_interrupted_preparation_leaves_nothing(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    def interrupt(num_read: int) -> None:
        assert list(cache.glob("*.part"))
        if num_read > NUM_PAIRS // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([corpus], tokenizers, **LIMITS, cache=cache, progress=interrupt)
    assert not list(cache.glob("*.arrow*"))


def test_a_sampled_store_has_the_same_rows_cut_otherwise(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    store = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    sampled = resample(store, tokenizers, 0.3, seed=1, epoch=1, cache=cache)
    rows = np.arange(NUM_PAIRS)
    assert sampled.path != store.path
    assert sampled.texts(rows) == store.texts(rows)
    assert [sampled.origin(row) for row in rows] == [store.origin(row) for row in rows]
    for side, tokenizer in enumerate((tokenizers.source, tokenizers.target)):
        usual, other = (each.rows(rows)[side] for each in (store, sampled))
        texts = [pair[side] for pair in store.texts(rows)]
        assert tokenizer.decode([ids.tolist() for ids in other]) == texts
        different = sum(a.tolist() != b.tolist() for a, b in zip(usual, other, strict=True))
        assert different > NUM_PAIRS / 2


def test_a_sampled_store_is_a_function_of_seed_and_epoch(
    corpus: CorpusConfig, tokenizers: Tokenizers, tmp_path: Path
) -> None:
    store = prepare([corpus], tokenizers, **LIMITS, cache=tmp_path / "cache")

    def sample(seed: int, epoch: int, folder: str) -> list[tuple[list[int], list[int]]]:
        cache = tmp_path / folder
        return all_rows(resample(store, tokenizers, 0.3, seed=seed, epoch=epoch, cache=cache))

    first = sample(1, 1, "first")
    assert sample(1, 1, "second") == first
    assert sample(1, 2, "first") != first
    assert sample(2, 1, "first") != first


def test_the_chunks_of_a_sampled_store_do_not_share_their_randomness(
    tokenizers: Tokenizers, cache: Path, tmp_path: Path
) -> None:
    lines = ["springt fröhlich über die grüne Wiese"] * 28
    store = prepare([write(tmp_path, lines, lines)], tokenizers, **LIMITS, cache=cache)
    rows = [
        source
        for source, _ in all_rows(resample(store, tokenizers, 0.3, seed=1, epoch=1, cache=cache))
    ]
    chunks = [rows[start : start + 7] for start in range(0, 28, 7)]
    assert all(chunk != chunks[0] for chunk in chunks[1:])


def test_a_sampled_row_that_grows_beyond_the_limit_keeps_its_usual_ids(
    corpus: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    unlimited = prepare([corpus], tokenizers, **LIMITS, cache=cache)
    limit = int(unlimited.lengths.max())
    store = prepare([corpus], tokenizers, max_length=limit, max_ratio=None, cache=cache)
    grown = resample(unlimited, tokenizers, 0.9, seed=1, epoch=1, cache=cache)
    held = resample(store, tokenizers, 0.9, seed=1, epoch=1, cache=cache)
    too_long = grown.lengths[:, 0] > limit
    assert 0 < too_long.sum() < NUM_PAIRS
    assert held.lengths.max() <= limit
    for row, (usual, free, kept) in enumerate(
        zip(all_rows(store), all_rows(grown), all_rows(held), strict=True)
    ):
        assert kept[0] == (usual[0] if too_long[row] else free[0])


# Trees


def conllu(line: str, root: int) -> str:
    """The words of a line, hanging on one of them."""
    words = line.split()
    heads = [0 if place == root else root + 1 for place in range(len(words))]
    rows = enumerate(zip(words, heads, strict=True), start=1)
    return "".join(f"{n}\t{word}\t_\t_\t_\t_\t{head}\t_\t_\t_\n" for n, (word, head) in rows)


@pytest.fixture
def parsed(tmp_path: Path) -> CorpusConfig:
    """Sources of 1 to 12 words, every fifth of them empty; their roots are at all places."""
    sources = [line if n % 5 else "" for n, line in enumerate(sentences(1))]
    trees = [conllu(s, n % len(s.split())) for n, s in enumerate(sources) if s]
    (tmp_path / "t.conllu").write_text("\n".join([*trees, ""]))
    return replace(write(tmp_path, sources, sentences(2)), trees=str(tmp_path / "t.conllu"))


def test_pairs_that_are_left_out_leave_the_trees_of_others_in_place(
    parsed: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    limits = {"max_length": 25, "max_ratio": 1.5}
    store = prepare([parsed], tokenizers, **limits, cache=cache)
    assert {reason.split()[0] for reason in store.left_out} == {
        "empty",
        "source",
        "target",
        "ratio",
    }
    rows = np.arange(len(store))
    trees = store.trees(rows)
    assert trees is not None
    for row, (source, _), tree in zip(rows, store.texts(rows), trees, strict=True):
        assert isinstance(source, Sentence)
        number = int(store.origin(row).rpartition(":")[2]) - 1
        assert source == sentences(1)[number]
        root = number % len(source.split())
        assert source.tree.heads == (root,) * len(source.split())
        assert tree.tolist() == token_trees([source], tokenizers.source)[0]
        beginning = [token for token, head in enumerate(tree.tolist()) if head >= 0]
        assert {int(tree[token]) for token in beginning} == {beginning[root]}
    plain = prepare([replace(parsed, trees=None)], tokenizers, **limits, cache=cache)
    assert all_rows(plain) == all_rows(store)
    assert plain.trees(rows) is None
    assert plain.texts(rows) == store.texts(rows)


def test_trees_of_some_corpora_alone_and_of_other_segmentations_are_let_go(
    parsed: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    without = replace(parsed, trees=None)
    mixed = prepare([parsed, without], tokenizers, **LIMITS, cache=cache)
    assert mixed.trees(np.arange(1)) is None
    assert all_rows(mixed) == all_rows(prepare([without] * 2, tokenizers, **LIMITS, cache=cache))
    store = prepare([parsed], tokenizers, **LIMITS, cache=cache)
    sampled = resample(store, tokenizers, 0.1, seed=1, epoch=0, cache=cache)
    rows = np.arange(len(store))
    assert sampled.trees(rows) is None
    assert sampled.texts(rows) == store.texts(rows)


def test_other_trees_are_another_store(
    parsed: CorpusConfig, tokenizers: Tokenizers, tmp_path: Path
) -> None:
    first = fingerprint([parsed], tokenizers, **LIMITS)
    without = replace(parsed, trees=None)
    names = [
        first,
        fingerprint([without], tokenizers, **LIMITS),
        fingerprint([without], tokenizers, **LIMITS, parser="spacy:en"),
        fingerprint([without], tokenizers, **LIMITS, parser="stanza:en"),
    ]
    trees = tmp_path / "t.conllu"
    trees.write_text(trees.read_text().replace("\t0\t_", "\t0\troot", 1))
    names.append(fingerprint([parsed], tokenizers, **LIMITS))
    assert len(set(names)) == len(names)


def test_a_batch_has_the_trees_of_its_sources_and_keeps_them_when_split(
    parsed: CorpusConfig, tokenizers: Tokenizers, cache: Path
) -> None:
    store = prepare([parsed], tokenizers, **LIMITS, cache=cache)
    batch = collate(store, np.arange(11), tokenizers.special)
    trees = store.trees(batch.rows)
    assert trees is not None
    for part in [batch, *batch.split(4)]:
        assert part.tree is not None
        assert part.tree.shape == part.source.shape
        for row, source, tree in zip(part.rows, part.source, part.tree, strict=True):
            expected = trees[row].tolist()
            assert source[len(expected)] == tokenizers.special.eos
            padding = [CONTINUES] * (len(source) - len(expected) - 1)
            assert tree.tolist() == [*expected, len(expected), *padding]
