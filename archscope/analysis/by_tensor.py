"""The table of a file's tensors, and its row among models."""

from typing import Any

from archscope.core.formats.json import whole
from archscope.core.table import Column, Table
from archscope.core.version import __version__
from archscope.core.weights import StoredTensor, Weights, bits, total

NO_OPERATORS = "a file of weights has no operators: its MACs, FLOPs, activations and receptive field are unknown"

TENSOR_COLUMNS = (
    Column("path", "Tensor"),
    Column("dtype", "Type"),
    Column("shape", "Shape", "shape", priority=1),
    Column("params", "Parameters", "count"),
    Column("stored", "Bytes", "count", priority=1),
    Column("bits", "Bits", "count", priority=2, means="Bits: stored bits a parameter, scales included."),
    Column("packing", "Packing", priority=3),
)
TENSOR_HIDDEN = (Column("tensors", "Tensors", "count"), Column("model", "Model"))


def tensor_table(weights: Weights, depth: int | None = None) -> Table:
    """One row a tensor, or, with a depth, one row a module down to this depth. The last row has the totals."""
    listed = [(t.name, [t]) for t in weights.tensors] if depth is None else list(_modules(weights, depth).items())
    packed = any(t.packing for t in weights.tensors)
    columns = tuple(c for c in TENSOR_COLUMNS if packed or c.key != "packing")
    count = len(weights.tensors)
    return Table(
        title=f"{weights.file}: {count:,} tensor{'' if count == 1 else 's'}, {weights.form}",
        columns=columns if depth is None else tuple(c for c in columns if c.key != "shape"),
        hidden=(*TENSOR_HIDDEN, *(c for c in TENSOR_COLUMNS if c not in columns or (depth and c.key == "shape"))),
        rows=tuple({**_row(path, tensors), "model": weights.file} for path, tensors in listed),
        totals={**_row("", list(weights.tensors)), "dtype": None, "shape": None, "packing": None},
        notes=(*weights.notes, NO_OPERATORS),
        caption=f"archscope {__version__}.",
    )


def tensor_json(weights: Weights, table: Table) -> str:
    """A table of tensors as one JSON object, with its totals before the rows."""
    known = {key: (table.totals or {}).get(key) for key in ("params", "stored", "bits", "tensors")}
    return whole(table, "tensors", {"model": weights.file, "input": [], "totals": known}, {"archscope": __version__})


def _modules(weights: Weights, depth: int) -> dict[str, list[StoredTensor]]:
    """The tensors of each module down to a depth; those of the model itself under their own names."""
    found: dict[str, list[StoredTensor]] = {}
    for tensor in weights.tensors:
        module = tensor.name.rpartition(".")[0]
        found.setdefault(".".join(module.split(".")[:depth]) or tensor.name, []).append(tensor)
    return found


def _row(path: str, tensors: list[StoredTensor]) -> dict[str, Any]:
    width = bits(tensors)
    return {
        "path": path,
        "dtype": ", ".join(dict.fromkeys(t.dtype for t in tensors)),
        "shape": tensors[0].shape if len(tensors) == 1 else None,
        "params": total(t.params for t in tensors),
        "stored": sum(t.nbytes for t in tensors),
        "bits": None if width is None else round(width, 4),
        "packing": ", ".join(dict.fromkeys(t.packing for t in tensors if t.packing)),
        "tensors": len(tensors),
    }


def weights_row(weights: Weights, source: str) -> dict[str, Any]:
    """A file of weights among models: parameters and bytes. What takes a run is unknown."""
    row = {"model": weights.file, "source": source, "params": weights.params, "memory": weights.nbytes}
    return {**row, "notes": (*weights.notes, NO_OPERATORS)}
