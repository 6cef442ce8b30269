"""The closed forms cover the networks: at least 99 % of the parameters and of the MACs, and every one agrees.

Over the zoo, and a network of each of torchvision's families; `benchmarks/coverage.py` goes over all of them.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archscope import Trace, trace
from archscope.analysis.verification import forget
from archscope.layers import LAYERS
from archscope.sources.records import record_of
from archscope.zoo.catalogue import entries

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "coverage.py"
TORCHVISION = (
    "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "maxvit_t", "mnasnet0_5", "regnet_y_400mf",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vit_b_32", "vgg11_bn",
)  # fmt: skip


@pytest.fixture(scope="module")
def coverage() -> Any:
    spec = importlib.util.spec_from_file_location("coverage_of_models", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", entries())
def test_the_zoo(coverage: Any, traced: Callable[..., Trace], name: str) -> None:
    found = coverage.coverage(traced(name))
    assert (found.params, found.macs, found.disagree, found.rest) == (1.0, 1.0, 0, ())


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(coverage: Any, name: str) -> None:
    pytest.importorskip("torchvision")
    found = coverage.coverage(record_of(f"torchvision:{name}"))
    assert found.params >= coverage.AIM and found.macs >= coverage.AIM and not found.disagree
    assert found.params + found.own == pytest.approx(1)


class Pair(nn.Bilinear):
    """A class of the user's own, without a closed form, with an operator of unknown cost."""

    def forward(self, input1: torch.Tensor, input2: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(super().forward(input1, input2)).Q


class Mixed(nn.Module):
    """A layer that is derived, a parameter that belongs to none, and a kind of layer without a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8, bias=False)
        self.own = nn.Parameter(torch.zeros(8))
        self.pair = Pair(8, 8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pair(self.fc(x), x + self.own)


def test_what_is_not_derived_is_told(coverage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    before = coverage.coverage(trace(Mixed(), ((2, 8),)))
    every = 8 * 8 + 8 + (4 * 8 * 8 + 4)
    assert before.params == 8 * 8 / every and before.own == 8 / every
    assert before.rest == ("Pair",) and before.macs is None and not before.disagree
    monkeypatch.setitem(LAYERS, "Linear", LAYERS["Linear"]._replace(form=lambda config, shapes: None))
    forget()
    after = coverage.coverage(trace(nn.Sequential(nn.Linear(8, 8, bias=False)), ((2, 8),)))
    forget()
    assert after.params == after.macs == 0 and after.rest == ("Linear",)
