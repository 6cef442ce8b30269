"""A forward that fails on a shape: the two numbers, where they come from, and what would work."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from archscope import ShapeError, TraceError, load, trace
from archscope.shapes.case import FailureCase
from archscope.shapes.doctor import Diagnosis, diagnose, examined, fitting, ranges
from archscope.shapes.resize import ResizableModel
from archscope.sources.spec import parse


def told(spec: str, input: str, train: bool = False) -> str:
    """What is said when this model refuses this input."""
    model, inputs = load(spec, input)
    with pytest.raises(ShapeError) as caught:
        trace(model, inputs, name=spec, train=train)
    return diagnose(caught.value, parse(spec))


def runs(spec: str, side: int) -> bool:
    model, inputs = load(spec, str(side))
    try:
        trace(model, inputs)
    except ShapeError:
        return False
    return True


def refused(model: nn.Module, *inputs: Any) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        trace(model, inputs)
    return caught.value


def found(model: nn.Module, *inputs: Any) -> Diagnosis:
    """The diagnosis of a model that refuses these inputs."""
    return examined(refused(model, *inputs))


# ------------------------------------------------------------------------------------------- networks of the zoo


def test_alexnet_at_224() -> None:
    assert told("alexnet", "224") == (
        "fc6 (Linear) expects 9216 = 256·6·6 features, gets 6400 = 256·5·5 after pool5; "
        "inputs of side 227 to 258 work, or conv1 with padding=2, or fc6 with in_features=6400"
    )
    assert runs("alexnet@padding=2", 224)


FIXED = [
    ("alexnet", 227, 258),
    ("alexnet@padding=2", 223, 254),
    ("vgg16", 224, 255),
    ("lenet", 28, 31),
    ("lenet-bn", 28, 31),
    ("mnist-cnn", 28, 31),
    ("basic-cnn", 28, 31),
]


@pytest.mark.parametrize(("spec", "low", "high"), FIXED)
def test_the_sizes_that_work_work(spec: str, low: int, high: int) -> None:
    for side in (low - 1, high + 1):
        said = told(spec, str(side))
        assert f"inputs of side {low} to {high} work, or " in said and " with in_features=" in said
    assert [runs(spec, side) for side in (low - 1, low, high, high + 1)] == [False, True, True, False]


def test_an_input_smaller_than_a_window() -> None:
    assert told("alexnet", "10") == (
        "conv1 (Conv2d) has a window of 11, which does not fit 10; inputs of side 227 to 258 work"
    )
    assert told("nin", "10").endswith("; inputs of side 67 or more work")
    assert told("nin", "60").startswith("pool3 (MaxPool2d) has a window of 3, which does not fit 2 after ")
    assert [runs("nin", side) for side in (66, 67, 68, 500)] == [False, True, True, True]
    assert told("densenet121", "20").endswith("; inputs of side 29 or more work")


def test_training_mode_is_diagnosed_in_training_mode() -> None:
    said = told("googlenet@aux=true", "64", train=True)
    assert said.startswith("aux1.") and "inputs of side 209 to 256 work" in said


def test_an_input_that_is_not_square() -> None:
    said = told("alexnet", "3x224x300")
    assert "gets 10240 = 256·5·8 after pool5; inputs of side 227 to 258 work" in said


def test_a_batch_does_not_matter() -> None:
    assert told("alexnet", "8x3x224x224") == told("alexnet", "224")


def test_channels_of_the_input() -> None:
    said = told("alexnet", "1x227x227")
    assert said.startswith("conv1 (Conv2d) expects 3 channels, gets 1 from the input; `alexnet@in_channels=1` takes 1")
    assert "an input of 3 channels works" in said
    assert "`alexnet@in_channels=5@num_classes=10` takes 5" in told("alexnet@num_classes=10", "5x10x10")
    assert "`lenet@in_channels=1` takes 1" in told("lenet@in_channels=2", "1x28x28")
    for spec, input in (("alexnet@in_channels=1", "1x227x227"), ("alexnet@in_channels=5@num_classes=10", "5x227x227")):
        assert trace(*load(spec, input)).layers[0].outputs


# -------------------------------------------------------------------------------------------- a user's own networks


class Flat(nn.Module):
    def __init__(self, features: int, side: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
        self.fc = nn.Linear(features, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.conv(x))
        return self.fc(x.flatten(1))


LINE = "return self.fc(x.flatten(1))"


def line_of(text: str) -> int:
    """Where the first line that ends so stands in this file."""
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, start=1) if line.rstrip().endswith(text))


def test_a_layer_that_no_input_fits() -> None:
    """The features never depend on the input: only another layer helps."""
    one = found(Flat(100, side=2), (1, 3, 10, 10))
    assert one.clash == "fc (Linear) expects 100 features, gets 32 = 8·2·2 after pool"
    assert one.mends == ("fc with in_features=32",)
    assert one.sentence.endswith("; fc with in_features=32 works")
    assert one.place.endswith(f"test_doctor.py:{line_of(LINE)}")


def test_features_that_are_no_square_map() -> None:
    one = found(Flat(100), (1, 3, 10, 10))
    assert one.clash == "fc (Linear) expects 100 features, gets 512 = 8·8·8 after conv"
    assert one.mends == ("fc with in_features=512",)


def test_the_example_of_the_issue() -> None:
    """basic-cnn at 60: ((60 − 4)/2 − 4)/2 = 12; the map that fits is 4·4."""
    net = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(320, 10))
    one = found(net, (1, 1, 28, 28))
    assert one.clash == "3 (Linear) expects 320 = 20·4·4 features, gets 2880 = 20·12·12 after 1"
    assert one.mends == ("inputs of side 12 to 13 work", "3 with in_features=2880")


def test_the_chain_up_to_the_failure() -> None:
    one = found(Flat(100), (2, 3, 10, 10))
    (chain,) = one.chains
    assert [(row["path"], row["formula"], row["output_shape"]) for row in chain.rows] == [
        ("conv", "⌊(10 − 3 + 2·0)/1⌋ + 1 = 8", (2, 8, 8, 8)),
        ("flatten", "8·8·8 = 512", (2, 512)),
    ]
    text = refused(Flat(100), (2, 3, 10, 10)).explain()
    assert text.index("⌊(10 − 3 + 2·0)/1⌋ + 1 = 8") < text.index("gets 512 = 8·8·8 after conv")
    assert "What would mend it:\n· fc with in_features=512\n" in text


class Chain(nn.Sequential):
    """Layers by name, with the last input left as it comes."""


def named(**layers: nn.Module) -> nn.Sequential:
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


MISMATCHES: list[tuple[str, nn.Module, Any, str, tuple[str, ...]]] = [
    (
        "channels",
        named(conv1=nn.Conv2d(3, 32, 3), relu=nn.ReLU(), conv2=nn.Conv2d(16, 8, 3)),
        (1, 3, 9, 9),
        "conv2 (Conv2d) expects 16 channels, gets 32 from conv1",
        ("conv2 with in_channels=32", "conv1 with out_channels=16"),
    ),
    (
        "batch norm",
        named(conv=nn.Conv2d(3, 32, 3), bn=nn.BatchNorm2d(64)),
        (1, 3, 9, 9),
        "bn (BatchNorm2d) expects 64 channels, gets 32 from conv",
        ("bn with num_features=32",),
    ),
    (
        "features",
        named(fc1=nn.Linear(100, 120), relu=nn.ReLU(), fc2=nn.Linear(128, 10)),
        (2, 100),
        "fc2 (Linear) expects 128 features, gets 120 from fc1",
        ("fc2 with in_features=120",),
    ),
    (
        "no flatten",
        named(conv=nn.Conv2d(1, 4, 3), fc=nn.Linear(4 * 6 * 6, 10)),
        (1, 1, 8, 8),
        "fc (Linear) expects 144 features, gets a map of 4×6×6 after conv: it takes the last axis, 6, for the "
        "features, and 144 = 4·6·6",
        ("x.flatten(1) before fc",),
    ),
    (
        "no flatten and another size",
        named(conv=nn.Conv2d(1, 4, 3), fc=nn.Linear(144, 10)),
        (1, 1, 9, 9),
        "fc (Linear) expects 144 features, gets a map of 4×7×7 after conv that is not flattened: it takes the last "
        "axis, 7, for the features",
        ("x.flatten(1) before fc, with in_features=196",),
    ),
    (
        "no batch",
        named(conv=nn.Conv2d(1, 4, 3), flatten=nn.Flatten(), fc=nn.Linear(144, 10)),
        (1, 8, 8),
        "the input 1×8×8 has no batch axis",
        ("an input of 1×1×8×8 works",),
    ),
    (
        "no batch and no channels",
        named(conv=nn.Conv2d(1, 4, 3), flatten=nn.Flatten(), fc=nn.Linear(144, 10)),
        (8, 8),
        "the input 8×8 has no batch and no channel axis",
        ("an input of 1×1×8×8 works",),
    ),
    (
        "channels last",
        named(conv=nn.Conv2d(3, 4, 3)),
        (2, 8, 8, 3),
        "conv (Conv2d) expects 3 channels on axis 1, the input 2×8×8×3 has them last",
        ("x.permute(0, 3, 1, 2), which gives 2×3×8×8",),
    ),
    (
        "layer norm",
        named(conv=nn.Conv2d(3, 8, 3), norm=nn.LayerNorm([8, 30, 30])),
        (1, 3, 48, 48),
        "norm (LayerNorm) normalises the last axes 8×30×30, gets 1×8×46×46 after conv",
        ("an input of side 32 works", "norm with normalized_shape=[8, 46, 46]"),
    ),
    (
        "a sequence of positions",
        named(c=nn.Conv1d(4, 8, 5, 2), flatten=nn.Flatten(), fc=nn.Linear(80, 2)),
        (1, 4, 60),
        "fc (Linear) expects 80 = 8·10 features, gets 224 = 8·28 after c",
        ("inputs of length 23 to 24 work", "fc with in_features=224"),
    ),
    (
        "a pool without room",
        named(conv=nn.Conv2d(3, 4, 5), pool=nn.MaxPool2d(4)),
        (1, 3, 7, 7),
        "pool (MaxPool2d) has a window of 4, which does not fit 3 after conv",
        ("inputs of side 8 or more work",),
    ),
]


@pytest.mark.parametrize(
    ("model", "shape", "clash", "mends"), [c[1:] for c in MISMATCHES], ids=[c[0] for c in MISMATCHES]
)
def test_clashes(model: nn.Module, shape: Any, clash: str, mends: tuple[str, ...]) -> None:
    before = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    one = found(model, shape)
    assert (one.clash, one.mends) == (clash, mends)
    assert {name: tuple(p.shape) for name, p in model.state_dict().items()} == before  # all is as it was


class Letters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(26, 16), nn.LSTM(32, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.embedding(x))[0]


def test_a_recurrent_layer() -> None:
    one = found(Letters(), torch.zeros(1, 7, dtype=torch.int64))
    assert one.clash == "rnn (LSTM) expects 32 features a step, gets 16 from embedding"
    assert one.mends == ("rnn with input_size=16",)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.a(x), self.b(x)], 1)


def test_branches_that_do_not_meet() -> None:
    one = found(Joined(), (1, 3, 32, 32))
    assert one.clash == (
        "Joined: cat cannot join 1×8×32×32 (a) and 1×8×30×30 (b): rows 32 against 30, columns 32 against 30"
    )
    assert one.mends == ("b with padding=1",)
    assert [[row["path"] for row in chain.rows] for chain in one.chains] == [["a"], ["b"]]


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.conv(x) + x


def test_a_shortcut_without_its_convolution() -> None:
    one = found(Shortcut(), (1, 3, 16, 16))
    assert one.clash == (
        "Shortcut: add cannot join 1×6×8×8 (conv) and 1×4×16×16 (stem): channels 6 against 4, rows 8 against 16, "
        "columns 8 against 16"
    )
    assert one.mends == ("a shortcut Conv2d(4, 6, 1, stride=2) for the 4×16×16",)
    made = nn.Conv2d(4, 6, 1, stride=2)(torch.empty(1, 4, 16, 16))
    assert made.shape == (1, 6, 8, 8)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.up(self.pool(self.up(self.pool(self.pool(x)))))], 1)


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.up = nn.MaxPool2d(4), nn.ConvTranspose2d(1, 1, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.up(self.pool(x)), x], 1)


def test_sizes_at_which_branches_meet() -> None:
    one = found(Unet(), (1, 1, 102, 102))
    assert one.mends == ("inputs of side 4, 8, 12, … (every 4) work",)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.positions = nn.Conv2d(3, 6, 8, 8), nn.Parameter(torch.zeros(1, 16, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patch(x).flatten(2).transpose(1, 2) + self.positions


def test_a_table_of_positions() -> None:
    one = found(Tokens(), (1, 3, 48, 48))
    assert one.clash == ("Tokens: add cannot join 1×36×6 (transpose) and 1×16×6 (positions): tokens 36 against 16")
    assert one.mends == ("inputs of side 32 to 39 work", "positions of shape 1×36×6")


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).view(-1, 144)


def test_a_view_that_does_not_part() -> None:
    """PyTorch's own kernel refuses this one: 4·7·7 = 196 are no rows of 144."""
    one = found(Viewed(), (1, 1, 9, 9))
    assert one.clash == "Viewed: view(-1, 144) asks for rows of 144, gets 196 = 1·4·7·7 after conv"
    assert one.mends == ("an input of side 8 works", "196 in the place of 144")


class Strange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)


def test_what_nobody_foresaw_keeps_its_own_sentence() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU(2))
    error = refused(model, (1, 3, 9, 9))
    assert diagnose(error) == str(error)
    assert "axis 2 of 1×4×7×7 cannot be halved" in error.explain()


def test_a_failure_without_a_run() -> None:
    assert diagnose(ShapeError("no")) == "no"
    assert ShapeError("no").explain() == "no"


def test_every_remedy_runs() -> None:
    """What is named was tried: each of these models comes through once the remedy is applied by hand."""
    assert trace(Flat(512), [(1, 3, 10, 10)])
    net = named(conv1=nn.Conv2d(3, 32, 3), relu=nn.ReLU(), conv2=nn.Conv2d(32, 8, 3))
    assert trace(net, [(1, 3, 9, 9)])
    assert trace(named(c=nn.Conv1d(4, 8, 5, 2), flatten=nn.Flatten(), fc=nn.Linear(80, 2)), [(1, 4, 23)])
    assert trace(Tokens(), [(1, 3, 39, 39)]) and trace(Unet(), [(1, 1, 104, 104)])


def test_a_remedy_that_does_not_work_is_not_named() -> None:
    """A second mistake behind the first: padding would bring b up, but then the sum fails too."""
    case = FailureCase.of(refused(Joined(), (1, 3, 32, 32)))
    assert case.rebuilt("b", kernel_size=1) and not case.rebuilt("b", kernel_size=5)
    assert isinstance(case.model, ResizableModel) and not case.tried(case.model.changed("b", padding=2))


def test_ranges_in_words() -> None:
    assert ranges([227]) == "an input of side 227"
    assert ranges(range(227, 259)) == "inputs of side 227 to 258"
    assert ranges([16, 32, 48, 64]) == "inputs of side 16, 32, 48, … (every 16)"
    assert ranges([3, 4, 8]) == "inputs of side 3, 4 and 8"


# ------------------------------------------------------------------------------------------------------- the command


def test_any_command_tells_it(archscope: Any, tmp_path: Any) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv1, self.pool1, self.fc = nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Linear(320, 10)\n"
        "    def forward(self, x):\n"
        "        x = self.pool1(self.conv1(x))\n"
        "        return self.fc(x.flatten(1))\n",
        encoding="utf-8",
    )
    for command in ("trace", "explain"):
        ran = archscope(command, f"{tmp_path}/nets.py:Net", "--input", "1x1x28x28")
        assert ran.code == 1
        last = ran.err.splitlines()[-1]
        assert last == (
            f"archscope: fc (Linear) expects 320 = 20·4·4 features, gets 2880 = 20·12·12 after pool1, "
            f"at {tmp_path}/nets.py:9; inputs of side 12 to 13 work, or fc with in_features=2880"
        )
        assert "⌊(28 − 5 + 2·0)/1⌋ + 1 = 24" in ran.out + ran.err
        assert (ran.out + ran.err).count("⌊(28 − 5 + 2·0)/1⌋ + 1 = 24") == 1  # told once


# --------------------------------------------------------------------------------------------------- the search


def steps(*accepted: int, too_large: bool = True) -> Callable[[int], None]:
    """A model that takes these sides only."""

    def run(side: int) -> None:
        if side not in accepted:
            above = too_large and side > max(accepted)
            raise ShapeError("no", expected=1, got=2 if above else 0)

    return run


def test_ranges_are_found() -> None:
    assert fitting(steps(*range(227, 259))) == (227, 258)
    assert fitting(steps(7)) == (7, 7)
    assert fitting(steps(1, 2, 3)) == (1, 3)
    assert fitting(steps(*range(29, 20000))) == (29, None)


def test_nothing_is_claimed_that_was_not_seen() -> None:
    assert fitting(steps(*range(32, 20000, 32), too_large=False)) is None  # every 32nd side
    assert fitting(steps(*range(200, 20000, 2))) is None

    def never(side: int) -> None:
        raise ShapeError("no")

    def broken(side: int) -> None:
        raise TraceError("of another kind")

    assert fitting(never) is None
    assert fitting(broken) is None


class Behind(nn.Module):
    """A convolution of 9 channels behind a function, which is no module that could be built otherwise."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 4, 3), nn.Conv2d(9, 4, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.function(self.a(x)))


FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "cat": (lambda x: torch.cat([x, x], 1), 2 * 4),
    "pad": (lambda x: nn.functional.pad(x, (1, 1)), 4),
    "slice": (lambda x: x[:, :2], 2),
    "upsample_nearest2d": (lambda x: nn.functional.interpolate(x, scale_factor=2), 4),
    "pixel_shuffle": (lambda x: nn.functional.pixel_shuffle(x, 2), 4 // 2**2),
    "permute": (lambda x: x.permute(0, 2, 3, 1), 16 - 3 + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_convolution_behind_a_function(name: str) -> None:
    function, channels = FUNCTIONS[name]
    said = found(Behind(function), (1, 3, 16, 16)).sentence
    parts = " = 4 + 4" if name == "cat" else ""
    assert f"b (Conv2d) expects 9 channels, gets {channels}{parts} from {name}" in said
    # after a permutation axis 1 holds no channels: another number of them would change what the layer means
    assert (f"b with in_channels={channels} works" in said) is (name != "permute")


def test_an_operator_that_works_in_place_on_the_input() -> None:
    """It gives the tensor that it got: the way back to the input ends there."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.relu_())

    with pytest.raises(ShapeError) as error:
        trace(Net(), torch.zeros(2, 9))
    assert "9" in error.value.explain(100)
