"""A synchronous grammar: draws sentence pairs; all words and rules are in grammar.toml."""

import re
import tomllib
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from calque.config import CalqueError, choose

LANGUAGES = ("english", "german")

Features = Mapping[str, str]
"""The name of a feature to its value, such as case to dative."""

Replaced = Mapping[str, str]
"""The name of a category to that of the one which takes its place."""


class Slot(NamedTuple):
    """A place in a template for a child, and the features asked of it."""

    name: str
    features: Features


Template = list[str | Slot]


class Forms:
    """The templates of one word or pattern in one language, and when each of them holds."""

    def __init__(self, forms: list[tuple[Features, Template]]):
        # A stable sort: of those with equally many features the first stays first.
        self._forms = sorted(forms, key=lambda form: -len(form[0]))
        self._names = list(dict.fromkeys(name for features, _ in forms for name in features))
        self._selected: dict[tuple[str | None, ...], Template | None] = {}

    def select(self, features: Features) -> Template | None:
        """The template with the most features of those whose features all hold; None without."""
        # The same few combinations come back many thousand times.
        key = tuple([features.get(name) for name in self._names])
        if key not in self._selected:
            fitting = (form for wanted, form in self._forms if wanted.items() <= features.items())
            self._selected[key] = next(fitting, None)
        return self._selected[key]


class Phrase(NamedTuple):
    """A node of a drawn tree: what was chosen, before it is said in either language."""

    pattern: "Pattern"
    features: Features
    children: Mapping[str, "Phrase"]

    def text(self, language: str, inherited: Features) -> str:
        """The phrase in `language`; `inherited` are the features that come down to it."""
        features = {**inherited, **self.features} if self.features else inherited
        template = self.pattern.forms[language].select(features)
        if template is None:
            raise CalqueError(f"[{self.pattern.category}]: no {language} form for {features}")
        text = ""
        for part in template:
            if isinstance(part, str):
                text += part
            else:
                asked = {**features, **part.features} if part.features else features
                text += self.children[part.name].text(language, asked)
        return text


class Category(Protocol):
    """Something that phrases are drawn from."""

    def draw(self, grammar: "Grammar", random: Random, replaced: Replaced) -> Phrase: ...


@dataclass(frozen=True)
class Pattern:
    """One word, or one English template and its German one."""

    category: str
    forms: Mapping[str, Forms]
    features: Features
    slots: Mapping[str, str]
    agree: Mapping[str, str]

    def draw(self, grammar: "Grammar", random: Random, replaced: Replaced) -> Phrase:
        children = {
            slot: grammar.draw(category, random, replaced) for slot, category in self.slots.items()
        }
        risen = {
            feature: choose(f"[{self.category}] {slot}", feature, children[slot].features)
            for feature, slot in self.agree.items()
        }
        return Phrase(self, {**self.features, **risen}, children)


@dataclass(frozen=True)
class Words:
    """Words that are equally likely."""

    words: list[Pattern]

    def draw(self, grammar: "Grammar", random: Random, replaced: Replaced) -> Phrase:
        return random.choice(self.words).draw(grammar, random, replaced)


class Choice:
    """One of several categories."""

    def __init__(self, weights: Mapping[str, float]):
        self._categories = list(weights)
        self._bounds = list(accumulate(weights.values()))

    def draw(self, grammar: "Grammar", random: Random, replaced: Replaced) -> Phrase:
        index = bisect(self._bounds, random.random() * self._bounds[-1])
        return grammar.draw(self._categories[index], random, replaced)


@dataclass(frozen=True)
class Variant:
    """Another category, with some categories inside it replaced; the innermost variant wins."""

    category: str
    replaced: Replaced

    def draw(self, grammar: "Grammar", random: Random, replaced: Replaced) -> Phrase:
        return grammar.draw(self.category, random, {**replaced, **self.replaced})


class Grammar:
    """Draws pairs of an English and a German sentence; grammar.toml explains the notation."""

    def __init__(self, sections: Mapping[str, Any]):
        """Take a parsed TOML file. Raises CalqueError for a section that cannot be used."""
        self._spelling = {
            language: [(re.compile(old), new) for old, new in sections["spelling"][language]]
            for language in LANGUAGES
        }
        self._categories = _Reader(sections["features"]).read(
            {name: sections[name] for name in sections if name not in ("features", "spelling")}
        )

    @classmethod
    def load(cls) -> "Grammar":
        """The grammar that comes with the package."""
        text = resources.files("calque.demo").joinpath("grammar.toml").read_text("utf-8")
        return cls(tomllib.loads(text))

    def pairs(self, count: int, seed: int) -> list[tuple[str, str]]:
        """`count` pairs, no two alike on either side; a smaller `count` gives the first of them.

        Raises CalqueError if the grammar has too few, or two German sentences for an English one.
        """
        random = Random(seed)
        german_of: dict[str, str] = {}
        english_of: dict[str, str] = {}
        for _ in range(1000 + 20 * count):
            if len(english_of) == count:
                break
            english, german = self.pair(random)
            if german_of.setdefault(english, german) != german:
                raise CalqueError(f"{english!r} is both {german_of[english]!r} and {german!r}")
            english_of.setdefault(german, english)
        else:
            raise CalqueError(f"the grammar has hardly more than {len(english_of)} sentences")
        return [(english, german) for german, english in english_of.items()]

    def pair(self, random: Random, category: str = "sentence") -> tuple[str, str]:
        """A random phrase of `category` in English and in German."""
        phrase = self.draw(category, random, {})
        return self._spelled(phrase, "english"), self._spelled(phrase, "german")

    def draw(self, category: str, random: Random, replaced: Replaced) -> Phrase:
        """A random phrase of `category`, or of what `replaced` puts in its place."""
        while category in replaced:
            category = replaced[category]
        return self._categories[category].draw(self, random, replaced)

    def _spelled(self, phrase: Phrase, language: str) -> str:
        text = phrase.text(language, {})
        for old, new in self._spelling[language]:
            text = old.sub(new, text)
        text = text.strip()
        return text[:1].upper() + text[1:]


class _Reader:
    """From the sections of a parsed TOML file to categories."""

    def __init__(self, features: Mapping[str, list[str]]):
        self._features = features
        self._feature_of = {value: name for name, values in features.items() for value in values}

    def read(self, sections: Mapping[str, Any]) -> dict[str, Category]:
        """The categories by name. Raises CalqueError for a section that cannot be used."""
        categories: dict[str, Category] = {}
        used: list[tuple[str, str]] = []
        for name, section in sections.items():
            if "rows" in section:
                categories |= self._words(name, section)
            elif "any" in section:
                categories[name] = Choice(section["any"])
                used += [(name, option) for option in section["any"]]
            elif "like" in section:
                categories[name] = Variant(section["like"], section["with"])
                used += [(name, other) for other in (section["like"], *section["with"].values())]
            else:
                categories[name] = pattern = self._pattern(name, section)
                used += [(name, category) for category in pattern.slots.values()]
        replaceable = [key for section in sections.values() for key in section.get("with", ())]
        for name, other in used:
            choose(f"[{name}]", other, dict.fromkeys([*categories, *replaceable]))
        return categories

    def _words(self, section_name: str, section: Mapping[str, Any]) -> dict[str, Category]:
        words: dict[str, list[Pattern]] = {}
        for cells in section["rows"]:
            if len(cells) != len(section["columns"]):
                raise CalqueError(f"[{section_name}]: {cells} does not fit the columns")
            row = dict(zip(section["columns"], cells, strict=True))
            category = row.pop("category", section_name)
            own = {name: row.pop(name) for name in self._features if name in row}
            features = {**section.get("features", {}), **own}
            pattern = self._pattern(category, {**row, "features": features})
            words.setdefault(category, []).append(pattern)
        return {category: Words(patterns) for category, patterns in words.items()}

    def _pattern(self, name: str, section: Mapping[str, Any]) -> Pattern:
        where = f"[{name}]"
        settings = {key: section.get(key, {}) for key in ("features", "slots", "agree")}
        forms: dict[str, list[tuple[Features, Template]]] = {key: [] for key in LANGUAGES}
        slots: dict[str, str] = {}
        for key, text in _flat({k: section[k] for k in section if k not in settings}):
            language, *values = key
            template = self._template(where, text)
            choose(where, language, forms).append((self._wanted(where, values), template))
            names = [part.name for part in template if isinstance(part, Slot)]
            slots |= {slot: settings["slots"].get(slot, slot) for slot in names}
        for slot in settings["agree"].values():
            choose(f"{where} agree", slot, slots)
        by_language = {language: Forms(forms[language]) for language in LANGUAGES}
        return Pattern(name, by_language, settings["features"], slots, settings["agree"])

    def _template(self, where: str, text: str) -> Template:
        template: Template = []
        for literal, name, values in re.findall(r"([^{]*)(?:\{(\w+)((?:\.\w+)*)\})?", text):
            if literal:
                template.append(literal)
            if name:
                template.append(Slot(name, self._wanted(where, values.split(".")[1:])))
        return template

    def _wanted(self, where: str, values: list[str]) -> Features:
        return {choose(where, value, self._feature_of): value for value in values}


def _flat(forms: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[list[str], str]]:
    """Take tables out of tables: german.plural = {dative = ...} is "german plural dative"."""
    for key, value in forms.items():
        words = (*above, *key.split())
        if isinstance(value, Mapping):
            yield from _flat(value, words)
        else:
            yield list(words), value


def write_corpus(
    folder: Path, seed: int, train: int = 20_000, valid: int = 1_000, test: int = 1_000
) -> None:
    """Write train, valid and test as `.en` and `.de`; no sentence stands in two of the three."""
    pairs = iter(Grammar.load().pairs(train + valid + test, seed))
    folder.mkdir(parents=True, exist_ok=True)
    # In this order the test set does not depend on how many pairs there are to train on.
    for split, count in (("test", test), ("valid", valid), ("train", train)):
        part = list(islice(pairs, count))
        for side, suffix in enumerate(("en", "de")):
            text = "".join(f"{pair[side]}\n" for pair in part)
            (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8")
