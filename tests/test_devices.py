"""What a forward that asks for devices is answered: what the user's own run would be."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from archscope import trace, weightless
from archscope.analysis.metrics import totals
from archscope.tracing import devices


class Asks(nn.Module):
    """The branch of the CPU costs 4 · 4 · 2, the other one 4 · 8 · 2."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(4, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        here = next(self.parameters()).device
        assert here == x.device and x.type() == "torch.FloatTensor"
        if x.device.type == "cpu" and x.is_cpu and not (x.is_cuda or x.is_meta):
            return self.near(x)
        return self.far(x)


@pytest.mark.parametrize("built", [False, True])
def test_the_branch_is_that_of_the_users_run(built: bool) -> None:
    if built:
        model = Asks()
    else:
        with weightless():
            model = Asks()
    for given in [((2, 4),), (torch.zeros(2, 4),), (torch.empty(2, 4, device="meta"),)]:
        assert totals(trace(model, given))["macs"] == 2 * 4 * 4
    assert torch.empty(1, device="meta").is_meta and "device" not in vars(torch.Tensor)


class Makes(nn.Module):
    """Tensors made on the device of others, and moves that move nothing."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(3, device=x.device)
        assert steps.sum().item() == 0 + 1 + 2 and x.new_tensor([1, 2]).tolist() == [1, 2]
        mask = torch.zeros(4, device=x.device).to(x)
        with torch.autocast(x.device.type, enabled=False):
            y = x.to(x.device).to("cpu").cpu() + mask + torch.randn(4, device=x.device)
        return y + torch.zeros(4, device="cuda") + x.cuda()


def test_factories_and_moves() -> None:
    record = trace(Makes(), ((2, 4),))
    moves = [op.name for op in record.ops if op.name in ("aten._to_copy", "aten.copy_")]
    assert moves == [] and record.layers[0].outputs[0].shape == (2, 4)


class Mixed(nn.Module):
    """PyTorch refuses these on two devices, and here the constants have values and the input has none."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spectrum = torch.stft(x, 8, hop_length=4, window=torch.hann_window(8), return_complex=True)
        far = torch.cdist(x.view(1, 8, 4), torch.ones(1, 5, 4))
        out = torch.empty(0)
        torch.add(x, x, out=out)
        return spectrum, far, out


def test_constants_beside_an_input() -> None:
    spectrum, far, out = trace(Mixed(), ((1, 32),)).layers[0].outputs
    assert spectrum.shape == (1, 8 // 2 + 1, 32 // 4 + 1)
    assert far.shape == (1, 8, 5) and out.shape == (1, 32)


def test_a_device_that_a_kernel_sees_is_the_real_one() -> None:
    x = torch.empty(2, device="meta")
    with devices.believed(torch.device("cuda", 1)):
        assert x.device == torch.device("cuda", 1) and x.is_cuda and not x.is_cpu
        assert torch.ones(2).device == devices.CPU
        with devices.real_devices():
            assert x.is_meta and x.device.type == "meta"
    assert x.is_meta


def test_large_lazy_layers() -> None:
    record = trace(nn.Sequential(nn.Flatten(), nn.LazyLinear(30)), ((1, 3, 32, 32),))
    assert totals(record)["params"] == 3 * 32 * 32 * 30 + 30
    with weightless():
        model = nn.Sequential(nn.Flatten(), nn.LazyLinear(30))
    assert totals(trace(model, ((1, 3, 32, 32),)))["params"] == 3 * 32 * 32 * 30 + 30


def test_the_first_trace_loads_no_compiler() -> None:
    """A softmax and a layer norm on a transposed tensor run Python kernels of PyTorch's, which ask for the compiler."""
    code = """
import sys, torch
from torch import nn
import archscope
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
    def forward(self, x):
        return self.norm(x.transpose(1, 2)).softmax(-1)
record = archscope.trace(Net(), (2, 4, 6))
assert record.layers[0].outputs[0].shape == (2, 6, 4)
assert "torch._dynamo" not in sys.modules and "_dynamo" not in vars(torch)
import torch._dynamo
assert torch._dynamo.config
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_networks_of_the_zoo_and_of_torchvision_load_no_compiler() -> None:
    """torchvision imports one function of the compiler, which is given to it when it is called."""
    pytest.importorskip("torchvision", reason="its networks are traced")
    code = """
import sys
import archscope
names = ["lenet", "resnet18", "lstm"] + ["torchvision:" + n for n in ("vit_b_16", "swin_t", "convnext_tiny")]
for name in names:
    model, inputs = archscope.load(name)
    archscope.trace(model, inputs)
    archscope.trace_step(model, inputs, optimizer="adamw")
found = [m for m in sys.modules if m.startswith(("torch._dynamo", "torch._inductor"))]
assert not found, found
import torch, torchvision
assert torchvision.ops.roi_align.__module__ == "torchvision.ops.roi_align"
from torch._dynamo.utils import is_compile_supported, counters
assert sys.modules["torch._dynamo.utils"].counters is counters
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
