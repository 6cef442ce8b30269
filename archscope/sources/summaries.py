"""`archscope.summary`: the layers of a model, with the arguments of torchinfo's function of that name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from archscope.core.ascii import to_ascii
from archscope.core.errors import SpecError
from archscope.core.formats import printed
from archscope.core.record import Trace
from archscope.core.registry import PROVIDED
from archscope.core.table import Column, Table, unknown
from archscope.sources.records import record_of

COLUMNS = {  # torchinfo's names of columns
    "input_size": "input",
    "output_size": "output_shape",
    "num_params": "params",
    "params_percent": "params_percent",
    "kernel_size": "window",
    "mult_adds": "macs",
    "trainable": "trainable",
}
MODES = {"eval": False, "train": True, "same": None}
ROWS = ("depth", "var_names", "ascii_only", "hide_recursive_layers")


def summary(
    model: Any,
    input_size: Any = None,
    input_data: Any = None,
    batch_dim: int | None = None,
    cache_forward_pass: bool | None = None,
    col_names: Iterable[str] | None = None,
    col_width: int = 25,
    depth: int | None = None,
    device: Any = None,
    dtypes: Sequence[Any] | None = None,
    mode: str | None = None,
    row_settings: Iterable[str] | None = None,
    verbose: int | None = None,
    **kwargs: Any,
) -> Trace:
    """Run a model once without computing anything, print its layers, and return the record.

    The arguments are those of `torchinfo.summary`, so that one import line changes. model: a module, or the name of a
    model, "torchvision:resnet18". input_size: a shape, or several. input_data: tensors in their place. batch_dim: the
    axis at which a batch of 1 is inserted into each shape. col_names: keys of archscope's columns, or torchinfo's
    names. depth: modules down to this depth (None: every layer). dtypes: one for each shape; else that of the model.
    mode: "eval" (None), "train", or "same", as the model is. row_settings: "depth" adds a column, "ascii_only" keeps to
    ASCII. verbose: 0 prints nothing. kwargs: more arguments of the forward, by name. device, cache_forward_pass and
    col_width change nothing: nothing is computed, and columns are as wide as they must be.

    Raises SpecError for wrong arguments, and what `trace` raises.
    """
    mode = str(getattr(mode, "value", mode or "eval"))
    if mode not in MODES:
        raise SpecError(unknown("mode", mode, MODES))
    _known(device)
    settings = [str(getattr(one, "value", one)) for one in row_settings or ()]
    for one in settings:
        if one not in ROWS:
            raise SpecError(unknown("row setting", one, ROWS))
    if "batch_size" in kwargs:
        raise SpecError("write the batch as the first side, or batch_dim=0 for a batch of 1, and no batch_size")
    if hasattr(input_size, "shape") and input_data is None:  # a tensor in the place of its shape
        input_size, input_data = None, input_size
    if input_size is not None and input_data is not None:
        raise SpecError("give input_size or input_data, not both")
    if isinstance(model, str):
        record = record_of(model, _text(input_size, batch_dim), train=bool(MODES[mode]))
    else:
        if input_size is None and input_data is None and not kwargs:
            raise SpecError("a model needs an input: write input_size=(1, 3, 224, 224), or input_data=a tensor")
        inputs = input_data if input_size is None else tuple(_inputs(input_size, batch_dim, dtypes))
        if isinstance(inputs, list):  # torchinfo hands a list over as the arguments
            inputs = tuple(inputs)
        tracer = import_module("archscope.tracing.tracer")
        record = tracer.trace(model, () if inputs is None else inputs, kwargs, train=MODES[mode])
    table = _table(record, depth, col_names, settings)
    if verbose is None or verbose > 0:
        text = printed(table)
        print(to_ascii(text) if "ascii_only" in settings else text, end="")
    return record


def _known(device: Any) -> None:
    """Raises SpecError for what is no device."""
    if device is not None:
        import torch

        try:
            torch.device(device)
        except (RuntimeError, TypeError):
            raise SpecError(f"no device is called {device!r}: cpu, cuda, cuda:1, mps or xpu") from None


def _shapes(size: Sequence[Any], batch_dim: int | None) -> list[tuple[int, ...]]:
    """One shape, or several, each with a batch of 1 where an axis for it is named."""
    try:
        shapes = [tuple(size)] if all(isinstance(side, int) for side in size) else [tuple(one) for one in size]
        if not all(isinstance(side, int) for shape in shapes for side in shape):
            raise TypeError
    except TypeError:
        raise SpecError(f"input_size is a shape or several, such as (1, 3, 224, 224), not {size!r}") from None
    if batch_dim is None:
        return shapes
    places = [batch_dim if batch_dim >= 0 else len(shape) + 1 + batch_dim for shape in shapes]
    return [(*shape[:at], 1, *shape[at:]) for shape, at in zip(shapes, places, strict=True)]


def _inputs(size: Sequence[Any], batch_dim: int | None, dtypes: Sequence[Any] | None) -> list[Any]:
    import torch

    shapes = _shapes(size, batch_dim)
    if dtypes is None:
        return list(shapes)
    if len(dtypes) != len(shapes):
        raise SpecError(f"{len(dtypes)} dtypes are given for {len(shapes)} inputs")
    if wrong := [one for one in dtypes if not isinstance(one, torch.dtype)]:
        raise SpecError(f"{wrong[0]!r} is no dtype: write torch.int64, torch.float16, …")
    return [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in zip(shapes, dtypes, strict=True)]


def _text(size: Sequence[Any] | None, batch_dim: int | None) -> Any:
    return None if size is None else ["x".join(map(str, shape)) for shape in _shapes(size, batch_dim)]


def _table(record: Trace, depth: int | None, names: Iterable[str] | None, settings: list[str]) -> Table:
    """The layer table with the columns that were asked for."""
    table: Table = PROVIDED["layer table"](record, depth)
    whole = table.totals["params"] if table.totals else 0
    rows = tuple({**row, "params_percent": _share(row, whole)} for row in table.rows)
    table = replace(table, rows=rows, hidden=(*table.hidden, Column("params_percent", "Of all parameters", "share")))
    more = ["depth"] if "depth" in settings else []
    if names is None and not more:
        return table
    given = (
        [column.key for column in table.columns] if names is None else [COLUMNS.get(_key(n), _key(n)) for n in names]
    )
    first = ["path", "kind"] if names is not None else []
    try:
        return table.select(dict.fromkeys([*first, *more, *given]))
    except ValueError as error:
        raise SpecError(str(error)) from error


def _key(name: Any) -> str:
    return str(getattr(name, "value", name))


def _share(row: Mapping[str, Any], whole: int) -> float | None:
    return row["params"] / whole if whole and row["params"] is not None else None
