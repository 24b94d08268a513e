"""What `calque translate` reads and writes: lines of text in, lines of text or JSON out."""

import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.text.corpus.pair import one_line
from calque.text.files import text_lines
from calque.text.trees import beside
from calque.translator import Translation, Translator

Found = TypeVar("Found")


class LongLines:
    """Those among lines that are longer than any that a run's model was trained on."""

    def __init__(self, run: RunFolder) -> None:
        self.longest, self.tokenizer = run.recipe.data.max_length, run.tokenizers.source
        self.found = self.first = 0

    def count(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines, which are counted as they go by."""
        for number, line in enumerate(lines, start=1):
            if len(self.tokenizer.encode([line])[0]) > self.longest:
                self.found += 1
                self.first = self.first or number
            yield line

    def note(self) -> str:
        """What the user should know about them."""
        are = "lines are" if self.found > 1 else "line is"
        return (
            f"{self.found:,} {are} longer than the {self.longest} tokens that the model was "
            f"trained on (first: line {self.first}), and may lose text; cut them into sentences"
        )


def translate_lines(
    file: Path | None,
    trees: Path | None,
    stream: Callable[[Iterable[str]], Generator[Found, None, None]],
    written: Callable[[int, Found], Iterable[str]],
    long: LongLines,
) -> None:
    """Translate a file, or standard input, to standard output; a line typed is answered at once.

    `trees` is a CoNLL-U file with the trees of the lines. Of lines that are too long for the model,
    standard error tells at the end.

    `stream` makes of lines what was found for each; `written` says what to write for that, and for
    the number of its line.
    """
    if file is None and sys.stdin is None:
        raise CalqueError("standard input is closed; pipe text in, or name a FILE")
    if sys.stdout is None:
        raise CalqueError("standard output is closed, where the translations go")
    console = Console(stderr=True)
    lines = long.count(text_lines(file) if file else _standard_input())
    if trees:
        name = file or "standard input"
        lines = beside(((line, f"{name}:{n}") for n, line in enumerate(lines, start=1)), [trees])
    if file is None and sys.stdin.isatty():
        console.print("Type a line, then Enter; Ctrl-D ends.", style="dim")
        found = (one for line in lines for one in stream([line]))
    else:
        found = stream(lines)
        if console.is_terminal and not Console().is_terminal:
            found = _counted(found, console)
    with closing(found):
        for number, one in enumerate(found, start=1):
            print(*written(number, one), sep="\n", flush=True)
    if long.found:
        console.print(long.note(), highlight=False, soft_wrap=True)


def texts(n_best: int, translations: Sequence[Translation]) -> Iterator[str]:
    """As many lines for every line of input, so that it is known which belong to which."""
    found = (one_line(translation.text) for translation in translations)
    return islice(chain(found, repeat("")), n_best)


def records(
    translator: Translator, n_best: int, number: int, translations: Sequence[Translation]
) -> Iterator[str]:
    """Each of the best translations of a line as an object of JSON Lines."""
    for rank, translation in enumerate(translations[:n_best], start=1):
        hypothesis = translation.hypothesis
        eos = translator.model.config.eos_id
        ids = [*hypothesis.tokens, eos] if hypothesis.token_log_probs else []
        record = {
            "line": number,
            "rank": rank,
            "text": one_line(translation.text),
            "score": translation.score,
            "log_prob": hypothesis.log_prob,
            "tokens": translator.tokenizers.target.pieces(ids),
            "token_log_probs": hypothesis.token_log_probs,
        }
        yield json.dumps(record, ensure_ascii=False)


def _standard_input() -> Iterator[str]:
    """The lines of standard input, by the rules of `text_lines`."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        line = raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise CalqueError(
                f"standard input:{number}: not UTF-8 at byte {error.start} of the line, counted "
                f"from 0 (0x{error.object[error.start]:02x})"
            ) from None


def _counted(found: Generator[Found, None, None], console: Console) -> Generator[Found, None, None]:
    """What was found, with a count of it on the terminal."""
    columns = SpinnerColumn(), TextColumn("{task.completed:,} lines"), TimeElapsedColumn()
    # Left to itself, rich would take all that goes to standard output for the terminal's.
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    with closing(found), progress:
        yield from progress.track(found)
