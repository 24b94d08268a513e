"""Training from a recipe, and its exact continuation."""

import time
from pathlib import Path

import torch
from rich.console import Console

from calque.checkpoint import RunFolder, average, load_tensors, refuse_occupied
from calque.config import CalqueError, choose
from calque.models.build import attention_for
from calque.models.parts.dropout import use_random_bits
from calque.recipe import Recipe, differences
from calque.text.batching import Batch
from calque.training.course import Course
from calque.training.distributed import Processes
from calque.training.interruption import Interruption
from calque.training.optimizer import OPTIMIZERS
from calque.training.precision import uses_bf16
from calque.training.preparation import (
    Corpora,
    describe,
    learn_tokenizers,
    prepare_corpora,
    show,
)
from calque.training.progress import Report, Silence, clock
from calque.training.schedule import SCHEDULES
from calque.training.state import (
    best_weights,
    restore_checkpoint,
    save_checkpoint,
    save_if_best,
)
from calque.training.step import BatchTooLargeError, LossNotFiniteError, Stepper
from calque.training.validation import Validation, validate


def train(recipe: Recipe, out: Path, console: Console | None = None) -> bool:
    """Train a model into the new run folder `out`; whether training came to its end.

    Ctrl-C or SIGTERM saves a checkpoint and returns False. Under `torchrun`, all processes call
    this together. Raises CalqueError for what the recipe or its data get wrong, before anything
    is written to `out`.
    """
    console = console or Console()
    choose("training.optimizer", recipe.training.optimizer, OPTIMIZERS)
    choose("training.schedule", recipe.training.schedule, SCHEDULES)
    processes = Processes.join()
    try:
        if processes.is_main:
            refuse_occupied(out)
            tokenizers = learn_tokenizers(recipe)
            description = describe(prepare_corpora(recipe, tokenizers), recipe)
            show(description, console)
            RunFolder.create(out, recipe, tokenizers, description)
        processes.share(None)
        return _Training(RunFolder(out), processes, console).run()
    finally:
        processes.leave()


def resume(out: Path, recipe: Recipe | None = None, console: Console | None = None) -> bool:
    """Go on with the training in `out`, to bitwise the end it would have had without the break.

    Raises CalqueError when `recipe` is not the one it began with, when its data have changed, or
    when a file of the folder is not as it was written.
    """
    run = RunFolder(out)
    changed = differences(run.recipe, recipe) if recipe else []
    if changed:
        raise CalqueError(
            f"{out}: the recipe has changed since this run began, in {', '.join(changed)}; "
            "resume with the recipe as it was, or train into another folder"
        )
    processes = Processes.join()
    try:
        return _Training(run, processes, console or Console()).run()
    finally:
        processes.leave()


class _Training:
    """One training, from where its run folder stands."""

    def __init__(self, run: RunFolder, processes: Processes, console: Console) -> None:
        self.run_folder, self.recipe, self.config = run, run.recipe, run.recipe.training
        self.processes, self.console = processes, console
        self.corpora = self._corpora()
        device = processes.device
        torch.manual_seed(self.config.seed)
        self.model = run.new_model(attention_for(device)).to(device)
        if device.type == "cpu":
            use_random_bits(self.model)
        bf16 = uses_bf16(self.config.precision, device)
        self.stepper = Stepper(self.model, self.config, processes, autocast=bf16)
        self.state = restore_checkpoint(run, self.stepper)
        step_tokens = self.config.batch_tokens * self.config.accumulation * processes.world_size
        segmentations = run.path / "segmentations"
        self.course = Course(
            self.corpora.train, run.tokenizers, self.recipe, step_tokens, segmentations
        )
        self.report = Silence()
        if processes.is_main:
            self.report = Report(run.path, self.config, self.state, console)
            size = sum(p.numel() for p in self.model.parameters())
            self.report.note(
                f"model: {size:,} parameters; training on {device.type} in "
                f"{'bf16' if bf16 else 'float32'}; run folder {run.path}"
            )

    def run(self) -> bool:
        """Train until done or interrupted; whether it was done."""
        self.clock = time.monotonic() - self.state.seconds
        try:
            with Interruption() as interruption:
                while not self._done():
                    for batch in self.course.batches(self.state.epoch, self.state.batches_done):
                        if self._step(batch, interruption.asked):
                            return self._leave(interruption.name)
                        if self._done():
                            break
                    else:
                        self.state.epoch, self.state.batches_done = self.state.epoch + 1, 0
                        self._forget_segmentation()
                self._finish()
            return True
        finally:
            self.report.close()

    def _step(self, batch: Batch, stop: bool) -> bool:
        """One batch, and what is due after it; whether training is to be left."""
        state = self.state
        try:
            result = self.stepper(batch, state.step + 1, stop)
        except LossNotFiniteError:
            raise CalqueError(self._not_finite(batch)) from None
        except BatchTooLargeError:
            raise CalqueError(
                f"out of memory in step {state.step + 1}; the batch holds {self._longest(batch)}. "
                "Lower training.batch_tokens or data.max_length"
            ) from None
        if result.halvings:
            self.report.note(
                f"step {state.step + 1}: out of memory; went on with the batch in "
                f"{2**result.halvings} pieces. Its longest pairs: {self._longest(batch)}"
            )
        state.step += 1
        state.batches_done += 1
        state.tokens += result.tokens
        state.seconds = self.processes.share(time.monotonic() - self.clock)
        self.report.stepped(state, result)
        if state.step % self.config.validate_every == 0:
            self._validate()
        if state.step % self.config.save_every == 0:
            self._save()
        return result.stop

    def _forget_segmentation(self) -> None:
        if self.processes.is_main:  # all have it open by now
            self.course.forget()

    def _done(self) -> bool:
        state, config = self.state, self.config
        out_of_time = config.max_minutes and state.seconds >= 60 * config.max_minutes
        out_of_patience = config.patience and state.without_gain >= config.patience
        return state.step >= config.max_steps or bool(out_of_time or out_of_patience)

    def _validate(self) -> None:
        if self.processes.is_main:
            score, validation = self._score()
            weights = self.model.state_dict()
            keep = self.config.keep_best
            leads = save_if_best(self.run_folder, weights, self.state, score, keep)
            self.report.validated(self.state, validation, leads)
        self.state = self.processes.share(self.state)

    def _score(self) -> tuple[float, Validation]:
        tokenizers = self.run_folder.tokenizers
        validation = validate(self.model, self.corpora.valid, tokenizers, self.recipe)
        by = {"bleu": validation.bleu, "loss": -validation.loss}
        return by[self.config.stop_on], validation

    def _save(self) -> None:
        if self.processes.is_main:
            save_checkpoint(self.run_folder, self.stepper, self.state, self.config)

    def _leave(self, signal_name: str) -> bool:
        self._save()
        self.report.note(
            f"{signal_name or 'stopped'}: saved at step {self.state.step:,}; "
            f"go on with: calque train --resume --out {self.run_folder.path}"
        )
        return False

    def _finish(self) -> None:
        """The last validation and checkpoint; then the best weights go to the top."""
        if self.state.step % self.config.validate_every:
            self._validate()
        self._save()
        self._forget_segmentation()
        if not self.processes.is_main:
            return
        weights, what = load_tensors(best_weights(self.run_folder, self.state)), "best"
        if self.config.average > 1:
            mean = self._mean_if_better()
            weights, what = (mean, "averaged") if mean else (weights, what)
        self.run_folder.publish(weights)
        self.report.note(
            f"done: {self.state.step:,} steps in {clock(self.state.seconds)}; {what} weights in "
            f"{self.run_folder.path / 'model.safetensors'}"
        )

    def _mean_if_better(self) -> dict[str, torch.Tensor] | None:
        files = [
            f / "model.safetensors" for f in self.run_folder.checkpoints()[-self.config.average :]
        ]
        mean = average(files)
        self.model.load_state_dict(mean)
        score, validation = self._score()
        better = score > self.state.best[0][0]
        self.report.note(
            f"mean of the last {len(files)} checkpoints: validation loss {validation.loss:.3f}, "
            f"BLEU {validation.bleu:.2f}{': better than the best' if better else ''}"
        )
        return mean if better else None

    def _corpora(self) -> Corpora:
        """The corpora of the run; prepared by the main process, opened by all."""
        run, corpora = self.run_folder, None
        if self.processes.is_main:
            corpora = prepare_corpora(self.recipe, run.tokenizers)
            for split, store in (("train", corpora.train), ("valid", corpora.valid)):
                if store.path.stem != run.preparation[split]["fingerprint"]:
                    raise CalqueError(f"{run.path}: the {split} data have changed since it began")
        self.processes.share(None)
        return corpora or prepare_corpora(self.recipe, run.tokenizers)

    def _longest(self, batch: Batch) -> str:
        lengths = self.corpora.train.lengths[batch.rows].max(axis=1)
        rows = batch.rows[lengths.argsort()[::-1][:3]]
        return ", ".join(self.corpora.train.origin(int(row)) for row in rows)

    def _not_finite(self, batch: Batch) -> str:
        lines = ", ".join(self.corpora.train.origin(int(row)) for row in batch.rows[:20])
        more = f" and {len(batch.rows) - 20} more" if len(batch.rows) > 20 else ""
        step = self.state.step + 1
        rate = SCHEDULES[self.config.schedule](step, self.config, self.recipe.model.d_model)
        return (
            f"the loss is not finite in step {step}, at learning rate {rate:.3g}. The batch: "
            f"{lines}{more}. The last good checkpoint is kept in {self.run_folder.path}"
        )
