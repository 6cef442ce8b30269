"""A worksheet: the layers of a network with their configuration, shapes and parameter counts left blank.

A row is a layer that changes the shape or has parameters. `after` names the row, or the input, that it reads; layers in
between keep the shape and have no row. What no closed form derives is filled in. The sheet names its model and input,
so `grade` needs nothing else; the same model gives the same sheet.
"""

import csv as csv_format
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE, as_layer, check
from archscope.core.formats import escaped
from archscope.core.formats.base import cell_text, one_line
from archscope.core.record import Shape, Trace
from archscope.learn.language import FIGURE
from archscope.learn.language import asked as figures

GIVEN = (
    "layer", "after", "kind", "kernel", "stride", "padding", "dilation", "groups", "bias", "out", "more",
)  # fmt: skip
ASKED = ("output", "parameters")
FORMATS = ("md", "csv")


class Question(NamedTuple):
    """One row of a sheet, with the right answers.

    layer: its name, with #2 where a module runs again. after: the rows that its inputs come from, "input" for the
    model's own. kind, config, shapes: the arguments of its closed form. output, params: the answers; asked: whether
    they are left blank.
    """

    layer: str
    after: tuple[str, ...]
    kind: str
    config: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    output: Shape
    params: int
    asked: bool


def questions(trace: Trace) -> list[Question]:
    """The rows of a sheet, in run order."""
    table = rows(trace, whole=WHOLE)
    comes = {t.id: "input" if len(trace.inputs) == 1 else f"input {i}" for i, t in enumerate(trace.inputs, 1)}
    weights = {p.tensor.id for p in (*trace.params, *trace.buffers)}
    times: Counter[str] = Counter()
    out = []
    for row, checked in zip(table, check(trace, table), strict=True):
        flowing = [t for t in row.inputs if t.id not in weights]
        if not flowing or not row.outputs:
            continue
        sources = tuple(dict.fromkeys(comes.get(t.id, "a constant") for t in flowing))
        params = sum(p.tensor.numel for p in row.params)
        if row.outputs[0].shape == flowing[0].shape and not params:
            terms = sources if len(sources) == 1 else [source.partition(" + ")[0] for source in sources]
            comes.setdefault(row.outputs[0].id, " + ".join(terms))
            continue
        times[row.path] += 1
        name = (row.path or trace.model) + (f"#{times[row.path]}" if times[row.path] > 1 else "")
        for t in row.outputs:
            comes.setdefault(t.id, name)
        kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
        asked = checked.agrees is True and row.call == 0
        shapes = tuple(t.shape for t in row.inputs)
        out.append(Question(name, sources, kind or row.kind, config, shapes, row.outputs[0].shape, params, asked))
    return out


# --------------------------------------------------------------------------------------------------- the written sheet


def head(trace: Trace, input: Sequence[str] = (), batch: int | None = None) -> dict[str, str]:
    """The model and its input as they are typed, for grading; the batch too, where the model has several inputs."""
    if len(trace.inputs) == 1:
        shape, dtype = trace.inputs[0].shape, trace.inputs[0].dtype
        text = "x".join(map(str, shape)) + ("" if dtype == "float32" else f":{dtype}")
        return {"model": trace.model, "input": text}
    header = {"model": trace.model, "input": " ".join(input) or "default"}
    return header if batch is None else {**header, "batch": str(batch)}


def worksheet(trace: Trace, format: str, header: Mapping[str, str], answers: bool = False) -> str:
    """The sheet as Markdown or CSV. answers: with everything filled in, to grade by hand."""
    times = "×" if format == "md" else "x"
    lines = []
    for one in questions(trace):
        filled = answers or not one.asked
        found = (times.join(map(str, one.output)), str(one.params)) if filled else ("", "")
        lines.append({**_configuration(one, times), **dict(zip(ASKED, found, strict=True))})
    about = figures(trace)
    for one in about:
        lines.append(dict.fromkeys((*GIVEN, *ASKED), "") | {"layer": one.heading, "more": one.given})
        lines[-1][FIGURE] = one.truth if answers else ""
    needed = {"layer", "after", "kind", "kernel", "stride", "padding", "groups", "bias", "out"}
    keys = [key for key in (*GIVEN, *ASKED) if key in (*needed, *ASKED) or any(line[key] for line in lines)]
    if about:
        keys.append(FIGURE)
        lines = [{FIGURE: "", **line} for line in lines]
    task = f"{_TASK} `figure` is of the model with its head, in the unit that its row names." if about else _TASK
    return _md(header, task, keys, lines) if format == "md" else _csv(header, keys, lines)


def _configuration(one: Question, times: str) -> dict[str, str]:
    """The configuration of a layer, a cell each."""
    config = one.config

    def cell(key: str) -> str:
        value = config.get(key)
        if value is None or value == ():
            return ""
        if isinstance(value, tuple):
            return times.join(map(str, value)) if len(set(value)) > 1 or key == "kernel_size" else str(value[0])
        if isinstance(value, bool):
            return "yes" if value else "no"
        return str(value)

    n = int(one.kind[-2]) if one.kind.endswith("d") and one.kind[-2:-1].isdigit() else 0
    kernel = cell("kernel_size")
    stride = cell("stride")
    if "kernel_size" in config:
        kernel = times.join([kernel] * n) if isinstance(config["kernel_size"], int) and n else kernel
        stride = stride or kernel
    out = next(
        (cell(key) for key in ("out_channels", "out_features", "hidden_size", "embedding_dim") if key in config), ""
    )
    learned = "bias" in config and one.params and "normalized_shape" not in config and "affine" not in config
    return {
        "layer": one.layer,
        "after": ", ".join(one.after),
        "kind": one.kind,
        "kernel": kernel,
        "stride": stride,
        "padding": cell("padding"),
        "dilation": cell("dilation") if cell("dilation") not in ("", "1") else "",
        "groups": cell("groups"),
        "bias": cell("bias") if learned else "",
        "out": out,
        "more": ", ".join(
            f"{key}={cell(key)}"
            for key, default in MORE.items()
            if key in config and config[key] != default and cell(key)
        ),
    }


# further arguments of closed forms, with the value that is left out
MORE: dict[str, Any] = {
    "ceil_mode": False, "output_padding": (0, 0), "output_size": None, "num_layers": 1, "bidirectional": False,
    "batch_first": None, "proj_size": 0, "num_embeddings": None, "num_heads": None, "affine": True,
    "elementwise_affine": True, "track_running_stats": True, "num_parameters": 1, "upscale_factor": None,
    "downscale_factor": None, "scale_factor": None, "size": None, "dim": None, "start_dim": 1, "end_dim": -1,
}  # fmt: skip

_TASK = (
    "Fill in `output`, batch included or not, and `parameters`: a layer without any has 0. `out` is the number of "
    "kernels, features or hidden units. `archscope grade` marks the sheet."
)


def _md(header: Mapping[str, str], task: str, keys: Sequence[str], lines: Sequence[Mapping[str, str]]) -> str:
    widths = [
        max(len(key), *(len(escaped(line[key], "md")) for line in lines), 10 if key in ASKED else 0) for key in keys
    ]

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(f'{cell:<{width}}' for cell, width in zip(map(md, cells), widths, strict=True))} |"

    def md(text: str) -> str:
        return escaped(text, "md")

    out = [
        f"# Worksheet: {md(header['model'])}",
        "",
        *(f"- {key}: `{one_line(value).replace('`', '')}`" for key, value in header.items()),
        "",
        task,
        "",
    ]
    out += [row(keys), f"|{'|'.join('-' * (width + 2) for width in widths)}|"]
    return "\n".join([*out, *(row([line[key] for key in keys]) for line in lines)]) + "\n"


def _csv(header: Mapping[str, str], keys: Sequence[str], lines: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\n")
    writer.writerows((key, cell_text(value)) for key, value in header.items())
    writer.writerow(keys)
    writer.writerows([cell_text(line[key]) for key in keys] for line in lines)
    return out.getvalue()
