"""Trees in training: a training that is killed goes on with them, bit by bit."""

from pathlib import Path

import pytest


def trees_of(file: Path) -> Path:
    """A file with a tree for each line: words by white space, hanging on the first."""
    rows = (
        "".join(
            f"{number}\t{word}\t_\t_\t_\t_\t{min(number - 1, 1)}\t_\t_\t_\n"
            for number, word in enumerate(line.split(), start=1)
        )
        for line in file.read_text("utf-8").splitlines()
    )
    trees = file.with_suffix(".conllu")
    trees.write_text("\n".join([*rows, ""]), "utf-8")
    return trees


@pytest.mark.parametrize("positions", ["structural", "structural_relative"])
def test_a_killed_training_ends_as_if_nothing_had_happened(
    positions, tiny, corpus, killed, never_killed, content
):
    data = {
        split: {
            "source": str(corpus / f"{split}.en"),
            "target": str(corpus / f"{split}.de"),
            "trees": str(trees_of(corpus / f"{split}.en")),
        }
        for split in ("train", "valid")
    }
    training = {"accumulation": 3, "r_drop": 0.5, "save_every": 5}
    recipe = tiny(data=data, model={"positions": positions}, training=training)
    found = killed(recipe, [{"die_at": [["step"], 8]}, {"die_at": [["validation"], 1]}])
    assert found == never_killed(recipe)
