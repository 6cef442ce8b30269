"""Models whose steps once took other bytes than real ones: bags of words, TorchScript, constants, generators."""

import copy
import itertools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import archscope
from archscope.analysis.step_work import work_table
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.peers.cpu_step import real_step
from archscope.tracing.step_shapes import ON_CPU, REFUSED


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


class Grouped(nn.Module):
    """Two of four experts for each token in one product, as transformers has them: where they go changes no shape."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.Parameter(torch.randn(4, 12, 8))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2)
        sorted_, order = chosen.flatten().sort()
        ends = torch.histc(sorted_.float(), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
        if x.device.type == "cuda":
            assert torch.cuda.get_device_capability(x.device) >= (8, 0)
        rows = functional.grouped_mm(x[order // 2], self.experts.transpose(1, 2), offs=ends)
        return (rows[order.argsort()].unflatten(0, (-1, 2)) * weights[..., None]).sum(1)


@pytest.mark.parametrize("values", ["never", "always"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_experts_in_one_product(device: str, values: str) -> None:
    x = torch.randn(10, 8)
    trace = archscope.trace_step(Grouped(), (x,), device=device, optimizer="adamw", values=values)
    assert four(trace) == real_step(Grouped(), (x,), optimizer="adamw")
    totals = work_table(trace).totals
    # the gate and 20 rows of 8·12, and the gradients of the weights of both
    assert totals is not None and totals["training_macs"] == 2 * (10 * 8 * 4 + 20 * 8 * 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", ["rows", "columns", "inner", "none"])
def test_the_output_of_grouped_products(groups: str, dtype: torch.dtype) -> None:
    """Beside PyTorch's kernel, which wants rows of whole 16 bytes, and makes such of 12 columns."""
    matrices = torch.randn(3, 12, 8, dtype=dtype).transpose(1, 2)
    a, b, ends = {
        "rows": (torch.randn(10, 8, dtype=dtype), matrices, [4, 4, 10]),
        "columns": (torch.randn(3, 4, 8, dtype=dtype), torch.randn(12, 8, dtype=dtype).t(), [4, 4, 12]),
        "inner": (torch.randn(16, 8, dtype=dtype).t(), torch.randn(16, 8, dtype=dtype), [4, 4, 16]),
        "none": (torch.randn(3, 4, 8, dtype=dtype), matrices, None),
    }[groups]
    offsets = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    real = torch.ops.aten._grouped_mm(a, b, offsets)
    made = REFUSED["aten._grouped_mm"](a.to("meta"), b.to("meta"), offsets)
    assert (made.shape, made.stride()) == (real.shape, real.stride())
    assert made.untyped_storage().nbytes() == real.untyped_storage().nbytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-mixed"])
@pytest.mark.parametrize("attention", ["flash", "efficient"])
def test_kernels_that_a_cpu_has_not(attention: str, precision: str) -> None:
    """A step on real values takes their memory, and decides by the values of attention."""
    outputs: list[Tensor] = []

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(16, 48)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).view(2, 8, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind()
            outputs.append(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
            return outputs[-1]

    model, x = Attending(), torch.randn(2, 8, 16)
    conditions: dict[str, Any] = {"attention": attention, "precision": precision}
    without, real = (archscope.trace_step(model, (x,), values=v, **conditions) for v in ("never", "always"))
    assert [op.name for op in real.ops] == [op.name for op in without.ops] and real.storages == without.storages
    outputs = [outputs[-1].detach()]
    with torch.no_grad():
        model(x)
    assert torch.allclose(outputs[0].float(), outputs[1], atol=0.02)


@pytest.mark.parametrize("name", ["Mixtral", "Qwen2Moe", "GptOss"])
def test_mixtures_of_experts_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 99, "head_dim": 8}  # fmt: skip
    experts = {"num_experts": 4, "moe_intermediate_size": 16} if name == "Qwen2Moe" else {"num_local_experts": 4}
    config = getattr(transformers, f"{name}Config")(**sizes, **experts, num_experts_per_tok=2)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    ids = {"input_ids": torch.randint(0, 99, (2, 12), generator=torch.Generator().manual_seed(0))}
    trace = archscope.trace_step(model, (), ids, device="cpu")
    assert trace.notes == () and four(trace) == real_step(model, (), ids)
    assert archscope.trace_step(model, (), ids).ops
