"""The script behind three stations measures what it says."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from calque import Translator

SCRIPT = Path(__file__).parents[2] / "experiments/the-story/look_closer.py"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def cells(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def shown(*arguments: object) -> list[list[str]]:
    found = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return cells(found.stdout)


def test_even_weights_let_most_gradient_through_and_one_sided_ones_none(script):
    entropy, _ = script["saturation"](torch.zeros(3, 1, 8))
    assert entropy == pytest.approx(torch.tensor(8.0).log().item())
    entropy, gradient = script["saturation"](torch.tensor([[[1e3, 0.0, 0.0]]]))
    assert (entropy, gradient) == (0.0, 0.0)


def test_the_rank_is_the_number_of_directions(script):
    words = torch.randn(5000, 6)
    assert script["effective_rank"](words) == pytest.approx(6, abs=0.1)
    assert script["effective_rank"](words[:, :1] * torch.ones(6) + 5) == pytest.approx(1, abs=0.01)


def test_a_silent_head_is_heard_again_afterwards(script, trained):
    model = Translator.load(trained / "run").model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _, attention in script["attentions"](model):
        heads = model.config.num_heads
        width = attention.output.in_features // heads
        with script["silent"](attention.output, heads - 1, heads):
            assert not attention.output.weight[:, -width:].any()
            assert attention.output.weight[:, :-width].all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_every_head_and_every_layer_has_its_number(trained, tmp_path):
    translator = Translator.load(trained / "run")
    config = translator.model.config
    # Measured against what it says itself, which no head can be silent in.
    own = translator.translate((trained / "test.en").read_text(encoding="utf-8").splitlines())
    (tmp_path / "own.de").write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
    heads = shown("heads", trained / "run", trained / "test.en", tmp_path / "own.de")
    assert len(heads) == config.num_encoder_layers + 2 * config.num_decoder_layers
    assert {len(row) for row in heads} == {1 + config.num_heads}
    assert any(float(cell) for row in heads for cell in row[1:])
    ((name, *ranks),) = shown("rank", trained / "run", "--lines", trained / "test.en")
    assert name == str(trained / "run")
    assert len(ranks) == 1 + config.num_encoder_layers
    assert all(1 <= float(rank) <= config.d_model for rank in ranks)


def test_all_positions_at_once_learn_what_one_by_one_would(trained):
    table = shown("steps", trained / "run", trained / "test.en", trained / "test.de")
    (at_once, rate, loss), (one_by_one, slower, same) = table
    assert (at_once, one_by_one) == ("all at once", "one by one")
    assert all(float(x.replace(",", "")) > 0 for x in (rate, slower))
    assert float(loss) == pytest.approx(float(same), abs=2e-3)
