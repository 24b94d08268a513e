"""What training says while it runs: on the terminal, in metrics.jsonl and to TensorBoard."""

import json
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from calque.checkpoint import METRICS
from calque.kernels.library import library
from calque.recipe import TrainingConfig
from calque.training.distributed import Processes
from calque.training.state import LOG_EVERY, TrainingState
from calque.training.step import StepResult
from calque.training.validation import Validation
from calque.writing import whole_file, writing

PRINT_EVERY = 30.0  # seconds, where the terminal cannot redraw


def what_trains(model: nn.Module, processes: Processes, bf16: bool) -> str:
    """The line on a model, and on what computes."""
    device, number = processes.device.type, processes.world_size
    size = sum(p.numel() for p in model.parameters())
    several = f", {number} processes" if number > 1 else ""
    slower = ", slower for want of a C compiler" if device == "cpu" and not library() else ""
    precision = "bf16" if bf16 else "float32"
    return f"model: {size:,} parameters, on {device} in {precision}{several}{slower}"


def too_long_warm_up(config: TrainingConfig) -> list[str]:
    """What is to be said if training ends before the learning rate has risen."""
    if config.warmup_steps < config.max_steps:
        return []
    steps = f"{config.warmup_steps:,} of at most {config.max_steps:,} steps"
    return [f"warm-up: {steps}; the learning rate will not reach its peak"]


class Silence:
    """For the processes that leave the talking to the main one."""

    def stepped(self, state: TrainingState, result: StepResult) -> None:
        """One step has been done."""

    def validating(self, state: TrainingState) -> None:
        """The model will now be tried on the validation pairs."""

    def validated(self, state: TrainingState, validation: Validation, new_best: bool) -> None:
        """The model has been tried on the validation pairs."""

    def note(self, text: str) -> None:
        """Something the user should read."""

    def close(self) -> None:
        """Nothing more will be said."""


class Report(Silence):
    """Says it all; metrics.jsonl holds only what led to the state that training resumes from.

    Each of its lines, and each scalar of TensorBoard, belongs to a step. Every LOG_EVERY steps:
    loss (mean cross-entropy of their target tokens, in nats), learning_rate, gradient_norm (before
    clipping) and tokens_per_second; after each validation valid_loss, valid_perplexity, valid_bleu.
    Step 0 is the model that training starts from.
    """

    def __init__(
        self, folder: Path, config: TrainingConfig, state: TrainingState, console: Console
    ) -> None:
        self.config, self.console = config, console
        self.metrics = folder / METRICS
        # Where nothing has been saved, not even step 0 has been recorded for good.
        first = state.step + 1 if state.step else 0
        self._forget_from(first)
        with writing(folder):
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f} %{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(_at(state), total=1.0, left="")
        self.bar.start()
        self.bleu = ""
        self.last_print = time.monotonic()
        self._restart_clock()

    def stepped(self, state: TrainingState, result: StepResult) -> None:
        self.tokens += result.tokens
        share, left = progress(state, self.config)
        speed = self.tokens / max(1e-9, time.monotonic() - self.start)
        loss = state.recent_loss / state.recent_tokens
        facts = f"{_at(state)} · loss {loss:.3f} · {speed:,.0f} tokens/s{self.bleu}"
        rest = f" · {clock(left)} left"
        self.bar.update(self.task, description=facts, completed=share, left=rest)
        if not self.console.is_terminal and time.monotonic() - self.last_print > PRINT_EVERY:
            self.note(f"{facts} · {100 * share:.0f} %{rest}")
        if state.step % LOG_EVERY == 0:
            self._log(
                state,
                loss=loss,
                learning_rate=result.learning_rate,
                gradient_norm=result.gradient_norm,
                tokens_per_second=speed,
            )
            self._restart_clock()

    def validating(self, state: TrainingState) -> None:
        self.bar.update(self.task, description=f"{_at(state)} · validating")

    def validated(self, state: TrainingState, validation: Validation, new_best: bool) -> None:
        self._log(
            state,
            valid_loss=validation.loss,
            valid_perplexity=validation.perplexity,
            valid_bleu=validation.bleu,
        )
        self.bleu = f" · BLEU {validation.bleu:.1f}"
        when = f"{clock(state.seconds)}, epoch {state.epoch + 1}" if state.step else "the start"
        self.note(
            f"{_at(state)} ({when}) · validation loss {validation.loss:.3f} · "
            f"BLEU {validation.bleu:.2f}{' · best' if new_best else ''}"
        )
        self._restart_clock()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self.last_print = time.monotonic()

    def close(self) -> None:
        self.bar.stop()
        with writing(self.metrics.parent):
            self.board.close()

    def _restart_clock(self) -> None:
        """Measure speed anew, so that the time of a validation does not count."""
        self.tokens, self.start = 0, time.monotonic()

    def _log(self, state: TrainingState, **values: float) -> None:
        record: dict[str, Any] = {"step": state.step, "epoch": state.epoch}
        record |= {"seconds": round(state.seconds, 3)} | values
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, state.step)

    def _forget_from(self, step: int) -> None:
        if not self.metrics.exists():
            return
        lines = self.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        kept = [line + "\n" for line in lines if _step_of(line) < step]
        with whole_file(self.metrics) as part:
            part.write_text("".join(kept), encoding="utf-8")


def _step_of(record: str) -> float:
    """The step of a line of metrics.jsonl; infinity where a kill, or a person, has cut the line."""
    try:
        return float(json.loads(record)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def progress(state: TrainingState, config: TrainingConfig) -> tuple[float, float]:
    """The share of training that is done, and the seconds that are left, as far as one can tell."""
    share = state.step / config.max_steps
    left = state.seconds * (1 - share) / share if share else 0.0
    if config.max_minutes:
        limit = 60 * config.max_minutes
        share = min(1.0, max(share, state.seconds / limit))
        left = max(0.0, min(left, limit - state.seconds))
    return share, left


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, without the hours where there are none."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _at(state: TrainingState) -> str:
    return f"step {state.step:,}"
