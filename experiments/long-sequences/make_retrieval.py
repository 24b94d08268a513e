"""Write the retrieval task as parallel text: the token that is needed stands far away.

    python experiments/long-sequences/make_retrieval.py runs/tasks

A source is some noise, eight keys with their values (`k5=v3`), more noise, and a question for each
key in another order (`k5?0` is the first); the target is the values in the order of the questions.
The noise between is 0 to 256 tokens long in training, and of one length in each test file.
"""

import argparse
from pathlib import Path
from random import Random

KEYS, VALUES, NOISE = 16, 16, 16
ASKED = 8
BEFORE = 32, 64
"""Tokens of noise before the first pair, so that none is among the tokens that all may see."""
LONGEST_TRAINED = 256
TESTED = (16, 64, 128, 256, 512)


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the folder `retrieval` goes")
    parser.add_argument("--pairs", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--tested", type=int, default=100, help="of each distance; default: 100")
    given = parser.parse_args()
    random, folder = Random(1), given.folder / "retrieval"
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", given.pairs), ("valid", 200)):
        distances = [random.randint(0, LONGEST_TRAINED) for _ in range(number)]
        write(folder / split, distances, random)
    for distance in TESTED:
        write(folder / f"distance-{distance:03}", [distance] * given.tested, random)


def example(distance: int, random: Random) -> tuple[list[str], list[str]]:
    """Source and target, with so many tokens between the last pair and the first question."""
    keys = random.sample(range(KEYS), ASKED)
    values = {key: random.randrange(VALUES) for key in keys}
    questions = random.sample(keys, ASKED)
    noise = [f"n{random.randrange(NOISE)}" for _ in range(random.randint(*BEFORE) + distance)]
    before, between = noise[: len(noise) - distance], noise[len(noise) - distance :]
    pairs = [f"k{key}=v{values[key]}" for key in keys]
    asked = [f"k{key}?{place}" for place, key in enumerate(questions)]
    return before + pairs + between + asked, [f"v{values[key]}" for key in questions]


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
