"""Ctrl-C and SIGTERM: the first asks training to stop, a second Ctrl-C stops it at once."""

import os
import signal
from contextlib import suppress
from threading import current_thread, main_thread
from types import FrameType, TracebackType

SIGNALS = signal.SIGINT, signal.SIGTERM
STDERR = 2


class Interruption:
    """While the block runs, signals are remembered instead of ending the process."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.name = ""

    def __enter__(self) -> "Interruption":
        # Python gives signals to the main thread alone; another one trains without.
        heard = SIGNALS if current_thread() is main_thread() else ()
        self.previous = {number: signal.signal(number, self._ask) for number in heard}
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
        first, self.name = not self.asked, signal.Signals(number).name
        if first and not self.quiet:
            # Not print: the signal may have come in the middle of one. And who reads along may
            # have had the same signal.
            with suppress(OSError):
                os.write(STDERR, b"\nsaving after this step; Ctrl-C to leave without\n")
