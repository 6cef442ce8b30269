"""What `archscope list` prints: the models of a source as a table. Builds nothing; the zoo needs no torch."""

from collections.abc import Iterable

from archscope.core.table import Column, Table
from archscope.sources.inputs import Argument
from archscope.sources.loading import inputs_of
from archscope.sources.spec import Spec, written

COLUMNS = (
    Column("name", "Name"),
    Column("input", "Input", "shape", priority=1),
    Column("params", "Parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("keys", "Arguments", priority=2),
    Column("paper", "Paper", priority=3),
)
HIDDEN = (Column("dtype", "Input dtype"), Column("source", "Source"))


def listing(specs: Iterable[Spec]) -> Table:
    """One row a model: name, default input, published or derived counts, arguments, paper."""
    listed, several = [], list(specs)
    for spec in several:
        given = () if spec.source.saved else _given(spec, alone=len(several) == 1)
        published = spec.source.published(spec.name)
        counts = {} if spec.arguments else published  # they are those of the default build
        keys = {key: spec.arguments.get(key, value) for key, value in (spec.keys or spec.arguments).items()}
        listed.append(
            {
                "name": spec.text,
                "source": spec.source.name,
                "input": given[0].input.shape if len(given) == 1 else tuple(g.input.shape for g in given) or None,
                "dtype": given[0].input.dtype if given else None,
                "params": counts.get("params"),
                "macs": counts.get("macs"),
                "keys": " ".join(f"{key}={written(value)}" for key, value in keys.items()),
                "paper": published.get("paper"),
            }
        )
    zoo = all(row["source"] == "zoo" for row in listed)
    made = "as published or derived for the default arguments" if zoo else "as the source publishes them"
    shown = [c for c in COLUMNS if c.key in ("name", "input") or any(row[c.key] for row in listed)]
    return Table(
        title="",
        columns=tuple(shown),
        hidden=(*HIDDEN, *(c for c in COLUMNS if c not in shown)),
        rows=tuple(listed),
        caption=f"Counts {made}; `archscope table` computes them anew." if len(shown) > 2 else "",
    )


def _given(spec: Spec, alone: bool) -> tuple[Argument, ...]:
    """The default inputs; of many models one may be without, whatever is wrong with it: to run it says what."""
    try:
        return inputs_of(spec)
    except Exception:
        if alone:
            raise
        return ()
