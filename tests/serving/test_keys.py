"""API keys."""

from pathlib import Path

import pytest

from calque.config import CalqueError
from calque.serving.keys import Keys
from calque.serving.limits import Refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text("# for the office\nfirst-key\n\n  second-ключ \n", "utf-8")
    return tmp_path / "keys"


def test_without_a_file_all_may_ask():
    keys = Keys(None)
    assert not keys.required
    keys.check(None)
    keys.check("anything")


@pytest.mark.parametrize("key", ["first-key", "second-ключ"])
def test_a_known_key_will_do(file: Path, key: str):
    assert Keys(file).required
    Keys(file).check(key)


@pytest.mark.parametrize("key", ["first-ke", "first-key ", "# for the office", "ключ"])
def test_an_unknown_key_will_not(file: Path, key: str):
    with pytest.raises(Refused, match="Invalid API key") as refused:
        Keys(file).check(key)
    assert refused.value.status == 403


@pytest.mark.parametrize("key", ["", None])
def test_a_key_must_be_given(file: Path, key: str | None):
    with pytest.raises(Refused) as refused:
        Keys(file).check(key)
    assert refused.value.status == 400


def test_a_file_without_keys_is_refused(tmp_path: Path):
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(CalqueError, match="holds no key"):
        Keys(tmp_path / "keys")
    with pytest.raises(CalqueError, match="there is no such file"):
        Keys(tmp_path / "missing")
