"""`calque serve` as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
from libretranslatepy import LibreTranslateAPI

ENDE = {"source": "en", "target": "de"}


@contextmanager
def process(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "calque", "serve", *map(str, arguments), "--port", "0"]
    # Where tests run in the background, a child would ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert started.stderr is not None
    try:
        line = started.stderr.readline()
        assert line.startswith("serving at http://"), line + started.stderr.read()
        yield started, line.split()[-1]
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def takes_calls(host, port) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True


def test_it_translates_as_translate_does_and_ends_when_all_is_answered(calque, trained: Path):
    lines = (trained / "train.en").read_text("utf-8").splitlines()[:50]
    expected = calque("translate", trained / "run", trained / "train.en").out.splitlines()[:50]
    with process(trained / "run", "--max-characters", "2000000", "--timeout", "120") as (
        server,
        address,
    ):
        assert address.startswith("http://127.0.0.1:")
        api = LibreTranslateAPI(address)
        assert [api.translate(line, "en", "de") for line in lines[:5]] == expected[:5]
        with httpx2.Client(base_url=address, timeout=120) as client, ThreadPoolExecutor(1) as pool:
            asked = {"q": lines * 200, **ENDE}
            answer = pool.submit(client.post, "/translate", json=asked)
            while "\ncalque_waiting_sentences" not in (text := client.get("/metrics").text) or (
                'calque_waiting_sentences{source="en",target="de"} 0.0' in text
            ):
                time.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            while takes_calls(client.base_url.host, client.base_url.port):
                assert not answer.done()
                time.sleep(0.01)
            assert not answer.done()
            assert answer.result().json() == {"translatedText": expected * 200}
        assert server.wait(30) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


def test_the_languages_of_a_memory_are_enough(calque, memories: Path):
    recipe = (memories / "recipe.toml").read_text("utf-8")
    tables = [
        f"[[data.{split}]]\nfile = '{split}.tmx'\nsource = 'en'\ntarget = 'de'\n"
        for split in ("train", "valid")
    ]
    (memories / "ours.toml").write_text("".join(tables) + recipe[recipe.index("[tokenizer]") :])
    trained = calque("train", "ours.toml", "--set", "training.max_steps=1", "--out", "ours")
    assert (trained.code, "cannot be served" in trained.out) == (0, False)
    with process(memories / "ours") as (_, address):
        asked = httpx2.post(f"{address}/translate", json={"q": "A dog.", **ENDE})
        assert asked.status_code == 200, asked.text


def test_a_run_that_cannot_be_served_says_so_before_it_trains(calque, here: Path):
    recipe = (here / "recipe.toml").read_text("utf-8").replace('target_language = "de"\n', "")
    (here / "recipe.toml").write_text(recipe, "utf-8")
    trained = calque("train", "recipe.toml", "--set", "training.max_steps=1", "--out", "made")
    before, _, after = trained.out.partition("cannot be served")
    assert (trained.code, "step 1" in before, "step 1" in after) == (0, False, True)
    assert calque("serve", "made").code == 2


def test_ctrl_c_ends_it(trained: Path):
    with process(trained / "run") as (server, address):
        assert httpx2.get(f"{address}/health").json() == {"status": "ok"}
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()


def test_what_cannot_be_served_is_said(calque, here: Path):
    outcome = calque("serve", "nowhere")
    assert (outcome.code, outcome.err) == (
        2,
        "Error: nowhere: not a run folder (manifest.json is missing)\n",
    )
    outcome = calque("serve", "run", "run")
    assert outcome.code == 2
    assert outcome.err.startswith("Error: run: is for en-de, as run; a pair of languages is")
    for origin in ("https://example.org/", "foo", "https://*/x"):
        outcome = calque("serve", "run", "--cors", origin)
        assert outcome.code == 2
        assert outcome.err.startswith(f"Error: --cors {origin}: not an origin; write it as")
    outcome = calque("serve", "run", "--api-keys", "recipe.txt")
    assert (outcome.code, outcome.err) == (2, "Error: recipe.txt: there is no such file\n")


def test_an_address_that_cannot_be_had_is_said(calque, here: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = calque("serve", "run", "--port", port)
    assert outcome.code == 2
    reason = os.strerror(98)
    assert outcome.err == f"Error: 127.0.0.1:{port}: cannot listen there: {reason}\n"
