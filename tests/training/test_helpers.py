"""A training that starts helping processes itself: as exact as one process, and none is left."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from calque.checkpoint import RunFolder, load_tensors
from calque.training.helpers import suitable
from calque.training.preparation import learn_tokenizers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="helpers are for Linux")

TRAINING = {"max_steps": 16, "save_every": 6, "learning_rate": 0.003, "clip_norm": 0.5}
WITH_HELPERS = (
    "import functools\n"
    "from calque.training import helpers\n"
    "torch.set_num_threads({cores})\n"
    "helpers.SHARE_TOKENS, helpers.SHORT = 100, 0\n"
    "loop.train = functools.partial(loop.train, with_helpers=True)\n"
    "loop.resume = functools.partial(loop.resume, with_helpers=True)\n"
    "begin = helpers.Helper.__init__\n"
    "def told(self, *place):\n"
    "    begin(self, *place)\n"
    "    print('helper', self.process.pid)\n"
    "helpers.Helper.__init__ = told\n"
    "real = progress.Report.stepped\n"
    "def stepped(self, state, result):\n"
    "    real(self, state, result)\n"
    "    if state.step == 8: print('has begun')\n"
    "progress.Report.stepped = stepped\n"
)
TWO, THREE = (WITH_HELPERS.format(cores=cores) for cores in (2, 3))


def helpers_of(training):
    return [int(line.split()[1]) for line in training.printed.splitlines() if "helper " in line]


def runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except FileNotFoundError:
        return False


def assert_gone(processes, number, seconds=10):
    assert len(processes) == number
    end = time.monotonic() + seconds
    while any(map(runs, processes)):
        assert time.monotonic() < end, "a helper is still there"
        time.sleep(0.05)


@pytest.fixture
def long(tiny):
    return tiny(training={"max_steps": 100_000, "save_every": 6})


def test_the_weights_are_those_of_one_process_and_of_a_training_without_a_break(
    child, tiny, content, tmp_path
):
    recipe = tiny(training=TRAINING, model={"dropout": 0.0})
    alone = child(tmp_path / "alone", recipe)
    whole = child(tmp_path / "whole", recipe, before=THREE)
    killed = child(tmp_path / "killed", recipe, before=THREE, die_at=[["step"], 9])
    assert killed.wait() == -signal.SIGKILL
    assert_gone(helpers_of(killed), 2)
    resumed = child(tmp_path / "killed", before=THREE)
    assert [alone.wait(), whole.wait(), resumed.wait()] == [0, 0, 0], whole.printed
    for training in (whole, resumed):
        assert "on cpu in float32, 3 processes, into" in training.printed
        assert_gone(helpers_of(training), 2, seconds=0)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    one, three = (load_tensors(tmp_path / run / "model.safetensors") for run in ("alone", "whole"))
    for name, tensor in one.items():
        torch.testing.assert_close(three[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_signal_saves_and_no_process_is_left(child, long, tmp_path):
    training = child(tmp_path / "run", long, before=TWO)
    training.wait_for("has begun")
    training.send(signal.SIGTERM)
    assert training.wait() == 130
    assert "SIGTERM: saved at step" in training.printed
    assert_gone(helpers_of(training), 1, seconds=0)


def test_a_second_interrupt_leaves_at_once(child, tiny, tmp_path):
    validating = "loop.validate = lambda *_: print('validating') or time.sleep(1000)\n"
    training = child(tmp_path / "run", tiny(), before=f"import time\n{TWO}{validating}")
    training.wait_for("validating")
    training.send(signal.SIGINT)
    training.wait_for("saving after this step")
    training.send(signal.SIGINT)
    assert training.wait() == 1  # as any KeyboardInterrupt that nobody has caught
    assert_gone(helpers_of(training), 1, seconds=0)


def test_without_its_helper_it_ends_with_one_message(child, long, tmp_path):
    training = child(tmp_path / "run", long, before=TWO)
    training.wait_for("has begun")
    (helper,) = helpers_of(training)
    os.kill(helper, signal.SIGKILL)
    assert training.wait() == 2
    error = training.printed.splitlines()[-1]
    assert error.startswith("error: a helping process was ended by SIGKILL")
    assert error.endswith(RunFolder(tmp_path / "run").checkpoints()[-1].name)
    assert "Traceback" not in training.printed


MEETING = (
    "from datetime import timedelta\n"
    "from calque.training import distributed\n"
    "distributed.MEETING = timedelta(seconds=4)\n"
    "wait_for = helpers._wait_for\n"
    "def have_started(started, store):\n"
    "    wait_for(started, store)\n"
    "    {then}\n"
    "helpers._wait_for = have_started\n"
)


def test_a_helper_that_dies_as_they_meet_is_not_waited_for(child, long, tmp_path):
    died = MEETING.format(then="started[0].process.kill(); started[0].process.wait()")
    training = child(tmp_path / "run", long, before=TWO + died)
    assert training.wait() == 2
    error = training.printed.splitlines()[-1]
    assert error.startswith("error: a helping process was ended by SIGKILL")
    assert "Traceback" not in training.printed


def test_once_they_have_met_they_wait_for_longer(child, tiny, tmp_path):
    sleeping = MEETING.format(then="real.helper = started[0].process.pid") + (
        "import os, signal, threading\n"
        "def slept(self, state, result):\n"
        "    stepped(self, state, result)\n"
        "    if state.step == 8:\n"
        "        os.kill(real.helper, signal.SIGSTOP)\n"
        "        threading.Timer(6, os.kill, (real.helper, signal.SIGCONT)).start()\n"
        "progress.Report.stepped = slept\n"
    )
    start = time.monotonic()
    training = child(tmp_path / "run", tiny(training=TRAINING), before=TWO + sleeping)
    assert training.wait() == 0
    assert time.monotonic() - start > 6


@pytest.mark.parametrize(
    ("cores", "memory", "changes", "number"),
    [
        (1, 1e12, {}, 1),
        (2, 1e12, {}, 2),
        (64, 1e12, {}, 4),
        (64, 1e12, {"accumulation": 2}, 8),
        (64, 1e12, {"batch_tokens": 500}, 1),
        (64, 6.2e9, {}, 3),
        (64, 1e6, {}, 1),
        (64, 1e12, {"max_steps": 10}, 1),
    ],
)
def test_as_many_as_have_a_core_memory_and_work(
    cores, memory, changes, number, tiny, tmp_path, monkeypatch, console
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1}.get(name, memory))
    monkeypatch.setattr("calque.training.memory.LIMIT", tmp_path / "none")
    recipe = tiny(training={"max_steps": 1_000_000, "batch_tokens": 4096, **changes})
    tokenizers = learn_tokenizers(recipe, console)
    assert suitable(RunFolder.create(tmp_path / "run", recipe, tokenizers, {})) == number
