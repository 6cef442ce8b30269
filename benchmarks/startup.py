"""Time and peak memory of whole commands against a bare import, alternately; print the ratios.

    python benchmarks/startup.py [--rounds 7] [--write]

Each command of archscope is run in turn with the import that it cannot do without. The ratio is the median of the
ratios of neighbouring runs; memory is the peak resident size that the operating system reports.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from measured_page import write_section

ARCHSCOPE = [sys.executable, "-m", "archscope"]
LIGHT, TORCH = "import typer, rich", "import torch"

NET = "benchmarks/light_net.py:Net"  # a model of one's own: the first run, which is not counted, stores its record

# what is run, what it is held against, the aim for time, the aim for memory
PAIRS = (
    (["--help"], LIGHT, 1.5, None),
    (["--version"], LIGHT, 1.5, None),
    (["list"], LIGHT, 1.5, None),
    (["trace", "alexnet"], TORCH, 0.15, 0.15),
    (["explain", "alexnet", "conv1"], TORCH, 0.15, 0.15),
    (["draw", "alexnet"], TORCH, 0.15, 0.15),
    (["check"], TORCH, 0.15, 0.15),
    (["trace", NET], TORCH, 0.15, 0.15),
    (["trace", "alexnet", "--fresh"], TORCH, 1.2, None),
    (["table", "--models", "all"], TORCH, 0.15, 0.15),
    (["table", "--models", "all", "--fresh"], TORCH, 1.6, 1.15),
)


class Run(NamedTuple):
    """One process: seconds on the wall, peak resident bytes."""

    seconds: float
    peak: int


# packages are installed with their bytecode, and so is archscope: a checkout keeps its own after the first run
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def run(command: list[str]) -> Run:
    """Run a command to its end, its output thrown away."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, usage.ru_maxrss * 1024)


def report(rounds: int) -> str:
    """A Markdown table of ratios."""
    lines = [
        "| command | against | time | aim | peak memory | aim |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    for arguments, bare, time_aim, memory_aim in PAIRS:
        pairs = []
        for turn in range(rounds + 1):  # the first fills the caches
            pair = run([*ARCHSCOPE, *arguments]), run([sys.executable, "-c", bare])
            if turn:
                pairs.append(pair)
        seconds = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
        peak = statistics.median(ours.peak / theirs.peak for ours, theirs in pairs)
        cells = [
            f"`archscope {' '.join(arguments)}`",
            f"`{bare}`",
            f"{seconds:.2f}×",
            f"≤ {time_aim}×",
            f"{peak:.2f}×",
            f"≤ {memory_aim}×" if memory_aim else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Median of {rounds} alternating pairs of whole processes."])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="also write the table into docs/explanation/measured.md")
    asked = parser.parse_args()
    text = report(asked.rounds)
    print(text)
    if asked.write:
        write_section("startup", text)


if __name__ == "__main__":
    main()
