"""The plots that people expect, of one or several traces; those of runs are in `runs.py`.

A plot is two functions: its numbers, a pure function of the traces, and how they are drawn. The file holds a digest of
the numbers, so that a test knows whether it is up to date without drawing it again. Colours are those of Okabe
and Ito (2008); the background is transparent and the axes are of a grey that can be read on white and on black.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.metrics.parameters import DENSE
from archscope.analysis.row import Row, rows
from archscope.analysis.verification import WHOLE
from archscope.core.errors import SpecError
from archscope.core.formats.base import one_line
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.peers.published import figures
from archscope.report.labels import Circle, placed
from archscope.zoo.catalogue import entries

GREY = "#767676"
COLORS = {  # Okabe–Ito; black is left out, it cannot be seen on black
    "blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "vermillion": "#D55E00", "purple": "#CC79A7",
    "sky": "#56B4E9", "yellow": "#D6C700", "grey": "#767676",
}  # fmt: skip
FAMILY_COLORS = {
    "lenet": "orange", "alexnet": "orange", "vgg": "blue", "nin": "yellow", "googlenet": "yellow",
    "resnet": "vermillion", "densenet": "green", "mobilenet": "purple", "recurrent": "sky",
}  # fmt: skip
HUES = [color for name, color in COLORS.items() if name not in ("grey", "yellow")]
LINES = ("-", "--", "-.", ":")

HIGH = 7.0  # inches: a plot that is meant to be higher has a line for each model, and keeps its height
LEAST = 0.62  # of the height that was meant is left where a plot is narrow

DRAWN = ("params", "macs", "activations")  # what is drawn of models and of layers

Data = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """numbers: traces, or rows of runs, -> what is drawn, plain JSON. drawn: figure, numbers -> nothing. most: models
    that fit in. of: "models" or "runs", what its numbers are made of."""

    title: str
    numbers: Callable[[Sequence[Any]], Data]
    drawn: Callable[[Any, Data], None]
    most: int
    of: str


PLOTS: Registry[Plot] = Registry("plot")


def plot_of(
    name: str, title: str, numbers: Callable[[Sequence[Any]], Data], most: int = 1000, of: str = "models"
) -> Callable[[Callable[[Any, Data], None]], Callable[[Any, Data], None]]:
    """Enter a plot over the function that draws it."""

    def enter(drawn: Callable[[Any, Data], None]) -> Callable[[Any, Data], None]:
        PLOTS.add(name, Plot(title, numbers, drawn, most, of))
        return drawn

    return enter


def digest(data: Data) -> str:
    """A checksum of the numbers, which the file holds: it changes when what is drawn changes."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def picture(name: str, data: Data, form: str = "svg", inches: float | None = None, dpi: float = 200) -> bytes:
    """A plot of its numbers, as the bytes of an svg, a png or a pdf. Raises SpecError where matplotlib is missing.

    inches: its width, else that of its design; text has the same size in points. dpi: of a png.
    """
    with canvas(inches) as figure, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            PLOTS[name].drawn(figure, data)
            return bytes_of(figure, form, {"Description": f"archscope {name} {digest(data)}"}, dpi)
        except UserWarning as error:  # of matplotlib, where axes have no room
            raise SpecError(f"the plot {name} has no room in that --width: a wider one, or fewer models") from error


@contextmanager
def canvas(inches: float | None = None, **size: Any) -> Iterator[Any]:
    """An empty figure in the style of all plots. inches: its width, whatever the plot sets.

    Raises SpecError where matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SpecError("plots need matplotlib: pip install matplotlib") from error
    style: dict[Any, Any] = {**mpl.rcParamsDefault, **STYLE}  # whatever a user has set
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an empty box stands for it
        figure = _of_width(Figure, inches)(layout="constrained", **size)
        FigureCanvasAgg(figure)
        yield figure


def _of_width(Figure: Any, inches: float | None) -> Any:
    """A class of figures; with a width they keep it, and a part of the height that was meant."""
    if inches is None:
        return Figure

    class FixedSizeFigure(Figure):
        def set_size_inches(self, w: Any, h: float | None = None, forward: bool = True) -> None:
            wide, high = w if h is None else (w, h)
            part = 1.0 if high > HIGH else max(LEAST, inches / wide)
            super().set_size_inches(inches, high * part, forward)

    return FixedSizeFigure


def bytes_of(figure: Any, form: str, more: Mapping[str, str] | None = None, dpi: float = 200) -> bytes:
    """A figure as an svg, a png or a pdf without a date. more: what else its metadata holds. dpi: of a png."""
    out = io.BytesIO()
    always: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": "archscope"},
        "pdf": {"CreationDate": None, "Creator": "archscope"},
    }[form]
    said = {"Subject" if form == "pdf" and key == "Description" else key: text for key, text in (more or {}).items()}
    size = {"dpi": dpi} if form == "png" else {}
    figure.savefig(out, format=form, transparent=True, metadata={**always, **said}, **size)
    return out.getvalue()


STYLE = {
    "svg.hashsalt": "archscope",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a name with $ is no formula
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}


def scaled(value: float, _: Any = None) -> str:
    """A tick: 10 M, 1 G."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "K")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:g} {prefix}"
    return f"{value:g}"


def color_of(model: str) -> str:
    """By the family of a network of the zoo; grey for others."""
    entry = entries().get(model.partition("@")[0])
    return COLORS[FAMILY_COLORS.get(entry.family, "grey") if entry is not None else "grey"]


# ------------------------------------------------------------------------------------------ parameters against MACs


def models_numbers(traces: Sequence[Trace]) -> Data:
    return {"models": [{"model": t.model, **{key: totals(t)[key] for key in DRAWN}} for t in traces]}


def corner(shown: Sequence[Data]) -> list[Data]:
    """The models of the second panel: the large ones, where they are many and not all."""
    large = [m for m in shown if (m["macs"] or 0) >= 5e7 and (m["params"] or 0) >= 1e6]
    return large if 12 < len(large) < len(shown) else []


@plot_of("models", "Parameters against MACs; areas are activation memory", models_numbers)
def models(figure: Any, data: Data) -> None:
    """One circle a model, both axes logarithmic; what has no MACs or no parameters is left out.

    Where most models stand in one corner, that corner has a panel of its own.
    """
    shown = [m for m in data["models"] if m["params"] and m["macs"]]
    shown.sort(key=lambda m: (-m["activations"], m["model"]))
    large = corner(shown)
    small = [m for m in shown if m not in large]
    split = bool(large)
    figure.set_size_inches(14.0 if split else 9.5, 7.0)
    panels = figure.subplots(1, 2, width_ratios=(1, 1.9)) if split else [figure.add_subplot()]
    most = max((m["activations"] for m in shown), default=1)

    for ax, mine in zip(panels, (shown, large) if split else (shown,), strict=True):
        ax.set_xscale("log")
        ax.set_yscale("log")
        colors, areas = [color_of(m["model"]) for m in mine], [area_of(m["activations"], most) for m in mine]
        bubbles(ax, [m["macs"] for m in mine], [m["params"] for m in mine], colors, areas)
        for axis, key in (("x", "macs"), ("y", "params")):
            values = [m[key] for m in mine] or [1]
            room = 2.4 if mine is shown else 1.5
            getattr(ax, f"set_{axis}lim")(min(values) / room, max(values) * room)
            getattr(ax, f"{axis}axis").set_major_locator(ticks(3 if mine is large and split else 1))
            getattr(ax, f"{axis}axis").set_major_formatter(scaled)
        ax.set_xlabel("MACs")
        ax.minorticks_off()
    panels[0].set_ylabel("Parameters")
    for scale in (most, most / 10):
        panels[0].scatter(
            [], [], s=area_of(scale, most), c=GREY, alpha=0.4, label=f"{scale / 1e6:.3g} MB of activations"
        )
    panels[0].legend(loc="upper left", labelspacing=1.2, borderpad=0.8)
    for ax, mine in zip(panels, (small, large) if split else (shown,), strict=True):
        labelled(figure, ax, [(m["model"], m["macs"], m["params"], area_of(m["activations"], most)) for m in mine])


def area_of(amount: float | None, most: float) -> float:
    """The area of a circle, in square points; what is 0 can still be seen."""
    return max(14.0, 620.0 * (amount or 0) / most)


def bubbles(ax: Any, x: Sequence[float], y: Sequence[float], colors: Sequence[str], areas: Sequence[float]) -> None:
    """A circle a model."""
    ax.scatter(x, y, s=areas, c=colors, alpha=0.55, linewidths=0.8, edgecolors=GREY)


def style_of(i: int, colors: Sequence[str] = HUES) -> dict[str, str]:
    """Colour and dashes of the i-th line of a plot."""
    return {"color": colors[i % len(colors)], "linestyle": LINES[i // len(colors) % len(LINES)]}


def ticks(each: int) -> Any:
    """Of a logarithmic axis: 1 a decade; 1, 2 and 5; or all 9."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs={1: (1.0,), 3: (1.0, 2.0, 5.0), 9: range(1, 10)}[each], numticks=20)


def labelled(figure: Any, ax: Any, points: Sequence[tuple[str, float, float, float]]) -> None:
    """Names beside the circles, where they cover neither each other nor a circle."""
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    box = ax.get_window_extent()
    circles = []
    for name, x, y, area in points:
        px, py = ax.transData.transform((x, y))
        circles.append(Circle(name, float(px), float(py), (area / 3.14159) ** 0.5 * scale))
    size = 7.2
    found = placed(circles, size * scale, (box.x0, box.y0, box.x1, box.y1))
    back = ax.transData.inverted()
    for circle, spot in zip(circles, found, strict=True):
        x, y = back.transform((spot.x, spot.y))
        ax.text(x, y, circle.name, fontsize=size, ha="left", va="center", zorder=4)
        if spot.line is not None:
            ends = back.transform([(circle.x, circle.y), spot.line])
            ax.plot(ends[:, 0], ends[:, 1], color=GREY, linewidth=0.5, zorder=3)


# ------------------------------------------------------------------------------------------------ layer by layer


def _by_row(trace: Trace, keys: Sequence[str] = DRAWN) -> tuple[list[Row], dict[str, list[Any]]]:
    table = rows(trace, None, WHOLE)
    return table, {key: METRICS[key].of(trace, table) for key in keys}


def layers_numbers(traces: Sequence[Trace]) -> Data:
    out = []
    for trace in traces:
        table, values = _by_row(trace)
        kept = [i for i in range(len(table)) if any(column[i] for column in values.values())]
        paths, groups = [table[i].path for i in kept], [group_of(table[i].kind) for i in kept]
        columns = {key: [column[i] for i in kept] for key, column in values.items()}
        out.append({"model": trace.model, "paths": paths, "groups": groups, **columns})
    return {"models": out}


GROUPS = {"conv": "blue", "fc": "orange", "recurrent": "purple", "other": "grey"}


def group_of(kind: str) -> str:
    """conv, fc, recurrent or other."""
    if kind.startswith(("Conv", "conv")):
        return "conv"
    if kind in DENSE or kind in ("linear", "addmm"):
        return "fc"
    return "recurrent" if kind.startswith(("RNN", "LSTM", "GRU")) else "other"


@plot_of("layers", "Parameters, MACs and activations, layer by layer", layers_numbers, most=4)
def layers(figure: Any, data: Data) -> None:
    """Three rows of bars over the layers in run order, a column for each model."""
    many = data["models"]
    longest = max(len(m["paths"]) for m in many)
    figure.set_size_inches(min(14.0, max(7.0, (2.2 + 0.24 * min(longest, 60)) * len(many))), 6.4)
    axes = figure.subplots(3, len(many), sharex="col", squeeze=False)
    used = {group for m in many for group in m["groups"]}
    room = figure.get_size_inches()[0] / len(many) - 0.7  # inches of an axis
    named = [len(m["paths"]) <= min(50, room / 0.11) for m in many]  # a name takes as much as it is high
    if not all(named):
        figure.supxlabel("Layers in run order", fontsize=9)
    for column, one in enumerate(many):
        for row, key in enumerate(DRAWN):
            ax = axes[row][column]
            heights = [value or 0 for value in one[key]]
            ax.bar(range(len(heights)), heights, color=[COLORS[GROUPS[g]] for g in one["groups"]], width=0.8)
            ax.yaxis.set_major_formatter(scaled)
            ax.grid(axis="x", visible=False)
            ax.margins(x=0.01)
            if column == 0:
                ax.set_ylabel(METRICS[key].title + (" (B)" if METRICS[key].form == "bytes" else ""))
            if row == 0:
                ax.set_title(one["model"], fontsize=10 if room > 1.2 else 7)
        if named[column]:
            axes[2][column].set_xticks(range(len(one["paths"])), one["paths"], rotation=90, fontsize=7)
    handles = [_swatch(COLORS[GROUPS[g]], g) for g in GROUPS if g in used]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _swatch(color: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)


# ------------------------------------------------------------------------------------------------- conv and fc


def sums_of(trace: Trace) -> dict[str, dict[str, int]]:
    """Parameters and MACs of a model by group."""
    table, values = _by_row(trace, ("params", "macs"))
    sums = {key: dict.fromkeys(GROUPS, 0) for key in values}
    for key, column in values.items():
        for row, value in zip(table, column, strict=True):
            sums[key][group_of(row.kind)] += value or 0
    return sums


def share_numbers(traces: Sequence[Trace]) -> Data:
    return {"models": [{"model": trace.model, **sums_of(trace)} for trace in traces]}


@plot_of("share", "Where parameters and MACs sit: convolutions, fully connected layers, the rest", share_numbers)
def share(figure: Any, data: Data) -> None:
    """Two bars of 100 % for each model, side by side."""
    many = [m for m in data["models"] if sum(m["params"].values())]
    figure.set_size_inches(9.0, 1.2 + 0.21 * max(4, len(many)))
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, key, title in ((left, "params", "Parameters"), (right, "macs", "MACs")):
        start = [0.0] * len(many)
        for group, color in GROUPS.items():
            wide = [100 * m[key][group] / (sum(m[key].values()) or 1) for m in many]
            if any(wide):
                ax.barh(range(len(many)), wide, left=start, color=COLORS[color], height=0.74, label=group)
                start = [a + b for a, b in zip(start, wide, strict=True)]
        ax.set_xlim(0, 100)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("%")
        ax.grid(axis="y", visible=False)
        ax.margins(y=0.01)
    left.set_yticks(range(len(many)), [m["model"] for m in many], fontsize=8)
    left.invert_yaxis()
    used = [g for g in GROUPS if any(m[k][g] for m in many for k in ("params", "macs"))]
    figure.legend(handles=[_swatch(COLORS[GROUPS[g]], g) for g in used], loc="outside upper right", ncols=len(used))


# ---------------------------------------------------------------------------------------------- receptive field


def field_numbers(traces: Sequence[Trace]) -> Data:
    out = []
    for trace in traces:
        table, values = _by_row(trace, ("receptive_field", "macs"))
        known = [max(f) if isinstance(f, tuple) else f for f in values["receptive_field"]]
        weighted = 0
        steps = [[0, 1]]
        for row, value, count in zip(table, known, values["macs"], strict=True):
            weighted += bool(count)
            if value is not None and row.outputs and len(row.outputs[0].shape) > 2:
                side = max(value, steps[-1][1])  # of branches, the one that has seen most
                steps.append([weighted, side])
        side = trace.inputs[0].shape[-1] if trace.inputs and len(trace.inputs[0].shape) > 2 else None
        out.append({"model": trace.model, "side": side, "steps": [list(s) for s in dict.fromkeys(map(tuple, steps))]})
    return {"models": out}


@plot_of("field", "Receptive field against depth", field_numbers, most=8)
def field(figure: Any, data: Data) -> None:
    """A line for each model: layers with weights so far, side of the receptive field; dotted: the side of the input."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(8.4, 5.2)
    ax = figure.add_subplot()
    for i, one in enumerate(data["models"]):
        x, y = zip(*one["steps"], strict=True)
        ax.step(x, y, where="post", label=one["model"], **style_of(i))
        ax.plot(x[-1], y[-1], "o", color=style_of(i)["color"], markersize=4)
    known = sorted({m["side"] for m in data["models"]} - {None})
    for i, side in enumerate(known):
        ax.axhline(side, color=GREY, linestyle=":", linewidth=1)
        near = [other for other in known if other <= side * 1.15 and side <= other * 1.15]
        if i + 1 < len(known) and known[i + 1] in near:
            continue  # named above the uppermost
        text = f"input {', '.join(str(other) for other in near)}"
        ax.annotate(text, (1, side), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                    textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("Layers with weights, in run order")
    ax.set_ylabel("Receptive field (input pixels)")
    ax.legend(loc="lower right")


# ------------------------------------------------------------------------------------------- input side and width


def scaling_numbers(traces: Sequence[Trace]) -> Data:
    """Grouped by everything but the side: a network at several widths is several lines. With what papers print."""
    lines: dict[str, list[list[int]]] = {}
    for trace in traces:
        side = trace.inputs[0].shape[-1]
        lines.setdefault(trace.model, []).append([side, totals(trace)["macs"], totals(trace)["params"]])
    out = []
    for model, points in lines.items():
        printed = {}
        for figure in figures(model):
            side = int(figure.input.rpartition("x")[2]) if figure.input else _own_side(model)
            if figure.quantity == "macs" and not figure.layers and not figure.share and side is not None:
                printed.setdefault(side, int(figure.rounded.value))
        kept = [[side, value] for side, value in sorted(printed.items()) if side in {p[0] for p in points}]
        out.append({"model": model, "points": sorted(points), "printed": kept})
    return {"lines": out}


def _own_side(model: str) -> int | None:
    entry = entries().get(model.partition("@")[0])
    return int(entry.input.partition(":")[0].rpartition("x")[2]) if entry is not None else None


@plot_of("scaling", "How cost grows with the side of the input and with the width", scaling_numbers)
def scaling(figure: Any, data: Data) -> None:
    """MACs against the side, a line for each network or width; both axes logarithmic: a slope of 2 is quadratic."""
    figure.set_size_inches(8.4, 5.4)
    ax = figure.add_subplot()
    printed = 0
    for i, line in enumerate(data["lines"]):
        sides, macs = [p[0] for p in line["points"]], [p[1] for p in line["points"]]
        ax.plot(sides, macs, marker="o", markersize=3.5, label=line["model"], **style_of(i))
        x, y = zip(*line["printed"], strict=True) if line["printed"] else ((), ())
        ax.plot(x, y, "D", markersize=8, markerfacecolor="none", markeredgecolor=GREY, markeredgewidth=1.1)
        printed += len(x)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    sides = sorted({p[0] for line in data["lines"] for p in line["points"]})
    shown = sides if len(sides) <= 10 else sides[:: -(-len(sides) // 10)]
    ax.set_xticks(shown, [str(side) for side in shown])
    ax.yaxis.set_major_locator(ticks(3))
    ax.yaxis.set_major_formatter(scaled)
    if printed:
        ax.plot([], [], "D", markersize=8, markerfacecolor="none", markeredgecolor=GREY, label="printed in the paper")
    ax.set_xlabel("Side of the input")
    ax.set_ylabel("MACs")
    ax.minorticks_off()
    if figure.get_size_inches()[0] > 5:
        ax.legend(loc="upper left")
    else:
        figure.legend(loc="outside lower center")


def may_plot(name: str, models: int) -> None:
    """Raises SpecError where these are more models than a plot has room for."""
    most = PLOTS[name].most
    if models > most:
        raise SpecError(f"the plot {name} takes {most} models at most, not {models}: name fewer")


def numbers_of(name: str, traces: Sequence[Any]) -> Data:
    """The numbers of a plot. Raises SpecError for more models than it has room for."""
    if name != "scaling" and PLOTS[name].of == "models":
        may_plot(name, len(traces))
    return _plain(PLOTS[name].numbers(traces))


def _plain(value: Any) -> Any:
    """The same numbers, with names on one line."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
