"""Branches that are joined: what Inception saves, and what a residual and a dense block add."""

from collections.abc import Iterator, Sequence

from archscope.core.document import Equation, Section
from archscope.core.expression import product, ratio, symbol, symbols
from archscope.core.record import Layer, Op, Tensor, Trace
from archscope.learn.comparisons.base import (
    ComparedRow,
    Instance,
    back,
    comparison,
    conv_before,
    convolutions_of,
    inside_of,
    kernel_of,
    made_by,
    otherwise,
    row_of,
    short,
    sum_of,
    totals_of,
)

_SZEGEDY = "C. Szegedy et al.: Going deeper with convolutions. arXiv:1409.4842 (2014), figure 2: naive, with reductions"
_HE = "K. He et al.: Deep residual learning. arXiv:1512.03385 (2015), equations 1 and 2: y = F(x) + x, or + W_s·x"
_HUANG = (
    "G. Huang et al.: Densely connected convolutional networks. arXiv:1608.06993 (2016), section 3: k_0 + k·(l − 1)"
)


@comparison("Inception with and without its 1×1 reductions")
def inception(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """Branches over one input, concatenated. A 1×1 before a larger kernel thins the channels that this one reads."""
    makers = made_by(trace)
    for layer in trace.layers:
        join = makers.get(layer.outputs[0].id) if layer.outputs else None
        if join is None or join.name not in ("aten.cat", "aten.concat") or len(join.inputs) < 3 or not layer.inputs:
            continue
        start = layer.inputs[0]
        convs = convolutions_of(inside_of(items, layer))
        first = [one for one in convs if one.row.inputs[0].id == start.id]
        reduced = {}  # the larger kernel: its reduction
        for one in convs:
            before = conv_before(trace, items, one)
            if before is not None and before in first and set(kernel_of(before)) == {1} and set(kernel_of(one)) != {1}:
                reduced[one.row.path] = (before, one)
        if len(reduced) < 2 or len(start.shape) != 4:
            continue
        c_in = start.shape[1]
        pooled = [one for one in convs if one not in first and one.row.path not in reduced]
        drawn = [one for one in pooled if _pool_before(trace, one)]
        rest = [one for one in convs if one not in drawn and all(one not in pair for pair in reduced.values())]
        naive = {path: otherwise(one, start.shape, in_channels=c_in) for path, (_, one) in reduced.items()}
        here = totals_of([one.derived for one in convs])
        there = totals_of([*naive.values(), *(one.derived for one in rest)])
        widths = [t.shape[1] for t in join.inputs]
        wide = [c_in if any(_reaches(trace, t, one) for one in drawn) else t.shape[1] for t in join.inputs]
        lines = [Equation("channels out", sum_of(**{f"c_{i}": c for i, c in enumerate(widths, 1)}), "c_out", _SZEGEDY)]
        for path, (before, one) in reduced.items():
            name = short(path, layer)
            both = sum_of(reduction=int(before.derived.macs), kernel=int(one.derived.macs))
            lines += [Equation(f"{name} MACs", both), Equation(f"{name} without", naive[path].macs)]

        without = {short(one.row.path, layer): one.derived for one in rest} | {
            short(p, layer): d for p, d in naive.items()
        }
        lines += [
            Equation("block MACs", sum_of(**{short(one.row.path, layer): int(one.derived.macs) for one in convs})),
            Equation("block MACs without", sum_of(**{name: int(derived.macs) for name, derived in without.items()})),
            Equation(
                "block parameters", sum_of(**{short(one.row.path, layer): int(one.derived.params) for one in convs})
            ),
            Equation("parameters without", sum_of(**{name: int(derived.params) for name, derived in without.items()})),
            Equation("MACs kept", ratio(symbol("with", here[1]), symbol("without", there[1]))),
            Equation("channels without", sum_of(**{f"c_{i}": c for i, c in enumerate(wide, 1)}), "c_out"),
        ]
        notes = [
            f"The 1×1 reductions save {there[1] - here[1]:,} of {there[1]:,} MACs and {there[0] - here[0]:,} of "
            f"{there[0]:,} parameters."
        ]
        if drawn:
            notes.append(f"Without its 1×1 the pooling branch hands on all {c_in} channels, so blocks would grow.")
        title = f"{layer.path or trace.model}"
        yield Instance((layer.path,), Section(title, (), tuple(lines), tuple(notes)), (here[1], there[1]))


def _pool_before(trace: Trace, one: ComparedRow) -> bool:
    op = made_by(trace).get(one.row.inputs[0].id)
    return op is not None and "pool" in op.name


def _reaches(trace: Trace, tensor: Tensor, one: ComparedRow) -> bool:
    op = back(trace, tensor, "aten.conv2d")
    return op is not None and op.outputs[0].id == one.row.outputs[0].id or tensor.id == one.row.outputs[0].id


@comparison("What a residual block adds")
def residual(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """The input, as it is or through a 1×1, added to what the block computes."""
    for layer in trace.layers:
        if not layer.inputs or not layer.outputs or layer.kind == "Sequential":
            continue
        start = layer.inputs[0]
        own = _own(trace, layer)
        if not any(trace.ops[i].name in ADD for i in own):
            continue
        inside = inside_of(items, layer)
        add = next((trace.ops[i] for i in own if _adds(trace, trace.ops[i], start, inside)), None)
        if add is None:
            continue
        by = next((p for t in add.inputs if (p := _projection(trace, t, start, inside)) is not None), None)
        weights = {one.row.path: one.values["params"] for one in inside if one.values["params"]}
        norm = _norm_behind(inside, by) if by is not None else None
        side = int(by.derived.params) + (norm.values["params"] if norm else 0) if by is not None else 0
        body = sum(weights.values()) - side
        out = add.outputs[0].shape
        letters = ["N", "c_out", "h_out", "w_out"] if len(out) == 4 else [f"n_{i}" for i in range(1, len(out) + 1)]
        elements = product(*(symbol(a, n) for a, n in zip(letters, out, strict=True) if not (a == "N" and n == 1)))
        shape = "an identity: no parameters" if by is None else "a projection, for the shape changes"
        own = {short(path, layer): count for path, count in weights.items()}
        for one in (by, norm):
            own.pop(short(one.row.path, layer) if one is not None else "", None)
        lines = [Equation("parameters of F", sum_of(**own) if own else body, "", _HE)]
        if by is not None:
            lines += [Equation("shortcut", by.derived.params), Equation("shortcut MACs", by.derived.macs)]
        if norm is not None:
            lines.append(Equation("its norm", norm.derived.params))
        lines.append(Equation("parameters", sum_of(F=body, shortcut=side)))
        lines.append(Equation("additions", elements))
        about = f"y = F(x) + x with {shape}." if by is None else f"y = F(x) + W·x with {shape}."
        yield Instance((layer.path,), Section(layer.path or trace.model, (about,), tuple(lines)))


ADD = ("aten.add", "aten.add_")


def _adds(trace: Trace, op: Op, start: Tensor, inside: Sequence[ComparedRow]) -> bool:
    """Whether an operator adds a block's input, or its projection, to something else of the same shape."""
    two = [t for t in op.inputs if op.outputs and t.shape == op.outputs[0].shape]
    if op.name not in ADD or len(two) != 2 or two[0].id == two[1].id:
        return False
    made = made_by(trace)
    return all(t.id == start.id or t.id in made for t in two) and any(
        t.id == start.id or _projection(trace, t, start, inside) is not None for t in two
    )


def _own(trace: Trace, layer: Layer) -> list[int]:
    """The operators that a module runs itself, outside all that it contains."""
    out, at = [], layer.start
    for deeper in trace.layers:
        if deeper.depth == layer.depth + 1 and layer.start <= deeper.start and deeper.stop <= layer.stop:
            out += range(at, deeper.start)
            at = max(at, deeper.stop)
    return [*out, *range(at, layer.stop)]


def _projection(trace: Trace, tensor: Tensor, start: Tensor, inside: Sequence[ComparedRow]) -> ComparedRow | None:
    one = row_of(inside, back(trace, tensor, "aten.conv2d"))
    if one is None or one.kind != "Conv2d" or not one.check.agrees:
        return None
    return one if set(kernel_of(one)) == {1} and one.row.inputs[0].id == start.id else None


def _norm_behind(inside: Sequence[ComparedRow], conv: ComparedRow) -> ComparedRow | None:
    return next(
        (n for n in inside if n.row.inputs and n.row.inputs[0].id == conv.row.outputs[0].id and n.values["params"]),
        None,
    )


@comparison("What a dense block adds")
def dense(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """Each of n layers adds g channels to what it saw: c + n·g."""
    for layer in trace.layers:
        if not layer.inputs or not layer.outputs or len(layer.inputs[0].shape) != 4 or len(layer.outputs[0].shape) != 4:
            continue
        (_, c_in, *before), (_, c_out, *after) = layer.inputs[0].shape, layer.outputs[0].shape
        convs = [one for one in convolutions_of(inside_of(items, layer)) if set(kernel_of(one)) != {1}]
        widths = {one.config["out_channels"] for one in convs}
        joins = sum(op.name in ("aten.cat", "aten.concat") for op in trace.ops[layer.start : layer.stop])
        if len(convs) < 2 or len(widths) != 1 or before != after or joins < 2:
            continue
        c, n, g = symbols(c_in=c_in, n=len(convs), growth=widths.pop())
        if (c + n * g).value != c_out:
            continue
        seen = [c + i * g for i in range(len(convs))]
        weights = sum(one.values["params"] for one in inside_of(items, layer))
        lines = (
            Equation("channels", c + n * g, "c_out", _HUANG),
            Equation("the last layer reads", seen[-1]),
            Equation("first layer", convs[0].derived.params),
            Equation("last layer", convs[-1].derived.params),
            Equation("block parameters", weights),
        )
        about = f"{n.value} layers, each adds {g.value} channels to all that went before it."
        yield Instance((layer.path,), Section(layer.path or trace.model, (about,), lines))
