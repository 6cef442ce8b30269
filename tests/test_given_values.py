"""Inputs keep their class, and those of integers and booleans their values."""

import collections
import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archscope import trace
from archscope.analysis.metrics import totals


class Masked(nn.Module):
    """Attends to what is not padding, and reads the mask to know whether there is any."""

    def __init__(self) -> None:
        super().__init__()
        self.cheap, self.dear = nn.Linear(4, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if mask.all():
            return self.cheap(x)
        return self.dear(x[:, : int(mask.sum(1).max())])


def test_a_mask_that_is_read() -> None:
    x = torch.zeros(2, 3, 4)
    assert totals(trace(Masked(), (x, torch.ones(2, 3, dtype=torch.bool))))["macs"] == 2 * 3 * 4 * 4
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert totals(trace(Masked(), (x, mask)))["macs"] == 2 * 2 * 4 * 8  # the longest has 2 steps
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0]]


class Writes(nn.Module):
    """Writes into its input, and reads what it has written."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        lengths[0] = 1
        return x[:, : int(lengths.max())] @ torch.ones(4, 5)


def test_the_users_tensors_are_not_written_to() -> None:
    lengths = torch.tensor([3, 2])
    assert totals(trace(Writes(), (torch.zeros(2, 3, 4), lengths)))["macs"] == 2 * 2 * 4 * 5  # max(1, 2) steps
    assert lengths.tolist() == [3, 2]


class Edges(nn.Module):
    """A message for each edge, as many nodes as the edges name."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 6)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out = x.new_zeros(int(edges.max()) + 1, 6)
        return out.index_add(0, edges[1], self.lin(x[edges[0]]))


def test_edges_and_large_ones() -> None:
    edges = torch.stack([torch.arange(100_000) % 7, torch.arange(100_000) % 5])
    record = trace(Edges(), (torch.zeros(7, 4), edges))
    assert record.layers[0].outputs[0].shape == (7, 6) and totals(record)["macs"] == 100_000 * 4 * 6


class Steps(nn.Module):
    """A loop over numbers, a size, a step of floating numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x: Tensor, steps: list[int], size: tuple[int, int] = (1, 1), rate: Any = None) -> Tensor:
        for step in steps:
            for _ in range(step):
                x = self.lin(x)
        if rate is not None and rate > 0.5:
            x = self.lin(x)
        return nn.functional.interpolate(x[:, None], size=size)


def test_numbers_stay_numbers() -> None:
    x = torch.zeros(2, 4, 8)
    record = trace(Steps(), (x, [2, 3]), {"size": (16, 16), "rate": torch.tensor(0.75)})
    assert totals(record)["macs"] == (2 + 3 + 1) * 2 * 4 * 8 * 8
    assert record.layers[0].outputs[0].shape == (2, 1, 16, 16)
    record = trace(Steps(), ((2, 4, 8), [2, 3]), {"size": (16, 16)})  # shapes, and numbers where the forward says so
    assert totals(record)["macs"] == (2 + 3) * 2 * 4 * 8 * 8
    assert record.layers[0].outputs[0].shape == (2, 1, 16, 16)


class Pair(NamedTuple):
    x: Tensor
    name: str


@dataclasses.dataclass
class Batch:
    x: Tensor
    ids: Tensor


class Encoding(collections.UserDict):
    """As a tokenizer gives it: a dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


class Cache:
    """Key and value of the steps before."""

    def __init__(self, steps: int) -> None:
        self.kept = [torch.zeros(1, steps, 4)]

    def update(self, x: Tensor) -> Tensor:
        self.kept[0] = torch.cat([self.kept[0], x], 1)
        return self.kept[0]


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 2)

    def forward(
        self, pair: Pair, batch: Batch, encoding: Encoding, cache: Cache, images: list[dict[str, Tensor]]
    ) -> Any:
        assert type(pair) is Pair and type(batch) is Batch and batch.ids.tolist() == [1, 2]
        rows = [pair.x, batch.x, encoding.x, cache.update(pair.x), *(image["image"] for image in images)]
        return [self.lin(x) for x in rows]


def test_inputs_keep_their_class() -> None:
    def x(steps: int) -> Tensor:
        return torch.zeros(1, steps, 4)

    batch, encoding, cache = Batch(x(2), torch.tensor([1, 2])), Encoding(x=x(3)), Cache(10)
    images = [{"image": x(4)}, {"image": x(5)}]
    records = [trace(Classes(), (Pair(x(1), "a"), batch, encoding, cache, images)) for _ in range(2)]
    for record in records:
        assert totals(record)["macs"] == (1 + 2 + 3 + (10 + 1) + 4 + 5) * 4 * 2
    record = records[-1]
    assert len(record.inputs) == 1 + 2 + 1 + 2 and [p.name for p in record.cache] == ["3.kept.0"]
    assert cache.kept[0].shape == (1, 10, 4) and not cache.kept[0].is_meta  # as it was


def test_constants_that_no_rule_knows_are_taken_apart() -> None:
    class Contracts(nn.Module):
        def forward(self, x: Tensor, ids: Tensor) -> Tensor:
            return torch.einsum("ij,jk->ik", ids.float(), torch.ones(3, 4)) + x

    record = trace(Contracts(), (torch.zeros(2, 4), torch.ones(2, 3, dtype=torch.int64)))
    assert totals(record)["macs"] == 2 * 3 * 4 and not totals(record)["unknown"]


class Dots(nn.Module):
    """An einsum between constants stays whole; its `...` stand for the axes before those that are named."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("...nd,de->...ne", torch.ones(2, 5, 4), self.weight)
        return x + torch.einsum("...ne,a...e->a...n", y, torch.ones(7, 1, 3)).sum()


def test_dots_of_an_einsum() -> None:
    found = totals(trace(Dots(), (torch.zeros(2),)))
    assert found["macs"] == 2 * 5 * 4 * 3 + 7 * 2 * 5 * 3 and not found["unknown"]
