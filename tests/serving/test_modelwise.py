"""A model by itself: positions, vocabulary, training; and the files of the page."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from calque.inspection.embeddings import embeddings
from calque.inspection.positions import positions
from calque.inspection.training import training
from calque.translator import Translator

ENDE = {"source": "en", "target": "de"}
VIEWS = "positions", "embeddings", "training"


def test_they_are_those_of_the_run(client: httpx2.Client, translator: Translator, run: Path):
    found = {view: client.post(f"/v1/{view}", json=ENDE).json() for view in VIEWS}
    assert found["positions"] == {"positions": positions(translator)}
    assert found["embeddings"] == {"embeddings": embeddings(translator)}
    (course,) = found["training"]["training"]
    assert course == training([run])[0] | {"name": "en-de"}


def test_they_are_found_once(run: Path, start, monkeypatch: pytest.MonkeyPatch):
    found: list[Translator] = []

    def count(translator: Translator) -> dict[str, object]:
        found.append(translator)
        return embeddings(translator)

    monkeypatch.setattr("calque.serving.modelwise.embeddings", count)
    client = start(run)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/embeddings", json=ENDE), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(found) == 1


def test_a_run_without_a_record_says_so_without_a_path(client: httpx2.Client, error: Callable):
    answer = client.post("/v1/training", json={"source": "de", "target": "en"})
    assert answer.status_code == 404
    assert error(answer) == "This run has no record of its training"


@pytest.mark.parametrize("view", VIEWS)
def test_who_may_ask_and_for_what(view: str, run: Path, start, tmp_path: Path, error: Callable):
    (tmp_path / "keys").write_text("sesame")
    client = start(run, api_keys=tmp_path / "keys")
    assert client.post(f"/v1/{view}", json=ENDE).status_code == 400
    assert client.post(f"/v1/{view}", json={**ENDE, "api_key": "x"}).status_code == 403
    for source in ("fr", "auto", "de"):
        asked = {"source": source, "target": "de", "api_key": "sesame"}
        answer = client.post(f"/v1/{view}", json=asked)
        assert answer.status_code == 400
        assert error(answer) == f"de is not available as a target language from {source}"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.js", "text/javascript"), ("/look/dom.js", "text/javascript")],
)
def test_files_of_the_page_let_nothing_in_from_elsewhere(
    client: httpx2.Client, path: str, kind: str
):
    answer = client.get(path)
    assert answer.headers["content-type"].startswith(kind)
    assert "default-src 'self';" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/absent", "/look/", "/look/../pages.py", "/look/%2e%2e/pages.py"]
)
def test_no_other_files_are_served(client: httpx2.Client, path: str, error: Callable):
    answer = client.get(path)
    assert answer.status_code == 404
    assert error(answer) == "Not Found"
