"""What the comparisons have in common: their registry, and the data flow that they search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from archscope.analysis.observed import cached
from archscope.analysis.row import Row
from archscope.analysis.verification import Check
from archscope.core.document import Section
from archscope.core.expression import Expr, symbols, total
from archscope.core.record import Layer, Op, Tensor, Trace
from archscope.core.registry import Registry
from archscope.layers import Derived, derive


class ComparedRow(NamedTuple):
    """A row with the results of both derivations. kind: the layer that it is, or that computes the same."""

    row: Row
    kind: str
    config: Mapping[str, Any]
    check: Check
    values: Mapping[str, Any]  # by key of `METRICS`

    @property
    def derived(self) -> Derived:
        assert self.check.derived is not None
        return self.check.derived


class Instance(NamedTuple):
    """One instance. paths: the layers that it is made of. cost: MACs as it is and as it would be, where they differ."""

    paths: tuple[str, ...]
    section: Section
    cost: tuple[int, int] | None = None


Comparison = Callable[[Trace, Sequence[ComparedRow]], Iterator[Instance]]

COMPARISONS: Registry[Comparison] = Registry("comparison")
comparison = COMPARISONS.register  # by its title


def compared(trace: Trace, items: Sequence[ComparedRow]) -> dict[str, list[Instance]]:
    """The instances of every comparison that applies to a run."""
    found = {title: list(find(trace, items)) for title, find in COMPARISONS.items()}
    return {title: instances for title, instances in found.items() if instances}


# ------------------------------------------------------------------------------------------------- the flow of data


@cached
def made_by(trace: Trace) -> dict[int, Op]:
    """The operator that made each tensor; one in place makes none."""
    out: dict[int, Op] = {}
    for op in trace.ops:
        for t in op.outputs:
            if all(t.id != given.id for given in op.inputs):
                out.setdefault(t.id, op)
    return out


def back(trace: Trace, tensor: Tensor, to: str) -> Op | None:
    """The operator of this name that a tensor comes from, through operators that keep its shape (norm, activation)."""
    makers = made_by(trace)
    op = makers.get(tensor.id)
    while op is not None and op.name != to and _one_in(op):
        op = makers.get(op.inputs[0].id)
    return op if op is not None and op.name == to else None


def _one_in(op: Op) -> bool:
    """Whether an operator hands on one tensor in its shape; a sum of two does not."""
    alike = [t for t in op.inputs if op.outputs and t.shape == op.outputs[0].shape]
    return len(alike) == 1 and alike[0].id == op.inputs[0].id


def row_of(items: Sequence[ComparedRow], op: Op | None) -> ComparedRow | None:
    """The row of one tensor's maker."""
    made = op.outputs[0].id if op is not None else None
    return next((one for one in items if one.row.outputs and one.row.outputs[0].id == made), None)


def conv_before(trace: Trace, items: Sequence[ComparedRow], one: ComparedRow) -> ComparedRow | None:
    """The convolution whose output, normalised or activated, is the input of a row."""
    return row_of(items, back(trace, one.row.inputs[0], "aten.conv2d"))


def convolutions_of(items: Sequence[ComparedRow]) -> list[ComparedRow]:
    return [one for one in items if one.kind == "Conv2d" and one.check.agrees and one.check.derived is not None]


def inside_of(items: Sequence[ComparedRow], layer: Layer) -> list[ComparedRow]:
    return [one for one in items if layer.start <= one.row.start and one.row.stop <= layer.stop and one.row.stop]


def otherwise(one: ComparedRow, shape: tuple[int, ...] | None = None, **config: Any) -> Derived:
    """The closed form of a layer in another configuration."""
    derived = derive(one.kind, {**one.config, **config}, (shape or one.row.inputs[0].shape,))
    assert derived is not None
    return derived


def kernel_of(one: ComparedRow) -> tuple[int, ...]:
    return tuple(one.config["kernel_size"])


def sum_of(**parts: int) -> Expr:
    """A sum of numbers under their names."""
    return total(*symbols(**parts))


def times(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))


def short(path: str, layer: Layer) -> str:
    """A path as it is called inside a block."""
    return path.removeprefix(f"{layer.path}.")


def totals_of(parts: Sequence[Derived]) -> tuple[int, int]:
    return sum(int(part.params) for part in parts), sum(int(part.macs) for part in parts)
