"""LibreTranslate's API, with its own client and by hand, at a real server."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

import httpx2
import pytest
from libretranslatepy import LibreTranslateAPI

from calque.translator import Translator

ENDE = {"source": "en", "target": "de"}


@pytest.fixture
def api(client: httpx2.Client) -> LibreTranslateAPI:
    return LibreTranslateAPI(str(client.base_url))


def test_its_own_client_translates(
    api: LibreTranslateAPI, translator: Translator, sentences: list[str]
):
    for sentence, expected in zip(sentences[:5], translator.translate(sentences[:5]), strict=True):
        assert api.translate(sentence, "en", "de") == expected


def test_its_own_client_lists_languages(api: LibreTranslateAPI):
    assert api.languages() == [
        {"code": "de", "name": "German", "targets": ["en"]},
        {"code": "en", "name": "English", "targets": ["de"]},
    ]


def test_its_own_client_detects(api: LibreTranslateAPI):
    found = api.detect("Der alte Mann macht die Tür auf.")
    assert [one["language"] for one in found] == ["de", "en"]
    assert found[0]["confidence"] > 50


def test_its_own_client_is_told_what_is_wrong(api: LibreTranslateAPI):
    with pytest.raises(HTTPError) as raised:
        api.translate("A dog.", "en", "fr")
    with raised.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read()) == {"error": "fr is not supported"}


def test_json_and_forms_are_the_same(client: httpx2.Client, sentences: list[str]):
    asked = {"q": sentences[0], **ENDE, "format": "text", "alternatives": 2, "api_key": ""}
    answers = [
        client.post("/translate", json=asked),
        client.post("/translate", data={key: str(value) for key, value in asked.items()}),
        client.post("/translate", files={key: (None, str(v)) for key, v in asked.items()}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].headers["content-type"] == "application/json"


def test_several_texts_come_back_in_order(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    texts = [*sentences[:20], "", " \n"]
    answer = client.post("/translate", json={"q": texts, **ENDE}).json()
    assert answer == {"translatedText": [*translator.translate(sentences[:20]), "", " \n"]}


def test_sentences_of_a_text_are_translated_one_by_one(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    one, two, three = sentences[:3]
    answer = client.post("/translate", json={"q": f"  {one} {two}\r\n\r\n\t{three}\n", **ENDE})
    a, b, c = translator.translate([one, two, three])
    assert answer.json() == {"translatedText": f"  {a} {b}\r\n\r\n\t{c}\n"}


def test_alternatives_are_the_next_best(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    for sentence in sentences[:3]:
        found = [one.text for one in translator.n_best([sentence])[0]]
        expected = [text for text in dict.fromkeys(found) if text != found[0]]
        asked = {"q": sentence, **ENDE, "alternatives": 9}
        assert client.post("/translate", json=asked).json() == {
            "translatedText": found[0],
            "alternatives": expected,
        }
    asked = {"q": sentences[:2], **ENDE, "alternatives": 1}
    assert [len(one) for one in client.post("/translate", json=asked).json()["alternatives"]] == [
        1,
        1,
    ]


def test_html_keeps_its_tags(client: httpx2.Client, translator: Translator, sentences: list[str]):
    one, two = sentences[:2]
    first, rest = one.split(" ", 1)
    page = (
        f"<!DOCTYPE html><p class='x'>{one}</p>\n<script>a < b</script><ul><li>{two}</li></ul>"
        f"<p><b>{first}</b> {rest}</p>"
    )
    answer = client.post("/translate", json={"q": page, **ENDE, "format": "html"}).json()
    a, b = translator.translate([one, two])
    start = f"<!DOCTYPE html><p class='x'>{a}</p>\n<script>a < b</script><ul><li>{b}</li></ul><p>"
    text = answer["translatedText"]
    assert text.startswith(start)
    assert text.removeprefix(start).replace("<b>", "").replace("</b>", "") == f"{a}</p>"
    assert text.count("<b>") == text.count("</b>") == 1


def test_html_may_be_nested_as_deep_as_a_request_is_long(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    page = "<b>" * 700 + sentences[0] + "</b>" * 700
    answer = client.post("/translate", json={"q": page, **ENDE, "format": "html"})
    assert answer.status_code == 200
    text = answer.json()["translatedText"]
    assert (text.count("<b>"), text.count("</b>")) == (700, 700)
    assert text.replace("<b>", "").replace("</b>", "") == translator.translate(sentences[:1])[0]


def test_auto_detects_the_source(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    asked = {"q": sentences[0], "source": "auto", "target": "de"}
    answer = client.post("/translate", json=asked).json()
    assert answer["translatedText"] == translator.translate(sentences[:1])[0]
    assert answer["detectedLanguage"]["language"] == "en"
    several = client.post("/translate", json={**asked, "q": sentences[:2]}).json()
    assert [one["language"] for one in several["detectedLanguage"]] == ["en", "en"]


def test_what_is_in_the_target_language_stays_as_it_is(client: httpx2.Client):
    german = "Der alte Mann macht die Tür auf."
    answer = client.post("/translate", json={"q": german, "source": "auto", "target": "de"}).json()
    assert answer["translatedText"] == german
    assert answer["detectedLanguage"]["language"] == "de"


def test_frontend_settings(client: httpx2.Client):
    assert client.get("/frontend/settings").json() == {
        "apiKeys": False,
        "charLimit": 5000,
        "filesTranslation": False,
        "frontendTimeout": 500,
        "keyRequired": False,
        "language": {
            "source": {"code": "en", "name": "English"},
            "target": {"code": "de", "name": "German"},
        },
        "suggestions": False,
        "supportedFilesFormat": [],
    }


GOOD = {"q": "A dog.", **ENDE}


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"q": "A dog.", "source": "en"}, "Invalid request: missing target parameter"),
        ({"source": "en", "target": "de"}, "Invalid request: missing q parameter"),
        (GOOD | {"q": ""}, "Invalid request: q is empty"),
        (GOOD | {"q": []}, "Invalid request: q is empty"),
        (GOOD | {"q": 5}, "Invalid request: q: "),
        (GOOD | {"q": "\ud800"}, "Invalid request: q: half of a surrogate pair is no text"),
        (GOOD | {"source": "fr"}, "fr is not supported"),
        (GOOD | {"target": "auto"}, "auto is not supported"),
        (GOOD | {"target": "en"}, "en is not available as a target language from en"),
        (GOOD | {"format": "markdown"}, "Invalid request: format: "),
        (GOOD | {"alternatives": -1}, "Invalid request: alternatives: "),
        (GOOD | {"q": "a" * 5001}, "Invalid request: request (5001) exceeds text limit (5000)"),
        (GOOD | {"q": ["a" * 3000] * 2}, "Invalid request: request (6000) exceeds text limit"),
        ([], "Invalid request: not a JSON object"),
    ],
)
def test_what_cannot_be_done_is_said(
    client: httpx2.Client, error: Callable[[httpx2.Response], str], asked: object, message: str
):
    answer = client.post("/translate", content=json.dumps(asked))
    assert answer.status_code == 400
    assert error(answer).startswith(message)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"q=A+dog."])
def test_what_is_no_message_is_said(
    client: httpx2.Client, error: Callable[[httpx2.Response], str], body: bytes
):
    answer = client.post("/translate", content=body)
    assert answer.status_code == 400
    assert error(answer) == "Invalid request: neither JSON nor a form"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"q": "sch\xf6n", "source": "en", "target": "de"}'),
        ("application/x-www-form-urlencoded", b"q=sch\xf6n&source=en&target=de"),
        ("application/x-www-form-urlencoded", b"q=sch%F6n&source=en&target=de"),
        ("application/x-www-form-urlencoded", b"q=a%ED%A0%80b&source=en&target=de"),
    ],
    ids=str,
)
def test_what_is_not_utf8_is_said(
    client: httpx2.Client, error: Callable[[httpx2.Response], str], kind: str, body: bytes
):
    answer = client.post("/translate", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert error(answer) == "Invalid request: not UTF-8"


def test_a_form_is_read_as_it_was_written(client: httpx2.Client):
    asked = GOOD | {"q": "Two dogs & a ‘cat’ + 中 100 %."}
    assert (
        client.post("/translate", data=asked).json() == client.post("/translate", json=asked).json()
    )


@pytest.mark.parametrize(
    "document", ["<![x]>", "<![x", "<!", "</", "<b", "&#xd800;", "&#0;", "<p>" * 900]
)
def test_broken_html_is_no_error_of_ours(client: httpx2.Client, document: str):
    asked = GOOD | {"q": f"A dog {document} runs.", "format": "html"}
    assert client.post("/translate", json=asked).status_code in (200, 400)


def test_keys(start, run: Path, tmp_path: Path, error: Callable[[httpx2.Response], str]):
    (tmp_path / "keys").write_text("secret\n")
    client = start(run, api_keys=tmp_path / "keys")
    answers = {
        key: client.post(path, json=GOOD | {"api_key": key})
        for path in ("/translate", "/detect", "/v1/translate", "/v1/alternatives", "/v1/look")
        for key in (None, "wrong", "secret")
        if (key, path) != ("secret", "/v1/look")
    }
    assert {key: answer.status_code for key, answer in answers.items()} == {
        None: 400,
        "wrong": 403,
        "secret": 200,
    }
    assert error(answers["wrong"]) == "Invalid API key"
    assert client.get("/frontend/settings").json()["keyRequired"]
    assert client.get("/languages").status_code == 200
    api = LibreTranslateAPI(str(client.base_url), "secret")
    assert isinstance(api.translate("A dog.", "en", "de"), str)
