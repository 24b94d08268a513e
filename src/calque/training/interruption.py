"""Ctrl-C and SIGTERM: the first asks training to stop, a second Ctrl-C stops it at once."""

import os
import signal
from types import FrameType, TracebackType

STDERR = 2


class Interruption:
    """While the block runs, signals are remembered instead of ending the process."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.name = ""

    def __enter__(self) -> "Interruption":
        self.previous = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether training should save and leave."""
        return bool(self.name)

    def _ask(self, number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self.asked and not self.quiet:
            # Not print: the signal may have come in the middle of one.
            os.write(STDERR, b"\nsaving after this step; Ctrl-C to leave without\n")
        self.name = signal.Signals(number).name
