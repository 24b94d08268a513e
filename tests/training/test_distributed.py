"""Two processes that share each batch train as one does."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch

from calque.checkpoint import load_tensors

TRAINING = {"batch_tokens": 400, "clip_norm": 0.5, "max_steps": 16}
NO_DROPOUT = {"dropout": 0.0}
LATE = (
    "import time\n"
    "real = progress.Report.stepped\n"
    "def stepped(self, state, result):\n"
    "    real(self, state, result)\n"
    "    if state.step == 9: print('has begun')\n"
    "    time.sleep(0.02)\n"
    "progress.Report.stepped = stepped\n"
)


# A wrapped module that is still there when the process group goes may deadlock, now and then.
ALONE_AT_THE_END = (
    "import gc, torch.distributed\n"
    "real_destroy = torch.distributed.destroy_process_group\n"
    "def destroy():\n"
    "    kinds = {type(thing).__name__ for thing in gc.get_objects()}\n"
    "    assert 'DistributedDataParallel' not in kinds\n"
    "    real_destroy()\n"
    "torch.distributed.destroy_process_group = destroy\n"
)


AS_ON_GPUS = (
    "from torch.nn.parallel import DistributedDataParallel\n"
    "from calque.training.distributed import GradientSum, Processes\n"
    "Processes.wrap = lambda self, module: DistributedDataParallel(module)\n"
    "Processes.divisor = property(lambda self: self.world_size)\n"
    "GradientSum._over_a_network = lambda self: None\n"
)


def free_port() -> str:
    # Below the ports that systems give to whoever connects: a process that tries to connect before
    # the other listens may be given the very port that it tries, and then meets itself.
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return str(port)
    raise OSError("no free port")


@pytest.fixture
def two(child):
    """Starts two processes that train together."""

    def start(out, recipe=None, **job):
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
        places = [meeting | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
        return [child(out, recipe, environment=place, **job) for place in places]

    return start


def assert_same_weights(one, two):
    first, second = (load_tensors(run / "model.safetensors") for run in (one, two))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", ["", AS_ON_GPUS], ids=["CPUs", "GPUs"])
def test_the_weights_are_those_of_one_process(way, child, two, tiny, tmp_path):
    recipe = tiny(training=TRAINING, model=NO_DROPOUT)
    alone = child(tmp_path / "one", recipe)
    main, other = two(tmp_path / "two", recipe, before=ALONE_AT_THE_END + way)
    assert [alone.wait(), main.wait(), other.wait()] == [0, 0, 0]
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert "done: 16 steps" in main.printed
    assert other.printed == ""


def test_killed_and_resumed_they_end_as_if_nothing_had_been(two, tiny, tmp_path):
    recipe = tiny(training=TRAINING, tokenizer={"kind": "words", "vocab_size": 200})
    for run, deaths in (("whole", 0), ("killed", 1)):
        for _ in range(deaths):
            pair = two(tmp_path / run, recipe, die_at=[["step"], 9])
            assert [one.wait() for one in pair] == [-signal.SIGKILL] * 2
        pair = two(tmp_path / run, None if deaths else recipe)
        assert [one.wait() for one in pair] == [0, 0]
    ends = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert ends[0] == ends[1]


def test_a_signal_to_one_stops_both_at_the_same_step(two, tiny, tmp_path):
    pair = two(tmp_path / "run", tiny(training=TRAINING | {"max_steps": 100_000}), before=LATE)
    pair[0].wait_for("has begun")
    pair[1].send(signal.SIGTERM)
    assert [one.wait() for one in pair] == [130, 130]
    assert "saved at step" in pair[0].printed
    assert pair[1].printed == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"optimizer": "adma"}}, "did you mean 'adam'"),
        ({"training": {"schedule": "paper", "learning_rate": 1e30}}, "the loss is not finite"),
        ({"data": {"train": ["nowhere.en", "nowhere.de"]}}, "nowhere.en: there is no such file"),
    ],
)
def test_an_error_ends_both_and_is_told_once(changes, message, two, tiny, tmp_path):
    pair = two(tmp_path / "run", tiny(**changes), before=ALONE_AT_THE_END)
    assert [one.wait() for one in pair] == [2, 2], pair[1].printed
    assert message in pair[0].printed
    assert pair[1].printed == ""


TORCHRUN = """
import sys, time
from pathlib import Path
from rich.console import Console
from calque.config import read_toml
from calque.recipe import make_recipe
from calque.training import loop
out, console = Path(sys.argv[1]), Console(width=200)
if len(sys.argv) > 2:
    real = loop.Stepper.__call__
    loop.Stepper.__call__ = lambda *arguments: time.sleep(0.2) or real(*arguments)
    done = loop.train(make_recipe(read_toml(Path(sys.argv[2])), sys.argv[2]), out, console)
else:
    done = loop.resume(out, None, console)
sys.exit(0 if done else 130)
"""


def torchrun(folder, *arguments):
    script, log = folder / "script.py", folder / f"{len(arguments)}.log"
    script.write_text(TORCHRUN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *launcher, script, *arguments],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return process, log


def test_under_torchrun_stopped_and_resumed(child, tiny, tmp_path):
    recipe = tiny(training=TRAINING, model=NO_DROPOUT)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    alone = child(tmp_path / "one", recipe)
    first, log = torchrun(tmp_path, tmp_path / "two", tmp_path / "recipe.toml")
    while not list(tmp_path.glob("two/checkpoints/step-*")) and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    first.wait(60)
    assert log.read_text().count("SIGTERM: saved at step") == 1, log.read_text()
    assert not (tmp_path / "two" / "model.safetensors").exists()
    second, log = torchrun(tmp_path, tmp_path / "two")
    assert second.wait(60) == 0, log.read_text()
    assert log.read_text().count("done: 16 steps") == 1
    assert alone.wait() == 0
    assert_same_weights(tmp_path / "one", tmp_path / "two")
