"""Steps of training whose forward needs the values of tensors, beside a real step and beside figures by hand."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import Ran
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import archscope
from archscope.analysis.step_work import work_table
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.core.errors import SpecError, TraceError
from archscope.peers.cpu_step import real_step


def linear(i: int, o: int, bias: list[float] | None = None) -> nn.Linear:
    """A layer of zeros with a bias, whose output is the same for every input: what it decides is known by hand."""
    layer = nn.Linear(i, o)
    if bias is not None:
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))
    return layer


class Routed(nn.Module):
    """One of three experts for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 3), nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        chosen, y = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(chosen == number)[0]
            y[rows] = expert(x[rows])
        return y


class TopTwo(nn.Module):
    """Two of three experts for each token, as in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = functional.softmax(self.gate(x), -1).topk(2)
        y, mask = torch.zeros_like(x), functional.one_hot(chosen, 3).permute(2, 1, 0)
        for number, expert in enumerate(self.experts):
            place, token = torch.where(mask[number])
            y.index_add_(0, token, expert(x[token]) * weights[token, place, None])
        return y


class EarlyExit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.exit, self.end = nn.Linear(6, 6), linear(6, 3, [9, 0, 0]), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        early = self.exit(x)
        return early if early.softmax(-1).max() > 0.9 else self.end(x)


class IfMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.a(x) if mask.all() else self.b(self.a(x) * mask[..., None])


class Masked(nn.Module):
    """Where the mask is true."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.b(self.a(x)[mask])


class MaskedByOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)
        with torch.no_grad():
            self.a.weight.copy_(torch.eye(6))
            self.a.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y[y[:, 0] > 0])


class Packed(nn.Module):
    def __init__(self, kind: Any, **given: Any) -> None:
        super().__init__()
        self.layer = kind(5, 4, batch_first=True, **given)
        self.end = nn.Linear(8 if given.get("bidirectional") else 4, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return self.end(pad_packed_sequence(y, batch_first=True)[0])


class Ctc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 7)

    def forward(self, x: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
        return functional.ctc_loss(self.a(x).log_softmax(-1), targets, lengths, target_lengths)


class Edges(nn.Module):
    """A layer of a graph network, whose number of nodes the edges tell."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        h = torch.relu(self.a(x))
        sums = torch.zeros(int(edges.max()) + 1, 7, device=x.device).index_add(0, target, h[source])
        return self.b(sums)


class Unique(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.end = nn.Embedding(11, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        distinct, places = torch.unique(ids, return_inverse=True)
        return self.end(self.words(distinct))[places]


class Halting(nn.Module):
    """Until every example has gathered 1: of a half each time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.halt = nn.Linear(6, 6), linear(6, 1, [0])

    def forward(self, x: Tensor) -> Tensor:
        gathered = torch.zeros(x.shape[0], 1)
        while (gathered < 1).any():
            x = torch.tanh(self.cell(x))
            gathered = gathered + torch.sigmoid(self.halt(x)).detach()
        return x


class Lengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max())
        inside = torch.arange(longest)[None] < lengths[:, None]
        y = self.a(x[:, :longest]).masked_fill(~inside[..., None], 0.0)
        return self.b(y.sum(1) / lengths[:, None])


class Item(nn.Module):
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a = linear(6, 6, [0, 1, 2, 9, 4, 5])
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y[:, : int(y.argmax(-1).max().item()) + 1] * self.scale


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.drop = nn.MultiheadAttention(8, 2, batch_first=True), nn.Dropout(0.2)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        return self.norm(x + self.drop(y))[~padding]


class Listed(nn.Module):
    """The two examples with the largest mean, by a Python list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.end(y[y.mean((1, 2, 3)).topk(2).indices.tolist()].mean((2, 3)))


class Numpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y[torch.from_numpy(y.detach().numpy().argsort(0)[:, 0].copy())]


class Case(NamedTuple):
    """macs: of a step. forward: bytes when the model has returned. held: parameters, and tensors of them that get a
    gradient, in numbers. others: bytes of inputs, targets and buffers, which are there after the step."""

    make: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    macs: int
    forward: int | None
    params: int
    trained: tuple[int, ...]
    others: int


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


TRIANGLE = torch.ones(3, 5, dtype=torch.bool).tril()  # 1 + 2 + 3 of 15
SIGNS = torch.cat([torch.ones(4, 6), -torch.ones(5, 6)])
EDGES = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])

# f + w + x: the products of the forward, of the gradients of weights, and of those of inputs that need one
CASES = {
    "routed": Case(
        Routed, (drawn(10, 4),),
        (10 * 4 * 3 + 10 * 4 * 4) + 10 * 4 * 4,
        # parameters, x and the target; y; for each token its row for the expert and its index
        4 * 75 + 4 * 40 + 8 * 10 + 4 * 40 + 10 * (4 * 4 + 8),
        15 + 3 * 20, (16, 4) * 3, 4 * 40 + 8 * 10,
    ),
    "top two": Case(
        TopTwo, (drawn(10, 4),),
        2 * (10 * 4 * 3 + 20 * (4 * 8 + 8 * 4)) + 20 * 8 * 4,
        # besides: softmax and indices of topk; for each of 20 pairs: two indices, what goes into the expert, before and
        # behind GELU, what comes out, its weight, and their product, which index_add keeps
        4 * 243 + 4 * 40 + 8 * 10 + 4 * 40 + 4 * 30 + 8 * 20 + 20 * (2 * 8 + 4 * (4 + 8 + 8 + 4 + 1 + 4)),
        15 + 3 * 76, (12, 3) + (32, 8, 32, 4) * 3, 4 * 40 + 8 * 10,
    ),
    "early exit": Case(
        EarlyExit, (drawn(5, 6),),
        2 * (5 * 36 + 5 * 18) + 5 * 18,
        4 * (42 + 21 + 21) + 4 * 30 + 8 * 5 + 4 * 30 + 4 * 15,  # ReLU's output, and that of the exit
        42 + 21 + 21, (36, 6, 18, 3), 4 * 30 + 8 * 5,
    ),
    "mask that is not all": Case(
        IfMask, (drawn(3, 5, 6), TRIANGLE),
        2 * (2 * 15 * 36) + 15 * 36,
        4 * 2 * 42 + 4 * 90 + 15 + 4 * 90 + 4 * 90,  # the product with the mask, and the output
        2 * 42, (36, 6) * 2, 4 * 90 + 15,
    ),
    "mask that is all": Case(
        IfMask, (drawn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)),
        2 * 15 * 36,
        4 * 2 * 42 + 4 * 90 + 15 + 4 * 90,
        2 * 42, (36, 6), 4 * 90 + 15,
    ),
    "boolean index": Case(
        Masked, (drawn(3, 5, 6), TRIANGLE),
        2 * (15 * 36 + 6 * 24) + 6 * 24,
        4 * (42 + 28) + 4 * 90 + 15 + 8 * 6 + 4 * 36 + 4 * 24,
        42 + 28, (36, 6, 24, 4), 4 * 90 + 15 + 8 * 6,
    ),
    "boolean index of an output": Case(
        MaskedByOutput, (SIGNS,),
        2 * (9 * 36 + 4 * 24) + 4 * 24,
        4 * (42 + 28) + 4 * 54 + 8 * 4 + 9 + 4 * 24 + 4 * 16,  # the mask has a byte for each of 9
        42 + 28, (36, 6, 24, 4), 4 * 54 + 8 * 4,
    ),
    "packed GRU": Case(
        lambda: Packed(nn.GRU), (drawn(3, 7, 5), torch.tensor([4, 7, 2])),
        # 13 positions of three examples, the first of which have no hidden state that needs a gradient
        2 * (13 * (5 * 12 + 4 * 12) + 21 * 8) + (13 - 3) * 4 * 12 + 21 * 8,
        None, 12 * (5 + 4 + 2) + 10, (60, 48, 12, 12, 8, 2), 4 * 105 + 8 * 3,
    ),
    "packed LSTM both ways": Case(
        lambda: Packed(nn.LSTM, bidirectional=True), (drawn(3, 7, 5), torch.tensor([4, 7, 2])),
        # backwards the last position, of one example, comes first
        2 * (2 * 13 * (5 * 16 + 4 * 16) + 21 * 16) + ((13 - 3) + (13 - 1)) * 4 * 16 + 21 * 16,
        None, 2 * 16 * (5 + 4 + 2) + 18, (80, 64, 16, 16) * 2 + (16, 2), 4 * 105 + 8 * 3,
    ),
    "CTC": Case(
        Ctc, (drawn(9, 2, 5), torch.tensor([[1, 2, 3, 4], [5, 6, 1, 0]]), torch.tensor([9, 8]), torch.tensor([4, 3])),
        2 * 18 * 35,
        None, 42, (35, 7), 4 * 90 + 8 * (8 + 2 + 2),
    ),
    "edges": Case(
        Edges, (drawn(6, 5), EDGES),
        2 * (6 * 35 + 6 * 21) + 6 * 21,
        4 * (42 + 24) + 4 * 30 + 8 * 10 + 8 * 6 + 4 * 42 + 4 * 42 + 4 * 35 + 4 * 18,  # index_add keeps its rows
        42 + 24, (35, 7, 21, 3), 4 * 30 + 8 * 10 + 8 * 6,
    ),
    "distinct words": Case(
        Unique, (torch.tensor([[1, 2, 1], [3, 3, 9]]),),
        2 * 4 * 18 + 4 * 18,
        4 * (66 + 21) + 8 * 6 + 4 * 24 + 8 * 4 + 8 * 6 + 4 * 18,
        66 + 21, (66, 18, 3), 8 * 6,
    ),
    "halting": Case(
        Halting, (drawn(4, 6),),
        2 * (4 * 36 + 4 * 6) + 2 * 4 * 36 + 4 * 36,
        4 * (42 + 7) + 4 * 24 + 8 * 4 + 2 * 4 * 24,
        42 + 7, (36, 6), 4 * 24 + 8 * 4,
    ),
    "lengths": Case(
        Lengths, (drawn(3, 7, 6), torch.tensor([4, 6, 2])),
        2 * (18 * 36 + 3 * 24) + 3 * 24,
        4 * (42 + 28) + 4 * 126 + 8 * 3 + 8 * 3 + 4 * 108 + 18 + 4 * 18 + 4 * 12,
        42 + 28, (36, 6, 24, 4), 4 * 126 + 8 * 3 + 8 * 3,
    ),
    "a number of Python": Case(
        Item, (drawn(3, 6),),
        2 * 3 * 36,
        4 * 42 + 4 + 4 * 18 + 8 * 3 + 4 * 3 * 4,
        42, (36, 6), 4 + 4 * 18 + 8 * 3,
    ),
    "attention with padding": Case(
        Attending, (drawn(3, 5, 8), ~TRIANGLE),
        2 * 15 * 8 * 24 + 3 * 15 * 8 * 8 + 3 * (2 * 3 * 2 * 5 * 5 * 4),
        None, 24 * 9 + 8 * 9 + 16, (192, 24, 64, 8, 8, 8), 4 * 120 + 15 + 8 * 6,
    ),
    "a list of indices": Case(
        Listed, (drawn(3, 3, 8, 8),),
        2 * (3 * 64 * 4 * 27 + 2 * 8) + 2 * 8,
        None, 112 + 8 + 10, (108, 4, 4, 4, 8, 2), 4 * 3 * 192 + 4 * 8 + 8 + 8 * 2,
    ),
    "NumPy": Case(
        Numpy, (drawn(3, 6),),
        2 * 3 * 36,
        4 * 42 + 4 * 18 + 8 * 3 + 8 * 3 + 4 * 18,
        42, (36, 6), 4 * 18 + 8 * 3,
    ),
}  # fmt: skip
# those whose values are all given need no run on real ones
GIVEN = {"mask that is not all", "mask that is all", "boolean index", "packed GRU", "packed LSTM both ways", "edges",
         "distinct words", "lengths", "attention with padding"}  # fmt: skip


def sgd(params: Any) -> torch.optim.Optimizer:
    """A real second step has the weights of the first one, so that both decide alike."""
    return torch.optim.SGD(params, lr=0.0, foreach=True)


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=0.0, foreach=True)


def four(trace: archscope.Trace) -> tuple[int, ...]:
    return after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", CASES)
def test_every_byte_of_a_real_step(name: str, optimizer: Any) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.make()
    loss = (lambda output: output) if name == "CTC" else None
    trace = archscope.trace_step(model, case.inputs, device="cpu", optimizer=optimizer, loss=loss)
    assert four(trace) == real_step(copy.deepcopy(model), case.inputs, optimizer=optimizer, loss=loss)
    state = 0 if optimizer is sgd else sum(2 * 4 * n + 4 for n in case.trained)
    assert after_step(trace) == 4 * case.params + state + case.others
    if case.forward is not None:
        assert after_forward(trace) == case.forward + state
    totals = work_table(trace).totals
    assert totals is not None and totals["training_macs"] == case.macs
    assert any("it ran on real values" in note for note in trace.notes) == (name not in GIVEN)


ON_BOTH = [
    {},
    {"checkpoint": ["?"], "optimizer": "adam"},
    {"accumulate": 2, "implementation": "for-loop", "optimizer": "adamw"},
    {"frozen": ["0.*"], "set_to_none": False, "optimizer": "momentum"},
    {"precision": "bf16-mixed", "optimizer": "adamw", "implementation": "fused"},
]
# on a GPU statistics of half precision are kept in full, and other orders in memory
ON_CPU = [{"channels_last": True, "first": True, "optimizer": "adam"}, {"precision": "bf16"}, {"optimizer": None}]


@pytest.mark.parametrize(
    ("device", "conditions"), [*[("cuda", c) for c in ON_BOTH], *[("cpu", c) for c in ON_BOTH + ON_CPU]]
)
def test_real_values_change_no_byte(device: str, conditions: dict[str, Any]) -> None:
    def steps(values: str) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                              nn.Linear(4 * 36, 5), nn.LayerNorm(5))  # fmt: skip
        return archscope.trace_step(model, (drawn(2, 3, 8, 8),), device=device, values=values, **conditions)

    real, without = steps("always"), steps("never")
    assert peak(real) == peak(without) and after_step(real) == after_step(without)
    assert [(op.name, op.outputs) for op in real.ops] == [(op.name, op.outputs) for op in without.ops]
    assert real.storages == without.storages
    (note,) = [note for note in real.notes if note not in without.notes]
    assert note.startswith("the forward needs the values of tensors: it ran on real values, inputs as given")
    assert ("kernels of a CPU" in note) == (device == "cuda")


def test_a_step_without_values_says_what_it_needs() -> None:
    with pytest.raises(TraceError, match="aten.nonzero") as refused:
        archscope.trace_step(Routed(), ((10, 4),), values="never")
    assert "bound=True" not in str(refused.value)
    with pytest.raises(TraceError, match="it may take 0.0 GiB: memory="):
        archscope.trace_step(Routed(), ((10, 4),), memory=600)
    with pytest.raises(SpecError, match="'auto', 'never' or 'always'"):
        archscope.trace_step(Routed(), ((10, 4),), values="maybe")
    # all are held by 4 · 75 bytes of parameters
    with pytest.raises(TraceError, match="needs 0.0 GiB and more"):
        archscope.trace_step(Routed(), ((10, 4),), memory=4 * 75 - 1, values="always")


def test_the_model_is_left_as_it_was_and_a_record_is_made_twice_alike() -> None:
    class Dropped(nn.Module):
        """Goes on with the rows that dropout leaves."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.drop, self.b = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)
            self.steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += 1
            y = self.drop(self.norm(self.a(x)))
            return self.b(y[y[:, 0] != 0])

    model = Dropped().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    records = [archscope.trace_step(model, ((40, 6),), optimizer="adamw")]
    assert torch.equal(torch.get_rng_state(), random)
    torch.rand(7)  # the record is the same from another state of the generator
    records.append(archscope.trace_step(model, ((40, 6),), optimizer="adamw"))
    assert records[0] == records[1]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training and model.steps == 0 and all(p.grad is None for p in model.parameters())
    assert "aten.index in Dropped" in records[0].notes[-1] and "inputs drawn with seed 0" in records[0].notes[-1]


def test_an_input_that_is_given_is_not_written_to() -> None:
    class Marking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: Tensor, ids: Tensor) -> Tensor:
            ids += 1
            return self.a(x[ids])

    ids = torch.tensor([0, 1, 2])
    for values in ("never", "always"):
        archscope.trace_step(Marking(), (drawn(5, 4), ids), values=values)
    assert ids.tolist() == [0, 1, 2]


def test_what_unknown_values_were_written_into_is_not_known() -> None:
    """A mask of zeros, into which the output is written, says no longer how many are true."""

    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            with torch.no_grad():
                self.a.weight.copy_(torch.eye(4))
                self.a.bias.zero_()

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            mask = torch.zeros(6, dtype=torch.bool)
            mask[:] = y[:, 0] > 0
            return y[mask]

    x = torch.tensor([1.0, -1, 1, 1, -1, 1])[:, None].expand(6, 4).contiguous()
    made = archscope.trace_step(Writing(), (x,), device="cpu")
    assert made.layers[0].outputs[0].shape == (4, 4)
    assert four(made) == real_step(Writing(), (x,))


def test_the_largest_batch_is_refused_where_values_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archscope: Callable[..., Ran]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("moe.py").write_text(
        "from torch import nn\n\nclass Some(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a = nn.Linear(4, 4)\n\n    def forward(self, x):\n        y = self.a(x)\n"
        "        return y[y[:, 0] > 0]\n",
        encoding="utf-8",
    )
    given = ("moe.py:Some", "--input", "10x4")
    fit = archscope("fit", *given)
    assert fit.code and "depends on values of tensors, so the largest batch is unknown" in fit.err
    step = archscope("memory", *given)
    assert step.code == 0 and "aten.index in moe.py:Some (moe.py:10)" in step.out
    never = archscope("trace", *given, "--train-step", "--values", "never")
    assert never.code and "the forward depends on the value of a tensor" in never.err


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_given_values_are_on_the_device_of_the_step(device: str) -> None:
    """Those that are given, and what is made of them; lengths that a packed sequence takes are known all the same."""

    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            inside = (~mask)[:, :3] & torch.ones(3, 3, dtype=torch.bool, device=mask.device)
            assert x.device == mask.device == inside.device and x.is_cuda == mask.is_cuda == inside.is_cuda
            assert x.device.type == device and torch.zeros(2).device.type == "cpu"
            return self.a(x[~mask])

    trace = archscope.trace_step(Asking(), (drawn(3, 5, 6), TRIANGLE), device=device, values="never")
    assert trace.layers[-1].outputs[0].shape == (15 - 6, 4)


def test_the_weights_of_a_step_are_those_that_are_given() -> None:
    """The optimizer makes its state before the step, which decays no weight."""

    class OfOnes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
            nn.init.ones_(self.a.weight)

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(x) + self.a(x)[:, :2]
            return self.b(self.a(x)) + y if (self.a.weight == 1).all() else y

    trace = archscope.trace_step(OfOnes(), (drawn(3, 4),), optimizer="adamw")
    assert [layer.path for layer in trace.layers] == ["", "b", "a", "a", "b"]
