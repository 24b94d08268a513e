"""`calque train` on two cores, as a user starts and leaves it."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="helpers are for Linux")


def test_ctrl_c_at_the_terminal_saves_once(here):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}
    long = ["--set=training.max_steps=100_000", "--set=training.batch_tokens=2048"]
    command = [sys.executable, "-m", "calque", "train", "recipe.toml", "--out", "two", *long]
    with (here / "log").open("wb") as log:
        training = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while not list((here / "two").glob("checkpoints/step-*")) and training.poll() is None:
        time.sleep(0.05)
    os.killpg(training.pid, signal.SIGINT)
    assert training.wait(60) == 130, (here / "log").read_text()
    said = (here / "log").read_text()
    assert ", 2 processes, into two" in said
    assert said.count("SIGINT: saved at step") == 1
    assert "Traceback" not in said
