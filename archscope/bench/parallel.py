"""One process or several: what torchrun says in the environment, and the sums that processes make together."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


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
        """This process's part of a batch: every world-th example."""
        return indices[self.rank :: self.world]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def most(self, values: list[float], device: torch.device) -> list[float]:
        """Each value at its largest over all processes: the slowest decides."""
        if self.world == 1 or not values:
            return values
        made = torch.tensor(values, dtype=torch.float32, device=device)
        dist.all_reduce(made, dist.ReduceOp.MAX)
        return made.tolist()

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it holds in one of the processes."""
        return bool(self.most([float(here)], device)[0])

    def align(self, model: Any) -> None:
        """Give every process the buffers of the first: each has its own statistics of what it saw last."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: Any, device: torch.device) -> Any:
        """The model with its gradients averaged over all processes at each backward."""
        if self.world == 1:
            return model
        return torch.nn.parallel.DistributedDataParallel(model, [device.index] if device.type != "cpu" else None)


ALONE = Group()


def asked() -> bool:
    """Whether torchrun started this process as one of several (or as one of one)."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def joined() -> Group:
    """The group that torchrun asked for, connected (nccl on CUDA, gloo on the CPU); alone without torchrun."""
    if not asked():
        return ALONE
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0)))
    if group.world > 1 and not dist.is_initialized():
        dist.init_process_group()  # a backend for each kind of device: gloo for the CPU, nccl for CUDA
    return group


def leave() -> None:
    """Disconnect."""
    if dist.is_initialized():
        dist.destroy_process_group()
