"""What a request may take, and what is answered when it asks for more."""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

BYTES_OF_A_CHARACTER = 12  # escaped: \ud83d\ude00 in JSON, %F0%9F%98%80 in a form
BYTES_BESIDE = 65_536  # names of fields, separators


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may take, and all of them together."""

    characters: Annotated[int, Field(gt=0)] = 5_000
    """Of all texts of a request."""
    waiting: Annotated[int, Field(gt=0)] = 1_000
    """Sentences of a run that wait for their batch; while there are as many, or so many that they
    take half of `seconds`, requests are refused with 503."""
    seconds: Annotated[float, Field(gt=0)] = 30.0
    """From the end of a request's headers to its answer."""
    grace: Annotated[float, Field(gt=0)] = 30.0
    """Seconds to finish what was accepted, once the server is told to end."""

    @property
    def body(self) -> int:
        """Bytes of a body, enough for as many characters however they are written."""
        return BYTES_BESIDE + BYTES_OF_A_CHARACTER * self.characters


class Refused(Exception):  # noqa: N818
    """A request that gets an answer of its own instead of what it asked for."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
