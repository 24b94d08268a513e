"""What the endpoints share: who may ask, how much, and which run answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from calque.serving.keys import Keys
from calque.serving.languages import Detected, Detector
from calque.serving.limits import Limits, Refused
from calque.serving.runs import Run, Runs

AUTO = "auto"


@dataclass(frozen=True)
class Service:
    """Runs, and what stands before them."""

    runs: Runs
    keys: Keys
    detector: Detector
    limits: Limits

    def admit(self, key: str | None, texts: Sequence[str]) -> None:
        """Raise Refused for a key that will not do, or more text than a request may have."""
        self.keys.check(key)
        characters = sum(map(len, texts))
        if characters > self.limits.characters:
            raise Refused(
                400,
                f"Invalid request: request ({characters}) exceeds text limit "
                f"({self.limits.characters})",
            )

    def choose(
        self, source: str, target: str, texts: Sequence[str]
    ) -> tuple[Run | None, Detected | None]:
        """The run for a pair of languages; with source `auto`, also the language detected.

        No run is needed where the texts are in the target language already. Raises Refused for a
        language or a pair that is not served.
        """
        pairs = [(run.source, run.target) for run in self.runs]
        codes = {code for pair in pairs for code in pair}
        for code in (target,) if source == AUTO else (source, target):
            if code not in codes:
                raise Refused(400, f"{code} is not supported")
        detected = None
        if source == AUTO:
            able = {s for s, t in pairs if t == target} | {target}
            found = self.detector.detect("\n".join(texts))
            detected = next(one for one in found if one.language in able)
            source = detected.language
            if source == target:
                return None, detected
        return self.find(source, target), detected

    def find(self, source: str, target: str) -> Run:
        """The run for a pair of languages. Raises Refused where there is none."""
        run = self.runs.find(source, target)
        if run is None:
            raise Refused(400, f"{target} is not available as a target language from {source}")
        return run
