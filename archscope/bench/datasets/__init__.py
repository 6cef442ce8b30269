"""The data sets of `bench`, a file each; the folder is listed. `bench --list` imports them without torch."""

from pathlib import Path

from archscope.bench.datasets.base import DATASETS, Dataset, cache_folder, dataset
from archscope.core.errors import SpecError
from archscope.core.registry import import_folder
from archscope.core.table import Column, Table, unknown

__all__ = ["DATASETS", "Dataset", "cache_folder", "check_name", "dataset", "datasets_table"]

import_folder(__name__, __path__)
DATASETS.put_first(*"fashion-mnist mnist digits synthetic hello".split())


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
            {"dataset": name, "train": d.train, "test": d.test, "example": d.example, "comes_from": d.origin}
            for name, d in DATASETS.items()
        ),
        notes=(
            "a folder with one folder of images per class, or file.py:NAME, is a data set too",
            "--dataset NAME@train=2000@test=500 takes the first examples",
        ),
    )
