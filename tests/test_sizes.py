"""Legal input sizes: worked by hand, and against running every size."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archscope import trace
from archscope.analysis.boundaries import boundary_fixes
from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE, check
from archscope.core.errors import SpecError
from archscope.learn.input_sizes import answers, least_input, page, ranges, working
from archscope.shapes.legal import AllowedSizes, Bounds, by_formula, legal_sizes, preimage, side_of
from archscope.shapes.polynomial import letter, number
from archscope.shapes.resize import ResizableModel, lost_in, resized
from archscope.shapes.walk import Window

Command = Callable[..., Any]


def sizes(spec: str, limit: int | None = None) -> AllowedSizes:
    return legal_sizes(resized(spec), limit)


# -------------------------------------------------------------------------------------------------- worked by hand


def test_alexnet() -> None:
    """pool5 1 ← 3, pool2 3 ← 7, pool1 7 ← 15, conv1 15 ← 67; 6 ← 13..14 ← 27..30 ← 55..62 ← 227..258."""
    found = sizes("alexnet")
    assert found.minimum == 67
    assert found.fits == tuple(range(227, 259))
    # (m − 11)/4 whole and the three (… − 3)/2 too: one side in 4·2·2·2
    assert found.lossless == tuple(range(67, 513, 4 * 2 * 2 * 2))
    assert found.below == ("pool5", "would give 0×0")
    assert found.fixed is not None and (found.fixed.path, found.fixed.takes) == ("fc6", 256 * 6 * 6)
    assert [step.least for step in found.steps] == [
        (Bounds(1, None), Bounds(3, None)),
        (Bounds(3, None), Bounds(7, None)),
        (Bounds(7, None), Bounds(15, None)),
        (Bounds(15, None), Bounds(67, None)),
    ]
    assert [step.fixed for step in found.steps] == [
        (Bounds(6, 6), Bounds(13, 14)),
        (Bounds(13, 14), Bounds(27, 30)),
        (Bounds(27, 30), Bounds(55, 62)),
        (Bounds(55, 62), Bounds(227, 258)),
    ]
    assert {66, 67, 226, 227, 258, 259} <= set(found.run)


BY_HAND = [
    # spec, minimum, fits, the first sides that lose nothing
    ("lenet", 12, range(28, 32), (12, 16, 20)),  # 5·2 = 10..11, + 4 = 14..15, ·2 = 28..31
    ("vgg16", 32, range(224, 256), (32, 64, 96)),  # five halvings
    ("nin", 67, None, (67, 99, 131)),  # AlexNet's windows, and no fc
    ("mnist-cnn", 4, range(28, 32), (4, 8, 12)),  # 7·4 .. 7·4 + 3
    ("basic-cnn", 16, range(28, 32), (16, 20, 24)),  # (1·2 + 4)·2 + 4
    ("densenet121", 29, None, (29, 30, 31)),  # 1 ← 2 ← 4 ← 8 ← (8 − 1)·2 + 3 − 2 = 15 ← (15 − 1)·2 + 7 − 6
    ("alexnet-d2l", 65, range(193, 225), (65, 66, 97)),  # conv1 with padding 1: two less
    ("resnet18", 1, None, (1, 2, 3)),
    ("googlenet", 1, None, (1, 2, 3)),
    ("torchvision:squeezenet1_0", 21, None, (21, 23, 25)),
    ("gru-classifier", 1, None, (1, 2, 3)),
    ("char-rnn-embedding", 1, None, (1, 2, 3)),  # its output has a row for every step of every example
]


@pytest.mark.parametrize(("spec", "minimum", "fits", "first"), BY_HAND)
def test_by_hand(spec: str, minimum: int, fits: range | None, first: tuple[int, ...]) -> None:
    found = sizes(spec)
    assert (found.minimum, found.fits) == (minimum, None if fits is None else tuple(fits))
    assert found.lossless[:3] == first
    assert found.run and not found.searched


def test_the_way_back_is_the_way_forward() -> None:
    """What a window needs at the least gives what it must, and one less does not; with dilation and padding."""
    m = letter("m")
    for span, s, pad in ((11, 4, 0), (3, 2, 1), (5, 1, 2), (7, 3, 0), (2, 2, 0)):
        for o in (1, 2, 6, 55):
            form = (m + (2 * pad - span)) // s + 1
            low = least_input(Window(0, -1, m, form, span, s, pad, False), o).value
            assert preimage(form, "m", Bounds(o, o)) == (max(low, 1), low + s - 1)
            assert form.value({"m": low}) == o and form.value({"m": low - 1}) == o - 1
            up = (m + (2 * pad - span + s - 1)) // s + 1
            low = least_input(Window(0, -1, m, up, span, s, pad, True), o).value
            assert up.value({"m": low}) == o and up.value({"m": low - 1}) == o - 1


def test_the_side_of_a_product() -> None:
    assert side_of(256 * letter("h4") * letter("w4"), 9216) == 6
    assert side_of(letter("h1") * letter("w1") + 1, 197) == 14
    assert side_of(8 * letter("h1") * letter("w1"), 100) is None  # 12.5
    assert side_of(letter("t1") + number(3), 10) == 7


# -------------------------------------------------------------------------------------------------- user's networks


class UNet(nn.Module):
    """Two levels down and up: the sides must part by 4."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.deep = (
            nn.Conv2d(1, 2, 3, padding=1),
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1),
        )
        self.up2, self.up1 = nn.ConvTranspose2d(4, 4, 2, 2), nn.ConvTranspose2d(8, 2, 2, 2)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        b = torch.cat([self.up2(self.deep(self.pool(b))), b], 1)
        return torch.cat([self.up1(b), a], 1)


class Positions(nn.Module):
    """A transformer's head: patches of 8, one token, a table of 4·4 + 1 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 8, 8)
        self.token, self.table = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 17, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.table


class Rows(nn.Module):
    """`x.view(-1, 18)`: at side 12 the same run makes four examples of one."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(18, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(x).view(-1, 18))


class Even(nn.Module):
    """Takes even sides only, from 6 on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 2 or x.shape[-1] < 6:
            raise RuntimeError("only even sides, please")
        return x * 2


class LastStep(nn.Module):
    """[N, T, 16] into an LSTM, and its last step into a layer: any number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class ChannelsLast(nn.Module):
    """Two windows of 3 on [N, H, W, 3]: from 5 on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.permute(0, 3, 1, 2))


def test_the_axis_that_moves_is_that_of_steps_or_sides() -> None:
    found = legal_sizes(ResizableModel(LastStep(), [torch.empty(1, 20, 16)], name="last step"), 64)
    assert (found.side, found.default, found.minimum, found.fits) == ("length", 20, 1, None)
    found = legal_sizes(ResizableModel(ChannelsLast(), [torch.empty(1, 20, 20, 3)], name="channels last"), 64)
    assert (found.side, found.default, found.minimum, found.fits) == ("side", 20, 5, None)


def test_branches_that_meet() -> None:
    found = legal_sizes(ResizableModel(UNet(), [torch.empty(1, 1, 100, 100)], name="unet"), 64)
    assert found.minimum == 4
    assert found.fits == tuple(range(4, 65, 4))
    found = legal_sizes(
        ResizableModel(UNet(), [torch.empty(1, 1, 99, 99)], name="unet"), 64
    )  # its own input does not fit
    assert found.fits == tuple(range(4, 65, 4))


def test_positions() -> None:
    found = legal_sizes(ResizableModel(Positions(), [torch.empty(1, 3, 32, 32)], name="positions"))
    assert (found.minimum, found.fits) == (8, tuple(range(32, 40)))
    assert found.lossless == tuple(range(8, 513, 8))


class Table(nn.Module):
    """Sixteen positions, and no token: at side 8 PyTorch spreads the one patch over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.table = nn.Conv2d(3, 6, 8, 8), nn.Parameter(torch.zeros(1, 16, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patch(x).flatten(2).transpose(1, 2) + self.table


def test_what_runs_by_broadcasting_does_not_fit() -> None:
    model = ResizableModel(Table(), [torch.empty(1, 3, 32, 32)], name="table")
    assert model.at(8).error is None and model.at(16).error is not None
    found = legal_sizes(model)
    assert (found.minimum, found.fits, found.searched) == (8, tuple(range(32, 40)), "")


def test_a_view_that_makes_other_examples() -> None:
    model = ResizableModel(Rows(), [torch.empty(1, 2, 6, 6)], name="rows")
    assert model.at(12).error is None  # 2·6·6 = 72 = 4·18: four rows of one example
    assert not model.works(model.at(12)) and model.works(model.at(6))
    found = legal_sizes(model)
    assert (found.fits, found.searched) == ((6, 7), "")


def test_a_forward_that_decides_by_the_size_is_run_at_every_size() -> None:
    found = legal_sizes(ResizableModel(Even(), [torch.empty(1, 3, 8, 8)], name="even"), 20)
    assert (found.minimum, found.fits) == (6, (6, 8, 10, 12, 14, 16, 18, 20))
    assert "every size was run" in found.searched
    assert found.below is not None and "only even sides" in found.below[1]


def test_loops_over_a_sequence_are_run() -> None:
    found = sizes("rnn-cell", 12)
    assert (found.minimum, found.fits, found.lossless) == (1, None, tuple(range(1, 13)))
    assert "unbind" in found.searched


def test_no_side_can_be_set() -> None:
    with pytest.raises(SpecError, match="takes 1×4: no side of it can be set"):
        legal_sizes(ResizableModel(nn.Linear(4, 2), [torch.empty(1, 4)], name="fc"))


def test_three_dimensions() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3, 2), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(2 * 2 * 2 * 2, 3))
    found = legal_sizes(ResizableModel(net, [torch.empty(1, 1, 10, 10, 10)], name="video"), 40)
    # 1 ← 2 ← (2 − 1)·2 + 3 = 5; 2 ← 4..5 ← 9..12
    assert (found.minimum, found.fits, found.lossless[:3]) == (5, (9, 10, 11, 12), (5, 9, 13))


def test_the_frames_of_a_video_stay_as_they_are() -> None:
    """A stride of 2 over 16 frames leaves one out, whatever the pictures are."""
    net = nn.Conv3d(1, 2, (1, 3, 3), 2)
    found = legal_sizes(ResizableModel(net, [torch.empty(1, 1, 16, 9, 9)], layout="ncthw", name="frames"), 9)
    assert (found.minimum, found.fits, found.lossless, found.searched) == (3, None, (3, 5, 7, 9), "")


# ------------------------------------------------------------------------------------------------- against every run


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_against_running_every_size(data: st.DataObject) -> None:
    """Random windows with a fully connected layer behind: the three answers are those of running sides 1 to 40."""
    layers: list[nn.Module] = []
    for _ in range(data.draw(st.integers(1, 4))):
        k, s = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
        pad = data.draw(st.integers(0, k // 2))
        kind = data.draw(st.sampled_from("conv max ceil".split()))
        if kind == "conv":
            layers.append(nn.Conv2d(1, 1, k, s, pad, dilation=data.draw(st.integers(1, 2))))
        else:
            layers.append(nn.MaxPool2d(k, s, pad, ceil_mode=kind == "ceil"))
    o = data.draw(st.integers(1, 5))
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(o * o, 2))
    model = ResizableModel(net, [torch.empty(1, 1, 24, 24)], name="net")
    limit = 40
    parts = ResizableModel(nn.Sequential(*layers), [torch.empty(1, 1, 24, 24)], name="windows")
    runs = {side: parts.at(side) for side in range(1, limit + 1)}
    works = [side for side, ran in runs.items() if ran.error is None]
    found = by_formula(model, limit)
    assert found is not None
    if not works:
        assert found.minimum is None or found.minimum > limit
        return
    assert found.minimum == works[0]
    fits = tuple(side for side in works if model.at(side).error is None)
    assert found.fits == fits or (found.fits is None and fits == tuple(works))
    assert found.lossless == tuple(side for side in works if not lost_in(runs[side].trace))


# ------------------------------------------------------------------------------------------------------------ tables


def test_sets_are_written_short() -> None:
    assert ranges(range(227, 259)) == "227 to 258"
    assert ranges((67, 99, 131, 163)) == "67, 99, 131, … 163 (every 32)"
    assert ranges((224,)) == "224"
    assert ranges(()) == "none"
    assert ranges((1, 2, 5)) == "1, 2 and 5"
    assert ranges((1, 2, 3, 4, 33, 34, 35, 36, 65)) == "1, 2, 3, 4, 33, 34, … 65 (9 of them)"


def test_the_page() -> None:
    model = resized("alexnet")
    found = legal_sizes(model)
    shown = answers(found)
    assert [row["said"] for row in shown.rows] == ["67", "227 to 258", "67, 99, 131, … 483 (every 32)"]
    assert [row["why"] for row in shown.rows][:2] == ["pool5 would give 0×0 at 66", "fc6 takes 9216 = 256·6·6"]
    back = working(found, model)
    assert back is not None
    assert [(row["path"], row["default"], row["lost"]) for row in back.rows] == [
        ("pool5", "13 → 6", 0), ("pool2", "27 → 13", 0), ("pool1", "55 → 27", 0), ("conv1", "227 → 55", 0),
    ]  # fmt: skip
    assert back.rows[-1]["least"] == "(15 − 1)·4 + 11 = 67"
    assert back.rows[-1]["fits"] == "(55 − 1)·4 + 11 = 227 to 258"


def test_224_against_227() -> None:
    """The third point on which the literature stumbles."""
    back = working(sizes("alexnet"), resized("alexnet"))
    assert back is not None
    told = " ".join(back.notes)
    assert "at 227 no window leaves anything out" in told
    assert "at 224: conv1: (224 − 11)/4 leaves 1: the last row and column are never reached" in told
    assert "gets 6400 = 256·5·5 after pool5" in told and "conv1 with padding=2" in told


def test_the_default_that_loses() -> None:
    back = working(sizes("nin"), resized("nin"))
    assert back is not None
    assert [row["lost"] for row in back.rows] == [1, 1, 1, 1]
    assert back.notes[0].startswith("at 224: nin1.conv1: (224 − 11)/4 leaves 1")


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "latex", "html"])
def test_every_format(format: str) -> None:
    model = resized("lenet")
    text = page(legal_sizes(model), model, format)
    assert "28 to 31" in text and text.endswith("\n")


# ---------------------------------------------------------------------------------------------- what would lose nothing

MENDS = [
    # (224 − 11 + 2·2)/4 leaves 1, which is padding; 223 and 227 leave nothing
    (nn.Conv2d(1, 1, 11, 4), (224, 224), "padding=2 or a side of 223 or 227"),
    (nn.MaxPool2d(3, 2), (54, 54), "padding=1, ceil_mode=True or a side of 53 or 55"),
    (nn.Conv2d(1, 1, 1, 2), (56, 56), "a side of 55 or 57"),  # a kernel of 1 has no room for padding
    (nn.Conv1d(1, 1, 4, 3), (6,), "padding=1 or a side of 4 or 7"),
    (nn.Conv2d(1, 1, 3, 2), (4, 5), "padding=1"),  # no one side for rows that lose and columns that do not
    (nn.AvgPool2d(2, 2, ceil_mode=True), (5, 5), None),
]


@pytest.mark.parametrize(("layer", "shape", "mends"), MENDS)
def test_what_would_lose_nothing(layer: nn.Module, shape: tuple[int, ...], mends: str | None) -> None:
    record = trace(nn.Sequential(layer), [(1, 1, *shape)])
    (row,) = rows(record, whole=WHOLE)
    derived = check(record, [row])[0].derived
    assert derived is not None
    assert (boundary_fixes(row, derived) if any(rest for *_, rest in derived.lost) else None) == mends


def test_a_padding_that_is_named_reaches_the_end() -> None:
    assert lost_in(trace(nn.Conv2d(1, 1, 11, 4), [(1, 1, 224, 224)])) == [(0, -2, 1), (0, -1, 1)]
    assert lost_in(trace(nn.Conv2d(1, 1, 11, 4, padding=2), [(1, 1, 224, 224)])) == []
    assert lost_in(trace(nn.MaxPool2d(3, 2, ceil_mode=True), [(1, 1, 54, 54)])) == []


# ------------------------------------------------------------------------------------------------------- the command


def test_json(archscope: Command) -> None:
    ran = archscope("sizes", "alexnet", "--format", "json")
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "minimum": 67,
        "fits": list(range(227, 259)),
        "lossless": list(range(67, 513, 32)),
    }
    assert ran.out.startswith('{"minimum": 67, "fits": [227, ')


def test_json_where_every_size_works(archscope: Command) -> None:
    body = json.loads(archscope("sizes", "nin", "--format", "json", "--limit", "100").out)
    assert body == {"minimum": 67, "fits": None, "lossless": [67, 99]}
    body = json.loads(archscope("sizes", "nin", "--format", "json", "--limit", "50").out)  # the minimum is beyond
    assert body == {"minimum": 67, "fits": None, "lossless": []}
    body = json.loads(archscope("sizes", "alexnet", "--format", "json", "--limit", "50").out)
    assert body == {"minimum": 67, "fits": [], "lossless": []}


def test_an_input_that_does_not_fit_is_no_obstacle(archscope: Command) -> None:
    ran = archscope("sizes", "alexnet", "--input", "10", "--format", "json")
    assert json.loads(ran.out)["fits"] == list(range(227, 259))


def test_a_users_own_file(archscope: Command, tmp_path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 2))\n",
        encoding="utf-8",
    )
    ran = archscope("sizes", f"{tmp_path}/nets.py:Net", "--input", "1x3x32x32", "--format", "json")
    # 4·5·5 = 100: 5 ← 10..11 ← 14..15; at the least 1 ← 2 ← 6
    body = json.loads(ran.out)
    assert (body["minimum"], body["fits"]) == (6, [14, 15])


def test_wrong_words(archscope: Command) -> None:
    assert archscope("sizes", "alexnet", "--limit", "0").code == 2
    assert archscope("sizes", "alxnet").code == 2
    assert archscope("sizes", "alexnet", "--format", "yaml").code == 2


def test_a_limit_below_what_works() -> None:
    """Up to 5 nothing of lenet (which needs 12) was looked at, and up to 20 not the 28 that its fc takes."""
    for limit, fits, lossless in ((5, "none up to 5", "none up to 5"), (20, "none up to 20", "12, 16 and 20")):
        told = {row["quantity"]: row["said"] for row in answers(sizes("lenet", limit)).rows}
        assert (told["that run"], told["that lose nothing"]) == (fits, lossless)
