"""What bad input gets: one message that says where and what, code 2, and nothing left behind."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Refuses = Callable[..., None]
TRAIN = ("train", "recipe.toml", "--out", "made")
EVALUATE = ("evaluate", "run")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refuses(calque, here: Path, monkeypatch, tmp_path_factory) -> Refuses:
    """Run a command that must be refused with a message of these words."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def check(*arguments: str, says: list[str], stdin: bytes = b"") -> None:
        before = contents(here)
        outcome = calque(*arguments, stdin=stdin)
        assert outcome.code == 2, outcome
        assert outcome.out == "" or arguments[0] == "train"  # which says what it is doing
        assert re.fullmatch("Error: .+\n", outcome.err)
        assert [words for words in says if words not in outcome.err] == []
        assert contents(here) == before

    return check


@pytest.mark.parametrize(
    "command",
    [
        ("check", "train.en", "absent"),
        ("check", "train.en", "train.de", "--valid", "valid.en", "absent"),
        ("check", "absent", "--names", "en", "de"),
        ("check", "recipe.toml"),
        ("train", "absent"),
        TRAIN,
        ("translate", "run", "absent"),
        (*EVALUATE, "absent", "test.de"),
        (*EVALUATE, "test.en", "absent"),
    ],
    ids=" ".join,
)
def test_missing_file(refuses, here, command):
    recipe = here / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("train.de", "absent"))
    refuses(*command, says=["absent: there is no such file"])


def test_of_several_processes_one_says_what_is_wrong(calque, here, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert calque("train", "absent") == (2, "", "")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert calque("train", "absent") == (2, "", "Error: absent: there is no such file\n")


@pytest.mark.parametrize("command", [TRAIN, (*EVALUATE, "train.en", "train.de")], ids=" ".join)
def test_unequal_line_counts(refuses, here, command):
    with (here / "train.de").open("a") as file:
        file.write("one more\n")
    refuses(*command, says=["train.en has 200 lines", "train.de has 201"])


@pytest.mark.parametrize(
    "command",
    [TRAIN, ("translate", "run", "train.de"), (*EVALUATE, "train.en", "train.de")],
    ids=" ".join,
)
def test_not_utf8(refuses, here, command):
    raw = (here / "train.de").read_bytes().split(b"\n")
    raw[6] = b"Stra\xdfe"
    (here / "train.de").write_bytes(b"\n".join(raw))
    refuses(*command, says=["train.de:7:", "byte 4", "0xdf"])


def test_not_utf8_in_standard_input(refuses):
    refuses(
        *("translate", "run"),
        stdin="\ufeffgut\n".encode() + b"Stra\xdfe\n",
        says=["standard input:2:", "byte 4", "0xdf"],
    )


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_corpus(refuses, here, split):
    for side in ("en", "de"):
        (here / f"{split}.{side}").write_text("")
    refuses(*TRAIN, says=["no"])


def test_nothing_to_evaluate_on(refuses, here):
    for name in ("empty.en", "empty.de", "empty.tsv"):
        (here / name).write_text("en\tde\n" if name == "empty.tsv" else "")
    for files in (("empty.en", "empty.de"), ("empty.tsv", "--names", "en", "de")):
        refuses(*EVALUATE, *files, says=[files[0], "no pair to evaluate on"])


def test_every_pair_filtered(refuses):
    refuses(*TRAIN, "--set", "data.max_length=1", says=["train.en", "200 source over 1 tokens"])


SECOND = ("--valid", "valid.en", "valid.de", "--out", "made")


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--train", "test.tmx", "test.tmx", *SECOND),
        ("train", "--train", "train.en", "test.tmx.gz", *SECOND),
        ("train", "recipe.toml", "--train", "test.TMX", "train.de", "--out", "made"),
        (*EVALUATE, "test.tmx", "test.tmx"),
        ("translate", "run", "test.tmx"),
        ("embed", "recipe.toml", "test.tmx", "--out", "vectors"),
    ],
    ids=" ".join,
)
def test_a_file_of_pairs_is_no_plain_text(refuses, memories, command):
    content = (memories / "test.tmx").read_bytes()
    (memories / "test.TMX").write_bytes(content)
    (memories / "test.tmx.gz").write_bytes(gzip.compress(content))
    refuses(*command, says=["file of pairs"])


@pytest.mark.parametrize("command", [("train", "--train"), EVALUATE], ids=" ".join)
def test_one_file_for_both_sides(refuses, command):
    rest = SECOND if command[0] == "train" else ()
    refuses(*command, "train.en", "./train.en", *rest, says=["train.en", "both sides"])


@pytest.mark.parametrize("files", [("test.en",), ("--train", "train.en", "--valid", "valid.en")])
def test_a_recipe_that_was_not_meant(refuses, files):
    refuses("train", *files, "--out", "made", says=[files[-1], "no recipe", "--train and --valid"])


def test_evaluation_in_the_wrong_direction(refuses, memories):
    says = ["--names: source is 'de'", "data.source_language is 'en' in run"]
    refuses(*EVALUATE, "test.tmx", "--names", "de", "en", says=says)


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_vocabulary_larger_than_the_corpus_gives(refuses, calque, kind):
    """The message names the largest possible size: that one works, and one more does not."""
    wanted = [*TRAIN, "--set", f"tokenizer.kind={kind}", "--set", "training.max_steps=1", "--set"]
    refused = calque(*wanted, "tokenizer.vocab_size=90000")
    largest = int(re.findall(r"at most (\d+)", refused.err)[0])
    refuses(
        *wanted,
        f"tokenizer.vocab_size={largest + 1}",
        says=["tokenizer.vocab_size", f"{largest + 1}", f"at most {largest}"],
    )
    assert calque(*wanted, f"tokenizer.vocab_size={largest}").code == 0


MISSPELT = {
    "trainning.max_steps=3": ["'trainning'", "did you mean 'training'?", "decoding"],
    "model.d_modle=3": ["'d_modle'", "did you mean 'd_model'?", "num_heads"],
    "data.trian=3": ["'trian'", "did you mean 'train'?", "valid"],
    "model.residual=psot": ["residual", "'psot'", "did you mean 'post'?", "pre"],
    "model.family=transfomer": ["family", "'transfomer'", "did you mean 'transformer'?"],
    "tokenizer.kind=unigarm": ["tokenizer.kind", "did you mean 'unigram'?", "bpe", "characters"],
    "tokenizer.vocabulary=jiont": ["tokenizer.vocabulary", "'jiont'", "'joint'", "'separate'"],
    "training.schedule=cosin": ["training.schedule", "did you mean 'cosine'?", "paper"],
    "training.optimizer=adma": ["training.optimizer", "did you mean 'adam'?", "adamw"],
    "training.precision=bf61": ["training.precision", "'bf61'", "'bf16'", "'float32'"],
    "decoding.search=baem": ["decoding.search", "did you mean 'beam'?", "greedy"],
    "preset=tinny": ["preset", "did you mean 'tiny'?", "base", "big"],
}


@pytest.mark.parametrize("change", MISSPELT)
def test_misspelt_key_or_choice(refuses, change):
    refuses(*TRAIN, "--set", change, says=MISSPELT[change])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.num_heads=3", ["d_model 32", "num_heads 3"]),
        ("model.dropout=1.5", ["dropout", "1.5"]),
        ("training.max_steps=many", ["training.max_steps", "integer", "'many'"]),
        ("training.max_steps=0", ["training.max_steps", "greater than 0"]),
        ("training.average=4", ["training.average", "keep_last = 3"]),
        ("model=3", ["model", "3"]),
        ("data=3", ["data", "3"]),
        ("data.valid=[]", ["data", "valid"]),
        ("model.d_model.x=3", ["--set model.d_model.x=3", "d_model is not a section"]),
        ("training.seed", ["--set training.seed", "section.key=value"]),
    ],
)
def test_value_that_does_not_fit(refuses, change, says):
    refuses(*TRAIN, "--set", change, says=says)


def test_misspelt_preset_on_the_command_line(refuses):
    refuses(*TRAIN, "--preset", "smal", says=["preset", "did you mean 'small'?"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[data]\nx = = 3\n", ["bad.toml", "line 2"]),
        ("[data]\n[daat]\n", ["bad.toml", "'daat'", "did you mean 'data'?"]),
        ("data = 3\n", ["bad.toml.data"]),
        ("", ["bad.toml.data: train and valid each need at least one corpus"]),
    ],
)
def test_recipe_that_is_none(refuses, here, text, says):
    (here / "bad.toml").write_text(text)
    refuses("train", "bad.toml", says=says)
    refuses("check", "bad.toml", says=says)


def test_recipe_that_is_a_folder(refuses):
    refuses("train", "run", says=["run", "directory"])


class TestTrainArguments:
    def test_nothing_to_train_on(self, refuses):
        refuses("train", says=["RECIPE.toml", "--train"])

    def test_no_validation_files(self, refuses):
        refuses("train", "--train", "train.en", "train.de", "--out", "made", says=["--valid"])

    @pytest.mark.parametrize("option", [("--preset", "tiny"), ("--set", "training.seed=2")])
    def test_change_of_nothing(self, refuses, option):
        refuses("train", *option, "--out", "made", says=[option[0], "RECIPE.toml"])

    def test_no_run_folder(self, refuses):
        files = ("--train", "train.en", "train.de", "--valid", "valid.en", "valid.de")
        refuses("train", *files, says=["--out"])
        refuses("train", "--resume", says=["--out"])

    @pytest.mark.parametrize("folder", ["run", "run/tokenizer", "train.en"])
    def test_occupied_run_folder(self, refuses, folder):
        refuses("train", "recipe.toml", "--out", folder, says=[f"{folder}: already holds"])
        refuses("demo", "--out", folder, says=[f"{folder}: already holds"])
        refuses("average", "run", "--last", "2", "--out", folder, says=[f"{folder}: already holds"])

    @pytest.mark.parametrize("folder", ["absent", "run/tokenizer"])
    def test_resuming_what_is_no_run(self, refuses, folder):
        refuses("train", "--resume", "--out", folder, says=[f"{folder}: not a run folder"])

    def test_resuming_with_another_recipe(self, refuses):
        changes = ("--set", "training.max_steps=90", "--set", "model.d_ff=96")
        command = ("train", "recipe.toml", *changes, "--out", "run", "--resume")
        refuses(*command, says=["run:", "model.d_ff, training.max_steps"])

    def test_resuming_with_other_data(self, refuses, here, unfinished):
        lines = (here / "train.en").read_text().splitlines(keepends=True)
        (here / "train.en").write_text("".join([*lines[1:], lines[0]]))
        refuses("train", "--resume", "--out", "run", says=["run:", "train data have changed"])


@pytest.fixture
def unfinished(here: Path, vouch) -> Path:
    """The run as it was before its end."""
    (here / "run/model.safetensors").unlink()
    vouch(here / "run", "model.safetensors")
    return here / "run"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


RUN_FILES = ["recipe.toml", "preparation.json", "tokenizer/joint.json", "model.safetensors"]
CHECKPOINT_FILES = ["model.safetensors", "optimizer.safetensors", "training.json"]


@pytest.mark.parametrize("damage", [Path.unlink, cut, alter])
class TestDamagedFile:
    @pytest.mark.parametrize("name", RUN_FILES)
    def test_of_a_run(self, refuses, here, name, damage):
        damage(here / "run" / name)
        for command in (("translate", "run"), ("average", "run", "--last", "2")):
            refuses(*command, says=[f"run/{name}"])

    @pytest.mark.parametrize("name", CHECKPOINT_FILES)
    def test_of_a_checkpoint(self, refuses, here, unfinished, name, damage):
        newest = max((here / "run/checkpoints").iterdir())
        damage(newest / name)
        for command in (("train", "--resume", "--out", "run"), ("average", "run", "--last", "2")):
            refuses(*command, says=[f"{newest.relative_to(here)}/{name}"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": ["recipe.toml"]}'])
def test_damaged_manifest(refuses, here, text):
    (here / "run/manifest.json").write_text(text)
    refuses("translate", "run", says=["run/manifest.json", "damaged"])


@pytest.mark.parametrize("folder", [".", "absent", "run/tokenizer", "train.en"])
def test_folder_that_is_no_run(refuses, folder):
    refuses("translate", folder, says=[f"{folder}: not a run folder"])


class TestTokenizerOfAnotherModel:
    @pytest.fixture
    def other(self, here: Path) -> Path:
        vocabulary = here / "run/tokenizer/joint.json"
        entries = json.loads(vocabulary.read_text())
        vocabulary.write_text(json.dumps([*entries, "more"]))
        return vocabulary

    def test_is_not_what_the_manifest_says(self, refuses, other):
        refuses("translate", "run", says=["run/tokenizer/joint.json", "SHA-256"])

    def test_does_not_fit_the_weights(self, refuses, here, other, vouch):
        vouch(here / "run", "tokenizer/joint.json")
        refuses("translate", "run", says=["run/model.safetensors", "tokenizer", "500", "501"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--n-best", "3"), ["--n-best 3", "beam size, 2"]),
        (("--n-best", "3", "--beam-size", "1"), ["--n-best 3", "beam size, 1"]),
        (("--beam-size", "100000"), ["beam_size", "equal to 1000", "100000"]),
        (("--length-penalty", "inf"), ["length_penalty", "finite", "inf"]),
    ],
)
@pytest.mark.parametrize("engine", ["calque", "ctranslate2"])
def test_search_that_cannot_be(refuses, engine, options, says):
    if engine == "ctranslate2":
        pytest.importorskip("ctranslate2")
        if "--n-best" in options:
            says = ["--n-best", "--engine calque"]
    refuses("translate", "run", *options, "--engine", engine, says=says)


def test_n_best_of_a_greedy_run(refuses, here, vouch):
    recipe = here / "run/recipe.toml"
    recipe.write_text(recipe.read_text().replace('search = "beam"', 'search = "greedy"'))
    vouch(here / "run", "recipe.toml")
    refuses("translate", "run", "--n-best", "2", says=["--n-best 2", "beam size, 1"])


def test_run_without_weights(refuses, unfinished):
    for name in ("best", "checkpoints"):
        shutil.rmtree(unfinished / name)
    refuses("translate", "run", says=["run: no weights yet"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), ["--last", "--best"]),
        (("--last", "2", "--best", "2"), ["--last", "--best"]),
        (("--last", "4"), ["3", "4", "training.keep_last"]),
        (("--best", "3"), ["2", "3", "training.keep_best"]),
    ],
)
def test_average_of_what_is_not_there(refuses, options, says):
    refuses("average", "run", *options, says=says)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("check", "train.en"), ["train.en", "second file", "--names"]),
        (("check", "train.en", "train.de", "--names", "en", "de"), ["second file", "--names"]),
        ((*EVALUATE, "test.en"), ["test.en", "second file", "--names"]),
        (("check", "recipe.toml", "train.de"), ["recipe.toml", "names all its files"]),
    ],
    ids=" ".join,
)
def test_files_that_are_unclear(refuses, command, says):
    refuses(*command, says=says)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("trian",), ["trian", "train"]),
        (("train", "--prest", "tiny"), ["--prest", "--preset"]),
        (("translate",), ["RUN"]),
        (("translate", "run", "--beam-size", "0"), ["--beam-size", "1"]),
        (("translate", "run", "--length-penalty", "-1"), ["--length-penalty", "0"]),
    ],
    ids=" ".join,
)
def test_mistyped_command(calque, command, says):
    outcome = calque(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert [words for words in says if words not in outcome.err] == []


class TestProcess:
    """A few of the above as a process of its own: no traceback comes from anywhere."""

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        script = f"{sys.executable} -m calque {command}"
        return subprocess.run(
            ["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False
        )

    def test_message_on_standard_error(self, trained):
        done = self.run("translate run absent", trained)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "Error: absent: there is no such file\n"

    def test_closed_standard_input(self, trained):
        done = self.run("translate run <&-", trained)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch("Error: standard input is closed.*\n", done.stderr)

    def test_closed_standard_output(self, trained):
        done = self.run("translate run test.en >&-", trained)
        assert done.returncode == 2
        assert re.fullmatch("Error: standard output is closed.*\n", done.stderr)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk(self, trained):
        done = self.run("translate run test.en > /dev/full", trained)
        assert (done.returncode, done.stderr) == (2, "Error: No space left on device\n")

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
    def test_too_large_for_memory(self, here):
        large = "train recipe.toml --out made --set model.d_model=65536"
        script = f"ulimit -v 8000000; exec {sys.executable} -m calque {large}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=here, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        said = done.stderr.splitlines()[-1]
        assert re.fullmatch(r"Error: there is not enough memory for another \d+ bytes", said)
        assert "Traceback" not in done.stderr
