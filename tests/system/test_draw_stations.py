"""The figures of the page "The stations" can be drawn anew from what is kept."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/the-story/draw_stations.py"


def test_the_page_shows_each_figure_that_is_drawn(tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path / "drawn"], check=True)
    drawn = {file.name for file in (tmp_path / "drawn").iterdir()}
    page = (ROOT / "docs/stations.md").read_text("utf-8")
    assert drawn == set(re.findall(r"\(stations/([^)]+)\)", page))
    assert drawn == {file.name for file in (ROOT / "docs/stations").iterdir()}
