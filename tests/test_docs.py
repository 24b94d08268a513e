"""The README and docs/ say what is so: recipes, commands, options, links, files and keys."""

import re
import shlex
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from calque.cli import app
from calque.decoding.config import DecodingConfig
from calque.fine_tuning import FINE_TUNING
from calque.models.build import ConvolutionalModelConfig, ModelConfig, RecurrentModelConfig
from calque.recipe import PRESETS, TrainingConfig, make_recipe
from calque.text.data import CorpusConfig, DataConfig
from calque.text.tokenizers.interface import TokenizerConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

SECTIONS = {
    "[data]": DataConfig,
    "[[data.train]]": CorpusConfig,
    "[tokenizer]": TokenizerConfig,
    "[model]": ModelConfig,
    "Recurrent models": RecurrentModelConfig,
    "Convolutional models": ConvolutionalModelConfig,
    "[training]": TrainingConfig,
    "[decoding]": DecodingConfig,
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, *languages: str) -> list[str]:
    """The contents of a page's fenced blocks in these languages."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [text for language, text in fenced if language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def calque_calls(line: str) -> list[list[str]]:
    """The arguments of every call of calque on a shell line."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>"):
            calls.append([])
        else:
            calls[-1].append(word)
    return [call[call.index("calque") + 1 :] for call in calls if "calque" in call]


def shell_lines(page: Path) -> list[str]:
    """The commands of a page: whole blocks, or in a console's the lines after a prompt."""
    lines = [line for text in blocks(page, "sh", "") for line in text.splitlines()]
    console = [line for text in blocks(page, "console") for line in text.splitlines()]
    lines += [line for line in console if line.startswith("$ ")]
    return [line for line in lines if re.search(r"(^|[&|] |\$ |-m )calque ", line)]


def test_there_is_something_to_check():
    recipes = [text for page in PAGES for text in blocks(page, "toml")]
    commands = [call[0] for p in PAGES for line in shell_lines(p) for call in calque_calls(line)]
    assert len(recipes) >= 3
    assert set(commands) == set(COMMANDS)


@each_page
def test_recipes_can_be_read(page: Path):
    for text in blocks(page, "toml"):
        make_recipe(tomllib.loads(text), page.name)


@each_page
def test_commands_can_be_called_so(page: Path):
    for line in shell_lines(page):
        for name, *arguments in calque_calls(line):
            # Parses as a call would, without the call: what is misspelt or missing is an error.
            COMMANDS[name].make_context(name, arguments)


@each_page
def test_commands_and_options_in_the_text_exist(page: Path):
    for call in re.findall(r"`calque ([^`]+)`", prose(page)):
        name, *arguments = call.split()
        if name == "COMMAND":
            name = next(iter(COMMANDS))
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        options = {argument for argument in arguments if argument.startswith("--")}
        assert options <= known | {"--help"}
    everywhere = {option for c in COMMANDS.values() for p in c.params for option in p.opts}
    assert set(re.findall(r"`(--[\w-]+)[^`]*`", prose(page))) <= everywhere


@each_page
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)]+)\)", prose(page))
    relative = [target for target in targets if "://" not in target]
    for target in relative:
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def anchors(page: Path) -> list[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]


@each_page
def test_files_in_the_text_exist(page: Path):
    named = re.findall(r"`((?:src|tests|docs|experiments|benchmarks)/[^`]*)`", prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of recipes.md, without the table's head."""
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    heading = re.escape(heading)
    (section,) = re.findall(rf"^##+ `?{heading}(?:`[^\n]*)?$.*?(?=^##|\Z)", text, re.M | re.S)
    table = re.findall(r"^\|.*\|$", section, re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_a_recipe_is_documented_with_its_default(heading: str):
    documented = {row[0].strip("`"): row[2] for row in rows(heading)}
    # Which family it is stands in the first of the tables.
    others = [f for f in fields(SECTIONS[heading]) if heading == "[model]" or f.name != "family"]
    assert documented.keys() == {field.name for field in others}
    for field in others:
        told = documented[field.name]
        if field.default is MISSING:
            assert told == "required"
        elif field.default is None:
            assert told == "none"
        else:
            value = tomllib.loads(f"value = {told.strip('`')}")["value"]
            assert value == (list(field.default) if value == [] else field.default)


def test_defaults_of_fine_tuning_are_documented():
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    section = text.partition("### Fine-tuning")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| `(\w+)` \| `(.+)` \|$", section, re.M))
    assert {key: tomllib.loads(f"v = {value}")["v"] for key, value in found.items()} == FINE_TUNING


def test_presets_are_documented_with_their_sizes():
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    found = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|", text, re.M
    )
    documented = {name: [float(number) for number in numbers] for name, *numbers in found}
    keys = ("num_encoder_layers", "d_model", "d_ff", "num_heads", "dropout")
    models = {name: ModelConfig(**sizes) for name, sizes in PRESETS.items()}
    assert documented == {name: [getattr(m, key) for key in keys] for name, m in models.items()}
    assert all(m.num_encoder_layers == m.num_decoder_layers for m in models.values())
