"""One tensor under several names, one module in several places."""

import copy

import torch
from torch import nn
from torch.nn import functional

from corpus import case


@case(lambda: (torch.arange(6).view(2, 3),), params=10 * 4, macs=2 * 3 * 4 * 10, shapes=[(2, 3, 10)])
class TiedEmbedding(nn.Module):
    """One table of 10 x 4, looked up and multiplied by."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


@case([(1, 2, 8, 8)], params=2 * 2 * 9, macs=2 * 64 * 2 * 2 * 9, shapes=[(1, 2, 8, 8)])
class SharedConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.again = self.conv

    def forward(self, x):
        return self.again(self.conv(x))


@case([(2, 4)], params=4 * 4 + 4, macs=6 * 2 * 4 * 4, shapes=[(2, 4)])
class SharedBlocks(nn.Module):
    """As ALBERT: one block, six times."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4)] * 6)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


@case([(2, 4), (2, 4)], params=4 * 3, macs=2 * 2 * 4 * 3, shapes=[(2,)])
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3, bias=False)

    def forward(self, a, b):
        return functional.cosine_similarity(self.net(a), self.net(b))


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3 + 2 * 3 * 4, shapes=[(2, 4)])
class TransposedAutoencoder(nn.Module):
    """The decoder multiplies by the encoder's weight, transposed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x):
        return functional.linear(functional.linear(x, self.weight), self.weight.T)


@case([(2, 4)], params=4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4)])
class OneParameterTwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.rand(4, 4))
        self.b = self.a

    def forward(self, x):
        return x @ self.a @ self.b


@case([(2, 4)], params=2 * 4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4)])
class CopiesAreNotShared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4, bias=False)
        self.b = copy.deepcopy(self.a)

    def forward(self, x):
        return self.b(self.a(x))


@case([(2, 4)], params=4 * 4, macs=2 * 4 * 4, shapes=[(2, 4)])
class BufferAndParameter(nn.Module):
    """A running copy of the weight is a buffer, and no parameter."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)
        self.register_buffer("average", self.linear.weight.detach().clone())

    def forward(self, x):
        return self.linear(x) + self.get_buffer("average").mean()


@case([(2, 4)], params=4 * 4 + 4, macs=2 * 4 * 4, shapes=[(2, 4)])
class ParentAndChild(nn.Module):
    """A child that knows its parent, past the registry of modules."""

    def __init__(self):
        super().__init__()
        self.child: nn.Module = nn.Linear(4, 4)
        object.__setattr__(self.child, "parent", self)

    def forward(self, x):
        return self.child(x) if self.child.parent is self else x


@case([(2, 3, 4)], params=2 * 4 * 4, macs=2 * (2 * 3 * 4 * 4), shapes=[(2, 3, 4)])
class OneNormInTwoPlaces(nn.Module):
    """A norm without parameters, used twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4, elementwise_affine=False)
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return self.b(self.norm(self.a(self.norm(x))))


@case([(2, 4)], params=0, macs=2 * 2 * 4 * 4, shapes=[(2, 4)])
class LayersInAPlainList(nn.Module):
    """Both layers run; `parameters()` does not have theirs."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 4, bias=False) for _ in range(2)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
