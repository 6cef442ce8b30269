"""Trace -> numbers. Every figure that archscope prints is a pure function of one Trace, and stands here.

A *row* is a piece of the run that is shown as one line: a call of a leaf module, or an operator that a container runs
itself (`x + y`, `torch.cat`), or parameters that no call accounts for. The rows cover the run without overlap, so a
column adds up to its total. `rows` and `columns` are per row, `totals` is the model.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

from archscope.analysis import receptive_field as receptive
from archscope.core.record import Layer, Param, Tensor, Trace
from archscope.core.registry import Registry
from archscope.operators import VIEWS, Work, work

P = ParamSpec("P")
T = TypeVar("T")


class Row(NamedTuple):
    """One line of the layer table: `ops[start:stop]`, and the parameters that it accounts for.

    call: how many times the module ran before. layer: the recorded call, None for an operator or for parameters that
    no call accounts for; `called` is False for a module that never ran.
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
    params: tuple[Param, ...] = ()
    layer: Layer | None = None
    called: bool = True


def kept(function: Callable[P, T]) -> Callable[P, T]:
    """Compute once for each trace and arguments; the result lives with the trace."""

    @functools.wraps(function)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        trace, *rest = args
        store: dict[Any, T] = trace.__dict__.setdefault("_kept", {})
        key = (function.__name__, *rest, *kwargs.items())
        if key not in store:
            store[key] = function(*args, **kwargs)
        return store[key]

    return get


# -------------------------------------------------------------------------------------------------- what was run


@kept
def works(trace: Trace) -> list[Work | None]:
    """The work of each operator, None where it is unknown."""
    return [work(op) for op in trace.ops]


@kept
def learned(trace: Trace) -> frozenset[int]:
    """Ids of the parameters and of everything computed from parameters alone (a transposed weight, say)."""
    ids = {p.tensor.id for p in trace.params}
    for op in trace.ops:
        if op.inputs and all(t.id in ids for t in op.inputs):
            ids.update(t.id for t in op.outputs)
    return frozenset(ids)


@kept
def weighted(trace: Trace) -> list[bool]:
    """For each operator, whether it multiplies what flows through the model by learned weights."""
    weights = learned(trace)
    return [
        done is not None
        and done.macs > 0
        and any(t.id in weights for t in op.inputs)
        and any(t.id not in weights for t in op.inputs)
        for op, done in zip(trace.ops, works(trace), strict=True)
    ]


@kept
def fields(trace: Trace) -> dict[int, receptive.Field]:
    """The receptive field of each tensor that has one, by tensor id."""
    return receptive.fields(trace, works(trace))


@kept
def unknown(trace: Trace) -> dict[str, int]:
    """Operators whose cost no rule knows, and how often each ran."""
    return dict(Counter(op.name for op, done in zip(trace.ops, works(trace), strict=True) if done is None))


@kept
def stored(trace: Trace) -> list[int]:
    """Bytes that each operator's outputs take: views, results in place and rearranged weights take none."""
    weights = learned(trace)
    seen = {t.id for t in trace.inputs} | {p.tensor.id for p in (*trace.params, *trace.buffers)}
    out = []
    for op in trace.ops:
        count = 0
        for t in op.outputs:
            if t.id not in seen:
                seen.add(t.id)
                if op.name not in VIEWS and t.id not in weights:
                    count += t.nbytes
        out.append(count)
    return out


# ---------------------------------------------------------------------------------------------------------- rows


# operators of a container that are shown though they compute nothing
SHOWN = frozenset(f"aten.{name}" for name in "cat flatten stack concat concatenate mean chunk pixel_shuffle".split())


@kept
def rows(trace: Trace, depth: int | None = None, whole: frozenset[str] = frozenset()) -> list[Row]:
    """The rows of a trace in run order.

    depth: modules that this many modules enclose are one row with all that runs inside them (None: no limit).
    whole: kinds that are one row even when they call other modules (those with a closed form of their own).
    """
    out: list[Row] = []
    ops, layers, count = trace.ops, trace.layers, len(trace.layers)
    done_to = 0  # operators before this are in a row already
    index = 0
    pending: list[tuple[int, Layer]] = []  # enclosing containers: (stop, layer)

    def own(upto: int) -> None:
        """Rows for the operators that containers run themselves, up to an index."""
        nonlocal done_to
        while done_to < upto:
            while pending and pending[-1][0] <= done_to:
                pending.pop()
            inside = pending[-1][1] if pending else layers[0]
            op = ops[done_to]
            name = op.name.removeprefix("aten.")
            path = f"{inside.path}.{name}" if inside.path else name
            config = {k: v for k, v in op.args.items() if not (v == () or _has_tensor(v))}
            out.append(Row(path, 0, name, inside.depth + 1, config, op.inputs, op.outputs, done_to, done_to + 1))
            done_to += 1

    while index < count:
        layer = layers[index]
        own(layer.start)
        following = index + 1
        while following < count and layers[following].depth > layer.depth:
            following += 1
        leaf = layer.kind in whole or (depth is not None and layer.depth >= depth)
        alone = following == index + 1
        leaf = leaf or (alone and (index > 0 or layer.stop - layer.start < 2))  # a root of functions is opened
        if leaf:
            out.append(Row(*layer[:7], layer.start, layer.stop, layer=layer))
            done_to = layer.stop
            index = following
        else:
            while pending and pending[-1][0] <= layer.start and pending[-1][1].depth >= layer.depth:
                pending.pop()
            pending.append((layer.stop, layer))
            index += 1
    own(len(ops))
    return _with_params(trace, out)


def _has_tensor(value: Any) -> bool:
    return type(value) is Tensor or (type(value) is tuple and any(map(_has_tensor, value)))


def _with_params(trace: Trace, out: list[Row]) -> list[Row]:
    """Give every parameter to the row of the nearest enclosing module that has one; the rest are rows of their own."""
    first: dict[str, int] = {}
    for i, row in enumerate(out):
        if row.layer is not None and row.call == 0:
            first.setdefault(row.path, i)
    owned: dict[int, list[Param]] = {}
    orphans: dict[str, list[Param]] = {}
    seen: set[int] = set()
    homes: dict[str, int | None] = {}
    for param in trace.params:
        if param.tensor.id in seen:
            continue  # tied: counted where it first stands
        seen.add(param.tensor.id)
        module = param.name.rpartition(".")[0]
        if module not in homes:
            path = module
            while path not in first and path:
                path = path.rpartition(".")[0]
            homes[module] = first.get(path)
        home = homes[module]
        if home is None:
            orphans.setdefault(module, []).append(param)
        else:
            owned.setdefault(home, []).append(param)
    out = [row._replace(params=tuple(owned[i])) if i in owned else row for i, row in enumerate(out)]
    called = {layer.path for layer in trace.layers}
    for module, params in orphans.items():
        depth = module.count(".") + 1
        if module in called:  # a container's own nn.Parameter
            out += [Row(p.name, 0, "Parameter", depth + bool(module), {}, (), (p.tensor,), 0, 0, (p,)) for p in params]
        else:
            kind = trace.modules.get(module, "Module")
            out.append(Row(module, 0, kind, depth, {}, (), (), 0, 0, tuple(params), called=False))
    return out


def visible(trace: Trace, row: Row) -> bool:
    """Whether a row is worth a line for a reader: everything but a container's own reshaping and bookkeeping."""
    if row.layer is not None or row.params:
        return True
    done = works(trace)[row.start]
    return done is None or bool(done.flops) or trace.ops[row.start].name in SHOWN


# ------------------------------------------------------------------------------------------------------- columns

Column = Callable[[Trace, list[Row]], list[Any]]

COLUMNS: Registry[Column] = Registry("column")
UNITS: dict[str, str] = {}


def column(key: str, unit: str = "") -> Callable[[Column], Column]:
    """Enter a metric: one value per row."""

    def enter(function: Column) -> Column:
        COLUMNS.add(key, function)
        UNITS[key] = unit
        return function

    return enter


@column("params", "parameters")
def params(trace: Trace, table: list[Row]) -> list[int]:
    """Elements of the parameters that a row accounts for; a module that runs twice has them in its first row."""
    return [sum(p.tensor.numel for p in row.params) for row in table]


@column("trainable", "parameters")
def trainable(trace: Trace, table: list[Row]) -> list[int]:
    """The part of `params` that requires a gradient."""
    return [sum(p.tensor.numel for p in row.params if p.trainable) for row in table]


@column("macs", "MAC")
def macs(trace: Trace, table: list[Row]) -> list[int | None]:
    """Multiply–accumulates of convolutions, matrix products, attention and recurrent gates; None where unknown."""
    done = [w and w.macs for w in works(trace)]
    return [_sum(done[row.start : row.stop]) for row in table]


@column("flops", "FLOP")
def flops(trace: Trace, table: list[Row]) -> list[int | None]:
    """2·macs, and the work that `ops.py` lists under Counting semantics; None where unknown."""
    done = [w and w.flops for w in works(trace)]
    return [_sum(done[row.start : row.stop]) for row in table]


def _sum(amounts: list[int | None]) -> int | None:
    """The sum, None when a part of it is unknown."""
    return None if None in amounts else sum(amounts)  # type: ignore[arg-type]


@column("neurons", "neurons")
def neurons(trace: Trace, table: list[Row]) -> list[int | None]:
    """Output elements of the operators that multiply by learned weights; None for a row that has none."""
    learns, ops = weighted(trace), trace.ops
    return [sum(ops[i].outputs[0].numel for i in range(row.start, row.stop) if learns[i]) or None for row in table]


@column("activations", "B")
def activations(trace: Trace, table: list[Row]) -> list[int]:
    """Bytes of the tensors that a row makes: its operators' outputs, less views and in-place results."""
    made = stored(trace)
    return [sum(made[row.start : row.stop]) for row in table]


@column("output_shape")
def output_shape(trace: Trace, table: list[Row]) -> list[Any]:
    """Shape of the output; a list of shapes where there are several; None for a module that never ran."""
    return [shapes_of(row.outputs) for row in table]


def shapes_of(tensors: tuple[Tensor, ...]) -> Any:
    if len(tensors) == 1:
        return tensors[0].shape
    return tuple(t.shape for t in tensors) or None


@column("receptive_field", "input pixels")
def receptive_field(trace: Trace, table: list[Row]) -> list[Any]:
    """How many input positions one output position depends on, per side; None where it has no place in the input."""
    known = fields(trace)
    return [_plain(known.get(row.outputs[0].id), "size") if row.outputs else None for row in table]


@column("effective_stride", "input pixels")
def effective_stride(trace: Trace, table: list[Row]) -> list[Any]:
    """How many input positions lie between neighbouring output positions; None once there is one position left."""
    known = fields(trace)
    return [_plain(known.get(row.outputs[0].id), "jump") if row.outputs else None for row in table]


def _plain(field: receptive.Field | None, what: str) -> Any:
    if field is None or not field.size:
        return None
    if what == "jump":
        if not any(field.axes):
            return None
        values = [j if j.denominator != 1 else int(j) for j in field.jump]
        values = [v if isinstance(v, int) else float(v) for v in values]
    else:
        values = list(field.size)
    return values[0] if len(set(values)) == 1 else tuple(values)


# -------------------------------------------------------------------------------------------------------- totals


@kept
def totals(trace: Trace) -> dict[str, Any]:
    """The model in raw integers, under the keys that scripts use.

    `macs` and `flops` are sums over the operators whose cost is known; `unknown` names the others (empty: nothing is
    missing). `activations` is in bytes, `params`, `trainable` and `buffers` in elements.
    """
    done = [w for w in works(trace) if w is not None]
    once = {p.tensor.id: p.tensor for p in trace.params}  # tied ones are one
    sizes = {i: t.numel for i, t in once.items()}
    buffers = {b.tensor.id: b.tensor for b in trace.buffers if b.tensor.id not in sizes}
    total = sum(sizes.values())
    dense = {p.tensor.id for p in trace.params if trace.modules.get(p.name.rpartition(".")[0]) in DENSE}
    frozen = {p.tensor.id for p in trace.params if not p.trainable}
    return {
        "model": trace.model,
        "input": shapes_of(trace.inputs),
        "depth": depth(trace),
        "params": total,
        "trainable": total - sum(sizes[i] for i in frozen),
        "buffers": sum(t.numel for t in buffers.values()),
        "memory": sum(t.nbytes for t in (*once.values(), *buffers.values())),
        "macs": sum([w.macs for w in done]),
        "flops": sum([w.flops for w in done]),
        "activations": sum(stored(trace)),
        "neurons": sum(op.outputs[0].numel for op, one in zip(trace.ops, weighted(trace), strict=True) if one),
        "receptive_field": field_of(fields(trace), trace.layers[0].outputs if trace.layers else ()),
        "fc_share": sum(sizes[i] for i in dense) / total if total else None,
        "unknown": unknown(trace),
    }


DENSE = frozenset(("Linear", "LazyLinear", "Bilinear"))  # the kinds that are fully connected layers


def depth(trace: Trace) -> int:
    """Weighted layers on the longest way from input to output (a recurrent operator counts each of its layers)."""
    longest: dict[int, int] = {}
    for op, is_one in zip(trace.ops, weighted(trace), strict=True):
        after = max([longest.get(t.id, 0) for t in op.inputs], default=0)
        if is_one:
            after += int(op.args.get("num_layers", 1))
        for t in op.outputs:
            if after > longest.get(t.id, 0):
                longest[t.id] = after
    return max(longest.values(), default=0)


def field_of(known: Mapping[int, receptive.Field], outputs: Sequence[Tensor]) -> Any:
    """Receptive field of the last feature map: the largest before the sides collapse. None where sides get lost."""
    end = [known.get(t.id) for t in outputs]
    if not end or any(field is None or not field.size for field in end):
        return None
    maps = [f for f in known.values() if f.windowed]
    if not maps:
        return None
    sides = tuple(max(f.size[axis] for f in maps) for axis in range(len(maps[0].size)))
    return sides[0] if len(set(sides)) == 1 else sides
