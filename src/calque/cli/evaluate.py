"""`calque evaluate`: what is asked for, and how the scores are shown."""

# ruff: noqa: PLC0415
# PyTorch takes seconds to import.

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from calque.cli import options

if TYPE_CHECKING:
    from calque.checkpoint import RunFolder
    from calque.evaluation.evaluate import EvaluationPairs
    from calque.text.data import CorpusConfig


def evaluate(
    run: options.Run,
    source: options.Source,
    reference: options.Reference = None,
    names: options.Names = None,
    baseline: options.Baseline = None,
    trees: options.Trees = None,
    as_json: options.AsJson = False,
) -> None:
    """Score a run's translations by BLEU, chrF2 and TER.

    All by sacreBLEU, with intervals of 95 % by bootstrap; with --baseline, the same of both runs
    and p-values by paired bootstrap.
    """
    import torch

    from calque.checkpoint import RunFolder
    from calque.cli.arguments import one_corpus
    from calque.evaluation.evaluate import compare_runs, evaluate_run
    from calque.evaluation.metrics import comparison_table, score_table
    from calque.translator import Translator

    out, errors = Console(), Console(stderr=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folders = [RunFolder(folder) for folder in (run, baseline) if folder]
    pairs = _read(one_corpus(source, reference, names, trees), trees, folders, errors)
    language = folders[0].recipe.data.target_language
    translator = Translator.load(run, device=device)
    with errors.status("translating"):
        if baseline is None:
            table = score_table(result := evaluate_run(translator, pairs, language))
        else:
            other = Translator.load(baseline, device=device)
            table = comparison_table(result := compare_runs(other, translator, pairs, language))
    if as_json:
        out.print_json(data=[asdict(metric) for metric in result])
    else:
        out.print(table, crop=False)


def _read(
    corpus: "CorpusConfig", trees: Path | None, folders: Sequence["RunFolder"], errors: Console
) -> "EvaluationPairs":
    """The pairs, if they and their trees are for these runs; what was left out is told."""
    from calque.cli.arguments import check_trees
    from calque.evaluation.evaluate import read_evaluation_pairs
    from calque.text.corpus.languages import refuse_other_languages

    check_trees(trees, *folders)
    for folder in folders:
        refuse_other_languages(corpus, "--names", folder.recipe.data, str(folder.path))
    pairs = read_evaluation_pairs(corpus)
    for reason, number in pairs.left_out.items():
        errors.print(f"left out: {number:,} {reason}", highlight=False)
    return pairs
