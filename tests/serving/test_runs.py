"""Run folders that are replaced while they are served."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from calque.serving import runs
from calque.translator import Translator

ENDE = {"source": "en", "target": "de"}

STRANGE = [
    "[1, 2]",
    '{"sha256": [1, 2]}',
    '{"sha256": [[1, 2]]}',
    '{"sha256": {"a\\u0000b": ""}}',
    '{"sha256": {"' + "a" * 5000 + '": ""}}',
    "[" * 100_000,
]
"""What no manifest is."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOKING", 0.05)


def wait_for(client: httpx2.Client, folder: str, swaps: int) -> None:
    """Until the folder is in that state, after so many attempts to load it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (told,) = client.get("/ready").json()["runs"]
        lines = client.get("/metrics").text.splitlines()
        done = sum(float(x.split()[-1]) for x in lines if x.startswith("calque_swaps_total{"))
        if told["folder"] == folder and done >= swaps:
            return
        time.sleep(0.02)
    pytest.fail(f"the folder was never {folder}")


def replace(folder: Path, by: Path) -> None:
    folder.rename(folder.with_name("old"))
    by.rename(folder)


def test_a_replaced_run_is_taken_into_use_without_a_break(
    start, copy: Path, make_run: Callable[..., Path], tmp_path: Path, sentences: list[str]
):
    new = make_run(tmp_path / "new", "en", "de", seed=5)
    before, after = (Translator.load(path).translate(sentences[:8]) for path in (copy, new))
    assert before != after
    client = start(copy)
    answers: list[list[str]] = []
    deadline = time.monotonic() + 30

    def keep_asking(_: int) -> None:
        while after not in answers and time.monotonic() < deadline:
            answer = client.post("/translate", json={"q": sentences[:8], **ENDE})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json()["translatedText"])

    with ThreadPoolExecutor(4) as threads:
        asked = threads.map(keep_asking, range(4))
        while before not in answers and time.monotonic() < deadline:
            time.sleep(0.01)
        replace(copy, new)
        list(asked)
    assert before in answers
    assert after in answers
    assert all(
        text in pair
        for answer in answers
        for text, *pair in zip(answer, before, after, strict=True)
    )
    assert client.post("/translate", json={"q": sentences[:8], **ENDE}).json() == {
        "translatedText": after
    }


def test_a_broken_folder_changes_nothing_until_it_is_whole(
    start, copy: Path, make_run: Callable[..., Path], tmp_path: Path, sentences: list[str],
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    new = make_run(tmp_path / "new", "en", "de", seed=6)
    before, after = (Translator.load(path).translate(sentences[:2]) for path in (copy, new))
    client = start(copy)

    def answer() -> list[str]:
        return client.post("/translate", json={"q": sentences[:2], **ENDE}).json()["translatedText"]

    model = new / "model.safetensors"
    weights = model.read_bytes()
    model.write_bytes(weights[:1000])
    replace(copy, new)
    wait_for(client, "broken", swaps=1)
    assert answer() == before
    assert "en-de: not replaced:" in caplog.text
    assert str(tmp_path) not in client.get("/ready").text
    (copy / "model.safetensors").write_bytes(weights)
    wait_for(client, "ok", swaps=2)
    assert answer() == after
    shutil.rmtree(copy)
    wait_for(client, "broken", swaps=3)
    assert answer() == after


def at_once(file: Path, content: bytes) -> None:
    """Half a manifest would be one more that is broken."""
    beside = file.with_name("beside")
    beside.write_bytes(content)
    beside.replace(file)


def test_a_strange_manifest_is_told_once_and_the_folder_still_watched(
    start, copy: Path, caplog: pytest.LogCaptureFixture
):
    client, manifest = start(copy), copy / "manifest.json"
    whole = manifest.read_bytes()
    for number, strange in enumerate(STRANGE):
        at_once(manifest, strange.encode())
        wait_for(client, "broken", swaps=2 * number + 1)
        time.sleep(0.3)
        at_once(manifest, whole)
        wait_for(client, "ok", swaps=2 * number + 2)
    assert caplog.text.count("en-de: not replaced:") == len(STRANGE)
    assert "Traceback" not in caplog.text


def test_a_run_of_other_languages_is_not_taken(
    start, copy: Path, make_run: Callable[..., Path], tmp_path: Path, sentences: list[str],
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    client = start(copy)
    before = client.post("/translate", json={"q": sentences[0], **ENDE}).json()
    replace(copy, make_run(tmp_path / "new", "de", "en"))
    wait_for(client, "broken", swaps=1)
    assert client.post("/translate", json={"q": sentences[0], **ENDE}).json() == before
    assert "is for de-en by now, but served as en-de" in caplog.text


def test_a_folder_that_stays_is_not_loaded_again(start, copy: Path):
    client = start(copy)
    (copy / "metrics.jsonl").write_text("{}\n")
    time.sleep(0.4)
    assert "calque_swaps_total{" not in client.get("/metrics").text
