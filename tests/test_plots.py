"""Plots: their numbers are the traces', labels do not cover each other, the same numbers give the same bytes."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from archscope import SpecError, Trace
from archscope.report.grid import grid_of
from archscope.report.labels import Circle, placed
from archscope.report.plots import PLOTS, color_of, digest, group_of, numbers_of, picture, plot_of
from archscope.sources.spec import expand

pytest.importorskip("matplotlib", reason="plots need matplotlib")

FEW = ("lenet", "alexnet", "resnet18")
OF_MODELS = [name for name, plot in PLOTS.items() if plot.of == "models"]


@pytest.fixture(scope="module")
def numbers(traced: Callable[..., Trace]) -> dict[str, Any]:
    """The numbers of every plot of a few networks."""
    traces = [traced(name) for name in FEW]
    return {name: numbers_of(name, grid_of(expand(["lenet"])) if name == "scaling" else traces) for name in OF_MODELS}


def test_parameters_against_macs(numbers: dict[str, Any]) -> None:
    found = {m["model"]: m for m in numbers["models"]["models"]}
    assert found["alexnet"]["params"] == 60_965_224 and found["alexnet"]["macs"] == 724_406_816
    assert set(found) == set(FEW)


def test_bars_layer_by_layer(numbers: dict[str, Any]) -> None:
    """Krizhevsky et al. 2012: 11·11·3·96 + 96 parameters on 55·55 places; the last three are fully connected."""
    alexnet = next(m for m in numbers["layers"]["models"] if m["model"] == "alexnet")
    at = alexnet["paths"].index("conv1")
    assert alexnet["params"][at] == 11 * 11 * 3 * 96 + 96
    assert alexnet["macs"][at] == 55 * 55 * 11 * 11 * 3 * 96
    assert alexnet["activations"][at] == 4 * 96 * 55 * 55
    assert [p for p, g in zip(alexnet["paths"], alexnet["groups"], strict=True) if g == "fc"] == ["fc6", "fc7", "fc8"]


def test_shares_of_convolutions_and_fully_connected_layers(numbers: dict[str, Any]) -> None:
    lenet = next(m for m in numbers["share"]["models"] if m["model"] == "lenet")
    conv, fc = 5 * 5 * 1 * 6 + 6 + 5 * 5 * 6 * 16 + 16, (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert lenet["params"] == {"conv": conv, "fc": fc, "recurrent": 0, "other": 0}
    assert lenet["macs"]["conv"] == 28 * 28 * 25 * 6 + 10 * 10 * 25 * 6 * 16


def test_receptive_field_over_depth(numbers: dict[str, Any]) -> None:
    """LeNet: 5; pooling 2/2 adds 1; 5×5 at a stride of 2 adds 8; pooling adds 2: 5, 6, 14, 16."""
    lenet = next(m for m in numbers["field"]["models"] if m["model"] == "lenet")
    assert lenet["steps"] == [[0, 1], [1, 5], [1, 6], [2, 14], [2, 16]] and lenet["side"] == 28


def test_one_model_with_a_width_is_a_grid() -> None:
    """Howard et al. 2017, tables 6 and 7: α of 1, 0.75, 0.5, 0.25 and sides of 224, 192, 160, 128."""
    lines = {line["model"]: line for line in numbers_of("scaling", grid_of(expand(["mobilenet-v1"])))["lines"]}
    assert [m.partition("=")[2] for m in lines] == ["", "0.75", "0.5", "0.25"]
    assert [p[0] for p in lines["mobilenet-v1"]["points"]] == [128, 160, 192, 224]
    for line in lines.values():
        points = {side: macs for side, macs, _ in line["points"]}
        assert line["printed"], line["model"]
        for side, printed in line["printed"]:
            assert abs(points[side] - printed) <= 1_000_000  # printed in millions, some cut off


def test_sides_that_a_model_does_not_take() -> None:
    assert [t.inputs[0].shape[-1] for t in grid_of(expand(["alexnet"]), [224, 227, 300])] == [227]
    with pytest.raises(SpecError, match="alexnet takes none of the sides"):
        grid_of(expand(["alexnet"]), [224])
    with pytest.raises(SpecError, match="rnn has no side to change"):
        grid_of(expand(["rnn"]))


@pytest.mark.parametrize("name", OF_MODELS)
def test_the_same_numbers_give_the_same_bytes(name: str, numbers: dict[str, Any]) -> None:
    one, other = picture(name, numbers[name]), picture(name, numbers[name])
    assert one == other
    text = one.decode()
    assert f"archscope {name} {digest(numbers[name])}" in text
    assert not re.search(r"20\d\d-\d\d-\d\d|matplotlib v", text)
    root = ET.fromstring(text)
    patches = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if "fill: #ffffff" in p.get("style", "")]
    assert not patches, "the background is transparent"
    assert picture(name, numbers[name], "png").startswith(b"\x89PNG")


def test_another_number_is_another_digest(numbers: dict[str, Any]) -> None:
    data = {"models": [dict(m) for m in numbers["models"]["models"]]}
    assert digest(data) == digest(numbers["models"])
    data["models"][0]["macs"] += 1
    assert digest(data) != digest(numbers["models"])


def boxes(circles: list[Circle], size: float) -> list[tuple[float, float, float, float]]:
    """What each label covers, for a face whose letters are 0.6 wide."""
    spots = placed(circles, size, (0, 0, 1000, 800))
    return [
        (s.x, s.y - size / 2, s.x + 0.6 * size * len(c.name), s.y + size / 2)
        for c, s in zip(circles, spots, strict=True)
    ]


def test_labels_cover_neither_each_other_nor_the_edge() -> None:
    circles = [Circle(f"network-{i}", 500 + 13 * (i % 5), 400 + 9 * (i // 5), 5.0) for i in range(25)]
    found = boxes(circles, 10)
    for one, other in combinations(found, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    corner = boxes([Circle("a-long-name", 995, 795, 4.0)], 10)[0]
    assert corner[2] <= 1000 and corner[3] <= 800


def test_labels_of_all_networks_do_not_collide(traced: Callable[..., Trace]) -> None:
    """The texts of the drawn plot, by their own place and the width of their letters."""
    from archscope.zoo.catalogue import entries

    text = picture("models", numbers_of("models", [traced(name) for name in entries()])).decode()
    found = re.findall(r'<text style="font-size: 7.2px[^"]*" transform="translate\(([\d.]+) ([\d.]+)\)">([^<]+)<', text)
    found = found or re.findall(r'<text[^>]*7\.2px[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', text)
    assert len(found) >= 50
    rects = [(float(x), float(y) - 5.4, float(x) + 3.9 * len(name), float(y) + 0.6, name) for x, y, name in found]
    for one, other in combinations(rects, 2):
        wide, tall = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
        assert wide <= 1.5 or tall <= 1.5, (one[4], other[4])


def test_colors_and_groups() -> None:
    assert color_of("vgg16") == color_of("vgg11@num_classes=10") != color_of("resnet50")
    assert color_of("torchvision:resnet50") == "#767676"
    kinds = ("Conv2d", "Linear", "LSTM", "ReLU", "BatchNorm2d")
    assert [group_of(kind) for kind in kinds] == ["conv", "fc", "recurrent", "other", "other"]


def test_two_plots_of_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="models"):
        plot_of("models", "", lambda traces: {})(lambda figure, data: None)


def test_plot_writes_svg_and_png(archscope: Callable, tmp_path: Path) -> None:
    for ending, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        file = tmp_path / f"a.{ending}"
        assert archscope("plot", "layers", "lenet", "--output", str(file)).code == 0
        assert file.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("layer", "lenet", "-o", "a.svg"), "did you mean layers?"),
        (("layers", "lenet", "-o", "a.gif"), "--output ends in .svg, .png or .pdf"),
        (("layers", "all", "-o", "a.svg"), "takes 4 models at most, not 51: name fewer"),
        (("models", "lenet", "-o", "a.svg", "--sides", "28"), "--sides is for the plot scaling"),
        (("scaling", "lenet", "-o", "a.svg", "--input", "28"), "use --sides 128,160,192,224"),
        (("scaling", "lenet", "-o", "a.svg", "--sides", "28,x"), "--sides is a whole number"),
        (("models", "lenet", "-o", "nowhere/a.svg"), "there is no folder"),
    ],
)
def test_plot_says_what_to_type_instead(
    arguments: tuple[str, ...], said: str, archscope: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = archscope("plot", *arguments)
    assert ran.code == 2 and said in ran.err
    assert not list(tmp_path.iterdir())


def test_layers_are_counted_whole(traced: Callable[..., Trace]) -> None:
    text = picture("field", numbers_of("field", [traced("vgg16"), traced("resnet18")])).decode()
    ticks = re.findall(r">([\d.]+)</text>", text)
    assert "18" in ticks and "2.5" not in ticks and "17.5" not in ticks
