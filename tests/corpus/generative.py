"""Models that draw, decode and invert."""

import torch
from torch import nn
from torch.nn import functional

from corpus import case


@case([(2, 6)], params=6 * 4 + 2 * 6, macs=2 * 6 * 4 + 2 * 2 * 6, shapes=[(2, 6), (2, 2), (2, 2)])
class VariationalAutoencoder(nn.Module):
    """6 to a mean and a log variance of 2 each, and back."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x):
        mean, log = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (log / 2).exp()
        return self.decoder(z), mean, log


@case([(2, 6)], params=6 * 4 + 2 * 6, macs=2 * 6 * 4 + 2 * 2 * 6, shapes=[(2, 6), ()])
class WithDistributions(nn.Module):
    """The same with torch.distributions, whose arguments are checked."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x):
        mean, log = self.encoder(x).chunk(2, 1)
        q = torch.distributions.Normal(mean, log.exp(), validate_args=True)
        p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        return self.decoder(q.rsample()), torch.distributions.kl_divergence(q, p).sum()


@case(lambda: (torch.rand(1, 3, 8, 8), torch.tensor([7])), params=8 * 3 + 2 * 3 * 3 * 9,
      macs=8 * 3 + 2 * 64 * 3 * 3 * 9, shapes=[(1, 3, 8, 8)])  # fmt: skip
class DiffusionStep(nn.Module):
    """An embedding of the step, 8 x 3, between two convolutions of 3 x 3 x 3 x 3 on 8 x 8."""

    def __init__(self):
        super().__init__()
        self.time = nn.Linear(8, 3, bias=False)
        self.a, self.b = (nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x, t):
        angle = t[:, None] * torch.exp(-torch.arange(4) / 4)
        e = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        return self.b(functional.silu(self.a(x) + e[:, :, None, None]))


@case([(2, 4)], params=2 * 2 * 4, macs=2 * 2 * 2 * 4, shapes=[(2, 4), (2,)])
class AffineCoupling(nn.Module):
    """Two couplings: half of 4 gives a scale and a shift of 2 each."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Linear(2, 4, bias=False) for _ in range(2))

    def forward(self, x):
        log = x.new_zeros(len(x))
        for net in self.nets:
            a, b = x.chunk(2, 1)
            scale, shift = net(a).chunk(2, 1)
            x, log = torch.cat([b * scale.exp() + shift, a], 1), log + scale.sum(1)
        return x, log


class _MaskedConv(nn.Conv2d):
    def __init__(self, *sizes, **more):
        super().__init__(*sizes, **more)
        mask = torch.ones_like(self.weight)
        mask[:, :, 1, 1:] = mask[:, :, 2] = 0
        self.register_buffer("mask", mask)

    def forward(self, input):
        return self._conv_forward(input, self.weight * self.get_buffer("mask"), self.bias)


@case([(1, 2, 6, 6)], params=2 * 3 * 9, macs=36 * 2 * 3 * 9, shapes=[(1, 3, 6, 6)])
class PixelCNN(nn.Module):
    """The masked entries are multiplied all the same."""

    def __init__(self):
        super().__init__()
        self.conv = _MaskedConv(2, 3, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv(x)


@case([(2, 4)], params=4 * 6 + 6 * 4, macs=2 * (4 * 6 + 6 * 4), shapes=[(2, 4)])
class MADE(nn.Module):
    """Weights times masks that are constants."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.rand(6, 4)), nn.Parameter(torch.rand(4, 6))
        order = torch.arange(6) % 3
        self.register_buffer("mask_a", (order[:, None] >= torch.arange(4)).float())
        self.register_buffer("mask_b", (torch.arange(4)[:, None] > order).float())

    def forward(self, x):
        return functional.linear(
            functional.linear(x, self.a * self.get_buffer("mask_a")).relu(), self.b * self.get_buffer("mask_b")
        )


@case([(2, 5)], params=5 * 4 * 16 + 4 * 3 * 16, macs=2 * 5 * 4 * 16 + 2 * 4 * 3 * 16 * 16, shapes=[(2, 3, 8, 8)])
class TransposedGenerator(nn.Module):
    """5 x 1 x 1 to 4 x 4 x 4, to 3 x 8 x 8: by input size, k = 4 x 4."""

    def __init__(self):
        super().__init__()
        self.a = nn.ConvTranspose2d(5, 4, 4, bias=False)
        self.b = nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False)

    def forward(self, z):
        return torch.tanh(self.b(self.a(z[:, :, None, None]).relu()))


@case([(2, 3, 4, 4), (2, 5)], params=5 * 3 + 2 * 3 * 9, macs=2 * 5 * 3 + 2 * 16 * 2 * 3 * 9, shapes=[(2, 2, 4, 4)])
class ModulatedConvolution(nn.Module):
    """As StyleGAN2: a weight per example, in one grouped convolution."""

    def __init__(self):
        super().__init__()
        self.style, self.weight = nn.Linear(5, 3, bias=False), nn.Parameter(torch.rand(2, 3, 3, 3))

    def forward(self, x, w):
        weight = self.weight[None] * self.style(w)[:, None, :, None, None]
        weight = weight * weight.square().sum((2, 3, 4), keepdim=True).rsqrt()
        y = functional.conv2d(x.reshape(1, 6, 4, 4), weight.flatten(0, 1), padding=1, groups=2)
        return y.view(2, 2, 4, 4)


@case([(2, 6, 4)], params=8 * 4 + 4 * 3, macs=2 * 6 * 8 * 4 + 2 * 6 * 4 * 3, shapes=[(2, 6, 3), (2, 6)])
class VectorQuantised(nn.Module):
    """|x − e|² written out: the products with 8 codes of 4."""

    def __init__(self):
        super().__init__()
        self.codes, self.out = nn.Embedding(8, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        e = self.codes.weight
        apart = x.square().sum(-1, keepdim=True) - 2 * x @ e.T + e.square().sum(1)
        chosen = apart.argmin(-1)
        y = x + (self.codes(chosen) - x).detach()
        return self.out(y), chosen


@case(lambda: (torch.tensor([[1, 2, 3]]),), params=10 * 4 + 4 * 12, macs=(3 + 1 + 1) * (4 * 12 + 4 * 10) +
      2 * 4 * (3 * 3 + 4 + 5), shapes=[(1, 6)])  # fmt: skip
class GreedyDecoding(nn.Module):
    """A prompt of 3 and two more steps with a cache: 3 x 3 scores, then 1 x 4 and 1 x 5; the head is tied."""

    def __init__(self):
        super().__init__()
        self.table, self.qkv = nn.Embedding(10, 4), nn.Linear(4, 12, bias=False)

    def forward(self, ids):
        cache, new = None, ids
        for _ in range(3):
            q, k, v = self.qkv(self.table(new)).chunk(3, -1)
            if cache is not None:
                k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
            cache = k, v
            y = (q @ k.mT).softmax(-1) @ v @ self.table.weight.T
            new = y[:, -1:].argmax(-1)
            ids = torch.cat([ids, new], 1)
        return ids


@case(lambda: (torch.tensor([[1, 2]]),), params=10 * 10, macs=0, shapes=[(1, 5)], answer="depends on values")
class UntilTheEnd(nn.Module):
    """Ends at token 5: the table leads 2, 3, 4, 5."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 10)
        self.table.weight = nn.Parameter(torch.eye(10).roll(1, 1))

    def forward(self, ids):
        while True:
            new = self.table(ids[:, -1:]).argmax(-1)
            ids = torch.cat([ids, new], 1)
            if new.item() == 5:
                return ids


class Cache:
    """An object that the forward writes into."""

    def __init__(self):
        self.k, self.v = torch.rand(1, 6, 4), torch.rand(1, 6, 4)

    def grown(self, k, v):
        self.k, self.v = torch.cat([self.k, k], 1), torch.cat([self.v, v], 1)
        return self.k, self.v


@case(lambda: (torch.rand(1, 1, 4), Cache()), params=4 * 12, macs=4 * 12 + 2 * 7 * 4, shapes=[(1, 1, 4)])
class StepOnACache(nn.Module):
    """One token behind six cached ones: scores and values of 7 x 4."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12, bias=False)

    def forward(self, x, cache):
        q, k, v = self.qkv(x).chunk(3, -1)
        k, v = cache.grown(k, v)
        return (q @ k.mT).softmax(-1) @ v
