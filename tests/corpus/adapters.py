"""A frozen model and a little that is trained."""

import torch
from torch import nn
from torch.nn import functional

from corpus import case


class Base(nn.Module):
    """A frozen layer of 8 x 6."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(8, 6, bias=False).requires_grad_(False)


def frozen(params, macs, shapes=((3, 6),), inputs=((3, 8),), **more):
    """3 examples; the frozen product is 8 x 6."""
    return case(inputs, params=8 * 6 + params, macs=3 * 8 * 6 + macs, shapes=list(shapes), **more)


@frozen(2 * (8 + 6), 3 * 2 * (8 + 6))
class LoRA(Base):
    """Rank 2: 8 x 2 and 2 x 6."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


@frozen(2 * (8 + 6), 6 * 2 * 8)
class MergedLoRA(Base):
    """The weight plus B·A: 6 x 2 times 2 x 8, once."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.rand(2, 8)), nn.Parameter(torch.zeros(6, 2))

    def forward(self, x):
        return functional.linear(x, self.base.weight + self.b @ self.a)


@frozen(2 * (8 + 6) + 6, 6 * 2 * 8)
class DoRA(Base):
    """A direction from the merged weight, and a length for each of 6 rows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.rand(2, 8)), nn.Parameter(torch.zeros(6, 2))
        self.length = nn.Parameter(torch.ones(6, 1))

    def forward(self, x):
        weight = self.base.weight + self.b @ self.a
        return functional.linear(x, self.length * weight / weight.norm(dim=1, keepdim=True))


@frozen(6, 0)
class IA3(Base):
    """A gain for each of 6 outputs."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))

    def forward(self, x):
        return self.base(x) * self.gain


@frozen(6, 0)
class BitFit(Base):
    """The bias alone is trained."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return functional.linear(x, self.base.weight, self.bias)


@frozen(2 * 6 * 2, 3 * 2 * 6 * 2)
class Bottleneck(Base):
    """6 to 2 and back, behind the layer."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x):
        y = self.base(x)
        return y + self.up(self.down(y).relu())


@frozen(4 * 8, 4 * 8 * 6, shapes=[(1, 7, 6)], inputs=((1, 3, 8),))
class Prompts(Base):
    """4 learned tokens before 3: 7 rows."""

    def __init__(self):
        super().__init__()
        self.prompt = nn.Parameter(torch.rand(1, 4, 8))

    def forward(self, x):
        return self.base(torch.cat([self.prompt.expand(len(x), -1, -1), x], 1))


@frozen(2 * 4 * 6, 2 * 3 * 4 * 6)
class Prefix(Base):
    """3 queries, 4 learned keys and values of 6."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Parameter(torch.rand(4, 6)), nn.Parameter(torch.rand(4, 6))

    def forward(self, x):
        return (self.base(x) @ self.keys.T).softmax(-1) @ self.values


@frozen(2 * 12, 2 * 12 + 3 * 6 * 2, shapes=[(3, 2)])
class Hypernetwork(Base):
    """A task of 2 numbers makes a head of 6 x 2."""

    def __init__(self):
        super().__init__()
        self.maker = nn.Linear(2, 12, bias=False)

    def forward(self, x):
        weight = self.maker(torch.tensor([1.0, 0.0])).view(2, 6)
        return functional.linear(self.base(x), weight)


@frozen(0, 0)
class AllFrozen(Base):
    def forward(self, x):
        with torch.no_grad():
            return self.base(x)


@frozen(3 * 2 * (8 + 6), 3 * 2 * (8 + 6))
class ChosenByName(Base):
    """Three adapters, of which one is on."""

    def __init__(self):
        super().__init__()
        self.active = "b"
        self.adapters = nn.ModuleDict(
            {k: nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 6, bias=False)) for k in "abc"}
        )

    def forward(self, x):
        return self.base(x) + self.adapters[self.active](x)
