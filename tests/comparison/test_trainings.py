"""What is told of trainings while they run, and that no two comparisons run in one folder."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from calque.comparison.plan import Run
from calque.comparison.progress import WAITING, Board
from calque.comparison.trainings import alone
from calque.config import CalqueError
from calque.recipe import make_recipe


def test_a_folder_is_for_one_comparison_and_what_it_started(tmp_path: Path):
    with alone(tmp_path) as lock:
        with pytest.raises(CalqueError, match="another comparison trains here"), alone(tmp_path):
            pass
        sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        left = subprocess.Popen(sleeping, pass_fds=[lock], stdout=subprocess.PIPE)
    with left:
        with pytest.raises(CalqueError, match="left trainings behind"), alone(tmp_path):
            pass
        left.kill()
    with alone(tmp_path):
        pass


def run_with(folder: Path, records: list[dict]) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return Run("a", 3, make_recipe({"training": {"max_steps": 2000}}, "test"), folder)


def test_progress_is_read_from_the_metrics(tmp_path: Path):
    records = [{"step": 50, "loss": 4.0}, {"step": 60, "valid_bleu": 7.25}]
    screen = Console(file=io.StringIO(), width=80, force_terminal=True)
    run = run_with(tmp_path / "seed-3", records)
    with Board([run], screen) as board:
        board.tell(run, WAITING)
        board.look_at(run)
        run_with(run.folder, [*records, {"step": 1100, "loss": 2.0}])
        board.look_at(run)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "step 60 of 2,000, BLEU 7.2" in shown and "step 1,100 of 2,000, BLEU 7.2" in shown
    assert "seed 3" in shown and WAITING in shown


def test_a_file_gets_a_line_for_each_validation(tmp_path: Path):
    page = Console(file=io.StringIO(), width=80)
    records: list[dict] = []
    with Board([], page) as board:
        for more in ({"loss": 4.0}, {"valid_bleu": 1.0}, {"loss": 3.0}, {"valid_bleu": 2.0}):
            records.append({"step": 50 + 50 * len(records), **more})
            run = run_with(tmp_path / "seed-3", records)
            board.look_at(run)
        board.tell(run, "done")
    lines = page.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "a, seed 3: step 100 of 2,000, BLEU 1.0",
        "a, seed 3: step 200 of 2,000, BLEU 2.0",
        "a, seed 3: done",
    ]
