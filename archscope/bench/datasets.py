"""The catalogue of data sets, for `bench --list`, which does not import torch. `data.py` reads them."""

import os
from pathlib import Path

from archscope.core.errors import SpecError
from archscope.core.table import Column, Table, unknown

DATASETS = {  # name -> training examples, test examples, what an example is, where it comes from
    "fashion-mnist": (60_000, 10_000, "1×28×28, 10 classes", "Debian's dataset-fashion-mnist, torchvision, --download"),
    "mnist": (60_000, 10_000, "1×28×28, 10 classes", "torchvision's files, --download"),
    "digits": (1_440, 357, "1×8×8, 10 classes", "scikit-learn (pip install scikit-learn)"),
    "synthetic": (8_192, 1_024, "what the network takes; not real", "made by a seed"),
    "hello": (1, 1, "5 letters of 4; tested on itself", "built in"),
}


def cache_folder() -> Path:
    """The folder for files that archscope keeps between runs: $ARCHSCOPE_CACHE, else archscope in the user's cache."""
    own = os.environ.get("ARCHSCOPE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archscope"


def check_name(text: str) -> None:
    """Raises SpecError for text that is not a data set, a folder or a name in a Python file."""
    name = text.partition(".py:")[0].partition("@")[0] if ".py:" not in text else ""
    if name and name != "auto" and name not in DATASETS and not Path(name).expanduser().is_dir():
        raise SpecError(f"{unknown('data set', name, DATASETS)} (or a folder of images, or file.py:NAME)")


def datasets_table() -> Table:
    """The data sets as a table: what `archscope bench --list` prints last."""
    return Table(
        title="Data sets",
        columns=(
            Column("dataset", "Name"),
            Column("train", "Train", "count"),
            Column("test", "Test", "count"),
            Column("example", "An example is", priority=1),
            Column("comes_from", "Comes from", priority=2),
        ),
        rows=tuple(
            dict(zip(("dataset", "train", "test", "example", "comes_from"), (name, *facts), strict=True))
            for name, facts in DATASETS.items()
        ),
        notes=(
            "a folder with one folder of images per class, or file.py:NAME, is a data set too",
            "--dataset NAME@train=2000@test=500 takes the first examples",
        ),
    )
