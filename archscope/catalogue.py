"""What `archscope list` prints: the registrations as a table. Builds nothing and imports no torch."""

from collections.abc import Iterable

from archscope.spec import SOURCES, Spec, parse_input
from archscope.table import Column, Table
from archscope.zoo.registry import entries

COLUMNS = (
    Column("name", "Name"),
    Column("input", "Input", "shape"),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("keys", "Arguments", priority=1),
    Column("paper", "Paper", priority=2),
)


def catalogue(specs: Iterable[Spec]) -> Table:
    """One row a network: name, default input, published or derived counts, arguments, paper."""
    listed = []
    for spec in specs:
        default, layout = SOURCES[spec.source].default(spec.name)
        entry = entries()[spec.name]
        keys = {key: spec.arguments.get(key, value) for key, value in entry.keys.items()}
        counted = not spec.arguments  # the registered counts are those of the default build
        listed.append(
            {
                "name": spec.text,
                "input": parse_input(None, default, layout).shape,
                "dtype": default.dtype,
                "params": entry.params if counted else None,
                "macs": entry.macs if counted else None,
                "keys": " ".join(f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()),
                "paper": entry.paper,
            }
        )  # fmt: skip
    return Table(
        title="Networks",
        columns=COLUMNS,
        hidden=(Column("dtype", "Input dtype"),),
        rows=tuple(listed),
        caption="Counts as published or derived for the default arguments; `archscope table` computes them.",
    )
