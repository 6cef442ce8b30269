"""The quick way to the totals says what the tracer says, whatever a model does."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import archscope
from archscope.analysis.metrics import totals
from archscope.core.errors import ArchscopeError
from archscope.sources.loading import loaded
from archscope.sources.spec import parse
from archscope.sweeps import fast_totals
from archscope.sweeps import lazy_layers as layers
from archscope.sweeps.fast_totals import Runs
from archscope.sweeps.grid import TOTALS
from archscope.sweeps.lazy_layers import lazy_parameters
from archscope.sweeps.run import Evaluator, sweep
from archscope.zoo.catalogue import entries


def both(name: str, train: bool = False, batch: int | None = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """Totals by the tracer and the quick way, the second time that a layer is met."""
    spec = parse(name)
    model, arguments, named = loaded(spec, None, batch)
    bound = spec.source.upper_bound
    slow = totals(archscope.trace(model, arguments or named, name=name, train=train, bound=bound))
    with Runs() as runs:
        runs.totals(model, arguments, named, name, train, bound)
    with Runs() as runs:
        return slow, runs.totals(model, arguments, named, name, train, bound)


@pytest.mark.parametrize("name", entries())
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_every_network_of_the_zoo(name: str, train: bool) -> None:
    slow, fast = both(name, train)
    assert fast == slow
    assert list(fast) == list(slow) == [*TOTALS]


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_b_16", "swin_t", "inception_v3", "shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf"],
)
def test_networks_of_torchvision(name: str) -> None:
    slow, fast = both(f"torchvision:{name}")
    assert fast == slow


def test_a_known_layer_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = archscope.load("mobilenet-v1")
    ran: list[Any] = []
    dispatch = fast_totals.TotalsRun.__torch_dispatch__
    monkeypatch.setattr(
        fast_totals.TotalsRun, "__torch_dispatch__", lambda *args: ran.append(args[1]) or dispatch(*args)
    )
    fast_totals.MEMO.clear()
    for expected in (True, False):
        with Runs() as runs:
            runs.totals(model, inputs, {}, "model")
        assert bool(ran) is expected
        ran.clear()


def test_a_sweep_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are copied, and a model that is run again."""
    monkeypatch.setattr(Evaluator, "_slowly", lambda *args: pytest.fail("it was traced"))

    def net(width: int) -> nn.Module:
        block = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        return nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))

    points = [{"width": width, "input": side} for width in (4, 4, 8) for side in (8, 9)]
    # a 1×1 convolution from 3 to w channels, at every position, and an fc layer from w to 2
    expected = [3 * p["width"] * p["input"] ** 2 + 2 * p["width"] for p in points]
    assert [record["macs"] for record in sweep(net, points)] == expected
    # training mode adds an operation: each normalisation counts its batches
    evaluated, trained = [list(sweep(net, points, train=train)) for train in (False, True)]
    with archscope.weightless():
        slow = [totals(archscope.trace(net(4), (1, 3, 8, 8), train=train)) for train in (False, True)]
    assert slow[0]["flops"] != slow[1]["flops"]
    assert [evaluated[0]["flops"], trained[0]["flops"]] == [one["flops"] for one in slow]


# ------------------------------------------------------------------------------------------ models that do odd things


class Tied(nn.Module):
    """One weight in two layers, and one layer called twice."""

    def __init__(self, n: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(n, 8)
        self.twice = nn.Linear(8, 8)
        self.out = nn.Linear(8, n, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed((x[:, 0, 0, 0] * 0).long())
        return self.out(self.twice(self.twice(h)))


class Changing(nn.Module):
    """Sets an attribute of its own layer while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pool = nn.AvgPool2d(2)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.seen = self.seen + 1
        self.pool.kernel_size = x.shape[-1]
        return self.pool(x)


class Functional(nn.Module):
    """Uses the weight of its layer itself, and once a computed one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv2d(x, self.conv.weight * 2, self.conv.bias)
        y = nn.functional.batch_norm(y, self.norm.running_mean, self.norm.running_var, self.norm.weight)
        return y + self.conv(x)


class Strange(nn.Conv2d):
    """A subclass whose forward is another one."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def changed_after() -> nn.Module:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    conv.stride = (2, 2)
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 4, 3)
    conv.register_forward_hook(lambda module, args, output: output.mean((2, 3)))
    return nn.Sequential(conv, nn.Linear(4, 2))


def halved() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).half().float()


def written() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    assert norm.running_mean is not None
    norm.running_mean.fill_(7.0)
    return nn.Sequential(norm, nn.BatchNorm2d(3))


def masked() -> nn.Module:
    conv = nn.Conv2d(3, 4, 3)
    conv.register_buffer("mask", torch.ones(4), persistent=False)
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Dropout(), nn.Identity())


def tied_statistics() -> nn.Module:
    one, two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    two.running_mean = one.running_mean
    return nn.Sequential(one, two, one)


def copied() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
    return nn.Sequential(block, copy.deepcopy(block), block).eval()


def frozen() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    return nn.Sequential(net[0].requires_grad_(False), net[1], nn.Sequential(nn.Conv2d(3, 3, 1)).to(torch.float32))


def other_weight() -> nn.Module:
    linear = nn.Linear(8, 4)
    linear.weight = nn.Parameter(torch.empty(6, 8))
    linear.bias = nn.Parameter(torch.empty(6), requires_grad=False)
    return nn.Sequential(nn.AdaptiveAvgPool2d((1, 8)), linear)


def deep() -> nn.Module:
    """Chains in chains, with and without an operator inside."""
    inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Sequential(nn.ReLU(), nn.Identity()))
    return nn.Sequential(inner, nn.Sequential(), nn.Sequential(inner, nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(48, 2))


def named_chain() -> nn.Module:
    chain = nn.Sequential()
    chain.add_module("conv", nn.Conv2d(3, 4, 1))
    chain.append(nn.ReLU())
    return chain


def counted_before() -> nn.Module:
    """Its parameters are looked at, and some replaced, before it is run."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 4), nn.Linear(4, 144))
    assert sum(p.numel() for p in net[0].parameters()) == 3 * 4 * 9 + 4
    net[3]._parameters["weight"] = nn.Parameter(cast(Tensor, net[2].weight).T)
    del net[2].bias
    net[2].register_parameter("bias", None)
    return net


def parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())


ODD: list[Callable[[], nn.Module]] = [
    *(Functional, counted_before),
    *(Tied, Changing, lambda: Strange(3, 4, 3), changed_after, hooked, halved, written, masked, other_weight, deep),
    *(
        tied_statistics,
        copied,
        frozen,
        named_chain,
        parametrized,
        lambda: nn.LSTM(8, 4, 2),
        lambda: nn.MultiheadAttention(8, 2),
    ),
]


@pytest.mark.parametrize("factory", ODD, ids=[getattr(f, "__qualname__", "") for f in ODD])
def test_odd_models(factory: Callable[[], nn.Module]) -> None:
    """Built and run in a sweep, twice, after a plain model has made the templates: the same totals and reasons."""
    plain = nn.Sequential
    for record in sweep(lambda k: plain(nn.Conv2d(3, 4, k), nn.ReLU(), nn.BatchNorm2d(4)), {"k": [1, 3]}, (1, 3, 8, 8)):
        assert record["error"] is None
    found = list(sweep(factory, [{}, {}], (1, 3, 8, 8)))
    try:
        with archscope.weightless():
            model = factory()
        expected = totals(archscope.trace(model, (1, 3, 8, 8)))
    except ArchscopeError:
        assert all(record["error"] for record in found)
        return
    for record in found:
        assert record["error"] is None
        assert {key: record[key] for key in TOTALS if key != "model"} == {
            key: value for key, value in expected.items() if key != "model"
        }


def test_a_model_is_left_as_it_was() -> None:
    model = Changing().train()
    model.conv.eval()
    with Runs() as runs:
        for _ in range(2):
            runs.totals(model, (torch.empty(1, 3, 8, 8, device="meta"),), {}, "model")
    assert model.training and not model.conv.training and model.pool.training
    assert model.seen == 0
    assert model.pool.kernel_size == 2


def test_cast_layers_are_those_that_are_built() -> None:
    """The same attributes, and parameters of their own."""
    makers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(3, 8, 3, bias=False),
        lambda: nn.Conv2d(3, 8, 3.0),  # type: ignore[arg-type]
        lambda: nn.BatchNorm2d(8),
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.Linear(8, 4, dtype=torch.float64),
        lambda: nn.ReLU(inplace=True),
        lambda: nn.Sequential(nn.ReLU(), nn.Sequential()),
    ]
    for make in makers:
        try:
            real = make()
        except Exception as error:
            with lazy_parameters(), pytest.raises(type(error)):
                make()
            continue
        with lazy_parameters():
            make()
            one, other = make(), make()
        assert vars(one).keys() == vars(real).keys()
        assert repr(one) == repr(real)
        assert {n: (p.shape, p.dtype) for n, p in one.named_parameters()} == {
            n: (p.shape, p.dtype) for n, p in real.named_parameters()
        }
        assert [n for n, _ in one.named_buffers()] == [n for n, _ in real.named_buffers()]
        assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}
        assert all(held is p for held, p in zip(one.parameters(), list(one.parameters()), strict=True))
        again = copy.deepcopy(one)
        assert type(again._parameters) is dict or not again._parameters
        assert not {id(p) for p in one.parameters()} & {id(p) for p in again.parameters()}
    before = nn.Conv2d.__init__, nn.Module.__setattr__, nn.Sequential.__init__
    with lazy_parameters():
        assert nn.Conv2d.__init__ is not before[0]
    assert (nn.Conv2d.__init__, nn.Module.__setattr__, nn.Sequential.__init__) == before
    assert "__init__" not in vars(nn.BatchNorm2d)  # it inherits its own


def test_what_layers_share_cannot_be_written_to() -> None:
    with lazy_parameters():
        nn.ReLU()
        relu = nn.ReLU()
    with pytest.raises(layers.NeedsTracer):
        relu.register_forward_hook(lambda *args: None)


def test_parameters_are_made_when_somebody_asks() -> None:
    """Whatever is asked of the parameters of a layer that was copied, the answer is that of one that was built."""

    def ways(held: dict[str, Any]) -> list[Any]:
        shapes = {name: p.shape for name, p in dict(held).items()}
        return [shapes, {**held}.keys(), list(held), len(held), "bias" in held, bool(held), held.get("none"), held | {}]

    real = nn.Linear(8, 4, device="meta")._parameters
    for i in range(8):
        with lazy_parameters():
            nn.Linear(8, 4)
            held = nn.Linear(8, 4)._parameters
        assert type(held) is layers.LazyParameters
        found, expected = ways(held)[i], ways(real)[i]
        assert found.keys() == expected.keys() if i == 7 else found == expected
        assert type(held) is layers.Parameters
