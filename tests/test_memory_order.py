"""Memory order: strides, views and copies of a record without values are those of PyTorch on the CPU.

Expected is what a real run does (`real_run.py`), operator by operator: the strides of each output, and whether it takes
memory of its own.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from real_run import differences, real_calls
from torch import Tensor, nn

from archscope import trace
from archscope.analysis.metrics import totals
from archscope.core.errors import ShapeError
from archscope.shapes.doctor import diagnose

Shape = tuple[int, ...]


def channels_last(x: Tensor) -> Tensor:
    format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim(), torch.contiguous_format)
    return x.contiguous(memory_format=format)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": channels_last,
    "the last two transposed": lambda x: x.mT.contiguous().mT,
    "the first two transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded": lambda x: x[:1].expand(x.shape),
    "half of channels last": lambda x: channels_last(torch.cat([x, x], 1))[:, x.shape[1] :],
    "one example, channels last": lambda x: channels_last(x[:1]),
}


class Fn(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


IMAGE, VOLUME, SIGNAL, TOKENS, ROWS = (2, 8, 6, 10), (2, 8, 4, 6, 5), (2, 8, 10), (4, 5, 8), (4, 8)
conv = functools.partial(nn.Conv2d, 8)
attention = F.scaled_dot_product_attention


def last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)


def of_one(module: nn.Module, **named: Any) -> Fn:
    return Fn(lambda x: module(x, x, x, **named)[0])


# what runs, and the shapes of its inputs
CASES: dict[str, tuple[Any, list[Shape]]] = {
    "activations": (nn.Sequential(nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.LeakyReLU(), nn.ELU()), [IMAGE]),
    "more activations": (nn.Sequential(nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.Mish(), nn.Softplus()), [IMAGE]),
    "in place": (nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)), [IMAGE]),
    "PReLU": (nn.PReLU(8), [IMAGE]),
    "GLU": (nn.GLU(1), [IMAGE]),
    "RReLU": (nn.RReLU(), [IMAGE]),
    "softmax": (nn.Sequential(nn.Softmax(-1), nn.LogSoftmax(1)), [IMAGE]),
    "convolution": (conv(16, 3, padding=1), [IMAGE]),
    "1×1 convolution": (conv(16, 1, bias=False), [IMAGE]),
    "strided convolution": (conv(16, 3, stride=2), [IMAGE]),
    "depthwise convolution": (conv(8, 3, groups=8), [IMAGE]),
    "grouped convolution": (conv(16, 3, groups=2), [IMAGE]),
    "dilated convolution": (conv(16, 3, dilation=2), [IMAGE]),
    "convolution that keeps the side": (conv(16, 3, padding="same"), [IMAGE]),
    "convolution with a reflected border": (conv(16, 3, padding=1, padding_mode="reflect"), [IMAGE]),
    "convolution with a circular border": (conv(16, 3, padding=1, padding_mode="circular"), [IMAGE]),
    "convolution to one channel": (conv(1, 3), [IMAGE]),
    "convolution of one channel": (nn.Conv2d(1, 4, 3), [(2, 1, 6, 10)]),
    "convolution of one image": (nn.Conv2d(8, 4, 3), [(8, 6, 10)]),
    "convolution, weights channels last": (last(conv(16, 3)), [IMAGE]),
    "convolution of one image, weights channels last": (last(conv(16, 3)), [(8, 6, 10)]),
    "depthwise convolution, weights channels last": (last(conv(8, 3, groups=8)), [IMAGE]),
    "1-d convolution": (nn.Conv1d(8, 4, 3), [SIGNAL]),
    "3-d convolution": (nn.Conv3d(8, 4, 3, padding=1), [VOLUME]),
    "3-d convolution in groups": (nn.Conv3d(8, 4, 3, padding=1, groups=2), [VOLUME]),
    "transposed convolution": (nn.ConvTranspose2d(8, 4, 3, stride=2), [IMAGE]),
    "transposed convolution in groups": (nn.ConvTranspose2d(8, 8, 3, groups=8), [IMAGE]),
    "transposed convolution, weights channels last": (last(nn.ConvTranspose2d(8, 4, 3)), [IMAGE]),
    "transposed 1-d convolution": (nn.ConvTranspose1d(8, 4, 3, stride=2), [SIGNAL]),
    "batch norm": (nn.BatchNorm2d(8).eval(), [IMAGE]),
    "batch norm of signals": (nn.BatchNorm1d(8).eval(), [SIGNAL]),
    "batch norm of rows": (nn.BatchNorm1d(8).eval(), [ROWS]),
    "batch norm of volumes": (nn.BatchNorm3d(8).eval(), [VOLUME]),
    "batch norm without weights": (nn.BatchNorm2d(8, affine=False).eval(), [IMAGE]),
    "batch norm by the batch": (nn.BatchNorm2d(8, track_running_stats=False), [IMAGE]),
    "group norm": (nn.GroupNorm(2, 8), [IMAGE]),
    "group norm of signals": (nn.GroupNorm(2, 8), [SIGNAL]),
    "layer norm": (nn.Sequential(nn.LayerNorm(10), nn.LayerNorm([6, 10], elementwise_affine=False)), [IMAGE]),
    "RMS norm": (nn.RMSNorm(10), [IMAGE]),
    "instance norm": (nn.InstanceNorm2d(8), [IMAGE]),
    "instance norm with weights": (nn.InstanceNorm2d(8, affine=True), [IMAGE]),
    "local response norm": (nn.LocalResponseNorm(3), [IMAGE]),
    "max pooling": (nn.MaxPool2d(2, return_indices=True), [IMAGE]),
    "average pooling": (nn.AvgPool2d(2), [IMAGE]),
    "adaptive pooling": (nn.AdaptiveAvgPool2d((2, 3)), [IMAGE]),
    "global pooling": (nn.AdaptiveAvgPool2d(1), [IMAGE]),
    "adaptive maximum": (nn.AdaptiveMaxPool2d(2), [IMAGE]),
    "power pooling": (nn.LPPool2d(2, 2), [IMAGE]),
    "1-d max pooling": (nn.MaxPool1d(2), [SIGNAL]),
    "1-d average pooling": (nn.Sequential(nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2)), [SIGNAL]),
    "3-d max pooling": (nn.MaxPool3d(2), [VOLUME]),
    "3-d average pooling": (nn.AvgPool3d(2), [VOLUME]),
    "3-d adaptive pooling": (nn.AdaptiveAvgPool3d(2), [VOLUME]),
    "unpooling": (Fn(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2])), [IMAGE]),
    "nearest": (nn.Upsample(scale_factor=2), [IMAGE]),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), [IMAGE]),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), [IMAGE]),
    "antialiased": (Fn(lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", antialias=True)), [IMAGE]),
    "area": (Fn(lambda x: F.interpolate(x, size=(3, 5), mode="area")), [IMAGE]),
    "nearest of volumes": (nn.Upsample(scale_factor=2), [VOLUME]),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), [VOLUME]),
    "pooled and enlarged": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample((6, 10), mode="bilinear")), [IMAGE]),
    "squeeze and excite": (nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(4, 1), nn.ZeroPad2d(1)), [IMAGE]),
    "pixel shuffle": (nn.PixelShuffle(2), [IMAGE]),
    "pixel unshuffle": (nn.PixelUnshuffle(2), [IMAGE]),
    "channel shuffle": (nn.ChannelShuffle(2), [IMAGE]),
    "shuffle by views": (Fn(lambda x: x.view(2, 2, 4, 6, 10).transpose(1, 2).contiguous().view(2, 8, 6, 10)), [IMAGE]),
    "zeros around": (nn.ZeroPad2d(1), [IMAGE]),
    "cut off": (nn.ZeroPad2d(-1), [IMAGE]),
    "reflected around": (nn.ReflectionPad2d(1), [IMAGE]),
    "repeated around": (nn.ReplicationPad2d(1), [IMAGE]),
    "circular around": (nn.CircularPad2d(1), [IMAGE]),
    "reflected around volumes": (nn.ReflectionPad3d(1), [VOLUME]),
    "unfold": (nn.Unfold(3), [IMAGE]),
    "grid sample": (Fn(lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)), [IMAGE]),
    "linear": (nn.Linear(10, 4), [IMAGE]),
    "linear without bias": (nn.Linear(8, 4, bias=False), [TOKENS]),
    "linear of rows": (nn.Linear(8, 4), [ROWS]),
    "matrix product": (Fn(lambda x, y: x @ y.mT), [IMAGE, IMAGE]),
    "batched product": (Fn(lambda x: torch.bmm(x, x.mT)), [TOKENS]),
    "einsum": (Fn(lambda x: torch.einsum("nchw,ncxw->nhxc", x, x)), [IMAGE]),
    "sums": (Fn(lambda x, y: (x + y) * 2 + x.mean((2, 3), keepdim=True) * y), [IMAGE, IMAGE]),
    "sum of two orders": (Fn(lambda x, y: channels_last(y) + x), [IMAGE, IMAGE]),
    "outer sum": (Fn(lambda x: x[:, :, None] + x[:, None]), [ROWS]),
    "where": (Fn(lambda x: torch.where(x > 0, x, x.clamp(0, 1))), [IMAGE]),
    "reductions": (Fn(lambda x: (x.mean(1), x.amax(1), x.sum(-1), x.var(1), x.norm(dim=1), x.argmax(1))), [IMAGE]),
    "scans": (Fn(lambda x: (x.cumsum(1), x.topk(2, 1), x.sort(1), x.logsumexp(1))), [IMAGE]),
    "concatenation": (Fn(lambda x, y: torch.cat([x, y], 1)), [IMAGE, IMAGE]),
    "concatenation of two orders": (Fn(lambda x, y: torch.cat([x, channels_last(y)], 1)), [IMAGE, IMAGE]),
    "stack": (Fn(lambda x, y: torch.stack([x, y], 1)), [IMAGE, IMAGE]),
    "flatten": (Fn(lambda x: (x.flatten(1), x.flatten(2).transpose(1, 2))), [IMAGE]),
    "reshape": (Fn(lambda x: x.reshape(2, 4, 2, 60)), [IMAGE]),
    "contiguous": (Fn(lambda x: (x.contiguous(), x.transpose(1, 2).contiguous(), channels_last(x))), [IMAGE]),
    "expanded and copied": (Fn(lambda x: x[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()), [IMAGE]),
    "split and copied": (Fn(lambda x: [part.contiguous() for part in x.split(4, 1)]), [IMAGE]),
    "split unsafely": (Fn(lambda x: torch.unsafe_chunk(x, 2, 1)), [IMAGE]),
    "repeat": (Fn(lambda x: (x.repeat(1, 2, 1, 1), x.repeat_interleave(2, 1), x.tile(2, 2))), [IMAGE]),
    "roll and flip": (Fn(lambda x: (x.roll(1, 2), x.flip(2), x.roll((1, 2), (2, 3)))), [IMAGE]),
    "index": (Fn(lambda x: (x[:, torch.tensor([0, 0])], x.index_select(0, torch.tensor([0, 0])))), [IMAGE]),
    "dtypes": (Fn(lambda x: (x.double(), x.bfloat16(), x.float())), [IMAGE]),
    "like": (Fn(lambda x: (torch.zeros_like(x), x.clone(), x.new_zeros(x.shape))), [IMAGE]),
    "dropout": (nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()), [IMAGE]),
    "LSTM": (nn.LSTM(8, 6), [TOKENS]),
    "LSTM, batch first": (nn.LSTM(8, 6, batch_first=True), [TOKENS]),
    "LSTM, both ways": (nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True), [TOKENS]),
    "LSTM with a projection": (nn.LSTM(8, 6, proj_size=3, batch_first=True), [TOKENS]),
    "LSTM of one sequence": (nn.LSTM(8, 6, batch_first=True), [(5, 8)]),
    "LSTM, copied": (nn.Sequential(nn.LSTM(8, 6, batch_first=True), Fn(lambda y: y[0].contiguous())), [TOKENS]),
    "GRU": (nn.GRU(8, 6, 2), [TOKENS]),
    "GRU, batch first": (nn.GRU(8, 6, batch_first=True), [TOKENS]),
    "RNN, batch first": (nn.RNN(8, 6, batch_first=True, nonlinearity="relu"), [TOKENS]),
    "attention": (Fn(attention), [IMAGE] * 3),
    "causal attention": (Fn(functools.partial(attention, is_causal=True)), [IMAGE] * 3),
    "attention over transposed heads": (Fn(lambda *x: attention(*[t.transpose(1, 2) for t in x])), [IMAGE] * 3),
    "masked attention": (Fn(lambda q, k, v, m: attention(q, k, v, attn_mask=m)), [IMAGE] * 3 + [(2, 1, 1, 6)]),
    "attention of one head": (Fn(attention), [TOKENS] * 3),
    "attention with other values": (Fn(attention), [IMAGE, IMAGE, (2, 8, 6, 12)]),
    "attention in groups": (Fn(functools.partial(attention, enable_gqa=True)), [IMAGE, (2, 2, 6, 10), (2, 2, 6, 10)]),
    "attention of one shared head": (Fn(attention), [IMAGE, (2, 1, 3, 10), (2, 1, 3, 10)]),
    "attention with dropout": (Fn(functools.partial(attention, dropout_p=0.1)), [IMAGE] * 3),
    "multi-head attention": (nn.MultiheadAttention(8, 2), [TOKENS] * 3),
    "multi-head attention, batch first": (nn.MultiheadAttention(8, 2, batch_first=True).eval(), [TOKENS] * 3),
    "self-attention": (of_one(nn.MultiheadAttention(8, 2).eval()), [TOKENS]),
    "self-attention, no weights": (
        of_one(nn.MultiheadAttention(8, 2, batch_first=True).eval(), need_weights=False), [TOKENS]
    ),
    "encoder layer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), [TOKENS]),
    "decoder layer": (nn.TransformerDecoderLayer(8, 2, 16).eval(), [TOKENS, TOKENS]),
    "losses": (Fn(lambda x, y: F.mse_loss(x, y, reduction="none") + F.l1_loss(x, y)), [IMAGE, IMAGE]),
    "Fourier": (Fn(lambda x: torch.fft.rfft(x)), [IMAGE]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", CASES)
def test_operators_in_every_layout(name: str) -> None:
    model, shapes = CASES[name]
    found = {}
    for layout, lay in LAYOUTS.items():
        inputs = [lay(torch.rand(shape)) for shape in shapes]
        try:
            with torch.inference_mode():
                model(*inputs)
        except (RuntimeError, ValueError):
            assert layout != "contiguous"
            continue  # a view that PyTorch refuses
        found[layout] = differences(model, inputs)
    assert len(found) > 3 and not {layout: lines for layout, lines in found.items() if lines}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_packed_sequence_that_is_read_both_ways(kind: Any, batch_first: bool) -> None:
    """Lengths 5, 3, 2 and 1 are 11 rows; each has 6 numbers of either direction."""
    layer = kind(8, 6, bidirectional=True, batch_first=batch_first)
    packed = nn.utils.rnn.pack_sequence([torch.rand(length, 8) for length in (5, 3, 2, 1)])
    (recurrent,) = [op for op in trace(layer, packed).ops if op.name.startswith(("aten.lstm", "aten.gru", "aten.rnn"))]
    assert recurrent.outputs[0].shape == (5 + 3 + 2 + 1, 2 * 6)
    batch = torch.rand(4, 5, 8) if batch_first else torch.rand(5, 4, 8)

    def padded(x: Tensor) -> Tensor:
        given = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 2, 1]), batch_first=batch_first)
        return nn.utils.rnn.pad_packed_sequence(layer(given)[0], batch_first=batch_first)[0]

    assert trace(Fn(padded), batch).layers[-1].outputs[0].shape == ((4, 5, 12) if batch_first else (5, 4, 12))


class Loud(nn.Module):
    """A module whose first output is viewed as rows."""

    def __init__(self, module: nn.Module, *shape: int) -> None:
        super().__init__()
        self.inner, self.shape = module, shape

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return (y[0] if isinstance(y, tuple) else y).view(*self.shape)


@pytest.mark.parametrize(
    ("module", "shape", "given"),
    [
        (nn.LSTM(8, 6, batch_first=True), (-1, 6), torch.rand(TOKENS)),
        (nn.GRU(8, 6, batch_first=True), (20, 6), torch.rand(TOKENS)),
        (Fn(lambda x: x.transpose(1, 2)), (4, 40), torch.rand(TOKENS)),
        (Fn(lambda x: attention(*[x.view(4, 5, 2, 4).transpose(1, 2)] * 3)), (4, 2, 20), torch.rand(TOKENS)),
        (nn.Conv2d(8, 4, 3), (2, -1), channels_last(torch.rand(IMAGE))),
        (nn.BatchNorm2d(8).eval(), (2, -1), channels_last(torch.rand(IMAGE))),
        (nn.PixelShuffle(2), (2, -1), channels_last(torch.rand(IMAGE))),
        (Fn(lambda x: torch.relu(x).t_()), (-1,), torch.rand(ROWS)),
    ],
)
def test_a_view_that_pytorch_refuses(module: nn.Module, shape: Shape, given: Tensor) -> None:
    model = Loud(module, *shape)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="view size is not compatible") as real:
        model(given)
    with pytest.raises(ShapeError) as said:
        trace(model, given)
    assert str(real.value)[:60] in str(said.value)
    assert f"reshape({', '.join(map(str, shape))}) in its place works" in diagnose(said.value)


def test_a_view_that_pytorch_takes() -> None:
    """Attention hands back the order of its query: what transformers then view needs no copy."""

    def heads(x: Tensor) -> Tensor:
        q = x.view(4, 5, 2, 4).transpose(1, 2)
        return attention(q, q, q).transpose(1, 2).view(4, 5, 8)

    assert differences(Fn(heads), [torch.rand(TOKENS)]) == []
    assert differences(Loud(nn.Conv2d(8, 4, 3), 2, -1).eval(), [torch.rand(IMAGE)]) == []


def turned(x: Tensor) -> Tensor:
    y = torch.relu(x)
    y.t_()
    return y.contiguous()


def squeezed(x: Tensor) -> Tensor:
    y = torch.relu(x)[None]
    y.squeeze_(0).unsqueeze_(2).transpose_(0, 1)
    return y.reshape(-1)


def resized(x: Tensor, *sides: int) -> Tensor:
    y = x + 1
    y.resize_(*sides)
    return y * 2


def resized_like(x: Tensor) -> Tensor:
    y = x + 1
    y.resize_as_(x[:2])
    return y * 2


def written(x: Tensor) -> Tensor:
    made, y = torch.empty(0), torch.empty_like(x)
    torch.matmul(x, x.t(), out=made)
    torch.add(x, 1, out=y)
    torch.mul(y, 2, out=y)
    torch.add(x[:, :2], 1, out=y[:, :2])
    return made.t().contiguous().sum() + y


@pytest.mark.parametrize("values", ["never", "always"])
@pytest.mark.parametrize(
    "function",
    [
        turned, squeezed, resized_like, written,
        lambda x: resized(x, 2, 2),
        lambda x: resized(x, 8, 4),
        lambda x: resized(x, 9, 9),
    ],
)  # fmt: skip
def test_shapes_that_change_in_place(function: Callable[..., Any], values: str) -> None:
    """A smaller shape lies in the memory that is there, a larger one takes its own; so does `out=`."""
    for given in (torch.rand(4, 8), torch.rand(8, 4).t()):
        assert differences(Fn(function), [given], values) == []


def test_a_real_run_takes_views_for_views() -> None:
    """Where a record has values, a reshape that copies takes memory and the broadcast of a tensor does not."""
    x = torch.rand(2, 3)
    for function in (
        lambda x: x.t().reshape(-1),
        lambda x: torch.broadcast_tensors(x, x[:1])[1],
        lambda x: torch.meshgrid(x[0], x[1], indexing="ij"),
        lambda x: x.t().flatten(),
    ):
        assert differences(Fn(function), [x], "always") == []


def test_the_bytes_of_multi_head_attention() -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    given = [torch.rand(TOKENS)] * 3
    real = sum(call.new for call in real_calls(model, given) if call.new)
    assert totals(trace(model, given))["activations"] == real
