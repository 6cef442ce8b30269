"""Output sides, multiply–accumulates and activations of a model as closed expressions in H and W, the floors kept.

    alexnet    h1 = ⌊(H − 7)/4⌋, h2 = ⌊(H − 11)/8⌋, …
    conv1      N×96×h1×w1      34,848·N·h1·w1 MACs

The expressions come from the walk over a trace (`carry.py`) and are compared with runs at other sizes, operator by
operator, before they are shown: output shapes, multiply–accumulates and bytes.
"""

import json as json_format
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from archscope.analysis.observed import parameter_ids, works
from archscope.analysis.observed import stored_bytes as observed
from archscope.analysis.row import Row, rows, visible
from archscope.analysis.texts import versions
from archscope.analysis.verification import WHOLE
from archscope.core.errors import ArchscopeError
from archscope.core.formats import escaped, text_of
from archscope.core.record import BYTES
from archscope.core.table import Column, Table
from archscope.operators import VIEWS
from archscope.shapes.legal import closed_form, layers_of
from archscope.shapes.polynomial import Letter, Poly, number, product
from archscope.shapes.resize import ResizableModel, ResizedRun
from archscope.shapes.symbolic_int import Unsupported
from archscope.shapes.walk import Dims, Walk

N = Letter("N")
MEANS = {"N": "examples", "T": "steps", "D": "planes", "H": "rows", "W": "columns"}


class Part(NamedTuple):
    """One row: its output shape, its multiply–accumulates, and the bytes of the tensors that it makes."""

    path: str
    kind: str
    output: Dims
    macs: Poly
    activations: Poly


@dataclass(frozen=True)
class SymbolicSizes:
    """A model in letters. letters: those of the input, with their defaults. sides: each named side in them. parts: the
    rows. output, macs, activations: of the model. checked: the inputs it was compared with runs on. fixed: the
    layers that take one size only; behind them the expressions hold where they run. alone: what is otherwise in a batch
    of one, "" where nothing is."""

    model: str
    input: Dims
    letters: dict[str, int]
    sides: dict[str, Poly]
    parts: tuple[Part, ...]
    output: tuple[Dims, ...]
    macs: Poly
    activations: Poly
    checked: tuple[tuple[int, ...], ...]
    versions: Mapping[str, str]
    fixed: tuple[str, ...] = ()
    alone: str = ""

    def at(self, **letters: int) -> dict[str, Any]:
        """The numbers for an input: `at(N=1, H=227, W=227)["macs"]`; a letter left out is as it is by default."""
        of = {**self.letters, **letters}
        for name, closed in self.sides.items():
            of[name] = closed.value(of)
        return {
            "output": [tuple(side.value(of) for side in dims) for dims in self.output],
            "macs": self.macs.value(of),
            "activations": self.activations.value(of),
        }


def in_letters(model: ResizableModel) -> SymbolicSizes:
    """The closed expressions of a model. Raises Unsupported, naming the operator, where there are none.

    A batch of one copies less than any other: where there are none for one and more alike, there may be for two.
    """
    try:
        return _in_letters(model)
    except Unsupported:
        if "n" not in model.layout or model.shape[model.layout.index("n")] != 1:
            raise
        with suppress(ArchscopeError):
            return _in_letters(model.in_batches_of(2))
        raise


def _in_letters(model: ResizableModel) -> SymbolicSizes:
    if not model.letters and "n" not in model.layout:
        raise Unsupported(model.immovable)
    walk = closed_form(model)
    trace = walk.trace
    if walk.refused is not None or walk.stopped is not None:
        raise Unsupported(_stopped(model, walk))
    made = stored(walk)
    checked = tuple(_compared(model, walk, made))
    table = [row for row in rows(trace, whole=WHOLE) if visible(trace, row) and row.outputs and row.stop > row.start]
    parts = tuple(
        Part(
            row.path, row.kind, walk.of(row.outputs[0]), _sum(walk.macs[row.start : row.stop]),
            _sum(made[row.start : row.stop]),
        )
        for row in table
    )  # fmt: skip
    sides = dict(walk.defined)
    closed = SymbolicSizes(
        model=trace.model,
        input=walk.of(trace.inputs[0]),
        letters={name: value for name, value in walk.values.items() if name not in sides},
        sides=sides,
        parts=parts,
        output=tuple(walk.of(t) for t in trace.layers[0].outputs),
        macs=_sum(walk.macs),
        activations=_sum(made),
        checked=checked,
        versions=trace.versions,
        fixed=tuple(dict.fromkeys(layers_of(trace)[need.at].path for need in walk.needs if need.kind == "fixed")),
    )
    return replace(closed, alone=_alone(model, closed))


def _alone(model: ResizableModel, closed: SymbolicSizes) -> str:
    """What is otherwise in a batch of one, as a run shows."""
    ran = model.at({}, 1) if "N" in closed.letters else None
    if ran is None or ran.error is not None:
        return ""
    said, seen = closed.at(N=1), sum(observed(ran.trace))
    macs = sum(done.macs for done in works(ran.trace) if done is not None)
    if macs != said["macs"]:
        return f"for N = 1 the forward does otherwise: {macs:,} MACs and {seen:,} bytes"
    if seen != said["activations"]:
        return f"for N = 1 activations are {seen:,} bytes and not {said['activations']:,}: some copies are views then"
    return ""


def _stopped(model: ResizableModel, walk: Walk) -> str:
    if walk.stopped is None:
        return f"{model.name} does not come through at any size that was tried, so there is nothing to put in letters"
    at = walk.stopped.at
    row: Row | None = layers_of(walk.trace).get(at)
    where = f" in {row.path}" if row is not None and row.path else ""
    return f"{model.name} has no closed expressions: the operator {walk.stopped.op}{where} stops them: {walk.stopped}"


def _sum(polys: Iterable[Poly]) -> Poly:
    counts: dict[Any, int] = {}
    for poly in polys:
        for powers, count in poly.terms:
            counts[powers] = counts.get(powers, 0) + count
    return Poly(tuple(counts.items())) + 0


def stored(walk: Walk) -> list[Poly]:
    """Bytes that each operator's outputs take, as `passes.stored` counts them: views and results in place take none."""
    trace = walk.trace
    weights = parameter_ids(trace)
    seen = {t.id for t in trace.inputs} | {p.tensor.id for p in (*trace.params, *trace.buffers)}
    out = []
    for op in trace.ops:
        count = number(0)
        for t in op.outputs:
            if t.id not in seen:
                seen.add(t.id)
                if op.name not in VIEWS and t.id not in weights:
                    count = count + product(walk.of(t)) * BYTES[t.dtype]
        out.append(count)
    return out


# -------------------------------------------------------------------------------------------------- held against runs


def _compared(model: ResizableModel, walk: Walk, made: list[Poly]) -> Iterable[tuple[int, ...]]:
    """Run the model on other inputs; yields their shapes, raises Unsupported at the first operator that differs."""
    side, sides = model.side, len(model.letters)
    batch = {"n": 3} if "n" in model.layout else {}
    others = (side + 1, side + side // 3, 2 * side - 1, side - side // 4)
    tried = [dict.fromkeys(model.letters, m) for m in others] if sides else []
    if sides > 1:
        tried.append({x: side + 5 * i + 2 for i, x in enumerate(model.letters)})
    for each in (*tried, {}):
        ran = model.at({**each, **batch})
        shape = ran.trace.inputs[0].shape
        if not ran.trace.ops:
            continue  # refused before anything ran
        wrong = differs(walk, made, ran)
        if wrong is not None:
            path = layers_of(walk.trace)[wrong].path
            raise Unsupported(
                f"{model.name} has no closed expressions: at {'×'.join(map(str, shape))} the operator "
                f"{walk.trace.ops[wrong].name.removeprefix('aten.')} in {path} is another: "
                "the forward decides by the size itself"
            )
        yield shape


def differs(walk: Walk, made: list[Poly], ran: ResizedRun) -> int | None:
    """The first operator whose shapes, multiply–accumulates or bytes are not what the letters say, None if none is."""
    given = ran.trace.inputs[0].shape
    of = {x.upper(): m for x, m in zip(walk.layout, given, strict=True) if x.upper() in walk.values}
    for name, closed in walk.defined.items():
        of[name] = closed.value(of)
    done = works(ran.trace)
    seen = observed(ran.trace)
    for at, (own, other) in enumerate(zip(walk.trace.ops, ran.trace.ops, strict=False)):
        shapes = [tuple(side.value(of) for side in walk.of(t)) for t in own.outputs]
        work = done[at]
        macs = work.macs if work is not None else 0
        if own.name != other.name or shapes != [t.shape for t in other.outputs] or walk.macs[at].value(of) != macs:
            return at
        if made[at].value(of) != seen[at]:
            return at
    if ran.error is None and len(ran.trace.ops) != len(walk.trace.ops):
        return min(len(ran.trace.ops), len(walk.trace.ops)) - 1
    return None


# -------------------------------------------------------------------------------------------------------- formats

COLUMNS = (
    Column("path", "Layer"),
    Column("kind", "Kind"),
    Column("output", "Output"),
    Column("macs", "MACs", below=True),
    Column("activations", "Activations (bytes)", below=True),
)


def shape_of(dims: Dims, write: Callable[[Poly], str] = lambda side: side.text, by: str = "×") -> str:
    """`N×96×h1×w1`."""
    return by.join(write(side) if len(side.terms) < 2 else f"({write(side)})" for side in dims)


def table(closed: SymbolicSizes) -> Table:
    """The rows, with the named sides and the sums as notes."""
    shown = tuple(
        {
            "path": part.path,
            "kind": part.kind,
            "output": shape_of(part.output),
            "macs": part.macs.text if part.macs.terms else "0",
            "activations": part.activations.text,
        }
        for part in closed.parts
    )
    return Table(
        title=f"{closed.model}, input {shape_of(closed.input)}",
        columns=COLUMNS,
        rows=shown,
        notes=(
            *_paired(closed),
            f"output: {', '.join(shape_of(dims) for dims in closed.output)}",
            f"MACs: {summed(closed.macs)}",
            f"activations in bytes: {summed(closed.activations)}",
            *_holds(closed),
        ),
        caption=_caption(closed),
    )


def _paired(closed: SymbolicSizes) -> list[str]:
    """`h1 = ⌊(H − 7)/4⌋, w1 = ⌊(W − 7)/4⌋`: the sides of one number in one line."""
    lines: dict[str, list[str]] = {}
    for name, text in sides(closed, lambda side: side.text):
        lines.setdefault(name[1:], []).append(f"{name} = {text}")
    return [", ".join(line) for line in lines.values()]


def _holds(closed: SymbolicSizes) -> list[str]:
    alone = [closed.alone] if closed.alone else []
    if not closed.fixed:
        return alone
    first, *more = closed.fixed
    also = f" and {len(more)} more" if more else ""
    return [f"{first}{also} takes one size only: `archscope sizes {closed.model}` says which inputs give it", *alone]


def _caption(closed: SymbolicSizes) -> str:
    letters = ", ".join(f"{name}: {MEANS[name]}" for name in closed.letters)
    runs = ", ".join("×".join(map(str, shape)) for shape in closed.checked)
    against = (
        f" Compared with runs on {runs}." if runs else " Compared with no other run: the model takes this size only."
    )
    return f"{letters}.{against} {versions(closed.versions)}"


def sides(closed: SymbolicSizes, write: Callable[[Poly], str]) -> list[tuple[str, str]]:
    """Each named side: its name and what it is."""
    return [(name, write(form)) for name, form in closed.sides.items()]


def summed(total: Poly, write: Callable[[Poly], str] = lambda form: form.text, times: str = "·") -> str:
    """A sum over the layers, N taken out where it is in every term."""
    if len(total.terms) > 1 and all(any(a == N for a in powers) for powers, _ in total.terms):
        inside = []
        for powers, count in total.terms:
            left = list(powers)
            left.remove(N)
            inside.append((tuple(left), count))
        return f"N{times}({write(Poly(tuple(inside)) + 0)})"
    return write(total)


def json(closed: SymbolicSizes) -> str:
    """Expressions of Python: `34848*N*h1*w1`, with `sides` first, in this order."""
    body = {
        "model": closed.model,
        "input": [side.code for side in closed.input],
        "letters": closed.letters,
        "sides": {name: form.code for name, form in closed.sides.items()},
        "output": [[side.code for side in dims] for dims in closed.output],
        "macs": closed.macs.code,
        "activations": closed.activations.code,
        "layers": [
            {
                "path": part.path,
                "kind": part.kind,
                "output": [side.code for side in part.output],
                "macs": part.macs.code,
                "activations": part.activations.code,
            }
            for part in closed.parts
        ],
        "notes": _holds(closed),
        "checked": [list(shape) for shape in closed.checked],
    }
    return json_format.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _maths(form: Poly) -> str:
    return form.latex


def md(closed: SymbolicSizes) -> str:
    """Markdown with maths as GitHub renders it."""
    head = ["Layer", "Output", "MACs", "Activations (bytes)"]
    lines = [f"| {' | '.join(head)} |", f"|{':--|' * len(head)}"]
    for part in closed.parts:
        output = shape_of(part.output, _maths, r" \times ")
        cells = [escaped(part.path, "md"), f"${output}$", f"${_maths(part.macs)}$", f"${_maths(part.activations)}$"]
        lines.append(f"| {' | '.join(cells)} |")
    blocks = [
        f"**{escaped(closed.model, 'md')}, input ${shape_of(closed.input, _maths, chr(92) + 'times ')}$**",
        "\n".join(lines),
        "\n".join(f"- ${_index(name)} = {text}$" for name, text in sides(closed, _maths)),
        f"MACs: ${summed(closed.macs, _maths, ' ')}$",
        f"Activations in bytes: ${summed(closed.activations, _maths, ' ')}$",
        *(escaped(text, "md") for text in _holds(closed)),
        f"*{escaped(_caption(closed), 'md')}*",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _index(name: str) -> str:
    return f"{name[0]}_{{{name[1:]}}}"


def latex(closed: SymbolicSizes) -> str:
    """A table for pdflatex, with the packages amsmath and booktabs, and the sides and sums under it."""
    given = shape_of(closed.input, _maths, r" \times ")
    rows_ = [
        f"    {escaped(part.path, 'latex')} & ${shape_of(part.output, _maths, chr(92) + 'times ')}$ & "
        rf"${_maths(part.macs)}$ & ${_maths(part.activations)}$ \\"
        for part in closed.parts
    ]
    lines = [
        r"% \usepackage{amsmath, booktabs}",
        r"\begin{table}[htbp]",
        r"  \centering",
        rf"  \caption{{{escaped(closed.model, 'latex')}, input ${given}$}}",
        r"  \begin{tabular}{llll}",
        r"    \toprule",
        r"    Layer & Output & MACs & Activations (bytes) \\",
        r"    \midrule",
        *rows_,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \par\medskip",
        *(rf"  ${_index(name)} = {text}$\par" for name, text in sides(closed, _maths)),
        rf"  MACs: ${summed(closed.macs, _maths, ' ')}$\par",
        rf"  Activations in bytes: ${summed(closed.activations, _maths, ' ')}$\par",
        *(rf"  {escaped(text, 'latex')}\par" for text in _holds(closed)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


OWN = {"json": json, "md": md, "latex": latex}


def page(closed: SymbolicSizes, format: str, **options: Any) -> str:
    """The expressions in a format; JSON has expressions of Python, Markdown and LaTeX have maths."""
    return OWN[format](closed) if format in OWN else text_of(table(closed), format, **options)
