"""Vectors by gensim: the same from the same text, of every piece and of no other."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from rich.console import Console

from calque.config import CalqueError
from calque.demo.grammar import write_corpus
from calque.embeddings.word2vec import ALGORITHMS, LONGEST, MOST_PASSES, PASSES, learn_vectors
from calque.embeddings.word2vec import passes_over as passes
from calque.recipe import make_recipe
from calque.text.tokenizers.frequent import Words

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    write_corpus(path, seed=1, train=300, valid=1, test=1)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Words.train((folder / "train.en").read_text().splitlines(), vocab_size=200)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120)


def recipe(seed=1, d_model=16):
    return make_recipe({"model": {"d_model": d_model}, "training": {"seed": seed}}, "recipe")


@pytest.fixture
def learn(folder, tokenizer, console):
    def learn(*texts, tokenizer=tokenizer, algorithm="cbow", **keys):
        files = [str(folder / text) for text in texts or ["train.en"]]
        return learn_vectors(recipe(**keys), tokenizer, "source", files, algorithm, console)

    return learn


@each_algorithm
def test_the_same_text_and_seed_give_the_same_vectors(algorithm, learn):
    one, same = (learn(algorithm=algorithm, seed=2**40) for _ in range(2))
    assert torch.equal(one.matrix, same.matrix)
    assert (one.side, one.algorithm) == ("source", algorithm)
    assert not torch.equal(one.matrix, learn(algorithm=algorithm, seed=3).matrix)


def test_the_algorithms_differ(learn):
    one, other = (learn(algorithm=algorithm).matrix for algorithm in ALGORITHMS)
    assert not torch.equal(one, other)


SCRIPT = """
import hashlib, sys
from pathlib import Path
from rich.console import Console
from calque.embeddings.word2vec import learn_vectors
from calque.recipe import make_recipe
from calque.text.tokenizers.frequent import Words
recipe = make_recipe({"model": {"d_model": 16}}, "recipe")
tokenizer = Words.load(Path(sys.argv[2]))
texts, quiet = [sys.argv[1]], Console(quiet=True)
vectors = learn_vectors(recipe, tokenizer, "source", texts, "skip_gram", quiet)
print(hashlib.sha256(vectors.matrix.numpy().tobytes()).hexdigest())
"""


def test_another_process_gives_them_too_however_it_hashes(folder, tokenizer, learn, tmp_path):
    tokenizer.save(tmp_path / "words.json")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder / "train.en", tmp_path / "words.json"],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )
    matrix = learn(algorithm="skip_gram").matrix
    assert result.stdout.strip() == hashlib.sha256(matrix.numpy().tobytes()).hexdigest()


def test_pieces_are_counted_and_what_occurs_has_a_vector(folder, tokenizer, learn):
    lines = (folder / "train.de").read_text().splitlines()
    counts = Counter(i for row in tokenizer.encode(lines) for i in row)
    vectors = learn("train.de", d_model=8)
    assert vectors.matrix.shape == (tokenizer.vocab_size, 8)
    assert {i: n for i, n in enumerate(vectors.counts.tolist()) if n} == counts
    assert 1 < len(counts) < tokenizer.vocab_size  # of English words, few are German ones
    assert (vectors.matrix.abs().sum(dim=1) > 0).tolist() == vectors.seen.tolist()


def test_files_may_be_compressed_and_many(folder, learn):
    lines = (folder / "train.en").read_bytes().splitlines(keepends=True)
    (folder / "part-1.txt").write_bytes(b"".join(lines[:100]))
    with gzip.open(folder / "part-2.txt.gz", "wb") as stream:
        stream.write(b"".join(lines[100:]).replace(b"\n", b"\r\n"))
    assert torch.equal(learn("part-*").matrix, learn("train.en").matrix)
    assert torch.equal(learn("part-1.txt", "part-2.txt.gz").matrix, learn("train.en").matrix)


def test_nothing_of_a_long_line_is_left_out(folder, tokenizer, learn):
    (folder / "long.txt").write_text("the dog " * LONGEST + "house\u2028garden\n\n \n")
    vectors = learn("long.txt")
    assert vectors.counts.sum() == 2 * LONGEST + 2
    assert vectors.matrix[tokenizer.encode(["dog"])[0]].any()


def test_a_line_of_one_piece_will_do(folder, learn):
    (folder / "short.txt").write_text("dog\n")
    assert learn("short.txt").matrix.isfinite().all()


def test_short_texts_are_read_more_often():
    assert (passes(1), passes(10**9)) == (MOST_PASSES, PASSES)
    numbers = [passes(10**n) for n in range(10)]
    assert numbers == sorted(numbers, reverse=True)


class Interrupted(Words):
    """Cannot go on in the second pass."""

    calls = 0

    def encode(self, lines):
        self.calls += 1
        if self.calls > 1:
            raise CalqueError("the file has gone")
        return super().encode(lines)


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (b"\n \n", {}, "text.txt: no text in it"),
        (b"caf\xe9\n", {}, r"text.txt:1: not UTF-8"),
        (b"dog\n", {"algorithm": "skipgram"}, "--algorithm: no 'skipgram'; did you mean 'skip_gr"),
        (b"dog cat\n", {"tokenizer": Interrupted(["dog", "cat"])}, "the file has gone"),
    ],
)
def test_what_cannot_be_is_an_error(content, changes, message, folder, learn):
    (folder / "text.txt").write_bytes(content)
    with pytest.raises(CalqueError, match=message):
        learn("text.txt", **changes)


def test_a_missing_gensim_is_told_with_its_remedy(learn, monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models.word2vec", None)
    with pytest.raises(CalqueError, match=r"pip install 'calque\[embeddings\]'"):
        learn()


def test_progress_is_shown_on_a_terminal_alone(folder, tokenizer, console):
    terminal = Console(file=io.StringIO(), width=120, force_terminal=True)
    for shown in (console, terminal):
        files = [str(folder / "train.en")]
        learn_vectors(recipe(), tokenizer, "source", files, "cbow", shown)
    plain, drawn = (shown.file.getvalue() for shown in (console, terminal))
    assert plain.splitlines()[0] == "counting the pieces"
    assert plain.splitlines()[1].startswith("cbow, 20 passes over ")
    assert "\x1b[" in drawn
    assert "\x1b[" not in plain
