"""Weights and activations of few bits."""

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)


def one(inputs=((2, 4),), **more):
    """One layer of 4 x 3 on 2 examples."""
    return case(inputs, **{"params": 4 * 3, "macs": 2 * 4 * 3, "shapes": [(2, 3)], **more})


@one()
class FakeQuantised(Base):
    def forward(self, x):
        return self.linear(torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127))


@one()
class FakeQuantisedPerChannel(Base):
    def forward(self, x):
        scale, zero = torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int32)
        return functional.linear(x, torch.fake_quantize_per_channel_affine(self.linear.weight, scale, zero, 0, -8, 7))


@one(params=0)
class Int8Weight(nn.Module):
    """Bytes and a scale for each row, both buffers: no parameters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 127, (3, 4), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(3, 1))

    def forward(self, x):
        return functional.linear(x, self.get_buffer("weight").to(x.dtype) * self.get_buffer("scale"))


@one(params=0)
class PackedFourBits(nn.Module):
    """Two weights a byte: 3 x 2 bytes are 3 x 4 weights."""

    def __init__(self):
        super().__init__()
        self.register_buffer("packed", torch.randint(0, 255, (3, 2), dtype=torch.uint8))

    def forward(self, x):
        packed = self.get_buffer("packed")
        low, high = packed & 15, packed >> 4
        return functional.linear(x, torch.stack([low, high], -1).flatten(1).to(x.dtype) - 8)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, *slopes):
        return slopes[0]


@one()
class Binary(Base):
    """Signs of the weights, by a function with a gradient of its own."""

    def forward(self, x):
        return functional.linear(x, _Sign.apply(self.linear.weight))


@one()
class Ternary(Base):
    """As BitNet: weights of −1, 0 and 1, activations of 8 bits."""

    def forward(self, x):
        w = self.linear.weight
        scale = w.abs().mean()
        step = 127 / x.abs().amax(-1, keepdim=True)
        return functional.linear((x * step).round() / step, (w / scale).round().clamp(-1, 1) * scale)


@one(lambda: (torch.randint(-9, 9, (32, 16), dtype=torch.int8),), params=0, macs=32 * 16 * 8, shapes=[(32, 8)],
     uncounted="it does not know _int_mm")  # fmt: skip
class IntegerProduct(nn.Module):
    """32 x 16 times 16 x 8, in integers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randint(-9, 9, (16, 8), dtype=torch.int8))

    def forward(self, x):
        return torch.ops.aten._int_mm(x, self.weight)


@one(params=0, uncounted="it does not know quantised kernels")
class DynamicallyQuantised(nn.Module):
    """PyTorch's own: the weight is packed and no parameter."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = nn.Sequential(nn.Linear(4, 3, bias=False))
            self.net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)

    def forward(self, x):
        return self.net(x)


@one(lambda: (torch.tensor([[1, 2, 3]]),), params=4 * 3, macs=3 * 4 * 3, shapes=[(1, 3, 3)])
class Int8Embedding(nn.Module):
    """A table of bytes, and a product of 4 x 3 for each of 3 tokens."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randint(-9, 9, (10, 4), dtype=torch.int8))
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, ids):
        return self.linear(functional.embedding(ids, self.get_buffer("table")).float())


@one(params=4 * 3 + 1)
class LearnedStep(Base):
    """A step that is learned."""

    def __init__(self):
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        y = x / self.step
        return self.linear((y + (y.round() - y).detach()).clamp(-8, 7) * self.step)


@one([(1, 3, 8, 8)], params=0, macs=36 * 4 * 3 * 9 + 144 * 2, shapes=[(1, 2)],
     uncounted="it does not know quantised kernels", answer="depends on values")  # fmt: skip
class StaticallyQuantised(nn.Module):
    """6 x 6 places of 4 x 3 x 9, then 144 x 2, in integers."""

    def __init__(self):
        super().__init__()
        tools = torch.ao.quantization
        net = nn.Sequential(
            tools.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2), tools.DeQuantStub()
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings: Any = net.eval()
            settings.qconfig = tools.get_default_qconfig(torch.backends.quantized.engine)
            ready = tools.prepare(net)
            ready(torch.rand(1, 3, 8, 8))
            self.net = tools.convert(ready)

    def forward(self, x):
        return self.net(x)


@one([(1, 5, 4)], params=0, macs=5 * 4 * 3 * (4 + 3), shapes=[(1, 5, 3)],
     uncounted="it does not know quantised kernels")  # fmt: skip
class DynamicallyQuantisedLSTM(nn.Module):
    """Five steps of four gates of 3 x (4 + 3)."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = nn.Sequential(nn.LSTM(4, 3, batch_first=True))
            self.lstm = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM}, torch.qint8)[0]

    def forward(self, x):
        return self.lstm(x)[0]
