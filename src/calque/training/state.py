"""Where a training stands, and how it is put into a checkpoint and taken out again."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from calque.checkpoint import (
    METRICS,
    MODEL,
    SCORE,
    RunFolder,
    check_manifest,
    load_tensors,
    load_weights,
    save_tensors,
    write_manifest,
)
from calque.config import CalqueError, parse
from calque.recipe import TrainingConfig
from calque.training.optimizer import optimizer_tensors, restore_optimizer
from calque.training.step import Stepper, StepResult
from calque.writing import PART, discard, whole_folder

OPTIMIZER, STATE = "optimizer.safetensors", "training.json"
LOG_EVERY = 50  # steps


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
    recent_tokens: int = 0
    """Of them, those of the steps since the last multiple of LOG_EVERY."""
    recent_loss: float = 0.0
    """Cross-entropy of these, in nats, summed."""
    without_gain: int = 0
    """Validations since the last new best."""
    best: list[tuple[float, int]] = field(default_factory=list)
    """Score (higher is better) and step of the best checkpoints, best first."""
    world_size: int = 1
    """Processes that train together: they share out each batch."""
    budgets: int = 1
    """Times `training.batch_tokens` in a step; see `Processes`."""

    def count(self, result: StepResult) -> None:
        """One more step has been done."""
        if self.step % LOG_EVERY == 0:
            self.recent_tokens, self.recent_loss = 0, 0.0
        self.step += 1
        self.batches_done += 1
        self.tokens += result.tokens
        self.recent_tokens += result.tokens
        self.recent_loss += result.cross_entropy


def checkpoint_name(step: int) -> str:
    """Names sort as their steps do."""
    return f"step-{step:08d}"


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def save_checkpoint(
    run: RunFolder, stepper: Stepper, state: TrainingState, config: TrainingConfig
) -> None:
    """Write all that an exact resume needs; then drop what is no longer wanted.

    Raises CalqueError when it cannot be written, or when it would not be worth it.
    """
    weights = stepper.model.state_dict()
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CalqueError(
                f"{name} is no longer finite after step {state.step}: nothing was saved; "
                f"{last_checkpoint(run)}. Lower training.learning_rate"
            )
    with whole_folder(run.path / "checkpoints" / checkpoint_name(state.step)) as part:
        save_tensors(part / MODEL, weights)
        save_tensors(part / OPTIMIZER, optimizer_tensors(stepper.model, stepper.optimizer))
        (part / STATE).write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
        write_manifest(part)
    # Only now: until this checkpoint was whole, a resume would have asked for the older ones. What
    # a stop has saved between two times is wanted no longer than it is the last: without the stop,
    # it would not be among those that are averaged.
    *older, _ = run.checkpoints()
    regular = [folder for folder in older if _step_of(folder) % config.save_every == 0]
    wanted = regular[max(0, len(regular) + 1 - config.keep_last) :]
    for folder in older:
        if folder not in wanted:
            discard(folder)
    _drop_all_but_best(run, state)


def restore_checkpoint(run: RunFolder, stepper: Stepper) -> TrainingState:
    """Bring model and optimizer to the newest checkpoint.

    Without one the optimizer stays fresh, and so does the model unless the run has initial weights.
    Raises CalqueError naming a file that is missing, altered or cut off, or when the steps would
    not be as large as before.
    """
    processes, state = stepper.processes, saved_state(run)
    if state is None:
        if run.initial:
            load_weights(stepper.model, run.initial)
        return TrainingState(world_size=processes.world_size, budgets=processes.budgets)
    saved = run.checkpoints()[-1]
    load_weights(stepper.model, saved / MODEL)
    restore_optimizer(stepper.model, stepper.optimizer, load_tensors(saved / OPTIMIZER))
    if state.budgets != processes.budgets:
        raise CalqueError(
            f"{run.path}: a step held training.batch_tokens {state.budgets} times, here it would "
            f"be {processes.budgets}; resume on as many GPUs as before"
        )
    return state


def saved_state(run: RunFolder) -> TrainingState | None:
    """Where the newest checkpoint stands, if there is one.

    Raises CalqueError naming a file of it that is missing, altered or cut off.
    """
    saved = run.checkpoints()
    if not saved:
        return None
    *older, newest = saved
    try:
        check_manifest(newest)
    except CalqueError as error:
        way = f". To go on from {older[-1].name}, delete {newest}" if older else ""
        raise CalqueError(f"{error}{way}") from None
    values = json.loads((newest / STATE).read_text(encoding="utf-8"))
    return parse(TrainingState, values, str(newest / STATE))


def tidy(run: RunFolder, state: TrainingState) -> list[str]:
    """Remove what a training that was broken off has left and `state` does not know of.

    Best checkpoints that are missing, altered or cut off are left out of `state`. Returns what is
    to be said of what was lost.
    """
    lost = _leave_out_lost_best(run, state)
    if not state.step and (run.path / METRICS).exists():
        lost.append(f"{run.path}: no checkpoint is left; training begins anew")
    for part in (*run.path.glob(PART.format("*")), *run.path.glob(f"*/{PART.format('*')}")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
    _drop_all_but_best(run, state)
    return lost


def save_if_best(
    run: RunFolder, weights: dict[str, Tensor], state: TrainingState, score: float, keep: int
) -> bool:
    """Keep the weights if `score` is among the `keep` best; whether it is the best of all.

    What they surpass stays until the next checkpoint: a resume from the last one needs it.
    """
    ranked = sorted([*state.best, (score, state.step)], key=lambda b: (-b[0], b[1]))[:keep]
    leads = ranked[0][1] == state.step
    if (score, state.step) in ranked:
        with whole_folder(run.path / "best" / checkpoint_name(state.step)) as part:
            save_tensors(part / MODEL, weights)
            (part / SCORE).write_text(json.dumps({"score": score, "step": state.step}))
            write_manifest(part)
    state.best = ranked
    state.without_gain = 0 if leads else state.without_gain + 1
    return leads


def load_best(run: RunFolder, state: TrainingState) -> dict[str, Tensor]:
    """The best weights. Raises CalqueError when their file is missing, altered or cut off."""
    folder = run.path / "best" / checkpoint_name(state.best[0][1])
    check_manifest(folder)
    return load_tensors(folder / MODEL)


def last_checkpoint(run: RunFolder) -> str:
    """Where the newest checkpoint lies, in words."""
    saved = run.checkpoints()
    return f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"


def _drop_all_but_best(run: RunFolder, state: TrainingState) -> None:
    wanted = {checkpoint_name(step) for _, step in state.best}
    for folder in run.path.glob("best/step-*"):
        if folder.name not in wanted:
            discard(folder)


def _leave_out_lost_best(run: RunFolder, state: TrainingState) -> list[str]:
    kept, lost = [], []
    for score, step in state.best:
        try:
            check_manifest(run.path / "best" / checkpoint_name(step))
            kept.append((score, step))
        except CalqueError as error:
            lost.append(f"{error}; training goes on without this one of the best")
    state.best = kept
    return lost
