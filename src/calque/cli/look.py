"""`calque look`: what is asked for, and where it is to go."""

# ruff: noqa: PLC0415
# PyTorch and matplotlib take seconds to import.

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calque.cli import options
from calque.config import CalqueError

if TYPE_CHECKING:
    from calque.translator import Translator

Sentence = Annotated[
    str | None, typer.Argument(metavar="SENTENCE", help="What to translate and look at.")
]
Positions = Annotated[
    bool, typer.Option("--positions", help="Position tables and their dot products.")
]
Embeddings = Annotated[
    bool, typer.Option("--embeddings", help="The vocabulary as a plane, with neighbours.")
]
Training = Annotated[
    bool, typer.Option("--training", help="Loss, BLEU, learning rate and speed by step.")
]
Others = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="RUN", help="Another run in --training; repeatable."),
]
PageFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")]
PictureFolder = Annotated[
    Path | None, typer.Option("--png", metavar="DIR", help="Folder for pictures of all of it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of writing a page.")]


def look(
    run: options.Run,
    sentence: Sentence = None,
    positions: Positions = False,
    embeddings: Embeddings = False,
    training: Training = False,
    others: Others = None,
    file: PageFile = Path("look.html"),
    pictures: PictureFolder = None,
    as_json: AsJson = False,
) -> None:
    """Look inside a run's model: attention, beam and more, in one page that needs no network.

    The translation is the one that translate gives.

    \b
    calque look runs/en-de "The old man opens the door."
    calque look runs/en-de --positions --embeddings
    calque look runs/en-de --training --with runs/other
    """
    if sentence is None and not (positions or embeddings or training):
        raise CalqueError(
            "nothing to look at: give a SENTENCE, --positions, --embeddings or --training"
        )
    if others and not training:
        raise CalqueError("--with is for --training, which is missing")
    report: dict[str, Any] = {"run": run.resolve().name}
    if sentence is not None or positions or embeddings:
        report |= _inside(_translator(run), sentence, positions, embeddings)
    if training:
        from calque.inspection.training import training as course

        report["training"] = course([run, *(others or [])])
    _write(report, file, pictures, as_json)


def _inside(
    translator: "Translator", sentence: str | None, positions: bool, embeddings: bool
) -> dict[str, Any]:
    """What only the model itself can show."""
    from calque.inspection.embeddings import embeddings as vocabulary
    from calque.inspection.positions import positions as tables

    report = {} if sentence is None else translator.look(_line(sentence)).to_json()
    if positions:
        report["positions"] = tables(translator)
    if embeddings:
        report["embeddings"] = vocabulary(translator)
    return report


def _line(sentence: str) -> str:
    """Raises CalqueError for what is no line of text."""
    if not sentence.strip():
        raise CalqueError("SENTENCE is empty")
    if "\n" in sentence:
        raise CalqueError("SENTENCE has several lines; one can be looked at at a time")
    try:
        sentence.encode()
    except UnicodeEncodeError:
        raise CalqueError("SENTENCE is not UTF-8") from None
    return sentence


def _write(report: dict[str, Any], file: Path, pictures: Path | None, as_json: bool) -> None:
    from calque.inspection.pages import page
    from calque.writing import whole_file

    written = []
    if pictures is not None:
        from calque.inspection.pictures import write_pictures

        written = write_pictures(report, pictures)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    with whole_file(file) as part:
        part.write_text(page(report), encoding="utf-8")
    if "target" in report:
        print(report["target"]["text"])
    print(*(f"wrote {path}" for path in [file, *written]), sep="\n")


def _translator(run: Path) -> "Translator":
    import torch

    from calque.translator import Translator

    return Translator.load(run, device="cuda" if torch.cuda.is_available() else "cpu")
