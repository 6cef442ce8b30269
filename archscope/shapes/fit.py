"""The largest batch, input side or sequence length of a training step that fits a memory.

The bytes of every storage of a step are a + b·N for a batch of N, as long as the operators stay the same. Two records
give a and b, a third one confirms them. The allocator is then simulated at any N without another run, and the answer is
checked by the record at N, which has to fit, and at N + 1, which must not. Where the operators change with N, and for
sides and lengths, every size that is tried is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from archscope.analysis.allocator import Reserved, events, simulate
from archscope.core.errors import ShapeError, SpecError
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.sources.inputs import Text
from archscope.sources.loading import built, forward_arguments, inputs_of
from archscope.sources.spec import Spec

CONTEXT = 600 * 10**6  # bytes: the CUDA context and the workspaces of cuBLAS and cuDNN, an allowance that is reported
LIMIT = 1 << 20  # the largest batch, side or length that is tried

# memory of graphics cards in GiB, as their names say it ("24 GB" of a card are GiB); more of it than `nvidia-smi` lists
# is kept by the driver and, where ECC is on, by the checksums
CARDS: Mapping[str, float] = {
    "GTX 1080 Ti": 11, "RTX 2060": 6, "RTX 2080 Ti": 11, "RTX 3060": 12, "RTX 3070": 8, "RTX 3080": 10, "RTX 3090": 24,
    "RTX 4060": 8, "RTX 4070": 12, "RTX 4080": 16, "RTX 4090": 24, "RTX 5080": 16, "RTX 5090": 32, "T4": 16, "P100": 16,
    "V100 16GB": 16, "V100 32GB": 32, "A10": 24, "A10G": 24, "L4": 24, "L40S": 48, "RTX A6000": 48, "A100 40GB": 40,
    "A100 80GB": 80, "H100": 80, "H200": 141, "MI250": 64, "MI300X": 192,
}  # fmt: skip

Record = Callable[[int], Trace | None]  # a size -> the record of the step; None where the model refuses the size


class Fit(NamedTuple):
    """The answer. largest: None where not even the smallest size fits. at: the memory at it; beyond: one size further,
    None where the search ended at its limit. runs: how many records were made. closed: whether the sizes of all
    storages are a + b·N, so that the sizes between were not run."""

    largest: int | None
    at: Reserved | None
    beyond: Reserved | None
    runs: int
    closed: bool


def card_bytes(name: str) -> int:
    """The memory of a card in bytes. Raises SpecError for a card that is not in the list, with those that are."""
    words = "".join(name.lower().split())
    for card, gib in CARDS.items():
        if "".join(card.lower().split()) == words:
            return int(gib * 2**30)
    near = [card for card in CARDS if words and words in "".join(card.lower().split())]
    asked = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(CARDS)}"
    raise SpecError(f"no card is called {name!r}: {asked} (or give its memory: --memory '24 GB')")


def largest(record: Record, capacity: int, smallest: int = 1, linear: bool = True, limit: int = LIMIT) -> Fit:
    """The largest size whose step fits, from `smallest` on.

    capacity: bytes for segments of the allocator, the allowance already taken off. linear: whether the size is a batch,
    in which storages are linear. A size that the model refuses does not fit.
    """
    made: dict[int, Trace | None] = {}

    def run(size: int) -> Trace | None:
        if size not in made:
            made[size] = record(size)
        return made[size]

    def measured(size: int) -> Reserved | None:
        trace = run(size)
        return None if trace is None else simulate(events(trace.storages), capacity)

    form = _linear(run, smallest) if linear else None

    def fits(size: int) -> bool:
        trace = None if form is None else run(smallest)
        if form is None or trace is None:
            found = measured(size)
        else:
            found = simulate(events(trace.storages, [a + b * size for a, b in form]), capacity)
        return found is not None and found.fits

    best = _search(fits, smallest, limit)
    while best is not None and not _holds(measured(best)):  # the closed form was wrong there
        form = None
        best = _search(fits, smallest, best)
    if best is None:
        return Fit(None, measured(smallest), None, len(made), form is not None)
    if best < limit and form is not None and _holds(measured(best + 1)):
        form = None
        best = _search(fits, best + 1, limit) or best
    beyond = measured(best + 1) if best < limit else None
    return Fit(best, measured(best), beyond, len(made), form is not None)


def _holds(found: Reserved | None) -> bool:
    return found is not None and found.fits


def _search(fits: Callable[[int], bool], low: int, limit: int) -> int | None:
    """The largest size that fits, of those below the first that does not, by doubling and halving."""
    if not fits(low):
        return None
    high = low
    while high < limit and fits(min(2 * high, limit)):
        high = min(2 * high, limit)
    if high == limit:
        return limit
    low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _linear(run: Record, smallest: int) -> list[tuple[int, int]] | None:
    """(a, b) of every storage, a + b·N bytes; None where the operators or the bytes do not follow."""
    first = max(smallest, 2)  # a batch of 1 is often another case: a mean over one, a side that broadcasts
    traces = [run(size) for size in (first, first + 1, first + 3)]
    if smallest != first:
        traces.append(run(smallest))
    one, two, *others = traces
    if one is None or two is None or any(other is None for other in others):
        return None
    if any([op.name for op in t.ops] != [op.name for op in one.ops] for t in (two, *others) if t is not None):
        return None
    if any(len(t.storages) != len(one.storages) for t in (two, *others) if t is not None):
        return None
    form = []
    for a, b in zip(one.storages, two.storages, strict=True):
        slope = b.nbytes - a.nbytes
        form.append((a.nbytes - slope * first, slope))
    for size, other in zip((first + 3, smallest), others, strict=False):
        assert other is not None
        kept = zip(form, one.storages, other.storages, strict=True)
        if any(a + b * size != s.nbytes or (s.born, s.died) != (o.born, o.died) for (a, b), o, s in kept):
            return None
    return form


# ------------------------------------------------------------------------------------------------------ of a model


def steps_of(spec: Spec, input: Text, over: str, batch: int | None, conditions: Mapping[str, Any]) -> Record:
    """The record of a training step at a batch (over="batch") or at an input side or sequence length (over="side").

    conditions: further arguments of `trace_step`. The model is built once. Raises what `load` raises.
    """
    from archscope.tracing.step import trace_step

    model = built(spec)

    def record(size: int) -> Trace | None:
        text, examples = (input, size) if over == "batch" else (size, batch)
        given = inputs_of(spec, text, examples)
        arguments, named = forward_arguments(spec, model, given, text, examples)
        try:
            return trace_step(model, arguments, named, name=spec.text, **conditions)
        except ShapeError:
            if over == "batch":
                raise
            return None  # a side that the model does not take

    return record


COLUMNS = (
    Column("model", "Model"),
    Column("memory", "Memory", "bytes", means="Memory: of the card."),
    Column("largest", "Largest", "count"),
    Column("allocated", "Allocated", "bytes", means="Allocated: the most that tensors hold, in blocks of 512 bytes."),
    Column(
        "reserved",
        "Reserved",
        "bytes",
        priority=1,
        means="Reserved: the segments that PyTorch's allocator takes for them.",
    ),
)
HIDDEN = (
    Column("over", "Over"), Column("capacity", "Capacity", "bytes"), Column("requested", "Requested", "bytes"),
    Column("one_more_fits", "One more fits", "flag"), Column("runs", "Runs", "count"),
    Column("closed_form", "Closed form", "flag"),
)  # fmt: skip


def fit_row(spec: Spec, record: Record, over: str, memory: int, allowance: int) -> dict[str, Any]:
    """One model on one card. memory: of the card, in bytes. allowance: what of it is not for tensors."""
    found = largest(record, max(memory - allowance, 0), linear=over == "batch")
    at = found.at if found.largest is not None else None
    return {
        "model": spec.text, "memory": memory, "largest": found.largest,
        "allocated": at and at.allocated, "reserved": at and at.reserved, "requested": at and at.requested,
        "over": over, "capacity": memory - allowance,
        "one_more_fits": None if found.beyond is None else found.beyond.fits,
        "runs": found.runs, "closed_form": found.closed,
    }  # fmt: skip


def fit_table(rows: Sequence[Mapping[str, Any]], over: str, allowance: int, conditions: str, shown: str) -> Table:
    """The rows, with what was assumed. conditions: of the step, a phrase. shown: the versions."""
    title = {"batch": "Largest batch", "side": "Largest input side"}[over]
    notes = [
        f"{row['model']}: nothing fits {row['memory'] / 1e9:,.3g} GB, not even the smallest size"
        for row in rows
        if row["largest"] is None
    ]
    notes.append(f"{allowance / 1e6:,.0f} MB of each card are left for CUDA itself and for workspaces of its libraries")
    return Table(
        title=f"{title} of a training step that fits",
        columns=tuple(replace(c, title=title) if c.key == "largest" else c for c in COLUMNS),
        rows=tuple(rows),
        notes=tuple(notes),
        caption=f"{conditions} At the answer the record of the step fits, one further it does not. {shown}",
        hidden=HIDDEN,
    )
