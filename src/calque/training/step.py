"""One step of training: a batch forwards and backwards, and the weights moved."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from calque.losses.cross_entropy import Loss
from calque.losses.projected import projected_loss
from calque.models.build import Model
from calque.models.packed_training import PackedTransformer
from calque.recipe import TrainingConfig
from calque.text.batching import Batch
from calque.training.distributed import GradientSum, Processes
from calque.training.memory import is_out_of_memory
from calque.training.optimizer import OPTIMIZERS, set_learning_rate
from calque.training.schedule import SCHEDULES


class BatchTooLargeError(Exception):
    """Memory did not suffice."""

    def __init__(self, rows: Int[np.ndarray, " pairs"]) -> None:
        super().__init__()
        self.rows = rows
        """Pairs that were too many, or too long, to be learnt from side by side."""


class LossNotFiniteError(Exception):
    """The loss is infinite or not a number."""


@dataclass(frozen=True)
class StepResult:
    """What one step did; sums over all processes."""

    total: float
    """Loss as trained on, in nats, summed over the tokens."""
    cross_entropy: float
    """Without smoothing and other terms, in nats, summed over the tokens."""
    tokens: int
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    too_large: Int[np.ndarray, " pairs"] | None
    """Pairs that did not fit into memory side by side; the batch was then learnt in pieces."""
    stop: bool
    """Some process was asked to stop."""


class TeacherForcing(nn.Module):
    """The loss of a batch when every target word follows the right ones; see `projected_loss`."""

    def __init__(self, model: Model, config: TrainingConfig, autocast: bool) -> None:
        super().__init__()
        self.model = model
        self.smoothing, self.r_drop = config.label_smoothing, config.r_drop
        self.autocast = autocast
        self.packed = PackedTransformer(model) if PackedTransformer.can_take(model) else None

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        tree: Int[Tensor, "batch source"] | None = None,
    ) -> Loss:
        twice = self.training and self.r_drop > 0
        if twice:  # the same pairs again, to meet another dropout
            source, target = torch.cat([source, source]), torch.cat([target, target])
            tree = None if tree is None else torch.cat([tree, tree])
        with torch.autocast(source.device.type, torch.bfloat16, enabled=self.autocast):
            labels = target[:, 1:]
            real = labels != self.model.config.pad_id
            features = (self.packed or self).features(source, target, tree)
            weights = self.model.output_weights
            r_drop = self.r_drop if twice else 0.0
            loss = projected_loss(features, *weights, labels[real], self.smoothing, r_drop)
        passes = 2 if twice else 1
        return Loss(loss.total / passes, loss.cross_entropy / passes)

    def features(self, source: Tensor, target: Tensor, tree: Tensor | None) -> Tensor:
        """What every token of the target but BOS is predicted from, sentence after sentence."""
        memory: Any = self.model.encode(source, tree)  # each family has its own
        past: Any = self.model.start(memory)
        features = self.model.features(target[:, :-1], memory, past)
        return features[target[:, 1:] != self.model.config.pad_id]


class Stepper:
    """Moves the weights of a model, batch by batch."""

    def __init__(
        self, model: Model, config: TrainingConfig, processes: Processes, autocast: bool
    ) -> None:
        self.model, self.config, self.processes = model, config, processes
        self.optimizer = OPTIMIZERS[config.optimizer](model, config)
        self.loss = processes.wrap(TeacherForcing(model, config, autocast))
        self.add_up = GradientSum(model, processes)

    def __call__(self, batch: Batch, step: int, stop: bool) -> StepResult:
        """Step number `step` (from 1), on this process's share of `batch`.

        Dropout is drawn from (seed, step, process) alone, so a resumed run draws the same.
        Raises LossNotFiniteError, and BatchTooLargeError when cutting the batch into smaller
        pieces does not help; the weights are then as before.
        """
        shares = batch.split(self.config.accumulation * self.processes.world_size)
        mine = shares[self.processes.rank :: self.processes.world_size]
        # Fewer pairs than processes: the idle one goes along with another's, at no weight.
        weight = (self.processes.divisor / batch.num_tokens) if mine else 0.0
        self.model.train()
        sums, too_large = self._accumulate(mine or shares[:1], weight, step)
        norm = self.add_up(self.config.clip_norm or math.inf)
        total, cross_entropy, stops = self.processes.total(
            torch.tensor([*sums, float(stop)], dtype=torch.float64)
        ).tolist()
        if not (math.isfinite(total) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            raise LossNotFiniteError
        rate = SCHEDULES[self.config.schedule](step, self.config, self.model.config.d_model)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        tokens = batch.num_tokens
        return StepResult(total, cross_entropy, tokens, rate, norm, too_large, stops > 0)

    def _accumulate(
        self, shares: list[Batch], weight: float, step: int
    ) -> tuple[tuple[float, float], Int[np.ndarray, " pairs"] | None]:
        """Gradients of all shares; in smaller and smaller pieces while memory does not suffice."""
        parts, too_large = 1, None
        while True:
            try:
                self._seed(step)
                pieces = [piece for share in shares for piece in share.split(parts)]
                return self._backward(pieces, weight), too_large
            except BatchTooLargeError as error:
                self.optimizer.zero_grad()
                # The others would wait for gradients that are already on their way.
                on_their_way = isinstance(self.loss, DistributedDataParallel)
                if len(error.rows) == 1 or on_their_way:
                    raise
                parts, too_large = 2 * parts, error.rows

    def _backward(self, pieces: list[Batch], weight: float) -> tuple[float, float]:
        total = cross_entropy = 0.0
        for number, piece in enumerate(pieces, start=1):
            with self._meeting_others(number == len(pieces)):
                loss = self._loss(piece, weight)
            if weight:
                total += loss.total.item()
                cross_entropy += loss.cross_entropy.item()
        return total, cross_entropy

    def _loss(self, piece: Batch, weight: float) -> Loss:
        """The loss of a piece, its gradient added; BatchTooLargeError names the piece's pairs."""
        device = self.processes.device
        try:
            tree = None if piece.tree is None else piece.tree.to(device)
            loss = self.loss(piece.source.to(device), piece.target.to(device), tree)
            # What comes of all processes is to be the mean over the tokens of the batch.
            (loss.total * weight).backward()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise BatchTooLargeError(piece.rows) from None
            raise
        return Loss(loss.total.detach(), loss.cross_entropy)

    def _meeting_others(self, now: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step: with the last piece."""
        if now or not isinstance(self.loss, DistributedDataParallel):
            return nullcontext()
        return self.loss.no_sync()

    def _seed(self, step: int) -> None:
        place = (self.config.seed, step, self.processes.rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
