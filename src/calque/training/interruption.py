"""Ctrl-C and SIGTERM: the first asks training to stop, a second Ctrl-C stops it at once."""

import signal
from types import FrameType, TracebackType


class Interruption:
    """While the block runs, signals are remembered instead of ending the process."""

    def __enter__(self) -> "Interruption":
        self.name = ""
        self.previous = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def asked(self) -> bool:
        """Whether training should save and leave."""
        return bool(self.name)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
