"""Do the two derivations agree? The one place where closed forms and observations meet.

`layers` derives a layer from its configuration; `operators`, through the trace, counts what its operators did. A row
agrees when output shape, parameters, MACs and FLOPs are the same by both.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.observed import cached, works
from archscope.analysis.row import Row, rows
from archscope.core.errors import ShapeError
from archscope.core.record import Shape, Trace
from archscope.layers import LAYERS, Derived, derive
from archscope.zoo.catalogue import Entry

WHOLE = frozenset(LAYERS)  # kinds with a closed form are one row, whatever they call inside
# operator: the layer that computes the same, and the arguments that a call may leave out
FUNCTIONS = {name: (kind, defaults) for kind, layer in LAYERS.items() for name, defaults in layer.functions.items()}

# operators that take their weights as an input
WEIGHTED = {
    "linear": "Linear",
    **{f"conv{n}d": f"Conv{n}d" for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": f"ConvTranspose{n}d" for n in (1, 2, 3)},
    "convolution": "",  # plain or transposed, with the sides of the weight
    "_convolution": "",
}


class Check(NamedTuple):
    """One row compared. agrees: None where no closed form is known. differences: one sentence each."""

    derived: Derived | None
    agrees: bool | None
    differences: tuple[str, ...] = ()


UNCHECKED = Check(None, None)


@functools.lru_cache(maxsize=4096)
def _derived(kind: str, config: tuple[tuple[str, Any], ...], shapes: tuple[Shape, ...]) -> Derived | str | None:
    """The closed form of a layer, or why it does not apply, or None where none is known."""
    try:
        return derive(kind, dict(config), shapes)
    except ShapeError as error:
        return f"the closed form refuses it: {error}"
    except KeyError:  # a user's class with a name of PyTorch's, without the arguments of that layer
        return None
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # a user's class with other arguments
        return f"the closed form does not apply: {type(error).__name__}: {error}"


def forget() -> None:
    """Clear the cache of closed forms: equal layers are derived once in a process."""
    _derived.cache_clear()


def check(trace: Trace, table: list[Row]) -> list[Check]:
    """Compare each row with the closed form of its kind."""
    under = _elements(trace)
    work = zip(METRICS["macs"].of(trace, table), METRICS["flops"].of(trace, table), strict=True)
    return [
        UNCHECKED if _has_out(trace, row) else _check(row, under.get(row.path, 0), done, trace.train)
        for row, done in zip(table, work, strict=True)
    ]


def _has_out(trace: Trace, row: Row) -> bool:
    """Whether a container's own operator writes into a given tensor (`out=`), which is no input."""
    return row.layer is None and row.stop > row.start and "out" in trace.ops[row.start].args


def _check(row: Row, params: int, work: tuple[int | None, int | None], train: bool) -> Check:
    """Compare a row with its closed form. params, work: observed parameters, MACs and FLOPs, None where unknown."""
    if not row.inputs or "computed" in row.config:  # weights that the user's own code computes
        return UNCHECKED
    kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
    derived = _derived(kind, tuple(config.items()), tuple([t.shape for t in row.inputs]))
    if derived is None:
        return UNCHECKED
    if isinstance(derived, str):
        if "around" in row.config:
            return UNCHECKED
        return Check(None, False, (derived,))
    found = []
    seen = tuple([t.shape for t in row.outputs[: len(derived.shapes)]])
    if seen != derived.shapes[: len(seen)] or not seen:
        found.append(f"output {list(map(list, derived.shapes))} by formula, {list(map(list, seen))} observed")
    flops = derived.flops(train)
    if flops is not None and row.inputs[0].dtype.startswith("complex"):  # 4 products and 4 sums in place of 1 and 1
        flops += 6 * int(derived.macs)
    counts = [("MACs", int(derived.macs), work[0]), ("FLOPs", flops, work[1])]
    if row.layer is not None:
        counts.insert(0, ("parameters", int(derived.params), params))
    for name, expected, observed in counts:
        if expected is not None and observed is not None and expected != observed:
            found.append(f"{expected:,} {name} by formula, {observed:,} observed")
    if found and "around" in row.config:  # a hook changes what comes out, or torch.func differentiates
        return UNCHECKED
    return Check(derived, not found, tuple(found))


def as_layer(row: Row) -> tuple[str, Mapping[str, Any]]:
    """Kind and configuration of the layer that a container's own operator is equal to; "" where there is none."""
    if row.kind in FUNCTIONS:
        kind, defaults = FUNCTIONS[row.kind]
        return kind, {**defaults, **row.config}
    if row.kind in WEIGHTED and len(row.inputs) > 1:
        sides = row.inputs[1].shape
        config: dict[str, Any] = {"bias": len(row.inputs) > 2}
        if row.kind == "linear":
            if len(sides) != 2:
                return "", {}
            return "Linear", {**config, "in_features": sides[1], "out_features": sides[0]}
        kind = WEIGHTED[row.kind] or f"Conv{'Transpose' if row.config['transposed'] else ''}{len(sides) - 2}d"
        config |= {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1} | dict(row.config)
        config |= {"kernel_size": sides[2:], "bias": len(row.inputs) > 2}
        if "Transpose" in kind:
            return kind, config | {"in_channels": sides[0], "out_channels": sides[1] * config["groups"]}
        return kind, config | {"in_channels": sides[1] * config["groups"], "out_channels": sides[0]}
    return "", {}


@cached
def _elements(trace: Trace) -> dict[str, int]:
    """Parameter elements of each module with all it contains."""
    under: dict[str, int] = {}
    for param in trace.params:
        count, path = param.tensor.numel, param.name
        while path:
            path = path.rpartition(".")[0]
            under[path] = under.get(path, 0) + count
    return under


def same_run(trace: Trace, other: Trace) -> list[str]:
    """Where two runs of one model differ in the output shapes of their operators, one sentence each.

    trace: by the rules of `operators`, complete or up to where it stopped. other: by PyTorch's own kernels.
    """
    found = [
        f"{op.name}: its rule gives {[list(s) for s in done.shapes]}, the run {[list(t.shape) for t in op.outputs]}"
        for op, done in zip(trace.ops, works(trace), strict=True)
        if done is not None
        and done.shapes not in (None, tuple([t.shape for t in op.outputs]))
        and "out" not in op.args  # a given tensor, which is resized
    ]
    for i, (one, its) in enumerate(zip(trace.ops, other.ops, strict=False)):
        if one.name != its.name:
            found.append(f"operator {i} is {one.name} by the rules, {its.name} by PyTorch's kernels")
            return found  # the operators after this one do not correspond
        ours, theirs = ([(*t.shape, t.dtype) for t in op.outputs] for op in (one, its))
        if ours != theirs:
            place = next(layer.path for layer in reversed(other.layers) if layer.start <= i < layer.stop)
            shapes = [", ".join(f"[{'×'.join(map(str, shape))}]" for shape in each) for each in (ours, theirs)]
            found.append(
                f"{place or one.name}: {one.name} gives {shapes[0]} by its rule, {shapes[1]} by PyTorch's kernel"
            )
    return found


def disagreements(trace: Trace, entry: Entry | None = None) -> list[str]:
    """Every difference between the two derivations of a model, one sentence each; empty when it is verified.

    entry: a network of the zoo, whose published or derived counts are compared with the totals.
    """
    table = rows(trace, whole=WHOLE)
    found = [
        f"{row.path}: {difference}"
        for row, checked in zip(table, check(trace, table), strict=True)
        for difference in checked.differences
    ]
    if entry is not None:
        total = totals(trace)
        if total["params"] != entry.params:
            found.append(f"{total['params']:,} parameters, {entry.params:,} published or derived")
        if total["macs"] != entry.macs:
            found.append(f"{total['macs']:,} MACs, {entry.macs:,} published or derived")
    return found
