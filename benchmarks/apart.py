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

OUR_ENVIRONMENT: dict[str, str] = {}
"""The environment of calque's contenders: what `import calque` sets for PyTorch's threads."""
# Not for the peers, whose processes would inherit it.
if os.environ.get("GOMP_SPINCOUNT") == SPINS:
    OUR_ENVIRONMENT["GOMP_SPINCOUNT"] = os.environ.pop("GOMP_SPINCOUNT")

_here: Any = None  # in a child: its contender


class Apart(Generic[Given, Result]):
    """A contender that lives in a fresh process, with threads, settings and memory of its own."""

    def __init__(
        self,
        make: Callable[..., Contender[Given, Result]],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Call `make` with the arguments, in the new process, whose environment has these too."""
        self._environment = environment or {}
        asked = make, arguments, self._environment
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_make, initargs=asked)

    def __enter__(self) -> "Apart[Given, Result]":
        before = dict(os.environ)
        os.environ.update(self._environment)  # libraries read it as they are loaded
        try:
            self._pool.submit(int)  # starts the process
        finally:
            os.environ.clear()
            os.environ.update(before)
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
    contenders: Mapping[str, Apart[Any, Any]], works: list[Any], warm_up: Any
) -> dict[str, list[Any]]:
    """The results of every contender for every work, one at a time: A B C, A B C, ...

    What a machine does beside falls on all alike. Each contender begins with `warm_up`, whose
    result is thrown away.
    """
    console = Console(stderr=True)
    results: dict[str, list[Any]] = {name: [] for name in contenders}
    with ExitStack() as stack, console.status("starting") as status:
        alive = {name: stack.enter_context(apart) for name, apart in contenders.items()}
        for round_number, work in enumerate([warm_up, *works]):
            for name, contender in alive.items():
                status.update(f"round {round_number} of {len(works)}: {name}")
                result = contender(work)
                if round_number:
                    results[name].append(result)
    return results


def _make(
    make: Callable[..., Any], arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> None:
    global _here  # noqa: PLW0603
    os.environ.update(environment)  # for the processes that the contender starts
    _here = make(*arguments)


def _call(given: Any) -> Any:
    return _here(given)
