"""Ctrl-C and SIGTERM, sent to a process that trains."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from calque.config import CalqueError
from calque.training.loop import resume, train

SLOW = {"max_steps": 100_000, "validate_every": 100_000, "save_every": 100_000}
FIRST_STEPS = (
    "real = progress.Report.stepped\n"
    "def stepped(self, state, result):\n"
    "    real(self, state, result)\n"
    "    if state.step == 3: print('has begun')\n"
    "progress.Report.stepped = stepped\n"
)
LONG_VALIDATION = (
    "import time\n"
    "def validate(*_):\n"
    "    print('has begun')\n"
    "    time.sleep(1000)\n"
    "loop.validate = validate\n"
)


@pytest.fixture
def begun(child, tiny, tmp_path):
    """A training that is under way."""

    def begun(before=FIRST_STEPS, **changes):
        training = child(tmp_path / "run", tiny(training=SLOW | changes), before=before)
        training.wait_for("has begun")
        return training

    return begun


def saved(run):
    return [folder.name for folder in sorted((run / "checkpoints").iterdir())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_saves_and_says_how_to_go_on(number, begun, child, tmp_path):
    training = begun()
    training.send(number)
    assert training.wait() == 130
    message = re.search(r"(SIG\w+): saved at step ([\d,]+); go on with: (.*)", training.printed)
    assert message is not None, training.printed
    assert message[1] == number.name
    assert message[3] == f"calque train --resume --out {tmp_path / 'run'}"
    step = int(message[2].replace(",", ""))
    assert step >= 3
    assert saved(tmp_path / "run") == [f"step-{step:08d}"]
    later = FIRST_STEPS.replace("== 3", f"== {step + 2}")
    resumed = child(tmp_path / "run", before=later)
    resumed.wait_for("has begun")
    resumed.send(number)
    assert resumed.wait() == 130
    assert int(saved(tmp_path / "run")[0][-8:]) >= step + 2


@pytest.mark.parametrize("streams", [[2], [1], [1, 2]], ids=str)
def test_saves_when_who_reads_along_has_gone(streams, begun, tmp_path):
    """As in `calque train 2>&1 | tee log`: Ctrl-C ends both."""
    gone = f"read, write = os.pipe(); os.close(read); [os.dup2(write, s) for s in {streams}]"
    training = begun(FIRST_STEPS.replace("print('has begun')", f"print('has begun'); {gone}"))
    training.send(signal.SIGINT)
    training.process.join(60)
    assert saved(tmp_path / "run")
    assert training.process.exitcode == 130


def test_nobody_else_can_train_there_meanwhile(begun, child, content, tmp_path):
    training = begun(validate_every=2)
    training.wait_for("best")
    training.send(signal.SIGSTOP)
    before = content(tmp_path / "run")
    with pytest.raises(CalqueError, match="run: is being trained by another process"):
        resume(tmp_path / "run")
    assert content(tmp_path / "run") == before
    training.send(signal.SIGKILL)
    training.wait()
    assert child(tmp_path / "run", before="loop.Training._done = lambda _: True").wait() == 0


def test_another_thread_may_train(tiny, tmp_path, console):
    with ThreadPoolExecutor() as pool:
        short = tiny(training={"max_steps": 2})
        assert pool.submit(train, short, tmp_path / "run", console).result()
    assert resume(tmp_path / "run", None, console)


def test_is_heard_at_once(begun):
    training = begun(LONG_VALIDATION, validate_every=2)
    training.send(signal.SIGTERM)
    training.wait_for("saving after this step; Ctrl-C to leave without")
    assert training.process.is_alive()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_leaves_at_once(first, begun, tmp_path):
    training = begun(LONG_VALIDATION, validate_every=2)
    training.send(first)
    training.wait_for("saving after this step")
    training.send(signal.SIGINT)
    assert training.wait() == 1
    assert "KeyboardInterrupt" in training.printed
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_ctrl_c_before_training_leaves_no_run_folder(child, tiny, tmp_path):
    before = (
        "import time\n"
        "def prepare_corpora(*_):\n"
        "    print('has begun')\n"
        "    time.sleep(1000)\n"
        "loop.prepare_corpora = prepare_corpora\n"
    )
    training = child(tmp_path / "run", tiny(), before=before)
    training.wait_for("has begun")
    training.send(signal.SIGINT)
    assert training.wait() == 1
    assert list(tmp_path.iterdir()) == []
