"""archscope.lock: what each model was when it was last agreed to, one line a layer: a diff of it reads well.

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
A block is believed only when its checksum holds and a file only when its last line is there: what was cut off, edited
by hand or left in conflict by a merge is refused with the line, and never written over. Standard library only, apart
from `render.save`: data in, data out.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError
from archscope.core.files import save

NAME = "archscope.lock"
SCHEMA = 1  # of the file; a reader refuses a newer one
FIGURES = ("params", "trainable", "macs", "flops", "activations")  # of a layer
TOTALS = (
    "params", "trainable", "buffers", "memory", "macs", "flops", "activations", "neurons", "depth", "receptive_field",
    "unknown",
)  # fmt: skip

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
    "batch" and "train". made: "archscope", "torch" and, for networks of the zoo, "code", a checksum of their source.
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


def spare(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that say something: one number for equal sides, and none that is the default."""
    said: dict[str, Any] = {}
    for key, value in config.items():
        if key in SIDES and isinstance(value, list | tuple) and value and len(set(value)) == 1:
            value = value[0]
        if key not in DEFAULTS or DEFAULTS[key] != value or type(DEFAULTS[key]) is not type(value):
            said[key] = value
    return said


# ---------------------------------------------------------------------------------------------------------- text


def text_of(lock: Mapping[str, Entry]) -> str:
    """The file."""
    blocks = [_block(lock[name]) for name in sorted(lock)]
    return "\n".join([_json({"archscope_lock": SCHEMA}), *blocks, _json({"end": "archscope_lock"})]) + "\n"


def _block(entry: Entry) -> str:
    lines = [_json(line) for line in _objects(entry)]
    return "\n".join([*lines, _json({"end": entry.model, "checksum": _checksum(lines)})])


def _objects(entry: Entry) -> Iterator[dict[str, Any]]:
    yield {"model": entry.model, "input": entry.input, **({"asked": dict(entry.asked)} if entry.asked else {}),
           **({"by": entry.by} if entry.by != "command" else {})}  # fmt: skip
    yield {"counting": entry.counting, **entry.made}
    for key in TOTALS:
        if key != "unknown" or entry.totals[key]:
            yield {key: entry.totals[key]}
    for line in entry.lines:
        said: dict[str, Any] = {"layer": line.path, "kind": line.kind}
        if line.config:
            said["config"] = dict(line.config)
        said["output"] = line.output
        figures = line._asdict()
        said |= {key: figures[key] for key in FIGURES if key != "trainable" and figures[key] != 0}
        if line.trainable != line.params:
            said["trainable"] = line.trainable
        yield said


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _checksum(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def parse(text: str, name: str = NAME) -> Lock:
    """Read a lock. name: how messages call it. Raises LockError, naming the line, for anything that is not whole."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, 1):
        if line.startswith(("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")):
            raise LockError(
                f"{name} line {number}: a merge left a conflict here; take either side whole, then run "
                "`archscope check --update`"
            )
    _first(lines, name)
    lock: Lock = {}
    at = 1
    while at < len(lines):
        said = _object(lines, at, name)
        if said == {"end": "archscope_lock"}:
            if at + 1 < len(lines):
                raise LockError(f"{name} line {at + 2}: nothing may follow the last line; {_RESTORE}")
            return lock
        if "model" not in said:
            raise LockError(f"{name} line {at + 1}: a model should begin here; {_RESTORE}")
        entry, after = _entry(lines, at, said, name)
        if entry.model in lock:
            raise LockError(f"{name} line {at + 1}: {entry.model} stands here for the second time; {_RESTORE}")
        lock[entry.model] = entry
        at = after
    raise LockError(f"{name} ends after line {len(lines)}, before it is complete: it was cut off; {_RESTORE}")


_RESTORE = "restore the file from version control, or delete it and run `archscope lock`"


def _first(lines: list[str], name: str) -> None:
    schema = None
    try:
        said = json.loads(lines[0])
        schema = said["archscope_lock"] if set(said) == {"archscope_lock"} else None
    except (ValueError, IndexError, TypeError, KeyError):
        pass
    if type(schema) is not int:
        what = "is empty" if not lines else "line 1: this is not a lock of archscope"
        raise LockError(f"{name} {what}; {_RESTORE}")
    if schema > SCHEMA:
        raise LockError(
            f"{name} line 1: a newer archscope wrote this lock (version {schema}, this one reads up to {SCHEMA}); "
            "upgrade archscope"
        )


def _object(lines: list[str], at: int, name: str) -> dict[str, Any]:
    try:
        said = json.loads(lines[at])
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        cut = "the file was cut off here" if at + 1 == len(lines) else "this is not a line of a lock"
        raise LockError(f"{name} line {at + 1}: {cut}; {_RESTORE}")
    return said


def _entry(lines: list[str], at: int, head: dict[str, Any], name: str) -> tuple[Entry, int]:
    """The entry that begins at an index, and the index after it."""
    model = head["model"]
    end = at + 1
    while end < len(lines):
        if '"end":' in lines[end] and "end" in (said := _object(lines, end, name)):
            break
        end += 1
    else:
        _object(lines, len(lines) - 1, name)
        raise LockError(f"{name} ends after line {len(lines)}, in the middle of {model}: it was cut off; {_RESTORE}")
    objects = [_object(lines, i, name) for i in range(at + 1, end)]
    if said.get("end") != model:
        raise LockError(f"{name} line {end + 1}: the end of {model} should stand here; {_RESTORE}")
    entry = _built(head, objects, at, name)
    if said.get("checksum") != _checksum(lines[at:end]):
        raise LockError(
            f"{name} lines {at + 1} to {end + 1}: {model} was changed by hand{_sums(entry)}; {_RESTORE}, and "
            "`archscope check --update` to accept what a model has become"
        )
    return entry, end + 1


def _built(head: dict[str, Any], objects: list[dict[str, Any]], at: int, name: str) -> Entry:
    totals: dict[str, Any] = {"unknown": {}}
    layers: list[Line] = []
    first, index = 0, -1
    try:
        made = dict(objects[0])
        counting = made.pop("counting")
        for index, said in enumerate(objects[1:], 1):
            if "layer" in said:
                first = first or at + index + 2
                params = said.get("params", 0)
                layers.append(
                    Line(
                        said["layer"], said["kind"], spare(said.get("config", {})), said["output"], params,
                        said.get("trainable", params), said.get("macs", 0), said.get("flops", 0),
                        said.get("activations", 0),
                    )
                )  # fmt: skip
            else:
                ((key, value),) = said.items()
                totals[TOTALS[TOTALS.index(key)]] = value
        if missing := [key for key in TOTALS if key not in totals]:
            raise LockError(f"{name} line {at + 1}: {head['model']} has no line for {missing[0]}; {_RESTORE}")
        return Entry(
            head["model"], head["input"], head.get("asked", {}), counting, made, totals, tuple(layers),
            head.get("by", "command"), first,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise LockError(f"{name} line {at + index + 2}: this is not a line of a lock; {_RESTORE}") from error


def _sums(entry: Entry) -> str:
    """What shows a change by hand, where the layers no longer add up."""
    for key, word in (("params", "parameters"), ("macs", "MACs"), ("flops", "FLOPs"), ("activations", "bytes")):
        each = [getattr(line, key) for line in entry.lines]
        if all(type(one) is int for one in (*each, entry.totals[key])) and sum(each) != entry.totals[key]:
            return f": its layers have {sum(each):,} {word}, its total says {entry.totals[key]:,}"
    return ": the checksum does not hold"


# ---------------------------------------------------------------------------------------------------------- files


def read(path: str) -> Lock:
    """The lock in a file. Raises LockError for a file that is not there or not whole."""
    name = shown(path)
    try:
        with open(path, encoding="utf-8") as stream:
            return parse(stream.read(), name)
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

    The operating system holds the lock, on a file beside the target, and lets it go when a process dies: nothing that
    is left behind can block.
    """
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.writing")
    until = time.monotonic() + patience
    while True:
        try:
            handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError as error:
            if sys.platform != "win32" or time.monotonic() > until:  # there: someone is just deleting it
                raise LockError(f"cannot write beside {shown(target)}: {error.strerror}") from error
            time.sleep(0.02)
            continue
        except OSError as error:
            raise LockError(f"cannot write {shown(target)}: {error.strerror or error}") from error
        try:
            if _taken(handle) and _same(handle, beside):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() > until:
            raise LockError(f"another process has been writing {shown(target)} for {patience:.0f} seconds")
        time.sleep(0.02)
    try:
        yield
    finally:
        _give_up(handle, beside)


def _taken(handle: int) -> bool:
    """Take the lock on an open file, without waiting; whether that went well."""
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


def _same(handle: int, path: str) -> bool:
    """Whether the open file is still the one at the path: its last holder deletes it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _give_up(handle: int, path: str) -> None:
    if sys.platform == "win32":  # an open file cannot be deleted there
        os.close(handle)
        try:
            os.unlink(path)
        except OSError:
            pass  # the next one has it already
    else:
        os.unlink(path)  # before the lock is let go, so that nobody takes it on a file that is about to vanish
        os.close(handle)


def shown(path: str) -> str:
    """A path as a reader knows it: relative where it is below here."""
    full, here = os.path.abspath(os.path.expanduser(path)), os.getcwd()
    return os.path.relpath(full, here) if full.startswith(here + os.sep) else path
