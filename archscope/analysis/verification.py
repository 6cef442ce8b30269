"""Do the derivations agree? The one place where closed forms and observations meet.

`formulas.py` derives a layer from its configuration; `ops.py`, through the trace, says what its operators did. A row
agrees when output shape, parameters and MACs are the same by both.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.observed import cached, works
from archscope.analysis.row import Row, rows
from archscope.core.errors import ShapeError
from archscope.core.record import Shape, Trace
from archscope.layers.elementwise import flops_of
from archscope.layers.formulas import FORMULAS, Derived, derive
from archscope.zoo.catalogue import Entry

WHOLE = frozenset(FORMULAS)  # kinds with a closed form are one row, whatever they call inside


_UNARY = """relu relu6 sigmoid tanh gelu silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu threshold exp
    exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal neg abs square sin cos erf erfinv floor ceil round sign trunc
    frac""".split()

# operators whose closed form is that of the layer that does the same, with the arguments that a call may leave out
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{mode}_pool{n}d": (f"{mode.title()}Pool{n}d", {}) for mode in ("max", "avg") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": (f"MaxPool{n}d", {}) for n in (1, 2, 3)},
    **{f"adaptive_{m}_pool{n}d": (f"Adaptive{m.title()}Pool{n}d", {}) for m in ("max", "avg") for n in (1, 2, 3)},
    **{f"{name}{end}": ("ReLU", {}) for name in _UNARY for end in ("", "_")},
    **{f"{name}{end}": ("arithmetic", {}) for name in "add sub mul div pow".split() for end in ("", "_")},
    "rsub": ("arithmetic", {}),
    **{name: ("RReLU", {}) for name in ("rrelu", "rrelu_")},
    **{name: ("addmm", {}) for name in ("addmm", "baddbmm", "addmv")},
    "addbmm": ("addbmm", {}),
    "_grouped_mm": ("grouped_mm", {}),
    "stack": ("stack", {}),
    "dropout": ("Dropout", {}),
    "flatten": ("Flatten", {"start_dim": 0, "end_dim": -1}),
    "softmax": ("Softmax", {}),
    "log_softmax": ("LogSoftmax", {}),
    **{name: ("matmul", {}) for name in ("mm", "bmm", "mv", "dot", "vdot", "matmul")},
    **{name: ("cat", {}) for name in ("cat", "concat")},
    "scaled_dot_product_attention": ("scaled_dot_product_attention", {}),
}


# those that are given their weights
WEIGHTED = {
    "linear": "Linear",
    **{f"conv{n}d": f"Conv{n}d" for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": f"ConvTranspose{n}d" for n in (1, 2, 3)},
    "convolution": "",  # one or the other, and of as many sides as the weight has
    "_convolution": "",
}


class Check(NamedTuple):
    """One row compared. agrees: None where no closed form is known. differences: one sentence each."""

    derived: Derived | None
    agrees: bool | None
    differences: tuple[str, ...] = ()


UNCHECKED = Check(None, None)


_Config = tuple[tuple[str, Any], ...]


@functools.lru_cache(maxsize=4096)
def _derived(
    kind: str, config: _Config, shapes: tuple[Shape, ...], train: bool
) -> tuple[Derived | str | None, int | None]:
    """The closed form of a layer, or why it does not apply, and its FLOPs, None where they have no closed form."""
    arguments = dict(config)
    form = _form(kind, arguments, shapes)
    if not isinstance(form, Derived):
        return form, None
    try:
        return form, flops_of(kind, arguments, shapes, form, train)
    except (LookupError, TypeError, ValueError):  # a class that only looks like the layer
        return form, None


def _form(kind: str, config: dict[str, Any], shapes: tuple[Shape, ...]) -> Derived | str | None:
    try:
        return derive(kind, config, shapes)
    except ShapeError as error:
        return f"the closed form refuses it: {error}"
    except KeyError:  # a class of the user's with a name of PyTorch's: it does not have that layer's arguments
        return None
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # a class that only looks like the layer
        return f"the closed form does not apply: {type(error).__name__}: {error}"


def forget() -> None:
    """Drop the closed forms that were derived before: equal layers are derived once in a process."""
    _derived.cache_clear()


def check(trace: Trace, table: list[Row]) -> list[Check]:
    """Compare each row with the closed form of its kind."""
    under = _elements(trace)
    work = zip(METRICS["macs"].of(trace, table), METRICS["flops"].of(trace, table), strict=True)
    return [
        UNCHECKED if _into(trace, row) else _check(row, under.get(row.path, 0), done, trace.train)
        for row, done in zip(table, work, strict=True)
    ]


def _into(trace: Trace, row: Row) -> bool:
    """Whether a container's own operator was given a tensor for its output, which is no input."""
    return row.layer is None and row.stop > row.start and "out" in trace.ops[row.start].args


def _check(row: Row, params: int, work: tuple[int | None, int | None], train: bool) -> Check:
    """Compare a row with its closed form. params, work: the parameters, MACs and FLOPs that were observed, None where
    they are unknown."""
    macs, flops = work
    if not row.inputs or "computed" in row.config:  # how its weights come about is the user's own affair
        return UNCHECKED
    kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
    derived, expected = _derived(kind, tuple(config.items()), tuple([t.shape for t in row.inputs]), train)
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
    if None not in (flops, expected) and flops != expected:
        told.append(f"{expected:,} FLOPs by formula, {flops:,} observed")
    return Check(derived, not told, tuple(told))


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
    """Where two runs of one model differ in the shapes that their operators give, one sentence each.

    trace: by the rules of `ops.py`, whole or up to where it stopped. other: by PyTorch's own kernels.
    """
    told = [
        f"{op.name}: its rule gives {[list(s) for s in done.shapes]}, the run {[list(t.shape) for t in op.outputs]}"
        for op, done in zip(trace.ops, works(trace), strict=True)
        if done is not None
        and done.shapes not in (None, tuple([t.shape for t in op.outputs]))
        and "out" not in op.args  # that tensor is given, and takes another shape
    ]
    for i, (one, its) in enumerate(zip(trace.ops, other.ops, strict=False)):
        if one.name != its.name:
            told.append(f"operator {i} is {one.name} by the rules, {its.name} by PyTorch's kernels")
            return told  # what follows belongs together no more
        ours, theirs = ([(*t.shape, t.dtype) for t in op.outputs] for op in (one, its))
        if ours != theirs:
            place = next(layer.path for layer in reversed(other.layers) if layer.start <= i < layer.stop)
            shapes = [", ".join(f"[{'×'.join(map(str, shape))}]" for shape in each) for each in (ours, theirs)]
            told.append(
                f"{place or one.name}: {one.name} gives {shapes[0]} by its rule, {shapes[1]} by PyTorch's kernel"
            )
    return told


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
