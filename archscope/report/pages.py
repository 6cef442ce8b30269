"""Traces -> Markdown that GitHub renders: an overview, and a page for each model.

The same traces give the same bytes: nothing here depends on the day, the machine or the version of another package.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archscope.analysis.by_layer import layer_table
from archscope.analysis.by_model import MODEL_COLUMNS, model_row
from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.row import rows
from archscope.analysis.texts import inputs_text
from archscope.analysis.verification import WHOLE, disagreements
from archscope.core.formats import escaped, show, text_of
from archscope.core.record import Trace
from archscope.core.table import Column, Table
from archscope.peers import published
from archscope.peers.checks import derived
from archscope.peers.reconcile import account_of, account_table
from archscope.peers.tools import COUNTERS
from archscope.report.draw import mermaid
from archscope.report.graph import graph_of
from archscope.report.plots import PLOTS, corner, digest, models_numbers, numbers_of, sums_of
from archscope.report.solids import is_figure, svg_of_solids
from archscope.sources.inputs import Text
from archscope.sources.spec import Spec, written
from archscope.zoo.catalogue import Entry, entries

FIELD = "lenet alexnet vgg16 googlenet resnet50 densenet121 mobilenet-v2".split()  # of the plots of a few
BARS = "alexnet vgg16 googlenet".split()
GROUPS = {"conv": "convolutions", "fc": "fully connected layers", "recurrent": "recurrent layers", "other": "the rest"}


@dataclass(frozen=True)
class ReportModel:
    """One model of a report: its trace on an input and a batch, None for its own."""

    spec: Spec
    trace: Trace
    input: Text = None
    batch: int | None = None

    @property
    def own(self) -> bool:
        """Whether it ran as its source has it, and can be held against what is published of it."""
        return not self.input and self.batch is None

    @property
    def file(self) -> str:
        """The name of its page, without an ending."""
        return re.sub(r"[^\w.=@-]+", "_", self.spec.text)

    @property
    def entry(self) -> Entry | None:
        """The registration, where its counts are those of this run."""
        plain = self.own and self.spec.in_zoo and not self.spec.arguments
        return entries()[self.spec.name] if plain else None


def pages_of(subjects: Sequence[ReportModel], plots: Mapping[str, str], bench: Sequence[Table] = ()) -> dict[str, str]:
    """Every page by its path in the report. plots: the files of the plots by name. bench: tables of results."""
    out = {"README.md": overview(subjects, plots, bench)}
    for subject in subjects:
        graph = graph_of(subject.trace)
        drawing = f"figures/{subject.file}.svg" if is_figure(graph) else None
        if drawing is not None:
            out[drawing] = svg_of_solids(graph)
        out[f"models/{subject.file}.md"] = model_page(subject, drawing, mermaid(graph))
    return out


def plots_of(subjects: Sequence[ReportModel], grid: Sequence[Trace]) -> dict[str, tuple[str, Any]]:
    """What the overview shows: file -> plot and its numbers. grid: the traces of the plot of sizes and widths."""
    traces = [s.trace for s in subjects]
    named = {s.spec.text: s.trace for s in subjects}
    few = [named[name] for name in FIELD if name in named] or [t for t in traces if _is_picture(t)][:6]
    bars = [named[name] for name in BARS if name in named] or traces[:2]
    wanted = [("models", traces), ("share", traces), ("layers", bars), ("field", few), ("scaling", grid)]
    return {name: (name, numbers_of(name, of)) for name, of in wanted if of}


def _is_picture(trace: Trace) -> bool:
    return bool(trace.inputs) and len(trace.inputs[0].shape) == 4


def marked(name: str, data: Any) -> str:
    """The text that the file of a plot contains when it is up to date."""
    return f"archscope {name} {digest(data)}"


# ----------------------------------------------------------------------------------------------------- overview


def overview(subjects: Sequence[ReportModel], plots: Mapping[str, str], bench: Sequence[Table] = ()) -> str:
    """The first page: the table with links to the pages, and the plots."""
    listed = []
    for subject in subjects:
        row = model_row(subject.trace, subject.spec.source.name, not disagreements(subject.trace, subject.entry))
        listed.append({**row, "model": f"@@{subject.spec.text}@@{subject.file}@@"})
    columns = tuple(c for c in MODEL_COLUMNS if c.key != "memory")
    caption = "Input: each model's own, without a batch of more than one." if all(s.own for s in subjects) else ""
    table = text_of(Table("", columns, tuple(listed), caption=caption), "md")
    linked = re.sub(r"@@([^@]+(?:@[^@]+)*?)@@([^@]+(?:@[^@]+)*?)@@", r"[\1](models/\2.md)", table)
    verified = sum(bool(row["verified"]) for row in listed)
    blocks = [
        f"# {len(listed)} networks",
        "What they are, layer by layer, and why. Made by `archscope report`.",
        f"Every derivation holds in {verified} of {len(listed)}: closed form and observation agree in every layer, "
        "and the totals are those that were published or derived.",
        squeezed(linked),
    ]
    for name, file in plots.items():
        if PLOTS[name].of == "models":
            blocks += [f"## {PLOTS[name].title}", f"![{PLOTS[name].title}]({file})"]
            if name != "models" or corner(models_numbers([s.trace for s in subjects])["models"]):
                blocks.append(CAPTIONS[name])
    if bench:
        blocks += ["## Measured", *(squeezed(text_of(table, "md")) for table in bench)]
        for name, file in plots.items():
            if PLOTS[name].of == "runs":
                blocks += [f"### {PLOTS[name].title}", f"![{PLOTS[name].title}]({file})", CAPTIONS[name]]
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


CAPTIONS = {
    "models": "On the left all networks, on the right those of more than 50 million MACs and a million parameters.",
    "share": "The first convolutional networks had nine tenths of their parameters in the last three layers and nine "
    "tenths of their arithmetic in the others; global average pooling ended that.",
    "layers": "Grey is what has neither: activations, normalisation, pooling.",
    "field": "How many pixels of the input one position can depend on, along one side, after each layer with weights. "
    "Where the line crosses the dotted one, a position sees the whole input.",
    "scaling": "A width multiplier α acts on the channels of both sides of a layer and so by about α² on its cost; a "
    "resolution multiplier ρ acts by ρ². The diamonds are what Howard et al. 2017 print in tables 6, 7 and 9.",
    "curves": "Runs of several seeds are their mean, with a band from the least to the largest.",
    "speed": "Runs of several seeds are their mean, with a bar from the least to the largest accuracy.",
}


# ------------------------------------------------------------------------------------------------ a page a model


def model_page(subject: ReportModel, drawing: str | None, diagram: str) -> str:
    """Facts, drawing, layers with their derivations, where the numbers sit, what was verified, and the other tools."""
    trace = subject.trace
    blocks = [f"# {_md(trace.model)}", "[All networks](../README.md)", _facts(subject), "## Drawing"]
    if drawing is not None:
        blocks.append(f"![{_md(trace.model)}: its feature maps as solids](../{drawing})")
    blocks.append(f"```mermaid\n{diagram}```")
    blocks += ["## Where parameters and MACs sit", _groups(trace), squeezed(text_of(parts_table(trace), "md"))]
    blocks += ["## Layers", *_layers(trace)]
    blocks += ["## Verified", *_verified(subject)]
    accounts = [account_of(trace, name) for name in COUNTERS]
    table = replace(account_table(accounts, trace), title="", columns=ACCOUNT)
    blocks += [
        "## What other tools would print",
        "Predicted by their conventions from this record; `archscope reconcile` runs the tools themselves.",
        squeezed(text_of(table, "md")),
    ]
    return "\n\n".join(block.rstrip() for block in blocks if block) + "\n"


ACCOUNT = (Column("what", "Tool, and what it counts otherwise"), Column("amount", "Figure", "count"))


def _md(text: str) -> str:
    return escaped(text, "md")


def squeezed(text: str) -> str:
    """A pipe table without the spaces that align it in an editor: a third of the bytes."""
    lines = []
    for line in text.splitlines():
        if line.startswith("|"):
            line = re.sub(r"-{3,}", "--", re.sub(r" {2,}", " ", line)).replace("| ", "|").replace(" |", "|")
        lines.append(line)
    return "\n".join(lines)


def _facts(subject: ReportModel) -> str:
    trace, found = subject.trace, totals(subject.trace)
    published_of = subject.spec.source.published(subject.spec.name)
    default, changed = dict(subject.spec.keys), subject.spec.arguments
    facts = [
        ("Paper", _md(str(published_of["paper"])) if published_of.get("paper") else ""),
        ("Input", inputs_text(trace)),
        ("Parameters", show(found["params"], "count")),
        ("MACs", show(found["macs"], "count")),
        ("FLOPs", show(found["flops"], "count")),
        ("Activations", show(found["activations"], "bytes")),
        ("Size of the weights", show(found["memory"], "bytes")),
        ("Layers with weights, on the longest way", show(found["depth"], "count")),
        ("Receptive field", show(found["receptive_field"], "shape" if _is_list(found["receptive_field"]) else "count")),
        ("Arguments", ", ".join(f"`{k}={written(changed.get(k, v))}`" for k, v in default.items())),
        ("Anew", f"`archscope trace {subject.spec.text}`"),
    ]
    return "\n".join(f"- {name}: {text}" for name, text in facts if text)


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list)


def _groups(trace: Trace) -> str:
    """`Convolutions have 3.8 % of the parameters and 91.9 % of the MACs; …`"""
    sums = sums_of(trace)
    found = []
    for group, title in GROUPS.items():
        parts = [
            f"{show(sums[key][group] / sum(sums[key].values()), 'share')} of the {METRICS[key].unit}"
            for key in sums
            if sums[key][group]
        ]
        if parts:
            found.append(f"{title} have {' and '.join(parts)}")
    text = "; ".join(found)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


PARTS = (
    Column("part", "Part"),
    Column("params", "Parameters", "count"),
    Column("params_share", "Of all parameters", "share"),
    Column("macs", "MACs", "count"),
    Column("macs_share", "Of all MACs", "share"),
)
FEWEST, MOST = 3, 24


def parts_table(trace: Trace) -> Table:
    """The model by its uppermost modules: those that open with three parts at least, 24 at most."""
    table = rows(trace, None, WHOLE)
    values = {key: METRICS[key].of(trace, table) for key in ("params", "macs")}
    deepest = max((row.path.count(".") + 1 for row in table), default=1)
    chosen: dict[str, list[int]] = {}
    for level in range(1, deepest + 1):
        grouped: dict[str, list[int]] = {}
        for i, row in enumerate(table):
            if any(values[key][i] for key in values):
                grouped.setdefault(".".join(row.path.split(".")[:level]), []).append(i)
        if not chosen or len(grouped) <= MOST:
            chosen = grouped
        if len(chosen) >= FEWEST:
            break
    found = totals(trace)
    listed = []
    for part, members in chosen.items():
        sums = {key: sum(values[key][i] or 0 for i in members) for key in values}
        shares = {f"{key}_share": sums[key] / found[key] if found[key] else None for key in ("params", "macs")}
        listed.append({"part": part, **sums, **shares})
    return Table("", PARTS, tuple(listed))


SHOWN = "path kind window output_shape formula params_formula params macs agrees".split()


def _layers(trace: Trace) -> list[str]:
    """The layer table, without the rows that have neither parameters nor MACs nor anything to derive."""
    table = layer_table(trace)
    kept = tuple(r for r in table.rows if r["params"] or r["macs"] or r["macs"] is None or r["formula"])
    left = len(table.rows) - len(kept)
    about = ""
    if left:
        rest = "1 row that has" if left == 1 else f"{left} rows that have"
        about = f"Left out: {rest} neither parameters nor MACs nor a side to derive."
    shown = replace(table, rows=kept, title="", caption="").select(SHOWN)
    return [about, squeezed(text_of(shown, "md"))]


def _verified(subject: ReportModel) -> list[str]:
    """What was compared with what, as a list."""
    trace, found = subject.trace, derived(subject.trace)
    count = found.layers.compared
    lines = [f"{count} layers agree with their closed form." if count != 1 else "1 layer agrees with its closed form."]
    if found.layers.wrong:
        lines = [f"Disagrees: {_md(text)}" for text in found.layers.wrong]
    if found.underived:
        lines.append(f"{found.underived} parts that compute have no closed form; they are counted as observed.")
    if subject.entry is not None:
        wrong = disagreements(trace, subject.entry)[len(found.layers.wrong) :]
        lines += [f"Disagrees: {_md(text)}" for text in wrong]
        if not wrong:
            lines.append("Parameters and MACs in total are those that were published or derived by hand.")
    lines += [_md(f"{text[:1].upper()}{text[1:]}") for text in verdicts(subject)]
    return ["\n".join(f"- {line}" for line in lines)]


def verdicts(subject: ReportModel) -> list[str]:
    """What papers print of the model, each as `agrees: conv1: …`; nothing for another input than its own."""
    found = published.checks(subject.trace) if subject.own else ()
    return [f"{v.status}: {f'{v.figure.layers}: ' if v.figure.layers else ''}{v.text}" for v in found]


def index_of(subjects: Iterable[ReportModel]) -> list[str]:
    """The paths of the pages of models."""
    return [f"models/{subject.file}.md" for subject in subjects]
