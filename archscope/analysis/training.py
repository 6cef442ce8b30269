"""What a step of training needs: bytes at every moment, the peak and what it is made of, and the work by phase.

Everything here is a function of the record of a step, `archscope.trace_step`.
"""

from collections import Counter
from typing import NamedTuple

from archscope.analysis.observed import cached, works
from archscope.core.record import Layer, Phase, Storage, Trace
from archscope.core.saved_record import ROLES

TERMS = ROLES  # the parts of a peak


class Peak(NamedTuple):
    """The moment at which most bytes are in use.

    op: the index of the operator that runs then. phase: its innermost phase. layer: the path of the layer call that it
    belongs to, None for an operator of the loss or the optimizer. terms: the bytes by role; they add up to `nbytes`.
    """

    nbytes: int
    op: int
    phase: str
    layer: str | None
    terms: dict[str, int]


@cached
def memory_curve(trace: Trace) -> list[int]:
    """The bytes that are in use while each operator runs, its outputs included."""
    changes = [0] * (len(trace.ops) + 1)
    for storage in trace.storages:
        changes[max(storage.born, 0)] += storage.nbytes
        if storage.died is not None:
            changes[storage.died] -= storage.nbytes
    curve, now = [], 0
    for change in changes[:-1]:
        now += change
        curve.append(now)
    return curve


def alive(storage: Storage, op: int) -> bool:
    """Whether a storage is in use while an operator runs."""
    return storage.born <= op and (storage.died is None or storage.died > op)


def before(trace: Trace, op: int) -> int:
    """Bytes in use just before an operator runs, that which ended with the one before it left out."""
    return sum(s.nbytes for s in trace.storages if s.born < op and (s.died is None or s.died > op))


def after_forward(trace: Trace) -> int:
    """Bytes in use when the model has returned, in the last batch of the step."""
    losses = [phase.start for phase in trace.phases if phase.name == "loss"]
    return before(trace, losses[-1]) if losses else after_step(trace)


def after_step(trace: Trace) -> int:
    """Bytes in use when the step is over and the gradients are set to None, if they are."""
    return sum(s.nbytes for s in trace.storages if s.died is None)


def peak_within(trace: Trace, name: str) -> int:
    """The most bytes in use within the last phase of this name."""
    phases = [phase for phase in trace.phases if phase.name == name]
    return max(memory_curve(trace)[phases[-1].start : phases[-1].stop], default=0) if phases else 0


@cached
def peak(trace: Trace) -> Peak:
    """The first moment at which most bytes are in use."""
    curve = memory_curve(trace)
    nbytes = max(curve)
    op = curve.index(nbytes)
    terms: dict[str, int] = dict.fromkeys(TERMS, 0)
    for storage in trace.storages:
        if alive(storage, op):
            terms[storage.role] += storage.nbytes
    layer = layer_of(trace, op)
    return Peak(nbytes, op, phase_of(trace, op).name, None if layer is None else layer.path, terms)


def phase_of(trace: Trace, op: int) -> Phase:
    """The innermost phase of an operator."""
    return [phase for phase in trace.phases if phase.start <= op < phase.stop][-1]


def layer_of(trace: Trace, op: int) -> Layer | None:
    """The innermost layer call that an operator belongs to; None for one of the loss or the optimizer."""
    index = layer_indices(trace)[op]
    return None if index is None else trace.layers[index]


@cached
def layer_indices(trace: Trace) -> list[int | None]:
    """For each operator the index of its innermost layer call, None where it is none's."""
    found: list[int | None] = [None] * len(trace.ops)
    for index, layer in enumerate(trace.layers):  # an inner call comes after the one around it
        found[layer.start : layer.stop] = [index] * (layer.stop - layer.start)
    for op, index in trace.owners.items():
        found[op] = index
    return found


@cached
def work_by_phase(trace: Trace) -> dict[str, tuple[int, int]]:
    """MACs and FLOPs of each phase, of the operators whose cost is known; what is recomputed is not in the backward."""
    found: dict[str, tuple[int, int]] = {phase.name: (0, 0) for phase in trace.phases}
    for op, done in enumerate(works(trace)):
        if done is not None and (done.macs or done.flops):
            name = phase_of(trace, op).name
            macs, flops = found[name]
            found[name] = (macs + done.macs, flops + done.flops)
    return found


def training_macs(trace: Trace) -> int:
    """MACs of the whole step, recomputation included."""
    return sum(macs for macs, _ in work_by_phase(trace).values())


def training_flops(trace: Trace) -> int:
    """FLOPs of the whole step, recomputation included."""
    return sum(flops for _, flops in work_by_phase(trace).values())


def uncounted_in(trace: Trace) -> dict[str, int]:
    """Operators of the step whose cost is not known, and how often each ran."""
    return dict(Counter(op.name for op, done in zip(trace.ops, works(trace), strict=True) if done is None))


class PeakShare(NamedTuple):
    """What one layer has of the peak.

    bytes: by role. macs: of its forward and its backward. saved: bytes that its forward saves for the backward.
    """

    path: str
    kind: str
    bytes: dict[str, int]
    macs: int
    saved: int


OUTSIDE = ("input", "loss", "optimizer")  # what no layer has


@cached
def shares(trace: Trace) -> list[PeakShare]:
    """The layers in run order with their bytes at the peak and their MACs, then input, loss and optimizer.

    A storage belongs to the layer that made it, a parameter to its module. The bytes add up to the peak, the MACs to
    those of the step. A layer that runs several times is one.
    """
    at = peak(trace).op
    homes = layer_indices(trace)
    kinds = {layer.path: layer.kind for layer in trace.layers}
    modules = {p.tensor.id: p.name.rpartition(".")[0] for p in (*trace.buffers, *trace.params)}
    found: dict[str | None, PeakShare] = {path: PeakShare(path, kind, {}, 0, 0) for path, kind in kinds.items()}
    rest = {name: PeakShare(f"({name})", "", {}, 0, 0) for name in OUTSIDE}

    def share_of(op: int, role: str) -> PeakShare:
        if role == "input":
            return rest["input"]
        index = homes[op] if op >= 0 else None
        if index is not None:
            return found[trace.layers[index].path]
        return rest["optimizer" if op < 0 or phase_of(trace, op).name == "optimizer" else "loss"]

    saved: dict[str, int] = {}
    for storage in trace.storages:
        if storage.role == "saved":
            path = share_of(storage.born, "").path
            saved[path] = saved.get(path, 0) + storage.nbytes
        if not alive(storage, at):
            continue
        module = next((modules[i] for i in storage.tensors if i in modules), None)
        if module is None:
            share = share_of(storage.born, storage.role)
        else:
            share = found.setdefault(module, PeakShare(module, trace.modules.get(module, ""), {}, 0, 0))
        share.bytes[storage.role] = share.bytes.get(storage.role, 0) + storage.nbytes
    macs: dict[str, int] = {}
    for op, done in enumerate(works(trace)):
        if done is not None and done.macs:
            path = share_of(op, "").path
            macs[path] = macs.get(path, 0) + done.macs
    every = [
        one._replace(macs=macs.get(one.path, 0), saved=saved.get(one.path, 0))
        for one in (*found.values(), *rest.values())
    ]
    return [one for one in every if one.bytes or one.macs or one.saved]
