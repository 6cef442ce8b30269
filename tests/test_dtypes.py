"""Autocast, complex numbers and narrow ones: dtypes as in a real run, and what they cost."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import archscope
from archscope.analysis.verification import disagreements


class Mixed(nn.Module):
    """Layers of many kinds, one after the other, on [1, 5, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv, self.norm = nn.Linear(4, 4), nn.Conv1d(5, 5, 1), nn.LayerNorm(4)
        self.batch, self.attention = nn.BatchNorm1d(5), nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm, self.gru = nn.LSTM(4, 4, batch_first=True), nn.GRU(4, 4, batch_first=True)
        self.gelu, self.softmax, self.prelu, self.pool = nn.GELU(), nn.Softmax(-1), nn.PReLU(), nn.AvgPool1d(1)
        self.group, self.rms, self.bilinear = nn.GroupNorm(1, 5), nn.RMSNorm(4), nn.Bilinear(4, 4, 4)
        self.table, self.embedded = nn.Embedding(5, 4), nn.Identity()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.cat, self.sum, self.product = nn.Identity(), nn.Identity(), nn.Identity()
        self.loss, self.einsum, self.wide = nn.MSELoss(), nn.Identity(), nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        y = self.linear(x)
        for layer in (self.norm, self.batch, self.group, self.rms, self.gelu, self.softmax, self.prelu, self.pool):
            layer(y)
        self.attention(x, x, x)
        for layer in (self.conv, self.lstm, self.gru, self.layer):
            layer(x)
        self.embedded(self.table(torch.tensor([1])))
        self.cat(torch.cat([y, x]))
        self.sum(y + x)
        self.product(y @ x.mT)
        self.loss(y, y)
        self.einsum(torch.einsum("btc,bdc->btd", x, y))
        self.bilinear(x, x)
        self.wide(functional.linear(x.double(), torch.ones(4, 4, dtype=torch.float64)))
        return y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="PyTorch refuses an LSTM in bfloat16 on this CPU"
)
def test_dtypes_under_autocast_are_those_of_a_real_run() -> None:
    model = Mixed().eval()
    x = torch.rand(1, 5, 4)
    seen: dict[str, list[str]] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            seen.setdefault(path, []).append(str(first.dtype).removeprefix("torch."))

        return hook

    hooks = [m.register_forward_hook(keep(path)) for path, m in model.named_modules() if path]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
    torch.backends.mha.set_fastpath_enabled(fast)
    for hook in hooks:
        hook.remove()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        record = archscope.trace(model, (x,))
        assert torch.is_autocast_enabled("cpu")
        assert model.linear(x).dtype == torch.bfloat16  # no weight without values stays behind
    found: dict[str, list[str]] = {}
    for layer in record.layers[1:]:
        found.setdefault(layer.path, []).append(layer.outputs[0].dtype)
    assert set(found) <= set(seen)
    assert {path: dtypes for path, dtypes in seen.items() if path in found} == found
    assert disagreements(record) == []


def test_autocast_of_another_device_casts_nothing() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", dtype=torch.float16, enabled=torch.cuda.is_available()):
                return self.linear(x)

    assert archscope.trace(Other(), [(2, 4)]).layers[0].outputs[0].dtype == "float32"


def test_a_complex_product_has_eight_flops() -> None:
    model = nn.Linear(4, 3, dtype=torch.complex64)
    record = archscope.trace(model, (torch.rand(2, 4, dtype=torch.complex64),))
    total = archscope.totals(record)
    assert total["macs"] == 2 * 4 * 3
    assert total["flops"] == (4 + 4) * 2 * 4 * 3 + 2 * 3  # and a bias for each of 2·3 outputs
    assert disagreements(record) == []
