"""A data set in memory: what `data.py` makes, whatever it was read from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class Split(NamedTuple):
    """Examples of one kind. inputs: [N, …], uint8 or what the network takes. labels: [N] or [N, t], int64."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:  # type: ignore[override]
        return self.inputs.shape[0]

    def first(self, count: int | None) -> "Split":
        return self if count is None else Split(self.inputs[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """A data set on the CPU. classes: how many. synthetic: made by a program. seen: the test set is the training set.

    origin: where it was read from. letters: what the classes of a sequence are called.
    """

    name: str
    train: Split
    test: Split
    classes: int
    synthetic: bool = False
    seen: bool = False
    origin: str = ""
    letters: str = ""
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """`fashion-mnist`, `fashion-mnist@train=2000`: what a row says; the same text is the same data."""
        return "@".join([self.name, *(f"{key}={value}" for key, value in self.sizes.items())])


class Wanted(NamedTuple):
    """What a network takes: shape of one example without the batch ([c, h, w], [t, c] or [t]), dtype, classes."""

    shape: tuple[int, ...]
    dtype: str
    classes: int


class Place(NamedTuple):
    """Where to look. folder: of the user's, before every other. download: whether missing files may be fetched."""

    folder: Path | None = None
    download: bool = False


HERE = Place()
