"""Does a printed figure agree with its network, and if not, why not?

    agrees             to the digits that are printed
    agrees as MACs     the column says FLOPs and holds multiply-adds: a factor of 2; `as FLOPs` the other way round
    as published       a paper prints this figure, and it is known why it differs from the network
    agrees by TOOL     that tool counts so
    explained          another input, head, … gives this figure
    disagrees          none of these
    unknown model, not run, no number

An explanation is a count of its own, of the same record or of another run. It holds where its digits are the printed
ones.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from math import isqrt, log
from typing import NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.row import Row, rows
from archscope.core.errors import ShapeError
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers import llm_figures, published
from archscope.peers.llm import other_counts
from archscope.peers.model_names import Candidate, candidates, in_torchvision, nearest
from archscope.peers.printed_table import Line, PrintedCell
from archscope.peers.published import Rounded
from archscope.peers.tools import COUNTERS
from archscope.sources.loading import inputs_of
from archscope.sources.records import reason, record_of, undiagnosed, with_diagnosis
from archscope.sources.spec import parse
from archscope.zoo.catalogue import entries


class JudgedFigure(NamedTuple):
    """One printed figure, judged.

    spec: the network that it is compared with, "" where none is known. value: the figure, as read; counted: the count
    that it is compared with, both None where there is none. because: in words.
    """

    line: Line
    cell: PrintedCell
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


def judged(line: Line, input: str = "") -> list[JudgedFigure]:
    """Every figure of a row. input: of the whole table, for rows that do not give theirs."""
    return [one._replace(line=line) for one in _judged(line._replace(number=0), input)]


@functools.lru_cache(maxsize=256)
def _judged(line: Line, input: str) -> list[JudgedFigure]:
    """The same for every row that says the same."""
    known = candidates(line.model)
    found = _best(line, known, input)
    if (not found or any(one.verdict != "agrees" for one in found)) and (more := in_torchvision(line.model)):
        known = [*known, *more]
        found = _best(line, known, input)
    if not found:
        return [JudgedFigure(line, cell, "unknown model", because=nearest(line.model)) for cell in line.cells]
    elsewhere = llm_figures.QUANTITIES  # these were explained where they were judged
    return [
        _explained(one, known, input) if one.verdict == FAILED and one.cell.quantity not in elsewhere else one
        for one in found
    ]


def _best(line: Line, known: Iterable[Candidate], input: str) -> list[JudgedFigure]:
    """The row compared with each network that it may be: by the one that fits best, the first of equals."""
    tried = [[_judge(line, cell, one, input) for cell in line.cells] for one in known]
    return min(tried, key=lambda each: sum(one.rank for one in each), default=[])


def _judge(line: Line, cell: PrintedCell, known: Candidate, input: str) -> JudgedFigure:
    if not cell.readings:
        return JudgedFigure(line, cell, "no number", known.spec, because=f"{cell.text!r} is not a number")
    try:
        side = line.input or known.input or input
        record = run(known.spec, side)
        if cell.quantity in llm_figures.QUANTITIES:
            if llm_figures.belongs(cell, record):
                found = llm_figures.answer(cell, known.spec)
                return JudgedFigure(line, cell, found.verdict, known.spec, found.value, found.counted, found.because)
            if cell.quantity == "cache":
                return JudgedFigure(
                    line, cell, "not run", known.spec, because="it has no attention over tokens: no KV cache"
                )
            cell = cell._replace(quantity=llm_figures.elsewhere(cell))
    except Exception as error:
        if isinstance(error, ShapeError) and error.failure is not None:
            error = with_diagnosis(error, parse(known.spec))
        return JudgedFigure(line, cell, "not run", known.spec, because=reason(error))
    total = totals(record)[_key(cell)]
    nearest_value = min(
        (one.value for _, one in cell.readings), key=lambda each: abs(log(max(each, 1) / max(total, 1)))
    )
    for verdict, count, because in _agreements(record, cell):
        if (match := _reading(cell, count)) is not None:
            return JudgedFigure(line, cell, verdict, known.spec, match.value, count, because)
    one = JudgedFigure(line, cell, FAILED, known.spec, nearest_value, total)
    if because := _published(record, known, cell):
        return one._replace(verdict="as published", because=because)
    for verdict, count, because in _tools(record) if cell.quantity != "params" else ():
        if (match := _reading(cell, count)) is not None:
            return one._replace(verdict=verdict, value=match.value, counted=count, because=because)
    return one._replace(because=_distance(nearest_value, total, cell))


def run(spec: str, input: str = "") -> Trace:
    """The record of a network on an input. Raises what the run raises."""
    found = _record(spec, input)
    if isinstance(found, Exception):
        raise found
    return found


@functools.lru_cache(maxsize=64)
def _record(spec: str, input: str) -> Trace | Exception:
    try:
        with undiagnosed():
            return record_of(spec, input or None)
    except Exception as error:
        return error.with_traceback(None)


def _key(cell: PrintedCell) -> str:
    return "params" if cell.quantity == "params" else "macs"


def _reading(cell: PrintedCell, count: Fraction | int) -> Rounded | None:
    """The reading of a cell to which a count rounds, None where there is none."""
    return next((value for _, value in cell.readings if value.holds(count)), None)


# ------------------------------------------------------------------------------------------------------- agreement


def _agreements(record: Trace, cell: PrintedCell) -> Iterator[tuple[str, int, str]]:
    """(verdict, count, because) for what a column with this heading may hold, the best first."""
    found = totals(record)
    doubled = [(2 * found["macs"], "2 for each multiply-add"), (found["flops"], "with elementwise work and biases")]
    if cell.quantity == "flops":
        yield from (("agrees", count, because) for count, because in doubled)
        yield "agrees as MACs", found["macs"], ""
    else:
        yield "agrees", found[cell.quantity], ""
        yield from (("agrees as FLOPs", *one) for one in doubled if cell.quantity == "macs")


def _published(record: Trace, known: Candidate, cell: PrintedCell) -> str:
    """What is known of this very figure where a paper prints it; empty where none does."""
    for figure in published.figures(known.spec):
        same = figure.quantity == _key(cell) and not figure.layers and published.answers(record, figure)
        if same and any(figure.rounded.value == value.value for _, value in cell.readings):
            verdict = published.check(record, figure)
            if verdict.holds:
                return verdict.text.partition("; ")[2]
    return ""


def _tools(record: Trace) -> Iterator[tuple[str, int, str]]:
    """What the tools would print, and twice that: (verdict, count, because)."""
    for counter in COUNTERS.values():
        account = counter.convention(record)
        if account.figure is not None:
            most = sorted(account.items, key=lambda item: -abs(item.amount))[:2]
            because = ": ".join(filter(None, (counter.title, "; ".join(f"{item.amount:+,} {item}" for item in most))))
            yield f"agrees by {counter.name}", account.figure, because
            if counter.unit == "MAC":
                yield f"agrees by {counter.name}, twice", 2 * account.figure, f"2 · {because}"


def _distance(value: Fraction, count: int, cell: PrintedCell) -> str:
    """`12.3 % more than 4,089,184,256 MACs`, of the count that is nearest."""
    word = "parameters" if cell.quantity == "params" else "MACs"
    if cell.quantity != "params" and abs(value - 2 * count) < abs(value - count):
        count, word = 2 * count, "FLOPs"
    if not count:
        return f"the network has no {word}"
    ratio = value / count
    if not Fraction(1, 2) <= ratio <= 2:
        return f"{float(ratio):.3g} times {count:,} {word}"
    return f"{100 * float(abs(ratio - 1)):.2f} % {'more' if ratio > 1 else 'less'} than {count:,} {word}"


# ---------------------------------------------------------------------------------------------------------- causes

Cause = tuple[str, int]  # what would explain a figure, and the count that it gives


def _explained(one: JudgedFigure, known: Iterable[Candidate], input: str) -> JudgedFigure:
    """The figure with the first cause that gives its digits, where there is one."""
    sides = {each.spec: each.input for each in known}
    tried = set()
    for spec in dict.fromkeys([one.spec, *sides]):
        side = one.line.input or sides[spec] or input
        try:
            record = run(spec, side)
        except Exception:
            continue
        same = totals(record)["params"], totals(record)["macs"]
        if same in tried:  # the same network of another source
            continue
        tried.add(same)
        factors = {"params": {1: ""}, "macs": {1: " MACs", 2: " FLOPs"}, "flops": {2: " FLOPs", 1: " MACs"}}
        for text, amount in _causes(spec, side, record, one):
            for factor, unit in factors[one.cell.quantity].items():
                if _reading(one.cell, factor * amount) is not None:
                    because = f"{one.because}; {text}: {factor * amount:,}{unit}"
                    return one._replace(verdict="explained", spec=spec, because=because)
    return one


def _causes(spec: str, side: str, record: Trace, one: JudgedFigure) -> Iterator[Cause]:
    key = _key(one.cell)
    yield from other_counts(record, key)
    yield from _parts_of_macs(record) if key == "macs" else _parts_of_params(record)
    sizes, builds = list(_resized(spec, record, one)), list(_rebuilt(spec))
    both = [  # small pictures come with few classes
        (f"{text} and {more.removeprefix('with ')}", changed, resized)
        for text, _, resized in sizes
        for more, changed, _ in builds[:2]
        if int(resized) <= SMALL
    ]
    for text, changed, resized in [*sizes, *builds, *both]:
        try:
            yield text, totals(run(changed, resized or side))[key]
        except Exception:
            continue  # a builder that has no such argument, an input that does not fit
    yield from _others_of_the_family(spec, key, record)
    yield "in a unit that is 1,000 times too small", totals(record)[key] // 1000
    yield "in a unit that is 1,000 times too large", 1000 * totals(record)[key]


SMALL = 64
SIDES = (32, 64, 96, 112, 128, 160, 192, 208, 224, 227, 240, 256, 260, 288, 299, 300, 320, 331, 352, 380, 384, 416, 448,
         456, 480, 512, 518, 528, 600, 608, 640, 768, 800, 1024)  # fmt: skip


def _resized(spec: str, record: Trace, one: JudgedFigure) -> Iterator[tuple[str, str, str]]:
    """Usual inputs whose side is near what the ratio of the figures says: (text, spec, side)."""
    shape, macs = record.inputs[0].shape, totals(record)["macs"]
    if one.cell.quantity == "params" or len(shape) != 4 or not macs or one.value is None:
        return
    default = inputs_of(parse(spec))
    own = default[0].input.shape[-1] if default and len(default[0].input.shape) == 4 else 0
    for factor in (1, 2):
        expected = isqrt(int(shape[-1] ** 2 * one.value / (factor * macs)))
        for side in sorted({*SIDES, own} - {0, shape[-1]}, key=lambda each: abs(each - expected)):
            if abs(side - expected) <= max(8, expected // 12) or side == own and factor == 1:
                yield f"with an input of {side}×{side}", spec, str(side)


def _rebuilt(spec: str) -> Iterator[tuple[str, str, str]]:
    """Other arguments of the builder: classes, channels, auxiliary heads."""
    parsed = parse(spec)
    keys = parsed.source.keys(parsed.name)
    free = {"num_classes"} if keys is None else {*keys}
    free -= {*parsed.arguments}
    if "num_classes" in free:
        for classes in (10, 100, 1000, 21, 200, 365, 1001, 21841, 21843):
            yield f"with {classes:,} classes", f"{spec}@num_classes={classes}", ""
    if "in_channels" in free:
        for channels in (1, 3):
            yield f"with {channels} input channel{'s' if channels > 1 else ''}", f"{spec}@in_channels={channels}", ""
    if "aux" in free:
        yield "with its auxiliary heads", f"{spec}@aux=true", ""


def _parts(record: Trace, key: str) -> tuple[list[Cause], Callable[[Callable[[Row], bool]], int]]:
    """The counts without the linear layers, and what counts the rows of a kind."""
    table = rows(record)

    def count(chosen: Callable[[Row], bool]) -> int:
        return sum(value or 0 for value in METRICS[key].of(record, [row for row in table if chosen(row)]))

    linear = [row.path for row in table if row.kind == "Linear"] if record.layers else []
    causes = [("without the classifier", count(lambda row: row.path != linear[-1]))] if linear else []
    if len(linear) > 1:
        causes.append(("without the fully connected layers", count(lambda row: row.kind != "Linear")))
    return causes, count


def _parts_of_macs(record: Trace) -> Iterator[Cause]:
    causes, count = _parts(record, "macs")
    yield from causes
    yield "of the convolutions alone", count(lambda row: row.kind.startswith("Conv"))
    main = count(lambda row: row.kind.startswith("Conv") and ".downsample" not in row.path)
    yield "of the convolutions alone, without those in shortcuts", main


def _parts_of_params(record: Trace) -> Iterator[Cause]:
    yield from _parts(record, "params")[0]
    owned = [(param, "Norm" in row.kind) for row in rows(record) for param in row.params]
    norms = sum(param.tensor.numel for param, in_norm in owned if in_norm)
    biases = sum(param.tensor.numel for param, in_norm in owned if param.name.endswith("bias") and not in_norm)
    counters = sum(b.tensor.numel for b in record.buffers if b.name.endswith("num_batches_tracked"))
    total = totals(record)
    params = total["params"]
    yield "without the biases", params - biases
    yield "without the norms", params - norms
    yield "of the weights alone, without biases and norms", params - norms - biases
    yield "of the trainable parameters alone", total["trainable"]
    yield "with the running statistics of the norms", params + total["buffers"] - counters
    yield "in bytes of float32: a size, not a number of parameters", 4 * params
    yield "in MiB of float32: a size, not a number of parameters", 4 * params * 10**6 // 2**20
    yield "with an M of 1,048,576", params * 10**6 // 2**20


def _others_of_the_family(spec: str, key: str, record: Trace) -> Iterator[Cause]:
    """What the other networks of the family have: a figure of another row."""
    head = spec.partition("@")[0]
    family = entries()[head].family if head in entries() else None
    for name, entry in entries().items():
        if entry.family == family and name != head:
            own = inputs_of(parse(name))[0].input.shape
            same = key == "params" or own == record.inputs[0].shape
            where = "" if same else f" with an input of {own[-2]}×{own[-1]}"
            yield f"this is what {name} has{where}", getattr(entry, key)


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


def verdict_table(title: str, found: Iterable[JudgedFigure], made_with: str = "") -> Table:
    """A row for each printed figure."""
    listed = list(found)
    shown = [
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
            "value": one.value and (int(one.value) if one.value.denominator == 1 else float(one.value)),
            "input": one.line.input or None,
        }
        for one in listed
    ]
    return Table(title, SHOWN, tuple(shown), (_summary(listed), *_factors(listed)), made_with, hidden=HIDDEN)


def _factors(listed: list[JudgedFigure]) -> Iterator[str]:
    """A sentence for each column whose heading and figures differ by the factor of 2, or that mixes both."""
    for heading in dict.fromkeys(one.cell.heading for one in listed if one.cell.quantity != "params"):
        column = [one for one in listed if one.cell.heading == heading]
        agreeing = [one for one in column if one.verdict == "agrees"]
        for word in ("MACs", "FLOPs"):
            other = [one for one in column if one.verdict == f"agrees as {word}"]
            if other and agreeing:
                odd = agreeing if len(agreeing) <= len(other) else other
                names = list(dict.fromkeys(one.line.model for one in odd))
                more = f" and {len(names) - 4} more" if len(names) > 4 else ""
                mixed = f"{heading} mixes MACs and FLOPs, a factor of 2: {len(other)} of {len(agreeing) + len(other)}"
                one_or_more = "ones" if len(odd) > 1 else "one"
                yield f"{mixed} are {word}; the odd {one_or_more} out: {', '.join(names[:4])}{more}"
            elif other:
                yield f"{heading} holds {word}: a factor of 2"


def _summary(listed: list[JudgedFigure]) -> str:
    """`12 figures: 7 agree, 3 agree as MACs, 1 explained, 1 disagrees`."""
    plural = {"agrees": "agree", "disagrees": "disagree", "model": "models", "number": "numbers"}
    parts = (
        f"{count} {' '.join(plural.get(word, word) for word in verdict.split()) if count > 1 else verdict}"
        for verdict, count in Counter(one.verdict for one in listed).items()
    )
    return f"{len(listed)} figure{'s' if len(listed) != 1 else ''}: {', '.join(parts)}"


def failed(found: Iterable[JudgedFigure]) -> bool:
    """Whether a figure disagrees and nothing explains it, a cell is no number, or no figure could be checked."""
    found = list(found)
    unchecked = ("unknown model", "not run", "no number")
    return any(one.verdict in (FAILED, "no number") for one in found) or all(one.verdict in unchecked for one in found)
