"""Models whose steps once took other bytes than real ones: bags of words, TorchScript, constants, generators."""

import copy
import itertools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import archscope
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.peers.cpu_step import real_step
from archscope.tracing.step_shapes import ON_CPU


def four(trace: archscope.Trace) -> tuple[int, ...]:
    return after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)


class Bag(nn.Module):
    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.words, self.end = nn.EmbeddingBag(11, 6, **given), nn.Linear(6, 3)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        return self.end(self.words(ids, offsets))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_words(mode: str, padding: int | None, last: bool) -> None:
    inputs = torch.tensor([1, 2, 4, 5, 4, 0, 2, 9]), torch.tensor([0, 4, 8] if last else [0, 4])
    model = Bag(mode=mode, padding_idx=padding, include_last_offset=last)
    made = archscope.trace_step(model, inputs, device="cpu", optimizer="adamw")
    assert four(made) == real_step(copy.deepcopy(model), inputs, optimizer="adamw")
    # parameters, the optimizer's two of each and a count for each of three, input and target; the bags and the output
    held = 4 * 87 * 3 + 4 * 3 + 8 * (8 + len(inputs[1])) + 8 * 2 + 4 * (12 + 6)
    # for the backward the bag of each index (and of one more), the size of each bag and, of max, its word by feature;
    # sums without padding keep none of the first
    bag = 0 if mode == "sum" and padding is None else 8 * (8 + 1)
    assert after_forward(made) == held + bag + 8 * len(inputs[1]) + (8 * 12 if mode == "max" else 8 * 2)


def test_the_outputs_of_every_bag() -> None:
    """The memory that the kernel's own outputs take."""
    weight, ids, others = torch.randn(11, 6), torch.tensor([1, 2, 4, 5, 4, 0, 2, 9]), torch.rand(8)
    for mode, padding, last, scaled, dtype in itertools.product(
        (0, 1, 2), (-1, 0), (False, True), (False, True), (torch.float32, torch.float64)
    ):
        if scaled and mode:
            continue
        offsets = torch.tensor([0, 4, 8] if last else [0, 4])
        arguments = (ids, offsets, False, mode, False, others.to(dtype) if scaled else None, last, padding)
        real = torch.ops.aten._embedding_bag(weight.to(dtype), *arguments)
        made = ON_CPU["aten._embedding_bag"](weight.to("meta", dtype), *arguments)
        assert [(t.shape, t.dtype, t.untyped_storage().nbytes()) for t in made] == [
            (t.shape, t.dtype, t.untyped_storage().nbytes()) for t in real
        ], (mode, padding, last, scaled, dtype)


def test_a_function_of_torchscript_is_that_of_later_steps() -> None:
    """TorchScript makes other code of a function in its first two calls, which holds less in the backward."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)

        @torch.jit.script
        def gate(x: Tensor) -> Tensor:
            return x * torch.sigmoid(1.5 * x) + x.tanh()

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(gate(self.a(x)))

    made = [four(archscope.trace_step(Gated(), ((5, 6),), device="cpu")) for _ in range(2)]
    real = [real_step(Gated(), (torch.randn(5, 6),)) for _ in range(3)]
    assert made[0] == made[1] == real[-1]
    # parameters, x, target, output; kept are what goes in, 1.5 of it, sigmoid, tanh, and what comes out: 5 times 6 each
    assert made[0][0] == 4 * (42 + 28) + 4 * 30 + 8 * 5 + 4 * 20 + 4 * 4 * 30


class Constant(nn.Module):
    def __init__(self, made: bool) -> None:
        super().__init__()
        self.a, self.made = nn.Linear(6, 4), made
        self.scale = None if made else torch.arange(40.0)[:4]

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.arange(40.0)[:4]
        return self.a(x) * self.scale


@pytest.mark.parametrize("made", [False, True])
def test_a_constant_that_is_no_buffer(made: bool) -> None:
    """One that the model has, and one that its first forward makes: both are there after the step."""
    x = torch.randn(5, 6)
    trace = archscope.trace_step(Constant(made), (x,), device="cpu")
    assert four(trace) == real_step(Constant(made), (x,))
    assert after_step(trace) == 4 * 28 + 4 * 30 + 8 * 5 + 4 * 40


class Forces(nn.Module):
    def __init__(self, graph: bool) -> None:
        super().__init__()
        self.a, self.b, self.graph = nn.Linear(6, 8), nn.Linear(8, 1), graph

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        energy = self.b(torch.tanh(self.a(x)))
        (force,) = torch.autograd.grad(energy.sum(), x, create_graph=self.graph)
        return energy + force.square().sum(-1, keepdim=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("graph", [False, True])
def test_a_forward_that_takes_gradients(graph: bool, optimizer: str) -> None:
    x = torch.randn(5, 6)

    def loss(output: Tensor) -> Tensor:
        return output.mean()

    if not graph:
        with pytest.raises(Exception, match="second time"):  # the graph is gone, for PyTorch too
            real_step(Forces(graph), (x,), loss=loss)
        return
    trace = archscope.trace_step(Forces(graph), (x,), device="cpu", optimizer=optimizer, loss=loss)
    assert four(trace) == real_step(Forces(graph), (x,), optimizer=optimizer, loss=loss)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("values", ["never", "always"])
def test_a_generator_of_the_device(device: str, values: str) -> None:
    given = torch.Generator()

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            generator = torch.Generator(device=x.device).manual_seed(3)
            assert isinstance(generator, torch.Generator) and isinstance(given, torch.Generator)
            assert isinstance(torch.Generator(), torch.Generator) and not isinstance(x, torch.Generator)
            return self.a(x + torch.randn(x.shape, generator=generator, device=x.device))

    trace = archscope.trace_step(Noisy(), ((5, 6),), device=device, values=values)
    # parameters, x, target, the sum and the output
    assert after_forward(trace) == 4 * 28 + 4 * 30 + 8 * 5 + 4 * 30 + 4 * 20
    assert type(torch.Generator()) is torch.Generator
    assert archscope.trace(Noisy(), ((5, 6),)).ops[-1].name == "aten.linear"
