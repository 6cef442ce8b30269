"""Which input sizes work: the smallest, those that a fixed layer fits, and those at which no window loses anything.

A window that must give at least o needs (o − 1)·s + d·(k − 1) + 1 − 2·pad, and gives the same o up to s − 1 more: the
closed form ⌊(m − p + 2·pad)/s⌋ + 1 turned round. Worked back from the fully connected layer, or from an output of 1,
through every window to the input, this gives the bounds; where branches meet, both must hold. The sets themselves come
from the closed forms in letters (`carry.py`), side by side, and each bound is confirmed by running the model at it and
at its neighbours. Where a forward decides by the size itself, no closed form holds, and every size is run: without a
record (`many.py`), and the bounds with one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from archscope.analysis.row import Row, rows
from archscope.analysis.verification import WHOLE
from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.shapes.many import RepeatedRuns, SizeOutcome, outcome_of
from archscope.shapes.polynomial import Poly, number
from archscope.shapes.resize import WINDOWS, ResizableModel, ResizedRun, lost_in
from archscope.shapes.symbolic_int import Unsupported
from archscope.shapes.walk import SizeRequirement, Walk, Window

LIMIT = 512  # sides are looked at up to here, or to twice the default
FURTHEST = 1 << 13  # where nothing works up to the limit, the smallest that does is looked for up to here
LARGER = (32, 64, 128, 224, 256, 512)  # where a model does not come through on its own input, these are tried
ALONE = 3  # of a set with gaps, the first so many bounds are run


class Bounds(NamedTuple):
    """The smallest and the largest side, None where there is no largest."""

    low: int
    high: int | None


class Step(NamedTuple):
    """A window on the way back. layers: those that are this window. source, out: its sides in letters. least, fixed:
    what its output must be, and what its input must be for that; None where nothing is asked."""

    layers: tuple[str, ...]
    window: Window
    least: tuple[Bounds, Bounds]
    fixed: tuple[Bounds, Bounds] | None


class FixedSizeLayer(NamedTuple):
    """A layer that takes one size only: its path and kind, and what it takes, in letters and as a number."""

    path: str
    kind: str
    side: Poly
    takes: int


@dataclass(frozen=True)
class AllowedSizes:
    """What `archscope sizes` says of one model.

    minimum: the smallest side that the windows and the branches fit; None where there is none up to `limit`. fits: the
    sides up to `limit` at which the whole model runs, None where that is every one from the minimum on. lossless: the
    sides up to `limit` at which no window leaves rows or columns out. side: what the sizes are of, "side" or "length".
    default: the model's own. below: the layer that fails below the minimum, and what it would give there. fixed: the
    layer that `fits` comes from. steps: the way back. walk: the closed forms. run: sides that the model was run at to
    confirm this; all of them where `closed` is None. closed: why not, a sentence, where no closed form holds.
    """

    model: str
    side: str
    default: int
    limit: int
    minimum: int | None
    fits: tuple[int, ...] | None
    lossless: tuple[int, ...]
    below: tuple[str, str] | None = None
    fixed: FixedSizeLayer | None = None
    steps: tuple[Step, ...] = ()
    run: tuple[int, ...] = ()
    searched: str = ""
    walk: Walk | None = field(default=None, repr=False)

    @property
    def body(self) -> dict[str, object]:
        """As JSON: the three answers."""
        return {
            "minimum": self.minimum,
            "fits": None if self.fits is None else list(self.fits),
            "lossless": list(self.lossless),
        }


def legal_sizes(
    model: ResizableModel, limit: int | None = None, counted: Callable[[range], Iterable[int]] = iter
) -> AllowedSizes:
    """The legal sizes of a model; its movable sides are set alike (a square).

    limit: the largest side that is looked at. counted: goes over the sides where all must be run, to show how far it
    is. Raises SpecError for a model whose input has no side that can be set, and what its forward raises at every size.
    """
    if not model.letters:
        raise SpecError(model.immovable)
    asked, limit = limit, limit or max(LIMIT, 2 * model.side)
    walk = closed_form(model)
    found = _by_formula(model, walk, limit)
    if not walk.stopped and (run := _confirmed(model, walk, found)) is not None:
        return _explained(model, walk, found, run)
    why = _why(walk.stopped) if walk.stopped else "the forward decides by the size itself"
    return _by_running(model, asked or LIMIT, f"{why}: every size was run", counted, walk)


def by_formula(model: ResizableModel, limit: int | None = None) -> AllowedSizes | None:
    """The legal sizes where closed forms hold, None where they do not; a few runs confirm them."""
    limit = limit or max(LIMIT, 2 * model.side)
    walk = closed_form(model)
    if walk.stopped:
        return None
    found = _by_formula(model, walk, limit)
    run = _confirmed(model, walk, found)
    return _explained(model, walk, found, run) if run is not None else None


def _why(stopped: Unsupported) -> str:
    return f"no closed form behind the operator {stopped.op} ({stopped})"


def closed_form(model: ResizableModel) -> Walk:
    """The model in letters: the walk over the run that comes furthest, with the probe that carries it furthest."""
    base, side = model.at({}), None
    for other in LARGER if base.error is not None and model.letters else ():
        ran = model.at(other)
        if len(ran.trace.ops) > len(base.trace.ops) and (ran.error is not None or model.works(ran)):
            base, side = ran, other
    refused = base.error.failure.op if base.error is not None else None
    best: Walk | None = None
    furthest = (False, -1)
    for probe in model.probes(side):
        walk = Walk(base.trace, model.layout, probe, refused).run()
        # behind the end of a probe a number that the forward computes from a size is taken for one of its own
        known = all(need.at <= len(probe.ops) for need in walk.needs if need.kind == "fixed")
        if (known, len(walk.macs)) > furthest:
            best, furthest = walk, (known, len(walk.macs))
            if known and not walk.stopped:
                break
    return best if best is not None else Walk(base.trace, model.layout, None, refused).run()


def values(walk: Walk, model: ResizableModel, side: int) -> dict[str, int]:
    """Every letter of a walk for an input of this side."""
    of = dict(walk.values)
    of.update((x.upper(), side) for x in model.letters)
    for name, closed in walk.defined.items():
        of[name] = closed.value(of)
    return of


# ---------------------------------------------------------------------------------------------------- by formula


class _Limit(NamedTuple):
    limit: int
    minimum: int | None
    every: bool  # whether everything holds from the minimum on
    runs: tuple[int, ...]  # sides at which everything holds
    lossless: tuple[int, ...]


def _by_formula(model: ResizableModel, walk: Walk, limit: int) -> _Limit:
    """The three sets, each side put into the closed forms."""
    needs = list(dict.fromkeys((need.kind, need.left, need.right) for need in walk.needs))
    moving = [SizeRequirement(0, *need) for need in needs if need[0] != "fixed"]
    fixed = [SizeRequirement(0, *need) for need in needs if need[0] == "fixed"]
    moved = {x.upper() for x in model.letters}  # the frames of a video stay as many as they are
    slides = [w for w in walk.windows if w.source.replaced(walk.defined).letters & moved]
    windows = list(dict.fromkeys(w._replace(at=0, side=0) for w in slides if w.stride > 1 or w.source != w.out))

    def judged(side: int) -> tuple[bool, bool, bool]:
        of = values(walk, model, side)
        if not all(need.holds(of) for need in moving):
            return False, False, False
        return True, all(need.holds(of) for need in fixed), not any(window.lost(of) for window in windows)

    all_sides = {side: judged(side) for side in range(1, limit + 1)}
    minimum = next((side for side, (fits, *_) in all_sides.items() if fits), None)
    if minimum is None:
        minimum = next((side for side in range(limit + 1, FURTHEST) if judged(side)[0]), None)
    upto = range(minimum or 1, max(limit, 2 * (minimum or 1)) + 1)  # where the minimum lies beyond the limit
    return _Limit(
        limit,
        minimum,
        minimum is not None and all((all_sides.get(side) or judged(side))[1] for side in upto),
        tuple(side for side, (_, runs, _) in all_sides.items() if runs),
        tuple(side for side, (_, _, whole) in all_sides.items() if whole),
    )


def _confirmed(model: ResizableModel, walk: Walk, found: _Limit) -> tuple[int, ...] | None:
    """The sides that were run to confirm what the formulas say, None where one run is otherwise."""
    if found.minimum is None:
        return None
    wanted = {found.minimum, found.minimum - 1, min(model.side, found.limit), *_edges(found.runs, found.limit)}
    if found.lossless:
        first, *rest = found.lossless
        wanted |= {first, first + 1, *rest[:1], found.lossless[-1]}
    runs, whole = set(found.runs), set(found.lossless)
    tried = tuple(sorted(side for side in wanted if 1 <= side <= max(found.limit, found.minimum)))
    for side in tried:
        ran = model.at(side)
        of = values(walk, model, side)
        failed = [need for need in walk.needs if not need.holds(of)]
        if ran.error is not None:  # where the first of them is
            agrees = bool(failed) and min(need.at for need in failed) == len(ran.trace.ops)
        else:
            agrees = model.works(ran) != any(not _spread(walk, need, of) for need in failed)
        if side <= found.limit:
            agrees = agrees and (side in runs) != bool(failed)
            if all(need.kind == "fixed" for need in failed):
                agrees = agrees and (side in whole) != bool(lost_in(ran.trace, model.axes))
        if not agrees:
            return None
    return tried


def _spread(walk: Walk, need: SizeRequirement, of: dict[str, int]) -> bool:
    """Whether PyTorch runs in spite of a need: it spreads a side of 1 over another, which is not what was meant."""
    meets = need.kind in ("equal", "fixed") and need.at < len(walk.trace.ops)
    meets = meets and walk.trace.ops[need.at].name.startswith(("aten.add", "aten.mul", "aten.sub", "aten.div"))
    return meets and 1 in (need.left.value(of), need.right.value(of))


def _edges(sides: tuple[int, ...], limit: int) -> set[int]:
    """The ends of each stretch of a set and their neighbours, for the first stretches and the last."""
    ends = [side for i, side in enumerate(sides) if not i or sides[i - 1] != side - 1]
    ends += [side for i, side in enumerate(sides) if i == len(sides) - 1 or sides[i + 1] != side + 1]
    ends = sorted(ends)
    kept = ends[: 2 * ALONE] + ends[-2:]
    return {near for side in kept for near in (side - 1, side, side + 1) if near <= limit}


# ------------------------------------------------------------------------------------------------------- by runs


def _by_running(
    model: ResizableModel, limit: int, why: str, counted: Callable[[range], Iterable[int]], walk: Walk
) -> AllowedSizes:
    """The three sets, each size run without a record; with one, should one of those that are made say otherwise."""
    with RepeatedRuns(model) as many:
        found = _ran(model, {side: many.at(side) for side in counted(range(1, limit + 1))}, walk)
    tried = {found.minimum or limit, model.side, *_edges(found.runs, limit), *range(limit // 4, limit, limit // 4 or 1)}
    if found.lossless:
        tried |= {found.lossless[0], found.lossless[0] + 1, found.lossless[-1]}
    if any(outcome_of(model, model.at(side)) != found.came[side] for side in tried if 1 <= side <= limit):
        found = _ran(model, {side: outcome_of(model, model.at(side)) for side in counted(range(1, limit + 1))}, walk)
    below = limit if found.minimum is None else found.minimum - 1
    error = model.at(below).error if below else None
    if found.minimum is None and error is not None:
        raise error
    every = found.minimum is not None and found.runs == tuple(range(found.minimum, limit + 1))
    return AllowedSizes(
        model.name or "", _word(model), model.side, limit, found.minimum, None if every else found.runs,
        found.lossless, ("", str(error)) if error is not None else None, run=(), searched=why,
    )  # fmt: skip


class _SizeRange(NamedTuple):
    minimum: int | None
    runs: tuple[int, ...]
    lossless: tuple[int, ...]
    came: Mapping[int, SizeOutcome]


def _ran(model: ResizableModel, all_sides: Mapping[int, SizeOutcome], walk: Walk) -> _SizeRange:
    """The three sets from what each size comes to; which numbers clashed, only a record tells."""
    runs, whole = [], []
    minimum: int | None = None
    for side, ran in all_sides.items():
        if ran.failed:
            if not _behind_windows(ran.ops, walk) or not _too_far(model.at(side), walk):
                continue
        elif ran.works:
            runs.append(side)
        minimum = minimum or side
        if not ran.lost:
            whole.append(side)
    return _SizeRange(minimum, tuple(runs), tuple(whole), all_sides)


def _behind_windows(at: int, walk: Walk) -> bool:
    """Whether an operator is there in the walk, and no window from it on."""
    ops = walk.trace.ops
    return at < len(ops) and not any(op.name in WINDOWS for op in ops[at:])


def _too_far(ran: ResizedRun, walk: Walk) -> bool:
    """Whether a run stopped behind the windows, at a layer that takes one number of features."""
    return getattr(ran.error, "expected", None) is not None and _behind_windows(len(ran.trace.ops), walk)


def _word(model: ResizableModel) -> str:
    return "length" if model.letters == "t" else "side"


# ------------------------------------------------------------------------------------------------------ explained


def _explained(model: ResizableModel, walk: Walk, found: _Limit, run: tuple[int, ...]) -> AllowedSizes:
    """The sets with where they come from."""
    places = layers_of(walk.trace)
    below = None
    if found.minimum is not None and found.minimum > 1:
        of = values(walk, model, found.minimum - 1)
        failed = next(need for need in walk.needs if need.kind != "fixed" and not need.holds(of))
        below = (places[failed.at].path, _would_be(walk, failed, of))
    fixed = _fixed(walk, places)
    return AllowedSizes(
        model.name or "", _word(model), model.side, found.limit, found.minimum, None if found.every else found.runs,
        found.lossless, below, fixed, _steps(model, walk, places, fixed), run, "", walk,
    )  # fmt: skip


def _would_be(walk: Walk, need: SizeRequirement, of: dict[str, int]) -> str:
    """What fails: `would give 0×0`, `would join 4 and 5`."""
    if need.kind == "window":
        dims = [t for t in walk.trace.ops[need.at].outputs[:1]]
        sides = [d.value(of) for d in walk.dims[dims[0].id] if d.letters - {"N"}]
        return f"would give {'×'.join(str(max(side, 0)) for side in sides)}"
    left, right = need.left.value(of), need.right.value(of)
    return f"would part {left} into {right}" if need.kind == "divides" else f"would join {left} and {right}"


def layers_of(trace: Trace) -> dict[int, Row]:
    """The row of each operator; of the one at which a run stopped, the layer that was running."""
    found = {at: row for row in rows(trace, whole=WHOLE) for at in range(row.start, row.stop)}
    count = len(trace.ops)
    running = [y for y in trace.layers if y.stop == count and not y.outputs]
    if running and count not in found:
        last = max(running, key=lambda y: y.depth)
        found[count] = Row(*last[:7], last.start, last.stop, layer=last)
    return found


def _fixed(walk: Walk, places: dict[int, Row]) -> FixedSizeLayer | None:
    """The first layer that takes one size only."""
    for need in walk.needs:
        if need.kind == "fixed":
            left, right = (side.replaced({"N": number(1)}) for side in (need.left, need.right))
            side, takes = (left, right) if right.constant is not None else (right, left)
            if takes.constant is not None and side.constant is None:
                row = places[need.at]
                return FixedSizeLayer(row.path, row.kind, side, takes.constant)
    return None


def _steps(model: ResizableModel, walk: Walk, places: dict[int, Row], fixed: FixedSizeLayer | None) -> tuple[Step, ...]:
    """The windows that change the first side, worked back from the end."""
    base = model.letters[0].upper()
    least = {name: Bounds(1, None) for name in walk.values}
    wanted: dict[str, Bounds] = {}
    if fixed is not None:
        names = sorted(fixed.side.letters - {"N"})
        exact = side_of(fixed.side, fixed.takes)
        if exact is not None:
            wanted = {name: Bounds(exact, exact) for name in names}
    for name in reversed(walk.defined):
        for source, how in walk.parents.get(name, ()):
            least[source] = _both(least[source], preimage(how, source, least[name]))
            if name in wanted:
                wanted[source] = _both(wanted.get(source, Bounds(1, None)), preimage(how, source, wanted[name]))
    merged: dict[tuple[Poly, Poly, int, int, int, bool], list[str]] = {}
    first: dict[tuple[Poly, Poly, int, int, int, bool], Window] = {}
    for window in walk.windows:
        if window.source != window.out and (window.source.replaced(walk.defined)).letters == {base}:
            key = (window.source, window.out, window.span, window.stride, window.pad, window.ceil)
            path = places[window.at].path
            if path not in merged.setdefault(key, []):
                merged[key].append(path)
            first.setdefault(key, window)
    steps = []
    for key, window in reversed(first.items()):
        (source,), (out,) = window.source.letters, window.out.letters
        asked = (wanted[out], wanted[source]) if out in wanted and source in wanted else None
        steps.append(Step(tuple(merged[key]), window, (least[out], least[source]), asked))
    return tuple(steps)


def side_of(form: Poly, value: int) -> int | None:
    """The side that makes a form, `256·h5·w5`, this number, where all its letters are that side; None if none does."""
    names = form.letters - {"N"}

    def at(side: int) -> int:
        return form.value({**dict.fromkeys(names, side), "N": 1})

    side = _first(lambda m: at(m) >= value)
    return side if side is not None and at(side) == value else None


def preimage(how: Poly, source: str, wanted: Bounds) -> Bounds:
    """The sides m of the letter `source` for which low ≤ how(m) ≤ high; `how` never falls as m grows."""
    low = _first(lambda m: how.value({source: m}) >= wanted.low) or 1
    if wanted.high is None:
        return Bounds(low, None)
    above = _first(lambda m: how.value({source: m}) > (wanted.high or 0))
    return Bounds(low, above - 1 if above is not None else None)


def _first(holds: Callable[[int], bool]) -> int | None:
    """The smallest side from 1 on for which it holds, once and for all; None where none does up to 2²⁰."""
    high = 1
    while not holds(high):
        high *= 2
        if high > 1 << 20:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _both(one: Bounds, other: Bounds) -> Bounds:
    highs = [high for high in (one.high, other.high) if high is not None]
    return Bounds(max(one.low, other.low), min(highs) if highs else None)
