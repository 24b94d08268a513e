"""What each command does when all is well, run as a user runs it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import typer

from calque import SPINS, Translator
from calque.checkpoint import load_tensors
from calque.cli import app
from calque.config import read_toml
from calque.recipe import PRESETS

COMMANDS = ["average", "bench", "check", "demo", "evaluate", "look", "train", "translate"]
PROCESS = [sys.executable, "-m", "calque"]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


class TestHelp:
    def test_every_command_is_listed(self, calque):
        listed = re.findall(r"^  (\w+)  +\w", calque("--help").out, re.MULTILINE)
        assert sorted(set(listed) & set(COMMANDS)) == COMMANDS

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_option_is_explained_within_80_columns(self, calque, command):
        outcome = calque(command, "--help")
        assert outcome.code == 0
        assert max(map(len, outcome.out.splitlines())) <= 80
        parameters = typer.main.get_command(app).commands[command].params
        assert all(p.help for p in parameters)
        assert all(option in outcome.out for p in parameters for option in p.opts if "-" in option)

    def test_every_preset_is_named(self, calque):
        help_text = calque("train", "--help").out
        assert all(preset in help_text for preset in PRESETS)

    def test_version(self, calque):
        assert calque("--version") == (0, f"calque {version('calque')}\n", "")


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=str,
)
def test_threads_are_told_to_sleep_before_pytorch_is_there(given, spins):
    """Which would read it as it is imported."""
    known = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = (
        "import os, sys\n"
        "import calque, calque.cli\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env=known | given, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == f"{spins} False"


@pytest.fixture(scope="module")
def sources(trained: Path) -> list[str]:
    return ["", *lines_of(trained / "test.en"), "  ", "unheard words", ""]


@pytest.fixture(scope="module")
def expected(trained: Path, sources: list[str]) -> str:
    return "".join(f"{line}\n" for line in Translator.load(trained / "run").translate(sources))


class TestTranslate:
    def test_standard_input_gives_what_the_library_gives(self, calque, trained, sources, expected):
        assert len(set(expected.splitlines())) > 10  # or a wrong order could not be seen
        text = "".join(f"{line}\n" for line in sources).encode()
        assert calque("translate", trained / "run", stdin=text) == (0, expected, "")

    @pytest.mark.parametrize(
        ("ending", "final"), [("\n", ""), ("\r\n", "\r\n")], ids=["no final newline", "CRLF"]
    )
    def test_line_endings_and_byte_order_mark_change_nothing(
        self, calque, trained, tmp_path, sources, expected, ending, final
    ):
        content = ending.join([*sources, "end"]) + final
        (tmp_path / "text").write_bytes(content.encode("utf-8-sig"))
        from_file = calque("translate", trained / "run", tmp_path / "text")
        from_stdin = calque("translate", trained / "run", stdin=content.encode("utf-8-sig"))
        assert from_file == from_stdin
        assert from_file.out.startswith(expected)
        assert from_file.out.count("\n") == len(sources) + 1

    def test_nothing_gives_nothing(self, calque, trained):
        assert calque("translate", trained / "run") == (0, "", "")

    def test_lines_longer_than_those_of_the_training_are_told_at_the_end(self, calque, here, vouch):
        """Told of the tokens that are counted in training, and beside the translations alone."""
        recipe = here / "run/recipe.toml"
        recipe.write_text(recipe.read_text().replace("max_length = 256", "max_length = 9"))
        vouch(here / "run", "recipe.toml")
        just, over = "the old dog " * 3, "the old dog " * 3 + "sees"
        lines = f"{just}\n\n{over}\n{over}\n"
        alone = calque("translate", "run", stdin=f"{just}\n".encode())
        assert (alone.code, alone.err) == (0, "")
        (here / "text").write_text(lines)
        outcome = calque("translate", "run", "text")
        assert outcome.out.count("\n") == 4
        assert outcome.out.startswith(alone.out)
        assert re.fullmatch(r"2 lines .* the 9 tokens .*\(first: line 3\).*\n", outcome.err)

    def test_n_best_gives_as_many_lines_for_each_line(self, calque, trained, sources, expected):
        text = "".join(f"{line}\n" for line in sources).encode()
        outcome = calque("translate", trained / "run", "--n-best", 2, stdin=text)
        found = outcome.out.split("\n")[:-1]
        assert len(found) == 2 * len(sources)
        assert found[::2] == expected.split("\n")[:-1]
        assert found[0:2] == ["", ""]

    def test_scores_add_up(self, calque, trained, sources):
        options = ["--scores", "--n-best", 3, "--beam-size", 3, "--length-penalty", 0.7]
        text = "".join(f"{line}\n" for line in sources).encode()
        outcome = calque("translate", trained / "run", *options, stdin=text)
        records = [json.loads(line) for line in outcome.out.splitlines()]
        by_line = {}
        for record in records:
            by_line.setdefault(record["line"], []).append(record)
        assert list(by_line) == list(range(1, len(sources) + 1))
        for found in by_line.values():
            assert [r["rank"] for r in found] == list(range(1, len(found) + 1))
            assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True)
            for record in found:
                length = len(record["token_log_probs"])
                assert len(record["tokens"]) == length
                assert record["log_prob"] == pytest.approx(sum(record["token_log_probs"]))
                # arXiv:1609.08144, eq. 14
                penalty = ((5 + length) / 6) ** 0.7 if length else 1
                assert record["score"] == pytest.approx(record["log_prob"] / penalty, rel=1e-4)
        assert any(len(found) == 3 for found in by_line.values())

    def test_asking_for_a_beam_of_a_greedy_run_is_beam_search(self, calque, here, vouch):
        recipe = here / "run" / "recipe.toml"
        recipe.write_text(recipe.read_text().replace('search = "beam"', 'search = "greedy"'))
        vouch(here / "run", "recipe.toml")
        greedy = calque("translate", "run", "test.en")
        beam = calque("translate", "run", "test.en", "--beam-size", 2, "--n-best", 2)
        assert beam.out.count("\n") == 2 * greedy.out.count("\n") > 0

    def test_a_line_break_in_a_translation_becomes_a_space(self, calque, here, vouch):
        vocabulary = here / "run/tokenizer/joint.json"
        entries = json.loads(vocabulary.read_text())
        vocabulary.write_text(json.dumps([f"{entry}\r\n{i}\n" for i, entry in enumerate(entries)]))
        vouch(here / "run", "tokenizer/joint.json")
        plain = calque("translate", "run", "test.en")
        assert plain.out.count("\n") == len(lines_of(here / "test.en"))
        scored = calque("translate", "run", "test.en", "--scores")
        texts = [json.loads(line)["text"] for line in scored.out.splitlines()]
        assert texts == plain.out.split("\n")[:-1]
        assert any(re.search(r"\d", text) for text in texts)  # what is beside the line breaks


class TestTranslateProcess:
    """What needs real pipes and terminals."""

    def test_the_first_translations_come_before_the_input_ends(self, trained):
        command = [*PROCESS, "translate", trained / "run"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            process.stdin.write(b"a line\n" * 64)
            process.stdin.flush()
            first = [process.stdout.readline() for _ in range(64)]
            process.stdin.write(b"a line\n")
            rest, _ = process.communicate()
        assert set(first) == {rest}

    def test_a_reader_may_leave_early(self, trained, tmp_path):
        (tmp_path / "long").write_text("a line\n" * 3000)
        command = [*PROCESS, "translate", trained / "run", tmp_path / "long", "--beam-size", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            assert process.stdout and process.stderr
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""

    def test_standard_input_is_read_from_where_it_stands(self, trained, tmp_path):
        (tmp_path / "text").write_text("header\nline\n")
        script = f"read header; exec {sys.executable} -m calque translate {trained / 'run'}"
        with (tmp_path / "text").open() as text:
            done = subprocess.run(["sh", "-c", script], stdin=text, capture_output=True, check=True)
        assert (done.stdout.count(b"\n"), done.stderr) == (1, b"")

    def test_progress_goes_to_the_terminal_and_nothing_else_does(self, trained):
        ours, theirs = pty.openpty()
        command = [*PROCESS, "translate", trained / "run", trained / "test.en"]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            timeout=60,
            check=True,
        )
        shown = os.read(ours, 100_000).decode()
        os.close(theirs)
        os.close(ours)
        assert done.stdout.decode().splitlines() == Translator.load(trained / "run").translate(
            lines_of(trained / "test.en")
        )
        assert "lines" in shown


class TestTrain:
    def test_two_pairs_of_files_and_a_preset(self, calque, here):
        changes = ["training.max_steps=1", "tokenizer.kind=words", "tokenizer.vocab_size=50"]
        outcome = calque(
            *("train", "--train", "train.en", "train.de", "--valid", "valid.en", "valid.de"),
            *("--preset", "tiny", "--out", "made/tiny"),
            *(argument for change in changes for argument in ("--set", change)),
        )
        assert outcome.code == 0, outcome.err
        recipe = read_toml(here / "made/tiny/recipe.toml")
        assert recipe["data"]["train"] == [
            {"source": "train.en", "target": "train.de", "weight": 1.0}
        ]
        languages = [recipe["data"][f"{side}_language"] for side in ("source", "target")]
        assert languages == ["en", "de"]
        assert PRESETS["tiny"].items() <= recipe["model"].items()
        assert recipe["training"]["max_steps"] == 1
        assert recipe["tokenizer"]["kind"] == "words"
        assert Translator.load(here / "made/tiny").translate([""]) == [""]

    def test_a_recipe_names_the_run_folder(self, calque, here):
        assert calque("train", "recipe.toml", "--set", "training.max_steps=1").code == 0
        assert (here / "runs/recipe/model.safetensors").is_file()

    def test_interrupted_and_resumed(self, calque, here):
        """Ctrl-C leaves with code 130; the same command with --resume ends the training."""
        steps = ["--set", "training.max_steps=200", "--set", "training.validate_every=200"]
        command = ["train", "recipe.toml", *steps, "--out", "broken"]
        watcher = threading.Thread(target=interrupt_when_saved, args=[here / "broken"])
        watcher.start()
        interrupted = calque(*command)
        watcher.join()
        assert interrupted.code == 130
        assert "calque train --resume --out broken" in interrupted.out
        assert not (here / "broken/model.safetensors").exists()
        resumed = calque(*command, "--resume")
        assert resumed.code == 0, resumed.err
        logged = [json.loads(line)["step"] for line in lines_of(here / "broken/metrics.jsonl")]
        assert logged == sorted(logged)
        assert logged[-1] == 200
        assert (here / "broken/model.safetensors").exists()


def interrupt_when_saved(run: Path) -> None:
    """Press Ctrl-C once a checkpoint shows that training is under way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if list(run.glob("checkpoints/step-*")):
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.01)


class TestCheck:
    def test_a_clean_corpus(self, calque, trained):
        outcome = calque("check", trained / "train.en", trained / "train.de")
        assert (outcome.code, outcome.err) == (0, "")
        assert "200" in outcome.out

    def test_a_recipe_stands_for_its_files(self, calque, here):
        files = calque(
            *("check", "train.en", "train.de", "--valid", "valid.en", "valid.de", "--json")
        )
        assert calque("check", "recipe.toml", "--json") == files
        assert [split["name"] for split in json.loads(files.out)["splits"]] == ["train", "valid"]

    def test_a_file_of_pairs(self, calque, here):
        rows = zip(lines_of(here / "train.en"), lines_of(here / "train.de"), strict=True)
        text = "".join(f"{source}\t{target}\n" for source, target in [("en", "de"), *rows])
        (here / "pairs.tsv").write_text(text, encoding="utf-8")
        outcome = calque("check", "pairs.tsv", "--names", "en", "de", "--json")
        assert outcome.code == 0
        assert json.loads(outcome.out)["splits"][0]["pairs"] == 200

    def test_what_training_would_refuse_is_code_1(self, calque, trained):
        outcome = calque("check", trained / "train.en", trained / "valid.de")
        assert outcome.code == 1
        assert re.search("has 200 lines.* 20", " ".join(outcome.out.split()))

    def test_errors_in_test_data_are_evaluations(self, calque, here):
        splits = [here / "train.en", here / "train.de", "--test", here / "test.en"]
        outcome = calque("check", *splits, here / "train.de")
        assert outcome.code == 1
        assert "Evaluation would refuse this data." in outcome.out

    def test_a_file_name_may_be_anything(self, calque, here):
        name = "caf\udce9.en"  # as Python spells a byte that is no UTF-8
        (here / name).write_bytes((here / "train.en").read_bytes() + b"one line more\n")
        outcome = calque("check", name, "train.de")
        assert outcome.code == 1
        assert "caf\\udce9.en has 201 lines" in outcome.out
        assert json.loads(calque("check", name, "train.de", "--json").out)["refused"]
        missing = calque("check", "missing\udce9", "train.de")
        assert missing == (2, "", "Error: missing\\udce9: there is no such file\n")


class TestEvaluate:
    def test_scores_signatures_and_intervals(self, calque, here):
        table = calque("evaluate", "run", "test.en", "test.de")
        assert (table.code, table.err) == (0, "")
        scores = json.loads(calque("evaluate", "run", "test.en", "test.de", "--json").out)
        assert [score["name"] for score in scores] == ["BLEU", "chrF2", "TER"]
        for score in scores:
            assert "version:" in score["signature"]
            assert score["low"] <= score["high"]
            assert f"{score['score']:.2f}" in table.out
            assert score["signature"] in table.out.split("\n")

    def test_a_file_of_pairs(self, calque, memories):
        plain = calque("evaluate", "run", "test.en", "test.de", "--json")
        pairs = calque("evaluate", "run", "test.tmx", "--names", "en-US", "de", "--json")
        assert pairs.code == 2
        assert "no pair to evaluate on" in pairs.err
        assert calque("evaluate", "run", "test.tmx", "--names", "en", "de", "--json") == plain

    def test_two_runs(self, calque, here):
        assert calque("average", "run", "--last", 3, "--out", "other").code == 0
        files = ["test.en", "test.de", "--json"]
        baseline = json.loads(calque("evaluate", "other", *files).out)
        alone = json.loads(calque("evaluate", "run", *files).out)
        both = json.loads(calque("evaluate", "run", *files, "--baseline", "other").out)
        assert [found["baseline"] for found in both] == baseline
        assert [found["other"] for found in both] == alone
        assert all(0 <= found["p_value"] <= 1 for found in both)
        table = calque("evaluate", "run", *files[:2], "--baseline", "run").out
        assert "not significant" in table


class TestAverage:
    def test_weights_are_the_mean(self, calque, here):
        outcome = calque("average", "run", "--last", 2)
        assert outcome.code == 0, outcome.err
        steps = sorted((here / "run/checkpoints").iterdir())[-2:]
        assert all(step.name in outcome.out for step in steps)
        saved = [load_tensors(step / "model.safetensors") for step in steps]
        for name, mean in load_tensors(here / "run-average/model.safetensors").items():
            torch.testing.assert_close(mean, sum(weights[name] for weights in saved) / 2)

    def test_of_the_current_folder(self, calque, here, monkeypatch):
        monkeypatch.chdir(here / "run")
        assert calque("average", ".", "--last", 2).code == 0
        assert (here / "run-average" / "model.safetensors").exists()

    def test_the_best_make_a_run_too(self, calque, here):
        assert calque("average", "run", "--best", 2, "--out", "made").code == 0
        assert calque("translate", "made", "test.en").out.count("\n") == 20
