"""What BLEU alone does not show of four stations: scaling, heads, averaging and masks.

    python experiments/the-story/look_closer.py scaling
    python experiments/the-story/look_closer.py heads runs/en-de val.en val.de
    python experiments/the-story/look_closer.py rank runs/one runs/other --lines val.en
    python experiments/the-story/look_closer.py steps runs/en-de val.en val.de

`scaling`: how even the weights of attention are, and how much gradient the softmax lets through, by
the width of a head. `heads`: BLEU of a Transformer with each of its heads silenced. `rank`: in how
many directions the encoder's words differ from each other, layer by layer. `steps`: what training
costs when the mask lets all positions of the target learn at once, and when they come one by one.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from calque import Translator
from calque.evaluation.evaluate import read_evaluation_pairs
from calque.evaluation.metrics import bleu
from calque.models.interface import Seq2Seq
from calque.text.data import CorpusConfig

WIDTHS = 16, 32, 64, 128, 256
QUERIES, KEYS = 1000, 20
LINES = 200
PAIRS, REPEATED = 64, 5


def main() -> None:
    """Parse, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("scaling")
    heads = commands.add_parser("heads")
    heads.add_argument("run", type=Path)
    heads.add_argument("source", type=Path)
    heads.add_argument("reference", type=Path)
    rank = commands.add_parser("rank")
    rank.add_argument("runs", type=Path, nargs="+")
    rank.add_argument("--lines", type=Path, required=True, help="text to encode")
    steps = commands.add_parser("steps")
    steps.add_argument("run", type=Path)
    steps.add_argument("source", type=Path)
    steps.add_argument("target", type=Path)
    given = parser.parse_args()
    if given.command == "scaling":
        show_scaling()
    elif given.command == "heads":
        show_heads(given.run, given.source, given.reference)
    elif given.command == "steps":
        show_steps(given.run, given.source, given.target)
    else:
        show_ranks(given.runs, given.lines.read_text("utf-8").splitlines()[:LINES])


def show_scaling() -> None:
    """Queries and keys of independent normal numbers, as at the start of training."""
    torch.manual_seed(1)
    print("| width | entropy, scaled | gradient, scaled | entropy, unscaled | gradient, unscaled |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for width in WIDTHS:
        scores = torch.randn(QUERIES, 1, width) @ torch.randn(QUERIES, width, KEYS)
        cells = [f"{x:.2f}" for scale in (width**-0.5, 1) for x in saturation(scores * scale)]
        print(f"| {width} | {' | '.join(cells)} |")
    print(f"\nEntropy in nats, of at most {math.log(KEYS):.2f} for {KEYS} keys.")


def saturation(scores: Tensor) -> tuple[float, float]:
    """Mean entropy of the weights, and mean norm of their derivatives by the scores."""
    weights = scores.softmax(dim=-1).squeeze(1)
    entropy = torch.special.entr(weights).sum(dim=-1)
    jacobian = weights.diag_embed() - weights[:, :, None] * weights[:, None, :]
    return entropy.mean().item(), jacobian.flatten(1).norm(dim=1).mean().item()


def show_heads(run: Path, source: Path, reference: Path) -> None:
    """By greedy search: what each head's silence costs."""
    pairs = read_evaluation_pairs(CorpusConfig(source=str(source), target=str(reference)))
    translator = Translator.load(run).with_decoding(beam_size=1)

    def score() -> float:
        return bleu(translator.translate(pairs.sources), pairs.references, None)

    whole = score()
    layers = dict(attentions(translator.model))
    heads = translator.model.config.num_heads
    print("| layer |", " | ".join(f"head {head}" for head in range(1, heads + 1)), "|")
    print("| --- |", " | ".join(["---:"] * heads), "|")
    for name, attention in layers.items():
        costs = []
        for head in range(heads):
            with silent(attention.output, head, heads):
                costs.append(f"{score() - whole:+.2f}")
        print(f"| {name} |", " | ".join(costs), "|", flush=True)
    print(f"\nBLEU of all heads together: {whole:.2f}")


def attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Of a Transformer, with their names for a reader."""
    for number, layer in enumerate(model.encoder, start=1):
        yield f"encoder {number}", layer.self_attention
    for number, layer in enumerate(model.decoder, start=1):
        yield f"decoder {number}", layer.self_attention
    for number, layer in enumerate(model.decoder, start=1):
        yield f"cross {number}", layer.cross_attention


@contextmanager
def silent(output: nn.Linear, head: int, heads: int) -> Iterator[None]:
    """What one head says is not heard, for the block."""
    width = output.in_features // heads
    columns = slice(head * width, (head + 1) * width)
    before = output.weight.detach()[:, columns].clone()
    with torch.no_grad():
        output.weight[:, columns] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            output.weight[:, columns] = before


@torch.inference_mode()
def show_ranks(runs: list[Path], lines: list[str]) -> None:
    """Of each run a row, of each layer a column; before the first layer stand the embeddings."""
    ranks = {run: [effective_rank(words) for words in depths(run, lines)] for run in runs}
    layers = max(map(len, ranks.values()))
    print("| run | embeddings |", " | ".join(f"layer {i}" for i in range(1, layers)), "|")
    print("| --- |", " | ".join(["---:"] * layers), "|")
    for run, of_run in ranks.items():
        print(f"| {run} |", " | ".join(f"{rank:.1f}" for rank in of_run), "|")


def depths(run: Path, lines: list[str]) -> list[Tensor]:
    """The words of the lines as the encoder has them, at each depth: [words, d_model]."""
    translator = Translator.load(run)
    model, eos_id = translator.model, translator.model.config.eos_id
    rows = translator.tokenizers.source.encode(lines)
    of_lines = [seen_on_the_way(model, torch.tensor([[*row, eos_id]])) for row in rows]
    return [torch.cat(of_depth) for of_depth in zip(*of_lines, strict=True)]


def seen_on_the_way(model: nn.Module, source: Tensor) -> list[Tensor]:
    """What goes into each layer of the encoder, and what comes out of the last."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
        for module in (*model.encoder, model.encoder_norm)
    ]
    model.encode(source)
    for hook in hooks:
        hook.remove()
    return seen


def effective_rank(words: Tensor) -> float:
    """exp of the entropy of the singular values' shares, once the mean is taken away.

    Roy and Vetterli 2007, "The effective rank".
    """
    values = torch.linalg.svdvals(words - words.mean(dim=0))
    return math.exp(torch.special.entr(values / values.sum()).sum().item())


def show_steps(run: Path, source: Path, target: Path) -> None:
    """Loss and gradients of the same pairs, at once and one position after the other."""
    torch.set_num_threads(1)
    pairs = read_evaluation_pairs(CorpusConfig(source=str(source), target=str(target)))
    translator = Translator.load(run)
    model, config = translator.model, translator.model.config

    def padded(rows: Iterable[Sequence[int]]) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=config.pad_id)

    sources = translator.tokenizers.source.encode(pairs.sources[:PAIRS])
    targets = translator.tokenizers.target.encode(pairs.references[:PAIRS])
    source_ids = padded([*row, config.eos_id] for row in sources)
    shown = padded([config.bos_id, *row] for row in targets)
    wanted = padded([*row, config.eos_id] for row in targets)
    print("| positions | target tokens/s | loss |")
    print("| --- | ---: | ---: |")
    for name, logits in (
        ("all at once", model.forward),
        ("one by one", partial(step_by_step, model)),
    ):
        times = []
        for _ in range(REPEATED):
            model.zero_grad()
            start = time.perf_counter()
            found = logits(source_ids, shown).flatten(0, 1)
            loss = cross_entropy(found, wanted.flatten(), ignore_index=config.pad_id)
            loss.backward()
            times.append(time.perf_counter() - start)
        rate = (wanted != config.pad_id).sum().item() / median(times)
        print(f"| {name} | {rate:,.0f} | {loss.item():.3f} |")


def step_by_step(model: Seq2Seq, source: Tensor, target: Tensor) -> Tensor:
    """The logits that the model has when it sees one position of the target after the other."""
    memory = model.encode(source)
    past = model.start(memory)
    return torch.cat([model.decode(new, memory, past) for new in target.split(1, dim=1)], dim=1)


if __name__ == "__main__":
    main()
