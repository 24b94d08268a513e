"""Write the tasks of copying and reversing as parallel text.

    python experiments/the-story/make_tasks.py runs/tasks

Letters drawn at random, with spaces between; training and validation have 5 to 100 of them, each
test file one length.
"""

import argparse
from pathlib import Path
from random import Random
from string import ascii_lowercase

LONGEST_TRAINED = 100
TESTED = (10, 25, 50, 75, 100, 125, 150, 200)
TASKS = {"copy": lambda letters: letters, "reverse": lambda letters: letters[::-1]}


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where a folder for each task goes")
    parser.add_argument("--pairs", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--tested", type=int, default=50, help="of each length; default: 50")
    given = parser.parse_args()
    for name, answer in TASKS.items():
        random, folder = Random(1), given.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, number in (("train", given.pairs), ("valid", 200)):
            lengths = [random.randint(5, LONGEST_TRAINED) for _ in range(number)]
            write(folder / split, lengths, answer, random)
        for length in TESTED:
            write(folder / f"length-{length:03}", [length] * given.tested, answer, random)


def write(stem: Path, lengths: list[int], answer, random: Random) -> None:
    """Two files of as many lines as there are lengths."""
    with (
        stem.with_suffix(".source").open("w", encoding="utf-8") as source,
        stem.with_suffix(".target").open("w", encoding="utf-8") as target,
    ):
        for length in lengths:
            letters = random.choices(ascii_lowercase, k=length)
            source.write(" ".join(letters) + "\n")
            target.write(" ".join(answer(letters)) + "\n")


if __name__ == "__main__":
    main()
