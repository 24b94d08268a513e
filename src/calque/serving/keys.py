"""API keys: who may ask for translations."""

import hashlib
import hmac
from pathlib import Path

from calque.config import CalqueError
from calque.serving.limits import Refused
from calque.text.files import text_lines


class Keys:
    """The keys of which a request must hold one; none of them: all may ask."""

    def __init__(self, file: Path | None) -> None:
        """Read a file with a key on each line; empty lines and those with # before them are not.

        Raises CalqueError for a file that is not there, or holds no key.
        """
        lines = [line.strip() for line in text_lines(file)] if file else []
        self._digests = [_digest(key) for key in lines if key and not key.startswith("#")]
        if file and not self._digests:
            raise CalqueError(f"{file}: holds no key; write one on a line")

    @property
    def required(self) -> bool:
        return bool(self._digests)

    def check(self, key: str | None) -> None:
        """Raise Refused unless a key will do. How long it takes tells nothing of the keys."""
        if not self.required:
            return
        if not key:
            raise Refused(400, "Please contact the server operator to get an API key")
        given = _digest(key)
        if not any([hmac.compare_digest(given, known) for known in self._digests]):
            raise Refused(403, "Invalid API key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
