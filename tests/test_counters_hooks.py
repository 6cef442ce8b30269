"""ptflops, thop and calflops: what each prints, predicted from the trace alone, and the tools themselves.

The cells are those of a table that was measured with the tools (ptflops at a batch of 1, and doubled), with the factors
written out: n is the batch of 2. The tools are installed by `pip install -e '.[witnesses]'`; where they are not, the
predictions are tested all the same.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archscope import Trace, load, trace
from archscope.peers.tools import COUNTERS, find
from archscope.sources.records import record_of

TOOLS = ("ptflops", "ptflops-aten", "thop", "calflops")


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any], *weights: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in weights or [(1,)])
        self.count = len(weights)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs, *list(self.weights)[: self.count])


class SelfAttention(nn.Module):
    def __init__(self, need_weights: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(x))


class Cell(NamedTuple):
    """A module on an input without its batch, and what the tools print for a batch of n, a factor of n left out."""

    make: Callable[[], nn.Module]
    input: tuple[int, ...]
    ptflops: int
    aten: int
    thop: int
    calflops: int


def cell(ptflops: int, aten: int, thop: int, calflops: int) -> Callable[..., Cell]:
    return lambda make, *input: Cell(make, input, ptflops, aten, thop, calflops)


CONV = 8 * 8 * 8 * 3 * 3 * 3  # outputs 8·8·8, 3·3·3 products each
MAP, IMAGE = 8 * 4 * 4, 3 * 4 * 4
GATES = 20 * (10 + 20)
QKV = 4 * 16 * 16 * 5 + 2 * 5 * 5 * 16  # four projections of 5 tokens, scores and their sum over the values
PROJECTED, BIASES = 4 * 16 * 16 * 5, 4 * 16 * 5
SCORES = 4 * 5 * 5  # of 4 heads
FORMULA = QKV + 5 * 16 + SCORES + BIASES
ENCODER = 2 * 5 * 16 * 32  # the feed-forward layers
CELLS: dict[str, Cell] = {
    "conv": cell(CONV + 8 * 8 * 8, CONV + 8 * 8 * 8, CONV, 2 * CONV + 8 * 8 * 8)(
        lambda: nn.Conv2d(3, 8, 3, padding=1), 3, 8, 8
    ),
    "conv-no-bias": cell(CONV, CONV, CONV, 2 * CONV)(lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), 3, 8, 8),
    "depthwise": cell(512 * 9, 512 * 9, 512 * 9, 2 * 512 * 9)(
        lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), 8, 8, 8
    ),
    # 5×5 in, 11×11 out: thop takes the output
    "transposed": cell(5 * 5 * 24 * 9, 5 * 5 * 24 * 9, 11 * 11 * 24 * 9, 2 * 5 * 5 * 24 * 9)(
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), 4, 5, 5
    ),
    # 8×8 in, 16×16 out; calflops divides by the groups twice: 1 // 4 = 0
    "transposed-grouped": cell(8 * 8 * 4 * 9, 8 * 8 * 4 * 9, 16 * 16 * 4 * 9, 0)(
        lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=4, bias=False), 4, 8, 8
    ),
    # an even kernel: calflops takes an output of 7×7
    "padding-same": cell(512 * 48, 512 * 48, 512 * 48, 2 * 7 * 7 * 8 * 48)(
        lambda: nn.Conv2d(3, 8, 4, padding="same", bias=False), 3, 8, 8
    ),
    "linear": cell(200 + 20, 200 + 20, 200, 400)(lambda: nn.Linear(10, 20), 10),
    "linear-of-tokens": cell(5 * 220, 5 * 220, 5 * 200, 5 * 400)(lambda: nn.Linear(10, 20), 5, 10),
    "linear-twice": cell(2 * 110, 2 * 110, 2 * 100, 4 * 100)(Twice, 10),
    "batch-norm": cell(2 * MAP, 0, 4 * MAP, 2 * MAP)(lambda: nn.BatchNorm2d(8), 8, 4, 4),
    "batch-norm-plain": cell(MAP, 0, 2 * MAP, MAP)(lambda: with_weight(nn.BatchNorm2d(8, affine=False)), 8, 4, 4),
    "layer-norm": cell(80, 0, 4 * 80, 5 * 80)(lambda: nn.LayerNorm(16), 5, 16),
    "group-norm": cell(2 * MAP, 0, 0, 5 * MAP)(lambda: nn.GroupNorm(2, 8), 8, 4, 4),
    "relu": cell(2 * MAP, 0, 0, MAP)(lambda: with_weight(nn.ReLU()), 8, 4, 4),
    "relu6": cell(MAP, 0, 0, 0)(lambda: with_weight(nn.ReLU6()), 8, 4, 4),
    "gelu": cell(2 * MAP, 0, 0, MAP)(lambda: with_weight(nn.GELU()), 8, 4, 4),
    "silu": cell(MAP, 0, 0, MAP)(lambda: with_weight(nn.SiLU()), 8, 4, 4),
    "sigmoid": cell(0, 0, 0, 0)(lambda: with_weight(nn.Sigmoid()), 8, 4, 4),
    "softmax": cell(16, 0, 3 * 16 - 1, 16)(lambda: with_weight(nn.Softmax(-1)), 16),
    "dropout": cell(0, 0, 0, 0)(lambda: with_weight(nn.Dropout()), 8, 4, 4),
    "max-pool": cell(2 * MAP, 0, 0, MAP)(lambda: with_weight(nn.MaxPool2d(2)), 8, 4, 4),
    "avg-pool": cell(2 * MAP, 0, 8 * 2 * 2, MAP)(lambda: with_weight(nn.AvgPool2d(2)), 8, 4, 4),
    "adaptive-pool": cell(2 * MAP, 0, (4 * 4 + 1) * 8, MAP)(lambda: with_weight(nn.AdaptiveAvgPool2d(1)), 8, 4, 4),
    "upsample": cell(2 * 4 * IMAGE, 0, 4 * IMAGE, IMAGE)(lambda: with_weight(nn.Upsample(scale_factor=2)), 3, 4, 4),
    "upsample-bilinear": cell(2 * 4 * IMAGE, 0, 11 * 4 * IMAGE, IMAGE)(
        lambda: with_weight(nn.Upsample(scale_factor=2, mode="bilinear")), 3, 4, 4
    ),
    "lstm": cell(  # 5 steps; both biases of four gates; ptflops 10 pointwise of each unit, thop 8
        5 * (4 * GATES + 10 * 20 + 2 * 80), 0, 5 * (4 * GATES + 8 * 20 + 2 * 80), 5 * (2 * 4 * GATES + 10 * 20)
    )(lambda: nn.LSTM(10, 20, batch_first=True), 5, 10),
    "gru": cell(
        5 * (3 * GATES + 7 * 20 + 2 * 60),
        5 * (3 * GATES + 2 * 60),
        5 * (3 * GATES + 7 * 20 + 2 * 60),
        5 * (2 * 3 * GATES + 7 * 20),
    )(lambda: nn.GRU(10, 20, batch_first=True), 5, 10),
    "lstm-cell": cell(
        4 * GATES + 10 * 20 + 2 * 80, 4 * GATES + 2 * 80, 4 * GATES + 8 * 20 + 2 * 80, 8 * GATES + 10 * 20
    )(lambda: nn.LSTMCell(10, 20), 10),
    # the formula of ptflops' hook: scaling, a softmax of 4 heads, and 4 biases; calflops sees the projections only
    "attention-without-weights": cell(FORMULA, PROJECTED + BIASES, 0, 2 * PROJECTED)(
        lambda: SelfAttention(need_weights=False), 5, 16
    ),
    # with the weights asked for it is bmm and softmax, which ptflops hears again, and calflops hears the softmax
    "attention": cell(FORMULA + 2 * 5 * 5 * 16 + SCORES, QKV + BIASES, 0, 2 * PROJECTED + SCORES)(SelfAttention, 5, 16),
    "F.relu": cell(MAP, 0, 0, MAP)(lambda: Call(lambda x: F.relu(x)), 8, 4, 4),
    "F.max_pool2d": cell(MAP, 0, 0, MAP)(lambda: Call(lambda x: F.max_pool2d(x, 2)), 8, 4, 4),
    "F.softmax": cell(16, 0, 0, 16)(lambda: Call(lambda x: F.softmax(x, -1)), 16),
    "F.linear": cell(0, 200 + 20, 0, 400)(lambda: Call(lambda x, w, b: F.linear(x, w, b), (20, 10), (20,)), 10),
    "F.conv2d": cell(0, CONV + 512, 0, 2 * CONV + 512)(
        lambda: Call(lambda x, w, b: F.conv2d(x, w, b, padding=1), (8, 3, 3, 3), (8,)), 3, 8, 8
    ),
    "F.layer_norm": cell(0, 0, 0, 4 * 80)(lambda: Call(lambda x: F.layer_norm(x, (16,))), 5, 16),
    "cat": cell(0, 0, 0, 0)(lambda: Call(lambda x: torch.cat([x, x])), 8, 4, 4),
    "sum": cell(0, 0, 0, 0)(lambda: Call(lambda x: x + x), 8, 4, 4),
    "matmul": cell(5 * 16 * 7, 5 * 16 * 7, 0, 2 * 5 * 16 * 7)(
        lambda: Call(lambda x, w: torch.matmul(x, w), (16, 7)), 5, 16
    ),
    "bmm": cell(5 * 16 * 5, 5 * 16 * 5, 0, 0)(lambda: Call(lambda x: torch.bmm(x, x.transpose(1, 2))), 5, 16),
    "sdpa": cell(0, 0, 0, 0)(lambda: Call(lambda x: F.scaled_dot_product_attention(x, x, x)), 5, 16),
}


def with_weight(module: nn.Module) -> nn.Module:
    """A module with a parameter, which calflops needs to know a device."""
    module.weightless = nn.Parameter(torch.empty(1))
    return module


def batch(tool: str) -> int:
    """ptflops adds a batch of 1: it divides by the batch what its modules count, and not what its functions count."""
    return 1 if tool.startswith("ptflops") else 2


def expected(tool: str, one: Cell, n: int) -> int:
    each = {"ptflops": one.ptflops, "ptflops-aten": one.aten, "thop": one.thop, "calflops": one.calflops}[tool]
    return each * n


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", CELLS)
def test_what_each_prints_for_a_module(name: str, tool: str) -> None:
    one = CELLS[name]
    n = batch(tool)
    record = trace(one.make(), (n, *one.input))
    account = COUNTERS[tool].convention(record)
    assert account.figure == expected(tool, one, n)
    assert account.figure == macs(record) + sum(item.amount for item in account.items)
    assert all(item.amount for item in account.items)


def macs(record: Trace) -> int:
    from archscope import totals

    return totals(record)["macs"]


@pytest.mark.parametrize("tool", ["ptflops-aten", "thop", "calflops"])
def test_einsum_costs_what_numpy_says(tool: str) -> None:
    record = trace(Call(lambda x: torch.einsum("bij,bkj->bik", x, x)), (2, 5, 16))
    product = 2 * 5 * 16 * 5
    predicted = {"ptflops-aten": product, "thop": 0, "calflops": 2 * product + 1}[tool]
    assert COUNTERS[tool].convention(record).figure == predicted


def test_what_ptflops_divides_by_the_batch() -> None:
    """Modules are divided by the first side of the input, functions are not."""
    record = trace(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()), (4, 3, 8, 8))
    outputs = 8 * 8 * 8
    account = COUNTERS["ptflops"].convention(record)
    assert account.figure == CONV + outputs + 4 * outputs
    assert account.items[-1].reason == "what modules count is divided by the first side of the input, 4"


def test_reasons_name_the_defect(traced: Callable[..., Trace]) -> None:
    def reasons(tool: str, record: Trace) -> dict[str, int]:
        return {item.reason: item.amount for item in COUNTERS[tool].convention(record).items}

    resnet = traced("resnet18")
    told = reasons("ptflops", resnet)
    assert told["activations counted again as functions (twice)"] == told["activations, 1 per element"]
    assert told["pooling counted again as functions (twice)"] == told["pooling, 1 per input element"]
    same = trace(CELLS["padding-same"].make(), (1, 3, 8, 8))
    assert reasons("calflops", same)["padding='same' with an even kernel: a smaller output is assumed"] < 0
    attention = trace(SelfAttention(False), (1, 5, 16))
    assert reasons("thop", attention) == {"attention not seen": -QKV}
    transposed = trace(CELLS["transposed"].make(), (1, 4, 5, 5))
    assert list(reasons("thop", transposed)) == ["transposed convolution by output size, not by input size"]
    grouped = trace(CELLS["transposed-grouped"].make(), (1, 4, 8, 8))
    assert "grouped transposed convolution: divided by the groups twice" in reasons("calflops", grouped)


# ---- how a call is spelled ----


class Way(NamedTuple):
    """A call on x: 2×5×16, w: 16×7 and b: 16, spelled in one way, and what the two tools print that wrap functions."""

    call: Callable[..., Any]
    ptflops: int
    calflops: int


X = 2 * 5 * 16  # elements
XW, XX = X * 7, X * 5  # multiply-adds of x w and of x xᵀ
ROWS = 5 * 16 * 7  # of one sample and w
kept = {"relu": F.relu, "gelu": F.gelu}  # not looked up by their names when they are called
WAYS = {
    "x @ w": Way(lambda x, w, b: x @ w, 0, 0),
    "torch.matmul": Way(lambda x, w, b: torch.matmul(x, w), XW, 2 * XW),
    "x.matmul": Way(lambda x, w, b: x.matmul(w), XW, 2 * XW),
    "x.mT @ x": Way(lambda x, w, b: x.mT @ x, 0, 0),
    "torch.bmm": Way(lambda x, w, b: torch.bmm(x, x.mT), XX, 0),
    "x.bmm": Way(lambda x, w, b: x.bmm(x.mT), XX, 0),
    "torch.mm": Way(lambda x, w, b: torch.mm(x[0], w), ROWS, 0),
    "x.mm": Way(lambda x, w, b: x[0].mm(w), ROWS, 0),
    "torch.addmm": Way(lambda x, w, b: torch.addmm(b[:7], x[0], w), ROWS + 7, 2 * ROWS + 7),
    "b.addmm": Way(lambda x, w, b: b[:7].addmm(x[0], w), ROWS + 7, 2 * ROWS + 7),
    "torch.baddbmm": Way(lambda x, w, b: torch.baddbmm(b[:5], x, x.mT), XX + 5, 2 * XX + 5),
    "b.baddbmm": Way(lambda x, w, b: b[:5].baddbmm(x, x.mT), 0, 0),
    "b.addmm_": Way(lambda x, w, b: x[0][:, :7].addmm_(x[0], w), 0, 0),
    "x + x": Way(lambda x, w, b: x + x, 0, 0),
    "x += 1": Way(lambda x, w, b: in_place(x), 0, 0),
    "1 + x": Way(lambda x, w, b: 1 + x, 0, 0),
    "sum": Way(lambda x, w, b: sum([x, x]), 0, 0),
    "torch.add": Way(lambda x, w, b: torch.add(x, x, alpha=2), X, X),
    "torch.add-number": Way(lambda x, w, b: torch.add(x, 1), X, X),
    "x.add": Way(lambda x, w, b: x.add(x), X, X),
    "x.add_": Way(lambda x, w, b: x.add_(x), 0, 0),
    # the tools put shapes side by side from the left: 2×5×16 and 16 make 16×5×16
    "x.add-vector": Way(lambda x, w, b: x.add(b), 16 * 5 * 16, 16 * 5 * 16),
    "x * x": Way(lambda x, w, b: x * x, 0, 0),
    "torch.mul": Way(lambda x, w, b: torch.mul(x, x), X, X),
    "x.mul": Way(lambda x, w, b: x.mul(2).mul_(2), X, X),
    "torch.sub": Way(lambda x, w, b: torch.sub(x, x), 0, 0),
    "F.relu": Way(lambda x, w, b: F.relu(x), X, X),
    "F.relu-in-place": Way(lambda x, w, b: F.relu(x, inplace=True), X, X),
    "torch.relu": Way(lambda x, w, b: torch.relu(x), 0, 0),
    "x.relu": Way(lambda x, w, b: x.relu().relu_(), 0, 0),
    "kept-relu": Way(lambda x, w, b: kept["relu"](x), 0, 0),
    "F.gelu": Way(lambda x, w, b: F.gelu(x), X, X),
    "kept-gelu": Way(lambda x, w, b: kept["gelu"](x), 0, 0),
    "F.leaky_relu": Way(lambda x, w, b: F.leaky_relu(x), 0, X),
    "F.softmax": Way(lambda x, w, b: F.softmax(x, -1), X, X),
    "x.softmax": Way(lambda x, w, b: x.softmax(-1), 0, 0),
    "torch.softmax": Way(lambda x, w, b: torch.softmax(x, -1), 0, 0),
    # x.mul(x), .mul(alpha).add(k), and the pooling of 5 channels and a row of zeros on both sides
    "local-response-norm": Way(lambda x, w, b: F.local_response_norm(x, 3), 3 * X + 2 * 7 * 16, 3 * X + 2 * 7 * 16),
}


def in_place(x: torch.Tensor) -> torch.Tensor:
    x += 1
    return x


def spelled(name: str) -> nn.Module:
    return Call(WAYS[name].call, (16, 7), (16,))


def once(name: str) -> nn.Module:
    """The encoder layer of PyTorch keeps its activation; 3 tokens of 8 features, 2 heads, a feed-forward of 16."""
    return nn.TransformerEncoderLayer(8, 2, 16, activation=name, batch_first=True)


@pytest.mark.parametrize("name", WAYS)
def test_what_is_heard_of_a_call(name: str) -> None:
    record = trace(spelled(name), (2, 5, 16))
    for tool in ("ptflops", "calflops"):
        account = COUNTERS[tool].convention(record)
        assert account.figure == getattr(WAYS[name], tool)
        assert account.figure == macs(record) + sum(item.amount for item in account.items)
        assert account.note == ""


@pytest.mark.parametrize("tool", ["ptflops", "calflops"])
def test_the_tool_hears_so(tool: str) -> None:
    if find_spec(find(tool).package) is None:
        pytest.skip(f"{tool} is not installed: pip install -e '.[witnesses]'")
    from archscope.peers.measured import run_tool

    every = Call(lambda x, w, b: [way.call(x, w, b) for way in WAYS.values()], (16, 7), (16,))
    said = run_tool(tool, every, (torch.empty(2, 5, 16),))
    assert said.figure == sum(getattr(way, tool) for way in WAYS.values()), said.note
    for name in ("relu", "gelu"):
        said = run_tool(tool, once(name), (torch.empty(1, 3, 8),))
        assert said.figure == COUNTERS[tool].convention(trace(once(name), (1, 3, 8))).figure, (name, said.note)


@pytest.mark.parametrize("tool", ["ptflops", "calflops"])
def test_a_product_that_is_not_heard_is_named(tool: str) -> None:
    reasons = {i.reason: i.amount for i in COUNTERS[tool].convention(trace(spelled("x @ w"), (2, 5, 16))).items}
    assert reasons == {"a @ b not seen": -XW}


@pytest.mark.parametrize("tool", ["ptflops", "calflops"])
def test_an_old_record_says_that_it_does_not_tell(tool: str, traced: Callable[..., Trace]) -> None:
    """Before `Trace.spelled`, `a @ b` and `torch.matmul(a, b)` were one operator, `a + b` and `torch.add(a, b)` too."""
    for name, figure in (("x @ w", getattr(WAYS["torch.matmul"], tool)), ("torch.add", 0)):
        account = COUNTERS[tool].convention(replace(trace(spelled(name), (2, 5, 16)), spelled=None))
        assert account.figure == figure
        assert account.note.startswith("the record does not say how operators were called")
    assert COUNTERS[tool].convention(replace(traced("lenet"), spelled=None)).note == ""


@pytest.mark.parametrize("tool", TOOLS)
def test_training_mode_is_refused(tool: str, traced: Callable[..., Trace]) -> None:
    account = COUNTERS[tool].convention(traced("lenet", train=True))
    assert account.figure is None
    assert "evaluation mode" in account.note


def test_models_that_make_the_tools_fail() -> None:
    packed = trace(Packed(), (3, 5, 10))
    assert "PackedSequence" in COUNTERS["ptflops"].convention(packed).note
    assert "PackedSequence" in COUNTERS["calflops"].convention(packed).note
    assert "without a batch axis" in COUNTERS["calflops"].convention(trace(nn.Conv2d(3, 8, 3), (3, 8, 8))).note
    assert "first parameter" in COUNTERS["calflops"].convention(trace(nn.ReLU(), (2, 8))).note


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(10, 20, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
        return self.rnn(packed)[1]


# ---- what is published ----


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet50", "mobilenet_v3_large", "densenet121", "googlenet", "vit_b_16", "swin_t"]
)
def test_torchvision_publishes_its_convention(name: str) -> None:
    """`_ops` of the metadata, GFLOPS to three decimals, which are multiply-adds at the size of the weights."""
    from torchvision.models import get_model_weights

    record = trace(*load(f"torchvision:{name}"))
    (published, *_) = [
        weights.meta["_ops"]
        for weights in get_model_weights(name)
        if weights.transforms.keywords.get("crop_size") == record.inputs[0].shape[-1]
    ]
    figure = find("torchvision").convention(record).figure
    assert figure is not None
    assert round(figure / 1e9, 3) == published


def test_timm_publishes_what_fvcore_counts(traced: Callable[..., Trace]) -> None:
    record = traced("resnet50-v1.5")
    figure = find("timm").convention(record).figure
    assert figure == find("fvcore").convention(record).figure
    assert figure is not None and round(figure / 1e9, 2) == 4.11  # resnet50 in its benchmark tables at 224: 4.11


@pytest.mark.parametrize(
    ("name", "side", "gmacs"),  # of its results/benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv
    [("mobilenetv3_large_100", 224, 0.23), ("regnety_016", 224, 1.63), ("mixer_s16_224", 224, 3.79)],
)
def test_timm_tables(name: str, side: int, gmacs: float) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    figure = find("timm").convention(record_of(f"timm:{name}", f"3x{side}x{side}")).figure
    assert figure is not None and round(figure / 1e9, 2) == gmacs


# ---- the tools themselves ----

SAMPLE = ("alexnet", "googlenet", "mobilenet-v3-small", "lenet-bn")


@pytest.mark.parametrize("tool", TOOLS)
def test_the_residual_is_zero(tool: str, traced: Callable[..., Trace]) -> None:
    package = find(tool).package
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[witnesses]'")
    from archscope.peers.measured import run_tool

    for name in SAMPLE:
        model, inputs = load(name)
        said = run_tool(tool, model, inputs)
        assert said.figure is not None, said.note
        assert said.figure == find(tool).convention(traced(name)).figure, name


PECULIAR = "transposed transposed-grouped padding-same batch-norm-plain relu relu6 gru attention F.relu matmul".split()


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tool_prints_the_cells(tool: str) -> None:
    package = find(tool).package
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[witnesses]'")
    from archscope.peers.measured import run_tool

    n = batch(tool)
    for name in PECULIAR:
        one = CELLS[name]
        said = run_tool(tool, one.make(), (torch.empty(n, *one.input),))
        assert said.figure == expected(tool, one, n), (name, said.note)
