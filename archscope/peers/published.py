"""What the papers print: figures with their place, the rounding they were printed with, and what is wrong with them.

The figures stand in `published.csv`, one a row: the network (as a user types it) and its input, the layers that it is
about (none: the whole network), the quantity, the text as printed, paper and place. Some carry more: `counting`, by
which the paper counts and which differs from archscope's; or `reason`, why the figure is not what its network has,
with `derived`, the number that the network does have by a derivation outside this program. A reason excuses no other
number than that one.

    figures("alexnet")        -> the figures of one network, of its whole and of its layers
    check(trace, figure)      -> Verdict: "agrees", "counted otherwise", "stated reason" or "disagrees"
    checks(trace)             -> a Verdict for each figure that this trace can answer (its model, on its input)

`Verdict.holds` is False only for "disagrees". Nothing here needs torch.
"""

import csv
import functools
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.row import Row, rows
from archscope.core.record import Trace
from archscope.core.table import unknown

PAPERS = {  # how the rows of published.csv cite them
    "lecun1998": "LeCun et al. 1998, Proc. IEEE 86(11), Gradient-based learning applied to document recognition",
    "krizhevsky2012": "Krizhevsky, Sutskever, Hinton 2012 NIPS, ImageNet Classification with Deep Convolutional "
    "Neural Networks",
    "simonyan2015": "Simonyan & Zisserman 2015 ICLR, Very Deep Convolutional Networks, arXiv 1409.1556",
    "szegedy2015": "Szegedy et al. 2015 CVPR, Going Deeper with Convolutions, arXiv 1409.4842",
    "he2016": "He, Zhang, Ren, Sun 2016 CVPR, Deep Residual Learning for Image Recognition, arXiv 1512.03385",
    "huang2017": "Huang, Liu, van der Maaten, Weinberger 2017 CVPR, Densely Connected Convolutional Networks, "
    "arXiv 1608.06993",
    "xie2017": "Xie et al. 2017 CVPR, Aggregated Residual Transformations, arXiv 1611.05431",
    "howard2017": "Howard et al. 2017, MobileNets, arXiv 1704.04861",
    "sandler2018": "Sandler et al. 2018 CVPR, MobileNetV2, arXiv 1801.04381",
    "howard2019": "Howard et al. 2019 ICCV, Searching for MobileNetV3, arXiv 1905.02244",
    "iandola2016": "Iandola et al. 2016, SqueezeNet, arXiv 1602.07360",
    "dosovitskiy2021": "Dosovitskiy et al. 2021 ICLR, An Image is Worth 16x16 Words, arXiv 2010.11929",
    "liu2021": "Liu et al. 2021 ICCV, Swin Transformer, arXiv 2103.14030",
    "liu2022": "Liu et al. 2022 CVPR, A ConvNet for the 2020s, arXiv 2201.03545",
    "ma2018": "Ma et al. 2018 ECCV, ShuffleNet V2, arXiv 1807.11164",
    "tan2019": "Tan & Le 2019 ICML, EfficientNet, arXiv 1905.11946",
}


class Rounded(NamedTuple):
    """A number as it was printed. low, high: what rounds to it (both ends do)."""

    value: Fraction
    low: Fraction
    high: Fraction

    def holds(self, number: Fraction | int) -> bool:
        return self.low <= number <= self.high


class Figure(NamedTuple):
    """One published figure.

    model: the network, as a user types it. input: "" is the network's own, else "3x160x160". layers: globs of layer
    paths ("inception3a.*"), "" is the whole network. quantity: one of QUANTITIES; printed with a %, it is the layers'
    share of the whole. printed: the text. rounded: its value. paper: a key of PAPERS. place: "table 1". counting: ""
    or a key of COUNTINGS. derived, reason: see above; None and "" where nothing is wrong.
    """

    model: str
    input: str
    layers: str
    quantity: str
    printed: str
    rounded: Rounded
    paper: str
    place: str
    counting: str
    derived: Fraction | None
    reason: str

    @property
    def share(self) -> bool:
        """Whether it is a percentage of the whole network."""
        return self.printed.endswith("%")

    @property
    def source(self) -> str:
        """`He et al. 2016, table 1`: paper and place, short."""
        return f"{_short(PAPERS[self.paper])}, {self.place}"


class Verdict(NamedTuple):
    """A figure held against a trace.

    status: "agrees", to the printed rounding; "counted otherwise", agrees by the counting of the paper; "stated
    reason", does not agree, and the figure says why; "disagrees". counted: the number as archscope counts. by_paper:
    as the paper counts, None where that is the same. text: a sentence with both numbers.
    """

    figure: Figure
    status: str
    counted: Fraction
    by_paper: Fraction | None
    text: str

    @property
    def holds(self) -> bool:
        return self.status != "disagrees"


# ----------------------------------------------------------------------------------------------------- the figures

_UNITS = {"": 1, "%": 1, "K": 10**3, "M": 10**6, "million": 10**6, "G": 10**9, "B": 10**9, "billion": 10**9}
_PRINTED = re.compile(r"([\d,]+)(\.\d+)? ?(?:×10\^(\d+)|(%|K|M|G|B|million|billion))?")


def rounded(printed: str, scale: int | None = None, to: int | None = None) -> Rounded:
    """A printed number with what rounds to it: `3.8×10^9` is 3.8 billion, and 3.75 to 3.85 billion round to it.

    scale: what the unit of the column is worth, where the number does not say it or says it otherwise (a K of 1024).
    to: the last digit that counts, in units of one, where it is not the last one printed. Raises ValueError.
    """
    found = _PRINTED.fullmatch(printed.strip())
    if found is None:
        raise ValueError(f"{printed!r} is not a number as papers print them")
    whole, decimals, power, unit = found.groups(default="")
    worth = scale if scale is not None else 10 ** int(power) if power else _UNITS[unit]
    value = Fraction(whole.replace(",", "") + decimals) * worth
    half = Fraction(to) / 2 if to is not None else Fraction(worth, 2 * 10 ** max(0, len(decimals) - 1))
    return Rounded(value, value - half, value + half)


@functools.cache
def every() -> tuple[Figure, ...]:
    """All figures, in the order of the file. Raises ValueError for a row that says what this file does not know."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(_figure, csv.DictReader(file)))


def figures(model: str) -> tuple[Figure, ...]:
    """The published figures of a network as it is typed: "alexnet", "mobilenet-v1@width=0.5"; none if it has none."""
    return tuple(figure for figure in every() if figure.model == model.strip().removeprefix("zoo:"))


def _figure(row: dict[str, str]) -> Figure:
    for key, known in (("quantity", QUANTITIES), ("paper", PAPERS), ("counting", {"": None, **COUNTINGS})):
        if row[key] not in known:
            raise ValueError(unknown(key, row[key], known))
    scale, to = (int(row[key]) if row[key] else None for key in ("scale", "to"))
    return Figure(
        **{key: row[key] for key in Figure._fields if key not in ("rounded", "derived")},  # type: ignore[arg-type]
        rounded=rounded(row["printed"], scale, to),
        derived=Fraction(row["derived"]) if row["derived"] else None,
    )


def _short(citation: str) -> str:
    """`He et al. 2016` of `He, Zhang, Ren, Sun 2016 CVPR, Deep …`."""
    authors, year = re.match(r"(.*?),? (\d{4})", citation).groups()  # type: ignore[union-attr]
    return f"{authors.partition(',')[0]} et al. {year}" if "," in authors else f"{authors} {year}"


# -------------------------------------------------------------------------------------------------------- counting

Count = Callable[[Trace, list[Row]], int]


def _column(key: str) -> Count:
    """Of some rows the sum, of a metric that only whole models have its total."""
    if METRICS[key].values is None:
        return lambda trace, table: totals(trace)[key]
    return lambda trace, table: sum(value or 0 for value in METRICS[key].of(trace, table))


# any metric that is a number may be published
QUANTITIES: dict[str, Count] = {key: _column(key) for key, one in METRICS.items() if one.total and one.form != "share"}


def _weights(trace: Trace, table: list[Row]) -> int:
    return sum(p.tensor.numel for row in table for p in row.params if len(p.tensor.shape) > 1)


def _convolutions(trace: Trace, table: list[Row]) -> int:
    return _column("macs")(trace, [row for row in table if row.kind.startswith("Conv")])


def _identity(trace: Trace, table: list[Row]) -> int:
    return _column("macs")(trace, [row for row in table if ".downsample" not in row.path])


def _without_classifier(trace: Trace, table: list[Row]) -> int:
    last = [row.path for row in table if row.kind == "Linear"][-1]
    return _column("params")(trace, [row for row in table if row.path != last])


COUNTINGS: dict[str, tuple[str, Count]] = {  # what a paper leaves out, and the count without it
    "weights": ("weights alone, without biases and norms", _weights),
    "convolutions": ("convolutions alone", _convolutions),
    "without classifier": ("without the classifier", _without_classifier),
    "identity shortcuts": ("without the 1×1 convolutions in the shortcuts (option A)", _identity),
}


def check(trace: Trace, figure: Figure) -> Verdict:
    """Hold a figure against a trace of its model on its input. Raises LookupError when the layers are not there."""
    table = rows(trace)
    chosen = [row for row in table if any(fnmatchcase(row.path, glob) for glob in figure.layers.split() or "*")]
    if not chosen:
        raise LookupError(f"{trace.model} has no layer {figure.layers!r}")

    def count(how: Count) -> Fraction:
        part = Fraction(how(trace, chosen))
        return 100 * part / how(trace, table) if figure.share else part

    counted = count(QUANTITIES[figure.quantity])
    means, how = COUNTINGS.get(figure.counting, ("", None))
    by_paper = count(how) if how else None
    printed = f"{figure.source} prints {figure.printed}"
    ours = _written(counted, figure)
    if figure.rounded.holds(counted):
        return Verdict(figure, "agrees", counted, by_paper, f"{ours}; {printed}")
    if by_paper is not None and figure.rounded.holds(by_paper):
        told = f"{ours}; {printed}, which is {_written(by_paper, figure)} ({means})"
        return Verdict(figure, "counted otherwise", counted, by_paper, told)
    excused = by_paper if by_paper is not None else counted
    if figure.reason and figure.derived is not None and _same(excused, figure.derived):
        return Verdict(figure, "stated reason", counted, by_paper, f"{ours}; {printed}: {figure.reason}")
    return Verdict(figure, "disagrees", counted, by_paper, f"{ours}; {printed}")


def checks(trace: Trace) -> list[Verdict]:
    """Every figure of the trace's model that was printed for the input it ran on."""
    return [check(trace, figure) for figure in figures(trace.model) if answers(trace, figure)]


def answers(trace: Trace, figure: Figure) -> bool:
    """Whether a trace of the figure's model ran on the figure's input. Parameters and depth are those of any input."""
    if figure.quantity in ("params", "depth") or not trace.inputs:
        return True
    ran = trace.inputs[0].shape
    if figure.input:
        return ran == (1, *map(int, figure.input.split("x")))
    from archscope.sources.loading import input_of
    from archscope.sources.spec import parse

    return ran == input_of(parse(figure.model)).shape


def _same(counted: Fraction, derived: Fraction) -> bool:
    """Whether a count is the derived one, to as many decimals as that is written with (shares are)."""
    digits = len(str(float(derived)).partition(".")[2]) if derived.denominator != 1 else 0
    return abs(counted - derived) * 2 <= Fraction(1, 10**digits) if digits else counted == derived


def _written(number: Fraction, figure: Figure) -> str:
    return f"{float(number):.3f} %" if figure.share else f"{int(number):,}"
