"""What training says while it runs: on the terminal, in metrics.jsonl and to TensorBoard."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from torch.utils.tensorboard import SummaryWriter

from calque.recipe import TrainingConfig
from calque.training.state import TrainingState
from calque.training.step import StepResult
from calque.training.validation import Validation

LOG_EVERY = 50  # steps
PRINT_EVERY = 30.0  # seconds, where the terminal cannot redraw


class Silence:
    """For the processes that leave the talking to the main one."""

    def stepped(self, state: TrainingState, result: StepResult) -> None:
        """One step has been done."""

    def validated(self, state: TrainingState, validation: Validation, new_best: bool) -> None:
        """The model has been tried on the validation pairs."""

    def note(self, text: str) -> None:
        """Something the user should read."""

    def close(self) -> None:
        """Nothing more will be said."""


class Report(Silence):
    """Says it all; metrics.jsonl holds only what led to the state that training resumes from."""

    def __init__(
        self, folder: Path, config: TrainingConfig, state: TrainingState, console: Console
    ) -> None:
        self.config, self.console = config, console
        self.metrics = folder / "metrics.jsonl"
        self._forget_after(state.step)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=state.step + 1)
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=1.0)
        self.bar.start()
        self.bleu = ""
        self.last_print = time.monotonic()
        self._restart_window()

    def stepped(self, state: TrainingState, result: StepResult) -> None:
        self.loss_sum += result.cross_entropy
        self.tokens += result.tokens
        done, left = progress(state, self.config)
        speed = self.tokens / max(1e-9, time.monotonic() - self.window_start)
        loss = self.loss_sum / self.tokens
        text = (
            f"step {state.step:,} · loss {loss:.3f} · {speed:,.0f} tokens/s{self.bleu} · "
            f"{clock(left)} left"
        )
        self.bar.update(self.task, description=text, completed=done)
        if not self.console.is_terminal and time.monotonic() - self.last_print > PRINT_EVERY:
            self.note(text)
        if state.step % LOG_EVERY == 0:
            self._log(
                state,
                loss=loss,
                learning_rate=result.learning_rate,
                gradient_norm=result.gradient_norm,
                tokens_per_second=speed,
            )
            self._restart_window()

    def validated(self, state: TrainingState, validation: Validation, new_best: bool) -> None:
        self._log(
            state,
            valid_loss=validation.loss,
            valid_perplexity=validation.perplexity,
            valid_bleu=validation.bleu,
        )
        self.bleu = f" · BLEU {validation.bleu:.1f}"
        self.note(
            f"step {state.step:,} ({clock(state.seconds)}, epoch {state.epoch + 1}): validation "
            f"loss {validation.loss:.3f}, perplexity {validation.perplexity:.2f}, "
            f"BLEU {validation.bleu:.2f}{' · best so far' if new_best else ''}"
        )
        self._restart_window()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self.last_print = time.monotonic()

    def close(self) -> None:
        self.bar.stop()
        self.board.close()

    def _restart_window(self) -> None:
        self.loss_sum, self.tokens, self.window_start = 0.0, 0, time.monotonic()

    def _log(self, state: TrainingState, **values: float) -> None:
        record: dict[str, Any] = {"step": state.step, "epoch": state.epoch}
        record |= {"seconds": round(state.seconds, 3)} | values
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, state.step)

    def _forget_after(self, step: int) -> None:
        if not self.metrics.exists():
            return
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if line.endswith("}")]  # a kill may have cut the last
        kept = [line + "\n" for line in whole if json.loads(line)["step"] <= step]
        self.metrics.write_text("".join(kept), encoding="utf-8")


def progress(state: TrainingState, config: TrainingConfig) -> tuple[float, float]:
    """The share of training that is done, and the seconds that are left, as far as one can tell."""
    done = state.step / config.max_steps
    if config.max_minutes:
        done = max(done, state.seconds / (60 * config.max_minutes))
    return done, state.seconds * (1 - done) / max(done, 1e-9)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, without the hours where there are none."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
