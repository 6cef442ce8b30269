"""The figures that papers print: each agrees with archscope's own count, or says why it does not."""

import csv
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from archscope import Trace
from archscope.peers import published
from archscope.peers.published import Figure, check, checks, every, figures, rounded
from archscope.zoo import catalogue as registry

Traced = Callable[..., Trace]


def name_of(figure: Figure) -> str:
    return "-".join(
        part for part in (figure.model, figure.input, figure.layers, figure.quantity, figure.paper) if part
    ).replace(" ", "+")


def trace_of(figure: Figure, traced: Traced) -> Trace:
    return traced(figure.model, figure.input) if figure.input else traced(figure.model)


@pytest.mark.parametrize("figure", every(), ids=name_of)
def test_each_figure_agrees_or_says_why(figure: Figure, traced: Traced) -> None:
    verdict = check(trace_of(figure, traced), figure)
    assert verdict.holds, verdict.text
    if figure.reason:  # and a reason that is no longer needed is a lie
        assert verdict.status == "stated reason"
        assert figure.derived is not None
        assert not figure.rounded.holds(figure.derived)


def test_the_papers_that_must_be_there() -> None:
    there = {(figure.model, figure.quantity, figure.printed, figure.place) for figure in every()}
    assert ("alexnet", "params", "60 million", "abstract") in there
    assert ("alexnet", "neurons", "650,000", "abstract") in there
    for name, millions in (("vgg11", 133), ("vgg11-lrn", 133), ("vgg13", 133), ("vgg16-c", 134), ("vgg16", 138)):
        assert (name, "params", str(millions), "table 2") in there
    for depth, billions in ((18, "1.8"), (34, "3.6"), (50, "3.8"), (101, "7.6"), (152, "11.3")):
        assert (f"resnet{depth}", "macs", f"{billions}×10^9", "table 1, FLOPs") in there
    for width, macs, params in (("", 569, "4.2"), ("@width=0.75", 325, "2.6"), ("@width=0.5", 149, "1.3")):
        assert (f"mobilenet-v1{width}", "macs", str(macs), "table 6") in there
        assert (f"mobilenet-v1{width}", "params", params, "table 6") in there
    assert {f.input for f in figures("mobilenet-v1") if f.place == "table 7"} == {
        *("", "3x192x192", "3x160x160", "3x128x128")
    }
    families = {registry.entries()[f.model.partition("@")[0]].family for f in every() if ":" not in f.model}
    assert families == {"lenet", "alexnet", "vgg", "googlenet", "resnet", "densenet", "mobilenet"}


def test_googlenet_has_its_whole_table() -> None:
    rows = [f for f in figures("googlenet") if f.paper == "szegedy2015" and f.place.startswith("table 1")]
    assert len(rows) == 2 * (2 + 9 + 1)  # params and ops of two stems, nine blocks and the classifier
    # what the column of the paper adds up to, in its own K: 6,797.7, which MobileNets table 8 takes for 6.8 million
    thousands = sum(Fraction(f.printed.rstrip("K")) for f in rows if f.quantity == "params")
    assert thousands == Fraction("6797.7")
    assert sum(int(f.printed.rstrip("M")) for f in rows if f.quantity == "macs") == 1502


@pytest.mark.parametrize(
    ("printed", "scale", "to", "low", "high"),
    [
        ("3.8×10^9", None, None, 3_750_000_000, 3_850_000_000),
        ("60 million", None, None, 59_500_000, 60_500_000),
        ("60 million", None, 10**7, 55_000_000, 65_000_000),
        ("650,000", None, 10_000, 645_000, 655_000),
        ("159K", 1024, None, 159 * 1024 - 512, 159 * 1024 + 512),
        ("2.7K", 1024, None, Fraction(265, 100) * 1024, Fraction(275, 100) * 1024),
        ("5.3M", None, None, 5_250_000, 5_350_000),
        ("0.39B", None, None, 385_000_000, 395_000_000),
        ("1.32", 10**6, None, 1_315_000, 1_325_000),
        ("94.86%", None, None, Fraction(94_855, 1000), Fraction(94_865, 1000)),
        ("1.5 billion", None, None, 1_450_000_000, 1_550_000_000),
    ],
)
def test_rounding(printed: str, scale: int | None, to: int | None, low: int, high: int) -> None:
    read = rounded(printed, scale, to)
    assert (read.low, read.high) == (low, high)
    assert read.holds(low) and read.holds(high)
    assert not read.holds(low - Fraction(1, 1000)) and not read.holds(high + Fraction(1, 1000))


@pytest.mark.parametrize("text", ["", "many", "3.8e9", "1 2", "M", "3.8 x"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a number as papers print them"):
        rounded(text)


def test_a_reason_excuses_one_number_only(traced: Traced) -> None:
    (conv1,) = [f for f in figures("alexnet") if f.layers == "conv1"]
    assert check(traced("alexnet"), conv1).status == "stated reason"
    wrong = conv1._replace(derived=Fraction(55 * 55 * 95))  # as if a channel were missing
    assert check(traced("alexnet"), wrong).status == "disagrees"
    assert check(traced("alexnet", "3x231x231"), conv1).status == "disagrees"  # 56·56·96 = 301,056 neurons
    assert check(traced("alexnet"), conv1._replace(reason="")).status == "disagrees"


def test_a_wrong_network_is_found(traced: Traced) -> None:
    (neurons,) = [f for f in figures("alexnet") if f.layers == "conv2"]
    (total,) = [f for f in figures("vgg16") if (f.quantity, f.paper) == ("params", "simonyan2015")]
    assert not check(traced("alexnet", "3x243x243"), neurons).holds  # 256·29·29, not 256·27·27
    verdict = check(traced("vgg19"), total)
    assert not verdict.holds
    assert verdict.text == "143,667,240; Simonyan & Zisserman 2015, table 2 prints 138"
    with pytest.raises(LookupError, match="resnet18 has no layer 'conv2 conv3x'"):
        check(traced("resnet18"), total._replace(layers="conv2 conv3x"))


def test_both_numbers_are_shown(traced: Traced) -> None:
    (figure,) = [f for f in figures("resnet34") if f.quantity == "macs"]
    verdict = check(traced("resnet34"), figure)
    # option A has no projections: 1×1 convolutions to 28·28·128 from 64, to 14·14·256 from 128, to 7·7·512 from 256
    projections = 28 * 28 * 128 * 64 + 14 * 14 * 256 * 128 + 7 * 7 * 512 * 256
    assert verdict.status == "counted otherwise"
    assert verdict.by_paper is not None and verdict.by_paper == verdict.counted - projections
    assert f"{int(verdict.counted):,}" in verdict.text and f"{int(verdict.by_paper):,}" in verdict.text
    (vgg,) = [f for f in figures("vgg16") if f.paper == "he2016"]
    dense = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    verdict = check(traced("vgg16"), vgg)
    assert verdict.by_paper == verdict.counted - dense


def test_the_figures_of_a_trace(traced: Traced) -> None:
    """The default input answers what is printed for it; the others answer parameters only."""
    at_224 = [v.figure.printed for v in checks(traced("mobilenet-v1")) if v.figure.place == "table 7"]
    assert at_224 == ["569", "4.2", "4.2", "4.2", "4.2"]
    at_160 = [v.figure.printed for v in checks(traced("mobilenet-v1", "3x160x160")) if v.figure.place == "table 7"]
    assert at_160 == ["4.2", "4.2", "290", "4.2", "4.2"]
    assert all(v.holds for v in checks(traced("mobilenet-v1", "3x160x160")))
    assert checks(traced("mnist-cnn")) == []
    assert figures("zoo:alexnet") == figures("alexnet") != ()


# MobileNet v2, table 2, typed from the paper: expansion t, channels c, repeats n, stride s
V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def v2(width: float, side: int = 224) -> tuple[int, int]:
    """Parameters and multiply–accumulates of MobileNet v2, by its table."""

    def eight(channels: float) -> int:
        near = max(8, int(channels + 4) // 8 * 8)
        return near + 8 if near < 0.9 * channels else near

    params = macs = 0

    def conv(side: int, k: int, c_in: int, c_out: int, groups: int = 1) -> None:
        nonlocal params, macs
        params += k * k * c_in // groups * c_out + 2 * c_out  # no bias; scale and shift of the norm
        macs += side * side * k * k * c_in // groups * c_out

    side, c_in = side // 2, eight(32 * width)
    conv(side, 3, 3, c_in)
    for t, c, n, s in V2:
        for i in range(n):
            wide, c_out = t * c_in, eight(c * width)
            if t > 1:
                conv(side, 1, c_in, wide)
            side = side // s if i == 0 else side
            conv(side, 3, wide, wide, wide)
            conv(side, 1, wide, c_out)
            c_in = c_out
    last = eight(1280 * max(1.0, width))
    conv(side, 1, c_in, last)
    return params + last * 1000 + 1000, macs + last * 1000


@pytest.mark.parametrize("width", [1.0, 1.4, 0.35])
def test_what_was_derived_for_mobilenet_v2(width: float) -> None:
    model = "mobilenet-v2" + (f"@width={width}" if width != 1 else "")
    params, macs = v2(width)
    derived = {figure.quantity: figure.derived for figure in figures(model)}
    assert derived == {"params": params, "macs": macs}


def test_the_file() -> None:
    path = Path(published.__file__).with_name("published.csv")  # inside the package: it is in the wheel
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(every())
    assert {row["paper"] for row in rows} == set(published.PAPERS)  # none missing, none idle
    with pytest.raises(ValueError, match="unknown paper 'he2061': did you mean he2016"):
        published._figure(rows[0] | {"paper": "he2061"})
    assert all(bool(row["reason"]) == bool(row["derived"]) for row in rows)
