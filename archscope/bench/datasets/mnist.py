"""MNIST and Fashion-MNIST: from disk, checked against the published MD5, or downloaded with --download."""

import gzip
import hashlib
import os
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from archscope.bench.datasets.base import Data, Lookup, Maker, NetworkInput, Split, cache_folder, dataset
from archscope.core.errors import ArchscopeError, SpecError

if TYPE_CHECKING:
    from torch import Tensor

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# of the contents, in the order of FILES: Debian compresses the files again, so the published MD5 of the .gz do not hold
MD5 = {
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
}
CLASSES = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}  # in torchvision.datasets; its folders have these names
DEBIAN = Path("/usr/share/datasets")


def find_mnist(name: str, folder: Path | None = None) -> Path | None:
    """The first folder that holds all four files, compressed or not, or None.

    Searched: the user's folder, $ARCHSCOPE_DATA, ./data, the cache, each also in torchvision's layout
    (FashionMNIST/raw/), and the folder of Debian's package dataset-fashion-mnist.
    """
    own = os.environ.get("ARCHSCOPE_DATA")
    roots = [*([folder] if folder else []), *([Path(own)] if own else []), Path("data"), cache_folder() / "data"]
    places = [root / part for root in roots for part in (".", name, CLASSES[name], f"{CLASSES[name]}/raw")]
    for place in (*places, DEBIAN / name):
        if all((place / file).is_file() or (place / f"{file}.gz").is_file() for file in FILES):
            return place
    return None


def read_mnist(name: str, folder: Path | None = None, download: bool = False) -> "tuple[list[Tensor], Path]":
    """The four tensors (uint8 images [N, 28, 28] and labels [N], for training and testing) and their folder.

    Raises SpecError if the files are missing, and ArchscopeError if a file is not the published one.
    """
    place = find_mnist(name, folder)
    if place is None and download:
        place = _downloaded(name, folder or cache_folder() / "data")
    if place is None:
        debian = "apt install dataset-fashion-mnist, " if name == "fashion-mnist" else ""
        raise SpecError(
            f"{name} is not on this machine: {debian}--download, --data-dir DIR with its four files (or "
            f"ARCHSCOPE_DATA=DIR), or use --dataset digits or synthetic"
        )
    return [_idx(place / file, md5) for file, md5 in zip(FILES, MD5[name], strict=True)], place


def _idx(path: Path, md5: str) -> "Tensor":
    """A file in LeCun's IDX format: 2 zero bytes, type, number of axes, a big-endian length per axis, the elements."""
    import torch

    packed = path.with_name(path.name + ".gz")
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise ArchscopeError(f"cannot read {path if path.is_file() else packed}: {error}") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ArchscopeError(f"{path} is damaged or another data set: its MD5 is {found}, the published one {md5}")
    axes = data[3]
    shape = struct.unpack_from(f">{axes}I", data, 4)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * axes).reshape(shape)


def _downloaded(name: str, root: Path) -> Path:
    """Download with torchvision. A file appears under its name when it is complete. Raises ArchscopeError."""
    from torchvision import datasets

    place = root / CLASSES[name] / "raw"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root) as part:
            getattr(datasets, CLASSES[name])(part, download=True)
            for file in FILES:
                os.replace(Path(part, CLASSES[name], "raw", file), place / file)
    except (OSError, EOFError, RuntimeError) as error:
        raise ArchscopeError(f"cannot download {name}: {' '.join(str(error).split())}") from error
    return place


def _maker(name: str) -> Maker:
    def make(needs: NetworkInput, lookup: Lookup) -> Data:
        (train, train_labels, test, test_labels), place = read_mnist(name, lookup.folder, lookup.download)
        splits = Split(train[:, None], train_labels.long()), Split(test[:, None], test_labels.long())
        return Data(name, *splits, classes=10, origin=str(place))

    return make


for _name, _origin in (
    ("fashion-mnist", "Debian's dataset-fashion-mnist, torchvision, --download"),
    ("mnist", "torchvision's files, --download"),
):
    dataset(_name, train=60_000, test=10_000, example="1×28×28, 10 classes", origin=_origin)(_maker(_name))
