"""What `calque translate` translates with: a name, and what is to be done for it."""

# ruff: noqa: PLC0415
# CTranslate2 comes with the extra `export`.

from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from calque.checkpoint import RunFolder
from calque.cli.lines import records, texts
from calque.cli.workers import ParallelTranslator, suitable
from calque.config import CalqueError, parse
from calque.decoding.config import DecodingConfig
from calque.text.corpus.pair import one_line
from calque.training.memory import keep_freed_memory
from calque.translator import Translator


@dataclass(frozen=True)
class Asked:
    """What was asked for on the command line; None is as the recipe has it."""

    n_best: int
    beam_size: int | None
    length_penalty: float | None
    scores: bool

    def search(self, decoding: DecodingConfig) -> DecodingConfig:
        """Another search than the recipe's; to ask for a beam is beam search.

        Raises CalqueError for a value out of its range, and when that search does not give as many
        translations.
        """
        asked: dict[str, Any] = {}
        if self.beam_size is not None:
            asked |= {"search": "beam", "beam_size": self.beam_size}
        if self.length_penalty is not None:
            asked["length_penalty"] = self.length_penalty
        decoding = parse(DecodingConfig, asdict(decoding) | asked, "command line")
        width = decoding.beam_size if decoding.search == "beam" else 1
        if self.n_best > width:
            raise CalqueError(
                f"--n-best {self.n_best} is over the beam size, {width}; see --beam-size"
            )
        return decoding


@dataclass(frozen=True)
class Engine:
    """Lines in, lines out."""

    stream: Callable[[Iterable[str]], Generator[Any, None, None]]
    """From lines to what was found for each, in order."""
    written: Callable[[int, Any], Iterable[str]]
    """From the number of a line and what was found for it to lines to write."""


def _calque(run: Path, asked: Asked) -> Engine:
    on_gpu = torch.cuda.is_available()
    keep_freed_memory()
    translator = Translator.load(run, device="cuda" if on_gpu else "cpu")
    decoding = asked.search(translator.decoding)
    translator = translator.searching(decoding)
    processes = 1 if on_gpu else suitable(translator)
    stream = ParallelTranslator(translator, processes).stream
    if asked.scores:
        return Engine(stream, lambda *found: records(translator, asked.n_best, *found))
    return Engine(stream, lambda _, found: texts(asked.n_best, found))


def _ctranslate2(run: Path, asked: Asked) -> Engine:
    if asked.n_best > 1 or asked.scores:
        raise CalqueError("--n-best and --scores need --engine calque")
    try:
        from calque.interchange.ctranslate2 import CTranslate2Engine
        from calque.interchange.kept_export import kept_export
    except ModuleNotFoundError as error:
        if error.name != "ctranslate2":
            raise
        raise CalqueError(
            "--engine ctranslate2: ctranslate2 is not installed; pip install 'calque[export]'"
        ) from None
    folder, errors = RunFolder(run), Console(stderr=True)
    decoding = asked.search(folder.recipe.decoding)
    kept = kept_export(folder, lambda text: errors.print(text, highlight=False, soft_wrap=True))
    engine = CTranslate2Engine(kept, decoding, device="auto")

    def stream(lines: Iterable[str]) -> Generator[str, None, None]:
        yield from engine.stream(lines)

    return Engine(stream, lambda _, text: [one_line(text)])


ENGINES: dict[str, Callable[[Path, Asked], Engine]] = {
    "calque": _calque,
    "ctranslate2": _ctranslate2,
}
