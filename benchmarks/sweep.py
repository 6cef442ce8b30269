"""Architectures per second: a MobileNet-like space, with archscope, torchinfo, fvcore, ptflops and thop in one run.

    python benchmarks/sweep.py [--rounds 5] [--each 16] [--points 50000] [--json FILE] [--write]

Each tool is given the same architectures of the space below, one after the other, in one thread, and ends with the
parameters and multiply–accumulates of each for an input of 1×3×224×224; archscope gives every other total as well. Each
is called as its documentation says: a model from the plain constructor, one call. The tools take turns, and each round
has architectures of its own, as a search has; archscope gets ten times as many in its turn, which would else be too
short to be timed. Processor time is measured, which other work on the machine disturbs little. Tools that are not
installed are left out. Then archscope in one process and in two, from the start to the last record, by the clock.
"""

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from archscope.sweeps.run import sweep
from archscope.sweeps.search import Trials, space_of

SHAPE = (1, 3, 224, 224)
MORE = 10  # architectures of archscope's turn for one of another tool's

# MobileNet v2 (Sandler et al. 2018), table 2; searches vary its width, and each stage's expansion, kernel and depth
STAGES = ((16, 1), (24, 2), (32, 2), (64, 2), (96, 1), (160, 2), (320, 1))


class InvertedResidual(nn.Module):
    """1×1 up, k×k in each channel, 1×1 down; the sum where the shape is kept."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        c_mid = c_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(c_in, c_mid, 1, bias=False), nn.BatchNorm2d(c_mid), nn.ReLU6(inplace=True)]
        layers += [nn.Conv2d(c_mid, c_mid, kernel, stride, kernel // 2, groups=c_mid, bias=False)]
        layers += [nn.BatchNorm2d(c_mid), nn.ReLU6(inplace=True)]
        layers += [nn.Conv2d(c_mid, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def build(width: float, stages: tuple[tuple[int, int, int], ...]) -> nn.Module:
    """stages: expansion, kernel and depth of each."""

    def channels(c: int) -> int:
        return max(8, int(c * width + 4) // 8 * 8)

    c = channels(32)
    layers: list[nn.Module] = [nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU6(inplace=True)]
    for (c_out, stride), (expansion, kernel, depth) in zip(STAGES, stages, strict=True):
        for i in range(depth):
            layers.append(InvertedResidual(c, channels(c_out), kernel, stride if i == 0 else 1, expansion))
            c = channels(c_out)
    layers += [nn.Conv2d(c, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


def space(rng: Any) -> dict[str, Any]:
    """10^13 networks of 7 to 23 blocks."""
    stages = tuple((rng.choice((3, 6)), rng.choice((3, 5, 7)), rng.randint(1, 4)) for _ in STAGES[1:-1])
    return {"width": rng.choice((0.35, 0.5, 0.75, 1.0, 1.4)), "stages": ((1, 3, 1), *stages, (6, 3, 1))}


# --------------------------------------------------------------------------------------------------------- tools

Point = Mapping[str, Any]
Found = tuple[int, int]  # parameters, multiply–accumulates as the tool counts them
TOOLS: dict[str, Callable[[list[Point]], Iterator[Found]]] = {}


def tool(name: str) -> Callable[[Callable[[list[Point]], Iterator[Found]]], Callable[[list[Point]], Iterator[Found]]]:
    def enter(run: Callable[[list[Point]], Iterator[Found]]) -> Callable[[list[Point]], Iterator[Found]]:
        TOOLS[name] = run
        return run

    return enter


@tool("archscope")
def with_archscope(points: list[Point]) -> Iterator[Found]:
    for record in sweep(build, points, SHAPE):
        assert record["error"] is None, record["error"]
        yield record["params"], record["macs"]


@tool("torchinfo")
def with_torchinfo(points: list[Point]) -> Iterator[Found]:
    from torchinfo import summary

    for point in points:
        found = summary(build(**point), input_size=SHAPE, verbose=0)
        yield found.total_params, found.total_mult_adds


@tool("fvcore")
def with_fvcore(points: list[Point]) -> Iterator[Found]:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    for point in points:
        model = build(**point).eval()
        yield parameter_count(model)[""], int(FlopCountAnalysis(model, torch.empty(SHAPE)).total())


@tool("ptflops")
def with_ptflops(points: list[Point]) -> Iterator[Found]:
    from ptflops import get_model_complexity_info  # pyright: ignore[reportMissingImports]

    for point in points:
        count: Any = get_model_complexity_info  # which says that it returns three where it returns two
        found = count(build(**point), SHAPE[1:], as_strings=False, print_per_layer_stat=False, backend="pytorch")
        yield int(found[1]), int(found[0])


@tool("thop")
def with_thop(points: list[Point]) -> Iterator[Found]:
    from thop import profile  # pyright: ignore[reportMissingImports]

    for point in points:
        found: Any = profile(build(**point), (torch.empty(SHAPE),), verbose=False)
        yield int(found[1]), int(found[0])


def installed() -> list[str]:
    found = []
    for name in TOOLS:
        with contextlib.suppress(ImportError):
            __import__(name)
            found.append(name)
    return found


def measure(rounds: int, each: int) -> dict[str, list[float]]:
    """Processor seconds an architecture, by tool and round. The first round is not counted: imports, caches."""
    drawn = Trials(space_of(f"{__file__}:space"), 10**9)
    times: dict[str, list[float]] = {name: [] for name in installed()}
    for turn in range(rounds + 1):
        first = turn * each * MORE
        points: list[Point] = [{"width": p["width"], "stages": p["stages"]} for p in drawn[first : first + each * MORE]]
        counts: dict[str, list[int]] = {}
        for name in times:
            mine = points if name == "archscope" else points[:each]
            gc.collect()
            with contextlib.redirect_stdout(io.StringIO()):
                begun = time.process_time()
                found = list(TOOLS[name](mine))
                spent = time.process_time() - begun
            counts[name] = [params for params, _ in found[:each]]
            if turn:
                times[name].append(spent / len(mine))
        if any(told != counts["archscope"] for told in counts.values()):
            raise AssertionError(f"the tools disagree about the parameters: {counts}")
    return times


def scaling(points: int) -> dict[int, float]:
    """Seconds from start to the last record, by processes, for the same points."""
    found = {}
    drawn = Trials(space_of(f"{__file__}:space"), 10**9)
    for jobs in (1, 2):
        begun = time.perf_counter()
        assert sum(1 for _ in sweep(f"{__file__}:build", drawn[:points], SHAPE, jobs=jobs)) == points
        found[jobs] = time.perf_counter() - begun
    return found


def report(times: dict[str, list[float]], spent: dict[int, float], points: int) -> str:
    """A Markdown table of rates and ratios."""
    median = {name: statistics.median(values) for name, values in times.items()}
    lines = ["| tool | architectures a second and core | time for one | archscope is quicker by |", "|:--|--:|--:|--:|"]
    for name, seconds in sorted(median.items(), key=lambda item: item[1]):
        ratio = "" if name == "archscope" else f"{seconds / median['archscope']:.1f}×"
        lines.append(f"| {name} | {1 / seconds:,.1f} | {seconds * 1e3:,.2f} ms | {ratio} |")
    text = "\n".join(lines)
    rounds = len(times["archscope"])
    text += (
        f"\n\nMedian of {rounds} alternating rounds in one process and one thread; networks of a MobileNet v2 space, "
        f"build included, on 1×3×224×224, by processor time; torch {torch.__version__}."
    )
    if missing := [name for name in TOOLS if name not in times]:
        text += f" Not installed: {', '.join(missing)}."
    if spent:
        text += (
            f"\n`--jobs 2` takes {spent[2]:.1f} s for {points:,} of them, from its start to its last record, against "
            f"{spent[1]:.1f} s in one process: {spent[1] / spent[2]:.2f}×."
        )
    return text


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=16, help="architectures of a turn")
    parser.add_argument("--points", type=int, default=50_000, help="for one and two processes; 0: not measured")
    parser.add_argument("--json", type=Path, help="also write the seconds to a file")
    parser.add_argument("--write", action="store_true", help="also write the table into docs/explanation/measured.md")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # fvcore names every operator that it skips
    torch.set_num_threads(1)
    times = measure(asked.rounds, asked.each)
    spent = scaling(asked.points) if asked.points else {}
    text = report(times, spent, asked.points)
    print(text)
    if asked.write:
        from measured_page import write_section

        write_section("sweep", text)
    if asked.json:
        told = {"seconds_each": times, "seconds_by_jobs": spent, "points": asked.points}
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
