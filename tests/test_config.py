"""TOML becomes dataclasses and back; what does not fit is named, with what would do."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from calque.config import CalqueError, choose, parse, read_toml, to_toml


@dataclass(frozen=True, kw_only=True)
class Wheel:
    size: Annotated[float, Field(gt=0)]
    tyre: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bicycle:
    wheels: tuple[Wheel, ...]
    gears: Annotated[int, Field(gt=0, le=30)] = 3
    brake: Literal["rim", "disc"] = "rim"
    names: tuple[str, ...] = ()
    light: bool = False
    front: Wheel = field(default_factory=lambda: Wheel(size=28))

    def __post_init__(self) -> None:
        if self.gears == 13:
            raise ValueError("gears 13 is unlucky")


WHEELS = [{"size": 28}]


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(CalqueError) as error:
        parse(Bicycle, {"wheels": WHEELS, **values}, "bike.toml")
    return str(error.value)


# Choices


def test_a_name_gives_its_entry() -> None:
    assert choose("brake", "disc", {"rim": 1, "disc": 2}) == 2


def test_a_name_that_is_near_another_is_told_so() -> None:
    with pytest.raises(CalqueError) as error:
        choose("brake", "dics", {"rim": 1, "disc": 2})
    assert str(error.value) == "brake: no 'dics'; did you mean 'disc'? Choices: disc, rim"


def test_a_name_that_is_near_none_is_told_the_choices() -> None:
    with pytest.raises(CalqueError) as error:
        choose("brake", "parachute", {"rim": 1, "disc": 2})
    assert str(error.value) == "brake: no 'parachute'; Choices: disc, rim"


# Values


def test_plain_values_become_dataclasses() -> None:
    bicycle = parse(Bicycle, {"wheels": WHEELS, "gears": 7, "names": ["a", "b"]}, "bike.toml")
    assert bicycle == Bicycle(wheels=(Wheel(size=28.0),), gears=7, names=("a", "b"))


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"gaers": 7}, "bike.toml: unknown key 'gaers'; did you mean 'gears'?"),
        ({"front": {"sise": 7}}, "bike.toml.front: unknown key 'sise'; did you mean 'size'?"),
        (
            {"wheels": [{"size": 1}, {"size": 1, "tire": "x"}]},
            "bike.toml.wheels[1]: unknown key 'tire'; did you mean 'tyre'?",
        ),
    ],
    ids=str,
)
def test_an_unknown_key_is_named_with_the_nearest(values: dict[str, Any], place: str) -> None:
    assert refusal(values).startswith(place)


def test_an_unknown_key_is_told_the_choices() -> None:
    assert refusal({"xyz": 1}).endswith("Choices: brake, front, gears, light, names, wheels")


@pytest.mark.parametrize(
    ("values", "place", "told"),
    [
        ({"gears": "7"}, "gears", "integer (given: '7')"),
        ({"gears": 7.0}, "gears", "integer (given: 7.0)"),
        ({"gears": True}, "gears", "integer (given: True)"),
        ({"gears": [7]}, "gears", "integer (given: [7])"),
        ({"light": 1}, "light", "boolean (given: 1)"),
        ({"light": "true"}, "light", "boolean (given: 'true')"),
        ({"names": "a"}, "names", "array (given: 'a')"),
        ({"names": ["a", 5]}, "names[1]", "string (given: 5)"),
        ({"front": 28}, "front", "object (given: 28)"),
        ({"wheels": [28]}, "wheels[0]", "object (given: 28)"),
        ({"front": {"size": "28"}}, "front.size", "number (given: '28')"),
        ({"front": {"size": 28, "tyre": 5}}, "front.tyre", "string (given: 5)"),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type_is_shown_in_its_place(
    values: dict[str, Any], place: str, told: str
) -> None:
    message = refusal(values)
    assert message.startswith(f"bike.toml.{place}: input should be a")
    assert message.endswith(told)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gears": 0}, "gears: input should be greater than 0 (given: 0)"),
        ({"gears": 31}, "gears: input should be less than or equal to 30 (given: 31)"),
        ({"wheels": [{"size": -1}]}, "wheels[0].size: input should be greater than 0 (given: -1)"),
        ({"brake": "drum"}, "brake: input should be 'rim' or 'disc' (given: 'drum')"),
        ({"gears": 13}, "gears 13 is unlucky"),
        ({"wheels": [{}]}, "wheels[0].size: missing"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_shown_with_its_range(values: dict[str, Any], message: str) -> None:
    assert refusal(values).removeprefix("bike.toml").lstrip(".: ") == message


def test_not_a_number_is_in_no_range() -> None:
    assert "greater than 0 (given: nan)" in refusal({"front": {"size": math.nan}})


def test_every_value_that_does_not_fit_is_told_at_once() -> None:
    assert len(refusal({"gears": 0, "brake": "drum"}).splitlines()) == 2


# Files


@settings(deadline=None)
@given(
    sizes=st.lists(st.floats(min_value=0, exclude_min=True, allow_infinity=False), max_size=3),
    tyre=st.none() | st.text(),
    gears=st.integers(1, 30).filter(lambda gears: gears != 13),
    names=st.lists(st.text(), max_size=3),
    light=st.booleans(),
)
def test_what_is_written_reads_back(
    sizes: list[float], tyre: str | None, gears: int, names: list[str], light: bool
) -> None:
    wheels = tuple(Wheel(size=size, tyre=tyre) for size in sizes)
    bicycle = Bicycle(wheels=wheels, gears=gears, names=tuple(names), light=light)
    written = tomlkit.parse(to_toml(bicycle)).unwrap()
    assert parse(Bicycle, written, "bike.toml") == bicycle


def test_none_is_left_out_and_every_other_default_is_written() -> None:
    written = tomlkit.parse(to_toml(Bicycle(wheels=(Wheel(size=1),)))).unwrap()
    assert written["wheels"] == [{"size": 1}]
    assert set(written) == {"wheels", "gears", "brake", "names", "light", "front"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalqueError, match=r"nowhere\.toml: there is no such file"):
        read_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a = 1\nb = = 2\n", "not TOML: .*line 2"),
        (b"a = 1\na = 2\n", "not TOML: .*line 2"),
        (b"b = 1\na = '\xff'\n", "2: not UTF-8 at byte 11 of the file"),
        (b"a = " + b"[" * 5000, "not TOML: .*recursion"),
    ],
)
def test_a_file_that_is_not_toml_is_told_where(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bike.toml"
    path.write_bytes(content)
    with pytest.raises(CalqueError, match=rf"bike\.toml: ?{told}"):
        read_toml(path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "bike.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_toml(tmp_path / "bike.toml") == {"a": 1}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalqueError, match=f"{tmp_path}: cannot be read"):
        read_toml(tmp_path)
