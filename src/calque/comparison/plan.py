"""What a comparison is: compare.toml, and the recipes that it stands for."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from calque.checkpoint import RunFolder
from calque.comparison.measures import MEASURES
from calque.config import CalqueError, choose, parse, read_toml
from calque.models.build import FAMILIES
from calque.recipe import Positive, Recipe, differences, make_recipe, require_trainable
from calque.text.data import CorpusConfig, DataConfig
from calque.text.files import expand
from calque.writing import whole_file

Sections = dict[str, dict[str, Any]]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
OF_THE_COMPARISON = ("seed", "max_steps", "max_minutes")
"""Keys of `training` that are the same for all: from `seeds` and `budget`."""
OF_EVERY_FAMILY = set.intersection(*({f.name for f in fields(x.config)} for x in FAMILIES.values()))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long each training is; with both limits, up to the first that is reached."""

    steps: Positive | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("give steps, or minutes, or both")


@dataclass(frozen=True, kw_only=True)
class QuickConfig:
    """What `--quick` has instead: a run-through whose numbers mean nothing."""

    budget: Budget
    seeds: Seeds = (1,)
    recipe: Sections = field(default_factory=dict)
    """Keys of the base that are others then; changes still come after them."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The content of compare.toml."""

    base: dict[str, Any]
    """A recipe, or in the file the name of one beside it."""
    changes: Annotated[dict[str, Sections], Field(min_length=1)]
    """By name, what is different from the base: sections of a recipe."""
    budget: Budget
    seeds: Seeds = (1, 2, 3)
    base_name: str = "base"
    measures: tuple[str, ...] = ()
    """Names in MEASURES: what to measure besides."""
    quick: QuickConfig | None = None


@dataclass(frozen=True)
class Run:
    """One training of a comparison."""

    row: str
    seed: int
    recipe: Recipe
    folder: Path
    """Its run folder; recipe, log and facts lie beside."""

    def beside(self, ending: str) -> Path:
        """A file of this run that is not in its folder."""
        return self.folder.with_name(f"{self.folder.name}.{ending}")

    @property
    def facts(self) -> dict[str, Any]:
        """What was found out about the run, and need not be again."""
        file = self.beside("json")
        return json.loads(file.read_bytes()) if file.exists() else {}

    def record(self, **facts: Any) -> None:
        """Add to the facts."""
        everything = self.facts | facts
        with whole_file(self.beside("json")) as part:
            part.write_text(json.dumps(everything, ensure_ascii=False), encoding="utf-8")

    @property
    def finished(self) -> bool:
        """Whether it has been trained to its end.

        Raises CalqueError when its folder is damaged, or holds what another recipe made.
        """
        if not self.folder.exists():
            return False
        held = RunFolder(self.folder)
        if changed := differences(held.recipe, self.recipe):
            raise CalqueError(
                f"{self.folder}: was begun with another recipe, which differs in "
                f"{', '.join(changed)}; remove it, or train into other folders by --runs"
            )
        return held.finished


@dataclass(frozen=True)
class Plan:
    """All that a comparison will train and measure."""

    name: str
    rows: tuple[str, ...]
    """Names of the base and of the changes, in this order."""
    runs: tuple[Run, ...]
    measures: tuple[str, ...]
    folder: Path
    """Of the runs."""
    budget: Budget

    @property
    def recipe(self) -> Recipe:
        """One of the base's, whose test set and languages are those of all."""
        return self.runs[0].recipe

    @property
    def test(self) -> tuple[CorpusConfig, ...]:
        """What translations are scored on; validation data where there are no test data."""
        return test_set(self.recipe.data)


def make_plan(file: Path, runs: Path, quick: bool = False) -> Plan:
    """Read compare.toml and make every recipe that it stands for; run folders go into `runs`.

    Raises CalqueError for what is wrong in the file or in any of the recipes, which it names, and
    for corpora that are not there.
    """
    where = str(file)
    config = _read(file)
    for name in config.measures:
        choose(f"{where}.measures", name, MEASURES)
    base, budget, seeds = config.base, config.budget, config.seeds
    if quick:
        if config.quick is None:
            raise CalqueError(f"{where}: has no [quick] table, which says what --quick is")
        base = _merged(base, config.quick.recipe)
        budget, seeds = config.quick.budget, config.quick.seeds
    name = comparison_name(file) + ("-quick" if quick else "")
    recipes = _recipes(base, config, where)
    _refuse_different_tests(recipes, where)
    made = tuple(
        Run(row, seed, _with_budget(values, budget, seed, f"{where}: {row!r}"), folder)
        for row, values in recipes.items()
        for seed in seeds
        for folder in [runs / name / slug(row) / f"seed-{seed}"]
    )
    return Plan(name, tuple(recipes), made, config.measures, runs / name, budget)


def comparison_name(file: Path) -> str:
    """That of the folder of a compare.toml; of another file, its own too."""
    folder = file.resolve().parent.name
    return folder if file.stem == "compare" else f"{folder}-{file.stem}"


def slug(name: str) -> str:
    """A name as that of a folder."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.").lower()


def test_set(data: DataConfig) -> tuple[CorpusConfig, ...]:
    """The test data of a recipe; those for validation where there are none."""
    return data.test or data.valid


def _read(file: Path) -> CompareConfig:
    values = read_toml(file)
    if isinstance(base := values.get("base"), str):
        values["base"] = read_toml(file.parent / base)
    config = parse(CompareConfig, values, str(file))
    names = [config.base_name, *config.changes]
    folders = [slug(name) for name in names]
    for name, folder in zip(names, folders, strict=True):
        if not folder or folders.count(folder) > 1:
            raise CalqueError(f"{file}: {name!r}: its folder {folder!r} is not its own; rename it")
    for where, seeds in ((f"{file}.seeds", config.seeds), _quick_seeds(file, config.quick)):
        if len(set(seeds)) < len(seeds):
            raise CalqueError(f"{where}: the same seed twice")
    return config


def _quick_seeds(file: Path, quick: QuickConfig | None) -> tuple[str, tuple[int, ...]]:
    return f"{file}.quick.seeds", quick.seeds if quick else ()


def _recipes(base: Mapping[str, Any], config: CompareConfig, where: str) -> dict[str, Any]:
    """Of each row the values that its recipe is made from, without the budget."""
    recipe = make_recipe(base, f"{where}: {config.base_name!r}")
    found: dict[str, Any] = {config.base_name: base}
    for name, change in config.changes.items():
        for key in change.get("training", {}):
            if key in OF_THE_COMPARISON:
                raise CalqueError(
                    f"{where}: {name!r}.training.{key}: is the same for all; see seeds and budget"
                )
        found[name] = _merged(_of_family(base, recipe, change), change)
    return found


def _of_family(base: Mapping[str, Any], recipe: Recipe, change: Sections) -> Mapping[str, Any]:
    """The base, as far as the family that a change has, if it is another one, knows its sizes."""
    family = change.get("model", {}).get("family", recipe.model.family)
    if family == recipe.model.family:
        return base
    sizes = {name: getattr(recipe.model, name) for name in OF_EVERY_FAMILY}
    others = {key: value for key, value in base.items() if key != "preset"}
    return others | {"model": sizes}


def _merged(values: Mapping[str, Any], change: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {**values} | {name: {**values.get(name, {}), **keys} for name, keys in change.items()}


def _with_budget(values: Mapping[str, Any], budget: Budget, seed: int, where: str) -> Recipe:
    """The recipe of one run, with corpora that are there."""
    limits = {"max_steps": budget.steps, "max_minutes": budget.minutes}
    given = {key: limit for key, limit in limits.items() if limit is not None}
    recipe = make_recipe(_merged(values, {"training": {**given, "seed": seed}}), where)
    require_trainable(recipe, where)
    data = recipe.data
    for corpus in (*data.train, *data.valid, *data.test):
        for patterns in [corpus.file] if corpus.file else [corpus.source, corpus.target]:
            expand(patterns)
    return recipe


def _refuse_different_tests(recipes: Mapping[str, Any], where: str) -> None:
    made = {
        name: make_recipe(values, f"{where}: {name!r}").data for name, values in recipes.items()
    }
    (_, base), *others = made.items()
    for name, data in others:
        for what, first, other in (
            ("test data", test_set(base), test_set(data)),
            ("target_language", base.target_language, data.target_language),
        ):
            if first != other:
                raise CalqueError(
                    f"{where}: {name!r}.data: other {what} than the base's, so that their "
                    "translations could not be compared"
                )
