"""Words, other ways to go on, and looks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from calque.config import CalqueError
from calque.inspection import look
from calque.serving.loaded import load
from calque.translator import Translator

ENDE = {"source": "en", "target": "de"}


def test_words_and_white_space_are_the_text(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    one, two, three = sentences[:3]
    text = f" {one} {two}\n\n{three} "
    answer = client.post("/v1/translate", json={"q": text, **ENDE}).json()
    found = answer["sentences"]
    assert ["".join(sentence["source"]) for sentence in found] == [one, two, three]
    assert ["".join(s["target"]) for s in found] == translator.translate([one, two, three])
    assert [answer["before"], *(sentence["after"] for sentence in found)] == [" ", " ", "\n\n", " "]
    for sentence in found:
        assert all(word.strip() for word in (*sentence["source"], *sentence["target"]))
        assert {t for t, _ in sentence["links"]} == set(range(len(sentence["target"])))
        assert all(s < len(sentence["source"]) for _, s in sentence["links"])


def test_words_are_linked_as_attention_says(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    for sentence in sentences[:5]:
        answer = client.post("/v1/translate", json={"q": sentence, **ENDE}).json()
        expected = look(translator, sentence).alignment
        assert expected is not None
        assert [tuple(one) for one in answer["sentences"][0]["links"]] == expected.links


def test_words_of_many_sentences_are_those_of_each(
    run: Path, translator: Translator, sentences: list[str], monkeypatch: pytest.MonkeyPatch
):
    loaded, best = load(run, "cpu"), [found[0] for found in translator.n_best(sentences)]
    alone = [
        *(loaded.link([line], [found])[0] for line, found in zip(sentences, best, strict=True))
    ]
    assert loaded.link(sentences, best) == alone
    monkeypatch.setattr("calque.serving.loaded.LINKED_TOKENS", 100)
    assert loaded.link(sentences, best) == alone


@pytest.mark.parametrize("text", ["", " \n", "😀", "ⅷ ﷺ \u200b x", "a" * 100])
def test_any_text_has_its_words(client: httpx2.Client, text: str):
    answer = client.post("/v1/translate", json={"q": text, **ENDE}).json()
    joined = "".join(
        "".join(sentence["source"]) + sentence["after"] for sentence in answer["sentences"]
    )
    assert answer["before"] + joined == text


def test_alternatives_begin_as_told_and_then_differ(client: httpx2.Client, sentences: list[str]):
    for sentence in sentences[:1]:
        asked = {"q": sentence, **ENDE}
        target = client.post("/v1/translate", json=asked).json()["sentences"][0]["target"]
        for place in range(len(target)):
            prefix = "".join(target[:place])
            answer = client.post("/v1/alternatives", json={**asked, "prefix": prefix}).json()
            found = answer["alternatives"]
            texts = ["".join(one["sentence"]["target"]) for one in found]
            assert all(text.startswith(prefix) for text in texts)
            chances = [one["probability"] for one in found]
            assert chances == sorted(chances, reverse=True)
            assert 1 <= len(found) <= 5
            assert sum(chances) <= 1.0001
            assert ["".join(one["sentence"]["source"]) for one in found] == [sentence] * len(found)


def test_the_translation_itself_is_among_its_alternatives(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    for sentence in sentences[:3]:
        best = translator.translate([sentence])[0]
        prefix = best.rpartition(" ")[0] + " " if " " in best else ""
        asked = {"q": sentence, **ENDE, "prefix": prefix, "number": 10}
        found = client.post("/v1/alternatives", json=asked).json()["alternatives"]
        assert best in ["".join(one["sentence"]["target"]) for one in found]


def test_a_prefix_that_leaves_no_room_is_refused_before_the_model_reads_it(run: Path):
    loaded = load(run, "cpu")
    (prefix,) = loaded.translator.tokenizers.target.decode([[9] * 100])
    read = []
    for module in loaded.plain.modules():
        module.register_forward_pre_hook(lambda *_: read.append(1))
    with pytest.raises(CalqueError, match=r"^prefix: \d+ tokens, of at most 30 in a target$"):
        loaded.alternatives("A dog.", prefix, 1)
    assert not read
    loaded.alternatives("A dog.", "", 1)
    assert read


def test_a_choice_can_be_gone_on_from(client: httpx2.Client, sentences: list[str]):
    asked = {"q": sentences[0], **ENDE}
    first = client.post("/v1/alternatives", json=asked).json()["alternatives"][1]["sentence"]
    prefix = "".join(first["target"][:2])
    again = client.post("/v1/alternatives", json={**asked, "prefix": prefix}).json()
    texts = ["".join(one["sentence"]["target"]) for one in again["alternatives"]]
    assert texts
    assert all(text.startswith(prefix) for text in texts)


def test_a_look_is_that_of_the_library(
    client: httpx2.Client, translator: Translator, sentences: list[str]
):
    answer = client.post("/v1/look", json={"q": sentences[0], **ENDE})
    assert answer.headers["content-type"] == "application/json"
    seen = look(translator, sentences[0]).to_json()
    assert answer.json()["target"]["text"] == seen["target"]["text"]
    assert answer.json().keys() == seen.keys()
    assert len(answer.json()["attention"]["cross"]) == 2


def test_a_look_at_an_alternative_shows_that_one(client: httpx2.Client, sentences: list[str]):
    asked = {"q": sentences[0], **ENDE}
    target = client.post("/v1/translate", json=asked).json()["sentences"][0]["target"]
    for place in range(3):
        prefix = "".join(target[:place])
        found = client.post("/v1/alternatives", json={**asked, "prefix": prefix}).json()
        for one in found["alternatives"]:
            seen = client.post("/v1/look", json={**asked, "beginning": one["beginning"]}).json()
            assert seen["target"]["text"] == "".join(one["sentence"]["target"])
            assert seen["target"]["score"] == pytest.approx(one["sentence"]["score"], abs=1e-3)


@pytest.mark.parametrize(
    "path, asked, message",
    [
        ("look", {"q": " "}, "Invalid request: q is empty"),
        ("look", {"q": "a b " * 300}, "Invalid request: a sentence of "),
        ("look", {"q": "A dog.", "target": "fr"}, "fr is not supported"),
        ("look", {}, "Invalid request: missing q parameter"),
        ("look", {"beginning": [0], "q": "a"}, "Invalid request: beginning: no token of a"),
        ("look", {"beginning": [10**9], "q": "a"}, "Invalid request: beginning: no token of a"),
        ("look", {"beginning": [9] * 30, "q": "a"}, "Invalid request: prefix: 30 tokens"),
        ("look", {"beginning": [-1], "q": "a"}, "Invalid request: beginning: "),
        ("look", {"beginning": "a", "q": "a"}, "Invalid request: beginning: "),
        ("alternatives", {"q": ""}, "Invalid request: q is empty"),
        ("alternatives", {"q": "a b " * 500}, "Invalid request: q: "),
        ("alternatives", {"q": "a", "prefix": "b " * 50}, "Invalid request: prefix: "),
        ("alternatives", {"q": "a", "prefix": "b" * 5000}, "Invalid request: request (5001)"),
        ("alternatives", {"q": "a", "number": 11}, "Invalid request: number: "),
        ("translate", {"q": "\udc00"}, "Invalid request: q: "),
    ],
)
def test_what_cannot_be_done_is_said(
    client: httpx2.Client,
    error: Callable[[httpx2.Response], str],
    path: str,
    asked: dict[str, Any],
    message: str,
):
    import json

    answer = client.post(
        f"/v1/{path}",
        content=json.dumps({**ENDE, **asked}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert error(answer).startswith(message)
