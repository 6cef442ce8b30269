"""`archscope reconcile --train`: how others count a training step, by hand and held against them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope.analysis.training import training_macs
from archscope.core.record import Trace
from archscope.peers import step_reconcile
from archscope.peers.step_reconcile import counted, flop_counter, step_reconciled, three_forwards
from archscope.sources.records import record_of
from archscope.sources.spec import parse

OVERCOUNT = "weight gradients of grouped convolutions, all channels with all"
UNNEEDED = "a gradient that nothing needs: of the data, or of frozen weights"
TWICE = "each multiply-add counted as two operations"


def amounts(account: Any) -> dict[str, int]:
    return {item.reason: item.amount for item in account.items}


class Separable(nn.Module):
    """A depthwise convolution of 8 channels, one of 4 outputs a place, one transposed of 2 groups, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 4, 1)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.up(self.pointwise(self.depthwise(x))).mean((2, 3)))


# for 2 examples of 6·6 places
DEPTHWISE = 2 * 6 * 6 * 8 * 3 * 3
POINTWISE = 2 * 6 * 6 * 4 * 8
UP = 2 * 6 * 6 * 4 * (6 // 2) * 2 * 2
FC = 2 * 6 * 5


def separable(**conditions: Any) -> Trace:
    return archscope.trace_step(Separable(), (2, 8, 6, 6), **conditions)


def test_grouped_convolutions_by_hand() -> None:
    step = separable()
    macs = 2 * DEPTHWISE + 3 * (POINTWISE + UP + FC)  # no gradient of the data
    assert training_macs(step) == macs
    more = (8 - 1) * DEPTHWISE + (2 - 1) * UP
    account = flop_counter(step)
    assert amounts(account) == {OVERCOUNT: more, TWICE: macs + more}
    assert account.items[0].places == ("up", "depthwise")  # as the backward meets them
    assert counted(Separable(), (torch.empty(2, 8, 6, 6, device="meta"),), {}) == account.figure == 2 * (macs + more)


def test_frozen_weights_are_not_counted() -> None:
    account = flop_counter(separable(frozen=["depthwise.*"]))
    macs = DEPTHWISE + 2 * POINTWISE + 3 * (UP + FC)  # nothing before the pointwise one learns
    assert amounts(account) == {OVERCOUNT: UP, TWICE: macs + UP}


def test_three_forwards_by_hand() -> None:
    account = three_forwards(separable(frozen=["depthwise.*"]))
    assert amounts(account) == {UNNEEDED: 2 * DEPTHWISE + POINTWISE}
    assert account.items[0].places == ("depthwise", "pointwise")
    assert account.figure == 3 * (DEPTHWISE + POINTWISE + UP + FC)


def told(name: str, input: str | None = None) -> tuple[int, dict[str, Any]]:
    spec = parse(name)
    macs, found = step_reconciled(spec, record_of(spec, input, train=True), input)
    return macs, {one.counter.name: one for one in found}


SAMPLE = """lenet inception-block densenet-d2l mobilenet-v1@width=0.25 gru-classifier rnn-cell
    torchvision:shufflenet_v2_x0_5""".split()


@pytest.mark.parametrize("name", SAMPLE)
def test_nothing_is_left_unexplained(name: str) -> None:
    macs, found = told(name)
    assert [one.residual for one in found.values()] == [0, 0]
    for one in found.values():
        assert one.account.figure == macs + sum(item.amount for item in one.account.items)


def test_a_language_model_by_hand() -> None:
    """GPT-2 of 2 layers, 16 wide, 2 heads of 8, a vocabulary of 50 that head and table share; a text of 6 tokens."""
    pytest.importorskip("transformers", reason="the model is one of transformers")
    name = "transformers:GPT2LMHeadModel@n_layer=2@n_embd=16@n_head=2@vocab_size=50@n_positions=10"
    macs, found = told(name, "1x6:int64")
    in_layer = 16 * 48 + 16 * 16 + 16 * 64 + 64 * 16
    scores = 2 * 2 * 2 * 6 * 6 * 8  # in 2 layers 2 heads, queries with keys and weights with values
    matrices = 2 * in_layer + 50 * 16
    assert macs == 3 * (6 * matrices + scores)
    other = 10 * 16 + 2 * (48 + 16 + 64 + 16 + 4 * 16) + 2 * 16  # positions, biases, norms
    palm = found["6N + 12LHQT"]
    assert palm.result.figure == 6 * (6 * (matrices + other) + 12 * 2 * 2 * 8 * 6)
    assert sorted(item.amount for item in palm.account.items) == [
        3 * 6 * other,
        3 * 6 * (matrices + other) + 3 * scores,
    ]
    trainer = found["floating_point_ops"]
    assert trainer.result.figure == 6 * 6 * (2 * in_layer + other - 10 * 16)
    assert [one.residual for one in found.values()] == [0, 0, 0, 0]


def test_the_command(archscope: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = archscope("reconcile", "lenet", "--train", "--against", "torch", "--format", "json")
    rows = json.loads(ran.out)
    assert ran.code == 0 and [row["residual"] for row in rows] == [0, 0, 0]
    assert [row["witness"] for row in rows] == ["torch", "torch, training", "3 x forward"]
    original = step_reconcile.counted
    monkeypatch.setattr(step_reconcile, "counted", lambda *given: original(*given) + 1)
    ran = archscope("reconcile", "lenet", "--train", "--against", "torch")
    assert ran.code == 1 and "? not explained" in ran.out and "MACs of a training step" in ran.out
