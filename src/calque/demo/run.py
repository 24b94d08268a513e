"""The demo: a corpus out of a grammar, a model trained on it, and a look at what it learnt."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from calque.checkpoint import refuse_occupied
from calque.demo.grammar import write_corpus
from calque.evaluation.metrics import bleu
from calque.inspection.capture import look
from calque.inspection.terminal import draw
from calque.recipe import Recipe, make_recipe
from calque.training.loop import train
from calque.translator import Translator

SEED = 1
PAIRS = {"train": 24_000, "valid": 200, "test": 500}


def run_demo(folder: Path, console: Console) -> None:
    """Train on the demo corpus into the new run folder `folder`, then show what came of it.

    The corpus is written beside it. Raises CalqueError when the folder holds something.
    """
    refuse_occupied(folder)
    # Two processes of one thread: matrices as small as these gain little from a second thread, and
    # on a machine that has other work the threads wait for each other more than they compute.
    torch.set_num_threads(min(2, torch.get_num_threads()))
    corpus = folder.with_name(f"{folder.name}-corpus")
    _heading(console, "1. A corpus: English and German, from a grammar")
    write_corpus(corpus, seed=SEED, **PAIRS)
    _show_pairs(corpus, console)
    _heading(console, "2. A Transformer learns from it")
    if not train(demo_recipe(corpus), folder, console, with_helpers=True):
        return
    torch.set_num_threads(1)
    _heading(console, "3. Sentences it has never seen")
    translator = Translator.load(folder)
    score = _show_translations(translator, corpus, console)
    _heading(console, "4. Where it looked")
    _show_attention(translator, corpus, console)
    _heading(console, "Next")
    console.print(
        f"BLEU {score:.1f} on {PAIRS['test']} unseen sentences. Run folder: {folder}",
        highlight=False,
    )
    _show_commands(folder, corpus, console)


def demo_recipe(corpus: Path) -> Recipe:
    """A small model and a short training that suit the demo corpus."""
    pair = {s: [str(corpus / f"{s}.en"), str(corpus / f"{s}.de")] for s in PAIRS}
    values = {
        "data": {**pair, "source_language": "en", "target_language": "de"},
        "tokenizer": {"kind": "bpe", "vocab_size": 2000},
        "model": {
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "d_model": 128,
            "d_ff": 256,
            "num_heads": 4,
            "dropout": 0.0,
            "residual": "pre",
        },
        "training": {
            "max_steps": 700,
            "max_minutes": 1.4,
            "batch_tokens": 2048,
            "validate_every": 150,
            "save_every": 300,
            "schedule": "cosine",
            "learning_rate": 0.003,
            "warmup_steps": 60,
            "label_smoothing": 0.0,
        },
        "decoding": {"beam_size": 2, "max_length": 60},
    }
    return make_recipe(values, "demo")


def _heading(console: Console, title: str) -> None:
    console.print()
    console.rule(Text(title, style="bold"), align="left")


def _show_pairs(corpus: Path, console: Console) -> None:
    console.print(f"{PAIRS['train']:,} training pairs in {corpus}, such as", highlight=False)
    for source, target in list(zip(*_lines(corpus, "train"), strict=True))[:3]:
        console.print(f"  {source}\n  [dim]{target}[/dim]", highlight=False)


def _show_translations(translator: Translator, corpus: Path, console: Console) -> float:
    sources, references = _lines(corpus, "test")
    hypotheses = translator.translate(sources)
    table = Table("source", "translation", "reference", show_lines=True)
    for row in zip(sources[:5], hypotheses, references, strict=False):
        table.add_row(*row)
    console.print(table)
    return bleu(hypotheses, references, "de")


def _show_attention(translator: Translator, corpus: Path, console: Console) -> None:
    sources, _ = _lines(corpus, "test")
    # A modal verb sends the German infinitive to the end: a sentence whose order moves.
    line = next(s for s in sources if " want" in s and len(s.split()) <= 12)
    seen = look(translator, line)
    layer = max(name for name in seen.weights if name.endswith("cross_attention"))
    head = int(seen.weights[layer].amax(dim=-1).mean(dim=-1).argmax())
    console.print(
        f"Each word of the translation (rows) and the source words it was made from: {layer}, "
        f"head {head}, the most decided of its {len(seen.weights[layer])}.",
        highlight=False,
    )
    console.print(draw(seen.weights[layer][head], seen.target, seen.source))


def _show_commands(folder: Path, corpus: Path, console: Console) -> None:
    console.print("Try:")
    for command in (
        f'echo "The old man opens the door." | calque translate {folder}',
        f"calque evaluate {folder} {corpus / 'test.en'} {corpus / 'test.de'}",
        "calque train --train a.en a.de --valid b.en b.de --preset tiny --out runs/mine",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _lines(corpus: Path, split: str) -> tuple[list[str], list[str]]:
    source, target = ((corpus / f"{split}.{side}").read_text("utf-8") for side in ("en", "de"))
    return source.splitlines(), target.splitlines()
