"""Build and analyse networks with archscope, torchinfo and fvcore, alternately in one process; print the ratios.

    python benchmarks/analyse.py [--rounds 5] [--json FILE] [--write]

Each tool starts from torchvision's default constructor and ends with the output shape, parameters and
multiply–accumulates of every layer and of the whole, for an input of 1×3×224×224. archscope builds without weights. The
column "all of it" is archscope with every figure that it has: FLOPs, activations, receptive fields, and every layer
derived once more by its closed form and compared. A model's time is the median of the rounds; absolute times mean
little on shared machines, ratios within one run do.
"""

import argparse
import gc
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from fvcore.nn import FlopCountAnalysis, parameter_count
from measured_page import write_section
from torchinfo import summary

import archscope
from archscope.analysis.metrics import METRICS
from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE, check, forget

MODELS = ("resnet50", "resnet152", "vgg19", "densenet201", "mobilenet_v2", "mobilenet_v3_large", "googlenet")
SHAPE = (1, 3, 224, 224)


def with_archscope(builder: Callable[[], Any]) -> tuple[int, int]:
    """Parameters and MACs, and those of every layer with its output shape."""
    with archscope.weightless():
        model = builder()
    trace = archscope.trace(model, (SHAPE,))
    table = rows(trace)
    for key in ("output_shape", "params", "macs"):
        METRICS[key].of(trace, table)
    found = archscope.totals(trace)
    return found["params"], found["macs"]


def all_of_it(builder: Callable[[], Any]) -> tuple[int, int]:
    """Every column and total, and every layer's closed form."""
    forget()  # closed forms that earlier rounds derived
    with archscope.weightless():
        model = builder()
    trace = archscope.trace(model, (SHAPE,))
    table = rows(trace, None, WHOLE)
    for metric in METRICS.values():
        if metric.values is not None:
            metric.of(trace, table)
    if any(checked.agrees is False for checked in check(trace, table)):
        raise AssertionError("a closed form disagrees")
    found = archscope.totals(trace)
    return found["params"], found["macs"]


def with_torchinfo(builder: Callable[[], Any]) -> tuple[int, int]:
    """Parameters and "mult-adds"."""
    found = summary(builder(), input_size=SHAPE, verbose=0)
    return found.total_params, found.total_mult_adds


def with_fvcore(builder: Callable[[], Any]) -> tuple[int, int]:
    """Parameters and "flops", which are MACs."""
    model = builder().eval()
    analysis = FlopCountAnalysis(model, torch.empty(SHAPE))
    return parameter_count(model)[""], int(analysis.by_module()[""])


TOOLS = {"archscope": with_archscope, "all of it": all_of_it, "torchinfo": with_torchinfo, "fvcore": with_fvcore}


def measure(rounds: int) -> list[dict[str, Any]]:
    """One row a model: seconds of each tool (median), and what it found."""
    times: dict[str, dict[str, list[float]]] = {name: {tool: [] for tool in TOOLS} for name in MODELS}
    found: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in MODELS}
    for turn in range(rounds + 1):  # the first is not counted: imports, caches
        for name in MODELS:
            builder = getattr(torchvision.models, name)
            for tool, run in TOOLS.items():
                gc.collect()
                begun = time.perf_counter()
                found[name][tool] = run(builder)
                if turn:
                    times[name][tool].append(time.perf_counter() - begun)
    return [
        {"model": name}
        | {tool: statistics.median(times[name][tool]) for tool in TOOLS}
        | {f"{tool}_{what}": found[name][tool][i] for tool in TOOLS for i, what in enumerate(("params", "macs"))}
        for name in MODELS
    ]


def report(measured: list[dict[str, Any]]) -> str:
    """A Markdown table of milliseconds and ratios, with the sum in the last row."""
    total = {tool: sum(row[tool] for row in measured) for tool in TOOLS}
    lines = [
        "| model | archscope | all of it | torchinfo | fvcore | torchinfo / archscope | fvcore / archscope |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in [*measured, {"model": "**sum**", **total}]:
        cells = [row["model"], *(f"{row[tool] * 1e3:.1f} ms" for tool in TOOLS)]
        cells += [f"{row[tool] / row['archscope']:.1f}×" for tool in ("torchinfo", "fvcore")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the seconds and counts to a file")
    parser.add_argument("--write", action="store_true", help="also write the table into docs/explanation/measured.md")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # fvcore names every operator that it skips
    measured = measure(asked.rounds)
    text = report(measured)
    text += (
        f"\n\nMedian of {asked.rounds} alternating rounds in one process, build included, on 1×3×224×224; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads."
    )
    print(text)
    if asked.write:
        write_section("analyse", text)
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
