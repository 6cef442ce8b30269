"""Headers of `.safetensors` files: eight bytes with the length of a JSON text, then the text, then the tensors.

The format: https://github.com/huggingface/safetensors#format. Its checks are made here too, so that a file that lies is
refused before anything of the size that it claims is made: the header lies within the file and is at most 100 MB, the
bytes of a tensor are those of its shape and type, and the tensors cover the rest of the file without a gap.
"""

import os
from math import prod
from pathlib import Path
from typing import Any

from archscope.core import limits
from archscope.core.errors import SpecError
from archscope.core.weights import StoredTensor

# type: its name in PyTorch, and bits an element
DTYPES = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "I16": ("int16", 16), "U16": ("uint16", 16),
    "I32": ("int32", 32), "U32": ("uint32", 32), "I64": ("int64", 64), "U64": ("uint64", 64),
    "F16": ("float16", 16), "BF16": ("bfloat16", 16), "F32": ("float32", 32), "F64": ("float64", 64),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8), "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F6_E2M3": ("float6_e2m3fn", 6), "F6_E3M2": ("float6_e3m2fn", 6), "F4": ("float4_e2m1fn", 4),
}  # fmt: skip


def read(path: str) -> list[StoredTensor]:
    """The tensors of a file, in the order of their bytes. Raises SpecError for a file that is none."""
    import msgspec

    class Entry(msgspec.Struct):
        dtype: str
        shape: list[int]
        data_offsets: tuple[int, int]

    full = Path(path).expanduser()
    with opened(full, path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise refused(path, f"it has {size} bytes, and the length of a header alone takes 8")
        if length > min(size - 8, limits.HEADER):
            most = f"the file has {size:,}" if length > size - 8 else f"at most {limits.HEADER:,} are allowed"
            raise refused(path, f"its header would have {length:,} bytes, and {most}: it is damaged or cut off")
        text = file.read(length)
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(value, type=Entry) for name, value in raw.items()}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise refused(path, f"its header cannot be read: {error}") from error
    found = sorted(((*entry.data_offsets, name, entry) for name, entry in entries.items()), key=lambda one: one[:3])
    return _checked(path, found, size - 8 - length)


def _checked(path: str, found: list[tuple[int, int, str, Any]], room: int) -> list[StoredTensor]:
    """The tensors, each where its header says. room: bytes behind the header."""
    tensors, at = [], 0
    for begin, end, name, entry in found:
        if entry.dtype not in DTYPES:
            raise refused(path, f"{short(name)} is of an unknown type {short(entry.dtype)}")
        dtype, width = DTYPES[entry.dtype]
        if len(entry.shape) > limits.AXES or any(not 0 <= side < 1 << 63 for side in entry.shape):
            raise refused(path, f"{short(name)} has a shape that no tensor has")
        claimed = prod(entry.shape) * width
        if claimed != 8 * (end - begin):
            what = f"{short(name)} claims {prod(entry.shape):,} elements of {width} bits"
            raise refused(path, f"{what}, and has {end - begin:,} bytes")
        if begin != at:
            raise refused(path, f"{short(name)} begins at byte {begin:,}, and the tensor before it ends at {at:,}")
        tensors.append(StoredTensor(name, tuple(entry.shape), dtype, end - begin, None))
        at = end
    if at != room:
        more = "it is cut off" if at > room else "some bytes belong to no tensor"
        raise refused(path, f"its tensors take {at:,} bytes, and the file has {room:,} for them: {more}")
    return tensors


def read_index(path: str) -> list[StoredTensor]:
    """The tensors of all files that a `model.safetensors.index.json` names, in the order of the index.

    Raises SpecError for a file that is missing, and where an index and its files do not agree.
    """
    import msgspec

    class Index(msgspec.Struct):
        weight_map: dict[str, str]

    full = Path(path).expanduser()
    with opened(full, path) as file:
        text = file.read(limits.HEADER + 1)
    try:
        if len(text) > limits.HEADER:
            raise ValueError(f"it has more than {limits.HEADER:,} bytes")
        names = msgspec.json.decode(text, type=Index).weight_map
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise refused(path, f"it is no index: {error}") from error
    tensors: dict[str, StoredTensor] = {}
    for shard in dict.fromkeys(names.values()):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise refused(path, f"it names {short(shard)}, which is no .safetensors file beside it")
        here = [tensor for tensor in read(str(full.parent / shard)) if names.get(tensor.name) == shard]
        tensors.update((tensor.name, tensor) for tensor in here)
    if missing := [name for name in names if name not in tensors]:
        raise refused(path, f"{short(missing[0])} is not in {names[missing[0]]}, where the index says it is")
    return [tensors[name] for name in names]


def opened(full: Path, path: str) -> Any:
    """The file, open for reading. Raises SpecError where there is none."""
    if not full.is_file():
        raise SpecError(f"there is no file {path}")
    try:
        return open(full, "rb")
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error


def refused(path: str, why: str) -> SpecError:
    return SpecError(f"{path} cannot be read as a file of weights: {why}")


def short(name: str) -> str:
    """A name from a file, in quotes and not longer than a line."""
    return repr(name if len(name) <= 80 else f"{name[:77]}…")
