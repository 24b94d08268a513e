"""Limits, errors and operation, at a real server and with clients that misbehave."""

import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from calque.config import CalqueError
from calque.serving.app import Settings, create_app
from calque.serving.limits import Limits
from calque.translator import Translator

Error = Callable[[httpx2.Response], str]
ENDE = {"source": "en", "target": "de"}
GOOD = {"q": "A dog.", **ENDE}


def connect(client: httpx2.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20)


def raw_request(body: bytes, length: int | None = None) -> bytes:
    head = (
        "POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def counted(client: httpx2.Client, name: str) -> float:
    text = client.get("/metrics").text
    return sum(float(number) for number in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def test_a_large_body_is_refused_before_it_is_read(client: httpx2.Client):
    with connect(client) as connection:
        connection.sendall(raw_request(b"", length=10**12))
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_large_body_of_unknown_length_is_refused_on_the_way(client: httpx2.Client, error: Error):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"a" * 100_000

    try:
        answer = client.post("/translate", content=endless())
    except httpx2.TransportError:  # the server has hung up
        pass
    else:
        assert answer.status_code == 413
        assert error(answer).startswith("The body is over ")
    assert sent < 1000


def test_every_text_within_the_limit_has_room_in_a_body(client: httpx2.Client):
    asked = {**ENDE, "q": ["😀"] * 100}
    written = json.dumps(asked)  # as \ud83d\ude00
    assert client.post("/translate", content=written).status_code == 200
    longest = json.dumps({**ENDE, "q": "\U0001f600" * 5000})
    assert client.post("/detect", content=longest).status_code == 200


def test_a_slow_client_holds_nobody(client: httpx2.Client, sentences: list[str]):
    body = json.dumps(GOOD).encode()
    with connect(client) as slow:
        slow.sendall(raw_request(body)[:-5])
        for sentence in sentences[:5]:
            answer = client.post("/translate", json={"q": sentence, **ENDE}, timeout=5)
            assert answer.status_code == 200
        slow.sendall(body[-5:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_never_ends_is_given_up(start, run: Path):
    client = start(run, limits=Limits(seconds=0.5))
    with connect(client) as slow:
        slow.sendall(raw_request(b'{"q":', length=100))
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert client.post("/translate", json=GOOD).status_code == 200


def test_clients_that_go_away_leave_nothing_behind(client: httpx2.Client, sentences: list[str]):
    for number in range(20):
        with connect(client) as gone:
            body = json.dumps({"q": sentences[number : number + 30], **ENDE}).encode()
            gone.sendall(raw_request(body))
    deadline = time.monotonic() + 10
    status = 503  # it takes a moment to see that all have gone
    while status == 503 and time.monotonic() < deadline:
        status = client.post("/translate", json={"q": sentences[0], **ENDE}).status_code
    assert status == 200
    while counted(client, "calque_waiting_sentences") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counted(client, "calque_waiting_sentences") == 0


def test_a_full_queue_is_503_with_retry_after(
    start, run: Path, sentences: list[str], error: Error, translator: Translator
):
    client = start(run, limits=Limits(waiting=20, characters=100_000))
    expected = translator.translate(sentences)

    def ask(_: int) -> httpx2.Response:
        return client.post("/translate", json={"q": sentences, **ENDE}, timeout=60)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(24)))
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert error(answer) == "Too many requests are waiting"
            assert int(answer.headers["Retry-After"]) >= 1
        else:
            assert answer.json() == {"translatedText": expected}


def test_a_request_over_its_time_is_503(start, run: Path, sentences: list[str], error: Error):
    client = start(run, limits=Limits(seconds=0.05, characters=100_000))
    answer = client.post("/translate", json={"q": sentences * 5, **ENDE})
    assert answer.status_code == 503
    assert error(answer) == "The request took too long"
    assert answer.headers["Retry-After"] == "1"


def test_many_clients_get_what_one_gets(
    client: httpx2.Client, sentences: list[str], translator: Translator
):
    before = counted(client, "calque_batch_sentences_count")

    def ask(sentence: str) -> str:
        return client.post("/translate", json={"q": sentence, **ENDE}).json()["translatedText"]

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, sentences))
    assert answers == translator.translate(sentences)
    assert counted(client, "calque_batch_sentences_count") - before < len(sentences) / 2


def test_health_readiness_and_metrics(client: httpx2.Client, sentences: list[str]):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {
        "status": "ready",
        "runs": [
            {"source": "en", "target": "de", "folder": "ok"},
            {"source": "de", "target": "en", "folder": "ok"},
        ],
    }
    before = [counted(client, name) for name in ("calque_sentences_total", "calque_tokens_total")]
    client.post("/translate", json={"q": sentences[:3], **ENDE})
    after = [counted(client, name) for name in ("calque_sentences_total", "calque_tokens_total")]
    assert after[0] - before[0] == 3
    assert after[1] - before[1] > 12
    text = client.get("/metrics").text
    assert 'calque_requests_total{path="/translate",status="200"}' in text
    assert 'calque_request_seconds_bucket{le="0.5",path="/health"}' in text


def test_paths_of_all_kinds_are_counted_as_one(client: httpx2.Client, error: Error):
    answer = client.get("/no/such/../path%00")
    assert answer.status_code == 404
    assert error(answer) == "Not Found"
    assert 'path="other",status="404"' in client.get("/metrics").text
    assert "no/such" not in client.get("/metrics").text


def test_the_docs_need_no_network(client: httpx2.Client):
    page = client.get("/docs").text
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address).status_code == 200
    described = client.get("/openapi.json").json()["paths"]
    assert {"/translate", "/languages", "/detect", "/frontend/settings"} < described.keys()
    assert {"/v1/look", "/v1/translate", "/v1/alternatives", "/health"} < described.keys()


def test_no_other_page_may_ask_unless_told(start, client: httpx2.Client, run: Path):
    origin = {"Origin": "https://example.org"}
    allowed = "Access-Control-Allow-Origin"
    assert allowed not in client.post("/translate", json=GOOD, headers=origin).headers
    cors = start(run, origins=["https://example.org"])
    answer = cors.post("/translate", json=GOOD, headers=origin)
    assert answer.headers[allowed] == "https://example.org"
    other = cors.post("/translate", json=GOOD, headers={"Origin": "https://example.com"})
    assert allowed not in other.headers


def test_a_pair_of_languages_is_served_by_one_run(run: Path, copy: Path):
    with pytest.raises(CalqueError, match=r"is for en-de, as .*run; a pair .* from one run"):
        create_app([run, copy], Settings())


def test_a_run_must_name_its_languages(make_run: Callable[..., Path], tmp_path: Path):
    with pytest.raises(CalqueError, match="names no languages; train with"):
        create_app([make_run(tmp_path / "run", "en", "")], Settings())


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(CalqueError, match="not a run folder"):
        create_app([tmp_path], Settings())
