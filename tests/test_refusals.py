"""What is not followed is said in one sentence, none of PyTorch's own; and spectra in a step."""

import re

import pytest
import torch
from torch import Tensor, nn

import archscope
from archscope.analysis.training import memory_curve, work_by_phase
from archscope.peers.cpu_step import real_step


class Spectrum(nn.Module):
    """33 frequencies of windows of 64, whose buffer is small enough to keep its values."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.ones(64))
        self.layer = nn.Conv1d(33, 33, 1)

    def forward(self, x: Tensor) -> Tensor:
        window = self.get_buffer("window")
        spectrum = torch.stft(x, 64, 16, window=window, return_complex=True)
        return torch.istft(spectrum * self.layer(spectrum.abs()), 64, 16, window=window, length=x.shape[1])


def test_spectra_in_a_step() -> None:
    given = (torch.rand(1, 400),)
    record = archscope.trace_step(Spectrum(), given, device="cpu")
    assert record.layers[0].outputs[0].shape == (1, 400)
    assert work_by_phase(record)["forward"][0] == 33 * 33 * (400 // 16 + 1)  # a window every 16 samples, and the first
    assert max(memory_curve(record)) == real_step(Spectrum(), given).peak


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bincount(self.layer(x).argmax(-1))


class InAPlainList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.others = nn.Linear(4, 4), [nn.Linear(4, 4)]

    def forward(self, x: Tensor) -> Tensor:
        return self.others[0](self.layer(x))


class OfEdges(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return adjacency @ self.layer(x)


class Slopes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.layer(x).sum(), x)[0]


def _nested() -> Tensor:
    return torch.nested.nested_tensor([torch.rand(3, 4), torch.rand(5, 4)], layout=torch.jagged)


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:.*prototype:UserWarning")
def test_what_is_not_followed_is_said_in_one_sentence() -> None:
    x = torch.rand(6, 4)
    for refused, sentence in (
        (lambda: archscope.trace(Counts(), (x,), values="never"), "PyTorch gives no shape of aten.bincount without"),
        (
            lambda: archscope.trace_step(Counts(), (x,), values="never"),
            "PyTorch gives no shape of aten.bincount without",
        ),
        (lambda: archscope.trace_step(InAPlainList(), (x,), values="never"), "hold them in nn.ModuleList"),
        (lambda: archscope.trace_step(OfEdges(), (x, torch.eye(6).to_sparse_csr())), "sparse tensor cannot be"),
        (lambda: archscope.trace_step(Slopes(), (x,), optimizer=None), "takes gradients, which inference without"),
        (lambda: archscope.trace_step(nn.Upsample(scale_factor=2), ((0, 3, 8, 8),), optimizer=None), "takes no empty"),
        (lambda: archscope.trace(nn.Linear(4, 2), (_nested(),)), "give it padded, with a mask"),
        (lambda: archscope.trace_step(nn.Linear(4, 2), (_nested(),)), "give it padded, with a mask"),
    ):
        with pytest.raises(archscope.ArchscopeError, match=re.escape(sentence)) as error:
            refused()
        assert "fake impl" not in str(error.value)
        assert "\n" not in str(error.value)
