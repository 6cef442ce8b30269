"""Recurrence, attention, convolutions over time."""

import torch
from torch import nn
from torch.nn import functional

from corpus import case


@case([(2, 7, 16)], params=4 * (32 * 16 + 32 * 32 + 32 + 32) + 32 * 4 + 4, macs=2 * 7 * 4 * 32 * (16 + 32) + 2 * 32 * 4,
      shapes=[(2, 4)])  # fmt: skip
class LastStep(nn.Module):
    """MACs of N examples of T steps: 6,144·N·T + 128·N."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


@case([(5, 2, 4)], params=2 * 3 * (3 * 4 + 3 * 3 + 3 + 3), macs=2 * 5 * 2 * 3 * 3 * (4 + 3), shapes=[(5, 2, 6)])
class BidirectionalGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 3, bidirectional=True)

    def forward(self, x):
        return self.gru(x)[0]


@case([(2, 5, 4)], params=4 * (3 * 4 + 3 * 3 + 3 + 3), macs=5 * 2 * 4 * 3 * (4 + 3), shapes=[(2, 5, 3)])
class CellInALoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 3)

    def forward(self, x):
        state, out = None, []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            out.append(state[0])
        return torch.stack(out, 1)


@case([(2, 5, 4)], params=4 * (2 * 4 + 2 * 2 + 2 + 2), macs=5 * 2 * (4 * 2 * 4 + 4 * 2 * 2),
      shapes=[(2, 5, 2)])  # fmt: skip
class NarrowLSTM(nn.Module):
    """4 gates of 2 x 4 and 2 x 2 with two biases: 4·(8 + 4 + 4) = 64."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 2, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


@case([(2, 9, 4)], params=3 * 4 * 4 + 3 * 4 * 4, macs=2 * 7 * 3 * 4 * 4 + 2 * 3 * 3 * 4 * 4, shapes=[(2, 3, 4)])
class ConvolutionsOverTime(nn.Module):
    """9 steps, 7 after a window of 3, 3 after one of 3 with dilation 2."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 4, 3, bias=False), nn.Conv1d(4, 4, 3, dilation=2, bias=False)

    def forward(self, x):
        return self.b(self.a(x.transpose(1, 2))).transpose(1, 2)


@case([(2, 5, 8)], params=4 * (8 * 8 + 8), macs=4 * 2 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 8, shapes=[(2, 5, 8)])
class MultiheadAttention(nn.Module):
    """Four products of 8 x 8; scores and values 5 x 5 x 8 each."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@case([(2, 5, 8)], params=4 * (8 * 8 + 8) + 2 * 8 * 16 + 16 + 8 + 4 * 8,
      macs=4 * 2 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 8 + 2 * 2 * 5 * 8 * 16, shapes=[(2, 5, 8)])  # fmt: skip
class TransformerEncoder(nn.Module):
    """Attention, a hidden layer of 16, two norms."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(x)


class Attention(nn.Module):
    """Two heads of 4 on 5 tokens of 8: q, k and v in one product, and one behind."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 8, bias=False)

    def split(self, x):
        return self.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)


def attention(scores=1, **more):
    base = 2 * 5 * 8 * 24 + 2 * 5 * 8 * 8
    return case([(2, 5, 8)], **{"params": 8 * 24 + 8 * 8, "macs": base + scores * 2 * 2 * 5 * 5 * 8,
                "shapes": [(2, 5, 8)], **more})  # fmt: skip


@attention()
class CausalAttention(Attention):
    """The upper half of the scores is masked and computed all the same."""

    def forward(self, x):
        q, k, v = self.split(x)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(x.shape))


@attention()
class MaskOfInfinities(Attention):
    def forward(self, x):
        q, k, v = self.split(x)
        score = q @ k.mT / 2
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
        y = score.masked_fill(mask, float("-inf")).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(x.shape))


@attention()
class AttentionByEinsum(Attention):
    def forward(self, x):
        q, k, v = self.split(x)
        score = torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1)
        return self.out(torch.einsum("bhqk,bhkd->bqhd", score, v).flatten(2))


@attention()
class RotaryAttention(Attention):
    def turned(self, x):
        angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1])
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)

    def forward(self, x):
        q, k, v = self.split(x)
        y = functional.scaled_dot_product_attention(self.turned(q), self.turned(k), v)
        return self.out(y.transpose(1, 2).flatten(2))


@attention(params=8 * 24 + 8 * 8 + 2 * 9)
class RelativeBias(Attention):
    """A bias for each head and each of 9 distances."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2, 9))

    def forward(self, x):
        q, k, v = self.split(x)
        at = torch.arange(5)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias[:, at[:, None] - at + 4])
        return self.out(y.transpose(1, 2).flatten(2))


@case([(2, 5, 8)], params=8 * 24 + 8 * 8, macs=2 * 5 * 8 * 24 + 2 * 5 * 8 * 8 + 2 * 2 * 2 * 5 * 4 * 4,
      shapes=[(2, 5, 8)])  # fmt: skip
class LinearAttention(Attention):
    """Keys times values first: 2 products per head of 5 x 4 x 4."""

    def forward(self, x):
        q, k, v = self.split(x)
        return self.out((q @ (k.mT @ v)).transpose(1, 2).flatten(2))


@case([(1, 4, 16)], params=4 * 4 * 2 + 4 * 4 * 2, macs=16 * 4 * 4 * 2 + 16 * 4 * 4 * 2, shapes=[(1, 4, 16)])
class CausalConvolutions(nn.Module):
    """As WaveNet: padded on the left, dilation 1 and 2."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 4, 2, bias=False), nn.Conv1d(4, 4, 2, dilation=2, bias=False)

    def forward(self, x):
        y = self.a(functional.pad(x, (1, 0)))
        return self.b(functional.pad(torch.tanh(y), (2, 0)))


@case(lambda: (torch.tensor([1, 2, 4, 5, 4]), torch.tensor([0, 3])), params=10 * 3 + 3 * 2, macs=2 * 3 * 2,
      shapes=[(2, 2)])  # fmt: skip
class BagsOfWords(nn.Module):
    """Two bags, as the offsets say."""

    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(10, 3), nn.Linear(3, 2, bias=False)

    def forward(self, ids, offsets):
        return self.head(self.bag(ids, offsets))


@case([(2, 6, 4)], params=4 * 4, macs=2 * 6 * 4 * 4, shapes=[(2, 6, 4)])
class DiagonalStateSpace(nn.Module):
    """A product per step and a state that decays, step by step."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        state, out = torch.zeros(2, 4), []
        for step in self.linear(x).unbind(1):
            state = 0.9 * state + step
            out.append(state)
        return torch.stack(out, 1)
