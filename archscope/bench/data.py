"""Data sets as tensors that stay where they are trained on: uint8 images as they are stored, labels as int64.

    fashion-mnist                     found on disk, checked, read without another package
    fashion-mnist@train=2000@test=500 its first 2000 and 500 examples
    digits                            1,797 real images that scikit-learn carries
    synthetic                         made by a seed, learnable, of the size that the network takes; never real
    hello                             hello -> ohlol, one sequence
    pictures/                         a folder with one folder a class, or with train/ and test/ of that kind
    mydata.py:load                    a function (or a pair) of the user's: (inputs, labels), (inputs, labels)

`@dataset("name")` enters one. What is missing is told once, with every way to get it; nothing is downloaded unless
that was asked for.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from archscope.bench import idx
from archscope.bench.datasets import DATASETS as KNOWN
from archscope.bench.datasets import check_name
from archscope.bench.examples import HERE, Data, Place, Split, Wanted
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.registry import Registry

Maker = Callable[[Wanted, Place], Data]
MAKERS: Registry[Maker] = Registry("data set")


def dataset(name: str) -> Callable[[Maker], Maker]:
    """Enter a data set. Raises ValueError for a name that the catalogue lacks."""
    if name not in KNOWN:
        raise ValueError(f"the catalogue says nothing of the data set {name!r}")
    return MAKERS.register(name)


def data_of(text: str, wanted: Wanted, place: Place = HERE) -> Data:
    """The data set `NAME@train=N@test=N`, a folder of images, or `file.py:NAME`. Raises SpecError.

    "auto" is hello for a network of sequences of four letters, Fashion-MNIST where it is on this machine, and digits
    where it is not; the row says which it was.
    """
    check_name(text)
    name, sizes = _parsed(text)
    if name == "auto":
        name = usual(wanted, place)
    if name in MAKERS:
        data = MAKERS[name](wanted, place)
    elif ".py:" in name:
        from archscope.bench.user_data import from_file

        data = from_file(name)
    else:
        from archscope.bench.user_data import from_folder

        data = from_folder(Path(name).expanduser(), wanted)
    for key, split in (("train", data.train), ("test", data.test)):
        if sizes.get(key, 0) > len(split):
            raise SpecError(f"{name} has {len(split)} {key} examples, not {sizes[key]}")
    return replace(
        data, train=data.train.first(sizes.get("train")), test=data.test.first(sizes.get("test")), sizes=sizes
    )


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


def usual(wanted: Wanted, place: Place) -> str:
    """The data set that a network gets when none is asked for."""
    if _is_hello(wanted):
        return "hello"
    if len(wanted.shape) != 3:
        raise SpecError("no data set suits this network; give one of your own with --dataset file.py:NAME")
    return "fashion-mnist" if idx.found("fashion-mnist", place.folder) else "digits"


def _is_hello(wanted: Wanted) -> bool:
    if wanted.classes != 4:
        return False
    return len(wanted.shape) == 1 or (len(wanted.shape) == 2 and wanted.shape[-1] == 4)


# ---------------------------------------------------------------------------------------------------- real images


def _idx(name: str) -> Maker:
    def make(wanted: Wanted, place: Place) -> Data:
        files, where = idx.read(name, place.folder, place.download)
        train, train_labels, test, test_labels = (torch.from_numpy(array) for array in files)
        return Data(
            name,
            Split(train[:, None], train_labels.long()),
            Split(test[:, None], test_labels.long()),
            classes=10,
            origin=str(where),
        )

    return make


dataset("fashion-mnist")(_idx("fashion-mnist"))
dataset("mnist")(_idx("mnist"))


@dataset("digits")
def digits(wanted: Wanted, place: Place) -> Data:
    """Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), as scikit-learn carries it: 8×8, 0 to 16.

    Of each fifty images in their order the last ten are for testing: 1,440 and 357, every digit in both.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise SpecError(
            "the data set digits comes with scikit-learn, which is not installed: pip install scikit-learn "
            "(archscope's extra bench has it), or take --dataset synthetic, which needs nothing"
        ) from error
    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(images).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    order = torch.arange(len(inputs))
    held = (order // 10) % 5 == 4
    targets = torch.from_numpy(labels).long()
    return Data(
        "digits", Split(inputs[~held], targets[~held]), Split(inputs[held], targets[held]), 10, origin="scikit-learn"
    )


# ------------------------------------------------------------------------------------------------- made by a seed

SYNTHETIC = (8192, 1024)  # examples for training and testing


@dataset("synthetic")
def synthetic(wanted: Wanted, place: Place) -> Data:
    """A coarse pattern a class, and noise: what a network can learn, and what has no meaning. For throughput."""
    if len(wanted.shape) != 3:
        raise SpecError("the data set synthetic makes images, and this network takes something else")
    channels, *sides = wanted.shape
    made = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (wanted.classes, channels, 4, 4), generator=made, dtype=torch.uint8)
    patterns = torch.nn.functional.interpolate(coarse.float(), size=sides)
    splits = []
    for count in SYNTHETIC:
        labels = torch.randint(0, wanted.classes, (count,), generator=made)
        inputs = torch.empty((count, channels, *sides), dtype=torch.uint8)
        for part in torch.arange(count).split(512):  # never more than this as floats
            noise = torch.randint(0, 256, (len(part), channels, *sides), generator=made, dtype=torch.uint8)
            inputs[part] = patterns[labels[part]].add_(noise).div_(2).to(torch.uint8)
        splits.append(Split(inputs, labels))
    return Data("synthetic", *splits, classes=wanted.classes, synthetic=True, origin="seed 0")


LETTERS = "ehlo"


@dataset("hello")
def hello(wanted: Wanted, place: Place) -> Data:
    """One sequence, hello, and the letter after each of its letters: ohlol. There is no other to test on."""
    if not _is_hello(wanted):
        raise SpecError("the data set hello is for networks of sequences of four letters, such as char-rnn")
    letters = torch.tensor([[LETTERS.index(letter) for letter in "hello"]])  # [1, 5]
    labels = torch.tensor([[LETTERS.index(letter) for letter in "ohlol"]])
    one_hot = torch.nn.functional.one_hot(letters, 4).float()  # [1, 5, 4]
    split = Split(letters if len(wanted.shape) == 1 else one_hot, labels)
    return Data("hello", split, split, 4, seen=True, origin="built in", letters=LETTERS)


def check(data: Data, wanted: Wanted) -> None:
    """Raises where data and network cannot come together: more classes than outputs, images of other channels."""
    highest = max(int(data.train.labels.max()), int(data.test.labels.max()))
    if highest >= wanted.classes or min(int(data.train.labels.min()), int(data.test.labels.min())) < 0:
        raise ArchscopeError(
            f"{data.name} has labels up to {highest}, and the network tells {wanted.classes} classes apart: "
            f"set its num_classes to {highest + 1}"
        )
    if len(wanted.shape) == 3:
        if data.train.inputs.ndim != 4:
            raise ArchscopeError(f"{data.name} holds no images [N, c, h, w], which this network takes")
        channels, takes = data.train.inputs.shape[1], wanted.shape[0]
        if channels != takes and channels != 1:
            raise ArchscopeError(f"{data.name} has {channels} channels, and the network takes {takes}")
