"""When a forward fails on a shape: which two numbers clash, where each comes from, and what would mend it.

    fc6 (Linear) expects 9216 = 256·6·6 features, gets 6400 = 256·5·5 after pool5; inputs of side 227 to 258 work, or
    conv1 with padding=2, or fc6 with in_features=6400

A kind of failure is a function of `clashes.py`, entered under the operators that refuse. Every remedy that is named
has been tried: the model ran with it, at least past the layer that failed. `diagnose` gives the sentence, `examined`
the whole: the chain of layers up to the failure with each derivation, the clash, the remedies. A notebook, a script and
the command line get it as text from `ShapeError.explain()`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from archscope.analysis.row import Row
from archscope.analysis.texts import shape_text, window_text
from archscope.analysis.verification import WHOLE, check
from archscope.core.errors import ArchscopeError, ShapeError
from archscope.core.formats import text_of
from archscope.core.record import Tensor
from archscope.core.table import Column, Table
from archscope.shapes.case import FailureCase, Mismatch
from archscope.shapes.legal import by_formula
from archscope.shapes.mismatches import MISMATCHES, batch_or_channels, one_example, stated
from archscope.shapes.resize import ResizableModel, resized
from archscope.sources.loading import inputs_of
from archscope.sources.spec import Spec, parse

WIDEST = 1 << 14  # input sides are searched up to here
NEXT = 8  # sides behind the first that works, which must work too before a range is named
LONG = 24  # rows of a chain; of a longer one the end is shown

Run = Callable[[int], Any]  # runs the model on a square input of this side; raises what the tracer raises


@dataclass(frozen=True)
class Diagnosis:
    """clash: what does not fit, in one sentence. mends: what would make it fit, each tried. chains: the layers that
    lead to each tensor that clashes. place: file and line of the forward."""

    clash: str
    mends: tuple[str, ...] = ()
    chains: tuple[Table, ...] = ()
    place: str = ""

    @property
    def sentence(self) -> str:
        """All in one line, without the chains."""
        first, *rest = self.mends or ("",)
        first += "" if not first or first.endswith((" work", " works")) or " takes " in first else " works"
        said = f"; {', or '.join([first, *rest])}" if first else ""
        return f"{self.clash}{f', at {self.place}' if self.place else ''}{said}"

    def text(self, width: int | None = None, color: bool = False) -> str:
        """The whole, for a terminal."""
        blocks = [text_of(table, "terminal", width=width, color=color).rstrip() for table in self.chains]
        blocks.append(self.clash + (f"\nat {self.place}" if self.place else ""))
        if self.mends:
            blocks.append("\n".join(["What would mend it:", *(f"· {mend}" for mend in self.mends)]))
        return "\n\n".join(blocks) + "\n"


def diagnose(error: ShapeError, spec: Spec | None = None) -> str:
    """One sentence: what clashes, where it comes from, and what would mend it.

    error: with the failure that the tracer attaches. Falls back to the error's own sentence where there is no more to
    say.
    """
    return examined(error, spec).sentence


def examined(error: ShapeError, spec: Spec | None = None) -> Diagnosis:
    """The diagnosis of a failure; made once for each."""
    failure = error.failure
    if failure is None or not failure.trace.inputs:
        return Diagnosis(str(error))
    kept = failure.trace.__dict__.setdefault("_kept", {})
    if ("examined",) not in kept:
        kept["examined",] = _examined(error, spec or _spec(failure.trace.model))
    return kept["examined",]


def _spec(name: str) -> Spec | None:
    try:
        return parse(name)
    except ArchscopeError:
        return None


def _examined(error: ShapeError, spec: Spec | None) -> Diagnosis:
    case = FailureCase.of(error, _layout(error, spec))
    rule = MISMATCHES.get(case.op.name) if case.op is not None else None
    found = one_example(case) or batch_or_channels(case) or stated(case) or (rule(case) if rule is not None else None)
    if found is None:
        found = Mismatch(_plain(error, case), (), tuple(case.op.inputs[:2]) if case.op is not None else ())
    mends = list(found.mends)
    if found.sizes and (fits := inputs_that_fit(case)):
        mends.insert(0, fits)
    if found.channels is not None and spec is not None and (key := _in_channels(spec, found.channels)):
        mends.insert(0, key)
    shown = [chain(case, t, found.tensors) for t in dict.fromkeys(found.tensors)]
    return Diagnosis(found.says, tuple(mends), tuple(c for c in shown if c is not None and c.rows), case.place)


def _plain(error: ShapeError, case: FailureCase) -> str:
    text = str(error)
    return text.removesuffix(f", at {case.place}") if case.place else text


def _layout(error: ShapeError, spec: Spec | None) -> str:
    """The layout of the input, where the source of the model tells it."""
    shape = error.failure.trace.inputs[0].shape
    try:
        given = inputs_of(spec) if spec is not None and not spec.source.saved else ()
    except ArchscopeError:
        return ""
    return given[0].layout if given and len(given[0].layout) == len(shape) else ""


def _in_channels(spec: Spec, channels: int) -> str:
    """What to type for this number of channels."""
    if "in_channels" not in spec.keys or spec.arguments.get("in_channels") == channels:
        return ""
    head, *pairs = spec.text.split("@")
    kept = "".join(f"@{pair}" for pair in pairs if not pair.startswith("in_channels="))
    text = f"{head}@in_channels={channels}{kept}"
    try:
        resized(text)
    except ArchscopeError:
        return ""
    return f"`{text}` takes {channels}"


# ------------------------------------------------------------------------------------------------------ the chain

CHAIN = (
    Column("path", "Layer"),
    Column("kind", "Kind", priority=1),
    Column("window", "Kernel", priority=2),
    Column("input", "Input", "shape", priority=3),
    Column("formula", "Derivation", below=True),
    Column("output_shape", "Output", "shape"),
)


def chain(case: FailureCase, tensor: Tensor, all_of: Iterable[Tensor]) -> Table | None:
    """The layers that lead to a tensor and change the shape; of several tensors, those that lead to this one alone."""
    own = case.behind(tensor)
    others = [case.behind(t) for t in all_of if t.id != tensor.id]
    if others:
        own = own - frozenset.intersection(*others) or own
    table = list({id(row): row for at in sorted(own) if (row := case.row.get(at)) is not None}.values())
    checks = dict(zip(map(id, table), check(case.trace, table), strict=True)) if table else {}
    shown = []
    for row in table:
        if row.inputs and row.outputs and row.inputs[0].shape != row.outputs[0].shape or _learns(row):
            derived = checks[id(row)].derived
            shown.append(
                {
                    "path": row.path,
                    "kind": row.kind,
                    "window": window_text(row.config),
                    "input": row.inputs[0].shape if len(row.inputs) == 1 or row.layer is not None else None,
                    "formula": shape_text(derived),
                    "output_shape": row.outputs[0].shape if row.outputs else None,
                }
            )
    left = len(shown) - LONG
    return Table(
        title=f"How {'×'.join(map(str, tensor.shape))} came about",
        columns=CHAIN,
        rows=tuple(shown[-LONG:]),
        notes=(f"{left} layers before these are left out",) if left > 0 else (),
    )


def _learns(row: Row) -> bool:
    return bool(row.params) and row.kind in WHOLE and "Norm" not in row.kind


# ------------------------------------------------------------------------------------------------------- the sizes


def inputs_that_fit(case: FailureCase) -> str:
    """`inputs of side 227 to 258 work`, empty where nothing of the kind is found."""
    model = case.model
    if model is None or not model.letters:
        return ""
    found = by_formula(model)
    word = "length" if model.letters == "t" else "side"
    if found is not None and found.minimum is not None and found.fits is None:
        return f"inputs of {word} {found.minimum} or more work"
    if found is not None and found.fits:
        return f"{ranges(found.fits, word, found.limit)} work{'s' if len(found.fits) == 1 else ''}"
    if found is not None or len(model.letters) != 2:
        return ""
    again = case.failure.rerun
    searched = fitting(lambda side: _square(model, side, again))
    return f"inputs of {_sides(*searched)}" if searched else ""


def _square(model: ResizableModel, side: int, again: Any) -> None:
    ran = model.at(side)
    if ran.error is not None:
        raise ran.error


def ranges(sides: Sequence[int], word: str = "side", limit: int | None = None) -> str:
    """`inputs of side 227 to 258`, `an input of side 227`, `inputs of side 16, 32, 48, … (every 16)`."""
    first, last = sides[0], sides[-1]
    if len(sides) == 1:
        return f"an input of {word} {first}"
    if len(sides) == last - first + 1:
        return f"inputs of {word} {first} to {last}"
    step = sides[1] - first
    if len(sides) > 3 and all(b - a == step for a, b in zip(sides, sides[1:], strict=False)):
        return f"inputs of {word} {first}, {sides[1]}, {sides[2]}, … (every {step})"
    if len(sides) <= 6:
        return f"inputs of {word} {', '.join(map(str, sides[:-1]))} and {last}"
    return f"inputs of {word} {', '.join(map(str, sides[:4]))}, …"


def _sides(low: int, high: int | None) -> str:
    if high is None:
        return f"side {low} or more work"
    return f"side {low} to {high} work" if low != high else f"side {low} work"


def fitting(run: Run) -> tuple[int, int | None] | None:
    """The smallest and the largest square input that works, None for the largest where all above work; or None where
    no such range is found. For a model without closed forms.

    The sides of a feature map never shrink as the input grows, so both ends are found by bisection; they and their
    neighbours are then run. Where a model takes every other size, say, nothing is claimed.
    """
    seen: dict[int, int] = {}

    def size(side: int) -> int:
        """-1 too small, 0 works, 1 too large."""
        if side not in seen:
            try:
                run(side)
                seen[side] = 0
            except ShapeError as error:
                more = error.expected is not None and error.got is not None and error.got > error.expected
                seen[side] = 1 if more else -1
        return seen[side]

    try:
        high = 1
        while size(high) < 0:
            high *= 2
            if high > WIDEST:
                return None
        first = _bisect(lambda side: size(side) >= 0, high)
        if size(first) or (first > 1 and size(first - 1) >= 0):
            return None
        if size(WIDEST) == 0:
            last = None
        else:
            last = _bisect(lambda side: size(side) > 0, WIDEST) - 1
            if size(last + 1) <= 0:
                return None
        upto = min(first + NEXT, last or WIDEST)
        return None if any(size(side) for side in (*range(first, upto + 1), last or WIDEST)) else (first, last)
    except ArchscopeError:
        return None


def _bisect(holds: Callable[[int], bool], high: int) -> int:
    """The smallest side from 1 to `high` for which it holds; it does at `high`."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def explanation(error: ShapeError, width: int | None = None, color: bool = False) -> str:
    """Everything that can be said of a failed forward: `ShapeError.explain`."""
    return examined(error).text(width, color) if error.failure is not None else str(error)
