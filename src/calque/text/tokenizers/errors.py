"""What every tokenizer says when a corpus does not give the vocabulary that was asked for."""

from calque.config import CalqueError


def vocab_size_error(asked: int, possible: int) -> CalqueError:
    """The error for a `vocab_size` of `asked`, where `possible` is the nearest that would do."""
    size, bound = ("large", "at most") if asked > possible else ("small", "at least")
    return CalqueError(
        f"tokenizer.vocab_size: {asked} is too {size} for this corpus; choose {bound} {possible}"
    )


def empty_corpus_error() -> CalqueError:
    """The error for a corpus without a single character of text."""
    return CalqueError("tokenizer: the training corpus has no text to learn a vocabulary from")
