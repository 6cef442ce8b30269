"""Recurrent layers in a training step: as a CPU runs them, byte for byte beside a real step."""

from typing import Any

import pytest
import torch
from torch import nn

import archscope
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.peers.cpu_step import real_step
from archscope.tracing.recurrent import recurrent_on_cpu

CASES: list[tuple[Any, dict[str, Any], str]] = [
    (nn.RNN, {}, "fp32"),
    (nn.RNN, {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}, "fp32"),
    (nn.GRU, {"num_layers": 2, "dropout": 0.3}, "fp32"),
    (nn.GRU, {"num_layers": 2, "bidirectional": True, "batch_first": True}, "bf16-mixed"),
    (nn.GRU, {"bias": False}, "bf16-mixed"),
    (nn.LSTM, {"num_layers": 2, "batch_first": True}, "bf16-mixed"),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True, "dropout": 0.3}, "bf16-mixed"),
    (nn.LSTM, {"proj_size": 3, "num_layers": 2}, "fp32"),
]


@pytest.mark.parametrize(("kind", "given", "precision"), CASES)
def test_every_byte_of_a_real_step(kind: Any, given: dict[str, Any], precision: str) -> None:
    trace = archscope.trace_step(kind(6, 5, **given), (7, 4, 6), device="cpu", precision=precision, optimizer="adam")
    derived = after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)
    real = real_step(kind(6, 5, **given), [torch.zeros(7, 4, 6)], precision=precision, optimizer="adam")
    assert derived == real


@pytest.mark.parametrize(("kind", "given", "precision"), CASES[:-1])  # oneDNN warns of projections
def test_shapes_are_those_of_pytorch(kind: Any, given: dict[str, Any], precision: str) -> None:
    layer = kind(6, 5, **given)
    expected = layer(torch.zeros(7, 4, 6))
    with torch.device("meta"):
        layer = kind(6, 5, **given)
    with recurrent_on_cpu():
        found = layer(torch.zeros(7, 4, 6, device="meta"))
    assert found[0].shape == expected[0].shape
    states = [(one,) if isinstance(one, torch.Tensor) else one for one in (found[1], expected[1])]
    assert [s.shape for s in states[0]] == [s.shape for s in states[1]]


def test_a_network_of_the_zoo() -> None:
    model, inputs = archscope.load("gru-classifier", batch=2)
    trace = archscope.trace_step(model, inputs, device="cpu")
    model, inputs = archscope.load("gru-classifier", batch=2)
    assert peak(trace).nbytes == real_step(model, inputs).peak


def test_packed_sequences_and_the_functions_are_left_as_they_are() -> None:
    before = torch._VF.lstm  # type: ignore[attr-defined]
    with recurrent_on_cpu():
        layer = nn.LSTM(6, 5)
        packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(7, 2, 6), torch.tensor([7, 3]))
        output, _ = layer(packed)
        assert output.data.shape == (10, 5)
        assert layer(torch.zeros(7, 2, 6))[0].shape == (7, 2, 5)
    assert torch._VF.lstm is before  # type: ignore[attr-defined]
