"""Marian's tokenizers in Hugging Face format: two SentencePiece models, and ids from vocab.json.

The ids of a SentencePiece model are the places of its pieces. So on the way in, its pieces are put
where vocab.json wants them, and what comes out is a SentencePiece model like any other.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from calque.config import CalqueError
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import UNKNOWN, SpecialIds, Tokenizer, TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers

SOURCE_MODEL, TARGET_MODEL = "source.spm", "target.spm"
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
UNKNOWN_PIECE = "<unk>"

# Untyped: protobuf makes these classes when it is imported.
_PROTO: Any = sentencepiece_model_pb2
_PIECE: Any = _PROTO.ModelProto.SentencePiece
KINDS: dict[int, str] = {_PROTO.TrainerSpec.BPE: "bpe", _PROTO.TrainerSpec.UNIGRAM: "unigram"}
"""Our name of a SentencePiece model's algorithm."""


@dataclass(frozen=True)
class Imported:
    """Tokenizers, what a recipe says of them, and what the user should know."""

    tokenizers: Tokenizers
    config: TokenizerConfig
    notes: list[str]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CalqueError when the file is missing or something else."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CalqueError(f"{path}: there is no such file") from None
    except ValueError:
        raise CalqueError(f"{path}: not JSON, or damaged") from None
    if not isinstance(values, dict):
        raise CalqueError(f"{path}: expected a JSON object")
    return values


def read_tokenizers(
    folder: Path, sizes: tuple[int, int], shared: bool, special: SpecialIds
) -> Imported:
    """The tokenizers of a model with so many source and target ids.

    `shared`: one vocabulary for both languages. `special` is what the model takes for padding,
    begin and end. Raises CalqueError for files that are missing or damaged, or do not fit together.
    """
    names = VOCABULARY, VOCABULARY if shared else TARGET_VOCABULARY
    models = SOURCE_MODEL, TARGET_MODEL
    source, target = (
        _align(folder / model, folder / name, size, special)
        for model, name, size in zip(models, names, sizes, strict=True)
    )
    if source.kind != target.kind or source.tokenizer.special != target.tokenizer.special:
        raise CalqueError(
            f"{folder}: {SOURCE_MODEL} is {source.kind} with {source.tokenizer.special}, "
            f"{TARGET_MODEL} {target.kind} with {target.tokenizer.special}; expected the same"
        )
    alike = shared and source.model == target.model
    vocabulary = "separate" if not shared else "joint" if alike else "shared"
    return Imported(
        Tokenizers(source.tokenizer, source.tokenizer if alike else target.tokenizer),
        TokenizerConfig(kind=source.kind, vocab_size=max(sizes), vocabulary=vocabulary),
        [
            f"{name}: {len(side.lost)} of its pieces are not in {vocabulary}; text that has them "
            f"is cut into smaller ones (Marian reads {UNKNOWN_PIECE})"
            for name, side, vocabulary in zip(models, (source, target), names, strict=True)
            if side.lost
        ],
    )


@dataclass(frozen=True)
class _Aligned:
    """A SentencePiece model in which the place of a piece is its id in a vocabulary."""

    kind: str
    model: bytes
    tokenizer: Tokenizer
    lost: list[str]
    """Pieces that are not in the vocabulary."""


def _align(path: Path, vocabulary: Path, size: int, special: SpecialIds) -> _Aligned:
    proto = _read_proto(path)
    texts = _read_vocabulary(vocabulary, size, special)
    known = {piece.piece: piece for piece in proto.pieces}
    pieces = [known.get(text) or _PIECE(piece=text, type=_PIECE.UNUSED) for text in texts]
    used = {text for text, piece in known.items() if piece.type == _PIECE.NORMAL}
    lost = sorted(used - set(texts))
    kind = _kind(proto, path)
    if kind == "bpe" and (lost or _merges_meet(set(texts) - known.keys(), set(texts))):
        raise CalqueError(
            f"{path}: BPE with other pieces than {vocabulary.name} has; possible: the same, or "
            "unigram"
        )
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    _mark_special(proto, replace(special, unk=texts.index(UNKNOWN_PIECE)))
    model = proto.SerializeToString(deterministic=True)
    make: Any = TOKENIZERS[kind]
    try:
        return _Aligned(kind, model, make(model), lost)
    except RuntimeError as error:
        raise CalqueError(f"{path}: does not fit {vocabulary.name}: {error}") from None


def _read_proto(path: Path) -> Any:
    proto = _PROTO.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        raise CalqueError(f"{path}: there is no such file") from None
    except DecodeError:
        proto.Clear()
    if not proto.pieces:
        raise CalqueError(f"{path}: not a SentencePiece model, or damaged")
    return proto


def _read_vocabulary(path: Path, size: int, special: SpecialIds) -> list[str]:
    """The piece of each id; an id without one has a name that is in no text."""
    ids = read_json(path)
    texts = [f"<id {i}>" for i in range(size)]  # a space: segmentation never sees one
    for text, i in ids.items():
        if not isinstance(i, int) or not 0 <= i < size:
            raise CalqueError(f"{path}: {text!r}: expected an id from 0 to {size - 1}, not {i!r}")
        if text:
            texts[i] = text
    if len(set(ids.values())) < len(ids):
        raise CalqueError(f"{path}: an id occurs twice")
    if UNKNOWN_PIECE not in ids:
        raise CalqueError(f"{path}: has no entry {UNKNOWN_PIECE}")
    for text, i in (("<pad>", special.pad), ("</s>", special.eos)):
        if ids.get(text) != i:
            raise CalqueError(
                f"{path}: {text} is {ids.get(text, 'absent')}, but the model takes {i} for it"
            )
    return texts


def _kind(proto: Any, path: Path) -> str:
    algorithm = proto.trainer_spec.model_type
    if algorithm not in KINDS:
        name = _PROTO.TrainerSpec.ModelType.Name(algorithm).lower()
        raise CalqueError(f"{path}: model_type {name!r}; possible: {', '.join(KINDS.values())}")
    return KINDS[algorithm]


def _merges_meet(others: set[str], texts: set[str]) -> bool:
    """Whether BPE, which goes from piece to piece, could come upon any of `others` on its way."""
    return any(
        all(len(half) == 1 or half in texts for half in (text[:i], text[i:]))
        for text in others
        for i in range(1, len(text))
    )


def _mark_special(proto: Any, ids: SpecialIds) -> None:
    """Tell SentencePiece which pieces have a meaning, by id and by name."""
    for piece in proto.pieces:
        if piece.type == _PIECE.UNKNOWN:
            piece.type = _PIECE.UNUSED
    for i in (ids.pad, ids.bos, ids.eos):
        proto.pieces[i].type = _PIECE.CONTROL
    proto.pieces[ids.unk].type = _PIECE.UNKNOWN
    spec = proto.trainer_spec
    spec.pad_id, spec.unk_id, spec.bos_id, spec.eos_id = ids.pad, ids.unk, ids.bos, ids.eos
    spec.pad_piece, spec.unk_piece, spec.bos_piece, spec.eos_piece = (
        proto.pieces[i].piece for i in (ids.pad, ids.unk, ids.bos, ids.eos)
    )
    spec.vocab_size, spec.unk_surface = len(proto.pieces), UNKNOWN


def write_tokenizers(folder: Path, tokenizers: Tokenizers, config: TokenizerConfig) -> None:
    """The files that MarianTokenizer reads, all but tokenizer_config.json.

    Raises CalqueError for a kind of tokenizer that Marian does not have.
    """
    if config.kind not in KINDS.values():
        raise CalqueError(
            f"tokenizer.kind {config.kind}: Hugging Face's Marian has none such; it has: "
            f"{', '.join(KINDS.values())}"
        )
    sides = {SOURCE_MODEL: tokenizers.source, TARGET_MODEL: tokenizers.target}
    for name, tokenizer in sides.items():
        tokenizer.save(folder / name)
    vocabularies = {VOCABULARY: tokenizers.source}
    if config.vocabulary == "separate":
        vocabularies[TARGET_VOCABULARY] = tokenizers.target
    for name, tokenizer in vocabularies.items():
        ids = {piece: i for i, piece in enumerate(tokenizer.pieces(range(tokenizer.vocab_size)))}
        (folder / name).write_text(json.dumps(ids, ensure_ascii=False, indent=2), "utf-8")


def tokenizer_settings(
    tokenizers: Tokenizers, config: TokenizerConfig, languages: tuple[str | None, str | None]
) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    special = tokenizers.special
    pad, unknown, end = tokenizers.target.pieces([special.pad, special.unk, special.eos])
    return {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": languages[0],
        "target_lang": languages[1],
        "separate_vocabs": config.vocabulary == "separate",
        "pad_token": pad,
        "unk_token": unknown,
        "eos_token": end,
        "clean_up_tokenization_spaces": False,
    }
