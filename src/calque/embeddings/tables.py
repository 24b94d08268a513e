"""From files of vectors to the embedding tables that a training starts from."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from calque.checkpoint import new_model
from calque.config import CalqueError
from calque.embeddings.vectors import Vectors, load_vectors, refuse_other_pieces
from calque.models.build import Model
from calque.recipe import Recipe
from calque.text.tokenizers.pair import Tokenizers

TABLES = {"joint": "table", "source": "source_table", "target": "target_table"}
"""What each side's table is called, whatever the family."""


def read_vectors(recipe: Recipe) -> dict[str, Vectors]:
    """The files that the recipe's training is to start from.

    Raises CalqueError for one that is missing or damaged, whose vectors are not as wide as the
    model, or that are of a side which the recipe does not have, or of that of another one.
    """
    found = {file: load_vectors(Path(file)) for file in recipe.training.vector_files}
    wanted = {"joint"} if recipe.tokenizer.vocabulary == "joint" else {"source", "target"}
    width = recipe.model.d_model
    for file, vectors in found.items():
        if vectors.side not in wanted:
            raise CalqueError(
                f"{file}: its vectors are of a {vectors.side} vocabulary, and the recipe's is "
                f"{recipe.tokenizer.vocabulary}"
            )
        if vectors.matrix.size(1) != width:
            raise CalqueError(
                f"{file}: its vectors have a width of {vectors.matrix.size(1)}, and the recipe's "
                f"model.d_model is {width}"
            )
    if len({vectors.side for vectors in found.values()}) < len(recipe.training.vector_files):
        raise CalqueError(f"{', '.join(recipe.training.vector_files)}: are all of one side")
    return found


def initial_weights(
    recipe: Recipe, tokenizers: Tokenizers, found: dict[str, Vectors]
) -> dict[str, Tensor]:
    """The weights that the recipe's seed draws, with the vectors in the embedding tables.

    Raises CalqueError for a file whose vectors are of another tokenizer's pieces.
    """
    for file, vectors in found.items():
        refuse_other_pieces(vectors, tokenizers, Path(file))
    torch.manual_seed(recipe.training.seed)
    model = new_model(recipe, tokenizers)
    for vectors in found.values():
        fill(_table(model, vectors.side), vectors)
    return model.state_dict()


@torch.no_grad()
def fill(table: nn.Embedding, vectors: Vectors) -> None:
    """Put vectors into a freshly drawn table, with the standard deviation that it has.

    All are multiplied by one number. Of the pieces without a vector the rows stay as drawn.
    """
    seen = vectors.seen
    known = vectors.matrix[seen]
    table.weight[seen] = known * (table.weight.std() / known.std())


def freeze(model: Model, of_sides: Iterable[str]) -> None:
    """Take some sides' tables out of training; where one predicts the output, that too is fixed."""
    for side in of_sides:
        _table(model, side).requires_grad_(False)


def _table(model: Model, side: str) -> nn.Embedding:
    table = model.embedding.get_submodule(TABLES[side])
    assert isinstance(table, nn.Embedding)
    return table
