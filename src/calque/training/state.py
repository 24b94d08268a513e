"""Where a training stands, and how it is put into a checkpoint and taken out again."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from calque.checkpoint import (
    MODEL,
    SCORE,
    RunFolder,
    check_manifest,
    load_tensors,
    load_weights,
    save_tensors,
    whole_folder,
    write_manifest,
)
from calque.recipe import TrainingConfig
from calque.training.optimizer import optimizer_tensors, restore_optimizer
from calque.training.step import Stepper

OPTIMIZER, STATE = "optimizer.safetensors", "training.json"


@dataclass
class TrainingState:
    """All that a resumed training needs to know besides weights and optimizer."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    """Counted from 0."""
    batches_done: int = 0
    """Of the epoch under way."""
    seconds: float = 0.0
    """Spent on training, validation included."""
    tokens: int = 0
    """Target tokens trained on."""
    without_gain: int = 0
    """Validations since the last new best."""
    best: list[tuple[float, int]] = field(default_factory=list)
    """Score (higher is better) and step of the best checkpoints, best first."""


def checkpoint_name(step: int) -> str:
    """Names sort as their steps do."""
    return f"step-{step:08d}"


def save_checkpoint(
    run: RunFolder, stepper: Stepper, state: TrainingState, config: TrainingConfig
) -> None:
    """Write all that an exact resume needs; then drop what is no longer wanted."""
    path = run.path / "checkpoints" / checkpoint_name(state.step)
    if not path.exists():
        with whole_folder(path) as part:
            save_tensors(part / MODEL, stepper.model.state_dict())
            save_tensors(part / OPTIMIZER, optimizer_tensors(stepper.model, stepper.optimizer))
            (part / STATE).write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
            write_manifest(part)
    # Only now: until this checkpoint was whole, a resume would have asked for the older ones.
    for old in run.checkpoints()[: -config.keep_last]:
        shutil.rmtree(old)
    _keep_best(run, state)


def restore_checkpoint(run: RunFolder, stepper: Stepper) -> TrainingState:
    """Bring model and optimizer to the newest checkpoint; without one, leave them fresh.

    Raises CalqueError naming a file that is missing, altered or cut off.
    """
    saved = run.checkpoints()
    if not saved:
        return TrainingState()
    check_manifest(saved[-1])
    load_weights(stepper.model, saved[-1] / MODEL)
    restore_optimizer(stepper.model, stepper.optimizer, load_tensors(saved[-1] / OPTIMIZER))
    state = TrainingState(**json.loads((saved[-1] / STATE).read_text(encoding="utf-8")))
    state.best = [(score, step) for score, step in state.best]
    _keep_best(run, state)  # what was saved after this checkpoint will come again
    return state


def save_if_best(
    run: RunFolder, weights: dict[str, Tensor], state: TrainingState, score: float, keep: int
) -> bool:
    """Keep the weights if `score` is among the `keep` best; whether it is the best of all."""
    ranked = sorted([*state.best, (score, state.step)], key=lambda b: (-b[0], b[1]))[:keep]
    leads = ranked[0][1] == state.step
    if (score, state.step) in ranked:
        path = run.path / "best" / checkpoint_name(state.step)
        shutil.rmtree(path, ignore_errors=True)
        with whole_folder(path) as part:
            save_tensors(part / MODEL, weights)
            (part / SCORE).write_text(json.dumps({"score": score, "step": state.step}))
            write_manifest(part)
    state.best = ranked
    state.without_gain = 0 if leads else state.without_gain + 1
    return leads


def best_weights(run: RunFolder, state: TrainingState) -> Path:
    """The file of the best weights so far."""
    return run.path / "best" / checkpoint_name(state.best[0][1]) / MODEL


def _keep_best(run: RunFolder, state: TrainingState) -> None:
    wanted = {checkpoint_name(step) for _, step in state.best}
    for folder in run.best():
        if folder.name not in wanted:
            shutil.rmtree(folder)
