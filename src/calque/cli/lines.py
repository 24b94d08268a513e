"""What `calque translate` reads and writes: lines of text in, lines of text or JSON out."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from calque.config import CalqueError
from calque.text.corpus.pair import one_line
from calque.text.files import text_lines
from calque.translator import Translation, Translator


def searching(
    translator: Translator, n_best: int, beam_size: int | None, length_penalty: float | None
) -> Translator:
    """The translator with another search than its recipe's; to ask for a beam is beam search.

    Raises CalqueError when that search does not give `n_best` translations.
    """
    decoding = translator.decoding
    if beam_size is not None:
        decoding = replace(decoding, search="beam", beam_size=beam_size)
    if length_penalty is not None:
        decoding = replace(decoding, length_penalty=length_penalty)
    width = decoding.beam_size if decoding.search == "beam" else 1
    if n_best > width:
        raise CalqueError(f"--n-best {n_best} is over the beam size, {width}; see --beam-size")
    return Translator(translator.model, translator.tokenizers, decoding)


def translate_lines(translator: Translator, file: Path | None, n_best: int, scores: bool) -> None:
    """Translate a file, or standard input, to standard output; a line typed is answered at once."""
    if file is None and sys.stdin is None:
        raise CalqueError("standard input is closed; pipe text in, or name a FILE")
    console = Console(stderr=True)
    lines = text_lines(file) if file else _standard_input()
    if file is None and sys.stdin.isatty():
        console.print("Type a line, then Enter; Ctrl-D ends.", style="dim")
        found = (translator.n_best([line])[0] for line in lines)
    else:
        found = translator.stream(lines)
        if console.is_terminal and not Console().is_terminal:
            found = _counted(found, console)
    for number, translations in enumerate(found, start=1):
        if scores:
            written = _records(translator, number, translations[:n_best])
        else:
            # As many for every line of input, so that it is known which belong to which.
            texts = (one_line(translation.text) for translation in translations)
            written = islice(chain(texts, repeat("")), n_best)
        print(*written, sep="\n", flush=True)


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


def _counted(found: Iterator[list[Translation]], console: Console) -> Iterator[list[Translation]]:
    """What was found, with a count of it on the terminal."""
    columns = SpinnerColumn(), TextColumn("{task.completed:,} lines"), TimeElapsedColumn()
    # Left to itself, rich would take all that goes to standard output for the terminal's.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(found)


def _records(
    translator: Translator, number: int, translations: Sequence[Translation]
) -> Iterator[str]:
    """Each translation as an object of JSON Lines."""
    for rank, translation in enumerate(translations, start=1):
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
