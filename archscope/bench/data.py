"""Data sets as tensors that stay on the training device: uint8 images as they are stored, labels as int64.

    fashion-mnist                     found on disk and checked against the published MD5
    fashion-mnist@train=2000@test=500 its first 2000 and 500 examples
    digits                            1,797 real images from scikit-learn
    synthetic                         made from a seed, in the size that the network takes; not real
    hello                             hello -> ohlol, one sequence
    pictures/                         a folder with one folder per class, or with train/ and test/ of that kind
    mydata.py:load                    a function (or a pair) in a Python file: (inputs, labels), (inputs, labels)

`@dataset("name")` adds a data set. Nothing is downloaded without --download; missing data is one error that lists every
way to get it.
"""

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archscope.bench.datasets import DATASETS, cache_folder, check_name
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.registry import Registry
from archscope.sources.guard import user_code
from archscope.sources.kinds.file import module_at


class Split(NamedTuple):
    """Training or test examples. inputs: [N, …], uint8 or what the network takes. labels: [N] or [N, t], int64."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:  # type: ignore[override]
        return self.inputs.shape[0]

    def at(self, index: Any) -> "Split":
        """The examples of an index, a mask or a slice."""
        return Split(self.inputs[index], self.labels[index])

    def divided(self, held: Tensor) -> tuple["Split", "Split"]:
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


class Needs(NamedTuple):
    """What a network takes: shape of one example without the batch ([c, h, w], [t, c] or [t]), dtype, classes."""

    shape: tuple[int, ...]
    dtype: str
    classes: int


class Lookup(NamedTuple):
    """Where to look for files. folder: the user's, searched first. download: whether missing files may be fetched."""

    folder: Path | None = None
    download: bool = False


USUAL = Lookup()
Maker = Callable[[Needs, Lookup], Data]
MAKERS: Registry[Maker] = Registry("data set")


def dataset(name: str) -> Callable[[Maker], Maker]:
    """Register a data set. Raises ValueError for a name that is not in the catalogue, `datasets.py`."""
    if name not in DATASETS:
        raise ValueError(f"the catalogue has no data set {name!r}")
    return MAKERS.register(name)


def data_of(text: str, needs: Needs, lookup: Lookup = USUAL) -> Data:
    """The data set `NAME@train=N@test=N`, a folder of images, or `file.py:NAME`. Raises SpecError.

    "auto" is hello for a network of sequences of four letters, Fashion-MNIST if it is on this machine, else digits; the
    row records which.
    """
    check_name(text)
    name, sizes = _parsed(text)
    if name == "auto":
        name = usual(needs, lookup)
    if name in MAKERS:
        data = MAKERS[name](needs, lookup)
    else:
        data = from_file(name) if ".py:" in name else from_folder(Path(name).expanduser(), needs)
    for key, split in (("train", data.train), ("test", data.test)):
        if sizes.get(key, 0) > len(split):
            raise SpecError(f"{name} has {len(split)} {key} examples, not {sizes[key]}")
    train, test = data.train.at(slice(sizes.get("train"))), data.test.at(slice(sizes.get("test")))
    return replace(data, train=train, test=test, sizes=sizes)


def _parsed(text: str) -> tuple[str, dict[str, int]]:
    cut = text.find(".py:") + 1
    head, *pairs = text[cut:].strip().split("@")
    sizes: dict[str, int] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in ("train", "test") or not equals:
            raise SpecError(f"a data set takes @train=N and @test=N, not @{pair}")
        if not value.isdigit() or int(value) < 1:
            raise SpecError(f"{key} is a whole number from 1 on, not {value!r}")
        sizes[key] = int(value)
    return text[:cut] + head, sizes


def usual(needs: Needs, lookup: Lookup) -> str:
    """The data set of a network when none is named."""
    if _is_hello(needs):
        return "hello"
    if len(needs.shape) != 3:
        raise SpecError("no data set fits this network; give your own with --dataset file.py:NAME")
    return "fashion-mnist" if find_mnist("fashion-mnist", lookup.folder) else "digits"


def _is_hello(needs: Needs) -> bool:
    return needs.classes == 4 and (len(needs.shape) == 1 or (len(needs.shape) == 2 and needs.shape[-1] == 4))


def check(data: Data, needs: Needs) -> None:
    """Raises ArchscopeError if the data do not fit the network: more classes than outputs, other channels."""
    highest = max(int(data.train.labels.max()), int(data.test.labels.max()))
    if highest >= needs.classes or min(int(data.train.labels.min()), int(data.test.labels.min())) < 0:
        raise ArchscopeError(
            f"{data.name} has labels up to {highest}, and the network has {needs.classes} classes: "
            f"set its num_classes to {highest + 1}"
        )
    if len(needs.shape) == 3:
        if data.train.inputs.ndim != 4:
            raise ArchscopeError(f"{data.name} holds no images [N, c, h, w], which this network takes")
        channels, takes = data.train.inputs.shape[1], needs.shape[0]
        if channels != takes and channels != 1:
            raise ArchscopeError(f"{data.name} has {channels} channels, and the network takes {takes}")


# ------------------------------------------------------------------------------------- MNIST and Fashion-MNIST

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


def read_mnist(name: str, folder: Path | None = None, download: bool = False) -> tuple[list[Tensor], Path]:
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


def _idx(path: Path, md5: str) -> Tensor:
    """A file in LeCun's IDX format: 2 zero bytes, type, number of axes, a big-endian length per axis, the elements."""
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


def _mnist(name: str) -> Maker:
    def make(needs: Needs, lookup: Lookup) -> Data:
        (train, train_labels, test, test_labels), place = read_mnist(name, lookup.folder, lookup.download)
        splits = Split(train[:, None], train_labels.long()), Split(test[:, None], test_labels.long())
        return Data(name, *splits, classes=10, origin=str(place))

    return make


for _name in MD5:
    dataset(_name)(_mnist(_name))


# ------------------------------------------------------------------------------------------- built in, or made


@dataset("digits")
def digits(needs: Needs, lookup: Lookup) -> Data:
    """Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998) from scikit-learn: 8×8, 0 to 16.

    In the stored order, the last ten of every fifty images are for testing: 1,440 and 357, every digit in both.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise SpecError(
            "the data set digits comes with scikit-learn, which is not installed: pip install scikit-learn "
            "(archscope's extra bench has it), or use --dataset synthetic, which needs nothing"
        ) from error
    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(images).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    whole = Split(inputs, torch.from_numpy(labels).long())
    return Data("digits", *whole.divided((torch.arange(len(whole)) // 10) % 5 == 4), 10, origin="scikit-learn")


SYNTHETIC = (8192, 1024)  # examples for training and testing


@dataset("synthetic")
def synthetic(needs: Needs, lookup: Lookup) -> Data:
    """A coarse pattern per class, plus noise. A network can learn it; its accuracy means nothing. For throughput."""
    if len(needs.shape) != 3:
        raise SpecError("the data set synthetic makes images, which this network does not take")
    channels, *sides = needs.shape
    made = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (needs.classes, channels, 4, 4), generator=made, dtype=torch.uint8)
    patterns = torch.nn.functional.interpolate(coarse.float(), size=sides)
    splits = []
    for count in SYNTHETIC:
        labels = torch.randint(0, needs.classes, (count,), generator=made)
        inputs = torch.empty((count, channels, *sides), dtype=torch.uint8)
        for part in torch.arange(count).split(512):  # never more than this as floats
            noise = torch.randint(0, 256, (len(part), channels, *sides), generator=made, dtype=torch.uint8)
            inputs[part] = patterns[labels[part]].add_(noise).div_(2).to(torch.uint8)
        splits.append(Split(inputs, labels))
    return Data("synthetic", *splits, classes=needs.classes, synthetic=True, origin="seed 0")


LETTERS = "ehlo"


@dataset("hello")
def hello(needs: Needs, lookup: Lookup) -> Data:
    """One sequence, hello, with the letter that follows each letter: ohlol. The test set is the training set."""
    if not _is_hello(needs):
        raise SpecError("the data set hello is for networks of sequences of four letters, such as char-rnn")
    letters = torch.tensor([[LETTERS.index(letter) for letter in "hello"]])  # [1, 5]
    labels = torch.tensor([[LETTERS.index(letter) for letter in "ohlol"]])
    one_hot = torch.nn.functional.one_hot(letters, 4).float()  # [1, 5, 4]
    split = Split(letters if len(needs.shape) == 1 else one_hot, labels)
    return Data("hello", split, split, 4, seen=True, origin="built in", letters=LETTERS)


# --------------------------------------------------------------------------------------------- the user's data

TESTED = ("test", "val", "valid", "validation")  # names of the test folder


def from_folder(folder: Path, needs: Needs) -> Data:
    """Images from a folder with train/ and test/ (or val/), each with one folder per class; or from one such folder,
    where every fifth image is for testing. torchvision's Resize brings the images to the network's size.
    """
    if len(needs.shape) != 3:
        raise SpecError(f"{folder} holds images, which this network does not take")
    test = next((folder / name for name in TESTED if (folder / name).is_dir()), None)
    if (folder / "train").is_dir():
        if test is None:
            raise SpecError(f"{folder} has train/ and no test/ or val/")
        train, classes = _images(folder / "train", needs)
        tested, same = _images(test, needs)
        if classes != same:
            differ = ", ".join(sorted(set(classes) ^ set(same)))
            raise SpecError(f"{folder}/train and {test} have different classes: {differ}")
        return Data(str(folder), train, tested, len(classes), origin=str(folder))
    both, classes = _images(folder, needs)
    return Data(str(folder), *both.divided(torch.arange(len(both)) % 5 == 4), len(classes), origin=str(folder))


def _images(folder: Path, needs: Needs) -> tuple[Split, list[str]]:
    """Every image of a folder of classes as uint8 [N, c, h, w], the labels by the alphabet of the folders."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor, resize

    channels, *sides = needs.shape
    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise SpecError(f"{folder} is no folder of classes: {str(error).splitlines()[0]}") from error
    inputs = torch.empty((len(found), channels, *sides), dtype=torch.uint8)
    for i, (path, _) in enumerate(found.samples):
        image = found.loader(path).convert("L" if channels == 1 else "RGB")
        inputs[i] = pil_to_tensor(resize(image, sides))
    return Split(inputs, torch.tensor(found.targets)), found.classes


def from_file(text: str) -> Data:
    """`file.py:NAME`: a pair (train, test), or a function that returns one. Each is (inputs [N, …], labels [N]), or a
    PyTorch data set with items (input, label). Only uint8 inputs are divided by 255.
    """
    path, _, name = text.rpartition(":")
    module = module_at(path)
    if not hasattr(module, name):
        raise SpecError(f"{path} has no {name!r}")
    value = getattr(module, name)
    with user_code():
        value = value() if callable(value) else value
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SpecError(f"{text} gives {type(value).__name__}, not a pair (train, test)")
    train, test = (_split(text, part) for part in value)
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise SpecError(f"{text}: training and test examples differ: {train.inputs.shape[1:]}, {test.inputs.shape[1:]}")
    classes = 1 + max(int(train.labels.max()), int(test.labels.max()))
    return Data(text, train, test, classes, origin=path)


def _split(text: str, part: Any) -> Split:
    if isinstance(part, tuple | list) and len(part) == 2 and isinstance(part[0], Tensor):
        inputs, labels = part[0], torch.as_tensor(part[1])
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        items = [part[i] for i in range(len(part))]
        if not items or not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
            raise SpecError(f"{text}: an item of the data set is not a pair (input, label)")
        inputs = torch.stack([torch.as_tensor(item[0]) for item in items])
        labels = torch.as_tensor([int(item[1]) for item in items])
    else:
        raise SpecError(f"{text}: {type(part).__name__} is neither (inputs, labels) nor a data set")
    if len(inputs) != len(labels) or not len(inputs):
        raise SpecError(f"{text}: {len(inputs)} inputs and {len(labels)} labels")
    return Split(inputs, labels.long())
