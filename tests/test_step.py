"""The record of a step of training, beside a real step on the CPU that counts bytes in its own way."""

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import archscope
from archscope.analysis.step_work import work_table
from archscope.analysis.training import after_forward, after_step, peak, peak_within
from archscope.core.errors import SpecError
from archscope.peers.cpu_step import real_step

SAMPLE = [
    ("lenet", None), ("mnist-cnn", None), ("inception-block", 8), ("dense-block", 8), ("torchvision:mobilenet_v2", 32),
    ("torchvision:squeezenet1_1", 32),
]  # fmt: skip


def both(spec: str, side: int | None = None, batch: int = 2, **conditions: Any) -> tuple[Any, Any]:
    model, inputs = archscope.load(spec, input=side, batch=batch)
    trace = archscope.trace_step(model, inputs, device="cpu", **conditions)
    model, inputs = archscope.load(spec, input=side, batch=batch)
    measured = real_step(model, inputs, **conditions)
    return (after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)), measured


@pytest.mark.parametrize(("spec", "side"), SAMPLE)
def test_every_byte_of_a_real_step(spec: str, side: int | None) -> None:
    derived, measured = both(spec, side, optimizer="momentum")
    assert derived == measured


@pytest.mark.parametrize(
    ("optimizer", "implementation", "first"),
    [
        ("sgd", "foreach", True),
        ("momentum", "for-loop", True),
        ("adam", "foreach", False),
        ("adamw", "for-loop", False),
    ],
)
def test_optimizers(optimizer: str, implementation: str, first: int) -> None:
    derived, measured = both("lenet", optimizer=optimizer, implementation=implementation, first=bool(first))
    assert derived == measured


def blocks() -> nn.Module:
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.BatchNorm1d(30), nn.Tanh()) for _ in range(4))
    )


@pytest.mark.parametrize("conditions", [{}, {"checkpoint": ["?"]}, {"accumulate": 2}, {"set_to_none": False}])
def test_checkpoint_accumulation_and_gradients_that_stay(conditions: dict[str, Any]) -> None:
    def derived(**conditions: Any) -> tuple[int, ...]:
        trace = archscope.trace_step(blocks(), (100, 30), device="cpu", optimizer="adam", **conditions)
        return (after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace))

    measured = real_step(blocks(), [torch.zeros(100, 30)], optimizer="adam", **conditions)
    assert derived(**conditions) == measured
    assert not conditions or measured != derived()


@pytest.mark.parametrize(
    ("spec", "conditions"),
    [
        ("mnist-cnn", {"channels_last": True}),
        ("inception-block", {"channels_last": True}),
        ("torchvision:squeezenet1_1", {"frozen": ["features.0.*", "features.3.*"]}),
        ("lenet", {"frozen": ["*.weight"], "accumulate": 2}),
        ("lenet", {"frozen": ["conv*"], "set_to_none": False}),
    ],
)
def test_frozen_layers_and_channels_last(spec: str, conditions: dict[str, Any]) -> None:
    side = 32 if spec.startswith("torchvision") else None
    derived, measured = both(spec, side, optimizer="adam", **conditions)
    assert derived == measured
    plain = both(spec, side, optimizer="adam")[0]
    assert derived != plain or "channels_last" in conditions  # bytes are the same in another order


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))


def test_memory_by_hand() -> None:
    # 4 examples; each tensor in bytes of float32
    w1, b1, w2, b2 = 4 * 10 * 20, 4 * 20, 4 * 20 * 3, 4 * 3
    x, h, y, target = 4 * 4 * 10, 4 * 4 * 20, 4 * 4 * 3, 8 * 4
    trace = archscope.trace_step(net(), (4, 10), optimizer="sgd")
    params = w1 + b1 + w2 + b2
    # when the model has returned: relu's input (which lives until linear 2 has run) is gone
    assert after_forward(trace) == params + x + target + h + y
    assert after_step(trace) == params + x + target
    by_role: dict[str, int] = {}
    for storage in trace.storages:
        by_role[storage.role] = by_role.get(storage.role, 0) + storage.nbytes
    assert by_role["parameter"] == by_role["gradient"] == params
    assert by_role["input"] == x + target
    # relu's output (of which linear 2 keeps the same), log-softmax's output, the loss, and nll's weight
    assert by_role["saved"] == h + y + 4 + 4
    assert sum(peak(trace).terms.values()) == peak(trace).nbytes


def test_phases_owners_and_json() -> None:
    trace = archscope.trace_step(net(), (4, 10), optimizer="adam")
    assert [phase.name for phase in trace.phases] == ["forward", "loss", "backward", "optimizer"]
    assert trace.phases[0].start == 0
    assert trace.phases[-1].stop == len(trace.ops)
    products = {i: op for i, op in enumerate(trace.ops) if op.name == "aten.mm"}
    # dW₂, dx₂, dW₁, and no gradient for the data
    assert [trace.layers[trace.owners[i]].path for i in products] == ["2", "2", "0"]
    again = archscope.Trace.from_json(trace.to_json())
    assert again == trace
    assert json.loads(trace.to_json())["archscope_trace"] == 2
    plain = archscope.trace(net(), (4, 10))
    assert json.loads(plain.to_json())["archscope_trace"] == 1


def test_recomputed_operators_are_marked() -> None:
    trace = archscope.trace_step(net(), (4, 10), checkpoint=["0", "1"])
    assert trace.step["checkpoint"] == ("0", "1")
    again = [phase for phase in trace.phases if phase.name == "recompute"]
    assert again
    names = [op.name for phase in again for op in trace.ops[phase.start : phase.stop]]
    assert names == ["aten.relu", "aten.t"]  # no more than what the backward needs
    backward = next(phase for phase in trace.phases if phase.name == "backward")
    assert all(backward.start <= phase.start and phase.stop <= backward.stop for phase in again)


def test_frozen_layers_save_nothing_for_their_weights() -> None:
    trace = archscope.trace_step(net(), (4, 10), frozen=["0.*"])
    assert sum(op.name == "aten.mm" for op in trace.ops) == 1  # dW₂ alone
    gradients = sum(s.nbytes for s in trace.storages if s.role == "gradient")
    assert gradients == 4 * (20 * 3 + 3)


def test_the_model_is_left_as_it_was() -> None:
    first, recurrent = nn.Linear(10, 20), nn.LSTM(20, 3)
    model = nn.Sequential(first, nn.BatchNorm1d(20), nn.Dropout(), recurrent)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objects = [id(p) for p in model.parameters()]
    random = torch.get_rng_state()
    archscope.trace_step(model, (4, 10), loss=lambda output: output[0].sum(), optimizer="adam", checkpoint=["0"])
    assert [id(p) for p in model.parameters()] == objects
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert "forward" not in vars(first)
    assert recurrent._flat_weights[0] is recurrent.weight_ih_l0
    assert torch.equal(torch.get_rng_state(), random)


def test_dropout_keeps_one_byte_an_element_on_cuda_and_four_on_a_cpu() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Dropout(0.5))
    saved = {
        device: sum(s.nbytes for s in archscope.trace_step(model, (4, 10), device=device).storages if s.role == "saved")
        for device in ("cuda", "cpu")
    }
    assert saved["cpu"] - saved["cuda"] == (4 - 1) * 4 * 20


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(2, 8, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind()
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("attention", ["math", "cpu-flash"])
def test_attention_under_a_named_backend(attention: str) -> None:
    trace = archscope.trace_step(Attention(), (2, 8, 16), attention=attention, device="cpu")
    derived = (after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace))
    assert derived == real_step(Attention(), [torch.zeros(2, 8, 16)], attention=attention)


class Heads(nn.Module):
    """Four heads of queries over some of keys and values, with a mask or without; 0: one head, without its axis."""

    def __init__(self, shared: int, mask: torch.dtype | None) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 16), nn.Linear(8, 4 * shared or 16), nn.Linear(8, 4 * shared or 16)
        self.shared, self.mask = shared, mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.shared:
            q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in (q, k, v))
        mask = None if self.mask is None else torch.ones(5, 5, dtype=self.mask, device=x.device)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.shared == 2)


@pytest.mark.parametrize("attention", ["math", "cpu-flash"])
@pytest.mark.parametrize("mask", [None, torch.float32, torch.bool])
@pytest.mark.parametrize("shared", [0, 1, 2, 4])
def test_attention_in_groups_and_under_masks(shared: int, mask: torch.dtype | None, attention: str) -> None:
    model = Heads(shared, mask)
    trace = archscope.trace_step(model, (4, 5, 8), attention=attention, device="cpu")
    derived = (after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace))
    assert derived == real_step(Heads(shared, mask), [torch.zeros(4, 5, 8)], attention=attention)


@pytest.mark.parametrize("attention", ["flash", "efficient"])
def test_fused_attention_saves_no_scores(attention: str) -> None:
    trace = archscope.trace_step(Attention(), (2, 8, 16), attention=attention, precision="bf16")
    assert any(op.name == f"aten._scaled_dot_product_{attention}_attention" for op in trace.ops)
    assert any(op.name == f"aten._scaled_dot_product_{attention}_attention_backward" for op in trace.ops)
    assert not any(t.shape[-2:] == (8, 8) for op in trace.ops for t in op.outputs if len(t.shape) == 4)


@pytest.mark.parametrize(
    "conditions",
    [{"optimizer": "adm"}, {"loss": "cross"}, {"precision": "fp8"}, {"checkpoint": ["nowhere"]}, {"attention": "x"},
     {"accumulate": 0}, {"implementation": "fast"}, {"device": "tpu"}],
)  # fmt: skip
def test_conditions_that_do_not_exist(conditions: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        archscope.trace_step(net(), (4, 10), **conditions)


class Fn(nn.Module):
    """A layer, and what a function makes of its output."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.linear(x))


@pytest.mark.parametrize("stride", [1, 4])
def test_fold_keeps_the_memory_of_its_larger_input(stride: int) -> None:
    """Nine windows overlap with a step of 1; with a step of 4 `unfold` gives less than it takes, and keeps as much."""

    def windows(y: torch.Tensor) -> torch.Tensor:
        taken = functional.unfold(y[:, None], 3, stride=stride)
        return functional.fold(torch.relu(taken), y.shape[1:], 3, stride=stride) * 2

    model, x = Fn(windows), torch.rand(4, 8, 8)
    made = archscope.trace_step(model, (x,), device="cpu", optimizer="momentum")
    derived = after_forward(made), peak_within(made, "backward"), peak(made).nbytes, after_step(made)
    assert derived == real_step(Fn(windows), (x,), optimizer="momentum")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize(
    "asks",
    [
        lambda y: y.device.type,
        lambda y: "cuda" if y.is_cuda else "cpu",
        lambda y: "cuda" if y.get_device() >= 0 else "cpu",
    ],
)
def test_a_forward_that_asks_for_its_device(device: str, asks: Any) -> None:
    """The branch of the step's own device: its four copies of 4·8 numbers of 4 bytes, or none."""
    made = archscope.trace_step(
        Fn(lambda y: torch.cat([y] * 4) if asks(y) == device else y), (4, 8), device=device, loss=torch.sum
    )
    (joined,) = [op for op in made.ops if op.name == "aten.cat"]
    (storage,) = [s for s in made.storages if joined.outputs[0].id in s.tensors]
    assert storage.nbytes == 4 * (4 * 8) * 4


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize(
    ("makes", "nbytes"),
    [
        (lambda y: torch.normal(0.0, 1.0, (2, 5), device=y.device), 2 * 5 * 4),
        (lambda y: torch.zeros(2, 5, device=y.device), 2 * 5 * 4),
        (lambda y: torch.fft.fftfreq(10, device=y.device), 10 * 4),
        (lambda y: torch.tril_indices(4, 4, device=y.device), 2 * (4 + 3 + 2 + 1) * 8),
    ],
)
def test_a_forward_that_makes_tensors_on_its_device(device: str, makes: Any, nbytes: int) -> None:
    plain = archscope.trace_step(Fn(lambda y: y), (4, 8), device=device, loss=torch.sum)
    kept: list[Any] = []
    made = archscope.trace_step(Fn(lambda y: (kept.append(makes(y)), y)[1]), (4, 8), device=device, loss=torch.sum)
    there = {s.nbytes for s in made.storages if s.born >= 0} - {s.nbytes for s in plain.storages if s.born >= 0}
    assert there == {nbytes}


def test_a_move_to_the_own_device_copies_nothing() -> None:
    moved = archscope.trace_step(Fn(lambda y: y.to(y.device)), (4, 8), device="cpu", loss=torch.sum)
    stays = archscope.trace_step(Fn(lambda y: y), (4, 8), device="cpu", loss=torch.sum)
    assert peak(moved).nbytes == peak(stays).nbytes


def test_compiled_layers_run_as_they_were_written() -> None:
    """The compiler's backend would fail if it were called."""
    compiled: Any = torch.compile(nn.Linear(8, 8), backend=lambda *_: 1 / 0)
    model = nn.Sequential(nn.Linear(8, 8), compiled)
    assert [p.name for p in archscope.trace_step(model, (4, 8)).phases] == ["forward", "loss", "backward", "optimizer"]


def test_a_check_of_values_is_taken_to_hold() -> None:
    def checked(y: torch.Tensor) -> torch.Tensor:
        if torch.isnan(y).any():
            raise ValueError("not a number")
        return y

    assert any("checks of values are taken to hold" in n for n in archscope.trace_step(Fn(checked), (4, 8)).notes)


def test_a_mapped_ensemble_and_a_sparse_tensor() -> None:
    """Three layers of 8·8 weights in one product: 4·8·8·3 MACs forward, as many for the gradients of the weights."""
    layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])

    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights, buffers = torch.func.stack_module_state(list(self.layers))

            def one(p: Any, b: Any) -> torch.Tensor:
                return torch.func.functional_call(self.layers[0], (p, b), (x,))

            return torch.vmap(one)(weights, buffers)

    work = work_table(archscope.trace_step(Ensemble(), (4, 8))).totals
    assert work is not None and work["training_macs"] == 2 * (4 * 8 * 8 * 3)
    sparse = torch.eye(4).to_sparse()
    with pytest.raises(SpecError, match="sparse tensor cannot be followed"):
        archscope.trace_step(Fn(lambda y: torch.sparse.mm(sparse, y)), (4, 8))


def test_an_equal_call_of_an_operator_is_made_without_its_kernel() -> None:
    """As the kernel makes it: 1 and 1.0 are told apart, strides are kept, and what shares memory is asked each time."""
    from archscope.tracing.step_shapes import EqualCalls

    calls, aten = EqualCalls(), torch.ops.aten
    x = torch.empty(2, 3, dtype=torch.int64, device="meta")
    assert [calls(aten.add.Scalar, (x, n), {}).dtype for n in (1, 1.0, 1, 1.0)] == [torch.int64, torch.float32] * 2
    y = torch.empty(2, 3, device="meta").t()
    assert [calls(aten.add.Tensor, (y, y), {}).stride() for _ in range(2)] == [(1, 3)] * 2
    for _ in range(2):
        shared = calls(aten._unsafe_view.default, (x, (3, 2)), {})
        assert shared.untyped_storage()._cdata == x.untyped_storage()._cdata
    assert len(calls.known) == 3


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped product")
def test_experts_as_one_grouped_product() -> None:
    """6 rows of 16 numbers by 3 matrices 16·12; the gradient of x is asked for too, by the layer before."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(16, 16, bias=False)
            self.weight = nn.Parameter(torch.randn(3, 16, 12))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ends = torch.tensor([2, 4, 6], dtype=torch.int32, device=x.device)
            return torch._grouped_mm(self.before(x), self.weight, offs=ends)  # type: ignore[attr-defined]

    model, x = Experts(), torch.randn(6, 16)
    derived = archscope.trace_step(model, x, device="cpu", optimizer="adamw", loss="mean-square")
    work = work_table(derived).totals
    assert work is not None and work["training_macs"] == 3 * (6 * 16 * 12) + 2 * (6 * 16 * 16)
    found = after_forward(derived), peak_within(derived, "backward"), peak(derived).nbytes, after_step(derived)
    assert found == tuple(real_step(model, (x,), optimizer="adamw", loss="mean-square"))


@pytest.mark.parametrize(("columns", "row"), [(7, 8), (10, 12), (12, 12)])
def test_a_row_of_a_grouped_product_takes_a_multiple_of_16_bytes(columns: int, row: int) -> None:
    """The last row of 6 is not filled up."""
    weight = torch.zeros(3, columns, 8).transpose(1, 2)
    ends = torch.tensor([2, 4, 6], dtype=torch.int32)

    def grouped(x: torch.Tensor) -> torch.Tensor:
        return torch._grouped_mm(x, weight, offs=ends)  # type: ignore[attr-defined]

    made = archscope.trace_step(Fn(lambda y: (grouped(y.detach()), y)[1]), (6, 8), loss=torch.sum)
    (product,) = [op for op in made.ops if op.name == "aten._grouped_mm"]
    (storage,) = [s for s in made.storages if product.outputs[0].id in s.tensors]
    assert storage.nbytes == (5 * row + columns) * 4


def test_a_forward_that_asks_which_card_it_is_on() -> None:
    def asks(y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y, y]) if torch.cuda.get_device_capability(y.device) >= (8, 0) else y

    made = archscope.trace_step(Fn(asks), (4, 8), loss=torch.sum)
    assert any(op.name == "aten.cat" for op in made.ops)
    if not torch.cuda.is_available():
        assert any("that of an H100 was taken" in note for note in made.notes)
