"""Does the record of a training step hold? Three witnesses that share no code with it.

The table of what operators save for their backward, laid over the record's forward. A real step on the CPU, which
counts the bytes in use after every operator. `torch.distributed._tools.mem_tracker.MemTracker` of PyTorch, on tensors
of a CPU that have no contents (FakeTensorMode).
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from archscope.analysis.saved import place_of, saved_check
from archscope.analysis.training import (
    after_forward,
    after_step,
    memory_curve,
    peak,
    peak_within,
    phase_of,
    training_macs,
)
from archscope.core.record import Trace
from archscope.peers.compared import Tally
from archscope.sources.guard import user_code
from archscope.sources.inputs import Text
from archscope.sources.loading import loaded
from archscope.sources.records import reason
from archscope.sources.spec import Spec

OPTIMIZER = "adamw"  # it has state, which the bytes then hold too
MOST_MACS = 5 * 10**11  # of a step that is run on the CPU: about half a minute
MOMENTS = ("after the forward", "at the peak of the backward", "at the peak", "after the step")


def step_compared(spec: Spec, input: Text = None, batch: int | None = None) -> Tally:
    """The bytes of a training step of a model by its record, against the three witnesses.

    compared: storages of the table, operators of the real step, totals of MemTracker. Raises what `load` raises.
    """
    from archscope.tracing.step import trace_step

    model, arguments, named = loaded(spec, input, batch)
    with spec.source.running(spec.name), user_code():
        try:
            record = trace_step(model, arguments, named, optimizer=OPTIMIZER, device="cpu", name=spec.text)
        except Exception as error:
            return Tally(missing=(f"training step: {reason(error)}",))
        found = by_table(record)
        for witness in (by_real_step, by_mem_tracker):
            model, arguments, named = loaded(spec, input, batch)  # each changes its model
            try:
                found = found.with_another(witness(record, model, arguments, named))
            except Exception as error:
                what = {by_real_step: "a real step", by_mem_tracker: "MemTracker"}[witness]
                found = found.with_another(Tally(missing=(f"training step, {what}: {reason(error)}",)))
    return found


def by_table(record: Trace) -> Tally:
    """The storages that wait for the backward, against the table of what operators save."""
    check = saved_check(record)
    wrong = [
        f"training step: {nbytes:,} B of {place} wait for the backward, and by the table no operator saves them"
        for place, nbytes in check.missing.items()
    ]
    wrong += [
        f"training step: {nbytes:,} B of {place} are saved by the table, and gone before the backward"
        for place, nbytes in check.extra.items()
    ]
    if check.unknown:
        why = f"training step: what {', '.join(check.unknown)} saves is not known"
        return Tally(missing=(why, *wrong))
    return Tally(check.storages, tuple(wrong))


def by_real_step(record: Trace, model: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Tally:
    """The bytes in use after each operator, against a real step on the CPU. The model is trained."""
    if why := _too_large(record):
        return Tally(missing=(f"training step, a real step: {why}",))
    from archscope.peers.cpu_step import real_step

    trail: list[tuple[str, int]] = []
    totals = real_step(model, arguments, named, optimizer=OPTIMIZER, trail=trail)
    if [name for name, _ in trail] == [op.name for op in record.ops]:
        return Tally(len(trail), _along(record, [nbytes for _, nbytes in trail]))
    # the CPU takes another way through the same work: the four totals remain
    derived = (after_forward(record), peak_within(record, "backward"), peak(record).nbytes, after_step(record))
    wrong = [
        f"training step: {ours:,} B {moment} by the record, {theirs:,} B by a real step on the CPU"
        for moment, ours, theirs in zip(MOMENTS, derived, totals, strict=True)
        if ours != theirs
    ]
    return Tally(len(derived), tuple(wrong))


def _along(record: Trace, measured: Sequence[int]) -> tuple[str, ...]:
    """The first operator at which the bytes differ, and at how many they do."""
    curve = memory_curve(record)
    differing = [i for i, (ours, theirs) in enumerate(zip(curve, measured, strict=True)) if ours != theirs]
    if not differing:
        return ()
    first = differing[0]
    place, phase = place_of(record, first), phase_of(record, first).name
    rest = f"; they differ at {len(differing):,} of {len(curve):,} operators" if len(differing) > 1 else ""
    return (
        f"training step: in the {phase}, at {place}, {curve[first]:,} B are in use by the record, "
        f"{measured[first]:,} B by a real step on the CPU ({curve[first] - measured[first]:+,} B){rest}",
    )


def _too_large(record: Trace) -> str:
    """Why no real step is run, "" where it is."""
    macs, needed, free = training_macs(record), peak(record).nbytes, _free_memory()
    if macs > MOST_MACS:
        return f"it would compute {macs:,} multiply-adds on the CPU; give a smaller --batch or --input"
    if free is not None and 2 * needed > free:
        return f"it needs {needed:,} B, and {free:,} B of memory are free; give a smaller --batch or --input"
    return ""


def _free_memory() -> int | None:
    """Bytes of main memory that are free; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def by_mem_tracker(record: Trace, model: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Tally:
    """The peak and the bytes after the step, against PyTorch's MemTracker. The model loses its weights."""
    from archscope.peers.cpu_step import tracked_step

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its hooks, on inputs that need no gradient
        most, after, terms = tracked_step(model, arguments, named, optimizer=OPTIMIZER)
    wrong = [
        f"training step: {ours:,} B {moment} by the record, {theirs:,} B by MemTracker ({terms})"
        for moment, ours, theirs in (
            ("at the peak", peak(record).nbytes, most),
            (MOMENTS[3], after_step(record), after),
        )
        if ours != theirs
    ]
    return Tally(2, tuple(wrong))
