"""Files of weights that hold headers and no values: the bytes behind a header are a hole in the file."""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

BITS = {"F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "U8": 8, "I8": 8, "F8_E4M3": 8, "F4": 4, "BOOL": 8}


def safetensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> Path:
    """A file with these tensors: name -> (type, shape)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return raw(path, json.dumps(header).encode(), at)


def raw(path: Path, header: bytes, room: int, length: int | None = None) -> Path:
    """A header as it is, with the length that it claims, and room behind it."""
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header) if length is None else length) + header)
        file.truncate(8 + len(header) + room)
    return path


def config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def gguf(path: Path, tensors: Sequence[tuple[str, Sequence[int], int, int]], keys: Sequence[bytes] = ()) -> Path:
    """A file of version 3 with tensors (name, sides with the fastest first, type, bytes), and keys as bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    at = 0
    for name, sides, kind, size in tensors:
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(sides))
        head += struct.pack(f"<{len(sides)}Q", *sides) + struct.pack("<IQ", kind, at)
        at += -(-size // 32) * 32
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + at)
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
