"""From TOML to frozen dataclasses and back; what does not fit is an error that names it."""

import dataclasses
import difflib
import json
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomlkit
from pydantic import TypeAdapter, ValidationError

Config = TypeVar("Config")
Value = TypeVar("Value")


class CalqueError(ValueError):
    """Something the user gave us cannot be used; the message says where, what and what would do."""


def choose(field: str, name: str, table: Mapping[str, Value]) -> Value:
    """The entry of `table` called `name`.

    Raises CalqueError with the choices and the nearest of them when there is none.
    """
    if name not in table:
        raise CalqueError(f"{field}: no {name!r}; {_choices(name, table)}")
    return table[name]


def parse(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """An instance of the dataclass `cls` from plain values; `where` begins every message.

    Raises CalqueError for an unknown key (with the nearest known one), a missing key, a value of
    the wrong type or out of its range.
    """
    _refuse_unknown_keys(cls, values, where)
    _refuse_half_characters(values, where)
    try:
        # By way of JSON, where strict means: no "5" for 5, yet a list will do for a tuple.
        return TypeAdapter(cls).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        messages = [_message(e, values, where) for e in error.errors()]
        raise CalqueError("\n".join(messages)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises CalqueError with the line where it is not TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise CalqueError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CalqueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CalqueError(f"{path}:{line}: not UTF-8 at byte {error.start} of the file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CalqueError(f"{path}: not TOML: {error}") from None


def to_toml(config: Any) -> str:
    """A dataclass as TOML, defaults written out; a value of None is left out."""
    return tomlkit.dumps(_without_none(dataclasses.asdict(config)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _refuse_unknown_keys(cls: type, values: Mapping[str, Any], where: str) -> None:
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise CalqueError(f"{where}: unknown key {key!r}; {_choices(key, hints)}")
        nested = [t for t in (hints[key], *typing.get_args(hints[key])) if _is_section(t)]
        items = enumerate(value) if isinstance(value, list) else [("", value)]
        for index, item in items:
            if not isinstance(item, Mapping):
                continue
            section = next((t for t in nested if len(nested) == 1 or _may_be(t, item)), None)
            if section is not None:
                place = f"{where}.{key}" if index == "" else f"{where}.{key}[{index}]"
                _refuse_unknown_keys(section, item, place)


def _refuse_half_characters(values: Mapping[str, Any], where: str) -> None:
    """Raise CalqueError for text that is no Unicode, such as a file's name that is not UTF-8."""
    try:
        json.dumps(values, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.end + 20]
        raise CalqueError(f"{where}: not Unicode: {near!a}") from None


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _may_be(section: type, values: Mapping[str, Any]) -> bool:
    """Whether a table says nothing that makes it another kind of section."""
    hints = typing.get_type_hints(section)
    kinds = {k: typing.get_args(h) for k, h in hints.items() if typing.get_origin(h) is Literal}
    return all(values.get(key, choices[0]) in choices for key, choices in kinds.items())


def _choices(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + "Choices: " + ", ".join(known)


def _message(error: Any, values: Any, where: str) -> str:
    place = where
    for step in error["loc"]:
        known = isinstance(values, Mapping) and step in values
        if isinstance(step, str) and not known and error["type"] != "missing":
            continue  # pydantic's name for the kind of section, or of value
        values = values[step] if known or isinstance(step, int) else values
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    if error["type"] == "missing":
        return f"{place}: missing"
    reason = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = error["input"]
    shown = "" if isinstance(given, dict) else f" (given: {given!r})"
    return f"{place}: {reason[:1].lower()}{reason[1:]}{shown}"
