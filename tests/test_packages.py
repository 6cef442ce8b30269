"""A sample of `benchmarks/packages.py`: ten models of packages that the tests' environment has."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import packages
from packages import Model, compared

HAVE = {"timm": (0, 2, 5, 8), "torchvision": (0, 1, 5), "transformers": (0, 2, 3)}  # lines of each in the table
SAMPLE = [[m for m in packages.models() if m.package == name][line] for name, lines in HAVE.items() for line in lines]


@pytest.mark.parametrize("one", SAMPLE, ids=lambda one: one.build[:40])
@pytest.mark.filterwarnings("ignore")
def test_it_counts_what_flop_counter_mode_counts(one: Model) -> None:
    pytest.importorskip(one.package, reason="its model is built")
    row = compared(one)
    assert row["status"] == "equal", row["why"]


def test_what_differs_is_told() -> None:
    rows = [
        {"package": "a", "model": "a.A()", "status": "equal", "why": ""},
        {"package": "a", "model": "a.B()", "status": "MACs differ", "why": "2, by FlopCounterMode 1"},
        {"package": "b.c", "model": "b.C()", "status": "does not run", "why": "ImportError"},
    ]
    text = packages.page(rows)
    assert "| a | 2 | 2 | 2 | 1 |" in text and "**1 packages**" in text
    assert "| `a.B()` | MACs differ | 2, by FlopCounterMode 1 |" in text and "`b.C()`" in text
