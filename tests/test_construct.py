"""Building without weights: nothing is initialised, nothing else changes."""

import threading

import pytest
import torch
from torch import nn

from archscope.tracing.weightless import LARGE, weightless


def test_parameters_are_on_meta_and_shaped_as_ever() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LSTM(4, 5), nn.MultiheadAttention(8, 2))

    real = build()
    with weightless():
        model = build()
    assert [(n, p.shape, p.dtype, p.requires_grad) for n, p in model.named_parameters()] == [
        (n, p.shape, p.dtype, p.requires_grad) for n, p in real.named_parameters()
    ]
    assert [n for n, _ in model.named_buffers()] == [n for n, _ in real.named_buffers()]
    assert {p.device.type for p in model.parameters()} == {"meta"}
    for name, module in model.named_modules():
        assert vars(module).keys() == vars(real.get_submodule(name)).keys()
    assert all(torch.equal(b, real.get_buffer(name)) for name, b in model.named_buffers())  # statistics are as reset


def test_everything_is_put_back() -> None:
    before = {**vars(nn.init)}, torch.empty, torch.zeros, nn.Module.__setattr__, torch.get_rng_state()
    reset = nn.Linear.reset_parameters
    with pytest.raises(RuntimeError, match="planted"), weightless():
        nn.Linear(3, 3)
        raise RuntimeError("planted")
    assert vars(nn.init) == before[0] and (torch.empty, torch.zeros, nn.Module.__setattr__) == before[1:4]
    assert torch.equal(torch.get_rng_state(), before[4])
    assert nn.Linear.reset_parameters is reset and bool(nn.Linear(2, 2).weight.abs().sum() > 0)


def test_small_tensors_keep_their_values_and_large_ones_take_no_memory() -> None:
    with weightless():
        assert torch.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
        assert torch.ones(3).sum().item() == 3.0
        assert torch.zeros(LARGE).is_meta and torch.zeros((LARGE, 2)).is_meta and torch.randn(size=(LARGE,)).is_meta
        assert torch.zeros(3, device="cpu").device.type == "cpu"
        largest = float(nn.Linear(9, 9, device="cpu").weight.detach().abs().max())
        assert 0 < largest <= 1 / 3  # asked for on the CPU: initialised, uniform within 1/√9
        assert nn.init.ones_(torch.zeros(2)).tolist() == [1.0, 1.0]


def test_other_threads_build_as_ever() -> None:
    built: list[nn.Linear] = []
    with weightless():
        other = threading.Thread(target=lambda: built.append(nn.Linear(2, 2)))
        other.start()
        other.join()
    assert built[0].weight.device.type == "cpu" and bool(built[0].weight.abs().sum() > 0)


def test_attributes_are_set_as_ever() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(2))
            self.size = 3
            self.size = 4

        @property
        def doubled(self) -> int:
            return 2 * self.size

        @doubled.setter
        def doubled(self, value: int) -> None:
            self.size = value // 2

    with weightless():
        odd = Odd()
        odd.doubled = 20
        with pytest.raises(TypeError, match="cannot assign"):
            odd.weight = 3  # type: ignore[assignment]
    assert odd.size == 10 and "doubled" not in vars(odd)
