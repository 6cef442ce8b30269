"""What a data set is: tensors on the CPU; and the registry. torch is imported when one is made."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from archscope.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Split(NamedTuple):
    """Training or test examples. inputs: [N, …], uint8 or what the network takes. labels: [N] or [N, t], int64."""

    inputs: "Tensor"
    labels: "Tensor"

    def __len__(self) -> int:  # type: ignore[override]
        return self.inputs.shape[0]

    def at(self, index: Any) -> "Split":
        """The examples of an index, a mask or a slice."""
        return Split(self.inputs[index], self.labels[index])

    def divided(self, held: "Tensor") -> tuple["Split", "Split"]:
        """The examples where the mask is false, and those where it is true."""
        return self.at(~held), self.at(held)


@dataclass(frozen=True)
class Data:
    """A data set on the CPU. classes: how many. synthetic: made by a program. seen: the test set is the training set.

    origin: where it was read from. letters: the names of the classes of a sequence.
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
        """`fashion-mnist`, `fashion-mnist@train=2000`, as it is in a row; the same text is the same data."""
        return "@".join([self.name, *(f"{key}={value}" for key, value in self.sizes.items())])


class NetworkInput(NamedTuple):
    """What a network takes: shape of one example without the batch ([c, h, w], [t, c] or [t]), dtype, classes."""

    shape: tuple[int, ...]
    dtype: str
    classes: int


class Lookup(NamedTuple):
    """Where to look for files. folder: the user's, searched first. download: whether missing files may be fetched."""

    folder: Path | None = None
    download: bool = False


Maker = Callable[[NetworkInput, Lookup], Data]


class Dataset(NamedTuple):
    """train, test: examples of each. example: what one is. origin: where it comes from, and what to type to get it."""

    make: Maker
    train: int
    test: int
    example: str
    origin: str


DATASETS: Registry[Dataset] = Registry("data set")


def dataset(name: str, **facts: Any) -> Callable[[Maker], Maker]:
    """Register a function that makes a data set. facts: the other fields of `Dataset`. Raises ValueError if taken."""

    def register(make: Maker) -> Maker:
        DATASETS.add(name, Dataset(make, **facts))
        return make

    return register


def cache_folder() -> Path:
    """The folder for files that archscope keeps between runs: $ARCHSCOPE_CACHE, else archscope in the user's cache."""
    own = os.environ.get("ARCHSCOPE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archscope"
