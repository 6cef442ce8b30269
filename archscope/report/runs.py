"""The plots of what `archscope bench` measured: learning curves, and accuracy against speed. Rows of another device,
precision, recipe or data set never stand in one panel. Without torch."""

import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archscope.bench import results
from archscope.bench.results import GOOD, blocks, busy, groups, title_of, trainings
from archscope.core.errors import SpecError
from archscope.report.plots import (
    GREY,
    HUES,
    Data,
    area_of,
    bubbles,
    color_of,
    labelled,
    numbers_of,
    plot_of,
    scaled,
    ticks,
)  # fmt: skip

PANELS = 6  # blocks in a plot
LINES = 6  # networks in a panel, a colour each
ALL = 3  # networks up to which all three accuracies are drawn
ACCURACIES = {
    "test_accuracy": ("test", "-"),
    "validation_accuracy": ("validation", ":"),
    "train_accuracy": ("train", "--"),
}

Row = Mapping[str, Any]


def read(kind: str, files: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of files. Raises SpecError for what is no file of them, with what to type where it is a model."""
    for file in files:
        if ".jsonl" not in file and not Path(file.partition("@")[0]).expanduser().exists():
            raise SpecError(
                f"{kind} is a plot of runs, and {file} is no file of them: archscope bench {file} --output runs.jsonl "
                f"makes one, archscope plot {kind} runs.jsonl -o {kind}.svg draws it"
            )
    return results.read(files)


def _panels(rows: Sequence[Row], what: str, needs: str, shown: Any) -> Data:
    """A panel for each block of which something is shown. Raises SpecError where there are none or too many."""
    found = [(block, data) for block in blocks(trainings(rows, what)) if (data := shown(block))]
    if not found:
        raise SpecError(f"{what} shows {needs}, and these have none")
    if len(found) > PANELS:
        some = found[0][0][0]
        raise SpecError(
            f"{what} has room for {PANELS} settings of data, recipe, device and precision, not {len(found)}: choose "
            f"some, as with 'runs.jsonl@recipe={some['recipe']}'"
        )
    return {"panels": [{"title": title_of(block[0]), **data} for block, data in found]}


def remarks(block: Sequence[Row], rates: bool = False) -> list[str]:
    """What must be known of a block to read its figures. rates: speeds are among them."""
    first = block[0]
    found = ["synthetic data, made by a seed: says nothing about the networks"] if first.get("synthetic") else []
    found += ["tested on the training data"] if first.get("data_seen") else []
    return found + (["the machine was busy: do not trust the rates"] if rates and any(map(busy, block)) else [])


def _name(group: Sequence[Row]) -> str:
    """`lenet`, `lenet channels-last`, `lenet, seed 1: nan`."""
    first = group[0]
    name = " ".join(filter(None, (str(first["model"]), str(first["flags"]))))
    return name if first["status"] in GOOD else f"{name}, seed {first.get('seed')}: {first['status']}"


def _span(values: Iterable[Any]) -> list[float] | None:
    """Mean, least and largest of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return [statistics.fmean(known), min(known), max(known)] if known else None


def drawable(rows: Sequence[Row]) -> dict[str, tuple[str, Data]]:
    """The plots that these rows can be drawn as, with their numbers, as `pages.plots_of` has those of models."""
    out = {}
    for name in ("curves", "speed"):
        try:
            out[name] = (name, numbers_of(name, rows))
        except SpecError:  # only tables: no epochs, runs without training, more settings than fit
            continue
    return out


# ------------------------------------------------------------------------------------------------ learning curves


def curves_of(block: Sequence[Row]) -> list[Data]:
    """The networks of a block, each with its epochs, and at each mean, least and largest over the seeds."""
    out = []
    for group in groups(block):
        epochs: dict[int, list[Row]] = {}
        for row in group:
            for epoch in row.get("history") or ():
                epochs.setdefault(int(epoch["epoch"]), []).append(epoch)
        order = sorted(epochs)
        line = {
            key: [_span(one.get(key) for one in epochs[number]) for number in order]
            for key in ("train_loss", *ACCURACIES)
        }
        if order:
            out.append({"name": _name(group), "seeds": len(group), "epochs": order, **line})
    return out


def curves_numbers(rows: Sequence[Row]) -> Data:
    """Of each block the networks, those with the highest test accuracy where they are many."""

    def shown(block: Sequence[Row]) -> Data:
        lines = curves_of(block)
        best = sorted(lines, key=lambda line: -(line["test_accuracy"][-1] or [0.0])[0])[:LINES]
        notes = remarks(block)
        if len(lines) > LINES:
            notes.append(f"{LINES} of {len(lines)} networks: those with the highest test accuracy")
        return {"lines": [line for line in lines if line in best], "notes": notes} if lines else {}

    return _panels(rows, "the plot curves", "epochs that were completed", shown)


@plot_of("curves", "Learning curves", curves_numbers, of="runs")
def curves(figure: Any, data: Data) -> None:
    """For each block a panel of the loss and one of the accuracies; seeds as their mean, with a band from the least to
    the largest. Of more than three networks the test accuracy alone."""
    panels = data["panels"]
    figure.set_size_inches(9.5, 0.2 + 3.6 * len(panels))
    for part, panel in zip(figure.subfigures(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _heading(part, panel)
        loss, accuracy = part.subplots(1, 2)
        few = len(panel["lines"]) <= ALL
        keys = [key for key in ACCURACIES if few or key == "test_accuracy"]
        for line, color in zip(panel["lines"], HUES, strict=False):
            _draw(loss, line, "train_loss", color, "-", 1.0)
            for key in keys:
                _draw(accuracy, line, key, color, ACCURACIES[key][1], 100.0)
            loss.plot([], [], color=color, label=line["name"])
        for key in keys if few else ():
            if any(filter(None, (one for line in panel["lines"] for one in line[key]))):
                accuracy.plot([], [], color=GREY, linestyle=ACCURACIES[key][1], label=ACCURACIES[key][0])
        seeds = max(line["seeds"] for line in panel["lines"])
        if seeds > 1:
            accuracy.fill_between([], [], [], color=GREY, alpha=0.25, linewidth=0, label=f"range of {seeds} seeds")
        for ax, what in ((loss, "Train loss"), (accuracy, "Accuracy (%)" if few else "Test accuracy (%)")):
            ax.set_ylabel(what)
            ax.set_xlabel("Epoch")
            ax.xaxis.set_major_locator(_whole())
        loss.legend(loc="upper right")
        if accuracy.get_legend_handles_labels()[0]:
            accuracy.legend(loc="lower right")


def _heading(part: Any, panel: Data) -> None:
    lines = [line for text in (panel["title"], *panel["notes"]) for line in textwrap.wrap(text, 84)]
    part.suptitle("\n".join(lines), fontsize=9.5, color=GREY)


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, min_n_ticks=1)


def _draw(ax: Any, line: Data, key: str, color: str, style: str, scale: float) -> None:
    points = [
        (epoch, *(scale * v for v in span)) for epoch, span in zip(line["epochs"], line[key], strict=True) if span
    ]
    if not points:
        return
    epochs, mean, low, high = zip(*points, strict=True)
    mark = {"marker": "o", "markersize": 3} if len(points) <= 12 and style == "-" else {}
    ax.plot(epochs, mean, color=color, linestyle=style, **mark)
    if line["seeds"] > 1:
        ax.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)


# ------------------------------------------------------------------------------------------ accuracy against speed


def speed_of(block: Sequence[Row]) -> list[Data]:
    """The networks of a block whose accuracy and speed are known: means over the seeds, and the least and largest."""
    out = []
    for group in groups(block):
        rate = _span(row.get("examples_per_second") for row in group)
        accuracy = _span(row.get("test_accuracy") for row in group)
        if rate and accuracy and group[0]["status"] in GOOD:
            out.append(
                {
                    "name": _name(group), "model": group[0]["model"], "params": group[0].get("params"),
                    "seeds": len(group), "examples_per_second": rate[0], "test_accuracy": accuracy,
                }
            )  # fmt: skip
    return out


def speed_numbers(rows: Sequence[Row]) -> Data:
    """Of each block the networks with accuracy, speed and parameters."""

    def shown(block: Sequence[Row]) -> Data:
        points = speed_of(block)
        return {"points": points, "notes": remarks(block, rates=True)} if points else {}

    return _panels(rows, "the plot speed", "runs with an accuracy and a speed", shown)


@plot_of("speed", "Test accuracy against examples a second; areas are parameters", speed_numbers, of="runs")
def speed(figure: Any, data: Data) -> None:
    """For each block a panel with a circle a network; a bar from the least to the largest accuracy of its seeds."""
    panels = data["panels"]
    wide = 1 if len(panels) == 1 else 2
    tall = -(-len(panels) // wide)
    figure.set_size_inches(8.4 if wide == 1 else 13.0, 5.2 * tall)
    todo = []
    for part, panel in zip(figure.subfigures(tall, wide, squeeze=False).flat, panels, strict=False):
        _heading(part, panel)
        ax = part.subplots()
        points = sorted(panel["points"], key=lambda point: (-(point["params"] or 0), point["name"]))
        x = [point["examples_per_second"] for point in points]
        mean, low, high = zip(*([100 * value for value in point["test_accuracy"]] for point in points), strict=True)
        most = points[0]["params"] or 1
        areas = [area_of(point["params"], most) for point in points]
        colors = [color_of(point["model"]) for point in points]
        bubbles(ax, x, mean, colors, areas)
        ax.vlines(x, low, high, colors=colors, linewidth=1.2)
        ax.set_xscale("log")
        ax.set_xlim(min(x) / 1.6, max(x) * 1.6)
        room = max(1.5, 0.18 * (max(high) - min(low)))
        ax.set_ylim(min(low) - room, min(max(high) + room, 102))
        ax.xaxis.set_major_locator(ticks(3 if max(x) > 4 * min(x) else 9))
        ax.xaxis.set_major_formatter(scaled)
        ax.minorticks_off()
        ax.set_xlabel("Examples/s")
        ax.set_ylabel("Test accuracy (%)")
        todo.append((ax, list(zip((point["name"] for point in points), x, mean, areas, strict=True))))
        for params in (most, most // 10) if most > 1 else ():
            label = f"{scaled(float(f'{params:.2g}'))} parameters"
            ax.scatter([], [], s=area_of(params, most), c=GREY, alpha=0.4, label=label)
        if any(point["seeds"] > 1 for point in points):
            ax.vlines([], [], [], colors=GREY, linewidth=1.2, label="range of the seeds")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best", labelspacing=1.2, borderpad=0.8)
    for ax, points in todo:
        labelled(figure, ax, points)
