"""One process, or several that torchrun started, and sums over all of them."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from archscope.bench.job import under_torchrun


@dataclass(frozen=True)
class Group:
    """rank: this process among world. local: among those of this machine, which is its accelerator."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """The part of a batch for this process: every world-th example."""
        return indices[self.rank :: self.world]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def maximum(self, values: list[float], device: torch.device) -> list[float]:
        """The maximum of each value over all processes."""
        if self.world == 1 or not values:
            return values
        made = torch.tensor(values, dtype=torch.float32, device=device)
        dist.all_reduce(made, dist.ReduceOp.MAX)
        return made.tolist()

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is true in any process."""
        return bool(self.maximum([float(here)], device)[0])

    def align(self, model: Any) -> None:
        """Copy the buffers of the first process to all: the running statistics differ."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: Any, device: torch.device) -> Any:
        """The model, with gradients averaged over all processes."""
        if self.world == 1:
            return model
        return torch.nn.parallel.DistributedDataParallel(model, [device.index] if device.type != "cpu" else None)


ALONE = Group()


def joined() -> Group:
    """The group of torchrun, connected (nccl on CUDA, gloo on the CPU); ALONE without torchrun."""
    if not under_torchrun():
        return ALONE
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0)))
    if group.world > 1 and not dist.is_initialized():
        dist.init_process_group()  # a backend for each kind of device: gloo for the CPU, nccl for CUDA
    return group


def leave() -> None:
    """Disconnect."""
    if dist.is_initialized():
        dist.destroy_process_group()
