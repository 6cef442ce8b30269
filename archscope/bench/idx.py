"""MNIST and Fashion-MNIST from disk: LeCun's IDX files, packed or not, read directly and checked.

Looked for, in this order: the folder that the user gave, $ARCHSCOPE_DATA, ./data, the cache, and where Debian's package
dataset-fashion-mnist puts them; in each folder also as torchvision lays them out, FashionMNIST/raw/. Debian packs the
files anew, so that what is compared is the MD5 of the contents, which is the published one.
"""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError, SpecError


class Kind(NamedTuple):
    """One data set of four files. folder: its name in torchvision's layout. base: where to download from."""

    folder: str
    base: str
    md5: dict[str, str]  # of the contents, in the order: train images, train labels, test images, test labels


KINDS = {
    "fashion-mnist": Kind(
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "mnist": Kind(
        "MNIST",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
}
DEBIAN = Path("/usr/share/datasets")
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # by the third byte


def cache() -> Path:
    """The folder for what archscope keeps between runs: $ARCHSCOPE_CACHE, else archscope in the user's cache."""
    own = os.environ.get("ARCHSCOPE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archscope"


def places(name: str, folder: Path | None) -> list[Path]:
    """The folders that may hold the four files, best first."""
    kind = KINDS[name]
    roots = [folder] if folder else []
    if os.environ.get("ARCHSCOPE_DATA"):
        roots.append(Path(os.environ["ARCHSCOPE_DATA"]))
    roots += [Path("data"), cache() / "data"]
    found = [root / way for root in roots for way in (".", name, kind.folder, f"{kind.folder}/raw")]
    return [*found, DEBIAN / name]


def found(name: str, folder: Path | None = None) -> Path | None:
    """The first folder that holds all four files, packed or not; None where none does."""
    for place in places(name, folder):
        if all((place / file).is_file() or (place / f"{file}.gz").is_file() for file in KINDS[name].md5):
            return place
    return None


def read(name: str, folder: Path | None = None, download: bool = False) -> tuple[list[Any], Path]:
    """The four arrays (uint8 images [N, 28, 28] and labels [N], for training and testing) and their folder.

    Raises SpecError where the files are not on this machine, with the ways to get them, and ArchscopeError for one
    whose contents are not the published ones.
    """
    kind = KINDS[name]
    place = found(name, folder)
    if place is None and download:
        place = fetch(name, (folder or cache() / "data") / kind.folder / "raw")
    if place is None:
        debian = "apt install dataset-fashion-mnist, " if name == "fashion-mnist" else ""
        raise SpecError(
            f"{name} is not on this machine: {debian}--download, --data-dir DIR with its four files (or ARCHSCOPE_DATA="
            f"DIR), or take --dataset digits or synthetic"
        )
    return [array(_contents(place / file, md5)) for file, md5 in kind.md5.items()], place


def _contents(path: Path, md5: str) -> bytes:
    packed = path.with_name(path.name + ".gz")
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise ArchscopeError(f"cannot read {path if path.is_file() else packed}: {error}") from error
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if got != md5:
        raise ArchscopeError(f"{path} is damaged or another data set: its MD5 is {got}, the published one {md5}")
    return data


def array(data: bytes) -> Any:
    """The array of an IDX file: two zero bytes, type, number of axes, a big-endian length an axis, the elements."""
    import numpy

    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES:
        raise ArchscopeError("this is no IDX file")
    axes = data[3]
    shape = numpy.frombuffer(data, ">u4", axes, offset=4)
    made = numpy.frombuffer(data, TYPES[data[2]], offset=4 + 4 * axes)
    return made.reshape([int(side) for side in shape]).astype(made.dtype.newbyteorder("="), copy=True)


def fetch(name: str, place: Path) -> Path:
    """Download the four files into a folder, each whole or not at all. Raises ArchscopeError."""
    import urllib.request

    kind = KINDS[name]
    place.mkdir(parents=True, exist_ok=True)
    for file, md5 in kind.md5.items():
        packed = place / f"{file}.gz"
        part = packed.with_suffix(".part")
        try:
            with urllib.request.urlopen(f"{kind.base}{file}.gz", timeout=30) as answer:
                part.write_bytes(answer.read())
            if hashlib.md5(gzip.decompress(part.read_bytes()), usedforsecurity=False).hexdigest() != md5:
                raise ArchscopeError(f"what {kind.base} sent for {file} is not the published file")
            os.replace(part, packed)
        except (OSError, EOFError) as error:
            raise ArchscopeError(f"cannot download {kind.base}{file}.gz: {error}") from error
        finally:
            part.unlink(missing_ok=True)
    return place
