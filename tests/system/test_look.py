"""`calque look` as a user runs it."""

import json
import re
import shutil
from pathlib import Path

import pytest

SENTENCE = "The old man opens the door ."


@pytest.fixture(scope="module")
def run(trained: Path) -> Path:
    return trained / "run"


class TestCommand:
    def test_it_shows_the_translation_that_translate_gives(self, calque, run, tmp_path):
        file = tmp_path / "seen.html"
        outcome = calque("look", run, SENTENCE, "--out", file)
        translation = calque("translate", run, stdin=SENTENCE.encode()).out
        assert outcome == (0, f"{translation}wrote {file}\n", "")
        assert file.stat().st_size > 10_000

    def test_json_holds_all_of_it_and_no_page_is_written(self, calque, here):
        outcome = calque("look", "run", SENTENCE, "--positions", "--training", "--json")
        assert outcome.code == 0
        report = json.loads(outcome.out)
        assert report["run"] == "run"
        assert (
            report["target"]["text"] == calque("translate", "run", stdin=SENTENCE.encode()).out[:-1]
        )
        assert len(report["positions"]["tables"]) == 1
        assert [course["name"] for course in report["training"]] == ["run"]
        assert "embeddings" not in report
        assert not (here / "look.html").exists()

    def test_the_page_is_written_here_and_anew_each_time(self, calque, here):
        assert calque("look", "run", "--positions").out == "wrote look.html\n"
        before = (here / "look.html").read_text()
        assert calque("look", "run", SENTENCE).code == 0
        assert (here / "look.html").read_text() != before

    def test_pictures(self, calque, here):
        outcome = calque("look", "run", SENTENCE, "--training", "--png", "pictures")
        names = ["attention-encoder", "attention-decoder", "attention-cross", "alignment"]
        expected = [f"pictures/{name}.png" for name in [*names, "tokens", "beam", "training"]]
        assert re.findall(r"^wrote (.*)$", outcome.out, re.M) == ["look.html", *expected]
        assert all((here / name).read_bytes().startswith(b"\x89PNG") for name in expected)

    def test_several_trainings_over_each_other(self, calque, here):
        shutil.copytree(here / "run", here / "other")
        outcome = calque("look", "run", "--training", "--with", "other", "--json")
        assert [course["name"] for course in json.loads(outcome.out)["training"]] == [
            "run",
            "other",
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "nothing to look at"),
            ([""], "SENTENCE is empty"),
            (["  "], "SENTENCE is empty"),
            (["a\nb"], "several lines"),
            (["\udcff"], "not UTF-8"),
            (["word " * 300], "too long to look at"),
            ([SENTENCE, "--with", "other"], "--training"),
            (["--training", "--with", "absent"], r"absent/metrics\.jsonl: missing"),
            (["--positions", "--out", "absent/look.html"], r"absent/.*cannot be written"),
        ],
    )
    def test_what_cannot_be_looked_at_is_one_message(self, calque, here, arguments, message):
        outcome = calque("look", "run", *arguments)
        assert outcome.code == 2
        assert re.match(rf"Error: .*{message}.*\n\Z", outcome.err)
        assert outcome.out == ""

    def test_a_folder_that_is_no_run_is_named(self, calque, tmp_path):
        outcome = calque("look", tmp_path, SENTENCE)
        assert outcome == (
            2,
            "",
            f"Error: {tmp_path}: not a run folder (manifest.json is missing)\n",
        )
