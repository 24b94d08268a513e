"""The command line: parses, calls, prints."""

# ruff: noqa: PLC0415
# PyTorch takes seconds to import. So each command imports what it needs, and help or a misspelt
# option is answered at once.

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from calque.cli import options
from calque.cli.compare import compare
from calque.cli.embed import embed
from calque.cli.evaluate import evaluate
from calque.cli.look import look
from calque.cli.serve import serve
from calque.config import CalqueError, choose

EXIT_CODES = """
\b
Exit codes:
  0    done
  1    check found what would be refused, or a training of compare failed
  2    something given cannot be used; a message says what
  130  interrupted
"""

app = typer.Typer(
    help="Train, look inside and serve Transformers on your own sequence pairs.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
out = Console()


def main() -> NoReturn:
    """Run a command; what the user got wrong is one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # As our input is, whatever the locale; the name of a file may be anything.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        sys.exit(app())
    except CalqueError as error:
        message = str(error)
    except OSError as error:
        message = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    except (MemoryError, RuntimeError) as error:
        message = _too_large(error)
    sys.stderr.write(f"Error: {message}\n")
    sys.exit(2)


def _too_large(error: BaseException) -> str:
    """What there was no memory for. Raises the error again, if it was something else."""
    from calque.training.memory import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    size = re.search(r"allocate ([\d.,]+ \w+)", str(error))
    return "there is not enough memory" + (f" for another {size[1]}" if size else "")


@contextmanager
def _said_once() -> Iterator[None]:
    """Under torchrun, what all processes of a machine find wrong before they meet, one says."""
    try:
        yield
    except CalqueError:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise typer.Exit(2) from None
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"calque {version('calque')}")
        raise typer.Exit


@app.callback()
def calque(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def demo(folder: options.DemoFolder = Path("runs/demo")) -> None:
    """Watch a Transformer learn to translate, in two minutes.

    Its corpus is made on the spot, and written beside the run folder.
    """
    from calque.demo.run import run_demo

    run_demo(folder, out)


@app.command()
def check(
    source: options.Checked,
    target: options.Target = None,
    names: options.Names = None,
    valid: options.Valid = None,
    test: options.Test = None,
    as_json: options.AsJson = False,
) -> None:
    """Examine a corpus before anything is trained on it.

    Beside validation or test files (of a recipe, those that it names), also finds what they share
    with the training pairs. Exit code 1 if training would refuse the data, or evaluation the test
    data.
    """
    from calque.cli.arguments import corpora_to_check
    from calque.text.check import check as check_corpora
    from calque.text.check import render

    report = check_corpora(*corpora_to_check(source, target, names, valid, test))
    if as_json:
        out.print_json(data=report.to_json())
    else:
        render(report, out)
    raise typer.Exit(1 if report.refused else 0)


@app.command()
def train(
    recipe: options.RecipeFile = None,
    changes: options.Changes = None,
    training: options.Train = None,
    valid: options.Valid = None,
    preset: options.Preset = None,
    start_from: options.Start = None,
    folder: options.RunFolder = None,
    resume: options.Resume = False,
) -> None:
    """Train a model from a recipe, or from two pairs of files.

    With --from, it starts from a model that there is. Ctrl-C saves a checkpoint and leaves;
    --resume goes on to the same end as without the break.

    \b
    calque train recipe.toml --set training.max_steps=5000
    calque train --train a.en a.de --valid b.en b.de --preset tiny --out runs/ende
    calque train --train a.en a.de --valid b.en b.de --from runs/ende --out tuned
    calque train --resume --out runs/ende
    """
    from calque.checkpoint import RunFolder
    from calque.cli.arguments import described_recipe as describe
    from calque.training.loop import resume as go_on
    from calque.training.loop import train as start

    with _said_once():
        base = RunFolder(start_from) if start_from else None
        described = describe(recipe, changes or [], training, valid, preset, base)
    if described is None and not resume:
        raise CalqueError("nothing to train on: give RECIPE.toml, or --train and --valid")
    folder = folder or (Path("runs") / recipe.stem if recipe else None)
    if folder is None:
        raise CalqueError("--out is missing: which run folder to make, or to go on with")
    if described is None or resume:
        done = go_on(folder, described, out, with_helpers=True)
    else:
        done = start(described, folder, out, base, with_helpers=True)
    raise typer.Exit(0 if done else 130)


@app.command()
def translate(
    run: options.Run,
    file: options.TextFile = None,
    n_best: options.NBest = 1,
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    scores: options.Scores = False,
    engine: options.Engine = "calque",
    trees: options.Trees = None,
) -> None:
    """Translate lines to lines, in order; an empty line stays empty.

    With --n-best N, each line becomes N lines; where fewer were found, the last are empty.
    """
    from calque.checkpoint import RunFolder
    from calque.cli.arguments import check_trees
    from calque.cli.engines import ENGINES, Asked
    from calque.cli.lines import LongLines, translate_lines
    from calque.text.corpus import refuse_pairs

    start = choose("--engine", engine, ENGINES)
    whole = RunFolder(run)
    check_trees(trees, whole)
    if file:
        refuse_pairs(file, "translate takes one sequence per line")
    started = start(run, Asked(n_best, beam_size, length_penalty, scores))
    translate_lines(file, trees, started.stream, started.written, LongLines(whole))


for _command in (compare, embed, look, serve, evaluate):
    app.command()(_command)


@app.command()
def bench(run: options.Run, as_json: options.AsJson = False) -> None:
    """Measure, in a minute, how fast a run's model trains and translates on this machine.

    Beside it, how fast the machine multiplies matrices, and what share of that training reaches.
    """
    from calque.benchmark.run import benchmark, table

    with Console(stderr=True).status("measuring"):
        result = benchmark(run)
    if as_json:
        out.print_json(data=asdict(result))
    else:
        out.print(table(result))


@app.command()
def average(
    run: options.Run,
    last: options.Last = None,
    best: options.Best = None,
    folder: options.MeanFolder = None,
) -> None:
    """Make a run whose weights are the mean of several checkpoints.

    How many checkpoints RUN holds is up to training.keep_last and training.keep_best.
    """
    from calque.checkpoint import MODEL, RunFolder
    from calque.checkpoint import average as mean_of

    number = last or best
    if number is None or (last and best):
        raise CalqueError("give either --last N or --best N")
    whole = RunFolder(run)
    kept, limit = (whole.checkpoints(), "keep_last") if last else (whole.best(), "keep_best")
    if len(kept) < number:
        raise CalqueError(f"{run}: has {len(kept)} of them, not {number}; see training.{limit}")
    chosen = kept[-number:]
    mean = mean_of([checkpoint / MODEL for checkpoint in chosen])
    if folder is None:
        named = run if run.name not in ("", "..") else run.resolve()
        folder = named.with_name(f"{named.name}-average")
    RunFolder.create(folder, whole.recipe, whole.tokenizers, whole.preparation, mean)
    print(f"{folder}: mean of {', '.join(checkpoint.name for checkpoint in chosen)}")


@app.command("import")
def import_(folder: options.Foreign, run: options.ImportFolder) -> None:
    """Make a run of a Marian model in Hugging Face format, such as opus-mt.

    It then translates, and can be trained on and exported, like any other.
    """
    from calque.interchange.hugging_face_import import import_hugging_face

    for note in import_hugging_face(folder, run):
        Console(stderr=True).print(note, highlight=False)
    print(f"{run}: imported from {folder}")


@app.command()
def export(
    run: options.Run,
    folder: options.ExportFolder,
    form: options.Form,
    quantization: options.Quantization = None,
) -> None:
    """Write a run's model for transformers or CTranslate2.

    Nothing is written unless the probabilities there are the same as here.
    """
    from calque.checkpoint import RunFolder
    from calque.interchange.export import export as write

    print(*write(RunFolder(run), folder, form, quantization), sep="\n")
