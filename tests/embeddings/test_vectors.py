"""The file of vectors: what was written comes back, and what is something else is named."""

import pytest
import torch
from safetensors.torch import save_file

from calque.config import CalqueError
from calque.embeddings.vectors import (
    Vectors,
    hash_of_pieces,
    load_vectors,
    refuse_other_pieces,
    sides,
)
from calque.text.tokenizers.frequent import Words
from calque.text.tokenizers.pair import Tokenizers

ENGLISH = Words.train(["the dog sees the cat"], vocab_size=8)
GERMAN = Words.train(["der Hund sieht die Katze"], vocab_size=8)


def made(side="source", tokenizer=ENGLISH):
    counts = torch.tensor([0, 0, 0, 0, 2, 1, 1, 1])
    matrix = torch.randn(8, 6) * (counts > 0)[:, None]
    return Vectors(matrix, counts, side, "cbow", hash_of_pieces(tokenizer))


def test_what_is_saved_comes_back(tmp_path):
    vectors = made()
    vectors.save(tmp_path / "v.safetensors")
    loaded = load_vectors(tmp_path / "v.safetensors")
    assert torch.equal(loaded.matrix, vectors.matrix)
    assert torch.equal(loaded.counts, vectors.counts)
    told = (vectors.side, vectors.algorithm, vectors.pieces)
    assert (loaded.side, loaded.algorithm, loaded.pieces) == told
    assert loaded.seen.tolist() == [False] * 4 + [True] * 4


def test_another_file_is_named(tmp_path):
    file = tmp_path / "v.safetensors"
    with pytest.raises(CalqueError, match=r"v\.safetensors: missing"):
        load_vectors(file)
    save_file({"vectors": torch.ones(2, 2)}, file)
    with pytest.raises(CalqueError, match=r"v\.safetensors: holds other things"):
        load_vectors(file)
    save_file({"vectors": torch.ones(2, 2), "counts": torch.ones(2)}, file)
    with pytest.raises(CalqueError, match=r"v\.safetensors: holds other things"):
        load_vectors(file)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_that_was_cut_off_is_named(length, tmp_path):
    file = tmp_path / "v.safetensors"
    made().save(file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CalqueError, match=r"v\.safetensors: not a whole safetensors file"):
        load_vectors(file)


@pytest.mark.parametrize("matrix", [torch.full((8, 6), torch.nan), torch.ones(7, 6), torch.ones(8)])
def test_vectors_that_cannot_be_are_refused(matrix, tmp_path):
    file = tmp_path / "v.safetensors"
    told = {"side": "joint", "algorithm": "cbow", "pieces": ""}
    save_file({"vectors": matrix, "counts": torch.ones(8, dtype=torch.int64)}, file, told)
    with pytest.raises(CalqueError, match=r"v\.safetensors: damaged"):
        load_vectors(file)


def test_only_the_same_pieces_in_the_same_order_will_do(tmp_path):
    both = Tokenizers(ENGLISH, GERMAN)
    refuse_other_pieces(made(), both, tmp_path)
    refuse_other_pieces(made("target", GERMAN), both, tmp_path)
    refuse_other_pieces(made("joint"), Tokenizers(ENGLISH, ENGLISH), tmp_path)
    turned = Words(list(reversed(ENGLISH.pieces(list(range(4, 8))))))
    for vectors, tokenizers in (
        (made("target"), both),
        (made("joint"), both),
        (made(), Tokenizers(ENGLISH, ENGLISH)),
        (made(), Tokenizers(turned, GERMAN)),
    ):
        with pytest.raises(CalqueError, match="another tokenizer"):
            refuse_other_pieces(vectors, tokenizers, tmp_path)


def test_sides_are_one_or_two():
    assert sides(Tokenizers(ENGLISH, ENGLISH)) == {"joint": ENGLISH}
    assert sides(Tokenizers(ENGLISH, GERMAN)) == {"source": ENGLISH, "target": GERMAN}
