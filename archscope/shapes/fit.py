"""The largest batch, input side or sequence length of a training step that fits a memory.

The bytes of every storage of a step are a + b·N for a batch of N, as long as the operators stay the same. Two records
give a and b, and the allocator is then simulated at any N without another run. The records at the answer and at one
more confirm a and b there: the first has to fit, and the second must not. Where the operators change with N, and for
sides and lengths, every size that is tried is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from archscope.analysis.allocator import Reserved, events, simulate
from archscope.core.errors import ShapeError, SpecError, TraceError
from archscope.core.record import Storage, Trace
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
Form = Callable[[int], list[Storage]]  # a batch -> the storages of its step, without a run


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


def largest(record: Record, capacity: int, start: int = 2, linear: bool = True, limit: int = LIMIT) -> Fit:
    """The largest size whose step fits.

    capacity: bytes for segments of the allocator, the allowance already taken off. start: where the search begins; a
    batch of 1 is often another case, a mean over one or a side that broadcasts. linear: whether the size is a batch, in
    which storages are linear. A size that the model refuses does not fit.
    """
    run = cache(record)

    @cache
    def measured(size: int) -> Reserved | None:
        trace = run(size)
        return None if trace is None else simulate(events(trace.storages), capacity)

    def recorded(size: int) -> bool:
        found = measured(size)
        return found is not None and found.fits

    def derived(size: int) -> bool:
        return recorded(size) if form is None or size < start else simulate(events(form(size)), capacity).fits

    form = _linear(run, start) if linear else None
    best = _search(derived, start, limit)
    if form is not None and best is not None:
        confirmed = range(max(best, start), min(best + 1, limit) + 1)
        if not all(_follows(form, run, size) for size in confirmed):
            form = None
            best = _search(recorded, start, limit)
    beyond = measured(best + 1) if best is not None and best < limit else None
    return Fit(best, measured(best or 1), beyond, run.cache_info().currsize, form is not None)


def _search(fits: Callable[[int], bool], start: int, limit: int) -> int | None:
    """The largest size that fits, of those below the first that does not, by doubling or halving, and bisection."""
    low, high = start, 0
    while not fits(low):
        if low == 1:
            return None
        low, high = low // 2, low
    while not high:
        if low == limit:
            return limit
        further = min(2 * low, limit)
        low, high = (further, 0) if fits(further) else (low, further)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _linear(run: Record, first: int) -> Form | None:
    """The storages of a batch of N, each a + b·N bytes; None where two batches differ in more than bytes."""
    one, two = run(first), run(first + 1)
    if one is None or two is None:
        return None

    def form(size: int) -> list[Storage]:
        pairs = zip(one.storages, two.storages, strict=False)
        return [a._replace(nbytes=a.nbytes + (size - first) * (b.nbytes - a.nbytes)) for a, b in pairs]

    return form if _follows(form, run, first + 1) else None


def _follows(form: Form, run: Record, size: int) -> bool:
    trace = run(size)
    return trace is not None and form(size) == list(trace.storages)


# ------------------------------------------------------------------------------------------------------ of a model


def own_side(spec: Spec) -> int:
    """The side or length of a model's default input, 224 where it has none."""
    sides = [
        side
        for given in inputs_of(spec)
        for side, letter in zip(given.input.shape, given.layout, strict=False)
        if letter in "dhwt"
    ]
    return max(sides, default=224)


def steps_of(spec: Spec, input: Text, over: str, batch: int | None, conditions: Mapping[str, Any]) -> Record:
    """The record of a training step at a batch (over="batch") or at an input side or sequence length (over="side").

    conditions: further arguments of `trace_step`. The model is built once, and a record is made once. Raises what
    `load` raises, and what `trace_step` raises at any batch and at the model's own side; SpecError where the forward
    needs the values of tensors, because no step is derived from another one then.
    """
    from archscope.tracing.step import trace_step

    model = built(spec)

    @cache
    def record(size: int) -> Trace | None:
        text, examples = (input, size) if over == "batch" else (size, batch)
        given = inputs_of(spec, text, examples)
        arguments, named = forward_arguments(spec, model, given, text, examples)
        try:
            return trace_step(model, arguments, named, name=spec.text, values="never", **conditions)
        except (ShapeError, TraceError) as error:
            if error.failure is not None and error.failure.values:
                raise SpecError(
                    f"{spec.text}: what a step takes depends on values of tensors, so the largest {over} is unknown;"
                    f" `archscope memory {spec.text} --batch N` runs one step on real values"
                ) from error
            if over == "batch" or size == own_side(spec):
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
    batches = over == "batch"
    found = largest(record, max(memory - allowance, 0), 2 if batches else own_side(spec), batches)
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
    notes += [
        f"{row['model']} does not take a side of {row['largest'] + 1:,}"
        for row in rows
        if over == "side" and row["largest"] and row["one_more_fits"] is None
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
