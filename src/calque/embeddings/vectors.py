"""The file of `calque embed`: a vector for each piece of one vocabulary."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor

from calque.checkpoint import load_tensors
from calque.config import CalqueError
from calque.text.tokenizers.interface import Tokenizer
from calque.text.tokenizers.pair import Tokenizers
from calque.writing import whole_file


@dataclass(frozen=True)
class Vectors:
    """A vector for each piece of a vocabulary; zero for those that the text did not have."""

    matrix: Float[Tensor, "vocab d_model"]
    counts: Int[Tensor, " vocab"]
    """How often each piece occurred in the text."""
    side: str
    """The vocabulary's: joint, source or target."""
    algorithm: str
    """A name in ALGORITHMS of word2vec.py."""
    pieces: str
    """See `hash_of_pieces`."""

    @property
    def seen(self) -> Bool[Tensor, " vocab"]:
        """The pieces that have a vector."""
        return self.counts > 0

    def save(self, path: Path) -> None:
        """Write safetensors. Raises CalqueError when the file cannot be written."""
        tensors = {"vectors": self.matrix, "counts": self.counts}
        told = {"side": self.side, "algorithm": self.algorithm, "pieces": self.pieces}
        with whole_file(path) as part:
            part.write_bytes(safetensors.torch.save(tensors, told))


def load_vectors(path: Path) -> Vectors:
    """What `save` wrote. Raises CalqueError for another file, or a damaged one."""
    tensors = load_tensors(path)
    with safe_open(path, "pt") as file:
        told = file.metadata() or {}
    if tensors.keys() != {"vectors", "counts"} or told.keys() != {"side", "algorithm", "pieces"}:
        raise CalqueError(f"{path}: holds other things than the vectors of calque embed")
    matrix, counts = tensors["vectors"], tensors["counts"]
    if matrix.dim() != 2 or counts.shape != matrix.shape[:1] or not matrix.isfinite().all():
        raise CalqueError(f"{path}: damaged; not a finite vector for each piece")
    return Vectors(matrix, counts, **told)


def refuse_other_pieces(vectors: Vectors, tokenizers: Tokenizers, path: Path) -> None:
    """Raise CalqueError unless the vectors are of the vocabulary that their side now has."""
    tokenizer = sides(tokenizers).get(vectors.side)
    if tokenizer is None or vectors.pieces != hash_of_pieces(tokenizer):
        raise CalqueError(
            f"{path}: its vectors are of another tokenizer's pieces ({vectors.side} vocabulary); "
            "learn them anew with calque embed and this recipe"
        )


def hash_of_pieces(tokenizer: Tokenizer) -> str:
    """SHA-256 of all pieces in the order of their ids: what each row of a matrix stands for."""
    pieces = tokenizer.pieces(list(range(tokenizer.vocab_size)))
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()


def sides(tokenizers: Tokenizers) -> dict[str, Tokenizer]:
    """The vocabularies by name: joint, or source and target."""
    if tokenizers.source is tokenizers.target:
        return {"joint": tokenizers.source}
    return {"source": tokenizers.source, "target": tokenizers.target}
