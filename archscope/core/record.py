"""The record of one run: plain, frozen, and enough for every number that archscope prints.

A `Trace` is a list of operators in run order and a list of layer calls, each a slice of that list:

    Trace.ops      [conv2d, relu, max_pool2d, flatten, linear]
    Trace.layers   ""      start=0 stop=5        the root
                   "conv1" start=0 stop=1
                   "relu1" start=1 stop=2 …

Nesting is containment of slices, so there is no tree and there are no parent pointers: a total is a sum over a
slice, and a container's own work is its slice minus its children's. This file needs the standard library only.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple, overload

from archscope.core import limits
from archscope.core.files import content
from archscope.core.registry import PROVIDED
from archscope.core.saved_record import SCHEMA, body_of
from archscope.core.table import unknown

Shape = tuple[int, ...]

BYTES = {  # of one element, by dtype name
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex64": 8, "complex128": 16, "complex32": 4,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "qint8": 1, "quint8": 1, "qint32": 4,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip


class Tensor(NamedTuple):
    """One tensor of the run. The same id is the same tensor: ids are the edges of the graph."""

    id: int
    shape: Shape
    dtype: str  # "float32"

    @property
    def numel(self) -> int:
        """How many elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a dense copy. Raises KeyError for a dtype whose width is not known."""
        return self.numel * BYTES[self.dtype]


class Param(NamedTuple):
    """A parameter or a buffer. Tied weights are two Params with one tensor id, and count once."""

    name: str  # the state_dict key, "layer1.0.conv1.weight"
    tensor: Tensor
    trainable: bool


class Op(NamedTuple):
    """One operator call.

    name: "aten.conv2d". inputs, outputs: its tensors, flattened, in the order of the call; an operator that works in
    place has its first input as output. args: every argument that was given, by its name in the operator's schema.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    args: Mapping[str, Any]


class Composite(NamedTuple):
    """An operator that PyTorch took apart into others, if it multiplies (an einsum always): `ops[start:stop]`.

    name: "aten.einsum". args: as those of an `Op`.
    """

    name: str
    args: Mapping[str, Any]
    start: int
    stop: int


class Layer(NamedTuple):
    """One call of one module: `ops[start:stop]` ran inside it.

    path: "layer1.0.conv1", "" for the root. call: 0, and 1, 2, … when the same module runs again. kind: the class.
    depth: how many modules enclose it. config: the arguments it was built with. inputs, outputs: its tensors.
    """

    path: str
    call: int
    kind: str
    depth: int
    config: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    start: int
    stop: int


class Phase(NamedTuple):
    """A part of a step: `ops[start:stop]`.

    name: "forward", "loss", "backward", "optimizer", or "recompute": forward work that a checkpoint does again, which
    lies inside a backward. With gradient accumulation forward, loss and backward come several times.
    """

    name: str
    start: int
    stop: int


class Storage(NamedTuple):
    """A piece of memory that tensors of the run live in; views share one.

    born: the index of the operator that made it, -1 for what is there before the run. died: the index of the first
    operator that runs without it, None where it is still there at the end. The bytes in use while operator i runs are
    the sum over `born <= i` and (`died is None` or `died > i`). role: "parameter", "buffer", "input" (targets too),
    "gradient", "optimizer state", "saved" (made by the forward or the loss, and still there when the backward starts)
    or "temporary". host: it stays in the main memory when the model is on a GPU. tensors: the ids of what lives in it.
    """

    id: int
    nbytes: int
    born: int
    died: int | None
    role: str
    host: bool
    tensors: tuple[int, ...]


ELSEWHERE = {  # names of other tools -> what to write
    **{key: f"trace.totals['{key}']" for key in ("params", "macs", "flops")},
    "mult_adds": "trace.totals['macs']", "ops": "trace.totals['flops']",
    **dict.fromkeys(("to_pandas", "to_dataframe", "table", "to_csv"), "trace.to_frame()"),
    **dict.fromkeys(("summary", "print", "show"), "print(trace)"), "save": "Path(…).write_text(trace.to_json())",
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """The whole run. `layers[0]` is the root.

    modules: the kind of every module that the model has, by path, called or not (a parameter may belong to a module
    that never ran). train: whether the model ran in training mode. versions: {"archscope": …, "torch": …}. notes: what
    was assumed where the run alone could not tell, one sentence each. composites: what the model called where the
    operators are only the pieces, the outer one first. spelled: operators that were not called the usual way, by index:
    {3: "Tensor.add"} where `a + b` is usual, {5: ""} where a product or an activation was not called by its function in
    torch or torch.nn.functional, but as `a @ b`, `x.relu()` or under another name; "autograd" where the forward takes
    gradients, and autograd called it. None: the record does not say.
    cache: the tensors that objects among the inputs hold, such as the cache of a language model, each under its place:
    "past_key_values.layers.0.keys". They are what the run was given; a run works on a copy.
    cached: whether a stored record answered, and the model was not run.

    The record of a step of training (`trace_step`) has more. phases: forward, loss, backward and optimizer, in run
    order. storages: the memory that the step uses. owners: the index in `layers` of the layer call that an operator
    after the forward belongs to, by the operator's index. step: the conditions: loss, optimizer, precision, ….
    """

    model: str
    inputs: tuple[Tensor, ...]
    params: tuple[Param, ...]
    buffers: tuple[Param, ...]
    layers: tuple[Layer, ...]
    ops: tuple[Op, ...]
    modules: Mapping[str, str]
    train: bool
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    composites: tuple[Composite, ...] = ()
    spelled: Mapping[int, str] | None = None
    cache: tuple[Param, ...] = ()
    cached: bool = field(default=False, compare=False)
    phases: tuple[Phase, ...] = ()
    storages: tuple[Storage, ...] = ()
    owners: Mapping[int, int] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)

    @property
    def forward_stop(self) -> int:
        """How many operators the forward has: all of them, or those of a step's first phase."""
        return self.phases[0].stop if self.phases else len(self.ops)

    def to_json(self) -> str:
        """The trace as one line of JSON; `Trace.from_json` gives an equal trace back."""
        tensors: dict[int, Tensor] = {}

        def ref(tensor: Tensor) -> int:
            tensors[tensor.id] = tensor
            return tensor.id

        def refs(group: tuple[Tensor, ...]) -> list[int]:
            tensors.update([(t.id, t) for t in group])
            return [t.id for t in group]

        body = {
            "archscope_trace": SCHEMA if self.phases else 1,
            "model": self.model,
            "train": self.train,
            "versions": dict(self.versions),
            "notes": list(self.notes),
            "modules": dict(self.modules),
            "inputs": refs(self.inputs),
            "params": [[p.name, ref(p.tensor), p.trainable] for p in self.params],
            "buffers": [[b.name, ref(b.tensor), b.trainable] for b in self.buffers],
            "layers": [
                [y.path, y.call, y.kind, y.depth, _encode(y.config, ref), refs(y.inputs), refs(y.outputs), y.start,
                 y.stop]
                for y in self.layers
            ],
            "ops": [[o.name, refs(o.inputs), refs(o.outputs), _encode(o.args, ref)] for o in self.ops],
            "composites": [[c.name, _encode(c.args, ref), c.start, c.stop] for c in self.composites],
        }  # fmt: skip
        if self.spelled is not None:
            body["spelled"] = {str(i): name for i, name in self.spelled.items()}
        if self.cache:
            body["cache"] = [[c.name, ref(c.tensor), c.trainable] for c in self.cache]
        if self.phases:
            body["phases"] = [list(phase) for phase in self.phases]
            body["storages"] = [list(storage) for storage in self.storages]
            body["owners"] = {str(i): layer for i, layer in self.owners.items()}
            body["step"] = _encode(self.step, ref)
        body["tensors"] = {str(t.id): [list(t.shape), t.dtype] for t in tensors.values()}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | Path) -> "Trace":
        """Read a trace from JSON text or from a file. Raises ValueError, saying what is wrong, where it is no trace of
        this version or is damaged, and OSError as it comes."""
        body = body_of(content(text, limits.RECORD) if isinstance(text, Path) else text)
        tensors = {i: Tensor(i, shape, dtype) for i, (shape, dtype) in body.tensors.items()}

        def group(ids: tuple[int, ...]) -> tuple[Tensor, ...]:
            return tuple([tensors[i] for i in ids])

        def named(listed: list[tuple[str, int, bool]]) -> tuple[Param, ...]:
            return tuple(Param(n, tensors[i], t) for n, i, t in listed)

        return cls(
            model=body.model,
            inputs=group(body.inputs),
            params=named(body.params),
            buffers=named(body.buffers),
            layers=tuple(
                Layer(path, call, kind, depth, _decode(config, tensors), group(ins), group(outs), start, stop)
                for path, call, kind, depth, config, ins, outs, start, stop in body.layers
            ),
            ops=tuple(Op(n, group(i), group(o), _decode(a, tensors)) for n, i, o, a in body.ops),
            modules=body.modules,
            train=body.train,
            versions=body.versions,
            notes=body.notes,
            composites=tuple(Composite(n, _decode(a, tensors), i, j) for n, a, i, j in body.composites),
            spelled=body.spelled,
            cache=named(body.cache),
            phases=tuple(Phase(*phase) for phase in body.phases),
            storages=tuple(Storage(*storage) for storage in body.storages),
            owners=body.owners,
            step=_decode(body.step, tensors),
        )

    def to_frame(self) -> Any:
        """The layers as a pandas DataFrame, one row a layer, raw values. Needs pandas."""
        return PROVIDED["layer table"](self).to_frame()

    @property
    def totals(self) -> dict[str, Any]:
        """The model in raw numbers: parameters, MACs, memory, … (`archscope.totals`)."""
        return PROVIDED["totals"](self)

    def __getattr__(self, name: str) -> Any:
        """Raises AttributeError, with what to write in the place of another tool's name."""
        instead = ELSEWHERE.get(name.removeprefix("total_"), "")
        raise AttributeError(f"a Trace has no {name!r}{instead and f': write {instead}'}", name=name, obj=self)

    @overload
    def __getitem__(self, key: str | int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Mapping[str, Any], ...]: ...

    def __getitem__(self, key: str | int | slice) -> Any:
        """A row of the layer table, by the layer's path or by its place in run order: `trace["conv1"]["macs"]`.

        The path of a container has all that runs inside it in one row. Of a layer that runs several times it is the
        first run. A slice has several rows. Raises KeyError, naming the nearest right path, IndexError or TypeError.
        """
        if not isinstance(key, str):
            rows = PROVIDED["layer table"](self).rows
            if not hasattr(key, "__index__") and not isinstance(key, slice):
                raise TypeError(f"a layer is named by its path or its place, not by {type(key).__name__}")
            try:
                return rows[key]
            except IndexError:
                raise IndexError(f"{self.model} has {len(rows)} rows, and none at {key}") from None
        depth = key.count(".") + 1
        for table in (PROVIDED["layer table"](self), PROVIDED["layer table"](self, depth)):
            for row in table.rows:
                if row["path"] == key:
                    return row
        raise KeyError(unknown("layer", key, [layer.path for layer in self.layers if layer.path]))

    def __contains__(self, key: object) -> bool:
        """Whether a layer has this path, or a row is this one."""
        if not isinstance(key, str):
            return any(row == key for row in self)
        return any(layer.path == key for layer in self.layers if key) or any(row["path"] == key for row in self)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The rows of the layer table, in run order."""
        return iter(PROVIDED["layer table"](self).rows)

    def __len__(self) -> int:
        return len(PROVIDED["layer table"](self).rows)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return PROVIDED["printed table"](PROVIDED["layer table"](self)).rstrip("\n")

    def _repr_html_(self) -> str:
        return PROVIDED["layer table"](self)._repr_html_()

    def __repr__(self) -> str:
        inputs = ", ".join("×".join(map(str, t.shape)) for t in self.inputs)
        return f"<Trace of {self.model}: input {inputs}, {len(self.layers)} layer calls, {len(self.ops)} operators>"


PLAIN = frozenset((int, str, bool, type(None)))  # most values: asked first, for speed


def _encode(value: Any, ref: Callable[[Tensor], int]) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        return {"tensor": ref(value)}
    if isinstance(value, tuple | list):
        return [v if type(v) in PLAIN else _encode(v, ref) for v in value]
    if isinstance(value, Mapping):
        return {k: v if type(v) in PLAIN else _encode(v, ref) for k, v in value.items()}
    if isinstance(value, float) and not isfinite(value):
        return {"float": str(value)}  # JSON has no infinity
    return value


def _decode(value: Any, tensors: dict[int, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        if value.keys() == {"float"}:
            return float(value["float"])
        return {k: v if type(v) in PLAIN else _decode(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return tuple([v if type(v) in PLAIN else _decode(v, tensors) for v in value])
    return value
