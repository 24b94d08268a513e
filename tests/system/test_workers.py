"""`calque translate` by several processes: the same lines in the same order, and a clean end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest
import torch

import calque.cli.workers
import calque.translator
from calque import CalqueError, Translator
from calque.cli.workers import ParallelTranslator, suitable
from calque.models.build import ModelConfig, build
from calque.translator import LARGEST_WINDOW

EAGER = "import runpy; from calque.cli import workers; workers.WORTH_IT = 0.0; runpy."
MODULE = "run_module('calque', run_name='__main__', alter_sys=True)"
SCRIPT = f"run_path({str(Path(sys.executable).with_name('calque'))!r}, run_name='__main__')"
"""Both ways to start the command line, with workers from the second window on."""
LIMIT = 60  # seconds


@pytest.fixture(scope="module")
def lines(trained: Path) -> list[str]:
    of_test = (trained / "test.en").read_text(encoding="utf-8").splitlines()
    more = [f"{one} {other}" for one in of_test for other in of_test[:4]]
    return ["", *more, " ", *of_test]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calque.translator, "BATCH_TOKENS", 128)


@contextmanager
def started(translator: Translator) -> Iterator[ParallelTranslator]:
    before = torch.get_num_threads()
    parallel = ParallelTranslator(translator, processes=2)
    parallel.start()
    try:
        parallel.wait_until_ready()
        yield parallel
    finally:
        parallel.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("cores", "memory", "number"), [(1, 1e12, 1), (64, 1e12, 64), (64, 8e9, 5), (64, 1e6, 1)]
)
def test_there_are_as_many_as_have_a_core_and_memory(
    cores, memory, number, trained, monkeypatch, tmp_path
):
    translator = Translator.load(trained / "run")
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1}.get(name, memory))
    monkeypatch.setattr("calque.training.memory.LIMIT", tmp_path / "none")
    assert suitable(translator) == number


def test_it_finds_what_one_process_finds_and_tells_errors(
    trained, lines, small_batches, monkeypatch
):
    run = Translator.load(trained / "run")
    size = run.tokenizers.source.vocab_size
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 32}
    model = build(ModelConfig(positions="learned", num_heads=2, **sizes), size, size).eval()
    translator = Translator(model, run.tokenizers, run.decoding)
    expected = translator.n_best(lines)
    here: list[str] = []

    def n_best(batch: list[str]) -> object:
        here.extend(batch)
        return Translator.n_best(translator, batch)

    with started(translator) as parallel:
        monkeypatch.setattr(translator, "n_best", n_best)
        found = parallel.n_best(lines)
        assert [len(of_line) for of_line in found] == [len(of_line) for of_line in expected]
        for of_line, same in zip(found, expected, strict=True):
            assert [one.text for one in of_line] == [one.text for one in same]
            assert [one.hypothesis.tokens for one in of_line] == [
                one.hypothesis.tokens for one in same
            ]
            assert [one.score for one in of_line] == pytest.approx([one.score for one in same])
        assert len({of_line[0].text for of_line in found}) > 10
        assert not here  # all was done elsewhere
        with pytest.raises(CalqueError, match=r"text of 1,025 tokens.* 1,024 positions"):
            parallel.n_best(["word " * 1024, *lines[:20]])


def test_a_killed_worker_is_told_and_a_stream_reads_little_ahead(trained, lines, small_batches):
    numbers = count()
    with started(Translator.load(trained / "run")) as parallel:
        stream = parallel.stream(lines[next(numbers) % len(lines)] for _ in count())
        for given in range(1, 200):
            assert next(stream)
            assert next(numbers) - given <= LARGEST_WINDOW + 100 + given
        parallel._workers[0].process.kill()
        with pytest.raises(CalqueError, match=r"has ended \(SIGKILL\).*OMP_NUM_THREADS=1"):
            list(stream)


def workers_of(process: int) -> list[int]:
    """The processes that a process has spawned to work."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass  # it has ended meanwhile
    return found


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def translating(entry: str, run: Path, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command line with two threads, its own process group and pipes."""
    process = subprocess.Popen(
        [sys.executable, "-c", EAGER + entry, "translate", run, *map(str, options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def text_of(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_a_long_file_is_translated_by_two(trained, tmp_path, lines):
    text = lines * 20
    (tmp_path / "text").write_bytes(text_of(text))
    expected = Translator.load(trained / "run").n_best(lines) * 20
    with translating(MODULE, trained / "run", tmp_path / "text", "--n-best", 2) as process:
        until(lambda: workers_of(process.pid))
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, b"")
    found = out.decode().split("\n")[:-1]
    assert found == [t for best in expected for t in ([*(one.text for one in best), ""])[:2]]


def test_lines_come_while_the_sender_waits_and_nothing_is_left_when_it_is_killed(trained, lines):
    with translating(SCRIPT, trained / "run") as process:
        assert process.stdin and process.stdout
        for size in 64, 128, 256:
            process.stdin.write(text_of((lines * 3)[:size]))
            process.stdin.flush()
            assert all(process.stdout.readline() for _ in range(size))
        workers = workers_of(process.pid)
        assert len(workers) == 2
        process.kill()
        until(lambda: not any(map(alive, workers)))


@pytest.mark.parametrize("how", ["interrupted", "no reader"])
def test_it_ends_without_a_word(how, trained, tmp_path, lines):
    (tmp_path / "text").write_bytes(text_of(lines * 60))
    with translating(SCRIPT, trained / "run", tmp_path / "text") as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        until(lambda: workers_of(process.pid))
        workers = workers_of(process.pid)
        if how == "interrupted":
            os.killpg(process.pid, signal.SIGINT)
            process.stdout.read()
        else:
            process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(LIMIT) == (130 if how == "interrupted" else 1)
        assert not any(map(alive, workers))
    assert err.strip() in ("", "Aborted!", "Aborted.")


def test_an_interruption_waits_until_all_are_started(trained, monkeypatch):
    """Whatever thread takes the signal: a worker half started complains."""
    begun = []

    def begin(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        begun.append(1)

    monkeypatch.setattr(calque.cli.workers, "_Worker", begin)
    handler, threads, end = signal.getsignal(signal.SIGINT), torch.get_num_threads(), Event()
    other = Thread(target=end.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ParallelTranslator(Translator.load(trained / "run"), processes=2).start()
    finally:
        end.set()
        other.join()
        torch.set_num_threads(threads)
    assert (len(begun), signal.getsignal(signal.SIGINT)) == (2, handler)
