"""`calque embed`: what is asked for, and the calls."""

# ruff: noqa: PLC0415
# PyTorch and gensim take seconds to import.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from calque.config import CalqueError, choose, read_toml

if TYPE_CHECKING:
    from calque.embeddings.nearest import Answer
    from calque.embeddings.vectors import Vectors
    from calque.recipe import Recipe
    from calque.text.tokenizers.interface import Tokenizer

SHOWN = 10
"""Frequent pieces whose neighbours are printed."""

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE.toml", help="Whose tokenizer, width and seed to take.")
]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT...", help="Plain text of one or more files, .gz .xz .zst too."),
]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="The file of vectors to write.")
]
Algorithm = Annotated[
    str | None,
    typer.Option("--algorithm", metavar="NAME", help="cbow or skip_gram.  [default: skip_gram]"),
]
Side = Annotated[
    str | None,
    typer.Option("--side", metavar="SIDE", help="source or target, if each has a vocabulary."),
]
VectorsFile = Annotated[
    Path | None, typer.Option("--vectors", metavar="FILE", help="Ask about vectors that there are.")
]
Near = Annotated[
    str | None, typer.Option("--near", metavar="WORD", help="Print the pieces nearest to a word.")
]
Analogy = Annotated[
    tuple[str, str, str] | None,
    typer.Option("--analogy", metavar="A B C", help="Print what C is to as A is to B."),
]


def embed(
    recipe: RecipeFile,
    texts: Texts = None,
    file: OutFile = None,
    algorithm: Algorithm = None,
    side: Side = None,
    vectors: VectorsFile = None,
    near: Near = None,
    analogy: Analogy = None,
) -> None:
    """Learn vectors of a recipe's pieces from text alone, by word2vec, to start embeddings from.

    Then prints which pieces are nearest to some frequent ones, by cosine.

    \b
    calque embed recipe.toml mono.en mono.de --out vectors.safetensors
    calque embed recipe.toml --vectors vectors.safetensors --near dog
    calque embed recipe.toml --vectors vectors.safetensors --analogy man men dog
    """
    from calque.recipe import make_recipe, require_corpora

    of = make_recipe(read_toml(recipe), str(recipe))
    require_corpora(of, str(recipe))
    if vectors and (texts or file or algorithm or side):
        raise CalqueError(
            "--vectors names a file that there is; leave out TEXT, --out, --algorithm and --side"
        )
    errors = Console(stderr=True)
    if vectors:
        known, tokenizer = _load(of, vectors, errors)
    elif texts and file:
        known, tokenizer = _learn(of, texts, file, algorithm or "skip_gram", side, errors)
    else:
        raise CalqueError("give TEXT to learn from and --out FILE, or --vectors FILE to ask about")
    _answer(known, tokenizer, near, analogy, frequent=bool(texts) or not (near or analogy))


def _learn(
    recipe: "Recipe",
    texts: list[str],
    file: Path,
    algorithm: str,
    side: str | None,
    errors: Console,
) -> tuple["Vectors", "Tokenizer"]:
    from calque.embeddings.vectors import sides
    from calque.embeddings.word2vec import ALGORITHMS, learn_vectors
    from calque.text.corpus import refuse_pairs
    from calque.text.files import expand
    from calque.training.preparation import learn_tokenizers

    # What can be known to be wrong is told before the work, not after it.
    name = _side(recipe, side)
    choose("--algorithm", algorithm, ALGORITHMS)
    for text in expand(tuple(texts)):
        refuse_pairs(text, "embed takes one sequence per line")
    if file.is_dir() or not file.parent.is_dir():
        raise CalqueError(f"--out {file}: no file can be made there")
    tokenizer = sides(learn_tokenizers(recipe, errors))[name]
    vectors = learn_vectors(recipe, tokenizer, name, texts, algorithm, errors)
    vectors.save(file)
    errors.print(
        f"{file}: {int(vectors.seen.sum()):,} of {tokenizer.vocab_size:,} pieces of the vocabulary "
        f"occur in the text and have a vector of {recipe.model.d_model} numbers",
        highlight=False,
        soft_wrap=True,
    )
    return vectors, tokenizer


def _side(recipe: "Recipe", side: str | None) -> str:
    """Which of the recipe's vocabularies is meant."""
    if recipe.tokenizer.vocabulary == "joint":
        if side is not None:
            raise CalqueError(
                f"--side {side}: the recipe has one vocabulary for both sides; leave it out"
            )
        return "joint"
    if side is None:
        raise CalqueError(
            "--side is missing: source or target; the recipe has a vocabulary of each"
        )
    return choose("--side", side, {name: name for name in ("source", "target")})


def _load(recipe: "Recipe", file: Path, errors: Console) -> tuple["Vectors", "Tokenizer"]:
    from calque.embeddings.vectors import load_vectors, refuse_other_pieces, sides
    from calque.training.preparation import learn_tokenizers

    vectors = load_vectors(file)
    tokenizers = learn_tokenizers(recipe, errors)
    refuse_other_pieces(vectors, tokenizers, file)
    return vectors, sides(tokenizers)[vectors.side]


def _answer(
    vectors: "Vectors",
    tokenizer: "Tokenizer",
    near: str | None,
    analogy: tuple[str, str, str] | None,
    frequent: bool,
) -> None:
    from calque.embeddings.nearest import Neighbourhood

    asked = Neighbourhood(vectors, tokenizer)
    answers = asked.of_frequent(SHOWN) if frequent else {}
    if near:
        pieces = asked.pieces(near)
        cut = f" ({' '.join(pieces)})" if len(pieces) > 1 else ""
        answers[near + cut] = asked.near(near)
    if analogy:
        first, second, third = analogy
        answers[f"{first} is to {second} as {third} to"] = asked.analogy(first, second, third)
    for question, answer in answers.items():
        print(f"{question}: {_line(answer)}")


def _line(answer: "Answer") -> str:
    return " · ".join(f"{piece} {cosine:.2f}" for piece, cosine in answer)
