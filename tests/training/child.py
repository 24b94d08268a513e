"""One training in a process of its own, that can be told where to die; conftest.py starts it."""

import json
import os
import shutil
import signal
import sys
import tomllib
from pathlib import Path

import torch
from rich.console import Console

from calque import checkpoint
from calque.config import CalqueError
from calque.recipe import make_recipe
from calque.training import loop, progress, state
from calque.training.course import Course
from calque.training.step import Stepper

JOB = json.loads(globals()["job"])

# What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts in turn.
signal.signal(signal.SIGINT, signal.default_int_handler)

PLACES = {
    "step": (Stepper, "__call__"),
    "validation": (loop, "validate"),
    "publish": (loop.Training, "_publish"),
    "flush": (os, "fsync"),
    "rename": (Path, "rename"),
    "replace": (Path, "replace"),
    "remove": (shutil, "rmtree"),
    "unlink": (os, "unlink"),
    "log": (progress.Report, "_log"),
    "epoch": (Course, "forget"),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(count, place, real):
    # A function, not a partial: only that becomes a method of the class it is put into.
    return lambda *args, **options: count(place, real, *args, **options)


def die_at(places, countdown, after=None):
    """Die instead of the `countdown`-th call of these (after the first call of another)."""
    counting = after is None

    def count(place, real, *args, **options):
        nonlocal countdown, counting
        countdown -= counting and place in places
        counting = counting or place == after
        if countdown == 0:
            die()
        return real(*args, **options)

    for place in (*places, *filter(None, [after])):
        owner, name = PLACES[place]
        setattr(owner, name, wrapped(count, place, getattr(owner, name)))


def die_half_written(countdown):
    """Die when the `countdown`-th file of tensors has been written by half."""
    real = checkpoint.save_tensors

    def cut(path, tensors):
        nonlocal countdown
        real(path, tensors)
        countdown -= 1
        if countdown == 0:
            os.truncate(path, path.stat().st_size // 2)
            die()

    checkpoint.save_tensors = state.save_tensors = cut


def main():
    os.environ.update(JOB["environment"])
    log = os.open(JOB["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False
    state.LOG_EVERY = progress.LOG_EVERY = 6
    if "die_at" in JOB:
        die_at(*JOB["die_at"])
    if "die_half_written" in JOB:
        die_half_written(JOB["die_half_written"])
    exec(JOB.get("before", ""), globals())
    console = Console(file=sys.stdout, width=120)
    out = Path(JOB["out"])
    try:
        if JOB["recipe"]:
            recipe = make_recipe(tomllib.loads(JOB["recipe"]), "recipe")
            start = checkpoint.RunFolder(Path(JOB["start"])) if "start" in JOB else None
            done = loop.train(recipe, out, console, start)
        else:
            done = loop.resume(out, None, console)
    except CalqueError as error:
        print(f"error: {error}")
        sys.exit(2)
    sys.exit(0 if done else 130)


main()
