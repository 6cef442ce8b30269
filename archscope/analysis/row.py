"""The rows of a trace: each piece of the run that a table shows as one line.

A row is a call of a leaf module, an operator that a container runs itself (`x + y`, `torch.cat`), or parameters that no
call uses. The rows cover the run without overlap, so a column of values adds up to its total.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from archscope.analysis.observed import cached, works
from archscope.core.record import Layer, Param, Tensor, Trace
from archscope.operators import SHOWN


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


@cached
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
            inside = pending[-1][1] if pending else layers[0] if layers else None  # None: a `__call__` of its own
            op = ops[done_to]
            name = op.name.removeprefix("aten.")
            path = f"{inside.path}.{name}" if inside and inside.path else name
            at = inside.depth + 1 if inside else 1
            config = {k: v for k, v in op.args.items() if not (v == () or _has_tensor(v))}
            out.append(Row(path, 0, name, at, config, op.inputs, op.outputs, done_to, done_to + 1))
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
            continue  # tied: counted with its first name
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
