"""The store of records: what a model's run gave, kept until something that it depends on changes.

An entry is a file of data. Its name is a digest of what was asked for, of the versions and of the machine. It holds the
record and the digests of the files and variables that the run read, and answers only where all of them are the same.

Only a process that has neither PyTorch nor a user's own module loaded uses the store: in another one, something may
have been replaced in memory, and with PyTorch loaded a run takes no time. An entry is written to a file of its own and
renamed, so that any number of processes may write at once and be killed at any moment. A damaged entry is no entry.
"""

import functools
import hashlib
import json
import operator
import os
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core import limits
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.core.version import __version__, torch_version
from archscope.sources import watch
from archscope.sources.conditions import current
from archscope.sources.dependencies import HOME, File, digest_of, user_files
from archscope.sources.inputs import Text, texts_of

FORMAT = 1  # of an entry
LIMIT = 256  # MB of all entries, unless $ARCHSCOPE_CACHE_SIZE says otherwise
HEAD = b"archscope record "
ROOT = HOME  # of archscope's code
ROOMS = ("core", "layers", "operators", "sources", "tracing", "zoo")  # whose code decides what a record holds


class RecordRequest(NamedTuple):
    """What a record is asked for: the model and its inputs as typed, batch, mode, and the conditions of the run.

    step: the conditions of a step of training as JSON, "" for a forward.
    """

    model: str
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    train: bool = False
    values: str = "auto"
    method: str = "forward"
    step: str = ""


class Entry(NamedTuple):
    """One entry: what was asked for and where, its dependencies, and the record as JSON."""

    key: dict[str, Any]
    dependencies: list[File]
    record: str

    @property
    def asked(self) -> RecordRequest:
        key = self.key
        own = {name: key[name] for name in ("batch", "train", "values", "method", "step") if name in key}
        return RecordRequest(key["model"], tuple(key["inputs"]), **own)


def asked_of(model: str, input: Text = None, batch: int | None = None, train: bool = False) -> RecordRequest:
    return RecordRequest(model.strip(), tuple(texts_of(input)), batch, bool(train), *current())


# --------------------------------------------------------------------------------------------------------- the place


def folder() -> str:
    """Where entries are: $ARCHSCOPE_CACHE, or archscope's folder in the user's cache folder. "" where it is off."""
    given = os.environ.get("ARCHSCOPE_CACHE")
    if given is not None:
        return "" if given.strip().lower() in ("", "0", "off", "no", "false") else os.path.expanduser(given)
    try:
        from platformdirs import user_cache_dir
    except ImportError:
        return ""
    return user_cache_dir("archscope", appauthor=False)


def limit() -> int:
    """Bytes that all entries may take."""
    try:
        return int(float(os.environ.get("ARCHSCOPE_CACHE_SIZE", LIMIT)) * 1_000_000)
    except ValueError:
        return LIMIT * 1_000_000


def off() -> str:
    """Why this process does not use the store, "" where it does."""
    if os.environ.get("ARCHSCOPE_FRESH"):
        return "a fresh run was asked for"
    if not folder():
        return "the store is off: $ARCHSCOPE_CACHE"
    return touched()


def touched() -> str:
    """What this process has loaded of others that may have changed a model in memory."""
    if sys.modules.get("torch") is not None and not watch.OURS:
        return "PyTorch is loaded already, so that a run takes no time"
    if others := set(user_files().values()) - watch.WATCHED:
        return f"{min(others)} is loaded already, and may have changed anything"
    return ""


# ----------------------------------------------------------------------------------------------------------- the key


def key_of(asked: RecordRequest) -> dict[str, Any]:
    """Everything that is known before a run and that its record may depend on."""
    code = _code()
    key = {**asked._asdict(), "inputs": list(asked.inputs), "format": FORMAT, **code, "installed": _installed()}
    variables = {name: value for name, value in os.environ.items() if name.startswith(watch.VARIABLES)}
    variables.pop("TORCHINDUCTOR_CACHE_DIR", None)  # which PyTorch sets itself, for what it compiles
    key["variables"] = hashlib.sha256(repr(sorted(variables.items())).encode(errors="surrogateescape")).hexdigest()
    head = asked.model.partition("@")[0]
    if (":" in head or "." in head) and not head.startswith(("zoo:", "torchvision:", "timm:")):  # names of files
        key["place"] = [os.getcwd(), *sys.path]
    return key


def _name(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode(errors="surrogateescape")).hexdigest()


@functools.cache
def _code() -> dict[str, str]:
    """Versions, the machine, and the code of archscope itself."""
    return {
        "archscope": __version__,
        "code": code_digest(),
        "torch": torch_version(),
        "python": sys.version,
        "prefix": sys.prefix,
        "platform": " ".join(os.uname()) if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", ""),
    }


@functools.cache
def code_digest(whole: bool = False) -> str:
    """A digest of archscope's files that decide what a record holds; of all its files with `whole`."""
    found = hashlib.sha256()
    for room in [""] if whole else ROOMS:
        for path in sorted(_files(os.path.join(ROOT, room))):
            with open(path, "rb") as stream:
                found.update(path[len(ROOT) :].replace(os.sep, "/").encode())
                found.update(stream.read().replace(b"\r\n", b"\n"))
    return found.hexdigest()


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".py", ".csv")):
                yield entry.path
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _files(entry.path)


@functools.cache
def _installed() -> str:
    """A digest of what is installed: name, version and time of each package, in the order of the import path."""
    found = hashlib.sha256()
    for place in sys.path:
        try:
            with os.scandir(place or ".") as entries:
                for entry in sorted(entries, key=lambda each: each.name):
                    if (
                        entry.name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth"))
                        or "editable" in entry.name
                    ):
                        found.update(f"{entry.name} {entry.stat().st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError:
            continue
    return found.hexdigest()


# ------------------------------------------------------------------------------------------------------- the entries


class StoredRecord(NamedTuple):
    """A stored record as JSON, which is read when it is needed. versions: in place of those that it has."""

    text: str
    versions: dict[str, str] | None = None

    def trace(self) -> Trace | None:
        """The record, None where it is damaged."""
        try:
            found = checked(self.text)
        except ValueError:
            return _say("the entry is damaged")
        return replace(found, cached=True, versions=self.versions or found.versions)


def find(asked: RecordRequest, key: dict[str, Any] | None = None) -> StoredRecord | None:
    """The record that a run would give, None where that is not known for certain. key: if it is known already."""
    if why := off():
        return _say(f"not asked: {why}")
    key = key or key_of(asked)
    entry = read(_path(key))
    if entry is None:
        return _say(f"no entry for {asked.model} as it is asked for, with these versions")
    if entry.key != key:
        return _say("the entry is damaged")
    if changed := next((f"{kind} {name}" for kind, name, was in entry.dependencies if _now(kind, name) != was), None):
        return _say(f"changed since: {changed}")
    _used(_path(key))
    _say(f"{asked.model} is answered from {_path(key)}")
    return StoredRecord(entry.record)


def _now(kind: str, name: str) -> str:
    key = (kind, name)
    if key not in _NOW:
        _NOW[key] = digest_of(kind, name)
    return _NOW[key]


_NOW: dict[tuple[str, str], str] = {}


def keep(key: dict[str, Any], seen: watch.Dependencies, record: Trace) -> None:
    """Write an entry for what a run gave. key: from before the run. A folder that cannot be written is no error."""
    try:
        seen.finish()
    except Exception as error:  # a run that went well does not fail for this
        seen.refuse(f"what it read cannot be compared: {type(error).__name__}: {error}")
    if why := off() or "; ".join(seen.unknown):
        _say(f"not stored: {why}")
        return
    body = {"key": key, "dependencies": seen.dependencies, "record": record.to_json()}
    if Trace.from_json(body["record"]) != record:
        _say("not stored: the record holds what JSON cannot")
        return
    try:
        write(_path(key), json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass"))
    except (OSError, ValueError) as error:
        _say(f"not stored: {getattr(error, 'strerror', None) or error}")
        return
    _say(f"stored in {_path(key)}, with {len(seen.dependencies)} dependencies")


def _path(key: dict[str, Any]) -> str:
    name = _name(key)
    return os.path.join(folder(), "records", name[:2], name)


def write(path: str, body: bytes) -> None:
    """An entry, whole or not at all. Raises OSError as it comes."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    part = f"{path}.{os.urandom(6).hex()}.part"
    packed = zlib.compress(body, 6)
    try:
        with open(part, "xb") as stream:
            stream.write(HEAD + hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
    if os.urandom(1)[0] < 16:
        trim()


def result(kind: str, stored: StoredRecord, make: Callable[[Trace], Any]) -> Any:
    """`make(record)`, stored with the code of archscope that made it: plain data, in which lists become tuples."""
    whole = [kind, stored.text, repr(stored.versions), code_digest(whole=True)]
    name = hashlib.sha256("\0".join(whole).encode(errors="surrogatepass")).hexdigest()
    path = os.path.join(folder(), "results", name[:2], name)
    if folder() and (body := _load(path)) is not None and isinstance(body, dict) and body.get("kind") == kind:
        return _tuples(body["value"])
    trace = stored.trace()
    if trace is None:
        return None
    value = make(trace)
    try:
        text = json.dumps({"kind": kind, "value": value}, ensure_ascii=False)
        if folder() and _tuples(json.loads(text)["value"]) == _tuples(value):
            write(path, text.encode(errors="surrogatepass"))
    except (TypeError, ValueError, OSError):  # no plain data, or the folder cannot be written
        pass
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def read(path: str) -> Entry | None:
    """The entry in a file, None where there is none or it is damaged."""
    try:
        body = _load(path)
        key, depends, record = body["key"], body["dependencies"], body["record"]
        depends = [(str(kind), str(name), str(state)) for kind, name, state in depends]
        if not isinstance(key, dict) or not isinstance(record, str):
            return None
        entry = Entry(key, depends, record)
        asked = entry.asked
        texts = all(isinstance(text, str) for text in (asked.model, *asked.inputs, *asked[4:]))
        return entry if texts and type(asked.batch) in (int, type(None)) and type(asked.train) is bool else None
    except (ValueError, LookupError, TypeError):
        return None


def _load(path: str) -> Any:
    """The data in a file of the store, None where there is none or it is damaged."""
    try:
        flags = [getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_BINARY", "O_NONBLOCK")]
        handle = os.open(path, functools.reduce(operator.or_, flags, os.O_RDONLY))
        with open(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            head = stream.read(len(HEAD) + 65)
            packed = stream.read(limits.RECORD)
        if head != HEAD + hashlib.sha256(packed).hexdigest().encode() + b"\n":
            return None
        return json.loads(zlib.decompressobj().decompress(packed, limits.RECORD))
    except (OSError, ValueError, LookupError, TypeError, zlib.error, RecursionError, MemoryError):
        return None


def checked(text: str) -> Trace:
    """The record of a text. Raises ValueError for one that no run can have given."""
    return PROVIDED["soundness"](Trace.from_json(text))


def _used(path: str) -> None:
    """Note that an entry was used, at most once a day: those that were not used are deleted first."""
    try:
        if time.time() - os.stat(path).st_mtime > 86_400:
            os.utime(path)
    except OSError:
        pass


def entries(kind: str = "records") -> list[tuple[str, os.stat_result]]:
    """The files of the store with what the system says of them, the one used last at the end. kind: "*" for all."""
    found = []
    for path in Path(folder()).glob(f"{kind}/??/*"):
        try:
            found.append((str(path), path.lstat()))
        except OSError:
            continue
    return sorted(found, key=lambda each: each[1].st_mtime)


def trim() -> None:
    """Delete what a killed process left, and the entries that were not used for longest, until all fit."""
    files = entries("*")
    total = sum(one.st_size for _, one in files)
    for path, one in files:
        left = path.endswith(".part") and time.time() - one.st_mtime > 3600
        if left or total > limit():
            total -= one.st_size
            remove(path)


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _say(text: str) -> None:
    """What --explain-cache prints."""
    if os.environ.get("ARCHSCOPE_EXPLAIN_CACHE") and sys.stderr is not None:
        print(f"archscope: cache: {text}", file=sys.stderr)
