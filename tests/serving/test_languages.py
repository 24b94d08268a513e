"""Names and detection."""

import pytest

from calque.serving.languages import Detector, name_of


@pytest.mark.parametrize(
    "code, name",
    [
        ("en", "English"),
        ("pt-BR", "Portuguese (Brazil)"),
        ("zh-Hant", "Chinese (Traditional)"),
        ("x-klingon", "x-klingon"),
        ("??", "??"),
    ],
)
def test_names(code: str, name: str):
    assert name_of(code) == name


@pytest.mark.parametrize(
    "text, language",
    [
        ("Der alte Mann macht die Tür auf.", "de"),
        ("The old man opens the door.", "en"),
        ("O velho abre a porta.", "pt-BR"),
        ("Старик открывает дверь.", "ru"),
    ],
)
def test_the_language_of_a_text_is_found_among_those_served(text: str, language: str):
    found = Detector(["en", "de", "pt-BR", "ru"]).detect(text)
    assert found[0].language == language
    assert sorted(one.language for one in found) == ["de", "en", "pt-BR", "ru"]
    assert all(0 <= one.confidence <= 100 for one in found)
    assert [one.confidence for one in found] == sorted(
        (one.confidence for one in found), reverse=True
    )


def test_a_text_in_another_language_is_told_by_a_low_confidence():
    english, russian = (
        Detector(["en", "de"]).detect(text)[0].confidence
        for text in ("The old man opens the door.", "Старик открывает дверь.")
    )
    assert english > 50
    assert russian < 10


@pytest.mark.parametrize("text", ["", "123", "\x00", "😀 !"])
def test_any_text_will_do(text: str):
    assert len(Detector(["en", "xx"]).detect(text)) == 2
