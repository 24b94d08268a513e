"""What a helper runs; `helpers.py` starts it as `python -m calque.training.helper JOB`."""

import json
import os
import sys
from pathlib import Path
from threading import Thread

import torch
from rich.console import Console
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.training.distributed import LostError, Processes
from calque.training.helpers import LOST, REFUSED, STARTED
from calque.training.loop import Training


def main() -> None:
    """Train along with the main process to the end, or until that is gone."""
    Thread(target=_end_with_main, daemon=True).start()
    job = json.loads(sys.argv[1])
    store = TCPStore("127.0.0.1", job["port"], is_master=False)
    store.add(STARTED, 1)
    place = Processes(job["rank"], job["number"], torch.device("cpu"), job["memory"])
    try:
        with place.joined(store) as processes:
            Training(RunFolder(Path(job["run"])), processes, Console(quiet=True)).run()
    except CalqueError as error:
        print(error)
        sys.exit(REFUSED)
    except LostError:
        sys.exit(LOST)


def _end_with_main() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the other end of the pipe is closed
    os._exit(LOST)


if __name__ == "__main__":
    main()
