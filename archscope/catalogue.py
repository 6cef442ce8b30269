"""What `archscope list` prints: the registrations as a table. Builds nothing and imports no torch."""

from collections.abc import Iterable

from archscope.spec import Spec, input_of, written
from archscope.table import Column, Table
from archscope.zoo.registry import entries

COLUMNS = (
    Column("model", "Model"),
    Column("input", "Input", "shape", priority=1),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("keys", "Arguments", priority=2),
    Column("paper", "Paper", priority=3),
)


def listing(specs: Iterable[Spec]) -> Table:
    """One row a network: name, default input, published or derived counts, arguments, paper."""
    listed = []
    for spec in specs:
        default = input_of(spec)
        entry = entries()[spec.name]
        keys = {key: spec.arguments.get(key, value) for key, value in entry.keys.items()}
        counted = not spec.arguments  # the registered counts are those of the default build
        listed.append(
            {
                "model": spec.text,
                "input": default.shape,
                "dtype": default.dtype,
                "params": entry.params if counted else None,
                "macs": entry.macs if counted else None,
                "keys": " ".join(f"{key}={written(value)}" for key, value in keys.items()),
                "paper": entry.paper,
            }
        )  # fmt: skip
    return Table(
        title="",
        columns=COLUMNS,
        hidden=(Column("dtype", "Input dtype"),),
        rows=tuple(listed),
        caption="Counts as published or derived for the default arguments; `archscope table` computes them anew.",
    )
