"""What a position of the output sees of the input: shape, receptive field, stride."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from archscope.analysis.metrics.base import metric
from archscope.analysis.observed import fields, shapes_of
from archscope.analysis.receptive_field import Field
from archscope.analysis.row import Row
from archscope.core.record import Tensor, Trace


@metric("output_shape", "Output", "row", form="shape", layer_priority=1)
def output_shape(trace: Trace, table: list[Row]) -> list[Any]:
    """Shape of the output; a tuple of shapes where there are several; None for a module that never ran."""
    return [shapes_of(row.outputs) for row in table]


def _of_model(trace: Trace) -> Any:
    return field_of(fields(trace), trace.layers[0].outputs if trace.layers else ())


@metric("receptive_field", "Receptive field", "row", _of_model, unit="input pixels", model_priority=7, locked=True,
        sized=True)  # fmt: skip
def receptive_field(trace: Trace, table: list[Row]) -> list[Any]:
    """How many input positions one output position depends on, per side; None where it has no place in the input."""
    return [_equal_sides(field.extent) if field is not None else None for field in _fields(trace, table)]


@metric("effective_stride", "Effective stride", "row", unit="input pixels")
def effective_stride(trace: Trace, table: list[Row]) -> list[Any]:
    """How many input positions lie between neighbouring output positions; None once there is one position left."""
    return [
        _equal_sides([int(j) if j.denominator == 1 else float(j) for j in field.jump])
        if field is not None and any(field.axes)
        else None
        for field in _fields(trace, table)
    ]


def _fields(trace: Trace, table: list[Row]) -> list[Field | None]:
    """The field of each row's first output, None where it has none."""
    known = fields(trace)
    found = [known.get(row.outputs[0].id) if row.outputs else None for row in table]
    return [field if field is not None and field.size else None for field in found]


def _equal_sides(values: Sequence[Any]) -> Any:
    """One number where all sides are equal, else a tuple."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def field_of(known: Mapping[int, Field], outputs: Sequence[Tensor]) -> Any:
    """Receptive field of the last feature map: the largest before the sides collapse; None where the sides are lost."""
    end = [known.get(t.id) for t in outputs]
    if not end or any(field is None or not field.size for field in end):
        return None
    maps = [field.extent if field.coarse else field.size for field in known.values() if field.windowed]
    return _equal_sides([ceil(max(side)) for side in zip(*maps, strict=True)]) if maps else None
