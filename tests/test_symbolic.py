"""Closed expressions in H and W: the algebra, how operators carry letters, and runs at drawn sizes."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archscope.analysis.metrics import totals
from archscope.shapes.polynomial import Poly, least, letter, number
from archscope.shapes.resize import ResizableModel, resized
from archscope.shapes.symbolic import SymbolicSizes, in_letters, table
from archscope.shapes.symbolic_int import Unsupported

H, W = letter("H"), letter("W")

# ----------------------------------------------------------------------------------------------------- the algebra


def chain(m: Poly) -> Poly:
    """AlexNet's windows: 11/4, then 3/2 three times."""
    m = (m - 11) // 4 + 1
    for _ in range(3):
        m = (m - 3) // 2 + 1
    return m


def test_nested_floors_are_one() -> None:
    assert chain(H).text == "⌊(H − 35)/32⌋"
    assert ((H // 4) // 8) == H // 32
    assert ((H // 4 + 3) // 8) == (H + 12) // 32  # ⌊(⌊H/4⌋ + 3)/8⌋ = ⌊(H + 4·3)/32⌋
    assert (2 * H + 1) // 2 == H
    assert (6 * H + 3) // 4 == (6 * H + 2) // 4  # both ⌊(3·H + 1)/2⌋


def test_whole_parts_stand_before_a_floor() -> None:
    assert (3 * (H // 2)) // 2 == H // 2 + H // 4
    assert (5 * H + 7) // 2 == 2 * H + 3 + (H + 1) // 2
    assert (2 * (H // 3) + 1) // 4 == (2 * (H // 3)) // 4  # ⌊(2·x + 1)/4⌋ = ⌊x/2⌋
    assert (H * W // 4).text == "⌊H·W/4⌋" and ((H + W) // 4).text == "⌊(H + W)/4⌋"


def test_sums_and_products() -> None:
    assert H * W - W * H == number(0)
    assert (H + 1) * (H - 1) == H * H - 1
    assert (2 * H * W + 3).text == "2·H·W + 3"
    assert (number(0) - H).text == "−H"
    assert (H * H).text == "H²" and (H * H).latex == "H^2"
    assert number(0).text == "0" and number(0).constant == 0
    assert (34848 * H).text == "34,848·H" and (34848 * H).latex == r"34{,}848 \cdot H"


def test_the_smallest_of_several() -> None:
    assert least(H + 2, H + 1) == H + 1
    assert least(H, number(8)).value({"H": 5}) == 5
    assert least(H, number(8)).text == "min(8, H)"


def test_a_division_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        _ = H // 0


forms = st.recursive(
    st.sampled_from([H, W]) | st.integers(-9, 9).map(number),
    lambda part: (
        st.tuples(part, part).map(lambda ab: ab[0] + ab[1])
        | st.tuples(part, st.integers(-4, 4)).map(lambda ab: ab[0] * ab[1])
        | st.tuples(part, st.integers(1, 6)).map(lambda ab: ab[0] // ab[1])
        | st.tuples(part, part).map(lambda ab: least(*ab))
    ),
    max_leaves=8,
)


def meaning(text: str, h: int, w: int) -> int:
    return eval(text, {"H": h, "W": w, "min": min})


@settings(max_examples=300, deadline=None)
@given(forms, st.integers(1, 5), st.integers(-60, 60), st.integers(-60, 60))
def test_every_form_keeps_its_value(form: Poly, by: int, h: int, w: int) -> None:
    """The rules of the algebra change no value, and the code that is printed computes it."""
    of = {"H": h, "W": w}
    value = form.value(of)
    assert meaning(form.code, h, w) == value
    assert (form // by).value(of) == value // by
    assert (form + 3 - form).constant == 3
    assert form.replaced({"H": 2 * W}).value({"W": w}) == form.value({"H": 2 * w, "W": w})


# ------------------------------------------------------------------------------------------------------- networks


def small(*layers: nn.Module, shape: tuple[int, ...], layout: str = "") -> SymbolicSizes:
    return in_letters(ResizableModel(nn.Sequential(*layers), [torch.empty(shape)], layout=layout, name="small"))


def test_alexnet() -> None:
    closed = in_letters(resized("alexnet"))
    assert {name: form.text for name, form in closed.sides.items() if name[0] == "h"} == {
        "h1": "⌊(H − 7)/4⌋",
        "h2": "⌊(H − 11)/8⌋",
        "h3": "⌊(H − 19)/16⌋",
        "h4": "⌊(H − 35)/32⌋",
    }
    assert closed.output == ((letter("N"), number(1000)),)
    assert closed.fixed == ("fc6",)
    by_path = {part.path: part for part in closed.parts}
    n, h1, w1 = letter("N"), letter("h1"), letter("w1")
    assert by_path["conv1"].macs == 11 * 11 * 3 * 96 * n * h1 * w1
    assert by_path["conv1"].output == (n, number(96), h1, w1)
    assert by_path["pool5"].output == (n, number(256), letter("h4"), letter("w4"))
    assert by_path["fc7"].macs == 4096 * 4096 * n
    assert closed.at(N=8, H=227, W=227)["macs"] == 8 * 724_406_816
    assert closed.at(N=1, H=227, W=227)["output"] == [(1, 1000)]


def test_a_sequence() -> None:
    """A GRU of 100 units on 100 features: 3·100·(100 + 100) a step; the last step goes to 18 classes."""
    closed = in_letters(resized("gru-classifier"))
    n, t = letter("N"), letter("T")
    assert closed.macs == n * t * (3 * 100 * (100 + 100)) + n * (100 * 18)


def test_transposed_padded_pooled_and_joined() -> None:
    closed = small(
        nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3, 2), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.ConvTranspose2d(4, 2, 4, 4), nn.PixelShuffle(1), nn.Upsample(scale_factor=2),
        nn.AdaptiveAvgPool2d((None, 3)),
        shape=(1, 3, 32, 32),
    )  # fmt: skip
    ran = {h: small_shape(h) for h in (9, 10, 11, 31, 47)}
    assert ran == {h: closed.at(H=h, W=33)["output"][0] for h in ran}


def small_shape(h: int) -> tuple[int, ...]:
    """The same worked out side by side: h + 4, ⌊(… − 3)/2⌋ + 1, ⌈(… − 3)/2⌉ + 1, (… − 1)·4 + 4, ·2."""
    m = (h + 4 - 3) // 2 + 1
    m = -(-(m - 3) // 2) + 1
    return (1, 2, 2 * ((m - 1) * 4 + 4), 3)


def test_weights_of_a_channel_are_of_no_side() -> None:
    """Eight channels on a map of eight columns: the weights of the norm are eight too."""
    closed = small(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.PReLU(8), shape=(1, 3, 8, 8))
    assert closed.output == ((letter("N"), number(8), H, W),)


class Branches(nn.Module):
    """Views, slices, a class token, attention heads: what forwards do with shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h * w).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], 1)
        x = x + self.attention(x, x, x)[0]
        return self.head(x[:, 1:].transpose(1, 2).reshape(n, c, h, w).mean((2, 3)))


def test_shapes_that_the_forward_computes() -> None:
    model = ResizableModel(Branches(), [torch.empty(1, 3, 32, 48)], name="branches")
    closed = in_letters(model)
    part = {part.path: part for part in closed.parts}
    n, h1, w1 = letter("N"), letter("h1"), letter("w1")
    assert part["cat"].output == (n, h1 * w1 + 1, number(16))
    tokens = h1 * w1 + 1
    assert part["attention"].macs == n * (4 * 16 * 16 * tokens + 2 * 16 * tokens * tokens)
    assert closed.output == ((n, number(5)),)


class Attends(nn.Module):
    """Queries of 6 features on keys of 6, which give values of 10."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, v = x[..., :6], x[..., 6:]
        return nn.functional.scaled_dot_product_attention(q, q, v)


def test_attention() -> None:
    closed = in_letters(ResizableModel(Attends(), [torch.empty(1, 7, 16)], layout="ntc", name="attends"))
    n, t = letter("N"), letter("T")
    assert closed.macs == n * t * t * (6 + 10)
    assert closed.output == ((n, t, number(10)),)


def check_at(model: ResizableModel, closed: SymbolicSizes, batch: int, **sides: int) -> None:
    """The expressions give what a run gives."""
    ran = model.at({x.lower(): m for x, m in sides.items()}, batch)
    if ran.error is not None:
        return
    seen = totals(ran.trace)
    found = closed.at(N=batch, **sides)
    assert found["output"] == [t.shape for t in ran.trace.layers[0].outputs]
    assert (found["macs"], found["activations"]) == (seen["macs"], seen["activations"])


DRAWN = [
    "nin", "googlenet", "resnet18", "resnet50-v1.5", "densenet-d2l", "mobilenet-v2", "mobilenet-v3-small", "lenet",
    "alexnet", "vgg11", "inception-block", "transition-block", "torchvision:squeezenet1_1",
    "torchvision:shufflenet_v2_x0_5", "torchvision:regnet_y_400mf", "torchvision:efficientnet_b0",
]  # fmt: skip


@pytest.mark.parametrize("spec", DRAWN)
def test_runs_at_drawn_sizes(spec: str) -> None:
    model = resized(spec)
    closed = in_letters(model)

    @settings(max_examples=8, deadline=None)
    @given(st.integers(1, 3), st.integers(20, 320), st.integers(20, 320))
    def drawn(n: int, h: int, w: int) -> None:
        check_at(model, closed, n, H=h, W=w)

    drawn()
    check_at(model, closed, 2, H=model.side, W=model.side)
    assert closed.checked


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_chains_of_windows(data: st.DataObject) -> None:
    """Convolutions and pools of every kind, at sizes that the expressions have not been compared with."""
    layers: list[nn.Module] = []
    for _ in range(data.draw(st.integers(1, 5))):
        k, s = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
        pad = data.draw(st.integers(0, k // 2))
        kind = data.draw(st.sampled_from("conv dilated max ceil avg transposed".split()))
        if kind == "conv":
            layers.append(nn.Conv2d(2, 2, k, s, pad))
        elif kind == "dilated":
            layers.append(nn.Conv2d(2, 2, k, s, pad, dilation=2))
        elif kind == "transposed":
            layers.append(nn.ConvTranspose2d(2, 2, k, s, min(pad, (k - 1) // 2)))
        elif kind == "avg":
            layers.append(nn.AvgPool2d(k, s, pad))
        else:
            layers.append(nn.MaxPool2d(k, s, pad, ceil_mode=kind == "ceil"))
    model = ResizableModel(nn.Sequential(*layers), [torch.empty(1, 2, 64, 64)], name="chain")
    if model.at({}).error is not None:
        return
    closed = in_letters(model)
    for h, w in data.draw(st.lists(st.tuples(st.integers(8, 99), st.integers(8, 99)), min_size=3, max_size=3)):
        check_at(model, closed, 2, H=h, W=w)


# -------------------------------------------------------------------------------------------- what cannot be carried


def test_the_operator_that_stops_them_is_named() -> None:
    with pytest.raises(
        Unsupported, match="rnn-cell has no closed expressions: the operator unbind in unbind stops them"
    ):
        in_letters(resized("rnn-cell"))
    with pytest.raises(Unsupported, match="operator new_zeros in features.1.1.attn"):
        in_letters(resized("torchvision:swin_t"))


class Decides(nn.Module):
    """Another layer at another size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) if x.shape[-1] % 2 == 0 else self.b(x)


def test_a_forward_that_decides_by_the_size() -> None:
    with pytest.raises(Unsupported, match="at 3×3×33×33 the operator conv2d in a is another"):
        in_letters(ResizableModel(Decides(), [torch.empty(1, 3, 32, 32)], name="decides"))


def test_a_vector_has_no_sides() -> None:
    closed = small(nn.Linear(4, 2), shape=(1, 4), layout="nc")
    assert closed.macs == 8 * letter("N")


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command(archscope) -> None:
    ran = archscope("sizes", "lenet", "--symbolic")
    assert ran.code == 0
    assert "h3 = ⌊(H − 8)/4⌋, w3 = ⌊(W − 8)/4⌋" in ran.out
    assert "MACs: N·(150·H·W + 2,400·h2·w2 + 58,920)" in ran.out
    ran = archscope("sizes", "torchvision:swin_t", "--symbolic")
    assert ran.code == 1 and "stops them" in ran.err


def test_json_computes(archscope) -> None:
    """The expressions of the JSON form are Python."""
    body = json.loads(archscope("sizes", "vgg16", "--symbolic", "--format", "json").out)
    of = {"N": 1, "H": 224, "W": 224}
    for name, form in body["sides"].items():
        of[name] = eval(form, dict(of))
    assert eval(body["macs"], dict(of)) == 15_470_264_320
    assert sum(eval(layer["macs"], dict(of)) for layer in body["layers"]) == 15_470_264_320


def test_maths_for_github_and_latex(archscope) -> None:
    md = archscope("sizes", "alexnet", "--symbolic", "--format", "md").out
    assert r"| conv1 | $N \times 96 \times h_{1} \times w_{1}$ | $34{,}848 \cdot N \cdot h_{1} \cdot w_{1}$ |" in md
    assert r"- $h_{4} = \left\lfloor\frac{H - 35}{32}\right\rfloor$" in md
    tex = archscope("sizes", "alexnet", "--symbolic", "--format", "latex").out
    assert r"\begin{tabular}{llll}" in tex and tex.count("$") % 2 == 0
    assert archscope("sizes", "alexnet", "--symbolic", "--format", "csv").out.startswith("path,kind,output,macs")


def test_the_table_says_what_holds() -> None:
    notes = table(in_letters(resized("alexnet"))).notes
    assert notes[-1] == "fc6 takes one size only: `archscope sizes alexnet` says which inputs give it"
