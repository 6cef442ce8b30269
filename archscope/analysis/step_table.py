"""The table of `archscope memory`: the peak of a step, layer by layer, and what would save memory."""

from collections.abc import Sequence

from archscope.analysis.texts import inputs_text, uncounted, versions
from archscope.analysis.training import (
    TERMS,
    PeakShare,
    after_forward,
    after_step,
    peak,
    peak_within,
    shares,
    training_macs,
    uncounted_in,
    work_by_phase,
)
from archscope.core.formats.base import show
from archscope.core.record import Trace
from archscope.core.table import Column, Table

TITLES = {"parameter": "Parameters", "gradient": "Gradients", "optimizer state": "Optimizer", "saved": "Saved",
          "temporary": "Temporary", "input": "Input", "buffer": "Buffers"}  # fmt: skip
KEYS = {role: role.replace(" ", "_") for role in TERMS}
WORDS = {"parameter": "parameters", "gradient": "gradients", "optimizer state": "optimizer state",
         "saved": "saved for the backward",
         "temporary": "temporaries", "input": "inputs", "buffer": "buffers"}  # fmt: skip

MEMORY_COLUMNS = (
    Column("path", "Layer"),
    Column("kind", "Kind", priority=3),
    *(
        Column(KEYS[role], TITLES[role], "bytes", priority=priority)
        for role, priority in zip(TERMS, (2, 2, 4, 0, 2, 6, 5), strict=True)
    ),
    Column("bytes", "At the peak", "bytes"),
    Column("saved_by_forward", "Saved by forward", "bytes", priority=1),
    Column("macs", "MACs of the step", "scaled", priority=1),
)


def block_paths(trace: Trace) -> list[str]:
    """Modules that are worth a checkpoint: the outermost with several layers, but for lists of modules and for what is
    most of the model: to run that again whole would save nothing."""
    containers = ("Sequential", "ModuleList", "ModuleDict")
    chosen: list[str] = []
    most = max(sum([layer.stop - layer.start for layer in trace.layers if not layer.depth]) // 2, 3)
    for layer in trace.layers[1:]:
        inside = 3 < layer.stop - layer.start <= most and layer.kind not in containers
        if inside and not any(layer.path == path or layer.path.startswith(f"{path}.") for path in chosen):
            chosen.append(layer.path)
    return [path for path in chosen if any(other.startswith(f"{path}.") for other in trace.modules)]


def checkpoint_note(trace: Trace, other: Trace, which: str) -> str:
    """What checkpoints would change: bytes of the peak, and MACs."""
    saves = peak(trace).nbytes - peak(other).nbytes
    more = training_macs(other) - training_macs(trace)
    word = f"−{show(saves, 'bytes')}" if saves > 0 else "no less"
    return f"checkpoint {which}: {word} at the peak, +{show(more, 'scaled', 'MACs')} (+{more / _macs(trace):.0%})"


def _macs(trace: Trace) -> int:
    return max(training_macs(trace), 1)


def memory_table(trace: Trace, tips: Sequence[str] = (), depth: int | None = None) -> Table:
    """The layers of a step with their bytes at the peak; they add up to the peak in the last row.

    tips: sentences on what would save memory. depth: layers below that depth are added up in the module around them.
    """
    top = peak(trace)
    rows = [
        {
            "path": one.path or "(model)",
            "kind": one.kind,
            "bytes": sum(one.bytes.values()),
            "macs": one.macs,
            "saved_by_forward": one.saved,
        }
        | {KEYS[role]: nbytes for role, nbytes in one.bytes.items()}
        for one in _folded(trace, depth)
    ]
    where = f" of {top.layer}" if top.layer else ""
    moment = (
        f"peak: {show(top.nbytes, 'bytes')} ({top.nbytes:,} B) in the {top.phase}{where}, at {trace.ops[top.op].name}"
    )
    terms = " + ".join(f"{show(top.terms[role], 'bytes')} {WORDS[role]}" for role in TERMS if top.terms[role])
    moments = [f"{show(after_forward(trace), 'bytes')} after the forward"]
    moments += [
        f"{show(peak_within(trace, name), 'bytes')} at most in the {name}"
        for name in ("backward", "optimizer")
        if peak_within(trace, name)
    ]
    moments.append(f"{show(after_step(trace), 'bytes')} after the {'step' if len(trace.phases) > 1 else 'forward'}")
    work = [f"{show(macs, 'scaled')} {name}" for name, (macs, _) in work_by_phase(trace).items() if macs]
    notes = [
        moment,
        terms,
        ", ".join(moments),
        *([f"MACs: {show(training_macs(trace), 'scaled')} = {' + '.join(work)}"] if len(work) > 1 else []),
        *tips,
        "workspaces inside kernels, the CUDA context and the allocator's rounding are not in these figures",
        *trace.notes,
    ]
    if missing := uncounted_in(trace):
        notes.append(f"operators of unknown cost: {', '.join(uncounted(missing))}")
    used = {key for row in rows for key, value in row.items() if value}
    columns = tuple(column for column in MEMORY_COLUMNS if column.key in used or column.key == "path")
    total = {
        "path": "Total",
        "saved_by_forward": sum(one.saved for one in _folded(trace, None)),
        "bytes": top.nbytes,
        "macs": training_macs(trace),
    }
    return Table(
        title=f"{trace.model}, input {inputs_text(trace)}, {conditions_text(trace)}",
        columns=columns,
        hidden=tuple(column for column in MEMORY_COLUMNS if column not in columns),
        rows=tuple(rows),
        notes=tuple(notes),
        caption=versions(trace.versions),
        totals=total | {KEYS[role]: nbytes for role, nbytes in top.terms.items() if nbytes},
    )


def conditions_text(trace: Trace) -> str:
    """`adamw (foreach), cross-entropy, bf16, attention flash`."""
    step = trace.step
    if step["optimizer"] == "none":
        return "inference"
    parts = [f"{step['optimizer']} ({step['implementation']})", step["loss"]]
    parts += [step["precision"]] if step["precision"] != "fp32" else []
    parts += [f"attention {step['attention']}"] if step["attention"] != "math" else []
    parts += [f"{len(step['checkpoint'])} checkpoints"] if step["checkpoint"] else []
    parts += [f"{step['accumulate']} batches"] if step["accumulate"] > 1 else []
    parts += ["first step"] if step["first"] else []
    return ", ".join(parts)


def _folded(trace: Trace, depth: int | None) -> list[PeakShare]:
    if depth is None:
        return shares(trace)
    found: dict[str, PeakShare] = {}
    for one in shares(trace):
        path = ".".join(one.path.split(".")[:depth])
        kind = one.kind if path == one.path else trace.modules.get(path, "")
        known = found.setdefault(path, PeakShare(path, kind, {}, 0, 0))
        for role, nbytes in one.bytes.items():
            known.bytes[role] = known.bytes.get(role, 0) + nbytes
        found[path] = known._replace(macs=known.macs + one.macs, saved=known.saved + one.saved)
    return list(found.values())
