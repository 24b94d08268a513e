"""One process or several: the thin part of torch.distributed that training needs."""

import mmap
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from calque.config import CalqueError

PATIENCE = timedelta(hours=12)  # the others wait while one prepares the corpus or validates
MEETING = timedelta(minutes=5)  # of processes that have all started: who is not there has died

Result = TypeVar("Result")


class LostError(RuntimeError):
    """Another process has gone."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, or alone."""

    rank: int
    world_size: int
    device: torch.device
    memory: int | None = None
    """File descriptor of memory that all of them share, if they are on one machine."""

    @classmethod
    @contextmanager
    def meet(cls) -> Iterator["Processes"]:
        """Meet the processes that `torchrun` started, if any, for the block."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        rank, world_size = (int(os.environ.get(*of)) for of in (("RANK", "0"), ("WORLD_SIZE", "1")))
        with cls(rank, world_size, device).joined() as processes:
            yield processes

    @contextmanager
    def joined(self, store: Store | None = None) -> Iterator["Processes"]:
        """Meet the others, if any, for the block: by `store`, or as the environment says.

        Raises LostError when one of those that meet by `store` does not come.
        """
        if self.world_size > 1 and not dist.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            rank, world_size = (self.rank, self.world_size) if store else (-1, -1)  # as it says
            patience = MEETING if store else PATIENCE
            with _losses_noticed():
                dist.init_process_group(
                    backend, store=store, timeout=patience, rank=rank, world_size=world_size
                )
            if store:
                _set_pg_timeout(PATIENCE)
        try:
            yield self
        except BaseException as error:
            _let_go(error)
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """The one that writes and prints."""
        return self.rank == 0

    @property
    def budgets(self) -> int:
        """How many times `training.batch_tokens` a step holds: once for each GPU.

        On a CPU all processes share one, so that the batches are those of one process.
        """
        return self.world_size if self.device.type == "cuda" else 1

    @property
    def divisor(self) -> int:
        """What the sum of the processes' gradients comes divided by."""
        return self.world_size if self.device.type == "cuda" else 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module; on GPUs, with the mean of its gradients over the processes as they come.

        On a CPU their sum is taken afterwards, see `GradientSum`.
        """
        several = self.world_size > 1 and self.device.type == "cuda"
        return DistributedDataParallel(module) if several else module

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world_size > 1:
            values = values.to(self.device)
            with _losses_noticed():
                dist.all_reduce(values)
        return values.cpu()

    def wait(self) -> None:
        """Return when all processes have called this."""
        with _losses_noticed():
            dist.barrier()

    def number_of_main(self, number: float) -> float:
        """The main process's number, everywhere."""
        return float(self.total(torch.tensor(number * self.is_main, dtype=torch.float64)))

    def from_main(self, make: Callable[[], Result]) -> Result:
        """What `make` returns in the main process, everywhere; the others wait for it.

        A CalqueError that it raises ends all of them; see `fail`.
        """
        if self.world_size == 1:
            return make()
        box: list[object] = [None, None]
        if self.is_main:
            try:
                box[0] = make()
            except CalqueError as error:
                box[1] = str(error)
        with _losses_noticed():
            dist.broadcast_object_list(box)
        if box[1] is not None:
            self.fail(str(box[1]))
        return box[0]  # pyright: ignore[reportReturnType]

    def fail(self, message: str) -> NoReturn:
        """End with what has gone wrong in all processes alike: the main one says it."""
        raise CalqueError(message) if self.is_main else SystemExit(2)


class GradientSum:
    """Adds up the gradients of all processes, and clips the sum.

    On a CPU in one piece, in the order of the parameters: sums are rounded the same in each step,
    which DistributedDataParallel's buckets, remade after a first step, do not hold to with three
    processes. Always in the same memory: to get new costs as much as the exchange. On GPUs
    `Processes.wrap` sees to the sum.
    """

    def __init__(self, module: nn.Module, processes: Processes) -> None:
        self.module, self.processes = module, processes
        self.flat, self.shared = torch.empty(0), torch.empty(0)

    def __call__(self, limit: float) -> float:
        """Leave every process the sum, no longer than `limit`; returns its norm before that."""
        if self.processes.memory is not None:
            return self._in_memory(self.processes.memory, limit)
        if self.processes.world_size > 1 and self.processes.device.type == "cpu":
            self._over_a_network()
        return float(clip_grad_norm_(self.module.parameters(), limit))

    def _over_a_network(self) -> None:
        torch.cat(self._gradients(), out=self.flat)
        with _losses_noticed():
            dist.all_reduce(self.flat)
        self._take(self.flat)

    def _in_memory(self, memory: int, limit: float) -> float:
        """From the memory of all, each process adds up and clips its part of the sum, for all."""
        rank, number = self.processes.rank, self.processes.world_size
        gradients = self._gradients()
        size = sum(gradient.numel() for gradient in gradients)
        if not len(self.shared):
            self.shared = _mapped(memory, (number + 1) * size).view(number + 1, size)
        each, whole = self.shared[:number], self.shared[number]
        torch.cat(gradients, out=each[rank])
        self.processes.wait()
        part = slice(size * rank // number, size * (rank + 1) // number)
        torch.sum(each[:, part], dim=0, out=whole[part])
        norm = float(self.processes.total(whole[part].norm().double().square()).sqrt())
        if norm > limit:
            whole[part] *= limit / norm
        self.processes.wait()
        self._take(whole)
        return norm

    def _gradients(self) -> list[Tensor]:
        return [p.grad.flatten() for p in self.module.parameters() if p.grad is not None]

    def _take(self, flat: Tensor) -> None:
        """Let the parameters have what was added up, where it lies."""
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        parts = flat.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def _mapped(memory: int, size: int) -> Float[Tensor, " size"]:
    """So many numbers in the memory behind a file descriptor, which grows to hold them."""
    os.ftruncate(memory, 4 * size)
    return torch.frombuffer(mmap.mmap(memory, 4 * size), dtype=torch.float32)


@contextmanager
def _losses_noticed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostError(str(error)) from error


def _let_go(error: BaseException | None) -> None:
    """Forget the wrapped module that the frames of an error still hold.

    If it outlived the process group it would end that itself, holding Python's lock, and so wait
    for ever for a thread of gloo that waits for the same lock.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
