"""Contenders in processes of their own, measured in turn."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from rich.console import Console

from calque import SPINS

Given = TypeVar("Given")
Result = TypeVar("Result")
Contender = Callable[[Given], Result]

# What `import calque` sets for PyTorch's threads is not for the peers, whose processes inherit it.
if os.environ.get("GOMP_SPINCOUNT") == SPINS:
    del os.environ["GOMP_SPINCOUNT"]

_here: Any = None  # in a child: its contender


class Apart(Generic[Given, Result]):
    """A contender that lives in a fresh process, with threads, settings and memory of its own."""

    def __init__(self, make: Callable[..., Contender[Given, Result]], *arguments: Any) -> None:
        """Call `make` with the arguments, in the new process."""
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_make, initargs=(make, arguments)
        )

    def __enter__(self) -> "Apart[Given, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def __call__(self, given: Given) -> Result:
        return self._pool.submit(_call, given).result()


def once(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function, from a process that does nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_turn(
    contenders: Mapping[str, tuple[Any, ...]], works: list[Any], warm_up: Any
) -> dict[str, list[Any]]:
    """The results of every contender for every work, one at a time: A B C, A B C, ...

    What a machine does beside falls on all alike. Each contender is what to make it of, see
    `Apart`; it begins with `warm_up`, whose result is thrown away.
    """
    console = Console(stderr=True)
    results: dict[str, list[Any]] = {name: [] for name in contenders}
    with ExitStack() as stack, console.status("starting") as status:
        alive = {name: stack.enter_context(Apart(*make)) for name, make in contenders.items()}
        for round_number, work in enumerate([warm_up, *works]):
            for name, contender in alive.items():
                status.update(f"round {round_number} of {len(works)}: {name}")
                result = contender(work)
                if round_number:
                    results[name].append(result)
    return results


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _here  # noqa: PLW0603
    _here = make(*arguments)


def _call(given: Any) -> Any:
    return _here(given)
