"""Recipes as the sources print them, overrides that are told, costs forward and backward, and published peaks."""

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import archscope
from archscope.bench.inference import bytes_of, roofline
from archscope.bench.meter import step_flops
from archscope.bench.peaks import PEAKS, flops_of, peak_of
from archscope.bench.recipes import RECIPES, Recipe, enter, recipe_of
from archscope.core.errors import SpecError

# d2l 0.17, by its chapters: rate, batch, side of the picture; ten epochs of plain SGD from Xavier-uniform weights
D2L = {
    "lenet": (0.9, 256, 28),
    "alexnet-d2l": (0.01, 128, 224),
    "vgg11-d2l": (0.05, 128, 224),
    "nin": (0.1, 128, 224),
    "googlenet-d2l": (0.1, 128, 96),
    "resnet18-d2l": (0.05, 256, 96),
    "densenet-d2l": (0.1, 256, 96),
}


@pytest.mark.parametrize("model", D2L)
def test_d2l(model: str) -> None:
    recipe = recipe_of("auto", model)
    assert (recipe.name, recipe.lr, recipe.batch, recipe.side) == ("d2l", *D2L[model])
    assert (recipe.epochs, recipe.optimizer, recipe.momentum, recipe.weight_decay) == (10, "sgd", 0.0, 0.0)
    assert (recipe.init, recipe.loss, recipe.augment) == ("xavier-uniform", "cross-entropy", "none")


def test_the_other_sources() -> None:
    mnist = recipe_of("auto", "mnist-cnn")
    assert (mnist.lr, mnist.momentum, mnist.batch, mnist.loss) == (0.01, 0.5, 64, "nll")
    assert (mnist.mean, mnist.std, mnist.validation, mnist.keep) == (0.1307, 0.3081, 0.2, "best-validation")
    paper = recipe_of("auto", "alexnet")  # Krizhevsky et al. 2012, section 5
    assert (paper.batch, paper.momentum, paper.weight_decay, paper.lr, paper.epochs) == (128, 0.9, 0.0005, 0.01, 90)
    assert recipe_of("adam", "nin").lr == 0.002 and recipe_of("adam", "lenet").lr == 0.001


def test_what_is_changed_is_told() -> None:
    recipe = recipe_of("d2l@lr=0.5", "lenet", {"epochs": 3, "batch": None})
    assert recipe.text == "d2l@epochs=3@lr=0.5" and recipe.overridden == ("epochs", "lr")
    assert recipe_of("d2l@epochs=10", "lenet").text == "d2l"  # nothing is changed
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d2", "did you mean d2l"),
        ("d2l@rate=1", "no field 'rate'"),
        ("d2l@lr", "lr has no value"),
        ("d2l@epochs=1.5", "epochs is a whole number"),
        ("d2l@lr=fast", "lr is a number"),
        ("d2l@epochs=0", "epochs is at least 1"),
        ("d2l@optimizer=lion", "unknown optimizer"),
        ("d2l@keep=best-validation", "needs a validation share"),
        ("d2l@schedule=plateau", "needs a validation share"),
        ("d2l@std=0", "std is more than 0"),
        ("d2l@validation=1", "share below 1"),
    ],
)
def test_wrong_recipes(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipe_of(text, "lenet")


def test_a_recipe_that_says_nothing_of_a_network() -> None:
    with pytest.raises(SpecError, match="says nothing of mnist-cnn"):
        recipe_of("d2l", "mnist-cnn")
    assert recipe_of("d2l@lr=0.1", "mnist-cnn").lr == 0.1


def test_one_recipe_a_name() -> None:
    with pytest.raises(ValueError, match="the recipe 'd2l' is registered twice"):
        enter(RECIPES["d2l"].recipe)
    with pytest.raises(ValueError, match="unknown loss"):
        enter(Recipe("new", "nowhere", loss="hinge"))


# ---------------------------------------------------------------------------------------------------------- costs


def cost_of(model: nn.Module, inputs: Any) -> tuple[int, int]:
    """MACs of forward and of backward."""
    flops = step_flops(archscope.trace_step(model, inputs))
    assert not flops.unknown
    return flops.forward // 2, (flops.model - flops.forward) // 2


def test_lenet_by_hand() -> None:
    """Every product twice more, save the gradient of the picture, which the first convolution does not need."""
    model, inputs = archscope.load("lenet", batch=1)
    forward, backward = cost_of(model, inputs)
    conv1, conv2 = 28 * 28 * 6 * 5 * 5, 10 * 10 * 16 * 6 * 5 * 5
    dense = 400 * 120 + 120 * 84 + 84 * 10
    assert forward == conv1 + conv2 + dense
    assert backward == conv1 + 2 * (conv2 + dense)


def test_grouped_convolutions() -> None:
    """PyTorch 2.14 counts the gradient of their weights as though there were no groups; so by hand."""
    model, inputs = archscope.load("mobilenet-v1-d2l", batch=1)
    forward, backward = cost_of(model, inputs)
    first = 48 * 48 * 32 * 1 * 3 * 3
    assert forward == 102_957_568 and backward == 2 * 102_957_568 - first


@pytest.mark.parametrize("name", ["lenet", "alexnet-d2l", "nin", "googlenet-d2l", "resnet18-d2l", "densenet-d2l"])
def test_forward_and_backward_as_pytorch_counts_them(name: str) -> None:
    model, inputs = archscope.load(name, batch=2)
    forward, backward = cost_of(model, inputs)
    model.to("meta").train()
    with FlopCounterMode(display=False) as counted:
        model(*inputs).sum().backward()
    assert 2 * (forward + backward) == counted.get_total_flops()
    assert 2.7 < (forward + backward) / forward < 3


def test_what_does_not_learn_costs_no_gradient() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 7)
            self.a.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x)))

    forward, backward = cost_of(Frozen(), ((11, 2),))
    assert forward == 11 * (2 * 3 + 3 * 5 + 5 * 7)
    assert backward == 11 * (3 * 5 + 2 * 5 * 7)  # of b the weight alone, of c both


def test_products_of_what_flows() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk, self.v = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = self.qk(x)
            return torch.softmax(q @ q.T, -1) @ self.v(x)

    forward, backward = cost_of(Attention(), ((6, 4),))
    assert forward == 2 * 6 * 4 * 4 + 2 * 6 * 6 * 4
    assert backward == 2 * 6 * 4 * 4 + 2 * (2 * 6 * 6 * 4)


def test_a_recurrent_layer_needs_no_gradient_of_its_input() -> None:
    model, inputs = archscope.load("rnn")
    forward, backward = cost_of(model, inputs)
    steps, c, h = 5, 4, 4
    assert forward == steps * h * (c + h)
    assert backward == 2 * steps * h * (c + h) - steps * h * c - h * h  # nor of the hidden state before the first step


def test_unknown_is_not_zero() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(self.fc(x))

    assert "aten.linalg_inv_ex" in step_flops(archscope.trace_step(Odd(), ((3, 3),))).unknown


def test_roofline_by_hand() -> None:
    """One linear layer: 2·n·m·p + bias operations, and its four tensors' bytes; the slower of the two decides."""
    record = archscope.trace(nn.Linear(3, 5), ((2, 3),))
    flops, moved = 2 * 2 * 3 * 5 + 2 * 5, 4 * (2 * 3 + 3 * 5 + 5 + 2 * 5)
    assert sum(bytes_of(record)) == moved
    assert roofline(record, 10.0, 1e9) == pytest.approx(flops / 10)
    assert roofline(record, 1e9, 10.0) == pytest.approx(moved / 10)


# ---------------------------------------------------------------------------------------------------------- peaks

# what `torch.cuda.get_device_name()` says, and the dense TFLOP/s in bfloat16 (float16 where it has no bfloat16)
NAMES = {
    "NVIDIA A100-SXM4-80GB": 312.0, "NVIDIA A100-SXM4-40GB": 312.0, "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0, "NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.0, "NVIDIA H200": 989.0, "NVIDIA H200 NVL": 835.5, "NVIDIA GH200 480GB": 989.0,
    "NVIDIA GH200 144G HBM3e": 989.0, "NVIDIA B200": 2250.0, "NVIDIA GB200": 2500.0, "NVIDIA H20": 148.0,
    "NVIDIA L4": 121.0, "NVIDIA L40": 181.0, "NVIDIA L40S": 362.0, "NVIDIA A10": 125.0, "NVIDIA A30": 165.0,
    "NVIDIA A40": 149.7, "NVIDIA RTX A6000": 154.8, "NVIDIA RTX 6000 Ada Generation": 364.0,
    "NVIDIA GeForce RTX 5090": 209.5, "NVIDIA GeForce RTX 4090": 165.2, "NVIDIA GeForce RTX 3090": 71.0,
    "AMD Instinct MI300X": 1307.4, "AMD Instinct MI250X": 191.5,  # one of its two dies
    "Tesla T4": None, "Tesla V100-SXM2-16GB": None, "Tesla V100S-PCIE-32GB": None, "Quadro RTX 6000": None,
    "NVIDIA A10G": None, "NVIDIA GeForce RTX 4090 Laptop GPU": None, "NVIDIA GeForce RTX 4090 D": None,
    "NVIDIA GeForce RTX 3090 Ti": None, "NVIDIA H20-3e": None, "NVIDIA A100-SXM-64GB": None, "NVIDIA H800": None,
    "NVIDIA L400": None, "NVIDIA A100-SXM4-40GB MIG 1g.5gb": None, "NVIDIA A40-8Q": None, "NVIDIA T4G": None,
    "AMD EPYC 9B14": None, "Intel(R) Xeon(R) Processor @ 2.10GHz": None, "": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_published_peaks_by_the_names_of_real_devices(name: str) -> None:
    expected = NAMES[name]
    rate, source = flops_of(name, "bf16")
    assert rate == (None if expected is None else expected * 1e12)
    assert bool(source) == (rate is not None)


def test_what_has_no_bfloat16_has_a_rate_in_float16() -> None:
    assert flops_of("Tesla T4", "fp16")[0] == 65e12 and flops_of("Tesla V100-SXM2-16GB", "fp16")[0] == 125e12
    assert flops_of("NVIDIA H100 PCIe", "tf32")[0] == 378e12 and flops_of("Tesla T4", "tf32") == (None, "")


def test_each_name_has_its_own_row() -> None:
    """`bandwidth` tells the forms of one chip apart."""
    names = ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB", "NVIDIA A100 80GB PCIe", "NVIDIA H100 PCIe",
             "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA L4", "NVIDIA L40S")  # fmt: skip
    found = [peak.bandwidth for name in names if (peak := peak_of(name))]
    assert found == [2039.0, 1555.0, 1935.0, 2000.0, 3900.0, 3350.0, 4800.0, 300.0, 864.0]


def test_every_peak_is_sourced_and_dense() -> None:
    for peak in PEAKS:
        assert peak.sources and all(source.startswith("https://") for source in peak.sources), peak.pattern
        if peak.tf32 and peak.bf16:
            assert peak.bf16 == pytest.approx(2 * peak.tf32, rel=0.02)  # by construction of the matrix units
        if peak.bf16 and peak.fp16:
            assert peak.bf16 == peak.fp16, peak.pattern
    assert peak_of("NVIDIA H100 PCIe") is not peak_of("NVIDIA H100 80GB HBM3")


def test_the_units_of_a_chip_times_its_clock() -> None:
    """V100 whitepaper: 640 units of 64 multiply-adds at 1.53 GHz; A100's: 432 of 256 at 1.41 GHz; MI300X: 1216 of 256
    at 2.1 GHz. RTX 4090: 512 units of 64 (fp32 accumulation) at 2.52 GHz; RTX 3090: 328 of 64 at 1.695 GHz."""
    for name, units, each, clock in (
        ("Tesla V100-SXM2-16GB", 640, 64, 1.53e9),
        ("NVIDIA A100-SXM4-80GB", 432, 256, 1.41e9),
        ("AMD Instinct MI300X", 1216, 256, 2.1e9),
        ("NVIDIA GeForce RTX 4090", 512, 64, 2.52e9),
        ("NVIDIA GeForce RTX 3090", 328, 64, 1.695e9),
    ):
        assert flops_of(name, "fp16")[0] == pytest.approx(2 * units * each * clock, rel=0.005), name
