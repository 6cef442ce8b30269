"""A forward that fails on a shape: the two numbers, where they come from, and what would work."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from archscope import ShapeError, TraceError, load, trace
from archscope.doctor import diagnose, fitting
from archscope.spec import parse


def told(spec: str, input: str, train: bool = False) -> str:
    """What is said when this model refuses this input."""
    model, inputs = load(spec, input)
    with pytest.raises(ShapeError) as caught:
        trace(model, inputs, name=spec, train=train)
    return diagnose(caught.value, parse(spec), model, inputs, train)


def runs(spec: str, side: int) -> bool:
    model, inputs = load(spec, str(side))
    try:
        trace(model, inputs)
    except ShapeError:
        return False
    return True


def test_alexnet_at_224() -> None:
    assert told("alexnet", "224") == (
        "fc6 (Linear) expects 9216 = 256·6·6 features, gets 6400 = 256·5·5; "
        "inputs of side 227 to 258 work, or a layer with in_features=6400"
    )


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
        assert f"inputs of side {low} to {high} work, or a layer with in_features=" in told(spec, str(side))
    assert [runs(spec, side) for side in (low - 1, low, high, high + 1)] == [False, True, True, False]


def test_an_input_smaller_than_a_window() -> None:
    assert told("alexnet", "10").endswith("; inputs of side 227 to 258 work")
    assert told("nin", "10").endswith("; inputs of side 67 or more work")
    assert [runs("nin", side) for side in (66, 67, 68, 500)] == [False, True, True, True]
    assert told("densenet121", "20").endswith("; inputs of side 29 or more work")


def test_training_mode_is_diagnosed_in_training_mode() -> None:
    assert "aux1" in told("googlenet@aux=true", "64", train=True)
    assert told("googlenet@aux=true", "64", train=True).endswith("; inputs of side 209 to 256 work")


def test_an_input_that_is_not_square() -> None:
    said = told("alexnet", "3x224x300")
    assert "gets 10240 = 256·5·8; inputs of side 227 to 258 work" in said


def test_a_batch_does_not_matter() -> None:
    assert told("alexnet", "8x3x224x224") == told("alexnet", "224")


def test_channels() -> None:
    assert told("alexnet", "1x227x227").endswith("`alexnet@in_channels=1` takes 1")
    assert told("alexnet@num_classes=10", "5x10x10").endswith("`alexnet@in_channels=5@num_classes=10` takes 5")
    assert told("lenet@in_channels=2", "1x28x28").endswith("`lenet@in_channels=1` takes 1")
    assert told("inception-block", "64x28x28").endswith("takes 64")


def test_every_remedy_works() -> None:
    for spec, input in (("alexnet@in_channels=1", "1x227x227"), ("alexnet@in_channels=5@num_classes=10", "5x227x227")):
        assert trace(*load(spec, input)).layers[0].outputs


class Flat(nn.Module):
    def __init__(self, features: int, side: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
        self.fc = nn.Linear(features, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.conv(x)).flatten(1))


def refused(model: nn.Module, shape: tuple[int, ...]) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        trace(model, [shape])
    return caught.value


def test_a_layer_that_no_input_fits() -> None:
    """The features never depend on the input: only another layer helps."""
    model = Flat(100, side=2)
    said = diagnose(refused(model, (1, 3, 10, 10)), parse("lenet"), model, (torch.empty(1, 3, 10, 10),))
    assert said == "fc (Linear) expects 100 features, gets 32 = 8·2·2; it would take a layer with in_features=32"


def test_features_that_are_no_square_map() -> None:
    model = Flat(100)
    said = diagnose(refused(model, (1, 3, 10, 10)), parse("lenet"), model, (torch.empty(1, 3, 10, 10),))
    assert said == "fc (Linear) expects 100 features, gets 512 = 8·8·8; it would take a layer with in_features=512"


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
