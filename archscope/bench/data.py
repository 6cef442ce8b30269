"""Data sets as tensors that stay on the training device: uint8 images as they are stored, labels as int64.

    fashion-mnist                     found on disk and checked against the published MD5
    fashion-mnist@train=2000@test=500 its first 2000 and 500 examples
    digits                            1,797 real images from scikit-learn
    synthetic                         made from a seed, in the size that the network takes; not real
    hello                             hello -> ohlol, one sequence
    pictures/                         a folder with one folder per class, or with train/ and test/ of that kind
    mydata.py:load                    a function (or a pair) in a Python file: (inputs, labels), (inputs, labels)

A file in `datasets/` adds a data set with `@dataset("name", …)`. Nothing is downloaded without --download; missing data
is one error that lists every way to get it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archscope.bench.datasets import DATASETS, check_name
from archscope.bench.datasets.base import Data, Lookup, NetworkInput, Split
from archscope.bench.datasets.hello import is_hello
from archscope.bench.datasets.mnist import find_mnist
from archscope.core.errors import ArchscopeError, SpecError
from archscope.sources.guard import user_code
from archscope.sources.kinds.file import module_at

USUAL = Lookup()


def data_of(text: str, needs: NetworkInput, lookup: Lookup = USUAL) -> Data:
    """The data set `NAME@train=N@test=N`, a folder of images, or `file.py:NAME`. Raises SpecError.

    "auto" is hello for a network of sequences of four letters, Fashion-MNIST if it is on this machine, else digits; the
    row records which.
    """
    check_name(text)
    name, sizes = _parsed(text)
    if name == "auto":
        name = usual(needs, lookup)
    if name in DATASETS:
        data = DATASETS[name].make(needs, lookup)
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


def usual(needs: NetworkInput, lookup: Lookup) -> str:
    """The data set of a network when none is named."""
    if is_hello(needs):
        return "hello"
    if len(needs.shape) != 3:
        raise SpecError("no data set fits this network; give your own with --dataset file.py:NAME")
    return "fashion-mnist" if find_mnist("fashion-mnist", lookup.folder) else "digits"


def check(data: Data, needs: NetworkInput) -> None:
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


TESTED = ("test", "val", "valid", "validation")  # names of the test folder


def from_folder(folder: Path, needs: NetworkInput) -> Data:
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


def _images(folder: Path, needs: NetworkInput) -> tuple[Split, list[str]]:
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
