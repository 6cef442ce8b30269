"""Headers of `.gguf` files: key–value pairs, then names, shapes and block formats of the tensors.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Types come in blocks: Q4_K keeps 256 weights in
144 bytes, scales included, which is 4.5 bits a weight. Values of keys are stepped over; only the alignment is read.
"""

import os
import struct
from math import prod
from pathlib import Path
from typing import Any

from archscope.core import limits
from archscope.core.weights import StoredTensor
from archscope.sources.weights.safetensors import opened, refused, short

# type: its name, weights a block, bytes a block (ggml.h and ggml-common.h)
TYPES = {
    0: ("float32", 1, 4), 1: ("float16", 1, 2), 30: ("bfloat16", 1, 2), 28: ("float64", 1, 8),
    24: ("int8", 1, 1), 25: ("int16", 1, 2), 26: ("int32", 1, 4), 27: ("int64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of a value, by its type, in bytes
TEXT, ARRAY, UINT32 = 8, 9, 4
MOST_AXES = 4
LEAST_TENSOR = 8 + 4 + 8 + 4 + 8  # bytes of the entry of a tensor: an empty name, one axis, its type, its offset
LEAST_PAIR = 8 + 4 + 1  # bytes of a key with its value
COMPUTED = ("rope_freqs", "rope_factors_long", "rope_factors_short")  # from the configuration, no parameters


class _HeaderReader:
    """Numbers and texts from the front of a file, none from behind its end."""

    def __init__(self, file: Any, path: str) -> None:
        self.file, self.path, self.at = file, path, 0
        self.size = os.fstat(file.fileno()).st_size

    def take(self, count: int) -> bytes:
        self._within(count)
        return self.file.read(count)

    def skip(self, count: int) -> None:
        self._within(count)
        self.file.seek(self.at)

    def _within(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise refused(self.path, f"its header ends at byte {self.at:,}, and the file has {self.size:,} bytes")

    def u32(self) -> int:
        return struct.unpack("<I", self.take(4))[0]

    def u64(self) -> int:
        return struct.unpack("<Q", self.take(8))[0]

    def text(self) -> str:
        length = self.u64()
        if length > limits.GGUF_NAME:
            raise refused(self.path, f"a name has {length:,} bytes, and {limits.GGUF_NAME:,} are the most")
        return self.take(length).decode("utf-8", "replace")

    def skip_value(self, kind: int, level: int = 0) -> None:
        if kind == TEXT:
            self.skip(self.u64())
        elif kind == ARRAY and level < limits.GGUF_DEPTH:
            inner, count = self.u32(), self.u64()
            if inner in WIDTHS:
                self.skip(WIDTHS[inner] * count)
                return
            if count > limits.GGUF_TEXTS:
                raise refused(self.path, f"a list has {count:,} texts, and {limits.GGUF_TEXTS:,} are the most")
            for _ in range(count):
                self.skip_value(inner, level + 1)
        elif kind in WIDTHS:
            self.skip(WIDTHS[kind])
        else:
            raise refused(self.path, f"a value has the unknown type {kind}")


def read(path: str) -> list[StoredTensor]:
    """The tensors of a file, in the order of its header. Raises SpecError for a file that is none.

    Shapes are given as PyTorch does, the fastest axis last.
    """
    with opened(Path(path).expanduser(), path) as file:
        reader = _HeaderReader(file, path)
        if reader.take(min(4, reader.size)) != b"GGUF":
            raise refused(path, "it does not begin with the letters GGUF")
        version = reader.u32()
        if version not in (2, 3):
            raise refused(path, f"its version is {version}; 2 and 3 are known")
        count, pairs = reader.u64(), reader.u64()
        least = reader.at + count * LEAST_TENSOR + pairs * LEAST_PAIR
        if least > reader.size:
            what = f"{count:,} tensors and {pairs:,} keys take {least:,} bytes at least"
            raise refused(path, f"{what}, and the file has {reader.size:,}")
        alignment = 32
        for _ in range(pairs):
            key, kind = reader.text(), reader.u32()
            if key == "general.alignment" and kind == UINT32:
                alignment = reader.u32()
            else:
                reader.skip_value(kind)
        if not 0 < alignment <= 1 << 20 or alignment % 8:
            raise refused(path, f"its tensors are aligned to {alignment} bytes, which is no multiple of 8")
        listed = [_tensor(reader) for _ in range(count)]
        room = reader.size - -(-reader.at // alignment) * alignment
    names = set()
    for tensor, offset in listed:
        if tensor.name in names:
            raise refused(path, f"two tensors are called {short(tensor.name)}")
        names.add(tensor.name)
        if offset % alignment or offset + tensor.nbytes > room:
            where = f"{short(tensor.name)} takes bytes {offset:,} to {offset + tensor.nbytes:,} of the data"
            raise refused(path, f"{where}, which has {max(room, 0):,} bytes: it is damaged or cut off")
    return [tensor for tensor, _ in listed]


def _tensor(reader: _HeaderReader) -> tuple[StoredTensor, int]:
    name, axes = reader.text(), reader.u32()
    if axes > MOST_AXES:
        raise refused(reader.path, f"{short(name)} has {axes} axes; {MOST_AXES} are the most")
    shape = tuple(reader.u64() for _ in range(axes))[::-1]
    kind, offset = reader.u32(), reader.u64()
    if kind not in TYPES:
        raise refused(reader.path, f"{short(name)} is of the unknown type {kind}")
    dtype, weights, size = TYPES[kind]
    if shape and shape[-1] % weights:
        raise refused(reader.path, f"rows of {shape[-1]} weights of {short(name)} do not fill blocks of {weights}")
    params = 0 if dtype.startswith("int") or name.removesuffix(".weight") in COMPUTED else prod(shape)
    return StoredTensor(name, shape, dtype, prod(shape) // weights * size, params), offset
