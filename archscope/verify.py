"""Do the derivations agree? The one place where closed forms and observations meet.

`formulas.py` derives a layer from its configuration; `ops.py`, through the trace, says what its operators did. A row
agrees when output shape, parameters and MACs are the same by both.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from archscope.errors import ShapeError
from archscope.formulas import FORMULAS, Derived, derive
from archscope.ir import Shape, Trace
from archscope.passes import COLUMNS, Row, kept, rows, totals
from archscope.zoo.registry import Entry

WHOLE = frozenset(FORMULAS)  # kinds with a closed form are one row, whatever they call inside


# operators whose closed form is that of the layer that does the same, with the arguments that a call may leave out
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{mode}_pool{n}d": (f"{mode.title()}Pool{n}d", {}) for mode in ("max", "avg") for n in (1, 2, 3)},
    **{f"adaptive_{m}_pool{n}d": (f"Adaptive{m.title()}Pool{n}d", {}) for m in ("max", "avg") for n in (1, 2, 3)},
    **{name: ("ReLU", {}) for name in "relu relu_ sigmoid tanh gelu silu silu_ hardswish hardswish_ dropout".split()},
    "flatten": ("Flatten", {"start_dim": 0, "end_dim": -1}),
    "softmax": ("Softmax", {}),
    "log_softmax": ("LogSoftmax", {}),
}


# those that are given their weights
WEIGHTED = {"linear": "Linear", **{f"conv{n}d": f"Conv{n}d" for n in (1, 2, 3)}}


class Check(NamedTuple):
    """One row compared. agrees: None where no closed form is known. differences: one sentence each."""

    derived: Derived | None
    agrees: bool | None
    differences: tuple[str, ...] = ()


UNCHECKED = Check(None, None)


@functools.lru_cache(maxsize=4096)
def _derived(kind: str, config: tuple[tuple[str, Any], ...], shapes: tuple[Shape, ...]) -> Derived | str | None:
    try:
        return derive(kind, dict(config), shapes)
    except ShapeError as error:
        return f"the closed form refuses it: {error}"
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # a class that only looks like the layer
        return f"the closed form does not apply: {type(error).__name__}: {error}"


def forget() -> None:
    """Drop the closed forms that were derived before: equal layers are derived once in a process."""
    _derived.cache_clear()


def check(trace: Trace, table: list[Row]) -> list[Check]:
    """Compare each row with the closed form of its kind."""
    under = _elements(trace)
    macs = COLUMNS["macs"](trace, table)
    return [_check(row, under.get(row.path, 0), done) for row, done in zip(table, macs, strict=True)]


def _check(row: Row, params: int, macs: int | None) -> Check:
    """Compare a row with its closed form. params, macs: what was observed, None where it is unknown."""
    if not row.inputs:
        return UNCHECKED
    kind, config = (row.kind, row.config) if row.layer is not None else _as_layer(row)
    derived = _derived(kind, tuple(config.items()), tuple([t.shape for t in row.inputs]))
    if derived is None:
        return UNCHECKED
    if isinstance(derived, str):
        return Check(None, False, (derived,))
    told = []
    seen = tuple([t.shape for t in row.outputs[: len(derived.shapes)]])
    if seen != derived.shapes[: len(seen)] or not seen:
        told.append(f"output {list(map(list, derived.shapes))} by formula, {list(map(list, seen))} observed")
    if row.layer is not None and params != int(derived.params):
        told.append(f"{int(derived.params):,} parameters by formula, {params:,} observed")
    if macs is not None and macs != int(derived.macs):
        told.append(f"{int(derived.macs):,} MACs by formula, {macs:,} observed")
    return Check(derived, not told, tuple(told))


def _as_layer(row: Row) -> tuple[str, Mapping[str, Any]]:
    """Kind and configuration of the layer that a container's own operator is equal to."""
    if row.kind in FUNCTIONS:
        kind, defaults = FUNCTIONS[row.kind]
        return kind, {**defaults, **row.config}
    if row.kind in WEIGHTED and len(row.inputs) > 1:
        c_out, c_in, *kernel = row.inputs[1].shape
        config: dict[str, Any] = {"bias": len(row.inputs) > 2}
        if not kernel:
            return "Linear", {**config, "in_features": c_in, "out_features": c_out}
        config |= {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | dict(row.config)
        config |= {"kernel_size": tuple(kernel), "in_channels": c_in * config["groups"], "out_channels": c_out}
        return WEIGHTED[row.kind], config
    return "", {}


@kept
def _elements(trace: Trace) -> dict[str, int]:
    """Parameter elements of each module with all it contains."""
    under: dict[str, int] = {}
    for param in trace.params:
        count, path = param.tensor.numel, param.name
        while path:
            path = path.rpartition(".")[0]
            under[path] = under.get(path, 0) + count
    return under


def disagreements(trace: Trace, entry: Entry | None = None) -> list[str]:
    """Every difference between the derivations of a model, one sentence each; empty when it is verified.

    entry: the registration whose published or derived counts the totals are held against.
    """
    table = rows(trace, whole=WHOLE)
    told = [
        f"{row.path}: {difference}"
        for row, checked in zip(table, check(trace, table), strict=True)
        for difference in checked.differences
    ]
    if entry is not None:
        found = totals(trace)
        if found["params"] != entry.params:
            told.append(f"{found['params']:,} parameters, {entry.params:,} published or derived")
        if found["macs"] != entry.macs:
            told.append(f"{found['macs']:,} MACs, {entry.macs:,} published or derived")
    return told
