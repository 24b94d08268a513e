"""Every argument and option of the command line, with its help."""

from pathlib import Path
from typing import Annotated

import typer

TwoFiles = tuple[Path, Path] | None
TWO_FILES = "SOURCE TARGET"

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Valid = Annotated[
    TwoFiles, typer.Option("--valid", metavar=TWO_FILES, help="Two files to validate on.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# demo
DemoFolder = Annotated[Path, typer.Option("--out", metavar="RUN", help="Run folder to make.")]

# check
Checked = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="Source lines, or a file of pairs, or a recipe.")
]
Target = Annotated[
    Path | None, typer.Argument(metavar="TARGET", help="Target lines, if SOURCE is lines.")
]
Names = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--names", metavar=TWO_FILES, help="Columns or languages, if SOURCE is a file of pairs."
    ),
]
Test = Annotated[TwoFiles, typer.Option("--test", metavar=TWO_FILES, help="Two files to test on.")]

# train
RecipeFile = Annotated[
    Path | None, typer.Argument(metavar="RECIPE.toml", help="What to train, and on what.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Another value than the recipe's, in TOML; repeatable.",
    ),
]
Train = Annotated[
    TwoFiles, typer.Option("--train", metavar=TWO_FILES, help="Two files to train on.")
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", metavar="SIZE", help="Of the model: tiny, small, base or big."),
]
Start = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="RUN", help="Fine-tuning: start from this run's weights and tokenizer."
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", metavar="RUN", help="Run folder.  [default: runs/RECIPE]")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]

# translate
TextFile = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="Text, UTF-8.  [default: standard input]")
]
NBest = Annotated[
    int, typer.Option("--n-best", min=1, metavar="N", help="Translations of each line, best first.")
]
BeamSize = Annotated[
    int | None,
    typer.Option(
        "--beam-size", min=1, metavar="N", help="Width of the search.  [default: the recipe's]"
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        min=0,
        metavar="ALPHA",
        help="0 is none; the higher, the longer.  [default: the recipe's]",
    ),
]
Scores = Annotated[
    bool, typer.Option("--scores", help="JSON Lines with log-probabilities, in nats.")
]
Trees = Annotated[
    Path | None,
    typer.Option(
        "--trees",
        metavar="FILE.conllu",
        help="Dependency trees of the source lines, for a model with structural positions.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="What translates: calque or ctranslate2, an export of it."
    ),
]

# evaluate
Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="Source lines, or a file of pairs.")]
Reference = Annotated[
    Path | None,
    typer.Argument(metavar="REFERENCE", help="Their translations, if SOURCE is lines."),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline", metavar="RUN", help="Another run: is the difference from it significant?"
    ),
]

# average
Last = Annotated[
    int | None, typer.Option("--last", min=2, metavar="N", help="Of the last N checkpoints.")
]
Best = Annotated[
    int | None, typer.Option("--best", min=2, metavar="N", help="Of the best N checkpoints.")
]
MeanFolder = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="Run folder to make.  [default: RUN-average]"),
]

# import
Foreign = Annotated[
    Path, typer.Argument(metavar="DIR", help="A Marian model in Hugging Face format.")
]
ImportFolder = Annotated[Path, typer.Option("--out", metavar="RUN", help="Run folder to make.")]

# export
ExportFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")]
Form = Annotated[
    str, typer.Option("--to", metavar="FORM", help="What to make: hugging-face or ctranslate2.")
]
Quantization = Annotated[
    str | None,
    typer.Option(
        "--quantization",
        metavar="TYPE",
        help="Of the weights, for ctranslate2: int8, int16, float16 ...  [default: float32]",
    ),
]
