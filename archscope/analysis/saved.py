"""What a step saves for its backward, derived a second time: the table of operators laid over the forward.

The record says which storages of the forward are there when the backward starts. The table of `operators/saves.py` says
which tensors each operator keeps. Neither knows of the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from archscope.analysis.observed import cached
from archscope.analysis.training import layer_of, phase_of
from archscope.core.record import Op, Trace
from archscope.operators.saves import CONSTANT, COPIED, SAVES


class SavedCheck(NamedTuple):
    """recorded, derived: bytes saved for the backward by each way; storages: how many the record has of these.

    missing: operators that made what the record keeps and the table does not, with their layers and bytes; extra: the
    other way round. unknown: operators that the table lacks.
    """

    recorded: int
    derived: int
    storages: int
    missing: dict[str, int]
    extra: dict[str, int]
    unknown: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """None where an operator is unknown, or parts of the forward are recomputed."""
        if self.unknown:
            return None
        return not self.missing and not self.extra


@cached
def saved_check(trace: Trace) -> SavedCheck:
    """Compare the record with the table. Raises ValueError for a record without a backward or with checkpoints."""
    names = [phase.name for phase in trace.phases]
    if "backward" not in names or trace.step.get("checkpoint") or names.count("backward") > 1:
        raise ValueError("the table is for one forward and backward without checkpoints")
    stop = next(phase.start for phase in trace.phases if phase.name == "backward")
    needing = {p.tensor.id for p in trace.params if p.trainable}
    kept, unknown = kept_by(trace.ops[:stop], needing)
    kept.update(t.id for t in trace.ops[stop - 1].outputs[:1])  # the loss itself, which the loop holds
    homes = {i: storage for storage in trace.storages for i in storage.tensors}
    derived = {homes[i].id for i in kept if homes[i].role in ("saved", "temporary")}
    recorded = {storage.id for storage in trace.storages if storage.role == "saved"}
    return SavedCheck(
        _bytes(trace, recorded),
        _bytes(trace, derived),
        len(recorded),
        _by_operator(trace, recorded - derived),
        _by_operator(trace, derived - recorded),
        unknown,
    )


def kept_by(ops: Sequence[Op], needing: set[int]) -> tuple[set[int], tuple[str, ...]]:
    """The ids of the tensors that operators save by the table, and the operators that it lacks.

    needing: ids of the tensors that need a gradient; those that are computed from them are added.
    """
    kept: set[int] = set()
    unknown: dict[str, None] = {}
    for index, op in enumerate(ops):
        if not any(t.id in needing for t in op.inputs):
            continue
        saved = SAVES.get(op.name)
        ids = None if saved is None else {t.id for t in saved(op, needing.__contains__)}
        if op.name not in CONSTANT:
            needing.update(t.id for t in op.outputs if t.dtype.startswith(("float", "bfloat")))
        if ids is not None and op.name in COPIED and op.inputs[0].id in ids:
            copy = ops[index - 1]
            same = copy.name == "aten.clone" and copy.inputs[0].id == op.inputs[0].id
            ids = ids - {op.inputs[0].id} | {copy.outputs[0].id} if same else None
        if ids is None:
            unknown.setdefault(op.name)
        else:
            kept |= ids
    return kept, tuple(unknown)


def _bytes(trace: Trace, ids: set[int]) -> int:
    return sum(trace.storages[i].nbytes for i in ids)


def _by_operator(trace: Trace, ids: set[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for i in sorted(ids):
        storage = trace.storages[i]
        name = place_of(trace, storage.born) if storage.born >= 0 else "before the run"
        if storage.nbytes:
            found[name] = found.get(name, 0) + storage.nbytes
    return found


def place_of(trace: Trace, op: int) -> str:
    """Operator and layer: `aten.relu of features.1`; of the loss or the optimizer the phase."""
    layer = layer_of(trace, op)
    return f"{trace.ops[op].name} of {(layer.path or 'the model') if layer else f'the {phase_of(trace, op).name}'}"
