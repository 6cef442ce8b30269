"""The records of the zoo that come with archscope, `zoo/records.bin`: its networks need no PyTorch.

`python -m archscope.sources.ship` makes the file, before a wheel is built; a checkout has none, and keeps the records
of its own runs. It is used where archscope's code is what it was made with, and where PyTorch is of the same version or
not installed. A test compares every record with a new run.
"""

import json
import os
import zlib
from functools import cache
from typing import Any

from archscope.core.version import __version__, torch_version
from archscope.sources import store
from archscope.sources.dependencies import HOME

FILE = os.path.join(HOME, "zoo", "records.bin")
FORMAT = 1


def find(asked: store.RecordRequest) -> store.StoredRecord | None:
    """The record of a network of the zoo as it is registered, None for anything else."""
    if asked != store.RecordRequest(asked.model) or os.environ.get("ARCHSCOPE_FRESH") or store.touched():
        return None
    head, place = _head()
    if asked.model not in head.get("records", {}) or head["code"] != store.code_digest():
        return None
    if torch_version() and _public(torch_version()) != _public(head["torch"]):
        return None
    return read(head, place, asked.model)


def read(head: dict[str, Any], place: int, name: str) -> store.StoredRecord:
    """One record of the file. place: where records begin."""
    start, length = head["records"][name]
    with open(FILE, "rb") as stream:
        stream.seek(place + start)
        text = zlib.decompress(stream.read(length)).decode()
    return store.StoredRecord(text, {"archscope": __version__, "torch": head["torch"]})


def _public(version: str) -> str:
    return version.partition("+")[0]


@cache
def _head() -> tuple[dict[str, Any], int]:
    """The first line of the file, and its length; empty where there is no file of this format."""
    try:
        with open(FILE, "rb") as stream:
            line = stream.readline()
        head = json.loads(line)
    except (OSError, ValueError):
        return {}, 0
    return (head, len(line)) if head.get("archscope_zoo") == FORMAT else ({}, 0)
