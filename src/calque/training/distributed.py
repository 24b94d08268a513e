"""One process or several: the thin part of torch.distributed that training needs."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from calque.config import CalqueError

PATIENCE = timedelta(hours=12)  # the others wait while one prepares the corpus or validates

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """This process among those that `torchrun` started, or alone."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    @contextmanager
    def meet(cls) -> Iterator["Processes"]:
        """Meet the other processes, if the environment says that there are any, for the block."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        try:
            yield cls(int(os.environ.get("RANK", "0")), world_size, device)
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

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with its gradients averaged over the processes."""
        return DistributedDataParallel(module) if self.world_size > 1 else module

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world_size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

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
        dist.broadcast_object_list(box)
        if box[1] is not None:
            self.fail(str(box[1]))
        return box[0]  # pyright: ignore[reportReturnType]

    def fail(self, message: str) -> NoReturn:
        """End with what has gone wrong in all processes alike: the main one says it."""
        raise CalqueError(message) if self.is_main else SystemExit(2)


def _let_go(error: BaseException | None) -> None:
    """Forget the wrapped module that the frames of an error still hold.

    If it outlived the process group it would end that itself, holding Python's lock, and so wait
    for ever for a thread of gloo that waits for the same lock.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
