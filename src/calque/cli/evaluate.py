"""`calque evaluate`: what is asked for, and how the scores are shown."""

# ruff: noqa: PLC0415
# PyTorch takes seconds to import.

from dataclasses import asdict

from rich.console import Console

from calque.cli import options


def evaluate(
    run: options.Run,
    source: options.Source,
    reference: options.Reference,
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
    from calque.cli.arguments import check_trees, two_files
    from calque.evaluation.evaluate import compare_runs, evaluate_run, read_evaluation_pairs
    from calque.evaluation.metrics import comparison_table, score_table
    from calque.translator import Translator

    out, errors = Console(), Console(stderr=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check_trees(trees, run, *([baseline] if baseline else []))
    (corpus,) = two_files((source, reference), trees)
    pairs = read_evaluation_pairs(corpus)
    language = RunFolder(run).recipe.data.target_language
    translator = Translator.load(run, device=device)
    for reason, number in pairs.left_out.items():
        errors.print(f"left out: {number:,} {reason}", highlight=False)
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
