"""An ONNX file without the values of its large tensors, so that no weight is read.

ONNX is a protocol buffer: fields of a number, a wire type and a value, and within a value of bytes fields again. Every
field is copied but the data of large tensors; how many bytes these have goes into the tensor's `doc_string`. Numbers of
fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Iterator
from typing import Any

from archscope.core import limits

# message: the fields that are messages which may hold tensors
INSIDE = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {},
}
DATA = {4: "float_data", 9: "raw_data", 10: "double_data"}
DOC_STRING = 12
MARK = "bytes left out: "


def without_weights(data: Any, message: str = "model", level: int = 0) -> bytes:
    """The same message without the data of large tensors. Raises ValueError for bytes that are no message."""
    if level > limits.DEPTH:
        raise ValueError("it is nested too deeply")
    out, left_out = bytearray(), 0
    for number, kind, start, begin, end in fields(data):
        inner = INSIDE[message].get(number)
        if kind == 2 and inner is not None:
            value = without_weights(data[begin:end], inner, level + 1)
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif kind == 2 and message == "tensor" and number in DATA and end - begin > limits.ONNX_DATA:
            left_out += end - begin
        else:
            out += data[start:end]
        if len(out) > limits.RECORD:
            raise ValueError(f"its graph alone has more than {limits.RECORD:,} bytes")
    if left_out:
        text = f"{MARK}{left_out}".encode()
        out += varint(DOC_STRING << 3 | 2) + varint(len(text)) + text
    return bytes(out)


def fields(data: Any) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, wire type, begin of the field, begin and end of its value."""
    at, size = 0, len(data)
    while at < size:
        start = at
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            begin = at
            _, at = read_varint(data, at)
        else:
            length = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                length, at = read_varint(data, at)
            if length is None or not tag >> 3:
                raise ValueError(f"byte {start:,} begins no field")
            begin, at = at, at + length
        if at > size:
            raise ValueError("a field ends behind the end: it is damaged or cut off")
        yield tag >> 3, kind, start, begin, at


def read_varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number does not end: it is damaged or cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
