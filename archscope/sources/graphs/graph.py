"""A graph as plain values: nodes with attributes, initializers without data, shapes by `onnx.shape_inference`."""

import ast
import mmap
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core import limits
from archscope.core.errors import SpecError
from archscope.core.record import BYTES
from archscope.sources.graphs.wire import MARK, without_weights

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
          10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
          17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz"}  # fmt: skip


class Node(NamedTuple):
    """One operator. path: of the module that it runs in, () for the root. own: its name there, "Conv". scope: whether
    an exporter named the path; kind: the class of that module, where the exporter says it."""

    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    path: tuple[str, ...]
    own: str
    kind: str

    @property
    def title(self) -> str:
        """`Gemm fc`; `Gemm` of one without a name."""
        return self.op if self.own == self.op else f"{self.op} {self.own}"


class Initializer(NamedTuple):
    """value: as a NumPy array, None where the data was left out."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: Any


class DeclaredShape(NamedTuple):
    """A shape that the graph or its inference states, None for a side that is open."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Graph:
    nodes: tuple[Node, ...]
    initializers: dict[str, Initializer]
    inputs: dict[str, DeclaredShape]
    outputs: tuple[str, ...]
    shapes: dict[str, DeclaredShape]
    opset: int


def read(path: str) -> Graph:
    """The graph of a file. Raises SpecError for a file that holds none."""
    full = Path(path).expanduser()
    if not full.is_file():
        raise SpecError(f"there is no file {path}")
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise SpecError("onnx is not installed; `pip install onnx` brings what reads .onnx files") from error
    about = os.stat(full)
    return _read(str(full), path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _read(full: str, path: str, changed: int, size: int) -> Graph:
    import onnx

    try:
        if not size:
            raise ValueError("it is empty")
        with open(full, "rb") as file:  # the map closes when its last view is gone
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        model = onnx.ModelProto.FromString(without_weights(data))
        if not model.graph.node or not model.graph.output:
            raise ValueError("it has no graph with nodes and outputs")
        folder = Path(full).parent
        initializers = {one.name: _initializer(one, folder) for one in model.graph.initializer}
        nodes = _without_aliases([_node(one) for one in model.graph.node], {one.name for one in model.graph.output},
                                 initializers)  # fmt: skip
        opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
        inputs = {one.name: _declared(one) for one in model.graph.input if one.name not in initializers}
        shapes = {**_inferred(model), **inputs}
        outputs = tuple(one.name for one in model.graph.output)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # of protobuf, onnx and the checks above
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(f"{path} holds no graph that can be read: {why}") from error
    known = {"", *inputs, *initializers}
    for node in nodes:
        missing = [name for name in node.inputs if name not in known]
        if missing:
            raise SpecError(
                f"{path} holds no whole graph: {node.op} takes {missing[0]!r}, which nothing makes before it"
            )
        known.update(node.outputs)
    if lost := [name for name in outputs if name not in known]:
        raise SpecError(f"{path} holds no whole graph: nothing makes its output {lost[0]!r}")
    return Graph(nodes, initializers, inputs, outputs, shapes, opset)


def subgraph(graph: Any) -> tuple[list[Node], dict[str, Initializer], list[str]]:
    """Nodes, initializers and outputs of a branch. Its nodes run in the module that the branch stands in."""
    nodes = [_node(one)._replace(path=()) for one in graph.node]
    found = {one.name: _initializer(one, Path()) for one in graph.initializer}
    return nodes, found, [one.name for one in graph.output]


def _without_aliases(nodes: list[Node], outputs: set[str], initializers: dict[str, Initializer]) -> tuple[Node, ...]:
    """The nodes less each Identity of an initializer: exporters write these for equal weights, stored once."""
    same: dict[str, str] = {}
    kept = []
    for node in nodes:
        node = node._replace(inputs=tuple(same.get(name, name) for name in node.inputs))
        if node.op == "Identity" and node.inputs[0] in initializers and node.outputs[0] not in outputs:
            same[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    return tuple(kept)


def _initializer(one: Any, folder: Path) -> Initializer:
    """Raises ValueError where a tensor's data does not have the bytes that its shape claims."""
    from onnx import numpy_helper

    shape, dtype = tuple(one.dims), DTYPES.get(one.data_type)
    if dtype is None:
        raise ValueError(f"{one.name!r} is of type {one.data_type}, which is not supported")
    count = prod(shape)
    if any(side < 0 for side in shape) or count > limits.INPUT:
        raise ValueError(f"{one.name!r} claims {'×'.join(map(str, shape))} elements, which no tensor has")
    wanted = count * BYTES[dtype]
    if one.data_location == 1:
        where = {entry.key: entry.value for entry in one.external_data}
        place = folder / where.get("location", "")
        if place.resolve().parent.is_relative_to(folder.resolve()) and place.is_file():
            end = int(where.get("offset", 0)) + int(where.get("length", wanted))
            if end > place.stat().st_size or int(where.get("length", wanted)) != wanted:
                raise ValueError(f"{one.name!r} claims {wanted:,} bytes, which {where.get('location')} does not have")
        return Initializer(one.name, shape, dtype, None)
    if one.doc_string.startswith(MARK):
        stored = int(one.doc_string.removeprefix(MARK))
        if stored != wanted and not (dtype == "float64" and one.float_data):
            raise ValueError(f"{one.name!r} claims {wanted:,} bytes and has {stored:,}")
        return Initializer(one.name, shape, dtype, None)
    if one.HasField("raw_data") and len(one.raw_data) != wanted:
        raise ValueError(f"{one.name!r} claims {wanted:,} bytes and has {len(one.raw_data):,}")
    if count > 1 << 20:
        raise ValueError(f"{one.name!r} claims {count:,} elements and has no data")
    return Initializer(one.name, shape, dtype, numpy_helper.to_array(one))


def _declared(one: Any) -> DeclaredShape:
    kind = one.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    if any(side is not None and not 0 <= side <= limits.INPUT for side in sides):
        raise ValueError(f"{one.name!r} has a shape that no tensor has")
    return DeclaredShape(sides, DTYPES.get(kind.elem_type, ""))


def _inferred(model: Any) -> dict[str, DeclaredShape]:
    """The shapes that `onnx.shape_inference` derives; none where it cannot."""
    from onnx import shape_inference

    try:
        found = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        found = model.graph
    listed = (*found.value_info, *found.output)
    return {one.name: _declared(one) for one in listed if one.type.tensor_type.HasField("shape")}


def _node(one: Any) -> Node:
    import onnx

    attributes = {}
    for each in one.attribute:
        value = onnx.helper.get_attribute_value(each)
        attributes[each.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    about = {entry.key: entry.value for entry in one.metadata_props}
    path, own, kind = _place(one.name, one.op_type, about)
    domain = "" if one.domain == "ai.onnx" else one.domain
    return Node(one.op_type, domain, tuple(one.input), tuple(one.output), attributes, path, own, kind)


def _place(name: str, op: str, about: dict[str, str]) -> tuple[tuple[str, ...], str, str]:
    """Where a node stands: what PyTorch's exporters write, else the name cut at each slash.

    torch.onnx.export(dynamo=True) writes scopes and classes beside the node; the older exporter names it
    `/layer1/layer1.0/conv1/Conv`.
    """
    scopes = _texts(about.get("pkg.torch.onnx.name_scopes"))
    classes = _texts(about.get("pkg.torch.onnx.class_hierarchy"))
    if len(scopes) > 1:
        kind = classes[-2].rpartition(".")[2] if len(classes) == len(scopes) else ""
        return tuple(filter(None, scopes[-2].split("."))), op, kind
    *parts, own = [part for part in name.split("/") if part] or [op]
    found: list[str] = []
    before = ""
    for part in parts:
        found += [piece for piece in part.removeprefix(f"{before}.").split(".") if piece]
        before = part
    plain = re.sub(r"\W", "_", own)
    return tuple(re.sub(r"\W", "_", piece) for piece in found), plain if found else op, ""


def _texts(value: str | None) -> list[str]:
    try:
        found = ast.literal_eval(value) if value and len(value) < 10_000 else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return [str(one) for one in found] if isinstance(found, list) else []
