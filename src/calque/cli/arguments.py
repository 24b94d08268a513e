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


def one_corpus(
    source: Path, target: Path | None, names: tuple[str, str] | None, trees: Path | None = None
) -> CorpusConfig:
    """The corpus of two plain files, or of a file of pairs and the names of its sides.

    Raises CalqueError where neither or both are given.
    """
    beside = str(trees) if trees else None
    if target and not names:
        return CorpusConfig(source=str(source), target=str(target), trees=beside)
    if names and not target:
        return CorpusConfig(file=str(source), source=names[0], target=names[1], trees=beside)
    raise CalqueError(
        f"{source}: give either a second file, of its targets, or --names if it is a file of pairs"
    )


def two_files(files: TwoFiles) -> list[CorpusConfig]:
    """The corpus of a source and a target file; of None, no corpus."""
    return [one_corpus(*files, names=None)] if files else []


def check_trees(trees: Path | None, *runs: RunFolder) -> None:
    """Raise CalqueError if a run needs trees that are not given, or none needs those that are."""
    needing = [run for run in runs if run.recipe.model.needs_trees]
    without = [run for run in needing if not run.recipe.data.parser]
    if without and not trees:
        raise CalqueError(
            f"{without[0].path}: its positions are structural: give the dependency trees of the "
            "source lines with --trees"
        )
    if trees and not needing:
        raise CalqueError(f"--trees {trees}: the positions of {runs[0].path} look at no tree")


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
        splits = [one_corpus(source, target, names)], two_files(valid), two_files(test)
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
    values = _read_recipe(path) if path else {}
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


def _read_recipe(path: Path) -> dict[str, Any]:
    # A forgotten TARGET makes the next option a file, and what was meant for that the recipe.
    if path.is_file() and path.suffix != ".toml":
        raise CalqueError(
            f"{path}: is no recipe, whose name ends in .toml; --train and --valid each take two "
            "files, SOURCE and TARGET, and a file of pairs stands in a recipe, as `file =`"
        )
    return read_toml(path)


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
