"""The export to CTranslate2 that a run folder keeps: made at first use, for its present weights."""

import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from calque.checkpoint import RunFolder, check_manifest, write_manifest
from calque.config import CalqueError
from calque.interchange.ctranslate2 import export_ctranslate2
from calque.writing import discard, whole_folder

KEPT, ORIGIN = "ctranslate2", "origin.json"


def kept_export(run: RunFolder, tell: Callable[[str], None]) -> Path:
    """The folder of a run's export in float32, within the run's own.

    It is made, and `tell` is told so, unless a whole one of the run's present files is there.
    Raises CalqueError when it cannot be made; see `export_ctranslate2`.
    """
    folder = run.path.resolve() / KEPT
    origin = check_manifest(run.path) | check_manifest(run.weights().parent)
    if not _is_of(folder, origin):
        with FileLock(folder.with_name(f".{KEPT}.lock")):
            if not _is_of(folder, origin):  # nobody else has made it while we waited
                tell(f"{run.path / KEPT}: making it from the weights of the run, to be used again")
                _make_room(folder)
                with whole_folder(folder) as part:
                    export_ctranslate2(run, part)
                    (part / ORIGIN).write_text(json.dumps(origin), encoding="utf-8")
                    write_manifest(part)
    return folder


def _is_of(folder: Path, origin: dict[str, str]) -> bool:
    """Whether an export is as it was written, and from files with these hashes."""
    try:
        known = check_manifest(folder)
    except CalqueError:
        return False
    return ORIGIN in known and json.loads((folder / ORIGIN).read_bytes()) == origin


def _make_room(folder: Path) -> None:
    """Remove an export that we have made; refuse what somebody else has put there."""
    if (folder / ORIGIN).is_file():
        discard(folder)
    elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CalqueError(f"{folder}: in the way of the export that is kept there; move it")
