"""Learning-rate schedules: functions of the step (from 1), without a state of their own."""

import math
from collections.abc import Callable

from calque.recipe import TrainingConfig

Schedule = Callable[[int, TrainingConfig, int], float]
"""From step, configuration and d_model to the learning rate."""


def paper(step: int, config: TrainingConfig, d_model: int) -> float:
    """d_model^-½ · min(step^-½, step · warmup^-1½): arXiv:1706.03762, eq. 3."""
    rate = d_model**-0.5 * min(step**-0.5, step * config.warmup_steps**-1.5)
    return config.learning_rate * rate


def inverse_sqrt(step: int, config: TrainingConfig, _: int) -> float:
    """Up in a line to the peak, then down with the square root of the step."""
    return config.learning_rate * min(
        step / config.warmup_steps, math.sqrt(config.warmup_steps / step)
    )


def cosine(step: int, config: TrainingConfig, _: int) -> float:
    """Up in a line to the peak, then down half a cosine to 0 at max_steps: arXiv:1608.03983."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * (1 + math.cos(math.pi * min(1.0, done))) / 2


SCHEDULES: dict[str, Schedule] = {"paper": paper, "inverse_sqrt": inverse_sqrt, "cosine": cosine}
