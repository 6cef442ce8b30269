"""The run: what is recorded, and that the user's model is left as it was."""

import dataclasses
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  (its operators)
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from archscope.analysis.metrics import METRICS, totals
from archscope.analysis.observed import unknown_operators
from archscope.analysis.row import rows
from archscope.core.errors import ShapeError, SpecError, TraceError
from archscope.core.record import Trace
from archscope.tracing.tracer import trace
from archscope.tracing.weightless import weightless


def names(record: Trace) -> list[str]:
    return [op.name.removeprefix("aten.") for op in record.ops]


class Functional(nn.Module):
    """No module but one: everything else is a call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))  # 8×6×6
        z = torch.cat([y, y + y], dim=1)  # 16×6×6
        z = z[:, :8] * self.scale
        flat = z.flatten(2)  # 8×36
        return flat @ flat.transpose(1, 2)  # 8×8


def test_functional_calls_are_in_the_record_as_much_as_modules() -> None:
    record = trace(Functional(), ((2, 3, 6, 6),))
    ran = [name for name in names(record) if name != "slice"]
    assert ran == ["conv2d", "relu", "add", "cat", "mul", "flatten", "transpose", "matmul"]
    found = totals(record)
    assert found["macs"] == 2 * 6 * 6 * 8 * 3 * 3 * 3 + 2 * 8 * 36 * 8
    assert found["params"] == 3 * 3 * 3 * 8 + 8
    assert found["unknown"] == {}


def test_edges_are_ids_and_the_root_is_the_first_layer() -> None:
    record = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True)), ((2, 4),))
    root, linear, relu = record.layers
    assert (root.path, root.start, root.stop, root.depth) == ("", 0, 2, 0)
    assert (linear.path, linear.kind, linear.depth) == ("0", "Linear", 1)
    assert linear.outputs == relu.inputs == relu.outputs == root.outputs  # in place: the same tensor
    assert root.inputs == record.inputs
    assert linear.config["in_features"] == 4 and linear.config["bias"] is True


def state(model: nn.Module) -> Any:
    held = model.state_dict(keep_vars=True)
    return (
        {name: (id(value), value._version, value.requires_grad, value.grad) for name, value in held.items()},
        {name: value.clone() for name, value in model.state_dict().items()},
        [(name, id(module), sorted(module.__dict__), module.training) for name, module in model.named_modules()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
    )


class Busy(nn.Module):
    """Writes to itself while it runs."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.frozen = nn.BatchNorm1d(4).eval()
        self.drop = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        self.seen += x.mean(0)
        self.seen[0] = 5.0
        self.register_buffer("fresh", torch.ones(3))
        return self.drop(self.frozen(self.norm(x))) + torch.rand(4)


@pytest.mark.parametrize("train", [False, True, None])
def test_the_model_is_left_as_it_was(train: bool | None) -> None:
    model = Busy().train()
    model.frozen.eval()
    model.norm.weight.grad = torch.ones(4)
    random, before = torch.get_rng_state(), state(model)
    record = trace(model, ((3, 4),), train=train)
    after = state(model)
    assert before[0] == after[0] and before[2:] == after[2:]
    assert all(torch.equal(before[1][k], after[1][k]) for k in before[1])
    assert torch.equal(random, torch.get_rng_state())
    assert not hasattr(model, "calls") and not hasattr(model, "fresh")
    assert nn.Module.__call__.__qualname__ == "Module._wrapped_call_impl"
    assert record.train is (True if train is None else train)
    assert len({op.args["training"] for op in record.ops if op.name == "aten.batch_norm"}) == (
        2 if train is None else 1
    )


def test_a_failing_forward_leaves_the_model_as_it_was_too() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Linear(3, 1)).train()
    before = state(model)
    with pytest.raises(ShapeError, match=r"2 \(Linear\): expects 3 input features, gets 2") as caught:
        trace(model, ((5, 4),))
    assert (caught.value.expected, caught.value.got) == (3, 2)
    assert caught.value.failure.path == "2"
    assert [op.name for op in caught.value.failure.trace.ops] == ["aten.batch_norm", "aten.linear"]
    assert before[0] == state(model)[0] and before[2:] == state(model)[2:]
    assert nn.Module.__call__.__qualname__ == "Module._wrapped_call_impl"


def test_inputs_are_tensors_on_any_device_or_shapes() -> None:
    model = nn.Embedding(10, 4)
    real = torch.zeros(2, 3, dtype=torch.int64)
    assert trace(model, (real,)).layers[0].outputs[0].shape == (2, 3, 4)
    assert trace(model, (real.to("meta"),)).inputs[0].dtype == "int64"
    assert trace(model, real).inputs == trace(model, (real,)).inputs  # a single one may stand alone
    linear = nn.Linear(4, 3)
    for inputs in ((2, 4), [2, 4], ((2, 4),), ([2, 4],), torch.Size((2, 4)), torch.empty(2, 4)):
        assert trace(linear, inputs).layers[0].outputs[0].shape == (2, 3)
    with pytest.raises(ShapeError, match="looks up integers, gets float32"):
        trace(model, ((2, 3),))


def test_a_failure_that_the_model_catches_is_not_the_one_that_is_told() -> None:
    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right, self.last = nn.Linear(9, 2), nn.Linear(4, 2), nn.Linear(7, 1)

        def choose(self, x: Tensor) -> Tensor:
            try:
                return self.wrong(x)
            except ValueError:
                return self.right(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.choose(x))

    with pytest.raises(ShapeError, match=r"^last \(Linear\): expects 7 input features, gets 2"):
        trace(Catches(), (1, 4))


@dataclasses.dataclass
class Output:
    logits: Tensor
    extra: dict[str, Tensor]


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(6, 2)

    def forward(self, *, left: Tensor, right: dict[str, Tensor]) -> Output:
        return Output(self.a(left), {"right": self.b(right["x"])})


def test_keyword_arguments_nested_inputs_and_dataclass_outputs() -> None:
    record = trace(Keywords(), (), {"left": (1, 4), "right": {"x": torch.empty(3, 6)}})
    assert [t.shape for t in record.inputs] == [(1, 4), (3, 6)]
    assert [t.shape for t in record.layers[0].outputs] == [(1, 2), (3, 2)]
    assert totals(record)["macs"] == 1 * 4 * 2 + 3 * 6 * 2


class Shared(nn.Module):
    """A module that runs twice, one that never runs, tied weights, a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(100, 7)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.offset = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.also = self.twice

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.embed(tokens) + self.offset)))


def test_shared_tied_raw_and_uncalled_parameters_count_once() -> None:
    record = trace(Shared(), (torch.zeros(1, 5, dtype=torch.int64),))
    found = totals(record)
    assert found["params"] == 10 * 4 + (4 * 4 + 4) + (100 * 7 + 7) + 4
    assert found["trainable"] == found["params"] - 4
    assert found["macs"] == 5 * 4 * 4 * 2 + 5 * 4 * 10  # twice is paid twice
    assert [(layer.path, layer.call) for layer in record.layers[2:4]] == [("twice", 0), ("twice", 1)]
    by_path = {(row.path, row.call): row for row in rows(record)}
    assert sum(p.tensor.numel for p in by_path["twice", 0].params) == 20 and by_path["twice", 1].params == ()
    assert not by_path["never", 0].called and by_path["offset", 0].kind == "Parameter"


def test_lazy_modules_stay_lazy() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5))
    record = trace(model, ((1, 3, 8, 8),))
    assert totals(record)["params"] == (3 * 3 * 3 * 4 + 4) + (4 * 6 * 6 * 5 + 5)
    assert type(model[0]) is nn.LazyConv2d and type(model[2]) is nn.LazyLinear


def test_parametrised_and_pruned_modules() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(2, 2, 3))
    parametrizations.orthogonal(model[0])
    prune.random_unstructured(model[1], "weight", amount=0.5)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return model[0](x), model[1](y)

    record = trace(Both(), ((1, 4), (1, 2, 5, 5)))
    assert totals(record)["params"] == 4 * 4 + 4 + 3 * 3 * 2 * 2 + 2
    assert parametrize.is_parametrized(model[0])


def test_fused_paths_hide_no_work() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32).eval()
    record = trace(layer, ((5, 2, 16),))
    # projections 4·16·16 and feed-forward 2·16·32 for 10 tokens; scores and values 2·5·5·16 for 2 sequences
    assert totals(record)["macs"] == 10 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 5 * 5 * 16 == 22_080
    assert totals(trace(nn.LSTM(10, 20).eval(), ((5, 2, 10),)))["macs"] == 5 * 2 * 4 * 20 * (10 + 20) == 24_000
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert totals(trace(encoder, ((5, 2, 16),)))["macs"] == 2 * 22_080


class Buffered(nn.Module):
    """A large constant that is sliced, a result written into `out=`, a packed sequence."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(400, 400))
        self.rnn = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 2]), batch_first=True)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)  # 2×3×5
        z = torch.empty(0, device=y.device)
        torch.add(y, y, out=z)
        return z + self.table[:392, :392].flatten()[:5]


def test_views_of_constants_out_arguments_and_packed_sequences() -> None:
    record = trace(Buffered(), ((2, 3, 4),))
    assert record.layers[0].outputs[0].shape == (2, 3, 5)
    assert totals(record)["macs"] == (3 + 2) * 4 * 5 * (4 + 5)  # the steps that are there, not the padding


def test_tensors_of_different_ranks_cannot_be_joined() -> None:
    class Joins(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b], dim=2)

    assert trace(Joins(), ((2, 3, 1), (2, 3, 4))).layers[0].outputs[0].shape == (2, 3, 5)
    with pytest.raises(ShapeError, match="2×3×1 and 2×3 cannot be joined along axis 2"):
        trace(Joins(), ((2, 3, 1), (2, 3)))


def test_wrapped_models() -> None:
    inner = nn.Sequential(nn.Linear(4, 3))
    assert totals(trace(nn.DataParallel(inner), ((2, 4),)))["macs"] == 2 * 4 * 3
    inner.compile()
    assert totals(trace(inner, ((2, 4),)))["macs"] == 2 * 4 * 3


@pytest.mark.parametrize("how", ["compile", "script", "trace", "DataParallel"])
@pytest.mark.filterwarnings("ignore")  # PyTorch calls scripting deprecated
def test_compiled_scripted_and_parallel_models(how: str) -> None:
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    wrap: dict[str, Any] = {
        "compile": torch.compile,
        "script": torch.jit.script,
        "trace": lambda net: torch.jit.trace(net, torch.zeros(1, 1, 6, 6)),
        "DataParallel": nn.DataParallel,
    }
    model = wrap[how](inner).train()
    found = totals(trace(model, ((1, 1, 6, 6),)))
    assert found["params"] == 2 * 9 + 2 + 32 * 3 + 3
    assert found["macs"] == 4 * 4 * 2 * 9 + 32 * 3
    assert not found["unknown"]
    assert model.training


class Registry(nn.Module):
    """Modules in lists and dicts, one called twice, an argument by keyword only."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 5)})

    def forward(self, x: Tensor, *, head: str, scale: Tensor) -> dict[str, Tensor]:
        for step in (*self.steps, self.steps[0]):
            x = step(x)
        return {head: self.heads[head](x * scale)}


def test_lists_dicts_and_keyword_only_arguments() -> None:
    record = trace(Registry(), ((2, 4),), {"head": "b", "scale": (2, 4)})
    found = totals(record)
    assert found["params"] == 3 * 20 + 4 * 2 + 2 + 4 * 5 + 5
    assert found["macs"] == 2 * (4 * 16 + 4 * 5)
    assert record.layers[0].outputs[0].shape == (2, 5)
    assert totals(trace(Registry(), {"x": (2, 4), "head": "a", "scale": (2, 4)}))["macs"] == 2 * (4 * 16 + 4 * 2)


class Kept(nn.Module):
    """Constants made on the device of an input are known; what a result is written into is not any more."""

    def __init__(self, written: bool) -> None:
        super().__init__()
        self.written = written

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], device=x.device)
        if self.written:
            state += x.sum(1)
        for step in range(int(torch.arange(3, device=x.device).sum() + torch.ones_like(state).sum() + state.sum())):
            x = x * (step + 1.0)
        return x


def test_constants_on_the_device_of_an_input() -> None:
    assert names(trace(Kept(written=False), ((2, 5),))).count("mul") == 0 + 1 + 2 + 2  # arange, ones
    with pytest.raises(TraceError, match="depends on the value of a tensor"):
        trace(Kept(written=True), ((2, 5),), values="never")


def test_the_largest_where_values_decide() -> None:
    class Keeps(nn.Module):
        def forward(self, x: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
            kept = torch.where(x > 0)[0]
            return x[x > 1], kept, x.masked_select(x > 2), torch.ops.torchvision.nms(boxes, x, 0.5), x[kept]

    with pytest.raises(TraceError, match="depends on the value of a tensor"):
        trace(Keeps(), ((7,), (7, 4)), values="never")
    record = trace(Keeps(), ((7,), (7, 4)), bound=True)
    assert [t.shape for t in record.layers[0].outputs] == [(7,)] * 5
    assert record.notes == ("sizes that depend on values are taken at their largest, in Keeps",)


class Branches(nn.Module):
    """Constants may steer the forward; values that flow through the model may not."""

    def __init__(self, dependent: bool) -> None:
        super().__init__()
        self.dependent = dependent
        self.register_buffer("depths", torch.tensor([1, 2]))

    def forward(self, x: Tensor) -> Tensor:
        for rate in torch.linspace(0, 1, 3).tolist():
            x = x * rate
        for _ in range(int(self.get_buffer("depths").sum())):
            x = x + 1.0
        if self.dependent and x.sum() > 0:
            x = x + 1.0
        return x


def test_constants_keep_their_values() -> None:
    record = trace(Branches(dependent=False), ((2, 2),))
    assert names(record).count("mul") == 3
    assert names(record).count("add") == 3  # 1 + 2 of the buffer


def test_a_forward_that_depends_on_values_says_where() -> None:
    with pytest.raises(TraceError, match=r"depends on the value of a tensor.* at .*test_tracer\.py:\d+$"):
        trace(Branches(dependent=True), ((2, 2),), values="never")


def test_errors_of_the_users_code_name_the_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("nothing here")

    with pytest.raises(TraceError, match=r"Broken: KeyError: 'nothing here', at .*test_tracer\.py:\d+$"):
        trace(Broken(), ((1,),))
    with pytest.raises(TraceError, match="other inputs than it takes"):
        trace(nn.Linear(2, 2), ((1, 2), (1, 2)))
    with pytest.raises(SpecError, match="Linear needs an input, input: "):
        trace(nn.Linear(2, 2), ())


def test_unknown_operators_are_named_and_never_zero() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.qr(x).Q @ x

    record = trace(Fourier(), ((4, 4),))
    assert unknown_operators(record) and all("linalg_qr" in name for name in unknown_operators(record))
    assert totals(record)["macs"] == 4 * 4 * 4
    assert [
        row.kind
        for row, macs in zip(rows(record), METRICS["macs"].of(record, rows(record)), strict=True)
        if macs is None
    ]


def test_nothing_is_allocated() -> None:
    with weightless():
        model = nn.Linear(1 << 20, 1 << 20)  # 4 TiB of weights
    record = trace(model, ((1, 1 << 20),))
    assert totals(record)["memory"] == 4 * ((1 << 40) + (1 << 20))


def test_real_weights_are_never_read_or_moved() -> None:
    model = nn.Conv2d(3, 4, 3)
    record = trace(model, (torch.randn(1, 3, 8, 8),))
    assert model.weight.device.type == "cpu" and totals(record)["macs"] == 6 * 6 * 3 * 3 * 3 * 4


def test_memory_formats_follow_pytorch() -> None:
    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = F.gelu(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return y.contiguous().view(-1)

    assert trace(Permuted(), ((2, 8, 8, 3),)).layers[0].outputs[0].shape == (2 * 4 * 6 * 6,)


class Spelled(nn.Module):
    """Sums, products and activations, each called in several ways."""

    kept = staticmethod(F.relu)

    def forward(self, x: Tensor) -> Tensor:
        x = x + x  # 0: usual, and so is each that has no comment
        x = torch.add(x, 1)  # 1
        x = x.mul(x)  # 2
        x += 1
        x = x @ x  # 4
        x = torch.matmul(x, x).matmul(x)
        x = F.relu(x)
        x = torch.relu(x)  # 8
        x = self.kept(x)  # 9: not looked up by its name
        x = F.softmax(F.relu(x, inplace=True), -1)
        return sum([x, x.softmax(-1)], x)  # 12 is the softmax, 13 and 14 are sums


def test_how_operators_are_called() -> None:
    record = trace(Spelled(), ((4, 4),))
    assert " ".join(names(record)) == (
        "add add mul add_ matmul matmul matmul relu relu relu relu_ softmax softmax add add"
    )
    assert record.spelled == {1: "torch.add", 2: "Tensor.mul", 4: "", 8: "", 9: "", 12: ""}
    assert trace(nn.Linear(4, 3), ((2, 4),)).spelled == {}


def test_functions_are_given_back() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no")

    before = torch.add, torch.matmul, F.relu, Tensor.add, Tensor.matmul
    trace(Spelled(), ((4, 4),))
    with pytest.raises(TraceError):
        trace(Fails(), ((4, 4),))
    assert (torch.add, torch.matmul, F.relu, Tensor.add, Tensor.matmul) == before
    assert "add" not in vars(Tensor)  # inherited, as it was


def test_a_trace_survives_json() -> None:
    record = trace(Shared(), (torch.zeros(1, 5, dtype=torch.int64),), name="shared")
    again = Trace.from_json(record.to_json())
    assert again == record and totals(again) == totals(record)
    spelled = trace(Spelled(), ((4, 4),))
    assert Trace.from_json(spelled.to_json()) == spelled
    old = json.loads(spelled.to_json())
    del old["spelled"]  # as records were written before there was the field
    assert Trace.from_json(json.dumps(old)) == dataclasses.replace(spelled, spelled=None)
    assert '"spelled"' not in Trace.from_json(json.dumps(old)).to_json()
    for text in ("", "[]", "{}", '{"archscope_trace": 99}'):
        with pytest.raises(ValueError, match="not an archscope trace|version 99"):
            Trace.from_json(text)


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("lenet", (1, 1, 28, 28), "'lenet' is no module: archscope.record_of('lenet') takes a name"),
        (nn.Linear, (2, 4), "Linear is a class: give an object of it, Linear(…)"),
        (nn.Linear(4, 2), 28, "28 is no input of a forward: give tensors or shapes, such as (1, 3, 224, 224)"),
        (nn.Linear(4, 2), "2x4", "'2x4' is no input of a forward"),
        (nn.Linear(4, 2), None, "None is no input of a forward"),
    ],
)
def test_what_is_no_model_and_no_input(model: Any, inputs: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        trace(model, inputs)
    assert said in str(caught.value)


def test_the_memory_of_a_tensor_may_be_set() -> None:
    """The memory that is given has values, what it is given to has none: the run on real values tells."""

    class Sets(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            placed: Any = torch.empty_like(x)
            return placed.set_(torch.ones(2, 8).untyped_storage(), 0, (2, 8)) @ torch.ones(8, 3)

    with pytest.raises(TraceError, match="storage"):
        trace(Sets(), (2, 8), values="never")
    assert totals(trace(Sets(), (2, 8)))["macs"] == 2 * 8 * 3
