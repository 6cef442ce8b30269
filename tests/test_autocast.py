"""Mixed precision: the casts of a step are those of `torch.autocast`, and its bytes those of a real step on the CPU."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import archscope
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.core.errors import ArchscopeError
from archscope.peers.cpu_step import real_step
from archscope.tracing.casts import LISTS, Casts, autocast

# kernels that PyTorch calls for a device only, and never for a tensor without data
OF_DEVICES = {"cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn", "linalg_matrix_sqrth"}


def names(device: str) -> set[str]:
    return {name for group in LISTS[device].values() for name in group.split()}


@pytest.mark.parametrize(("device", "key"), [("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")])
def test_the_lists_are_those_of_the_installed_torch(device: str, key: str) -> None:
    found = torch._C._dispatch_get_registrations_for_dispatch_key(key)  # type: ignore[attr-defined]
    installed = {name.removeprefix("aten::") for name in found if name.startswith("aten::")}
    if not torch.__version__.startswith("2.14"):
        pytest.skip("the lists are those of PyTorch 2.14")
    assert installed - OF_DEVICES == names(device) - OF_DEVICES


def test_the_rules_of_cuda_are_those_of_the_header() -> None:
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    if not header.is_file():
        pytest.skip("this PyTorch comes without its headers")
    text = header.read_text()
    macros = {"lower": "LOWER_PRECISION_FP", "float": "FP32", "dtype": "FP32_SET_OPT_DTYPE", "widest": "PROMOTE"}
    for rule, macro in macros.items():
        body = re.search(rf"#define AT_FORALL_{macro}\(_\)(.*?[^\\])\n\n", text, re.DOTALL)
        assert body is not None
        listed = {".".join(one.split(", ")) for one in re.findall(r"_\(([\w, ]+)\)", body[1])}
        ours = set(LISTS["cuda"][rule].split()) - {"norm.Scalar", "norm.ScalarOpt_dim"}  # a macro of their own
        assert ours == listed, rule


def placed(device: str) -> Any:
    return lambda *shape, dtype=torch.float32: torch.ones(*shape, dtype=dtype, device=device)


# one of each rule and family: a function of a maker of tensors
CASES: dict[str, Any] = {
    "conv2d": lambda t: functional.conv2d(t(1, 2, 5, 5), t(3, 2, 3, 3), t(3)),
    "conv2d same": lambda t: functional.conv2d(t(1, 2, 5, 5), t(3, 2, 3, 3), padding="same"),
    "linear": lambda t: functional.linear(t(2, 3), t(4, 3), t(4)),
    "matmul of 3 and 2 axes": lambda t: t(2, 2, 3) @ t(3, 4),
    "double is left": lambda t: t(2, 3, dtype=torch.float64) @ t(3, 4, dtype=torch.float64),
    "einsum": lambda t: torch.einsum("ij,jk->ik", t(2, 3), t(3, 4)),
    "attention": lambda t: functional.scaled_dot_product_attention(t(1, 1, 4, 8), t(1, 1, 4, 8), t(1, 1, 4, 8)),
    "relu of bf16": lambda t: functional.relu(t(2, 3, dtype=torch.bfloat16)),
    "layer norm of bf16": lambda t: functional.layer_norm(t(2, 3, dtype=torch.bfloat16), (3,)),
    "softmax of bf16": lambda t: t(2, 3, dtype=torch.bfloat16).softmax(-1),
    "sum of bf16": lambda t: t(2, 3, dtype=torch.bfloat16).sum(),
    "exp of bf16": lambda t: t(2, 3, dtype=torch.bfloat16).exp(),
    "pow of bf16": lambda t: t(2, 3, dtype=torch.bfloat16) ** 2,
    "prod of bf16": lambda t: t(2, 3, dtype=torch.bfloat16).prod(),
    "cat of both": lambda t: torch.cat([t(2), t(2, dtype=torch.bfloat16)]),
    "stack of bf16": lambda t: torch.stack([t(2, dtype=torch.bfloat16)] * 2),
    "pad by reflection": lambda t: functional.pad(t(1, 1, 4, 4, dtype=torch.bfloat16), (1, 1, 1, 1), "reflect"),
    "mse": lambda t: functional.mse_loss(t(2, 3, dtype=torch.bfloat16), t(2, 3)),
    "smooth l1": lambda t: functional.smooth_l1_loss(t(2, 3, dtype=torch.bfloat16), t(2, 3)),
    "cross-entropy": lambda t: functional.cross_entropy(t(2, 3, dtype=torch.bfloat16), t(2).long()),
    "a sum of both": lambda t: t(2, 3) + t(2, 3, dtype=torch.bfloat16),
    "grid sample": lambda t: functional.grid_sample(t(1, 1, 4, 4, dtype=torch.bfloat16), t(1, 2, 2, 2),
                                                    align_corners=False),
    "upsample": lambda t: functional.interpolate(t(1, 1, 4, 4, dtype=torch.bfloat16), scale_factor=2),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_dtypes_are_those_of_torch_autocast_on_the_cpu(case: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        real = CASES[case](placed("cpu"))
    with autocast(Casts("cpu", torch.bfloat16)):
        ours = CASES[case](placed("meta"))
    assert (ours.dtype, ours.shape) == (real.dtype, real.shape)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [("conv2d", torch.float16), ("einsum", torch.float16), ("layer norm of bf16", torch.float32),
     ("softmax of bf16", torch.float32), ("sum of bf16", torch.float32), ("relu of bf16", torch.bfloat16),
     ("pow of bf16", torch.float32), ("mse", torch.float32), ("cross-entropy", torch.float32)],
)  # fmt: skip
def test_dtypes_on_cuda(case: str, dtype: torch.dtype) -> None:
    """As PyTorch's page "Automatic Mixed Precision" lists the CUDA operators."""
    with autocast(Casts("cuda", torch.float16)):
        assert CASES[case](placed("meta")).dtype == dtype


def test_nothing_is_cast_outside() -> None:
    with autocast(Casts("cuda", torch.float16)):
        assert torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", enabled=False):  # a model may turn it off
            assert CASES["linear"](placed("meta")).dtype == torch.float32
    assert not torch.is_autocast_enabled("cuda")
    assert CASES["linear"](placed("meta")).dtype == torch.float32
    with pytest.raises(ArchscopeError, match="unsafe to autocast"), autocast(Casts("cuda", torch.float16)):
        functional.binary_cross_entropy(torch.ones(2, device="meta"), torch.ones(2, device="meta"))


def test_a_weight_is_cast_once() -> None:
    shared = nn.Linear(8, 8)
    trace = archscope.trace_step(nn.Sequential(shared, nn.Linear(8, 8), shared), (4, 8), precision="bf16-mixed")
    forward = trace.ops[: trace.phases[0].stop]
    casts = [op.outputs[0].shape for op in forward if op.name == "aten._to_copy"]
    assert casts.count((8, 8)) == 2  # of three products two have the same weight


def both(spec: Any, side: int | None = None, batch: int = 2, **conditions: Any) -> tuple[Any, Any]:
    def made() -> Any:
        return archscope.load(spec, input=side, batch=batch) if isinstance(spec, str) else (spec(), [torch.ones(4, 30)])

    trace = archscope.trace_step(*made(), device="cpu", **conditions)
    found = after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)
    return found, real_step(*made(), **conditions)


@pytest.mark.parametrize(
    ("spec", "side"),
    [("lenet", None), ("mnist-cnn", None), ("inception-block", 8), ("dense-block", 8), ("residual-block", 8),
     ("torchvision:mobilenet_v2", 32), ("torchvision:resnet18", 32), ("torchvision:shufflenet_v2_x0_5", 32)],
)  # fmt: skip
def test_every_byte_of_a_real_step_under_autocast(spec: str, side: int | None) -> None:
    derived, measured = both(spec, side, optimizer="adam", precision="bf16-mixed")
    assert derived == measured
    assert derived != both(spec, side, optimizer="adam")[0]


def blocks() -> nn.Module:
    return nn.Sequential(*(nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.LayerNorm(30)) for _ in range(3)))


@pytest.mark.parametrize(
    "conditions",
    [{"checkpoint": ["?"]}, {"accumulate": 2}, {"set_to_none": False}, {"precision": "fp16-mixed"},
     {"precision": "bf16"}],
)  # fmt: skip
def test_with_other_conditions(conditions: dict[str, Any]) -> None:
    derived, measured = both(blocks, **{"precision": "bf16-mixed", "optimizer": "momentum", **conditions})
    assert derived == measured


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "torchvision:shufflenet_v2_x0_5"])
def test_parameters_of_16_bit(spec: str) -> None:
    derived, measured = both(spec, 32, optimizer="adam", precision="bf16")
    assert derived == measured


def test_memory_by_hand() -> None:
    # a product of 16 bit behind a leaf of 32 bit
    trace = archscope.trace_step(nn.Linear(10, 3), (4, 10), precision="bf16-mixed", optimizer="sgd")
    w, b, x, y, target = 10 * 3, 3, 4 * 10, 4 * 3, 8 * 4
    before = 4 * (w + b) + 4 * x + target
    # casts of all three, and the output; the weight's and the bias's stay in the cache, the input's is saved
    assert after_forward(trace) == before + 2 * (w + b + x) + 2 * y


def test_the_command(archscope: Any) -> None:
    ran = archscope("memory", "lenet", "--precision", "bf16-mixed", "--columns", "path,bytes")
    assert ran.code == 0 and "bf16-mixed" in ran.out
    ran = archscope("memory", "lenet", "--precision", "bf16-mixd")
    assert ran.code == 2 and "did you mean bf16-mixed" in ran.err


class Mixed(nn.Module):
    """A layer in a lower precision, one that is kept out of it, one outside; autocast stands in the forward."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.device, self.dtype = device, dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device, dtype=self.dtype):
            x = torch.relu(self.a(x))
            with torch.autocast(self.device, enabled=False):
                x = self.b(x.float())
        return self.c(x)


def test_every_byte_of_a_step_whose_forward_has_autocast() -> None:
    model, x = Mixed("cpu", torch.bfloat16), torch.rand(4, 8)
    made = archscope.trace_step(model, (x,), device="cpu", optimizer="momentum")
    derived = after_forward(made), peak_within(made, "backward"), peak(made).nbytes, after_step(made)
    assert derived == real_step(Mixed("cpu", torch.bfloat16), (x,), optimizer="momentum")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_in_a_forward_on_a_card_that_is_not_here(dtype: torch.dtype) -> None:
    made = archscope.trace_step(Mixed("cuda", dtype), (4, 8), device="cuda")
    outputs = {layer.path: layer.outputs[0].dtype for layer in made.layers if layer.path}
    assert outputs == {"a": str(dtype).removeprefix("torch."), "b": "float32", "c": "float32"}
    assert not torch.is_autocast_enabled("cuda")
    elsewhere = archscope.trace_step(Mixed("cpu", torch.bfloat16), (4, 8), device="cuda")
    assert {layer.outputs[0].dtype for layer in elsewhere.layers} == {"float32"}
