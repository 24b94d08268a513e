"""One process or several: the thin part of torch.distributed that training needs."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(hours=12)  # the others wait while one prepares the corpus or validates


@dataclass(frozen=True)
class Processes:
    """This process among those that `torchrun` started, or alone."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def join(cls) -> "Processes":
        """Meet the other processes, if the environment says that there are any."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        return cls(int(os.environ.get("RANK", "0")), world_size, device)

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

    def share(self, value: Any) -> Any:
        """The main process's value, everywhere; so it is also where the others wait for it."""
        if self.world_size > 1:
            box = [value]
            dist.broadcast_object_list(box)
            return box[0]
        return value

    def leave(self) -> None:
        """Say goodbye to the others."""
        if dist.is_initialized():
            dist.destroy_process_group()
