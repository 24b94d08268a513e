"""Write the retrieval task as parallel text: the token that is needed stands far away.

    python experiments/long-sequences/make_retrieval.py runs/tasks

A source is some noise, eight keys with their values (`k5=v3`), more noise, and a question for one
of the keys (`k5?`). The target is its value, four times over: so BLEU, which counts runs of up to
four tokens, is the share of the answers that are right. The noise between is 0 to 64 tokens long
in training, as often 3 to 6 as 31 to 62, and of one length in each test file.
"""

import argparse
from math import log2
from pathlib import Path
from random import Random

KEYS, VALUES, NOISE = 8, 8, 8
TIMES = 4
BEFORE = 8, 16
"""Tokens of noise before the first pair, so that none is among the tokens that all may see."""
LONGEST_TRAINED = 64
TESTED = (4, 8, 16, 32, 64, 128)


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the folder `retrieval` goes")
    parser.add_argument("--pairs", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--tested", type=int, default=200, help="of each distance; default: 200")
    given = parser.parse_args()
    random, folder = Random(1), given.folder / "retrieval"
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", given.pairs), ("valid", 200)):
        octaves = [random.uniform(0, log2(LONGEST_TRAINED + 1)) for _ in range(number)]
        distances = [int(2**octave) - 1 for octave in octaves]
        write(folder / split, distances, random)
    for distance in TESTED:
        write(folder / f"distance-{distance:03}", [distance] * given.tested, random)


def example(distance: int, random: Random) -> tuple[list[str], list[str]]:
    """Source and target, with so many tokens between the last pair and the question."""
    keys = random.sample(range(KEYS), KEYS)
    values = {key: random.randrange(VALUES) for key in keys}
    asked = random.choice(keys)
    before, between = (
        [f"n{random.randrange(NOISE)}" for _ in range(number)]
        for number in (random.randint(*BEFORE), distance)
    )
    pairs = [f"k{key}=v{values[key]}" for key in keys]
    return [*before, *pairs, *between, f"k{asked}?"], [f"v{values[asked]}"] * TIMES


def write(stem: Path, distances: list[int], random: Random) -> None:
    """Two files of as many lines as there are distances."""
    with (
        stem.with_suffix(".source").open("w", encoding="utf-8") as source,
        stem.with_suffix(".target").open("w", encoding="utf-8") as target,
    ):
        for distance in distances:
            for file, tokens in zip((source, target), example(distance, random), strict=True):
                file.write(" ".join(tokens) + "\n")


if __name__ == "__main__":
    main()
