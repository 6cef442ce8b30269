"""Building without weights: nothing is initialised, nothing else changes."""

import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

from archscope.sweeps.lazy_layers import lazy_parameters
from archscope.tracing.collector import MANY, gc_paused
from archscope.tracing.layer_cache import CLONABLE
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


def test_copied_layers_are_those_that_are_built() -> None:
    """The same attributes in the same order, and parameters and buffers of their own."""
    makers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(3, 8, 3, bias=False),
        lambda: nn.Conv2d(3, 8, kernel_size=(3, 1), padding="same"),
        lambda: nn.BatchNorm2d(8),
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
        lambda: nn.Linear(8, 4, dtype=torch.float64),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.AdaptiveAvgPool2d([4, 4]),  # type: ignore[arg-type]
    ]
    for make in makers:
        real = make()
        with weightless():
            make()
            one, other = make(), make()
        assert list(vars(one)) == list(vars(real)) and repr(one) == repr(real)
        for name, value in vars(real).items():
            if isinstance(value, (dict, set)):
                assert type(vars(one)[name]) is type(value) and vars(one)[name] is not vars(other)[name]
        assert [(n, p.shape, p.dtype, p.requires_grad) for n, p in one.named_parameters()] == [
            (n, p.shape, p.dtype, p.requires_grad) for n, p in real.named_parameters()
        ]
        for name, buffer in one.named_buffers():
            assert torch.equal(buffer, real.get_buffer(name))
            buffer.fill_(7)
            assert torch.equal(other.get_buffer(name), real.get_buffer(name))
        storages = [p.untyped_storage()._cdata for layer in (one, other) for p in layer.parameters()]
        assert len(set(storages)) == len(storages)
        with weightless():
            assert repr(make()) == repr(real)


@pytest.mark.parametrize("building", [weightless, lazy_parameters])
def test_a_builder_may_ask_a_layer_for_its_arguments(building: Callable[[], AbstractContextManager[None]]) -> None:
    """As packages do that take any normalisation: monai asks whether it has `num_features` or `num_channels`."""
    plain = {cls: [*inspect.signature(cls).parameters] for cls in (*CLONABLE, nn.Module, nn.Sequential)}
    assert "num_features" in plain[nn.BatchNorm2d] and "num_channels" in plain[nn.GroupNorm]
    with building():
        assert {cls: [*inspect.signature(cls).parameters] for cls in plain} == plain


def test_a_list_that_was_given_stays_the_callers() -> None:
    size = [4, 4]
    with weightless():
        one, other = nn.AdaptiveAvgPool2d(size), nn.AdaptiveAvgPool2d([4, 4])  # type: ignore[arg-type]
        size[0] = 2
    assert one.output_size == [2, 4] and other.output_size == [4, 4]


def test_a_default_device_and_dtype_count() -> None:
    with weightless():
        nn.BatchNorm1d(3)
        with torch.device("meta"):
            assert nn.BatchNorm1d(3).running_mean.is_meta  # type: ignore[union-attr]
        torch.set_default_dtype(torch.float64)
        try:
            assert nn.BatchNorm1d(3).weight.dtype == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
    assert "__init__" not in vars(nn.BatchNorm2d)  # it inherits its own


def test_the_collector_is_paused_and_goes_on() -> None:
    """Nested pauses end with the outer one, a collector that was off stays off, and garbage is found in the end."""
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with gc_paused():
        pass
    assert not gc.isenabled()
    gc.enable()

    class Loop:
        def __init__(self) -> None:
            self.itself = [self]

    gone = weakref.ref(Loop())
    pieces: list[list[int]] = []
    for _ in range(MANY // 5000 + 2):
        with gc_paused():
            pieces += [[] for _ in range(5000)]
    assert gone() is None
    assert gc.get_freeze_count() == 0
