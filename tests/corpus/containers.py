"""What goes in and what comes out is more than a tensor."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Sample:
    x: torch.Tensor
    scale: float = 2.0


class Batch(dict):
    """As Hugging Face's BatchEncoding: a dict whose entries are attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def x24():
    return torch.rand(2, 4)


def one(inputs, **more):
    """One layer of 4 x 3 on 2 examples."""
    return case(inputs, **{"params": 4 * 3, "macs": 2 * 4 * 3, "shapes": [(2, 3)], **more})


@one(lambda: ({"x": x24(), "y": x24()},))
class DictInput(Base):
    def forward(self, batch):
        return self.linear(batch["x"] + batch["y"])


@one(lambda: ([x24(), x24()],))
class ListInput(Base):
    def forward(self, xs):
        return self.linear(sum(xs))


@one(lambda: (Pair(x24(), x24()),))
class NamedTupleInput(Base):
    def forward(self, pair):
        return self.linear(pair.x * pair.y)


@one(lambda: (Sample(x24()),))
class DataclassInput(Base):
    def forward(self, sample):
        return self.linear(sample.x * sample.scale)


@one(lambda: (Batch(x=x24()),))
class AttributesOfADict(Base):
    def forward(self, batch):
        return self.linear(batch.x)


@one(lambda: ({"a": [{"x": x24()}, {"x": x24()}]},))
class Nested(Base):
    def forward(self, batch):
        return self.linear(torch.stack([one["x"] for one in batch["a"]]).sum(0))


@one(lambda: (x24(), None))
class NoneBeside(Base):
    def forward(self, x, mask):
        return self.linear(x if mask is None else x * mask)


@case(lambda: (torch.rand(1, 8), [2, 3, 3, 3]), params=8 * 8, macs=4 * 8 * 8, shapes=[(1, 8)])
class ListOfIntegers(nn.Module):
    """Four entries: four products."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, x, steps):
        for _ in steps:
            x = self.linear(x)
        return x


@case(lambda: (torch.rand(1, 2, 4, 4), (16, 16)), params=2 * 3, macs=16 * 16 * 2 * 3, shapes=[(1, 3, 16, 16)])
class SizeArgument(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1, bias=False)

    def forward(self, x, size):
        return self.conv(nn.functional.interpolate(x, size=size))


@one(lambda: (x24(), "twice"), macs=2 * 2 * 4 * 3)
class TextArgument(Base):
    def forward(self, x, mode):
        y = self.linear(x)
        return y + self.linear(x) if mode == "twice" else y


@one(((2, 4),), shapes=[(2, 3), (2, 4)])
class DictOutput(Base):
    def forward(self, x):
        return OrderedDict(logits=self.linear(x), hidden=x)


@one(((2, 4),), shapes=[(2, 3), (2, 3)])
class NamedTupleOutput(Base):
    def forward(self, x):
        y = self.linear(x)
        return Pair(y, y.relu())


@one(((2, 4),))
class DataclassOutput(Base):
    def forward(self, x):
        return Sample(self.linear(x))


@one(lambda: (x24(),), kwargs=lambda: {"scale": 2, "flags": {"on": True}})
class KeywordArguments(Base):
    def forward(self, x, *, scale=1, flags=None):
        return self.linear(x * scale) if flags and flags["on"] else x


@one(((2, 4),), params=2 * 4 * 3)
class ModuleDict(nn.Module):
    """Two heads, of which one runs."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 3, bias=False), "b": nn.Linear(4, 3, bias=False)})

    def forward(self, x):
        return self.heads["b"](x)


@one(((2, 4),), params=0)
class LayersInAPlainList(nn.Module):
    """PyTorch does not know of them, so the model has no parameters: a note has to say so."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 3, bias=False)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@one(((2, 4),), shapes=[(2, 3), (2, 3)])
class HistoryOnTheModel(Base):
    """The forward appends to a list of its own."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(self.linear(x))
        return self.seen[-1], self.seen[-1] * 2
