"""The command line: parses, calls, prints."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import torch
import typer
from rich.console import Console
from rich.progress import track

from calque.checkpoint import MODEL, RunFolder, average
from calque.config import CalqueError, read_toml
from calque.demo.run import run_demo
from calque.evaluation.evaluate import compare_runs, evaluate_run
from calque.evaluation.metrics import Comparison, Metric, comparison_table, score_table
from calque.recipe import Recipe, apply_change, make_recipe
from calque.text.check import check as check_corpora
from calque.text.check import render
from calque.text.data import CorpusConfig
from calque.text.files import text_lines
from calque.training.loop import resume as resume_training
from calque.training.loop import train as start_training
from calque.translator import Translation, Translator

app = typer.Typer(
    help="Train, look inside and serve Transformers on your own sequence pairs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)

Files = Optional[tuple[Path, Path]]  # noqa: UP045 - typer reads tuples only so
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="The run folder to make.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Watch a Transformer learn to translate, in two minutes, on a corpus made on the spot."""
    run_demo(folder, out)


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="Source file, file of pairs, or recipe (.toml).")],
    target: Annotated[Path | None, typer.Argument(help="Target file.")] = None,
    valid: Annotated[Files, typer.Option(help="Validation source and target.")] = None,
    test: Annotated[Files, typer.Option(help="Test source and target.")] = None,
    names: Annotated[
        Optional[tuple[str, str]],  # noqa: UP045
        typer.Option(help="Languages or columns of source and target in a file of pairs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Examine a corpus before training; exit code 1 if training would refuse it."""
    if source.suffix == ".toml":
        data = make_recipe(read_toml(source), str(source)).data
        report = check_corpora(data.train, data.valid, data.test)
    elif target is not None:
        report = check_corpora(_corpus((source, target)), valid=_corpus(valid), test=_corpus(test))
    elif names is not None:
        corpus = CorpusConfig(file=str(source), source=names[0], target=names[1])
        report = check_corpora([corpus], valid=_corpus(valid), test=_corpus(test))
    else:
        raise CalqueError(f"{source}: needs its target file, or --names for a file of pairs")
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=2))
    else:
        render(report, out)
    raise typer.Exit(1 if report.refused else 0)


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe, a TOML file.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")
    ] = None,
    training: Annotated[Files, typer.Option("--train", help="Training source and target.")] = None,
    valid: Annotated[Files, typer.Option(help="Validation source and target.")] = None,
    preset: Annotated[str | None, typer.Option(help="Model size: tiny, small, base, big.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default: runs/RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a model from a recipe, or from two pairs of files."""
    given = _given_recipe(recipe, training, valid, preset, changes or [])
    folder = folder or (Path("runs") / recipe.stem if recipe else None)
    if folder is None:
        raise CalqueError("--out: say which run folder to make")
    if resume:
        done = resume_training(folder, given, out)
    elif given is None:
        raise CalqueError("nothing to train on: give a recipe, or --train and --valid")
    else:
        done = start_training(given, folder, out)
    raise typer.Exit(0 if done else 130)


@app.command()
def translate(
    run: RunArgument,
    file: Annotated[Path | None, typer.Argument(help="Text file; default: standard input.")] = None,
    n_best: Annotated[int, typer.Option(min=1, help="Translations per line.")] = 1,
    beam_size: Annotated[int | None, typer.Option(min=1)] = None,
    length_penalty: Annotated[float | None, typer.Option(min=0)] = None,
    scores: Annotated[bool, typer.Option("--scores", help="JSON Lines, with scores.")] = False,
) -> None:
    """Translate lines to lines, in order."""
    translator = Translator.load(run, device=_device())
    size = beam_size or max(n_best, translator.decoding.beam_size)
    if n_best > size:
        raise CalqueError(f"--n-best {n_best} is more than --beam-size {size}")
    translator = translator.with_decoding(beam_size=size, length_penalty=length_penalty)
    lines = text_lines(file or Path("/dev/stdin"))
    typed = file is None and sys.stdin.isatty()  # then an answer to each line, at once
    found = (translator.n_best([line])[0] for line in lines) if typed else translator.stream(lines)
    if sys.stderr.isatty() and not typed:
        found = track(found, description="translating", console=err, transient=True)
    for number, translations in enumerate(found, start=1):
        for rank, translation in enumerate(translations[:n_best], start=1):
            text = _json(number, rank, translation) if scores else translation.text
            sys.stdout.write(text + "\n")
        sys.stdout.flush()


@app.command()
def evaluate(
    run: RunArgument,
    source: Annotated[Path, typer.Argument(help="Source lines.")],
    reference: Annotated[Path, typer.Argument(help="Their translations.")],
    baseline: Annotated[
        Path | None, typer.Option(help="Another run, to test the difference from.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """BLEU, chrF and TER with confidence intervals; of two runs, whether they differ."""
    (corpus,) = _corpus((source, reference))
    language = RunFolder(run).recipe.data.target_language
    translator = Translator.load(run, device=_device())
    result: Sequence[Metric | Comparison]
    if baseline is None:
        result = evaluate_run(translator, corpus, language)
        table = score_table(result)
    else:
        other = Translator.load(baseline, device=_device())
        result = compare_runs(other, translator, corpus, language)
        table = comparison_table(result)
    if as_json:
        print(json.dumps([asdict(metric) for metric in result], ensure_ascii=False, indent=2))
    else:
        out.print(table)


@app.command("average")
def average_checkpoints(
    run: RunArgument,
    last: Annotated[int | None, typer.Option(min=2, help="Mean of the last N.")] = None,
    best: Annotated[int | None, typer.Option(min=2, help="Mean of the best N.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder to make; default: RUN-average.")
    ] = None,
) -> None:
    """Make a run whose weights are the mean of several checkpoints."""
    if (last is None) == (best is None):
        raise CalqueError("give one of --last N and --best N")
    whole = RunFolder(run)
    saved = whole.checkpoints()[-last:] if last else whole.best()[-(best or 0) :]
    if len(saved) < (wanted := last or best or 0):
        kind = "keep_last" if last else "keep_best"
        raise CalqueError(
            f"{run}: {len(saved)} such checkpoints, not {wanted}; training.{kind} decides"
        )
    made = RunFolder.create(
        folder or run.with_name(f"{run.name}-average"),
        whole.recipe,
        whole.tokenizers,
        whole.preparation,
    )
    made.publish(average([checkpoint / MODEL for checkpoint in saved]))
    out.print(f"mean of {', '.join(c.name for c in saved)} in {made.path}", highlight=False)


def main() -> None:
    """Run a command; what the user got wrong is one message and exit code 2."""
    try:
        app(standalone_mode=True)
    except CalqueError as error:
        err.print(f"error: {error}", style="red", highlight=False, markup=False)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; there is nobody to tell
        sys.exit(0)


def _given_recipe(
    path: Path | None, training: Files, valid: Files, preset: str | None, changes: list[str]
) -> Recipe | None:
    """The recipe that the command line describes, if it describes one."""
    if path is None and training is None:
        if changes or preset or valid:
            raise CalqueError("--set, --preset and --valid need a recipe, or --train")
        return None
    values = read_toml(path) if path else {}
    for key, files in (("train", training), ("valid", valid)):
        if files:
            values.setdefault("data", {})[key] = [str(file) for file in files]
    if preset:
        values["preset"] = preset
    for change in changes:
        apply_change(values, change)
    return make_recipe(values, str(path or "command line"))


def _corpus(files: Files) -> list[CorpusConfig]:
    return [CorpusConfig(source=str(files[0]), target=str(files[1]))] if files else []


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _json(number: int, rank: int, translation: Translation) -> str:
    tokens = translation.hypothesis.token_log_probs
    record = {
        "line": number,
        "rank": rank,
        "text": translation.text,
        "score": translation.score,
        "log_prob": translation.hypothesis.log_prob,
        "token_log_probs": tokens,
    }
    return json.dumps(record, ensure_ascii=False)
