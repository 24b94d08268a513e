"""From what was typed to the corpora and the recipe that it stands for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from babel import Locale

from calque.checkpoint import RunFolder
from calque.cli.options import TwoFiles
from calque.config import CalqueError, read_toml
from calque.fine_tuning import make_fine_tuning_recipe
from calque.recipe import (
    Recipe,
    apply_change,
    make_recipe,
    require_corpora,
    require_trainable,
)
from calque.text.corpus.languages import with_languages_of_corpora
from calque.text.data import CorpusConfig
from calque.text.files import expand, inner_suffix

LANGUAGES = frozenset(Locale("en").languages)
Splits = tuple[Sequence[CorpusConfig], Sequence[CorpusConfig], Sequence[CorpusConfig]]
"""Training, validation and test corpora."""


def two_files(files: TwoFiles, trees: Path | None = None) -> list[CorpusConfig]:
    """The corpus of a source and a target file; of None, no corpus."""
    if not files:
        return []
    source, target = map(str, files)
    return [CorpusConfig(source=source, target=target, trees=str(trees) if trees else None)]


def check_trees(trees: Path | None, *runs: Path) -> None:
    """Raise CalqueError if a run needs trees that are not given, or none needs those that are."""
    recipes = {run: RunFolder(run).recipe for run in runs}
    needing = [run for run, recipe in recipes.items() if recipe.model.needs_trees]
    without = [run for run in needing if not recipes[run].data.parser]
    if without and not trees:
        raise CalqueError(
            f"{without[0]}: its positions are structural: give the dependency trees of the source "
            "lines with --trees"
        )
    if trees and not needing:
        raise CalqueError(f"--trees {trees}: the positions of {runs[0]} look at no tree")


def corpora_to_check(
    source: Path,
    target: Path | None,
    names: tuple[str, str] | None,
    valid: TwoFiles,
    test: TwoFiles,
) -> Splits:
    """All corpora that are to be checked. Raises CalqueError for a file that is not there."""
    if source.suffix == ".toml":
        if target or names or valid or test:
            raise CalqueError(f"{source}: a recipe names all its files; leave out the others")
        recipe = make_recipe(read_toml(source), str(source))
        require_corpora(recipe, str(source))
        data = recipe.data
        splits = data.train, data.valid, data.test
    else:
        splits = [_corpus(source, target, names)], two_files(valid), two_files(test)
    for corpus in (corpus for split in splits for corpus in split):
        for patterns in [corpus.file] if corpus.file else [corpus.source, corpus.target]:
            expand(patterns)
    return splits


def described_recipe(
    path: Path | None,
    changes: list[str],
    train: TwoFiles,
    valid: TwoFiles,
    preset: str | None,
    start: RunFolder | None,
) -> Recipe | None:
    """The recipe in a file or of two pairs of files, with what else was given; None of nothing.

    `start` is the run whose weights training is to start from. Languages that neither names are
    those of the training corpora.
    """
    if path is None and train is None:
        if changes or valid or preset or start:
            raise CalqueError("--set, --valid, --preset and --from need RECIPE.toml or --train")
        return None
    if path is None and valid is None:
        raise CalqueError("--train needs --valid: two files to validate on")
    values = read_toml(path) if path else {}
    for key, files in (("train", train), ("valid", valid)):
        if files and isinstance(data := values.setdefault("data", {}), dict):
            data[key] = [str(file) for file in files]
    if train and not path and not start:
        values["data"] |= _languages(train)
    if preset:
        values["preset"] = preset
    for change in changes:
        apply_change(values, change)
    where = str(path or "command line")
    if start:
        recipe = make_fine_tuning_recipe(values, start.recipe, where)
    else:
        recipe = make_recipe(values, where)
    recipe = replace(recipe, data=with_languages_of_corpora(recipe.data))
    require_trainable(recipe, where, _languages_in(values.get("data", {}), start, where))
    return recipe


def _languages_in(data: dict[str, Any], start: RunFolder | None, where: str) -> str:
    """Where the languages stand that a recipe with this section has."""
    if data.keys() & {"source_language", "target_language"}:
        return where
    if start and start.recipe.data.source_language:
        return str(start.path)
    return f"{where}.data.train"


def _languages(files: tuple[Path, Path]) -> dict[str, str]:
    """The languages that the names of two files end in, such as a.en and a.de.gz."""
    found = {}
    for side, file in zip(("source", "target"), files, strict=True):
        code = inner_suffix(file)[1:]
        if code in LANGUAGES:
            found[f"{side}_language"] = code
    return found


def _corpus(source: Path, target: Path | None, names: tuple[str, str] | None) -> CorpusConfig:
    if target and not names:
        return CorpusConfig(source=str(source), target=str(target))
    if names and not target:
        return CorpusConfig(file=str(source), source=names[0], target=names[1])
    raise CalqueError(f"{source}: give either its TARGET, or --names if it is a file of pairs")
