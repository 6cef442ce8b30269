"""Data of the user's own: a folder of images, or a name in a Python file."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archscope.bench.examples import Data, Split, Wanted
from archscope.core.errors import SpecError

TESTED = ("test", "val", "valid", "validation")  # names of the folder that is not trained on


def from_folder(folder: Path, wanted: Wanted) -> Data:
    """A folder with train/ and test/ (or val/), each with one folder of images a class; or one such folder alone, of
    which every fifth image is for testing. The images are brought to the network's sides as torchvision's Resize does.
    """
    if len(wanted.shape) != 3:
        raise SpecError(f"{folder} holds images, and this network takes something else")
    test = next((folder / name for name in TESTED if (folder / name).is_dir()), None)
    if (folder / "train").is_dir():
        if test is None:
            raise SpecError(f"{folder} has train/ and no test/ or val/")
        train, classes = _images(folder / "train", wanted)
        tested, same = _images(test, wanted)
        if classes != same:
            raise SpecError(
                f"{folder}/train and {test} have other classes: {', '.join(sorted(set(classes) ^ set(same)))}"
            )
        return Data(str(folder), train, tested, len(classes), origin=str(folder))
    both, classes = _images(folder, wanted)
    held = torch.arange(len(both)) % 5 == 4
    return Data(
        str(folder),
        Split(both.inputs[~held], both.labels[~held]),
        Split(both.inputs[held], both.labels[held]),
        len(classes),
        origin=str(folder),
    )


def _images(folder: Path, wanted: Wanted) -> tuple[Split, list[str]]:
    """Every image of a folder of classes as uint8 [N, c, h, w], the labels by the alphabet of the folders."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor, resize

    channels, *sides = wanted.shape
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
    data set of PyTorch's kind, whose items are (input, label). uint8 inputs are divided by 255, no others.
    """
    path, _, name = text.rpartition(":")
    module = _module(Path(path).expanduser())
    if not hasattr(module, name):
        raise SpecError(f"{path} has no {name!r}")
    value = getattr(module, name)
    value = value() if callable(value) else value
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SpecError(f"{text} gives {type(value).__name__}, not a pair (train, test)")
    train, test = (_split(text, part) for part in value)
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise SpecError(f"{text}: training and test examples differ: {train.inputs.shape[1:]}, {test.inputs.shape[1:]}")
    classes = 1 + max(int(train.labels.max()), int(test.labels.max()))
    return Data(text, train, test, classes, origin=path)


def _module(path: Path) -> Any:
    if not path.is_file():
        raise SpecError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SpecError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SpecError(f"{path} fails as it is imported: {type(error).__name__}: {error}") from error
    return module


def _split(text: str, part: Any) -> Split:
    if isinstance(part, tuple | list) and len(part) == 2 and isinstance(part[0], Tensor):
        inputs, labels = part[0], torch.as_tensor(part[1])
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        items = [part[i] for i in range(len(part))]
        if not items or not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
            raise SpecError(f"{text}: an item of the data set is no pair (input, label)")
        inputs = torch.stack([torch.as_tensor(item[0]) for item in items])
        labels = torch.as_tensor([int(item[1]) for item in items])
    else:
        raise SpecError(f"{text}: {type(part).__name__} is neither (inputs, labels) nor a data set")
    if len(inputs) != len(labels) or not len(inputs):
        raise SpecError(f"{text}: {len(inputs)} inputs and {len(labels)} labels")
    return Split(inputs, labels.long())
