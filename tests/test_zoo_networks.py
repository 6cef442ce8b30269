"""Every network of the zoo: its published figures, its figures derived by hand, and torchvision's opinion.

Nothing here is computed on a CPU: the models live on the meta device, and PyTorch's FlopCounterMode, which counts two
a multiply–accumulate, is the observer. The hand derivations below know the papers' tables and no module of archscope.
"""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torchvision.models
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archscope.zoo import catalogue as registry

ENTRIES = registry.entries()


# ---- observing ----


def parse(spec: str) -> tuple[str, dict]:
    """`vgg11-d2l@ratio=8@fc_width=512` -> the name and the builder's arguments."""
    name, *pairs = spec.split("@")
    arguments = {}
    for pair in pairs:
        key, value = pair.split("=")
        arguments[key] = {"true": True, "false": False}.get(value) if value in ("true", "false") else value
        if re.fullmatch(r"[\d.]+", value):
            arguments[key] = ast.literal_eval(value)
    return name, arguments


def zeros(shape: str) -> Tensor:
    """`1x5:int64` -> a tensor on meta."""
    sides, _, dtype = shape.partition(":")
    return torch.empty([int(n) for n in sides.split("x")], dtype=getattr(torch, dtype or "float32"), device="meta")


def build(name: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return registry.build(name, **arguments).eval()


def count_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@functools.cache
def observed(spec: str) -> tuple[int, int]:
    """Parameters and multiply–accumulates of a network at its own input."""
    name, arguments = parse(spec)
    model = build(name, **arguments)
    return count_params(model), count_macs(model, input_of(spec))


def count_macs(model: nn.Module, shape: str) -> int:
    with FlopCounterMode(display=False) as counter:
        model(zeros(shape))
    return counter.get_total_flops() // 2


def replace_axis(shape: str, axis: int, n: int) -> str:
    sides, colon, dtype = shape.partition(":")
    parts = sides.split("x")
    parts[axis] = str(n)
    return "x".join(parts) + colon + dtype


def input_of(spec: str) -> str:
    """The entry's own input, with as many channels as the spec asks for."""
    name, arguments = parse(spec)
    entry = ENTRIES[name]
    if "in_channels" in arguments:
        return replace_axis(entry.input, entry.layout.index("c"), arguments["in_channels"])
    return entry.input


# ---- deriving by hand ----


@dataclass
class Hand:
    """A running total. side: that of the output map. bias: whether this network's convolutions have one."""

    bias: bool = True
    params: int = 0
    macs: int = 0

    def conv(self, k: int, c_in: int, c_out: int, side: int, groups: int = 1) -> None:
        weights = k * k * (c_in // groups) * c_out
        self.params += weights + (c_out if self.bias else 0)
        self.macs += weights * side * side

    def norm(self, channels: int) -> None:
        self.params += 2 * channels

    def fc(self, n_in: int, n_out: int) -> None:
        self.params += n_in * n_out + n_out
        self.macs += n_in * n_out

    def recurrent(self, gates: int, steps: int, n_in: int, hidden: int) -> None:
        weights = gates * hidden * (n_in + hidden)
        self.params += weights + gates * 2 * hidden
        self.macs += weights * steps

    @property
    def counts(self) -> tuple[int, int]:
        return self.params, self.macs


def inception(hand: Hand, side: int, c_in: int, c1: int, r2: int, c2: int, r3: int, c3: int, c4: int) -> None:
    hand.conv(1, c_in, c1, side)
    hand.conv(1, c_in, r2, side)
    hand.conv(3, r2, c2, side)
    hand.conv(1, c_in, r3, side)
    hand.conv(5, r3, c3, side)
    hand.conv(1, c_in, c4, side)


def googlenet() -> Hand:
    hand = Hand()
    hand.conv(7, 3, 64, 112)  # (224 - 7 + 6) // 2 + 1 = 112, then the pool: 56
    hand.conv(1, 64, 64, 56)
    hand.conv(3, 64, 192, 56)
    inception(hand, 28, 192, 64, 96, 128, 16, 32, 32)
    inception(hand, 28, 256, 128, 128, 192, 32, 96, 64)
    inception(hand, 14, 480, 192, 96, 208, 16, 48, 64)
    inception(hand, 14, 512, 160, 112, 224, 24, 64, 64)
    inception(hand, 14, 512, 128, 128, 256, 24, 64, 64)
    inception(hand, 14, 512, 112, 144, 288, 32, 64, 64)
    inception(hand, 14, 528, 256, 160, 320, 32, 128, 128)
    inception(hand, 7, 832, 256, 160, 320, 32, 128, 128)
    inception(hand, 7, 832, 384, 192, 384, 48, 128, 128)
    hand.fc(1024, 1000)
    return hand


def auxiliaries() -> Hand:
    hand = Hand()
    for c_in in (512, 528):  # behind 4a and behind 4d
        hand.conv(1, c_in, 128, 4)  # (14 - 5) // 3 + 1 = 4
        hand.fc(4 * 4 * 128, 1024)
        hand.fc(1024, 1000)
    return hand


def resnet(blocks: tuple[int, ...], bottleneck: bool, v1_5: bool = False) -> Hand:
    hand = Hand(bias=False)
    hand.conv(7, 3, 64, 112)
    hand.norm(64)
    c_in, side = 64, 56
    for c, n in zip((64, 128, 256, 512), blocks, strict=True):
        c_out = 4 * c if bottleneck else c
        for i in range(n):
            before = side
            if c > 64 and i == 0:
                side = side // 2
            if bottleneck:
                hand.conv(1, c_in, c, before if v1_5 else side)
                hand.norm(c)
                hand.conv(3, c, c, side)
                hand.norm(c)
                hand.conv(1, c, c_out, side)
                hand.norm(c_out)
            else:
                hand.conv(3, c_in, c, side)
                hand.norm(c)
                hand.conv(3, c, c, side)
                hand.norm(c)
            if c_in != c_out:
                hand.conv(1, c_in, c_out, side)
                hand.norm(c_out)
            c_in = c_out
    hand.fc(c_in, 1000)
    return hand


def densenet(stem: int, growth: int, blocks: tuple[int, ...]) -> Hand:
    hand = Hand(bias=False)
    hand.conv(7, 3, stem, 112)
    hand.norm(stem)
    c = stem
    for n, side in zip(blocks, (56, 28, 14, 7), strict=True):
        for _ in range(n):
            hand.norm(c)
            hand.conv(1, c, 4 * growth, side)
            hand.norm(4 * growth)
            hand.conv(3, 4 * growth, growth, side)
            c += growth
        if side > 7:  # the transition's convolution comes before its pool
            hand.norm(c)
            hand.conv(1, c, c // 2, side)
            c //= 2
    hand.norm(c)
    hand.fc(c, 1000)
    return hand


def inverted_residual(
    hand: Hand, k: int, c_in: int, c_mid: int, c_out: int, squeeze: int, stride: int, side: int
) -> int:
    """Adds the block, whose input has this side; gives the side of its output."""
    if c_mid != c_in:
        hand.conv(1, c_in, c_mid, side)
        hand.norm(c_mid)
    side //= stride
    hand.conv(k, c_mid, c_mid, side, groups=c_mid)
    hand.norm(c_mid)
    if squeeze:
        hand.fc(c_mid, squeeze)
        hand.fc(squeeze, c_mid)
    hand.conv(1, c_mid, c_out, side)
    hand.norm(c_out)
    return side


def mobilenet_v2() -> Hand:
    hand = Hand(bias=False)
    hand.conv(3, 3, 32, 112)
    hand.norm(32)
    c_in, side = 32, 112
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for t, c, n, s in table:
        for i in range(n):
            side = inverted_residual(hand, 3, c_in, t * c_in, c, 0, s if i == 0 else 1, side)
            c_in = c
    hand.conv(1, 320, 1280, 7)
    hand.norm(1280)
    hand.fc(1280, 1000)
    return hand


# kernel, expanded, out, squeezed (a quarter of the expanded, to a multiple of 8; 0 for none), stride
V3_LARGE = (
    *((3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 24, 2), (5, 120, 40, 32, 1)),
    *((5, 120, 40, 32, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1)),
    *((3, 480, 112, 120, 1), (3, 672, 112, 168, 1), (5, 672, 160, 168, 2), (5, 960, 160, 240, 1)),
    (5, 960, 160, 240, 1),
)
V3_SMALL = (
    *((3, 16, 16, 8, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 24, 2), (5, 240, 40, 64, 1)),
    *((5, 240, 40, 64, 1), (5, 120, 48, 32, 1), (5, 144, 48, 40, 1), (5, 288, 96, 72, 2), (5, 576, 96, 144, 1)),
    (5, 576, 96, 144, 1),
)


def mobilenet_v3(table: tuple[tuple[int, ...], ...], c_head: int, c_last: int) -> Hand:
    hand = Hand(bias=False)
    hand.conv(3, 3, 16, 112)
    hand.norm(16)
    c_in, side = 16, 112
    for k, c_mid, c_out, squeeze, stride in table:
        side = inverted_residual(hand, k, c_in, c_mid, c_out, squeeze, stride, side)
        c_in = c_out
    hand.conv(1, c_in, c_head, 7)
    hand.norm(c_head)
    hand.fc(c_head, c_last)
    hand.fc(c_last, 1000)
    return hand


def with_aux(body: Hand, side: Hand) -> tuple[int, int]:
    return body.params + side.params, body.macs  # built, but not run in evaluation


# RNN cell 4 -> 4 over five steps: 4·(4 + 4) weights, 2·4 biases
STEP = 4 * (4 + 4)

DERIVED: dict[str, tuple[int, int]] = {
    "googlenet": googlenet().counts,
    "googlenet@aux=true": with_aux(googlenet(), auxiliaries()),
    "resnet18": resnet((2, 2, 2, 2), bottleneck=False).counts,
    "resnet34": resnet((3, 4, 6, 3), bottleneck=False).counts,
    "resnet50": resnet((3, 4, 6, 3), bottleneck=True).counts,
    "resnet101": resnet((3, 4, 23, 3), bottleneck=True).counts,
    "resnet152": resnet((3, 8, 36, 3), bottleneck=True).counts,
    "resnet50-v1.5": resnet((3, 4, 6, 3), bottleneck=True, v1_5=True).counts,
    "resnet101-v1.5": resnet((3, 4, 23, 3), bottleneck=True, v1_5=True).counts,
    "resnet152-v1.5": resnet((3, 8, 36, 3), bottleneck=True, v1_5=True).counts,
    "densenet121": densenet(64, 32, (6, 12, 24, 16)).counts,
    "densenet161": densenet(96, 48, (6, 12, 36, 24)).counts,
    "densenet169": densenet(64, 32, (6, 12, 32, 32)).counts,
    "densenet201": densenet(64, 32, (6, 12, 48, 32)).counts,
    "mobilenet-v2": mobilenet_v2().counts,
    "mobilenet-v3-large": mobilenet_v3(V3_LARGE, 960, 1280).counts,
    "mobilenet-v3-small": mobilenet_v3(V3_SMALL, 576, 1024).counts,
    "rnn-cell": (STEP + 2 * 4, 5 * STEP),
    "rnn": (STEP + 2 * 4, 5 * STEP),
    "rnn@num_layers=2": (2 * (STEP + 2 * 4), 5 * 2 * STEP),
    "rnn@bidirectional=true": (2 * (STEP + 2 * 4), 5 * 2 * STEP),
    "lstm": (4 * (STEP + 2 * 4), 5 * 4 * STEP),
    "gru": (3 * (STEP + 2 * 4), 5 * 3 * STEP),
    "char-rnn": (STEP + 2 * 4, 5 * STEP),
    "char-rnn-embedding": (
        4 * 10 + (8 * (10 + 8) + 2 * 8) + (8 * (8 + 8) + 2 * 8) + (8 * 4 + 4),
        5 * (8 * (10 + 8) + 8 * (8 + 8) + 8 * 4),
    ),
    "gru-classifier": (
        128 * 100 + 3 * (100 * (100 + 100) + 2 * 100) + (100 * 18 + 18),
        10 * 3 * 100 * (100 + 100) + 100 * 18,
    ),
    "gru-classifier@bidirectional=true": (
        128 * 100 + 2 * 3 * (100 * (100 + 100) + 2 * 100) + (200 * 18 + 18),
        10 * 2 * 3 * 100 * (100 + 100) + 200 * 18,
    ),
    "gru-classifier@num_layers=2@bidirectional=true": (  # the second layer sees both directions of the first: 200
        128 * 100 + 2 * 3 * (100 * (100 + 100) + 200) + 2 * 3 * (100 * (200 + 100) + 200) + (200 * 18 + 18),
        10 * 2 * 3 * (100 * (100 + 100) + 100 * (200 + 100)) + 200 * 18,
    ),
    "inception-block": (
        (192 * 64 + 64)
        + (192 * 96 + 96 + 3 * 3 * 96 * 128 + 128)
        + (192 * 16 + 16 + 5 * 5 * 16 * 32 + 32)
        + (192 * 32 + 32),
        28 * 28 * (192 * 64 + 192 * 96 + 3 * 3 * 96 * 128 + 192 * 16 + 5 * 5 * 16 * 32 + 192 * 32),
    ),
    "inception-naive-block": (
        (192 * 64 + 64) + (3 * 3 * 192 * 128 + 128) + (5 * 5 * 192 * 32 + 32),
        28 * 28 * (192 * 64 + 3 * 3 * 192 * 128 + 5 * 5 * 192 * 32),
    ),
    "residual-block": (2 * (3 * 3 * 64 * 64 + 2 * 64), 56 * 56 * 2 * 3 * 3 * 64 * 64),
    "dense-block": (
        (2 * 3 + 3 * 3 * 3 * 10 + 10) + (2 * 13 + 3 * 3 * 13 * 10 + 10),
        8 * 8 * (3 * 3 * 3 * 10 + 3 * 3 * 13 * 10),
    ),
    "transition-block": (2 * 23 + 23 * 10 + 10, 8 * 8 * 23 * 10),
    "depthwise-separable-block": (
        (3 * 3 * 32 + 2 * 32) + (32 * 64 + 2 * 64),
        112 * 112 * (3 * 3 * 32 + 32 * 64),
    ),
}


# ---- the published figures ----

PUBLISHED: dict[str, tuple[int, int]] = {
    "lenet": (61_706, 416_520),
    "lenet-bn": (61_706 + 452, 416_520),
    "alexnet": (60_965_224, 724_406_816),
    "alexnet-onegpu": (62_388_354, 1_135_266_096),
    "alexnet-onegpu@in_channels=1": (62_365_122, 1_064_989_296),
    "alexnet-d2l": (46_764_746, 938_146_176),
    "alexnet-slim": (29_983_434, 921_368_960),
    "alexnet-owt": (61_100_840, 714_188_480),
    "vgg11": (132_863_336, 7_609_090_048),
    "vgg11-lrn": (132_863_336, 7_609_090_048),
    "vgg13": (133_047_848, 11_308_466_176),
    "vgg16-c": (133_638_952, 11_770_888_192),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
    "vgg11-d2l": (128_806_154, 7_547_232_256),
    "vgg11-d2l@ratio=4": (43_093_322, 512_155_648),
    "vgg11-d2l@ratio=8@fc_width=512": (2_018_346, 121_091_072),
    "nin": (1_992_166, 762_297_352),
    "googlenet-d2l": (5_977_530, 276_066_304),
    "googlenet-d2l@stem_relu=false": (5_977_530, 276_066_304),
    "resnet18-d2l": (11_178_378, 318_657_536),
    "resnet50-v1.5": (25_557_032, 4_089_184_256),
    "resnet152-v1.5": (60_192_808, 11_513_626_624),
    "densenet-d2l": (758_226, 129_077_168),
    "mobilenet-v1-d2l": (3_216_650, 102_957_568),
    "mobilenet-v1": (4_231_976, 568_740_352),
    "mobilenet-v1@width=0.75": (2_585_560, 325_400_448),
    "mobilenet-v1@width=0.5": (1_331_592, 149_497_088),
    "mobilenet-v1@width=0.25": (470_072, 41_030_272),
    "mobilenet-v1@activation=relu6": (4_231_976, 568_740_352),
    "mnist-cnn": (79_797, 585_354),
    "basic-cnn": (8_490, 467_200),
}

PUBLISHED_PARAMS = {  # where only the parameters are published, and the rest is derived above
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "mobilenet-v2": 3_504_872,
    "mobilenet-v3-large": 5_483_032,
    "mobilenet-v3-small": 2_542_856,
    "rnn-cell": 40,
    "rnn": 40,
    "rnn@num_layers=2": 80,
    "lstm": 160,
    "gru": 120,
    "char-rnn-embedding": 380,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_counts(name):
    assert observed(name) == (ENTRIES[name].params, ENTRIES[name].macs)


@pytest.mark.parametrize("spec, counts", [*PUBLISHED.items(), *DERIVED.items()])
def test_counts(spec, counts):
    assert observed(spec) == counts


@pytest.mark.parametrize("spec", PUBLISHED_PARAMS)
def test_derived_params_are_the_published(spec):
    assert DERIVED[spec][0] == PUBLISHED_PARAMS[spec]


def test_every_name_has_a_figure():
    assert {parse(spec)[0] for spec in [*PUBLISHED, *DERIVED]} == set(ENTRIES)


@pytest.mark.parametrize(
    "side, macs",  # MobileNet V1's resolution multiplier, paper's table 7: 569, 418, 290, 186 million
    [(224, 568_740_352), (192, 418_121_728), (160, 290_675_200), (128, 186_400_768)],
)
def test_mobilenet_v1_resolution(side, macs):
    model = build("mobilenet-v1")
    assert count_params(model) == 4_231_976
    assert count_macs(model, f"1x3x{side}x{side}") == macs


def test_googlenet_auxiliaries_run_in_training_only():
    model = build("googlenet", aux=True)
    assert model(zeros("1x3x224x224")).shape == (1, 1000)
    model.train()
    assert [y.shape for y in model(zeros("2x3x224x224"))] == [(2, 1000)] * 3
    assert count_macs(model, "1x3x224x224") == googlenet().macs + auxiliaries().macs
    assert build("googlenet").train()(zeros("1x3x224x224")).shape == (1, 1000)


# ---- AlexNet, layer by layer ----

ALEXNET = {  # layer: parameters, neurons
    "conv1": (11 * 11 * 3 * 96 + 96, 96 * 55 * 55),
    "conv2": (5 * 5 * 48 * 256 + 256, 256 * 27 * 27),
    "conv3": (3 * 3 * 256 * 384 + 384, 384 * 13 * 13),
    "conv4": (3 * 3 * 192 * 384 + 384, 384 * 13 * 13),
    "conv5": (3 * 3 * 192 * 256 + 256, 256 * 13 * 13),
    "fc6": (6 * 6 * 256 * 4096 + 4096, 4096),
    "fc7": (4096 * 4096 + 4096, 4096),
    "fc8": (4096 * 1000 + 1000, 1000),
}


def outputs(model: nn.Module, shape: str) -> dict[str, tuple[int, ...]]:
    """Path -> output shape of every leaf, in the order in which they ran."""
    found = {}

    def seen(path):
        def hook(module, inputs, output):
            found[path] = tuple(output.shape)

        return hook

    for path, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(seen(path))
    model(zeros(shape))
    return found


def test_alexnet_layer_by_layer():
    model = build("alexnet")
    shapes = outputs(model, "1x3x227x227")
    layers = {path: (count_params(model.get_submodule(path)), torch.Size(shapes[path]).numel()) for path in ALEXNET}
    assert layers == ALEXNET
    assert sum(params for params, _ in layers.values()) == 60_965_224
    assert sum(neurons for _, neurons in layers.values()) == 659_272
    assert (shapes["pool1"], shapes["pool2"], shapes["pool5"]) == ((1, 96, 27, 27), (1, 256, 13, 13), (1, 256, 6, 6))


def test_alexnet_paths():
    assert list(outputs(build("alexnet"), "1x3x227x227")) == (
        "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
        "flatten fc6 relu6 dropout6 fc7 relu7 dropout7 fc8"
    ).split(" ")


def test_alexnet_at_224():
    """224 with padding 2 gives the 55×55 of the paper; without it 54×54, and fc6 does not fit."""
    assert outputs(build("alexnet", padding=2), "1x3x224x224")["conv1"] == (1, 96, 55, 55)
    with pytest.raises(RuntimeError):
        build("alexnet")(zeros("1x3x224x224"))


def test_vgg_paths():
    convs = [path for path in outputs(build("vgg16"), "1x3x224x224") if path.startswith("conv")]
    assert convs == [f"conv{g}_{i}" for g, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1)]
    assert "norm1_1" in outputs(build("vgg11-lrn"), "1x3x224x224")


@pytest.mark.parametrize(
    "name, shape",
    [
        ("inception-block", (1, 64 + 128 + 32 + 32, 28, 28)),
        ("inception-naive-block", (1, 64 + 128 + 32 + 192, 28, 28)),
        ("residual-block", (1, 64, 56, 56)),
        ("dense-block", (1, 23, 8, 8)),
        ("transition-block", (1, 10, 4, 4)),
        ("depthwise-separable-block", (1, 64, 112, 112)),
        ("rnn-cell", (5, 1, 4)),
        ("rnn", (5, 1, 4)),
        ("char-rnn", (5, 4)),
        ("char-rnn-embedding", (5, 4)),
    ],
)
def test_output_shape(name, shape):
    assert build(name)(zeros(ENTRIES[name].input)).shape == shape


# ---- torchvision, where it builds the same network ----

TORCHVISION = {
    "alexnet-owt": "alexnet",
    "vgg11": "vgg11",
    "vgg13": "vgg13",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50-v1.5": "resnet50",
    "resnet101-v1.5": "resnet101",
    "resnet152-v1.5": "resnet152",
    "densenet121": "densenet121",
    "densenet161": "densenet161",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "mobilenet-v2": "mobilenet_v2",
    "mobilenet-v3-large": "mobilenet_v3_large",
    "mobilenet-v3-small": "mobilenet_v3_small",
}


@pytest.mark.parametrize(
    "name, arguments, theirs",
    [(name, {}, {}) for name in TORCHVISION]
    + [
        (name, {"width": width}, {"width_mult": width})
        for name in ("mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small")
        for width in (0.35, 0.75, 1.4)
    ],
)
def test_torchvision_builds_the_same(name, arguments, theirs):
    ours = build(name, **arguments)
    with torch.device("meta"):
        other = torchvision.models.get_model(TORCHVISION[name], weights=None, **theirs).eval()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in other.parameters()]
    assert [b.shape for b in ours.buffers()] == [b.shape for b in other.buffers()]
    assert count_macs(ours, "1x3x224x224") == count_macs(other, "1x3x224x224")


def test_resnet_names_are_torchvisions():
    with torch.device("meta"):
        other = torchvision.models.resnet50(weights=None)
    assert list(build("resnet50").state_dict()) == list(other.state_dict())


def test_densenet_names_are_torchvisions():
    with torch.device("meta"):
        other = torchvision.models.densenet121(weights=None)
    assert list(build("densenet121").state_dict()) == list(other.state_dict())


# ---- the registry ----


def test_what_is_read_is_what_is_registered():
    for family in registry.FAMILIES:
        importlib.import_module(f"archscope.zoo.{family}")
    ours = {}
    for name, builder in registry.BUILDERS.items():
        function = getattr(builder, "func", builder)
        if function.__module__.startswith("archscope.zoo."):
            ours[name] = (
                function.__module__.rpartition(".")[2],
                function.__name__,
                {key: p.default for key, p in inspect.signature(builder).parameters.items()},
            )
    assert ours == {entry.name: (entry.family, entry.builder, entry.keys) for entry in ENTRIES.values()}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_is_complete(name):
    entry = ENTRIES[name]
    assert re.search(r"\b(19|20)\d\d\b", entry.paper)
    assert len(entry.layout) == len(entry.input.partition(":")[0].split("x"))
    assert all(isinstance(value, bool | int | float | str) for value in entry.keys.values())
    assert entry.input.split("x")[entry.layout.index("n")].partition(":")[0] == "1"


def test_catalogue_is_read_without_torch():
    code = (
        "import sys; from archscope.zoo import catalogue; print(len(catalogue.entries()));"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    root = Path(registry.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(ENTRIES)


# ---- the knobs ----


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if "num_classes" in entry.keys])
def test_num_classes(name):
    entry = ENTRIES[name]
    shape = replace_axis(entry.input, 2, 7) if name == "char-rnn" else entry.input  # its letters are its classes
    assert build(name, num_classes=7)(zeros(shape)).shape[-1] == 7


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if "in_channels" in entry.keys])
def test_in_channels(name):
    assert build(name, in_channels=2)(zeros(input_of(f"{name}@in_channels=2"))).shape[0] == 1


@pytest.mark.parametrize("name", ENTRIES)
def test_batch(name):
    """A batch of 3 comes out as a batch of 3: nothing is tied to the batch size, and it is where the layout says."""
    entry = ENTRIES[name]
    single = build(name)(zeros(entry.input))
    batch = build(name)(zeros(replace_axis(entry.input, entry.layout.index("n"), 3)))
    assert batch.numel() == 3 * single.numel()


@pytest.mark.parametrize(
    "spec, shape",
    [
        ("lenet@batch_norm=true", (1, 10)),
        ("vgg16@ratio=16@fc_width=100", (1, 1000)),
        ("vgg11@configuration=A-LRN", (1, 1000)),
        ("resnet18@depth=34", (1, 1000)),
        ("resnet50@v1_5=true@num_classes=5", (1, 5)),
        ("densenet121@depth=169", (1, 1000)),
        ("googlenet@aux=true@num_classes=3@in_channels=1", (1, 3)),
        ("mobilenet-v1@width=0.3", (1, 1000)),
        ("mobilenet-v1-d2l@width=0.5@activation=relu6", (1, 10)),
        ("mobilenet-v2@width=0.1", (1, 1000)),
        ("mobilenet-v3-large@size=small@width=2.0", (1, 1000)),
        ("rnn-cell@hidden_size=7", (5, 1, 7)),
        ("rnn@hidden_size=6@bidirectional=true", (5, 1, 12)),
        ("lstm@num_layers=3", (5, 1, 4)),
        ("gru@num_layers=2@bidirectional=true", (5, 1, 8)),
        ("char-rnn-embedding@vocabulary=26@dimension=3@hidden=5@num_layers=1@num_classes=26", (5, 26)),
        ("gru-classifier@vocabulary=30@hidden=20@num_layers=3@bidirectional=true", (1, 18)),
        ("inception-block@c1=1@c2_reduce=2@c2=3@c3_reduce=4@c3=5@c4=6", (1, 1 + 3 + 5 + 6, 28, 28)),
        ("inception-naive-block@c1=1@c2=2@c3=3", (1, 1 + 2 + 3 + 192, 28, 28)),
        ("residual-block@channels=128@stride=2", (1, 128, 28, 28)),
        ("dense-block@growth=4@layers=3", (1, 3 + 3 * 4, 8, 8)),
        ("transition-block@out_channels=5", (1, 5, 4, 4)),
        ("depthwise-separable-block@out_channels=48@stride=2@activation=relu6", (1, 48, 56, 56)),
    ],
)
def test_knobs(spec, shape):
    name, arguments = parse(spec)
    assert set(arguments) <= set(ENTRIES[name].keys)
    assert build(name, **arguments)(zeros(input_of(spec))).shape == shape


def test_activation_is_everywhere():
    kinds = {type(m).__name__ for m in build("mobilenet-v1", activation="relu6").modules()}
    assert "ReLU6" in kinds and "ReLU" not in kinds


@pytest.mark.parametrize(
    "name, key, value",
    [
        *((name, "num_classes", 0) for name, entry in ENTRIES.items() if "num_classes" in entry.keys),
        *((name, "in_channels", -1) for name, entry in ENTRIES.items() if "in_channels" in entry.keys),
        ("alexnet", "padding", -1),
        ("vgg16", "configuration", "F"),
        ("vgg16", "ratio", 0),
        ("vgg16", "ratio", 65),
        ("vgg16", "fc_width", 0),
        ("resnet18", "depth", 50),
        ("resnet50", "depth", 18),
        ("densenet121", "depth", 120),
        ("mobilenet-v1", "width", 0.0),
        ("mobilenet-v1", "width", -0.5),
        ("mobilenet-v1", "width", 0.01),
        ("mobilenet-v1", "width", float("inf")),
        ("mobilenet-v1", "activation", "gelu"),
        ("mobilenet-v2", "width", 0.0),
        ("mobilenet-v3-small", "width", float("nan")),
        ("mobilenet-v3-small", "size", "medium"),
        ("rnn", "num_layers", 0),
        ("lstm", "hidden_size", 0),
        ("gru", "input_size", 0),
        ("gru-classifier", "vocabulary", 0),
        ("char-rnn-embedding", "dimension", 0),
        ("dense-block", "growth", 0),
        ("depthwise-separable-block", "activation", "tanh"),
    ],
)
def test_bad_knobs(name, key, value):
    with pytest.raises(ValueError, match=f"^{key} must [^.]*not [^ ]+$|^{key} must .* does not$"):
        build(name, **{key: value})
