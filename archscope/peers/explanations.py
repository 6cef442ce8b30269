"""Does a printed figure agree with the network it stands beside, and if not, why not?

    agrees             to the digits that are printed
    agrees as MACs     the column says FLOPs and holds multiply-adds: a factor of 2; `as FLOPs` the other way round
    as published       a paper prints this figure, and it is known why it is not what the network has
    agrees by TOOL     it is what that tool counts
    explained          another input, head, … gives this figure
    disagrees          nothing of this does
    unknown model, not run, no number

What could explain a figure is tried, not guessed: each cause is a count of its own, of the same record or of another
run, and is named when the printed digits are those of that count.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from math import isqrt, log
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.row import Row, rows
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers import published
from archscope.peers.model_names import Known, candidates, in_torchvision, nearest
from archscope.peers.printed_table import Cell, Line
from archscope.peers.published import Rounded
from archscope.peers.tools import COUNTERS
from archscope.sources.loading import inputs_of
from archscope.sources.records import reason, record_of
from archscope.sources.spec import parse
from archscope.zoo.catalogue import entries


class Judged(NamedTuple):
    """One printed figure, judged.

    spec: the network that it was held against, "" where none is known. value: the figure, as read; counted: what it was
    held against, both None where there is nothing. because: in words.
    """

    line: Line
    cell: Cell
    verdict: str
    spec: str = ""
    value: Fraction | None = None
    counted: int | None = None
    because: str = ""

    @property
    def rank(self) -> int:
        """How good it is: 0 agrees."""
        order = ("agrees", "agrees as MACs", "agrees as FLOPs", "as published", "agrees by", "explained")
        return next((i for i, word in enumerate(order) if self.verdict.startswith(word)), len(order))


FAILED = "disagrees"


def judged(line: Line, input: str = "") -> list[Judged]:
    """Every figure of a row. input: of the whole table, for rows that do not give theirs."""
    own = candidates(line.model)
    found = _best(line, own, input)
    if not found or any(one.verdict != "agrees" for one in found):
        more = in_torchvision(line.model)
        found = _best(line, [*own, *more], input) if more else found
        own = [*own, *more]
    if not found:
        return [Judged(line, cell, "unknown model", because=nearest(line.model)) for cell in line.cells]
    return [_explained(one, own, input) if one.verdict == FAILED else one for one in found]


def _best(line: Line, known: Iterable[Known], input: str) -> list[Judged]:
    """The row held against each network that it may be: by the one that fits best, the first of equals."""
    tried = [[_judge(line, cell, one, input) for cell in line.cells] for one in known]
    return min(tried, key=lambda each: sum(one.rank for one in each), default=[])


def _judge(line: Line, cell: Cell, known: Known, input: str) -> Judged:
    if not cell.readings:
        return Judged(line, cell, "no number", known.spec, because=f"{cell.text!r} is not a number")
    try:
        record = run(known.spec, line.input or known.input or input)
    except Exception as error:
        return Judged(line, cell, "not run", known.spec, because=reason(error))
    counted = totals(record)["params" if cell.quantity == "params" else "macs"]
    reading = nearest_reading(cell, counted)
    one = Judged(line, cell, FAILED, known.spec, reading.value, counted)
    for verdict, count, because in _agreements(record, cell):
        if (held := holding(cell, count)) is not None:
            return one._replace(verdict=verdict, value=held.value, counted=count, because=because)
    told = _published(record, known, cell)
    if told:
        return one._replace(verdict="as published", because=told)
    if cell.quantity != "params":
        for name, count, because in _tools(record):
            if (held := holding(cell, count)) is not None:
                return one._replace(verdict=f"agrees by {name}", value=held.value, counted=count, because=because)
    return one._replace(because=_off(one, cell))


@functools.lru_cache(maxsize=64)
def run(spec: str, input: str = "") -> Trace:
    """The record of a network on an input. Raises what the run raises."""
    return record_of(spec, input or None)


# ------------------------------------------------------------------------------------------------------- agreement


def holding(cell: Cell, count: Fraction | int) -> Rounded | None:
    """The reading of a cell to which a count rounds, None where there is none."""
    return next((value for _, value in cell.readings if value.holds(count)), None)


def nearest_reading(cell: Cell, count: int) -> Rounded:
    """The reading that is nearest to a count, by their ratio: it decides the unit where nothing says it."""
    return min((value for _, value in cell.readings), key=lambda one: abs(log(max(one.value, 1) / max(count, 1))))


def _agreements(record: Trace, cell: Cell) -> Iterator[tuple[str, int, str]]:
    """(verdict, count, because) for what a column with this heading may hold."""
    found = totals(record)
    if cell.quantity == "params":
        yield "agrees", found["params"], ""
        return
    doubled = [(2 * found["macs"], "2 for each multiply-add"), (found["flops"], "with elementwise work and biases")]
    if cell.quantity == "macs":
        yield "agrees", found["macs"], ""
        for count, because in doubled:
            yield "agrees as FLOPs", count, because
    else:
        for count, because in doubled:
            yield "agrees", count, because
        yield "agrees as MACs", found["macs"], ""


def _published(record: Trace, known: Known, cell: Cell) -> str:
    """What is known of this very figure where a paper prints it; empty where none does."""
    quantity = "params" if cell.quantity == "params" else "macs"
    for figure in published.figures(known.spec):
        same = figure.quantity == quantity and not figure.layers and published.answers(record, figure)
        if same and any(figure.rounded.value == value.value for _, value in cell.readings):
            verdict = published.check(record, figure)
            if verdict.holds:
                return verdict.text.partition("; ")[2]
    return ""


def _tools(record: Trace) -> Iterator[tuple[str, int, str]]:
    """What the tools would print, and twice that."""
    for counter in COUNTERS.values():
        account = counter.convention(record)
        if account.figure is not None:
            most = sorted(account.items, key=lambda item: -abs(item.amount))[:2]
            because = "; ".join(f"{item.amount:+,} {item}" for item in most)
            yield counter.name, account.figure, f"{counter.title}: {because}" if because else counter.title
            if counter.unit == "MAC":
                yield f"{counter.name}, twice", 2 * account.figure, f"2 · {counter.title}: {because}"


def _off(one: Judged, cell: Cell) -> str:
    """`12.3 % more than 4,089,184,256 MACs`, of the count that is nearest."""
    assert one.value is not None and one.counted is not None
    near, word = one.counted, "parameters" if cell.quantity == "params" else "MACs"
    if cell.quantity != "params" and abs(one.value - 2 * near) < abs(one.value - near):
        near, word = 2 * near, "FLOPs"
    if not near:
        return f"the network has no {word}"
    ratio = one.value / near
    if ratio > 2 or ratio < Fraction(1, 2):
        return f"{float(ratio):.3g} times {near:,} {word}"
    return f"{float(abs(ratio - 1)):.2%} {'more' if ratio > 1 else 'less'} than {near:,} {word}".replace("%", " %", 1)


# ---------------------------------------------------------------------------------------------------------- causes


class Cause(NamedTuple):
    """Something that would explain a figure. amount: what it would be."""

    text: str
    amount: int


def _explained(one: Judged, known: Iterable[Known], input: str) -> Judged:
    """The figure with the first cause that gives its digits, where there is one."""
    specs = {each.spec: each for each in known}
    tried = set()
    for spec in dict.fromkeys([one.spec, *specs]):
        side = one.line.input or specs[spec].input or input
        try:
            record = run(spec, side)
        except Exception:
            continue
        same = totals(record)["params"], totals(record)["macs"]
        if same in tried:  # the same network of another source
            continue
        tried.add(same)
        for cause in _causes(spec, side, record, one):
            for factor in (1,) if one.cell.quantity == "params" else (2, 1) if one.cell.quantity == "flops" else (1, 2):
                if holding(one.cell, factor * cause.amount) is not None:
                    what = "" if one.cell.quantity == "params" else " FLOPs" if factor == 2 else " MACs"
                    because = f"{one.because}; {cause.text}: {factor * cause.amount:,}{what}"
                    return one._replace(verdict="explained", spec=spec, because=because)
    return one


def _causes(spec: str, side: str, record: Trace, one: Judged) -> Iterator[Cause]:
    key = "params" if one.cell.quantity == "params" else "macs"
    yield from _parts(record, key)
    sizes, builds = list(_resized(spec, record, one)), list(_rebuilt(spec))
    both = [  # small pictures come with few classes
        (f"{text} and {more.removeprefix('with ')}", changed, resized)
        for text, _, resized in sizes
        for more, changed, _ in builds[:2]
        if int(resized) <= SMALL
    ]
    for text, changed, resized in [*sizes, *builds, *both]:
        try:
            yield Cause(text, totals(run(changed, resized or side))[key])
        except Exception:
            continue  # a builder that has no such argument, an input that does not fit
    yield from _others(spec, key, record)
    total = totals(record)[key]
    yield Cause("in a unit that is 1,000 times too small", total // 1000)
    yield Cause("in a unit that is 1,000 times too large", 1000 * total)


SMALL = 64
SIDES = (32, 64, 96, 112, 128, 160, 192, 208, 224, 227, 240, 256, 260, 288, 299, 300, 320, 331, 352, 380, 384, 416, 448,
         456, 480, 512, 518, 528, 600, 608, 640, 768, 800, 1024)  # fmt: skip


def _resized(spec: str, record: Trace, one: Judged) -> Iterator[tuple[str, str, str]]:
    """Usual inputs whose side is what the ratio of the figures makes likely."""
    shape = record.inputs[0].shape
    macs = totals(record)["macs"]
    if one.cell.quantity == "params" or len(shape) != 4 or not macs or one.value is None:
        return
    own = _own_side(spec)
    for factor in (1, 2):
        likely = isqrt(int(shape[-1] ** 2 * one.value / (factor * macs)))
        for side in sorted({*SIDES, own}, key=lambda each: abs(each - likely)):
            near = abs(side - likely) <= max(8, likely // 12)
            if side not in (0, shape[-1]) and (near or side == own and factor == 1):
                yield f"with an input of {side}×{side}", spec, str(side)


def _own_side(spec: str) -> int:
    """The side of a network's own pictures, 0 where it has none."""
    given = inputs_of(parse(spec))
    return given[0].input.shape[-1] if given and len(given[0].input.shape) == 4 else 0


def _rebuilt(spec: str) -> Iterator[tuple[str, str, str]]:
    """Other arguments of the builder: classes, channels, auxiliary heads."""
    parsed = parse(spec)
    keys = parsed.source.keys(parsed.name)

    def may(key: str) -> bool:
        return key not in parsed.arguments and (keys is None or key in keys)

    if may("num_classes"):
        for classes in (10, 100, 1000, 21, 200, 365, 1001, 21841, 21843):
            yield f"with {classes:,} classes", f"{spec}@num_classes={classes}", ""
    if may("in_channels") and keys is not None:
        for channels in (1, 3):
            yield f"with {channels} input channel{'s' if channels > 1 else ''}", f"{spec}@in_channels={channels}", ""
    if keys is not None and may("aux"):
        yield "with its auxiliary heads", f"{spec}@aux=true", ""


def _parts(record: Trace, key: str) -> Iterator[Cause]:
    """Counts of a part of the network."""
    table = rows(record)
    total = totals(record)
    dense = [row for row in table if row.kind == "Linear"]

    def less(chosen: Callable[[Row], bool]) -> int:
        return sum(value or 0 for value in METRICS[key].of(record, [row for row in table if not chosen(row)]))

    if dense and record.layers:
        last = dense[-1]
        yield Cause("without the classifier", less(lambda row: row.path == last.path))
        if len(dense) > 1:
            yield Cause("without the fully connected layers", less(lambda row: row.kind == "Linear"))
    if key == "macs":
        yield Cause("of the convolutions alone", less(lambda row: not row.kind.startswith("Conv")))
        yield Cause(
            "of the convolutions alone, without those in shortcuts",
            less(lambda row: not row.kind.startswith("Conv") or ".downsample" in row.path),
        )
        return
    norms = sum(p.tensor.numel for row in table for p in row.params if "Norm" in row.kind)
    biases = sum(
        p.tensor.numel for row in table for p in row.params if p.name.endswith("bias") and "Norm" not in row.kind
    )
    params, buffers = total["params"], total["buffers"]
    yield Cause("without the biases", params - biases)
    yield Cause("without the norms", params - norms)
    yield Cause("of the weights alone, without biases and norms", params - norms - biases)
    yield Cause("of the trainable parameters alone", total["trainable"])
    yield Cause("with the running statistics of the norms", params + buffers - _counters(record))
    yield Cause("in bytes of float32: a size, not a number of parameters", 4 * params)
    yield Cause("in MiB of float32: a size, not a number of parameters", 4 * params * 10**6 // 2**20)
    yield Cause("with an M of 1,048,576", params * 10**6 // 2**20)


def _counters(record: Trace) -> int:
    """Buffers that count batches, which are no statistics."""
    return sum(b.tensor.numel for b in record.buffers if b.name.endswith("num_batches_tracked"))


def _others(spec: str, key: str, record: Trace) -> Iterator[Cause]:
    """What the other networks of the family have: a figure that has slipped from another row."""
    head = spec.partition("@")[0]
    family = entries()[head].family if head in entries() else None
    for name, entry in entries().items():
        if entry.family == family and name != head:
            own = inputs_of(parse(name))[0].input.shape
            here = key == "params" or own == record.inputs[0].shape
            where = "" if here else f" with an input of {own[-2]}×{own[-1]}"
            yield Cause(f"this is what {name} has{where}", getattr(entry, key))


# ----------------------------------------------------------------------------------------------------- the table

SHOWN = (
    Column("line", "Line", "count", priority=4),
    Column("model", "Row"),
    Column("spec", "Read as", priority=2),
    Column("heading", "Column", priority=1),
    Column("printed", "Printed"),
    Column("counted", "Counted", "count", priority=3),
    Column("verdict", "Verdict"),
    Column("because", "Because", priority=5, below=True),
)
HIDDEN = (Column("quantity", "Quantity"), Column("value", "Value"), Column("input", "Input"))


def verdict_table(title: str, found: Iterable[Judged], made_with: str = "") -> Table:
    """A row for each printed figure."""
    listed = list(found)
    shown: list[dict[str, Any]] = []
    for one in listed:
        value = one.value
        shown.append(
            {
                "line": one.line.number,
                "model": one.line.model,
                "spec": one.spec or None,
                "heading": one.cell.heading,
                "printed": one.cell.text,
                "counted": one.counted,
                "verdict": one.verdict,
                "because": one.because or None,
                "quantity": one.cell.quantity,
                "value": None if value is None else int(value) if value.denominator == 1 else float(value),
                "input": one.line.input or None,
            }
        )
    return Table(title, SHOWN, tuple(shown), (_summary(listed), *_mixed(listed)), made_with, hidden=HIDDEN)


_DOUBLE = {"agrees as MACs": "MACs", "agrees as FLOPs": "FLOPs"}


def _mixed(listed: list[Judged]) -> Iterator[str]:
    """For each column whose heading and figures differ by the factor of 2, and for one that mixes both."""
    for heading in dict.fromkeys(one.cell.heading for one in listed if one.cell.quantity != "params"):
        column = [one for one in listed if one.cell.heading == heading]
        for verdict, word in _DOUBLE.items():
            other = [one for one in column if one.verdict == verdict]
            plain = [one for one in column if one.verdict == "agrees"]
            if other and plain:
                odd = plain if len(plain) <= len(other) else other
                told = f"{heading} mixes MACs and FLOPs, a factor of 2: {len(other)} of {len(plain) + len(other)}"
                yield f"{told} are {word}; the odd one{'s' if len(odd) > 1 else ''} out: {_named(odd)}"
            elif other:
                yield f"{heading} holds {word}: a factor of 2"


def _named(some: list[Judged]) -> str:
    names = list(dict.fromkeys(one.line.model for one in some))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _summary(listed: list[Judged]) -> str:
    """`12 figures: 7 agree, 3 agree as MACs, 1 explained, 1 disagrees`."""
    counts: dict[str, int] = {}
    for one in listed:
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
    parts = (f"{count} {_several(verdict) if count > 1 else verdict}" for verdict, count in counts.items())
    return f"{len(listed)} figure{'s' if len(listed) != 1 else ''}: {', '.join(parts)}"


def _several(verdict: str) -> str:
    head, _, rest = verdict.partition(" ")
    head = {"agrees": "agree", "disagrees": "disagree"}.get(head, head)
    return " ".join(filter(None, (head, rest))).replace("model", "models").replace("no number", "no numbers")


def failed(found: Iterable[Judged]) -> bool:
    """Whether a figure disagrees and nothing explains it."""
    return any(one.verdict == FAILED for one in found)
