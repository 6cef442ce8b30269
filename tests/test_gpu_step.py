"""The bytes of a training step beside those of a CUDA device. Skipped, with the reason, where there is none."""

from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope.analysis.allocator import events, simulate
from archscope.peers.cpu_step import materialise
from archscope.tracing.training import make_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing to compare with"),
]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.LayerNorm(4096), nn.Linear(4096, 1024))


def stats(key: str) -> int:
    return torch.cuda.memory_stats()[key]


def on_gpu(model: nn.Module, x: torch.Tensor, optimizer: str) -> tuple[int, int]:
    """The peak of a third step: bytes that tensors ask for, without what libraries keep, and bytes reserved."""
    torch.cuda.empty_cache()
    materialise(model)
    model.cuda().train()
    x, target = x.cuda(), torch.zeros(x.shape[0], dtype=torch.int64, device="cuda")
    trainer = make_optimizer(optimizer, list(model.parameters()), "foreach")
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        nn.functional.cross_entropy(model(x), target).backward()
        trainer.step()
        trainer.zero_grad()
    torch.cuda.synchronize()
    alive = [*model.parameters(), *model.buffers(), x, target]
    alive += [
        t for state in trainer.state.values() for t in state.values() if isinstance(t, torch.Tensor) and t.is_cuda
    ]
    kept = stats("requested_bytes.all.current") - sum(t.untyped_storage().nbytes() for t in alive)  # cuBLAS' workspace
    assert kept >= 0
    return stats("requested_bytes.all.peak") - kept, stats("reserved_bytes.all.peak") - kept


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_requested_bytes_are_the_record_s(optimizer: str) -> None:
    found = simulate(events(archscope.trace_step(mlp(), (256, 1024), optimizer=optimizer).storages))
    requested, reserved = on_gpu(mlp(), torch.zeros(256, 1024), optimizer)
    assert requested == found.requested
    assert reserved == pytest.approx(found.reserved, rel=0.03)


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:vgg11"])
def test_reserved_bytes_of_convolutions_are_near(spec: str) -> None:
    """cuDNN's workspaces are no tensors: what is asked for is at least the record's."""
    model, inputs = archscope.load(spec, batch=32)
    found = simulate(events(archscope.trace_step(model, inputs, optimizer="momentum").storages))
    given: Any = inputs[0]
    requested, reserved = on_gpu(model, torch.zeros(given.shape), "momentum")
    assert found.requested <= requested
    assert reserved == pytest.approx(found.reserved, rel=0.03)
