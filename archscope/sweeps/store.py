"""Records in a file while a sweep runs: CSV, JSON lines or Parquet, whole at the end, and resumed after a kill.

While it runs the records stand in `grid.csv.part/`: `sweep.json` says of which sweep, `records.csv` grows by a few
lines at a time (Parquet: files of some thousand records each). When all are there they become `grid.csv`. A sweep that
finds the part of its own goes on behind the last record that is there whole.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.registry import Registry
from archscope.core.table import unknown
from archscope.core.version import __version__
from archscope.sweeps.factory import Subject
from archscope.sweeps.grid import Grid

GROUP = 256  # records that are written together, unless they come slowly
ROWS = 4096  # records of one Parquet file while the sweep runs

Record = dict[str, Any]

WRITERS: Registry[type["Part"]] = Registry("format ending in")
writer = WRITERS.register


def is_store(path: str | None) -> bool:
    """Whether records can be written to a file of this name while they come."""
    return path is not None and Path(path).suffix.lower() in WRITERS


class Part:
    """The records so far, in a folder. A format says how they are added, read back and made one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "records"

    def add(self, records: Sequence[Record]) -> None:
        """Behind those that are there."""
        raise NotImplementedError

    def read(self) -> Iterator[Record]:
        """Those that are there whole; what was cut off by a kill is removed."""
        raise NotImplementedError

    def finish(self, target: Path) -> None:
        """All are there: one file, whole or not at all."""
        os.replace(self.file, target)

    def flush(self) -> None:
        """What is held back is written."""

    def _whole_lines(self) -> Iterator[str]:
        """The lines, each with its end; what stands behind the last end is cut off."""
        if not self.file.exists():
            return
        size = 0
        with open(self.file, encoding="utf-8", newline="") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break
                size += len(line.encode())
                yield line
        if size < self.file.stat().st_size:
            os.truncate(self.file, size)

    def _append(self, text: str) -> None:
        with open(self.file, "a", encoding="utf-8", newline="") as lines:
            lines.write(text)


@writer(".jsonl", ".ndjson")
class Lines(Part):
    def add(self, records: Sequence[Record]) -> None:
        self._append("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))

    def read(self) -> Iterator[Record]:
        return (json.loads(line) for line in self._whole_lines())


@writer(".csv")
class Csv(Part):
    """The columns are the keys of the first record; where an argument is not in it, `model` still spells it."""

    keys: Sequence[str] = ()

    def add(self, records: Sequence[Record]) -> None:
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        if not self.keys:
            self.keys = next(csv.reader(self._whole_lines()), [])
        if not self.keys:
            self.keys = list(records[0])
            rows.writerow(self.keys)
        rows.writerows([_cell(record.get(key)) for key in self.keys] for record in records)
        self._append(out.getvalue())

    def read(self) -> Iterator[Record]:
        rows = csv.reader(self._whole_lines())
        keys = next(rows, [])
        return (dict(zip(keys, map(_value, row), strict=True)) for row in rows)


def _cell(value: Any) -> Any:
    """As `render.csv` writes it: lists, dicts and flags as JSON, unknown empty; no line breaks."""
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return " ".join(value.split()) if isinstance(value, str) else value


def _value(cell: str) -> Any:
    if cell == "":
        return None
    try:
        return json.loads(cell)
    except ValueError:
        return cell


@writer(".parquet")
class Parquet(Part):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise SpecError("Parquet needs pyarrow: pip install pyarrow; .csv and .jsonl do not") from error
        self.held: list[Record] = []

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def add(self, records: Sequence[Record]) -> None:
        self.held += records
        if len(self.held) >= ROWS:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.held:
            new = self.folder / "new"
            pq.write_table(pa.table(_arrays(self.held)), new)
            os.replace(new, self.folder / f"{len(self._files()):09}.parquet")
            self.held = []

    def read(self) -> Iterator[Record]:
        import pyarrow.parquet as pq

        for file in self._files():
            for row in pq.read_table(file).to_pylist():
                yield {key: _value(value) if key in _AS_TEXT and isinstance(value, str) else value
                       for key, value in row.items()}  # fmt: skip

    def finish(self, target: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.flush()
        schemas = [pq.read_schema(file) for file in self._files()]
        schema = pa.schema(
            [(name, _type(schemas, name)) for name in dict.fromkeys(n for s in schemas for n in s.names)]
        )
        with pq.ParquetWriter(self.file, schema) as out:
            for file in self._files():
                table = pq.read_table(file)
                empty = [pa.nulls(len(table), field.type) for field in schema]
                columns = [table[f.name].cast(f.type) if f.name in table.column_names else nothing
                           for f, nothing in zip(schema, empty, strict=True)]  # fmt: skip
                out.write_table(pa.table(columns, schema=schema))
        os.replace(self.file, target)


def _type(schemas: Sequence[Any], name: str) -> Any:
    """What a column is in all files: where they differ, numbers are floating, and others text."""
    import pyarrow as pa

    found = {schema.field(name).type for schema in schemas if name in schema.names} - {pa.null()}
    if len(found) < 2:
        return next(iter(found), pa.string())
    return pa.float64() if found <= {pa.int64(), pa.float64()} else pa.string()


# of more than one form: a number or a list, a list or a list of lists
_AS_TEXT = ("input", "receptive_field", "unknown")


def _arrays(records: Sequence[Record]) -> dict[str, Any]:
    """The columns; a column that Parquet cannot type is JSON text."""
    import pyarrow as pa

    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record.get(key) for record in records]
        plain = {type(value) for value in values} - {type(None)}
        if not (plain <= {int, float} or len(plain) < 2) or plain & {dict, list, tuple}:
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        found[key] = pa.array(values)
    return found


# ------------------------------------------------------------------------------------------------------- resuming


def signature(subject: Subject, points: Any) -> dict[str, Any]:
    """What makes two sweeps the same: the model and the code of its file, how it is run, the points, the versions."""
    told: dict[str, Any] = {"model": subject.spec.text, "input": repr(subject.input), "batch": subject.batch}
    told |= {"train": subject.train, "archscope": __version__, "torch": import_module("torch").__version__}
    if isinstance(points, Grid):
        told["axes"] = {axis.name: repr(axis.values) for axis in points.axes}
    else:
        told["points"] = getattr(points, "signature", None) or sha256(repr(list(points)).encode()).hexdigest()
    file = Path(subject.spec.name.rpartition(":")[0]).expanduser()
    if subject.spec.source == "file" and file.is_file():
        told["code"] = sha256(file.read_bytes()).hexdigest()
    return told


class Store:
    """A file of records that is being written. `done` are those that were there already."""

    def __init__(self, path: str, told: Mapping[str, Any]) -> None:
        self.target = Path(os.path.realpath(os.path.expanduser(path)))
        suffix = self.target.suffix.lower()
        if suffix not in WRITERS:
            raise SpecError(unknown("ending of a file of records", suffix, WRITERS))
        self.folder = self.target.with_name(f"{self.target.name}.part")
        self.part = WRITERS[suffix](self.folder)
        note = self.folder / "sweep.json"
        if note.exists():
            before = json.loads(note.read_text(encoding="utf-8"))
            if wrong := [key for key in told if before.get(key) != json.loads(json.dumps(told[key]))]:
                raise SpecError(
                    f"{self.folder.name} holds the records of another sweep ({', '.join(wrong)} differ): remove it, or "
                    f"write to another file"
                )
        else:
            self.folder.mkdir(exist_ok=True)
            note.write_text(json.dumps(told), encoding="utf-8")

    def done(self) -> Iterator[Record]:
        """The records that are there."""
        return self.part.read()

    def add(self, records: Sequence[Record]) -> None:
        if records:
            self.part.add(records)

    def finish(self) -> None:
        """The sweep is at its end: the file takes the place of the folder."""
        self.part.flush()
        if next(iter(self.part.read()), None) is not None:
            self.part.finish(self.target)
        shutil.rmtree(self.folder)


def resumed(
    path: str,
    points: Any,
    subject: Subject,
    run: Callable[[Iterable[Mapping[str, Any]]], Iterator[Record]],
    extra: Mapping[str, Any] | None = None,
) -> Iterator[Record]:
    """Every record of a sweep: those that are in the file's part, then the others as they come, which are added to it.

    points: something with a length, and slices. run: points -> records.
    """
    store = Store(path, {**signature(subject, points), **(extra or {})})
    return _resumed(store, points, run)


def _resumed(store: Store, points: Any, run: Callable[..., Iterator[Record]]) -> Iterator[Record]:
    count = 0
    for record in store.done():
        count += 1
        yield record
    rest = (points[i] for i in range(count, len(points)))
    yield from kept(store, run(rest))
    store.finish()


def kept(store: Store, records: Iterable[Record], keep: Callable[[Record], bool] | None = None) -> Iterator[Record]:
    """Records as they come, written in groups that grow old at most a second."""
    from time import monotonic

    held: list[Record] = []
    last = monotonic()
    try:
        for record in records:
            if keep is None or keep(record):
                held.append(record)
            if len(held) >= GROUP or (held and monotonic() - last > 1):
                store.add(held)
                held, last = [], monotonic()
            yield record
    finally:
        store.add(held)
        store.part.flush()
