"""Specs -> the traces that pictures and pages are made of: each model once, or at several sides and widths."""

from collections.abc import Iterable, Sequence

from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Trace
from archscope.sources.inputs import Text
from archscope.sources.loading import inputs_of
from archscope.sources.records import record_of
from archscope.sources.spec import Spec, parse

WIDTHS = (1.0, 0.75, 0.5, 0.25)  # Howard et al. 2017, table 6
PARTS = (4, 5, 6, 7)  # sevenths of the side: 128, 160, 192 and 224, as in their table 7


def of_each(specs: Iterable[Spec], input: Text = None, batch: int | None = None, train: bool = False) -> list[Trace]:
    """The trace of each. Raises what `record_of` raises."""
    return [record_of(spec, input, batch, train) for spec in specs]


def grid_of(
    specs: Sequence[Spec], sides: Sequence[int] | None = None, batch: int | None = None, train: bool = False
) -> list[Trace]:
    """The traces of each model at each side that it takes; one model with a `width` of its own at four widths.

    sides: 4/7, 5/7, 6/7 and 7/7 of the default when left out. Raises SpecError where a model takes none of them.
    """
    specs = list(specs)
    if len(specs) == 1 and "width" not in specs[0].arguments:
        if isinstance(specs[0].keys.get("width"), float):
            own = specs[0].text
            specs = [specs[0], *(parse(f"{own}@width={width:g}") for width in WIDTHS[1:])]
    out = []
    for spec in specs:
        given = inputs_of(spec)
        if not given or not {"h", "w"} & set(given[0].layout):
            raise SpecError(f"{spec.text} has no side to change: the plot scaling is for networks of pictures")
        side = given[0].input.shape[given[0].layout.index("w")]
        found, refused = [], ""
        for one in sides or sorted({side * part // 7 for part in PARTS}):
            try:
                found.append(record_of(spec, str(one), batch, train))
            except ArchscopeError as error:
                refused = str(error)
        if not found:
            raise SpecError(f"{spec.text} takes none of the sides: {refused}")
        out += found
    return out
