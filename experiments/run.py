"""Train a recipe with several seeds, score each on the recipe's test set, and write a table.

    python experiments/run.py experiments/multi30k-en-de --seeds 1 2 3

Broken off and started again, it goes on where it was. Seeds that results.json has from the same
recipe stay in the table. Needs `pip install '.[experiments]'`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from calque import Translator
from calque.checkpoint import RunFolder
from calque.config import read_toml
from calque.evaluation.evaluate import read_evaluation_pairs
from calque.evaluation.metrics import evaluate
from calque.recipe import Recipe, make_recipe

Result = dict[str, float | int]


def main() -> None:
    """Parse, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, help="folder with a recipe.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    given = parser.parse_args()
    recipe_file = given.experiment / "recipe.toml"
    recipe = make_recipe(read_toml(recipe_file), str(recipe_file))
    results = known(given.experiment, recipe)
    for seed in given.seeds:
        run = given.runs / f"{given.experiment.name}-seed-{seed}"
        train(recipe_file, seed, run)
        results[seed] = {"seed": seed, **score(run, recipe)}
        write(given.experiment, recipe, [results[seed] for seed in sorted(results)])
    print((given.experiment / "results.md").read_text())


def known(folder: Path, recipe: Recipe) -> dict[int, Result]:
    """Results by seed, if there are any of this recipe."""
    file = folder / "results.json"
    if not file.exists():
        return {}
    kept = json.loads(file.read_text())
    return {r["seed"]: r for r in kept["results"]} if kept["recipe"] == recipe.to_toml() else {}


def train(recipe: Path, seed: int, run: Path) -> None:
    """Train, or go on training, until the run folder is finished."""
    if run.exists() and RunFolder(run).finished:
        return
    command = [sys.executable, "-m", "calque", "train", str(recipe)]
    command += ["--set", f"training.seed={seed}", "--out", str(run)]
    subprocess.run([*command, "--resume"] if run.exists() else command, check=True)


def score(run: Path, recipe: Recipe) -> Result:
    """What the table has about one run."""
    (corpus,) = recipe.data.test
    pairs = read_evaluation_pairs(corpus)
    hypotheses, references = Translator.load(run).translate(pairs.sources), pairs.references
    language = recipe.data.target_language
    result: Result = {m.name: m.score for m in evaluate(hypotheses, references, language)}
    if language in ("de", "en", "fr"):
        result["BLEU, lowercased, tokenised"] = tokenised_bleu(hypotheses, references, language)
    state = json.loads((RunFolder(run).checkpoints()[-1] / "training.json").read_bytes())
    result["minutes"] = state["seconds"] / 60
    result["target tokens/s"] = state["tokens"] / state["seconds"]
    return result


def tokenised_bleu(hypotheses: list[str], references: list[str], language: str) -> float:
    """BLEU as papers on Multi30k report it: punctuation normalised, Moses tokens, lower case."""
    normalise = MosesPunctNormalizer(language).normalize
    tokenise = MosesTokenizer(language).tokenize

    def prepare(line: str) -> str:
        return tokenise(normalise(line), return_str=True, escape=False).lower()

    metric = BLEU(tokenize="none", force=True)
    prepared = [prepare(line) for line in references]
    return metric.corpus_score([prepare(line) for line in hypotheses], [prepared]).score


def write(folder: Path, recipe: Recipe, results: list[Result]) -> None:
    """results.json, and results.md with mean and spread."""
    kept = {"recipe": recipe.to_toml(), "results": results}
    (folder / "results.json").write_text(json.dumps(kept, indent=2) + "\n")
    names = [name for name in results[0] if name != "seed"]
    rows = [["seed", *names], ["---", *("---:" for _ in names)]]
    rows += [[str(r["seed"]), *(f"{r[name]:,.2f}" for name in names)] for r in results]
    if len(results) > 1:
        columns = {name: [r[name] for r in results] for name in names}
        rows.append(["mean", *(f"{statistics.mean(c):,.2f}" for c in columns.values())])
        rows.append(
            ["standard deviation", *(f"{statistics.stdev(c):,.2f}" for c in columns.values())]
        )
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    (folder / "results.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
