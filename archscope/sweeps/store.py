"""Records in a file while a sweep runs: CSV, JSON lines or Parquet, whole at the end, and resumed after a kill.

While it runs the records are in `grid.csv.part/`: `sweep.json` says of which sweep, and `records` has a line of JSON
for each, whatever the file will be. When all are there they become `grid.csv`. The same sweep, run again,
continues after the last whole record.
"""

import csv
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from archscope.analysis.metrics import METRICS, TOTALS
from archscope.core import files, limits
from archscope.core.errors import SpecError
from archscope.core.registry import Registry
from archscope.core.table import unknown
from archscope.core.version import __version__
from archscope.sweeps.factory import SweepModel
from archscope.sweeps.grid import Grid, columns

GROUP = 256  # records that are written together, unless they come slowly
ROWS = 4096  # records that go into a Parquet file at a time

Record = dict[str, Any]
Records = Callable[[], Iterator[Record]]  # all of them, each time it is called
Place = Callable[[int, Record, Record | None], Mapping[str, Any]]

WRITERS: Registry[Callable[[Path, Records, Path], None]] = Registry("format ending in")
writer = WRITERS.register


def is_store(path: str | None) -> bool:
    """Whether records can be written to a file of this name while they come."""
    return path is not None and Path(path).suffix.lower() in WRITERS


# ------------------------------------------------------------------------------------------------------- the files
# A writer turns the part's file of JSON lines into the file that was asked for: (lines, the same as records, new file).


@writer(".jsonl", ".ndjson")
def _jsonl(lines: Path, records: Records, new: Path) -> None:
    os.replace(lines, new)


@writer(".csv")
def _csv(lines: Path, records: Records, new: Path) -> None:
    """The columns are the keys of the first record; where an argument is not in it, `model` still has it."""
    keys = list(next(records()))
    with open(new, "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(keys)
        rows.writerows([_cell(record.get(key)) for key in keys] for record in records())


def _cell(value: Any) -> Any:
    """As `core/formats.py` writes CSV: lists, dicts and flags as JSON, unknown empty; no line breaks."""
    if isinstance(value, str):
        return " ".join(value.split())
    return _text(value) if isinstance(value, bool | list | dict) else value


@writer(".parquet")
def _parquet(lines: Path, records: Records, new: Path) -> None:
    """A column that has no one type in Parquet, such as a receptive field of a number or a list, is JSON text."""
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    found: dict[str, set[type]] = {}
    for record in records():
        for key, value in record.items():
            found.setdefault(key, set()).add(type(value))
    known = {(int,): pa.int64(), (float,): pa.float64(), (float, int): pa.float64(), (bool,): pa.bool_()}
    kinds = {key: tuple(sorted(types - {type(None)}, key=lambda one: one.__name__)) for key, types in found.items()}
    texts = {key for key, types in kinds.items() if types not in known and types not in ((), (str,))}
    schema = pa.schema([(key, known.get(types, pa.string())) for key, types in kinds.items()])
    rest = records()
    with pq.ParquetWriter(new, schema) as out:
        while some := list(itertools.islice(rest, ROWS)):
            columns = {key: [record.get(key) for record in some] for key in kinds}
            columns |= {key: [None if value is None else _text(value) for value in columns[key]] for key in texts}
            out.write_table(pa.table(columns, schema))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- resuming


def signature(subject: SweepModel, points: Any) -> dict[str, Any]:
    """What two runs of the same sweep have in common: model, code of its file, how it is run, points, versions."""
    found: dict[str, Any] = {"model": subject.spec.text, "input": repr(subject.input), "batch": subject.batch}
    found |= {"train": subject.train, "archscope": __version__, "torch": import_module("torch").__version__}
    if isinstance(points, Grid):
        found["axes"] = {axis.name: repr(axis.values) for axis in points.axes}
    else:
        found["points"] = getattr(points, "signature", None) or sha256(repr(list(points)).encode()).hexdigest()
    if subject.step is not None:
        found["step"] = dict(subject.step)
    file = Path(subject.spec.name.rpartition(":")[0]).expanduser()
    if subject.spec.source.name == "file" and file.is_file():
        found["code"] = sha256(file.read_bytes()).hexdigest()
    return found


def _record(line: bytes) -> Record:
    """A record of a line, with totals of the right types. Raises ValueError for anything else."""
    from msgspec import MsgspecError, convert, defstruct
    from msgspec import json as fast

    if not _SCHEMA:
        kinds: dict[str, Any] = {"model": str, "error": str | None, "unknown": dict[str, int] | None}
        kinds |= {"input": list[Any] | None, "macs_is_lower_bound": bool | None, "receptive_field": Any}
        forms = {key: float | None if one.form == "share" else int | None for key, one in METRICS.items()}
        _SCHEMA.append(defstruct("Totals", [(key, kinds.get(key, forms.get(key, Any))) for key in (*TOTALS, "error")]))
    try:
        record = fast.decode(line, type=Record)
        convert(record, _SCHEMA[0])
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return record


_SCHEMA: list[Any] = []


class Store:
    """A file of records that is being written.

    place: (number, record, the one before it or None) -> what a record with that number has. Raises LookupError,
    TypeError or ValueError for a record that cannot stand there.
    """

    def __init__(self, path: str, about: Mapping[str, Any], place: Place) -> None:
        self.target = Path(os.path.realpath(os.path.expanduser(path)))
        suffix = self.target.suffix.lower()
        if suffix not in WRITERS:
            raise SpecError(unknown("ending of a file of records", suffix, WRITERS))
        if suffix == ".parquet":
            try:
                import_module("pyarrow.parquet")
            except ImportError as error:
                raise SpecError("Parquet needs pyarrow: pip install pyarrow; .csv and .jsonl do not") from error
        self.write = WRITERS[suffix]
        self.place = place
        self.folder = self.target.with_name(f"{self.target.name}.part")
        self.file, note = self.folder / "records", self.folder / "sweep.json"
        about = json.loads(json.dumps({**about, "records": "JSON lines"}))
        if note.exists():
            try:
                before = json.loads(files.text(note, limits.SETTINGS))
                wrong = [key for key in about if before.get(key) != about[key]]
            except (OSError, ValueError, AttributeError, RecursionError):
                wrong = ["sweep.json"]
            if wrong:
                raise SpecError(
                    f"{self.folder.name} holds the records of another sweep ({', '.join(wrong)} differ): remove it, or "
                    f"write to another file"
                )
        else:
            self.folder.mkdir(exist_ok=True)
            try:
                files.save(json.dumps(about), note)
            except OSError:
                with suppress(OSError):
                    self.folder.rmdir()  # where nothing else is in it
                raise

    def done(self) -> Iterator[Record]:
        """The records of an earlier run. What follows the last one that is whole and in its place is removed."""
        if not self.file.exists():
            return
        if not self.file.is_file():
            raise SpecError(f"{self.folder.name}/{self.file.name} is no file: remove {self.folder.name}")
        number, size, before = 0, 0, None
        with open(self.file, "rb") as lines:
            while line := lines.readline(limits.TABLE):
                try:
                    record = _record(line)
                    here = json.loads(_text(self.place(number, record, before)))
                except (ValueError, LookupError, TypeError):
                    break
                if not line.endswith(b"\n") or any(record.get(key) != value for key, value in here.items()):
                    break
                number, size, before = number + 1, size + len(line), record
                yield record
        if size < self.file.stat().st_size:
            os.truncate(self.file, size)

    def add(self, records: Sequence[Record]) -> None:
        """Write records after those that are there."""
        from msgspec import json

        with open(self.file, "ab") as lines:
            lines.write(json.Encoder().encode_lines(records))

    def _records(self) -> Iterator[Record]:
        """All records, which `done` has looked at or this process has written."""
        from msgspec import json

        decode = json.Decoder(Record).decode
        with open(self.file, "rb") as lines:
            yield from map(decode, lines)

    def finish(self) -> None:
        """The sweep has ended: the file replaces the folder."""
        if self.file.exists() and next(self._records(), None) is not None:
            new = self.folder / "new"
            self.write(self.file, self._records, new)
            os.replace(new, self.target)
        shutil.rmtree(self.folder)


def resumed(
    path: str,
    points: Any,
    subject: SweepModel,
    run: Callable[[Iterable[Mapping[str, Any]]], Iterator[Record]],
) -> Iterator[Record]:
    """Every record of a sweep: those that are in the file's part, then the others as they come, which are added to it.

    points: something with a length, and slices. run: points -> records.
    """

    def place(number: int, record: Record, before: Record | None) -> Mapping[str, Any]:
        return columns(points[number])

    return _resumed(Store(path, signature(subject, points), place), points, run)


def _resumed(store: Store, points: Any, run: Callable[..., Iterator[Record]]) -> Iterator[Record]:
    count = 0
    for record in store.done():
        count += 1
        yield record
    yield from kept(store, run(points[i] for i in range(count, len(points))))
    store.finish()


def kept(store: Store, records: Iterable[Record]) -> Iterator[Record]:
    """Records as they come, written in groups, at the latest after a second."""
    from time import monotonic

    held: list[Record] = []
    last = monotonic()
    try:
        for record in records:
            held.append(record)
            if len(held) >= GROUP or monotonic() - last > 1:
                store.add(held)
                held, last = [], monotonic()
            yield record
    finally:
        store.add(held)
