"""The working of a layer as a textbook prints it: letters, numbers, result, for each of its quantities.

The text is that of the expression that computes: the closed form of the layer (`layers/`), and here the rules that need
more than one layer, the receptive field and the memory of an activation. It is compared with the run.
"""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from archscope.analysis.boundaries import boundary_text
from archscope.analysis.metrics import METRICS
from archscope.analysis.observed import fields
from archscope.analysis.receptive_field import Field
from archscope.analysis.row import Row, rows
from archscope.analysis.texts import inputs_text, versions, window_text
from archscope.analysis.verification import WHOLE, as_layer, check
from archscope.core.document import Document, Equation, Section
from archscope.core.errors import SpecError
from archscope.core.expression import Expr, product, symbol, total
from archscope.core.record import BYTES, Shape, Trace
from archscope.core.table import did_you_mean
from archscope.layers import LAYERS, REFERENCES, Derived, derive
from archscope.layers.formula import each
from archscope.learn.comparisons import ComparedRow, Instance, compared
from archscope.learn.comparisons.base import otherwise

# the meaning of the letters of the closed forms; `Layer.letters` has those of one kind
LETTERS = {
    "m": "side of the input", "p": "side of the window", "pad": "padding on each end", "s": "stride", "d": "dilation",
    "c_in": "channels in", "c_out": "channels out", "g": "groups", "c": "channels", "k": "side of the window",
    "k_h": "height of the kernel", "k_w": "width of the kernel", "k_t": "depth of the kernel",
    "N": "examples or vectors", "norms": "norms that the weight is scaled to",
    "h_out": "height of the output", "w_out": "width of the output", "t_out": "depth of the output",
    "h_in": "height of the input", "w_in": "width of the input", "t_in": "depth of the input",
    "n_in": "features in", "n_out": "features out", "h": "hidden units", "in": "features in", "gates": "gates",
    "directions": "directions", "proj": "projected units", "extra": "output padding",
    "r_in": "receptive field of the input", "j_in": "jump of the input: pixels between two neighbours",
    "bytes": "bytes of one number", "vocabulary": "symbols", "slopes": "slopes", "e": "features", "l": "queries",
    "k_dim": "features of a key", "v_dim": "features of a value", "heads": "heads", "r": "factor of each side",
    "M_h": "height of a window", "M_w": "width of a window", "hidden": "hidden units", "e_v": "features of a value",
    "w": "width", "before": "padding before", "after": "padding after", "factor": "factor", "n": "elements",
    "t": "steps", "f": "sides", "out": "side asked for",
}  # fmt: skip

_FIELD = "[A] equation 2, one layer of its sum: the field grows by (p − 1) jumps, the jump by the stride"
_NEURONS = "[K] section 3.5 counts neurons so: the elements of the output"
_BYTES = "the elements of the output, in the bytes of their type"
_BUFFERS = "running mean and variance, a number a channel each, and the batches seen; kept, not learned"


def compared_rows(trace: Trace) -> list[ComparedRow]:
    """Every row of the run with its closed form and its observed values."""
    table = rows(trace, whole=WHOLE)
    values = {key: one.of(trace, table) for key, one in METRICS.items() if one.values is not None}
    out = []
    for i, (row, checked) in enumerate(zip(table, check(trace, table), strict=True)):
        kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
        if row.params and row.start == row.stop and row.layer is None:  # no call accounts for them
            kind = "parameter"
            held = [derive(kind, {}, (p.tensor.shape,)) for p in row.params]
            derived = Derived(tuple(t.shape for t in row.outputs), params=total(*(h.params for h in held if h)))
            checked = checked._replace(derived=derived)
        one = {key: column[i] for key, column in values.items()}
        out.append(ComparedRow(row, kind, config, checked, one))
    return out


# ------------------------------------------------------------------------------------------------------ one layer


def section_of(trace: Trace, one: ComparedRow, brief: bool = False, alike: Sequence[str] = ()) -> Section:
    """The working of one row. brief: shape, parameters and MACs only, with the numbers. alike: rows that are equal."""
    row, derived = one.row, one.check.derived
    about, facts = _about(one), _facts(one)
    more = f", and {len(alike)} more like it" if alike else ""
    title = f"{row.path or trace.model}: {about}{more}"
    if derived is None:
        return Section(title, (_shapes(row),), notes=(_no_form(one),), brief=brief, facts=facts)
    lines = [*_sides(one, derived), *_counts(one, derived)]
    if brief:
        return Section(title, (), tuple(lines), brief=True, facts=facts)
    lines += [*_neurons(one, derived), *_field(trace, one), *_memory(one, derived)]
    letters = {**LETTERS, **LAYERS[one.kind].letters}
    return Section(title, (_shapes(row),), tuple(lines), tuple(_notes(trace, one, derived)), letters, facts=facts)


def _about(one: ComparedRow) -> str:
    """`Conv2d 11×11/4, 96 kernels`."""
    config = one.row.config if one.row.layer is not None else one.config
    window = window_text(config)
    text = f"{one.row.kind} {window}".strip()
    if "out_channels" in config:
        return f"{text}, {config['out_channels']} kernels"
    if "in_features" in config and "out_features" in config:
        return f"{text} {config['in_features']} → {config['out_features']}"
    if "hidden_size" in config:
        return f"{text} {config['input_size']} → {config['hidden_size']}"
    return text


def _shapes(row: Row) -> str:
    def text(tensors: Iterable[Any]) -> str:
        return ", ".join("×".join(map(str, t.shape)) or "a number" for t in tensors)

    if not row.called:
        return f"never ran: it holds {text(p.tensor for p in row.params)}"
    return f"input {text(row.inputs)}, output {text(row.outputs)}" if row.inputs else f"of {text(row.outputs)}"


def _facts(one: ComparedRow) -> dict[str, Any]:
    row = one.row
    return {
        "path": row.path,
        "kind": row.kind,
        "input": list(row.inputs[0].shape) if row.inputs else None,
        "output": list(row.outputs[0].shape) if row.outputs else None,
        "agrees": one.check.agrees,
    }


def _no_form(one: ComparedRow) -> str:
    count, macs = one.values["params"], one.values["macs"]
    reason = "; ".join(one.check.differences) or f"no closed form is known for {one.row.kind}"
    if "computed" in one.row.config:
        reason += f", whose {' and '.join(one.row.config['computed'])} is computed anew in every run"
    work = "an unknown number of" if macs is None else f"{macs:,}"
    return f"{reason}: the run gave {count:,} parameters and {work} MACs"


AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _sides(one: ComparedRow, derived: Derived) -> Iterable[Equation]:
    """The sides of the output, once where their derivations are the same, and its channels."""
    source, sides, n = cited(one.kind), derived.sides, len(derived.sides)
    if not derived.shapes or one.kind == "parameter":
        return
    if one.kind == "Flatten":
        yield Equation("features", sides[0], "n_out", source)
    elif one.kind == "cat":
        yield Equation("channels" if one.config.get("dim") == 1 else "side", sides[0], "", source)
    elif n and len(derived.shapes[0]) > n and n in AXES:
        letters = [f"{axis}_out" for axis in "thw"[-n:]]
        if len({str(side) for side in sides}) == 1:
            yield Equation(" and ".join(AXES[n]), sides[0], " = ".join(letters), source)
        else:
            yield from (
                Equation(name, side, letter, source) for name, side, letter in zip(AXES[n], sides, letters, strict=True)
            )
    elif n:
        yield from (Equation("side", side, "", source) for side in sides)
    if LAYERS[one.kind].window:
        learned = "out_channels" in one.config
        why = "one channel a kernel" if learned else "every channel is pooled on its own"
        yield Equation("channels", derived.shapes[0][-n - 1], "c_out" if learned else "c_out = c_in", why)
    elif one.kind == "Linear":
        yield Equation("features", derived.shapes[0][-1], "n_out", source)


def _counts(one: ComparedRow, derived: Derived) -> Iterable[Equation]:
    entry = LAYERS[one.kind]
    if derived.weighted or int(derived.params) or one.values["params"]:
        yield Equation("parameters", derived.params, "", cited_text(entry.of_params or entry.source))
    if int(derived.buffers):
        yield Equation("buffers", derived.buffers, "", _BUFFERS)
    if derived.weighted or int(derived.macs):
        yield Equation("MACs", derived.macs, "", cited_text(entry.of_macs or entry.source))


def _output(one: ComparedRow, shape: Shape) -> Expr:
    """The elements of an output: places, channels and examples where it is a map."""
    n = LAYERS[one.kind].sides
    if n:
        letters, sides = [*(f"{axis}_out" for axis in "thw"[-n:]), "c_out"], [*shape[-n:], shape[-n - 1]]
        batch = prod(shape[: -n - 1])
    elif one.kind == "Linear":
        letters, sides, batch = ["n_out"], [shape[-1]], prod(shape[:-1])
    else:
        letters, sides, batch = [f"n_{i}" for i in range(1, len(shape) + 1)], list(shape) or [1], 1
    factors = [symbol(letter, side) for letter, side in zip(letters, sides, strict=False)]
    return product(*([symbol("N", batch)] if batch != 1 else []), *factors) if factors else symbol("n", 1)


def _neurons(one: ComparedRow, derived: Derived) -> Iterable[Equation]:
    if derived.weighted:
        number = _output(one, derived.shapes[0])
        if int(number) == one.values["neurons"]:
            yield Equation("neurons", number, "", cited_text(_NEURONS))


def _memory(one: ComparedRow, derived: Derived) -> Iterable[Equation]:
    row = one.row
    if not row.outputs or one.kind == "parameter" or row.outputs[0].dtype not in BYTES:
        return
    number = _output(one, derived.shapes[0]) * symbol("bytes", BYTES[row.outputs[0].dtype])
    if int(number) == one.values["activations"]:
        yield Equation("memory", number, "", _BYTES, "B")


def _field(trace: Trace, one: ComparedRow) -> Iterable[Equation]:
    """The receptive field of the output, from that of the input; nothing where places have got lost."""
    before, after = window_field(trace, one)
    if before is None or after is None:
        return
    kernel, stride, dilation = _window(one, len(before.size))
    lines: list[list[tuple[str, Expr, str]]] = []
    for i in range(len(before.size)):
        jump, size = before.jump[i], before.size[i]
        if int(jump) != jump or int(size) != size:  # behind an upsampling
            return
        r, j = symbol("r_in", int(size)), symbol("j_in", int(jump))
        p, s = symbol("p", kernel[i]), symbol("s", stride[i])
        steps = (p - 1) * j if dilation[i] == 1 else symbol("d", dilation[i]) * (p - 1) * j
        field, step = r + steps, j * s
        if field.value != after.size[i] or (after.jump and any(after.axes) and step.value != after.jump[i]):
            return
        lines.append([("receptive field", field, "r_out"), ("jump", step, "j_out")])
    axes = AXES.get(len(lines), ())
    same = len({str(number) for line in lines for _, number, _ in line}) == len({str(n) for _, n, _ in lines[0]})
    for name, line in zip(axes[:1] if same else axes, lines, strict=False):
        for what, number, letter in line:
            shown = what if same else f"{what}, {name}"
            yield Equation(shown, number, letter, cited_text(_FIELD))


def window_field(trace: Trace, one: ComparedRow) -> tuple[Field | None, Field | None]:
    """The receptive fields before and after a sliding window; None where there is none."""
    entry = LAYERS.get(one.kind)
    sliding = entry is not None and entry.window == "sliding" and one.row.inputs and one.row.outputs
    known = fields(trace) if sliding else {}
    return (known.get(one.row.inputs[0].id), known.get(one.row.outputs[0].id)) if sliding else (None, None)


def _window(one: ComparedRow, n: int) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride and dilation, one number a side."""
    kernel, config = each(one.config["kernel_size"], n), one.config
    return kernel, each(config.get("stride") or kernel, n), each(config.get("dilation", 1), n)


# ---------------------------------------------------------------------------------------------------------- notes


def _notes(trace: Trace, one: ComparedRow, derived: Derived) -> Iterable[str]:
    """Remarks: lost rows at a boundary, biases and groups where counts often go wrong, and whether the run agrees."""
    row, config = one.row, one.config
    if any(rest for *_, rest in derived.lost):
        yield f"{boundary_text(row, derived)}."
    if config.get("ceil_mode") and derived.sides:
        dropped = any(side.kind == "-" for side in derived.sides)
        last = ": here the − 1" if dropped else ", which none does here"
        yield f"ceil_mode rounds up; a last window that would start in the padding is dropped{last}."
    if config.get("padding") == "same":
        yield "padding=same keeps the sides: as many rows and columns are added as the kernel's span less one."
    if one.kind.startswith("Conv") and config.get("bias"):
        without = otherwise(one, bias=False)
        yield (
            f"Without the {config['out_channels']:,} biases the parameters would be {without.params}; a count of "
            f"{int(without.params):,} has forgotten them."
        )
    if "weight_norm" in config:
        yield (
            "The weight is kept as a direction v and its norms g, and computed from both in every run: w = g·v/‖v‖ "
            "(T. Salimans, D. Kingma: Weight normalization. arXiv:1602.07868 (2016), equation 2). Each norm is a "
            "parameter more."
        )
    if config.get("groups", 1) > 1 and one.kind.startswith("Conv"):
        whole, g = otherwise(one, groups=1), config["groups"]
        each = config["in_channels"] // g
        yield (
            f"In {g} groups a kernel sees {config['in_channels']}/{g} = {each} channels. Without groups it would see "
            f"all {config['in_channels']}: {whole.params} parameters, and {g} times the MACs."
        )
    if one.kind.startswith("BatchNorm") and int(derived.buffers):
        yield "It learns γ and β; mean and variance are measured while training, and folded into the convolution later."
    remark = REMARKS.get((trace.model.partition("@")[0], row.path))
    if remark is not None:
        yield from remark(trace, one)
    yield _verdict(one)


def _verdict(one: ComparedRow) -> str:
    if one.check.agrees is None:
        count = f"{one.values['params']:,} parameters"
        return f"It belongs to no layer: {count}." if one.row.called else f"It never ran here: {count}."
    if not one.check.agrees:
        return f"The run disagrees: {'; '.join(one.check.differences)}."
    shape = "×".join(map(str, one.row.outputs[0].shape))
    params = f"{one.values['params']:,} parameters" if one.row.layer is not None else "the same shape"
    macs = one.values["macs"]
    return f"The run agrees: output {shape}, {params}" + (f", {macs:,} MACs." if macs else ".")


def _two_two_four(trace: Trace, one: ComparedRow) -> Iterable[str]:
    """AlexNet's input: the paper says 224, and its sizes are those of 227."""
    windows = [other for other in compared_rows(trace) if other.kind in ("Conv2d", "MaxPool2d")]
    c, *_ = trace.inputs[0].shape[1:]
    shape: Shape = (1, c, 224, 224)
    first = None
    for other in windows:
        derived = derive(other.kind, other.config, (shape,))
        assert derived is not None
        first, shape = first or derived, derived.shapes[0]
    assert first is not None
    features = _output(one, shape)
    fc6 = f"{next(other.config['in_features'] for other in compared_rows(trace) if other.kind == 'Linear'):,}"
    plain = derive(one.kind, one.config, ((1, c, 227, 227),))
    padded = derive(one.kind, {**one.config, "padding": (2, 2)}, ((1, c, 224, 224),))
    assert plain is not None and padded is not None
    span, stride, _ = first.lost[0]
    yield (
        f"The paper says 224×224, but (224 − {one.config['kernel_size'][0]})/{stride} = {span}/{stride} is no integer: "
        f"{first.sides[0]}, and the last row and column of the picture are never seen. The last pool then gives "
        f"{shape[2]}×{shape[3]}, so fc6 sees {features} features in the place of {fc6}. 227 with padding 0 "
        f"gives {plain.sides[0].value}, and so does 224 with padding 2: {padded.sides[0]}."
    )


def _two_towers(trace: Trace, one: ComparedRow) -> Iterable[str]:
    """AlexNet's second convolution, drawn on two devices and built on one."""
    whole, g, c = otherwise(one, groups=1), one.config["groups"], one.config["in_channels"]
    yield (
        f"One source writes the depth of a kernel as {c // g} (the paper's two towers, {g} groups), another builds it "
        f"with {c} (one device): {int(otherwise(one).params):,} and {int(whole.params):,} parameters, each right for "
        "its own network."
    )


# remarks from the literature, by model and path
REMARKS: dict[tuple[str, str], Callable[[Trace, ComparedRow], Iterable[str]]] = {
    ("alexnet", "conv1"): _two_two_four,
    ("alexnet", "conv2"): _two_towers,
}


# -------------------------------------------------------------------------------------------------------- sources


def cited(kind: str) -> str:
    """The source of a kind's rule, the work written out: `V. Dumoulin, …, relationship 6`."""
    return cited_text(LAYERS[kind].source)


def cited_text(source: str) -> str:
    """A rule's source with the works written out."""
    for letter, work in REFERENCES.items():
        source = source.replace(f"[{letter}] ", f"{work}, ")
    return source


# ---------------------------------------------------------------------------------------------------------- pages


def explanation(trace: Trace, layer: str | None = None) -> Document:
    """The working of a network, or of one layer, block or wildcard of it.

    Without a layer: every kind of layer with parameters or MACs briefly, the totals, and the comparisons that apply.
    Raises SpecError for a layer that is not there.
    """
    items = compared_rows(trace)
    if layer is None:
        sections = [*_overview(trace, items), *_first_of_each(trace, items)]
        about = "Each layer with parameters or MACs; `archscope explain MODEL LAYER` shows one in full."
        return _page(trace, f"{trace.model}, input {inputs_text(trace)}", sections, (about,))
    found = compared(trace, items)
    sections = []
    for path in _matching(trace, items, layer):
        sections += _layer(trace, items, path, found)
    return _page(trace, f"{trace.model}, input {inputs_text(trace)}", sections)


def _page(trace: Trace, title: str, sections: Sequence[Section], about: tuple[str, ...] = ()) -> Document:
    return Document(title, tuple(sections), about, f"{versions(trace.versions)}")


def _matching(trace: Trace, items: Sequence[ComparedRow], pattern: str) -> list[str]:
    """The paths of layers, blocks and operators that a path or wildcard means; wildcards mean layers before blocks."""
    leaves = list(dict.fromkeys(one.row.path for one in items))
    blocks = [path for path in dict.fromkeys(y.path for y in trace.layers) if path and path not in leaves]
    pattern = pattern.strip()
    if pattern in leaves or pattern in blocks:
        return [pattern]
    if pattern in ("", ".", trace.model) and trace.layers and "" in leaves:
        return [""]
    for paths in (leaves, blocks):
        if found := [path for path in paths if fnmatch.fnmatchcase(path, pattern)]:
            return found
    paths = [*leaves, *blocks]
    ends = [path for path in paths if path.rpartition(".")[2] == pattern]
    near = did_you_mean(pattern, paths) or did_you_mean(pattern, [path.rpartition(".")[2] for path in paths])
    hint = near or f"`archscope trace {trace.model}` shows them"
    if ends:
        hint = f"did you mean {' or '.join(ends[:3])}? `'*.{pattern}'` takes all {len(ends)}"
    raise SpecError(f"{trace.model} has no layer {pattern!r}: {hint}")


def _layer(
    trace: Trace, items: Sequence[ComparedRow], path: str, around: Mapping[str, Sequence[Instance]]
) -> list[Section]:
    """A layer in full, each call of it, or a block: its layers, and then the comparisons that apply."""
    own = [one for one in items if one.row.path == path]
    mine = [
        _titled(title, found.section)
        for title, instances in around.items()
        for found in instances
        if path in found.paths
    ]
    if own:
        return [*(section_of(trace, one) for one in own), *mine]
    inside = [one for one in items if one.row.path.startswith(f"{path}.")]
    layer = next(y for y in trace.layers if y.path == path)
    shapes = [", ".join("×".join(map(str, t.shape)) for t in group) for group in (layer.inputs, layer.outputs)]
    head = _totals(f"{path}: {layer.kind}", inside, (f"input {shapes[0]}, output {shapes[1]}",))
    nested = [
        _titled(title, found.section)
        for title, instances in around.items()
        for found in instances
        if all(p.startswith(f"{path}.") for p in found.paths)
    ]
    return [head, *_brief(trace, inside), *mine, *nested[: 0 if mine else None]]


def _titled(title: str, section: Section) -> Section:
    return replace(section, title=f"{title}: {section.title}")


def _overview(trace: Trace, items: Sequence[ComparedRow]) -> list[Section]:
    return [*_brief(trace, items), _totals("The network", items, ())]


def _brief(trace: Trace, items: Sequence[ComparedRow]) -> list[Section]:
    """The layers that compute or learn, those that are equal in one section."""
    alike: dict[Any, list[ComparedRow]] = {}
    for one in items:
        if one.values["params"] or one.values["macs"] or one.values["macs"] is None:
            section = section_of(trace, one, True)
            worked = tuple((line.name, str(line.number)) for line in section.equations)
            alike.setdefault((_about(one), worked, section.notes), []).append(one)
    return [section_of(trace, first, True, [o.row.path for o in more]) for first, *more in alike.values()]


def _totals(title: str, items: Sequence[ComparedRow], about: tuple[str, ...]) -> Section:
    """Parameters and MACs, kind by kind."""
    lines = []
    for name, key in (("parameters", "params"), ("MACs", "macs")):
        parts: dict[str, int] = {}
        for one in items:
            if one.values[key]:
                kind = one.row.kind if one.row.called else f"{one.row.kind} (never ran)"
                parts[kind] = parts.get(kind, 0) + one.values[key]
        if parts:
            lines.append(Equation(name, total(*(symbol(kind, count) for kind, count in parts.items()))))
    missing = [one for one in items if one.values["macs"] is None]
    many = "1 operator is" if len(missing) == 1 else f"{len(missing)} operators are"
    notes = (f"The MACs of {many} unknown and in no sum.",) if missing else ()
    return Section(title, about, tuple(lines), notes)


def _first_of_each(trace: Trace, items: Sequence[ComparedRow]) -> list[Section]:
    """The first instance of every comparison, and what all of them come to."""
    out = []
    for title, instances in compared(trace, items).items():
        section = _titled(title, instances[0].section)
        rest = [found for found in instances if found.section.equations]
        notes = list(section.notes)
        if len(instances) > 1:
            others = ", ".join(found.section.title for found in rest[1:4])
            more = f" and {len(rest) - 4} more" if len(rest) > 4 else ""
            notes.append(f"The same of {others}{more}.")
        costs = [found.cost for found in instances if found.cost is not None]
        if len(costs) > 1:
            here, there = (sum(cost[i] for cost in costs) for i in (0, 1))
            notes.append(
                f"All {len(costs)} together: {here:,} MACs in the place of {there:,}, {100 * here / there:.1f} %."
            )
        out.append(replace(section, notes=tuple(notes)))
    return out
