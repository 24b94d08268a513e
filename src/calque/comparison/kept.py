"""What was measured of each run, kept beside the results: its run folder may then be removed.

So a comparison can be done in parts, on other days or machines, and get more seeds and changes
later. A run is known by its recipe, and the content of its corpora and of the vectors that it
starts from.
"""

import gzip
import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from calque.comparison.measuring import Measured
from calque.comparison.plan import Run
from calque.config import CalqueError
from calque.text.fingerprint import digest_of, files_of
from calque.writing import whole_file


class Kept:
    """Measurements in one file of JSON, compressed, a line for each run."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one. Raises CalqueError when it is damaged."""
        self.file = file
        self.lines: dict[str, str] = {}
        self.digest = cache(digest_of)
        if file.exists():
            try:
                for line in gzip.decompress(file.read_bytes()).decode().split("\n")[:-1]:
                    self.lines[json.loads(line)["run"]] = line
            except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
                raise CalqueError(
                    f"{file}: is damaged ({error}); remove it, and what is trained is measured anew"
                ) from None

    def __contains__(self, run: Run) -> bool:
        return self._key(run) in self.lines

    def __getitem__(self, run: Run) -> Measured:
        record = json.loads(self.lines[self._key(run)])
        return Measured(**record["measured"])

    def add(self, run: Run, measured: Measured) -> None:
        """Keep what was measured; the file is whole at any time."""
        key = self._key(run)
        record = {"run": key, "change": run.row, "measured": asdict(measured)}
        self.lines[key] = json.dumps(record, ensure_ascii=False)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.file) as part:
            text = "\n".join(self.lines.values()) + "\n"
            part.write_bytes(gzip.compress(text.encode(), mtime=0))

    def _key(self, run: Run) -> str:
        digest = hashlib.sha256(run.recipe.to_toml().encode())
        data = run.recipe.data
        for corpus in (*data.train, *data.valid, *data.test):
            for file in files_of(corpus):
                digest.update(self.digest(file))
        for file in run.recipe.training.vector_files:
            digest.update(self.digest(Path(file)))
        return digest.hexdigest()
