"""Classic mistakes, as forums show them: for each the cause that the doctor names, and the fix, which is then made.

A case is a wrong network, what its sentence must hold, and the network after the fix, which must run: so a fix that is
printed and does not help fails here. `never` is what the sentence must not propose.
"""

# ruff: noqa: E501 (a case is a row of a table)

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archscope import ShapeError, TraceError, trace
from archscope.shapes.doctor import diagnose


class Net(nn.Module):
    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.run(self, *inputs)


class Case(NamedTuple):
    name: str
    wrong: Net
    shape: Any
    holds: tuple[str, ...]
    right: Net | None = None
    never: str = ""
    works_on: Any = None
    train: bool = False


def conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, **more)


BEHIND = {  # of a map of 4×16×16: the function, and the channels that it gives
    "cat": (lambda x: torch.cat([x, x], 1), 8, "8 = 4 + 4 from cat of a and a"),
    "pad": (lambda x: F.pad(x, (1, 1, 1, 1)), 4, "4 from pad"),
    "slice": (lambda x: x[:, :2], 2, "2 from slice"),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2), 4, "4 from upsample"),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), 1, "1 from pixel_shuffle"),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 16, "16 from pixel_unshuffle"),
    "chunk": (lambda x: x.chunk(2, 1)[0], 2, "2 from chunk"),
    "stack": (lambda x: torch.stack([x, x], 1).flatten(1, 2), 8, "8 from flatten"),
    "mean": (lambda x: x.mean(1, keepdim=True), 1, "1 from mean"),
    "max_pool": (lambda x: F.max_pool2d(x, 2), 4, "4 from max_pool2d"),
    "relu": (F.relu, 4, "4 from a"),
    "add": (lambda x: x + 1, 4, "4 from a"),
    "repeat": (lambda x: x.repeat(1, 3, 1, 1), 12, "12 from repeat"),
    "conv2d": (lambda x: F.conv2d(x, torch.zeros(5, 4, 1, 1)), 5, "5 from conv2d"),
    "glu": (lambda x: F.glu(x, 1), 2, "2 from glu"),
    "softmax": (lambda x: x.softmax(1), 4, "4 from a"),
}


def behind(function: Callable[..., Any], channels: int) -> Net:
    return Net(lambda s, x: s.b(function(s.a(x))), a=conv(3, 4, padding=1), b=conv(channels, 6))


CASES = [
    *(
        Case(f"convolution behind {name}", behind(function, 9), (1, 3, 16, 16),
             (f"b (Conv2d) expects 9 channels, gets {text}", f"b with in_channels={channels}"), behind(function, channels))
        for name, (function, channels, text) in BEHIND.items()
    ),
    *(
        Case(f"view behind permute, {sizes}", Net(lambda s, x, z=sizes: s.fc(x.permute(0, 2, 3, 1).view(*z)),
             fc=nn.Linear(288, 10)), (4, 8, 6, 6), ("keeps the order in memory", "reshape("),
             Net(lambda s, x, z=sizes: s.fc(x.permute(0, 2, 3, 1).reshape(*z)), fc=nn.Linear(288, 10)), "288 in the place")
        for sizes in ((4, 288), (4, -1), (-1, 288))
    ),
    *(
        Case(f"view behind transpose, {t} steps", Net(lambda s, x: s.fc(x.transpose(1, 2).view(-1, 16)),
             fc=nn.Linear(16, 10)), (2, 16, t), ("keeps the order in memory", "reshape(-1, 16)"),
             Net(lambda s, x: s.fc(x.transpose(1, 2).reshape(-1, 16)), fc=nn.Linear(16, 10)), "in the place of 16")
        for t in (4, 8)
    ),
    Case("heads joined by view", Net(lambda s, x: s.o(x.view(2, 5, 4, 8).transpose(1, 2).transpose(1, 2).transpose(1, 2)
         .view(2, 5, 32)), o=nn.Linear(32, 32)), (2, 5, 32), ("keeps the order in memory", "reshape(2, 5, 32)")),
    *(
        Case(f"BatchNorm1d behind {name}", Net(lambda s, x, m=make: s.bn(m(s, x)), bn=nn.BatchNorm1d(10), **layers),
             (2, 7, 5), ("bn (BatchNorm1d) expects 10 channels on axis 1, gets 2×7×10", "bn(x.transpose(1, 2))"),
             Net(lambda s, x, m=make: s.bn(m(s, x).transpose(1, 2)).transpose(1, 2), bn=nn.BatchNorm1d(10), **layers),
             "num_features=7")
        for name, make, layers in (
            ("linear", lambda s, x: s.fc(x), {"fc": nn.Linear(5, 10)}),
            ("lstm", lambda s, x: s.rnn(x)[0], {"rnn": nn.LSTM(5, 10, batch_first=True)}),
            ("gru", lambda s, x: s.rnn(x)[0], {"rnn": nn.GRU(5, 10, batch_first=True)}),
        )
    ),
    Case("BatchNorm2d, channels last", Net(lambda s, x: s.bn(x.permute(0, 2, 3, 1)), bn=nn.BatchNorm2d(3)),
         (2, 3, 8, 8), ("expects 3 channels on axis 1, gets 2×8×8×3", "permute(0, 3, 1, 2)"), None, "num_features"),
    Case("convolution, channels last", Net(lambda s, x: s.c(s.n(x.permute(0, 2, 3, 1))), n=nn.LayerNorm(3), c=conv(3, 8)),
         (2, 3, 8, 8), ("expects 3 channels on axis 1, gets 2×8×8×3", "x.permute(0, 3, 1, 2) before c"), None, "in_channels"),
    Case("convolution behind permute", Net(lambda s, x: s.b(s.a(x).permute(0, 2, 3, 1)), a=conv(3, 4, padding=1),
         b=conv(9, 6)), (1, 3, 16, 16), ("expects 9 channels, gets 16 from permute",), None, "in_channels=16"),
    Case("image, channels last", Net(lambda s, x: s.c(x), c=conv(3, 8)), (1, 32, 32, 3), ("has them last", "x.permute(0, 3, 1, 2)"),
         None, "in_channels"),
    Case("image without a batch", Net(lambda s, x: s.fc(s.c(x).flatten(1)), c=conv(3, 8), fc=nn.Linear(8 * 36, 10)), (3, 8, 8),
         ("the input 3×8×8 has no batch axis", "1×3×8×8")),
    Case("averaged image without a batch", Net(lambda s, x: s.fc(s.c(x).mean((2, 3))), c=conv(3, 8), fc=nn.Linear(8, 10)),
         (3, 8, 8), ("the input 3×8×8 has no batch axis", "1×3×8×8")),
    Case("grey image", Net(lambda s, x: s.c(x), c=conv(3, 8)), (1, 1, 32, 32), ("expects 3 channels, gets 1", "in_channels=1")),
    *(
        Case(f"skip of {a} and {b}", Net(lambda s, x: s.c(torch.cat([s.up(x), s.skip(x)], 1)), up=conv(3, a), skip=conv(3, b),
             c=conv(a, 8)), (1, 3, 16, 16), (f"expects {a} channels, gets {a + b} = {a} + {b} from cat of up and skip",
             f"c with in_channels={a + b}"), Net(lambda s, x: s.c(torch.cat([s.up(x), s.skip(x)], 1)), up=conv(3, a),
             skip=conv(3, b), c=conv(a + b, 8)))
        for a, b in ((128, 64), (64, 64), (32, 16), (8, 24))
    ),
    *(
        Case(f"linear behind cat, batch {n}", Net(lambda s, x: s.fc(torch.cat([s.a(x), s.b(x)], 1)), a=nn.Linear(3, 8),
             b=nn.Linear(3, 8), fc=nn.Linear(8, 10)), (n, 3), ("expects 8 features, gets 16 = 8 + 8 from cat of a and b",
             "fc with in_features=16"), Net(lambda s, x: s.fc(torch.cat([s.a(x), s.b(x)], 1)), a=nn.Linear(3, 8),
             b=nn.Linear(3, 8), fc=nn.Linear(16, 10)), "batch axis")
        for n in (4, 1, 8, 2)
    ),
    *(
        Case(f"features, {k}", Net(lambda s, x: s.b(s.a(x)), a=nn.Linear(3, 8), b=nn.Linear(k, 2)), (4, 3),
             (f"b (Linear) expects {k} features, gets 8", "b with in_features=8"),
             Net(lambda s, x: s.b(s.a(x)), a=nn.Linear(3, 8), b=nn.Linear(8, 2)), "batch axis")
        for k in (4, 7, 16)
    ),
    *(
        Case(f"flatten, side {side}", Net(lambda s, x: s.fc(s.c(x).flatten(1)), c=conv(3, 8), fc=nn.Linear(8 * 14 * 14, 10)),
             (1, 3, side, side), ("expects 1568 = 8·14·14 features", f"in_features={8 * (side - 2) ** 2}"),
             Net(lambda s, x, n=side: s.fc(s.c(x).flatten(1)), c=conv(3, 8), fc=nn.Linear(8 * (side - 2) ** 2, 10)))
        for side in (18, 20, 24, 28, 32)
    ),
    Case("no flatten", Net(lambda s, x: s.fc(s.c(x)), c=conv(3, 8), fc=nn.Linear(8 * 14 * 14, 10)), (1, 3, 16, 16),
         ("expects 1568 features", "x.flatten(1) before fc"),
         Net(lambda s, x: s.fc(s.c(x).flatten(1)), c=conv(3, 8), fc=nn.Linear(8 * 14 * 14, 10))),
    *(
        Case(f"one example and {name}", Net(lambda s, x, f=f: s.bn(f(F.adaptive_avg_pool2d(s.c(x), 1))), c=conv(3, 8), bn=bn),
             (1, 3, 8, 8), ("in training mode takes the mean over several values", "--batch 2"), None, "", (2, 3, 8, 8), True)
        for name, bn, f in (("BatchNorm2d", nn.BatchNorm2d(8), lambda x: x), ("BatchNorm1d", nn.BatchNorm1d(8), lambda x: x.flatten(1)))
    ),
    *(
        Case(f"U-Net of an odd side, {m}", Net(lambda s, x: torch.cat([F.interpolate(F.max_pool2d(s.a(x), 2), scale_factor=2), s.a(x)], 1),
             a=conv(3, 4, padding=1)), (1, 3, m, m), ("cat cannot join", f"{m - 1} against {m}"))
        for m in (15, 31, 33)
    ),
    *(
        Case(f"recurrent, {kind.__name__}", Net(lambda s, x: s.rnn(x)[0], rnn=kind(6, 10, batch_first=True)), (2, 7, 5),
             ("expects 6 features a step, gets 5", "rnn with input_size=5"),
             Net(lambda s, x: s.rnn(x)[0], rnn=kind(5, 10, batch_first=True)))
        for kind in (nn.RNN, nn.LSTM, nn.GRU)
    ),
    Case("LayerNorm of other features", Net(lambda s, x: s.n(s.a(x)), a=nn.Linear(3, 8), n=nn.LayerNorm(6)), (2, 3),
         ("normalises the last axes 6", "normalized_shape=[8]")),
    Case("BatchNorm of other channels", Net(lambda s, x: s.n(s.a(x)), a=conv(3, 8), n=nn.BatchNorm2d(6)), (2, 3, 9, 9),
         ("expects 6 channels, gets 8", "num_features=8")),
    Case("window larger than the map", Net(lambda s, x: s.b(s.a(x)), a=conv(3, 8, stride=4), b=conv(8, 8, 7)), (1, 3, 16, 16),
         ("window of 7, which does not fit",)),
    Case("shortcut without a projection", Net(lambda s, x: s.a(x) + x, a=conv(3, 8, padding=1)), (1, 3, 16, 16),
         ("add cannot join", "channels 8 against 3", "Conv2d(3, 8, 1)")),
    # the meaning: what also runs, and is another network, is not proposed
    *(
        Case(f"pictures without channels, {n}d", Net(lambda s, x: s.c(x), c=kind(1, 8, 3)), (4, *(28,) * n),
             (f"gets 4×{'×'.join(['28'] * n)}, and reads 4 channels of one example", "x.unsqueeze(1) before c"),
             Net(lambda s, x: s.c(x.unsqueeze(1)), c=kind(1, 8, 3)), "in_channels=4")
        for n, kind in ((2, nn.Conv2d), (3, nn.Conv3d))
    ),
    Case("a picture for a Conv3d", Net(lambda s, x: s.c(x), c=nn.Conv3d(3, 8, (1, 3, 3))), (2, 3, 32, 32),
         ("reads 2 channels of one example", "x.unsqueeze(2) before c"),
         Net(lambda s, x: s.c(x.unsqueeze(2)), c=nn.Conv3d(3, 8, (1, 3, 3))), "in_channels=2"),
    Case("frames before channels", Net(lambda s, x: s.c(x), c=nn.Conv3d(3, 8, 3)), (2, 16, 3, 32, 32),
         ("has them on axis 2", "x.permute(0, 2, 1, 3, 4)"), Net(lambda s, x: s.c(x.permute(0, 2, 1, 3, 4)), c=nn.Conv3d(3, 8, 3)),
         "in_channels=16"),
    Case("sides that equal the channels", Net(lambda s, x: s.b(s.a(x)), a=conv(3, 64, padding=1), b=conv(32, 8)), (1, 3, 32, 32),
         ("expects 32 channels, gets 64", "b with in_channels=64"), Net(lambda s, x: s.b(s.a(x)), a=conv(3, 64, padding=1), b=conv(64, 8)),
         "permute"),
    Case("all examples flattened", Net(lambda s, x: s.fc(torch.flatten(s.c(x))), c=conv(3, 8), fc=nn.Linear(288, 10)), (4, 3, 8, 8),
         ("gets 1152 = 4·288 from flatten", "flatten(1) in the place of flatten(0)"),
         Net(lambda s, x: s.fc(torch.flatten(s.c(x), 1)), c=conv(3, 8), fc=nn.Linear(288, 10)), "in_features=1152"),
    Case("LayerNorm of channels", Net(lambda s, x: s.n(s.c(x)), c=conv(3, 10), n=nn.LayerNorm(10)), (2, 3, 8, 8),
         ("gets 2×10×6×6 from c, which has them on axis 1", "n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)"),
         Net(lambda s, x: s.n(s.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), c=conv(3, 10), n=nn.LayerNorm(10)), "normalized_shape"),
    *(
        Case(f"{kind.__name__} behind Conv1d", Net(lambda s, x: s.r(s.c(x))[0], c=nn.Conv1d(4, 16, 3, padding=1), r=kind(16, 8, batch_first=True)),
             (2, 4, 50), ("gets 2×16×50 from c, which has them on axis 1", "x.transpose(1, 2) before r"),
             Net(lambda s, x: s.r(s.c(x).transpose(1, 2))[0], c=nn.Conv1d(4, 16, 3, padding=1), r=kind(16, 8, batch_first=True)),
             "input_size=50")
        for kind in (nn.LSTM, nn.GRU)
    ),
    Case("half a global pool", Net(lambda s, x: s.fc(s.c(x).mean(2)), c=conv(3, 16), fc=nn.Linear(16, 10)), (1, 3, 32, 32),
         ("gets 1×16×30 from mean", "x.mean(2) before fc"), Net(lambda s, x: s.fc(s.c(x).mean(2).mean(2)), c=conv(3, 16), fc=nn.Linear(16, 10)),
         "in_features=30"),
    Case("no global pool", Net(lambda s, x: s.fc(s.c(x)), c=conv(3, 16), fc=nn.Linear(16, 10)), (1, 3, 32, 32),
         ("gets 1×16×30×30", "x.mean((2, 3)) before fc"), Net(lambda s, x: s.fc(s.c(x).mean((2, 3))), c=conv(3, 16), fc=nn.Linear(16, 10)),
         "in_features"),
    Case("keys of other features", Net(lambda s, x: s.a(x, x[..., :16], x[..., :16])[0], a=nn.MultiheadAttention(32, 4, batch_first=True)),
         (2, 7, 32), ("expects 32 features of keys and values, gets 16", "a with kdim=16, vdim=16"),
         Net(lambda s, x: s.a(x, x[..., :16], x[..., :16])[0], a=nn.MultiheadAttention(32, 4, kdim=16, vdim=16, batch_first=True)), "flatten"),
    Case("attention of other features", Net(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(64, 8, batch_first=True)), (2, 7, 32),
         ("expects 64 features, gets 32", "a with embed_dim=32"),
         Net(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(32, 8, batch_first=True))),
    *(
        Case(f"scores by {name}, not transposed", Net(lambda s, x, f=f: f(s.q(x), s.k(x)).softmax(-1), q=nn.Linear(32, 32), k=nn.Linear(32, 32)),
             (2, 7, 32), ("the 32 columns of 2×7×32 do not fit the 7 rows", "the second with .transpose(-2, -1)"),
             Net(lambda s, x, f=f: f(s.q(x), s.k(x).transpose(-2, -1)).softmax(-1), q=nn.Linear(32, 32), k=nn.Linear(32, 32)))
        for name, f in (("@", lambda a, b: a @ b), ("bmm", torch.bmm), ("matmul", torch.matmul))
    ),
    Case("state without batch_first", Net(lambda s, x: s.r(x, torch.zeros(1, x.shape[0], 10))[0], r=nn.GRU(5, 10)), (2, 7, 5),
         ("= 1×7×10, gets 1×2×10", "r with batch_first=True"),
         Net(lambda s, x: s.r(x, torch.zeros(1, x.shape[0], 10))[0], r=nn.GRU(5, 10, batch_first=True))),
    Case("state of one layer", Net(lambda s, x: s.r(x, torch.zeros(1, 2, 10))[0], r=nn.GRU(5, 10, 2, batch_first=True)), (2, 7, 5),
         ("[layers·directions, examples, hidden_size] = 2×2×10, gets 1×2×10",),
         Net(lambda s, x: s.r(x, torch.zeros(2, 2, 10))[0], r=nn.GRU(5, 10, 2, batch_first=True))),
    Case("BatchNorm1d of maps", Net(lambda s, x: s.n(s.c(x)), c=conv(3, 8), n=nn.BatchNorm1d(8)), (2, 3, 8, 8), ("BatchNorm2d in its place",),
         Net(lambda s, x: s.n(s.c(x)), c=conv(3, 8), n=nn.BatchNorm2d(8))),
    Case("a squeeze that drops the batch", Net(lambda s, x: s.n(F.adaptive_avg_pool2d(s.c(x), 1).squeeze()), c=conv(3, 8), n=nn.BatchNorm1d(8)),
         (1, 3, 8, 8), ("gets 8 after squeeze", "x.flatten(1) in the place of a squeeze"),
         Net(lambda s, x: s.n(F.adaptive_avg_pool2d(s.c(x), 1).flatten(1)), c=conv(3, 8), n=nn.BatchNorm1d(8))),
    Case("a factor a channel", Net(lambda s, x: x * s.fc(x.mean((2, 3))), fc=nn.Linear(8, 8)), (2, 8, 6, 6),
         ("mul cannot join 2×8×6×6", "[..., None, None] behind the 2×8"), Net(lambda s, x: x * s.fc(x.mean((2, 3)))[..., None, None], fc=nn.Linear(8, 8))),
    Case("joined along the columns", Net(lambda s, x: torch.cat([s.a(x), s.b(x)], -1), a=conv(3, 8), b=conv(3, 16)), (2, 3, 8, 8),
         ("channels 8 against 16", "dim=1 in the place of -1"), Net(lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=conv(3, 8), b=conv(3, 16))),
    Case("examples of two batches", Net(lambda s, x, y: torch.cat([x, y], 1)), ((2, 3, 8), (4, 3, 8)), ("examples 2 against 4",), None, "dim=0"),
    Case("too many heads", Net(lambda s, x: s.q(x).view(2, 7, 5, 8), q=nn.Linear(32, 32)), (2, 7, 32), ("asks for 560 elements, gets 448",
         "4 in the place of 5"), Net(lambda s, x: s.q(x).view(2, 7, 4, 8), q=nn.Linear(32, 32))),
    Case("an autoencoder of an even side", Net(lambda s, x: (s.up(s.d(x)) - x).square().mean(), d=conv(1, 8, stride=2, padding=1),
         up=nn.ConvTranspose2d(8, 1, 3, 2, 1)), (1, 1, 28, 28), ("rows 27 against 28", "up with output_padding=1"),
         Net(lambda s, x: (s.up(s.d(x)) - x).square().mean(), d=conv(1, 8, stride=2, padding=1), up=nn.ConvTranspose2d(8, 1, 3, 2, 1, 1))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_cause_and_fix(case: Case) -> None:
    with pytest.raises(ShapeError) as caught:
        trace(case.wrong, case.shape, train=case.train)
    said = diagnose(caught.value)
    for text in case.holds:
        assert text in said
    assert not case.never or case.never not in said
    if case.right is not None:
        trace(case.right, case.shape, train=case.train)
    if case.works_on is not None:
        trace(case.wrong, case.works_on, train=case.train)
    assert not re.search(r"\bbug\b|has no attribute", said)


def test_there_are_eighty() -> None:
    assert len(CASES) >= 80


def test_the_state_of_a_recurrent_layer_is_no_input() -> None:
    net = Net(lambda s, x: s.fc(s.r(x)), r=nn.LSTM(5, 10, batch_first=True), fc=nn.Linear(10, 2))
    with pytest.raises(TraceError, match=r"an LSTM, a GRU and attention give a tuple.*x\[0\]"):
        trace(net, (2, 7, 5))


@pytest.mark.parametrize("call", ["cuda()", "to('cuda')"])
def test_a_device_says_nothing_of_shapes(call: str) -> None:
    net = Net(lambda s, x: s.fc(x.cuda() if call == "cuda()" else x.to("cuda")), fc=nn.Linear(3, 8))
    assert trace(net, (1, 3)).layers[0].outputs[0].shape == (1, 8)
