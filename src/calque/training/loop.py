"""Training from a recipe, and its exact continuation."""

import shutil
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from rich.console import Console

from calque.checkpoint import MODEL, RunFolder, average, refuse_occupied
from calque.config import CalqueError, choose
from calque.embeddings.tables import freeze, initial_weights, read_vectors
from calque.fine_tuning import refuse_another_model
from calque.models.build import attention_for
from calque.models.fast_training import use_fast_layers
from calque.models.precision import uses_bf16
from calque.recipe import Recipe, differences, require_trainable
from calque.text.batching import Batch
from calque.training.course import Course
from calque.training.distributed import Processes
from calque.training.helpers import helped
from calque.training.interruption import Interruption
from calque.training.lock import LOCK, locked
from calque.training.memory import forget_old_kernels, keep_freed_memory
from calque.training.optimizer import OPTIMIZERS
from calque.training.preparation import (
    changed_split,
    describe,
    learn_tokenizers,
    prepare_corpora,
    show,
)
from calque.training.progress import Report, Silence, clock, too_long_warm_up, what_trains
from calque.training.schedule import SCHEDULES
from calque.training.state import (
    TrainingState,
    last_checkpoint,
    load_best,
    restore_checkpoint,
    save_checkpoint,
    save_if_best,
    tidy,
)
from calque.training.step import BatchTooLargeError, LossNotFiniteError, Stepper
from calque.training.validation import Validation, validate


def train(
    recipe: Recipe,
    out: Path,
    console: Console | None = None,
    start: RunFolder | None = None,
    *,
    with_helpers: bool = False,
) -> bool:
    """Train a model into the new run folder `out`; whether training came to its end.

    With `start`, from the weights of that run and with its tokenizer: fine-tuning. Ctrl-C or
    SIGTERM saves a checkpoint and returns False. Under `torchrun`, all processes call this
    together; `with_helpers`, it starts some itself where they help, see `helpers.py`. Raises
    CalqueError for what the recipe or its data get wrong, before anything is written to `out`.
    """
    with Processes.meet() as processes:
        console = _console(console, processes)
        processes.from_main(lambda: _begin(recipe, out, console, start))
        return _go_on(RunFolder(out), processes, console, with_helpers)


def resume(
    out: Path,
    recipe: Recipe | None = None,
    console: Console | None = None,
    *,
    with_helpers: bool = False,
) -> bool:
    """Go on with the training in `out`, to bitwise the end it would have had without the break.

    `with_helpers`, by as many processes as before, where there are so many cores.

    Raises CalqueError when `recipe` is not the one it began with, when its data have changed, or
    when a file of the folder is not as it was written.
    """
    with Processes.meet() as processes:
        console = _console(console, processes)
        processes.from_main(lambda: _refuse_changed(out, recipe))
        run = RunFolder(out)
        if run.finished:
            run.forget_initial()  # a kill may have come before either
            (out / LOCK).unlink(missing_ok=True)
            console.print(f"{out}: has been trained to its end", highlight=False, markup=False)
            return True
        return _go_on(run, processes, console, with_helpers)


def _go_on(run: RunFolder, alone: Processes, console: Console, with_helpers: bool) -> bool:
    with ExitStack() as stack:
        alone.from_main(lambda: stack.enter_context(locked(run)))  # for all of them
        processes = stack.enter_context(helped(alone, run)) if with_helpers else alone
        return Training(run, processes, console).run()


def _console(console: Console | None, processes: Processes) -> Console:
    return (console or Console()) if processes.is_main else Console(quiet=True)


def _begin(recipe: Recipe, out: Path, console: Console, start: RunFolder | None) -> None:
    """Make the run folder, with the tokenizer learnt or taken over and the corpora tokenised."""
    choose("training.optimizer", recipe.training.optimizer, OPTIMIZERS)
    choose("training.schedule", recipe.training.schedule, SCHEDULES)
    require_trainable(recipe, "recipe")
    refuse_occupied(out)
    initial, origin = None, {}
    if start:
        refuse_another_model(recipe, start.recipe, str(start.path))
        initial, origin = start.load_model().state_dict(), {"start": str(start.path)}
    vectors = read_vectors(recipe)
    tokenizers = start.tokenizers if start else learn_tokenizers(recipe, console)
    if vectors:
        initial = initial_weights(recipe, tokenizers, vectors)
        origin = {"embeddings": {v.side: file for file, v in vectors.items()}}
        for file in vectors:
            kept = ", to be kept as they are" if recipe.training.freeze_embeddings else ""
            console.print(f"embeddings: from {file}{kept}", highlight=False, markup=False)
    corpora = prepare_corpora(recipe, tokenizers, console)
    description = describe(corpora, recipe, tokenizers) | origin
    show(description, recipe, console)
    RunFolder.create(out, recipe, tokenizers, description, initial=initial)


def _refuse_changed(out: Path, recipe: Recipe | None) -> None:
    run = RunFolder(out)
    changed = differences(run.recipe, recipe) if recipe else []
    if changed:
        raise CalqueError(
            f"{out}: the recipe has changed since this run began, in {', '.join(changed)}; "
            "resume with the recipe as it was, or train into another folder"
        )
    if split := changed_split(run.recipe, run.tokenizers, run.preparation):
        raise CalqueError(f"{out}: the {split} data have changed since this run began")


class Training:
    """One training, from where its run folder stands."""

    def __init__(self, run: RunFolder, processes: Processes, console: Console) -> None:
        self.run_folder, self.recipe, self.config = run, run.recipe, run.recipe.training
        self.processes = processes
        self.corpora = prepare_corpora(self.recipe, run.tokenizers, Console(quiet=True))
        device = processes.device
        forget_old_kernels()
        keep_freed_memory()
        torch.manual_seed(self.config.seed)
        self.model = run.new_model(attention_for(device)).to(device)
        if self.config.freeze_embeddings:
            freeze(self.model, run.preparation["embeddings"])
        if device.type == "cpu":
            use_fast_layers(self.model)
        bf16 = uses_bf16(self.config.precision, device)
        self.stepper = Stepper(self.model, self.config, processes, autocast=bf16)
        self.state = restore_checkpoint(run, self.stepper)
        step_tokens = self.config.batch_tokens * self.config.accumulation * processes.budgets
        place = run.path / "segmentations"
        self.course = Course(self.corpora.train, run.tokenizers, self.recipe, step_tokens, place)
        self.report = Silence()
        if processes.is_main:
            notes = [f"{what_trains(self.model, processes, bf16)}, into {run.path}"]
            notes += [*tidy(run, self.state), *too_long_warm_up(self.config)]
            if self.state.world_size != processes.world_size:
                before = f"{self.state.world_size} before the break, which rounded otherwise"
                notes.append(f"processes: {processes.world_size}; {before}")
            self.report = Report(run.path, self.config, self.state, console)
            for text in notes:
                self.report.note(text)
        self.state.world_size = processes.world_size

    def run(self) -> bool:
        """Train until done or interrupted; whether it was done."""
        self.start = time.monotonic() - self.state.seconds
        try:
            with Interruption(quiet=not self.processes.is_main) as interruption:
                if "start" in self.run_folder.preparation and self.state.step == 0:
                    self._validate()  # what there was before, to measure the rest by
                while not self._done():
                    for batch in self.course.batches(self.state.epoch, self.state.batches_done):
                        if self._step(batch, interruption.asked):
                            self._leave(interruption.name)
                            return False
                        if self._done():
                            break
                    else:
                        if self.processes.is_main:  # all have left this epoch by now
                            self.course.forget(self.state.epoch)
                        self.state.epoch, self.state.batches_done = self.state.epoch + 1, 0
                if self.processes.is_main:
                    self._publish()
            return True
        finally:
            self.report.close()

    def _step(self, batch: Batch, stop: bool) -> bool:
        """One batch, and what is due after it; whether training is to be left."""
        number = self.state.step + 1
        try:
            result = self.stepper(batch, number, stop)
        except LossNotFiniteError:
            self.processes.fail(self._not_finite(batch))
        except BatchTooLargeError as error:
            raise CalqueError(
                f"out of memory in step {number}, on {self.course.longest(error.rows)}. "
                "Lower training.batch_tokens or data.max_length"
            ) from None
        if result.too_large is not None:
            self.report.note(
                f"step {number}: out of memory; went on with the batch in pieces. Its longest "
                f"pairs: {self.course.longest(result.too_large)}"
            )
        self.state.count(result)
        self.state.seconds = self.processes.number_of_main(time.monotonic() - self.start)
        self.report.stepped(self.state, result)
        if self.state.step % self.config.validate_every == 0 or self._done():
            self._validate()
        if self.state.step % self.config.save_every == 0 or self._done() or result.stop:
            self.processes.from_main(self._save)
        return result.stop

    def _done(self) -> bool:
        state, config = self.state, self.config
        out_of_time = config.max_minutes and state.seconds >= 60 * config.max_minutes
        out_of_patience = config.patience and state.without_gain >= config.patience
        return state.step >= config.max_steps or bool(out_of_time or out_of_patience)

    def _validate(self) -> None:
        self.state = self.processes.from_main(self._validated)

    def _validated(self) -> TrainingState:
        """The state after a validation, with the weights kept if they are among the best."""
        self.report.validating(self.state)
        score, validation = self._score()
        weights, keep = self.model.state_dict(), self.config.keep_best
        leads = save_if_best(self.run_folder, weights, self.state, score, keep)
        self.state.seconds = time.monotonic() - self.start
        self.report.validated(self.state, validation, leads)
        return self.state

    def _score(self) -> tuple[float, Validation]:
        tokenizers = self.run_folder.tokenizers
        validation = validate(self.model, self.corpora.valid, tokenizers, self.recipe)
        by = {"bleu": validation.bleu, "loss": -validation.loss}
        return by[self.config.stop_on], validation

    def _save(self) -> None:
        save_checkpoint(self.run_folder, self.stepper, self.state, self.config)

    def _leave(self, signal_name: str) -> None:
        with suppress(OSError, SystemExit):  # Ctrl-C may have ended who reads along, too
            self.report.note(
                f"{signal_name or 'stopped'}: saved at step {self.state.step:,}; "
                f"go on with: calque train --resume --out {self.run_folder.path}"
            )

    def _publish(self) -> None:
        """Put the best weights, or the mean of the last if it is better, to the top."""
        shutil.rmtree(self.course.segmentations, ignore_errors=True)
        if not self.state.best:  # it was lost, and no step has followed
            self._validated()
        weights, what = load_best(self.run_folder, self.state), "best weights"
        if self.state.best[0][1] == 0:
            what = "no step was better than the start, whose weights are"
        last = self.run_folder.checkpoints()[-self.config.average :]
        if len(last) > 1 and (mean := self._mean_if_better(last)):
            weights, what = mean, "averaged weights"
        self.run_folder.publish(weights)
        self.report.note(
            f"done: {self.state.step:,} steps in {clock(self.state.seconds)}; {what} in "
            f"{self.run_folder.path / MODEL}"
        )

    def _mean_if_better(self, checkpoints: list[Path]) -> dict[str, torch.Tensor] | None:
        mean = average([checkpoint / MODEL for checkpoint in checkpoints])
        self.model.load_state_dict(mean)
        score, validation = self._score()
        better = score > self.state.best[0][0]
        self.report.note(
            f"mean of the last {len(checkpoints)} checkpoints · validation loss "
            f"{validation.loss:.3f} · BLEU {validation.bleu:.2f}{' · best' if better else ''}"
        )
        return mean if better else None

    def _not_finite(self, batch: Batch) -> str:
        lines = ", ".join(self.corpora.train.origin(int(row)) for row in batch.rows[:20])
        more = f" and {len(batch.rows) - 20} more" if len(batch.rows) > 20 else ""
        step = self.state.step + 1
        rate = SCHEDULES[self.config.schedule](step, self.config, self.recipe.model.d_model)
        return (
            f"the loss is not finite in step {step}, at learning rate {rate:.3g}; "
            f"{last_checkpoint(self.run_folder)}. The batch: {lines}{more}"
        )
