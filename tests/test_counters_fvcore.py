"""fvcore's convention: each of its handles by hand, and held against fvcore itself."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from archscope.core.record import Trace
from archscope.peers.einsum import operations as numpy_operations
from archscope.peers.measured import run_tool
from archscope.peers.reconcile import account_of
from archscope.peers.tools import COUNTERS
from archscope.tracing.tracer import trace


class Call(nn.Module):
    """Modules, and a function of them and of tensors."""

    def __init__(self, function: Any, *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.inner = nn.ModuleList(modules)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.inner, *inputs)


def packed(lstm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    rows = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    return lstm(rows)[0].data


ATTENTION = "attention not seen: there is no handle for it"
X = (2, 4, 6, 6)  # 2·4·6·6 = 288 elements
DIGITS = "einsum: NumPy's count is printed with four digits"
DEAD = "results that no output depends on are not recorded"

# fmt: off
TABLE: list[tuple[str, nn.Module, tuple[Any, ...], int, dict[str, int]]] = [
    # (id, module, inputs, fvcore's figure, the differences to archscope's MACs)
    ("convolution", nn.Conv2d(4, 8, 3), (X,), 2*4*4 * 3*3*4*8, {}),
    ("transposed", nn.ConvTranspose2d(4, 6, 3, stride=2), (X,), 2*6*6 * 3*3*4*6, {}),
    ("same", nn.Conv2d(4, 8, 3, padding="same"), (X,), 0, {"padding='same' has no handle: 0": -2*6*6 * 3*3*4*8}),
    ("valid", nn.Conv2d(4, 8, 3, padding="valid"), (X,), 0, {"padding='valid' has no handle: 0": -2*4*4 * 3*3*4*8}),
    ("linear on tokens", nn.Linear(5, 4), ((3, 7, 5),), 3*7 * 5*4, {}),
    ("batch norm", nn.BatchNorm2d(4), (X,), 2 * 288, {"batch-norm elements, 2 each": 2 * 288}),
    ("batch norm alone", nn.BatchNorm2d(4, affine=False), (X,), 288, {"batch-norm elements, 1 each": 288}),
    ("batch norm of this batch", nn.BatchNorm2d(4, track_running_stats=False), (X,),
        5 * 288, {"batch-norm elements, 5 each": 5 * 288}),
    ("layer norm", nn.LayerNorm(6), (X,), 5 * 288, {"layer-norm elements, 5 each": 5 * 288}),
    ("layer norm alone", nn.LayerNorm(6, elementwise_affine=False), (X,),
        4 * 288, {"layer-norm elements, 4 each": 4 * 288}),
    ("group norm", nn.GroupNorm(2, 4), (X,), 5 * 288, {"group-norm elements, 5 each": 5 * 288}),
    ("instance norm", nn.InstanceNorm2d(4), (X,), 4 * 288, {"instance-norm elements, 4 each": 4 * 288}),
    ("rms norm", nn.RMSNorm(6), (X,), 0, {}),
    ("adaptive pooling", nn.AdaptiveAvgPool2d(2), (X,), 288, {"inputs of adaptive average pooling": 288}),
    ("adaptive pooling in 1-d", nn.AdaptiveAvgPool1d(2), ((2, 4, 6),), 0, {}),
    ("nearest", nn.Upsample(scale_factor=2), (X,), 4 * 288, {"outputs of nearest interpolation": 4 * 288}),
    ("bilinear", nn.Upsample(scale_factor=2, mode="bilinear"), (X,),
        4 * 4*288, {"outputs of bilinear interpolation, 4 each": 4 * 4*288}),
    ("bicubic", nn.Upsample(scale_factor=2, mode="bicubic"), (X,), 0, {}),
    ("grid", Call(lambda x, g: F.grid_sample(x, g, align_corners=False)), (X, (2, 3, 3, 2)),
        4 * 2*4*3*3, {"outputs of grid sampling, 4 each": 4 * 2*4*3*3}),
    ("attention", Call(F.scaled_dot_product_attention), (X, X, X), 0, {ATTENTION: -2*4 * 2 * 6*6*6}),
    ("lstm", nn.LSTM(3, 4), ((5, 2, 3),), 0, {"LSTM not seen: there is no handle for it": -5*2 * 4*4*(3 + 4)}),
    ("packed", Call(packed, nn.LSTM(3, 4, batch_first=True)), ((2, 5, 3),),
        0, {"LSTM not seen: there is no handle for it": -8 * 4*4*(3 + 4)}),
    ("lstm cell", nn.LSTMCell(3, 4), ((2, 3),), 2 * 4*4*(3 + 4), {}),
    ("added product", Call(torch.baddbmm), ((2, 3, 5), (2, 3, 4), (2, 4, 5)),
        0, {"baddbmm not seen: there is no handle for it": -2*3*4*5}),
    ("repeated product", Call(torch.matmul), ((3, 4), (2, 4, 5)),
        3*4*5, {"matmul: the right operand's batch is left out": 3*4*5 - 2*3*4*5}),
    ("taken apart", Call(lambda a, b: torch.tensordot(a, b, 1)), ((3, 4), (4, 5)),
        0, {"tensordot not seen: there is no handle for it": -3*4*5}),
    ("einsum of its own", Call(lambda a, b: torch.einsum("bij,bik->bjk", a, b)), ((3, 5, 4), (3, 5, 6)), 3*5*4*6, {}),
    # 2·3·5·47·61·13 + 1 = 1,118,131 is printed as 1.118e+06
    ("einsum", Call(lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b)), ((3, 5, 47, 13), (3, 5, 61, 13)),
        559_000, {DIGITS: 559_000 - 3*5*47*61*13}),
    ("dead", Call(lambda a, b, x: (a(x), b(x))[1], nn.Linear(4, 3), nn.Linear(4, 5)), ((2, 4),), 2*4*5, {DEAD: -2*4*3}),
]
# fmt: on


@pytest.mark.parametrize(("module", "inputs", "figure", "items"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_what_fvcore_counts(module: nn.Module, inputs: Any, figure: int, items: dict[str, int]) -> None:
    account = COUNTERS["fvcore"].convention(trace(module, inputs))
    assert account.figure == figure
    assert {item.reason: item.amount for item in account.items} == items


@pytest.mark.parametrize(("module", "inputs"), [r[1:3] for r in TABLE], ids=[r[0] for r in TABLE])
def test_fvcore_itself_says_the_same(module: nn.Module, inputs: Any) -> None:
    told = account_of(trace(module, inputs), "fvcore", run_tool("fvcore", module, tuple(map(torch.empty, inputs))))
    assert told.residual == 0
    assert told.notes == []


def test_in_training_it_counts_the_statistics() -> None:
    norm = nn.BatchNorm2d(4)
    told = account_of(trace(norm, (X,), train=True), "fvcore", run_tool("fvcore", norm, (torch.empty(X),), train=True))
    assert told.account.figure == 5 * 288
    assert told.residual == 0


@pytest.mark.parametrize(
    ("module", "inputs"), [(nn.LayerNorm(4), ((4,),)), (Call(torch.matmul), ((3, 4), (4,)))], ids=["1 axis", "vector"]
)
def test_where_fvcore_fails_the_account_says_so(module: nn.Module, inputs: Any) -> None:
    account = COUNTERS["fvcore"].convention(trace(module, inputs))
    assert account.figure is None
    assert account.note.startswith("fvcore fails: ")
    said = run_tool("fvcore", module, tuple(map(torch.empty, inputs)))
    assert said.figure is None
    assert "Error" in said.note


def test_the_record_keeps_what_was_taken_apart() -> None:
    """fvcore sees an einsum whole, where the record has its pieces."""
    net = Call(lambda a, b: torch.tensordot(torch.einsum("bij,bjk->bik", a, b), b[0].t(), 1))
    record = trace(net, ((2, 3, 4), (2, 4, 5)))
    einsum, tensordot = record.composites
    assert (einsum.name, einsum.args["equation"]) == ("aten.einsum", "bij,bjk->bik")
    assert [t.shape for t in einsum.args["tensors"]] == [(2, 3, 4), (2, 4, 5)]
    assert "aten.bmm" in [op.name for op in record.ops[einsum.start : einsum.stop]]
    assert "aten.mm" in [op.name for op in record.ops[tensordot.start : tensordot.stop]]
    assert Trace.from_json(record.to_json()) == record


# (equation, shapes, the operations that NumPy counts, less the 1 that it adds)
EINSUMS = [
    ("ij,jk->ik", ((3, 4), (4, 5)), 2 * 3 * 4 * 5),
    ("i,j->ij", ((3,), (5,)), 3 * 5),
    ("ij->j", ((3, 4),), 3 * 4 * 2),
    ("ij,jk", ((3, 4), (4, 5)), 2 * 3 * 4 * 5),
    ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5)), 2 * 2 * 3 * 4 * 5),
    ("ij,jk,kl->il", ((2, 30), (30, 4), (4, 5)), 2 * 2 * 30 * 4 + 2 * 2 * 4 * 5),  # from the left: 480 + 80
    ("ij,jk,kl->il", ((5, 4), (4, 30), (30, 2)), 2 * 4 * 30 * 2 + 2 * 5 * 4 * 2),  # from the right: 480 + 80
]


@pytest.mark.parametrize(("equation", "shapes", "operations"), EINSUMS)
def test_what_numpy_counts_for_an_einsum(equation: str, shapes: Any, operations: int) -> None:
    np = pytest.importorskip("numpy")
    assert numpy_operations(equation, list(shapes)) == operations
    told = np.einsum_path(equation, *map(np.zeros, shapes), optimize="optimal")[1]
    printed = next(line for line in told.splitlines() if "Optimized FLOP" in line)
    assert float(printed.rpartition(":")[2]) == float(f"{operations + 1:.3e}")


@pytest.mark.filterwarnings("ignore")  # of torch.jit, which is on its way out
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_on_real_tensors_it_says_the_same_as_on_hollow_ones(name: str) -> None:
    """What `hollow.py` puts under fvcore changes nothing: the model with weights, computed on the CPU."""
    from fvcore.nn import FlopCountAnalysis

    model, x = torchvision.models.get_model(name, weights=None).eval(), torch.rand(1, 3, 64, 64)
    real = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert run_tool("fvcore", model, (x,)).figure == real
