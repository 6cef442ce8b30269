"""archscope.lock: each model as it was last accepted, one line a layer, so that a diff of it reads well.

    {"archscope_lock":1}
    {"model":"lenet","input":"1x1x28x28"}
    {"counting":1,"archscope":"0.1.0","torch":"2.14.1","code":"9f86d081884c7d65"}
    {"params":61706}
    …
    {"layer":"conv1","kind":"Conv2d","config":{"in_channels":1,"out_channels":6,"kernel_size":5},…,"params":156}
    …
    {"end":"lenet","checksum":"5e884898da280471"}
    {"end":"archscope_lock"}

Every line is JSON. Models are in order of their names, layers in run order; a figure of 0 is left out, null is unknown.
A block is read only where its checksum holds, and a file only where its last line is there: what was cut off, edited
by hand or left in conflict by a merge is refused with the line, and never written over.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, NoReturn, TypedDict

from msgspec import Meta, MsgspecError, Struct, ValidationError
from msgspec.json import Decoder

from archscope.analysis.metrics import METRICS, STEP_METRICS
from archscope.core import limits
from archscope.core.errors import ArchscopeError
from archscope.core.files import save
from archscope.core.files import text as text_in

NAME = "archscope.lock"
SCHEMA = 1  # of the file; a reader refuses a newer one
FIGURES = tuple(key for key, one in METRICS.items() if one.layer_locked)
# depth and receptive field last, as the first locks had them
METRIC_KEYS = tuple(
    sorted((key for key, one in METRICS.items() if one.locked), key=("depth", "receptive_field").__contains__)
)
STEP_KEYS = tuple(STEP_METRICS)  # of a training step: only where the config asks for them
AT_PEAK = "at_peak"  # beside them: the bytes of each layer at the step's peak
TOTALS = (*METRIC_KEYS, "unknown")

# value of an argument that is left out of a lock
DEFAULTS: dict[str, Any] = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0, "padding_mode": "zeros", "bias": True,
    "ceil_mode": False, "count_include_pad": True, "return_indices": False, "divisor_override": None, "inplace": False,
    "eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True, "elementwise_affine": True,
    "num_layers": 1, "bidirectional": False, "dropout": 0.0, "proj_size": 0, "batch_first": False,
    "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False, "add_zero_attn": False, "add_bias_kv": False,
}  # fmt: skip
# one number where all sides are equal
SIDES = frozenset(("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size"))


class LockError(ArchscopeError):
    """A lock that cannot be read or written: which line, and what to do."""


class Line(NamedTuple):
    """One layer. config: the arguments that differ from their defaults. output: `1x96x55x55`, several joined by ", ".

    Counts in elements, MAC and FLOP, activations in bytes; None where an operator's cost is unknown.
    """

    path: str
    kind: str
    config: Mapping[str, Any]
    output: str
    params: int = 0
    trainable: int = 0
    macs: int | None = 0
    flops: int | None = 0
    activations: int = 0


@dataclass(frozen=True)
class Entry:
    """One model of a lock.

    model: as it was named. input: what it ran on. asked: what was asked for besides its own defaults, of "input",
    "batch", "train" and "step", the conditions of the training step whose totals are there too. made: "archscope",
    "torch" and, for networks of the zoo, "code", a checksum of their source.
    by: "command", or "python" for a model that only Python code can build. first: number of its first layer's line.
    """

    model: str
    input: str
    asked: Mapping[str, Any]
    counting: int
    made: Mapping[str, str]
    totals: Mapping[str, Any]
    lines: tuple[Line, ...]
    by: str = "command"
    first: int = field(default=0, compare=False)


Lock = dict[str, Entry]  # by model


def without_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from their defaults; sides that are all equal as one number."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in SIDES and isinstance(value, list | tuple) and value and all(one == value[0] for one in value):
            value = value[0]
        if key not in DEFAULTS or DEFAULTS[key] != value or type(DEFAULTS[key]) is not type(value):
            kept[key] = value
    return kept


# ------------------------------------------------------------------------------------------------------- writing


def text_of(lock: Mapping[str, Entry]) -> str:
    """The file."""
    lines = [_json({"archscope_lock": SCHEMA})]
    for name in sorted(lock):
        block = [_json(line) for line in _objects(lock[name])]
        lines += [*block, _json({"end": name, "checksum": _checksum(block)})]
    return "\n".join([*lines, _LAST]) + "\n"


def _objects(entry: Entry) -> Iterator[dict[str, Any]]:
    yield {"model": entry.model, "input": entry.input, **({"asked": dict(entry.asked)} if entry.asked else {}),
           **({"by": entry.by} if entry.by != "command" else {})}  # fmt: skip
    yield {"counting": entry.counting, **entry.made}
    yield from (
        {key: entry.totals[key]}
        for key in (*TOTALS, *STEP_KEYS, AT_PEAK)
        if key in entry.totals and (key != "unknown" or entry.totals[key])
    )
    for line in entry.lines:
        config = {"config": dict(line.config)} if line.config else {}
        figures = {key: value for key in FIGURES if key != "trainable" and (value := getattr(line, key)) != 0}
        trainable = {"trainable": line.trainable} if line.trainable != line.params else {}
        yield {"layer": line.path, "kind": line.kind, **config, "output": line.output, **figures, **trainable}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _checksum(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


_LAST = '{"end":"archscope_lock"}'

# ------------------------------------------------------------------------------------------------------- reading


class RunOptions(TypedDict, total=False):
    """How a model is run, where that is not its own default."""

    input: str | list[str]
    batch: Annotated[int, Meta(ge=1)]
    train: bool
    step: dict[str, Any]


class _Header(Struct, forbid_unknown_fields=True):
    archscope_lock: int


class _Model(Struct):
    model: str
    input: str
    asked: RunOptions = {}
    by: str = "command"


class _Layer(Struct):
    layer: str
    kind: str
    output: str
    config: dict[str, Any] = {}
    params: int = 0
    trainable: int | None = None
    macs: int | None = 0
    flops: int | None = 0
    activations: int = 0


class _Footer(Struct):
    end: str
    checksum: str


_Made = dict[str, int | str]
_Total = dict[str, int | list[int] | dict[str, int] | None]
_DECODERS: dict[Any, Any] = {kind: Decoder(kind) for kind in (_Header, _Model, _Made, _Total, _Layer, _Footer)}
_RESTORE = "restore the file from version control, or delete it and run `archscope lock`"


def parse(text: str, name: str = NAME) -> Lock:
    """Read a lock. name: how messages call it. Raises LockError, naming the line, for anything that is not whole."""
    return _LockReader(text, name).lock()


class _LockReader:
    def __init__(self, text: str, name: str) -> None:
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
        self.name, self.lines = name, text.split("\n") if text else []

    def refuse(self, at: int, what: str, fix: str = _RESTORE) -> NoReturn:
        raise LockError(f"{self.name} line {at + 1}: {what}; {fix}")

    def read(self, at: int, kind: Any) -> Any:
        """The line at an index, checked against its schema."""
        try:
            return _DECODERS[kind].decode(self.lines[at])
        except ValidationError as error:
            self.refuse(at, f"this is not a line of a lock: {str(error)[:1].lower()}{str(error)[1:]}")
        except (MsgspecError, UnicodeError, RecursionError):
            last = at + 1 == len(self.lines)
            self.refuse(at, "the file was cut off here" if last else "this is not a line of a lock")

    def lock(self) -> Lock:
        self.first()
        lock: Lock = {}
        at = 1
        while at < len(self.lines) and self.lines[at] != _LAST:
            entry, after = self.entry(at)
            if entry.model in lock:
                self.refuse(at, f"{entry.model} stands here for the second time")
            lock[entry.model] = entry
            at = after
        if at >= len(self.lines):
            self.cut_off("before it is complete")
        if at + 1 < len(self.lines):
            self.refuse(at + 1, "nothing may follow the last line")
        return lock

    def cut_off(self, where: str) -> NoReturn:
        raise LockError(f"{self.name} ends after line {len(self.lines)}, {where}: it was cut off; {_RESTORE}")

    def first(self) -> None:
        """The first line, and no line that a merge left."""
        if not self.lines:
            raise LockError(f"{self.name} is empty; {_RESTORE}")
        for at, line in enumerate(self.lines):
            if line.startswith(("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")):
                fix = "take either side whole, then run `archscope check --update`"
                self.refuse(at, "a merge left a conflict here", fix)
        try:
            schema = _DECODERS[_Header].decode(self.lines[0]).archscope_lock
        except (MsgspecError, UnicodeError, RecursionError):
            self.refuse(0, "this is not a lock of archscope")
        if schema > SCHEMA:
            what = f"a newer archscope wrote this lock (version {schema}, this one reads up to {SCHEMA})"
            self.refuse(0, what, "upgrade archscope")

    def entry(self, at: int) -> tuple[Entry, int]:
        """The entry that begins at an index, and the index after it."""
        if not self.lines[at].startswith('{"model":'):
            self.refuse(at, "a model should begin here")
        head: _Model = self.read(at, _Model)
        end = next((i for i in range(at + 1, len(self.lines)) if self.lines[i].startswith('{"end":')), None)
        if end is None:
            self.cut_off(f"in the middle of {head.model}")
        if self.lines[end] == _LAST or (last := self.read(end, _Footer)).end != head.model:
            self.refuse(end, f"the end of {head.model} should stand here")
        made: dict[str, Any] = self.read(at + 1, _Made)
        if type(counting := made.pop("counting", None)) is not int:
            self.refuse(at + 1, "this is not a line of a lock: it has no number `counting`")
        totals: dict[str, Any] = {"unknown": {}}
        layers: list[Line] = []
        first = 0
        for i in range(at + 2, end):
            if self.lines[i].startswith('{"layer":'):
                first = first or i + 1
                layers.append(_line(self.read(i, _Layer)))
                continue
            total = self.read(i, _Total)
            if len(total) != 1 or not total.keys() <= {*TOTALS, *STEP_KEYS, AT_PEAK}:
                self.refuse(i, "this is not a line of a lock")
            totals |= total
        entry = Entry(
            head.model, head.input, head.asked, counting, made, totals, tuple(layers), head.by, first
        )  # fmt: skip
        if last.checksum != _checksum(self.lines[at:end]):
            if missing := [key for key in TOTALS if key not in totals]:
                self.refuse(at, f"{head.model} has no line for {missing[0]}")
            raise LockError(
                f"{self.name} lines {at + 1} to {end + 1}: {head.model} was changed by hand: {_sums(entry)}; {_RESTORE}"
                ", and `archscope check --update` accepts what a model has become"
            )
        return entry, end + 1


def _line(read: _Layer) -> Line:
    trainable = read.params if read.trainable is None else read.trainable
    config = without_defaults(read.config)
    return Line(read.layer, read.kind, config, read.output, read.params, trainable, read.macs, read.flops,
                read.activations)  # fmt: skip


def _sums(entry: Entry) -> str:
    """What shows a change by hand, where the layers no longer add up."""
    for key, word in (("params", "parameters"), ("macs", "MACs"), ("flops", "FLOPs"), ("activations", "bytes")):
        each = [getattr(line, key) for line in entry.lines]
        if all(type(one) is int for one in (*each, entry.totals[key])) and sum(each) != entry.totals[key]:
            return f"its layers have {sum(each):,} {word}, its total says {entry.totals[key]:,}"
    return "the checksum does not hold"


# ---------------------------------------------------------------------------------------------------------- files


def read(path: str) -> Lock:
    """The lock in a file. Raises LockError for a file that is not there or not whole."""
    name = shown(path)
    try:
        return parse(text_in(path, limits.LOCK), name)
    except FileNotFoundError:
        raise LockError(f"there is no {name}; `archscope lock MODEL` writes it") from None
    except UnicodeDecodeError as error:
        raise LockError(f"{name} is not text: {error.reason} at byte {error.start}; {_RESTORE}") from error
    except OSError as error:
        raise LockError(f"cannot read {name}: {error.strerror or error}") from error


def update(path: str, change: Callable[[Lock], Mapping[str, Entry]]) -> Lock:
    """Replace a lock by `change(what it is now)`, whole or not at all, and give the new one.

    Others who update the same file wait: what they write and what this writes are both kept. A file that does not
    exist is empty; one that cannot be read is left as it is, and LockError raised.
    """
    target = os.path.realpath(os.path.expanduser(path))
    with alone(target):
        now = read(path) if os.path.exists(target) else {}
        new = dict(change(dict(now)))
        try:
            if new != now or not os.path.exists(target):
                save(text_of(new), target)
        except OSError as error:
            raise LockError(f"cannot write {shown(path)}: {error.strerror or error}") from error
    return new


@contextmanager
def alone(target: str, patience: float = 60.0) -> Iterator[None]:
    """Within this block no other process or thread updates the file. Raises LockError after `patience` seconds.

    The operating system holds the lock, on a file beside the target, and releases it when a process dies.
    """
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.writing")
    until = time.monotonic() + patience
    while (handle := _opened(beside, target)) is None:
        if time.monotonic() > until:
            raise LockError(f"another process has been writing {shown(target)} for {patience:.0f} seconds")
        time.sleep(0.02)
    try:
        yield
    finally:  # deleted before it is released, so that nobody locks a file that is about to vanish
        if sys.platform != "win32":
            os.unlink(beside)
        os.close(handle)
        if sys.platform == "win32":  # an open file cannot be deleted there; or the next one has it already
            with suppress(OSError):
                os.unlink(beside)


def _opened(path: str, target: str) -> int | None:
    """The file at a path, opened and locked; None while another has it, or has just deleted it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if sys.platform == "win32" and isinstance(error, PermissionError):  # it is just being deleted
            return None
        raise LockError(f"cannot write {shown(target)}: {error.strerror or error}") from error
    with suppress(FileNotFoundError):
        if _locked(handle) and os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    os.close(handle)
    return None


def _locked(handle: int) -> bool:
    """Lock an open file, without waiting; whether that succeeded."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def shown(path: str) -> str:
    """A path as a reader knows it: relative where it is below here."""
    full, here = os.path.abspath(os.path.expanduser(path)), os.getcwd()
    return os.path.relpath(full, here) if full.startswith(here + os.sep) else path
