"""A wrong number must not pass: errors are planted in every closed form and every operator rule, one at a time.

For each entry of `LAYERS` and `RULES` a small network runs in which it is used, with a copy of the entry in its place
that is wrong in one way: the kernel off by one, the bias forgotten, groups ignored, floor for ceiling, the stride on
the wrong axis, one row or one operation too many. Wherever the planted error changes a number, verify has to disagree.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision.ops
from timm.layers.drop import DropPath
from torch import nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from archscope.analysis import verification as verify
from archscope.analysis.row import rows
from archscope.core.record import Tensor
from archscope.layers import LAYERS, Derived
from archscope.operators import RULES, Work
from archscope.peers.checks import of_module
from archscope.tracing import run
from archscope.tracing.tracer import trace


class Call(nn.Module):
    """A function of tensors, one operator of several that a container runs itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        output = self.function(*inputs)
        return output.clone() if isinstance(output, torch.Tensor) else output[0].clone()


class Case(NamedTuple):
    """A small network and its inputs: shapes, or tensors where the dtype or a value matters."""

    build: Callable[[], nn.Module]
    inputs: tuple[Any, ...]


class Attention(nn.Module):
    """Self-attention whose weights are not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def indices(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def grouped(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.grouped_mm(a, b, offs=torch.tensor([2, 6], dtype=torch.int32))


SIDES = {1: (2, 4, 11), 2: (2, 4, 11, 14), 3: (1, 4, 6, 9, 11)}
K = {1: (3,), 2: (3, 4), 3: (2, 3, 4)}  # another side an axis, so that an error on one axis shows
S = {1: (2,), 2: (1, 2), 3: (1, 2, 3)}


def cases() -> Iterator[Case]:
    """Networks in which every closed form and every rule is used."""
    x = SIDES[2]
    for n in (1, 2, 3):
        shape, axes = SIDES[n], {"kernel_size": K[n], "stride": S[n]}
        conv, up = getattr(nn, f"Conv{n}d"), getattr(nn, f"ConvTranspose{n}d")
        yield Case(lambda conv=conv, axes=axes: conv(4, 6, **axes, groups=2), (shape,))
        yield Case(lambda up=up, axes=axes: up(4, 6, **axes, groups=2), (shape,))
        yield Case(lambda n=n, axes=axes: getattr(nn, f"MaxPool{n}d")(**axes, ceil_mode=True), (shape,))
        yield Case(lambda n=n, axes=axes: getattr(nn, f"AvgPool{n}d")(**axes, ceil_mode=True), (shape,))
        out = (2, 3, 4)[:n]
        for kind in ("Avg", "Max"):
            yield Case(lambda n=n, kind=kind, out=out: getattr(nn, f"Adaptive{kind}Pool{n}d")(out), (shape,))
        for kind in ("Batch", "Instance"):
            yield Case(lambda n=n, kind=kind: getattr(nn, f"{kind}Norm{n}d")(4, affine=True), (shape,))
        for mode in "Zero Constant Reflection Replication Circular".split():
            value = (1.0,) if mode == "Constant" else ()
            yield Case(
                lambda n=n, mode=mode, v=value: getattr(nn, f"{mode}Pad{n}d")(
                    tuple(range(1, 2 * n + 1))[::-1] if n < 3 else 1, *v
                ),
                (shape,),
            )
        yield Case(lambda n=n: getattr(nn, f"Dropout{n}d")(), (shape,))
        for mode in {
            1: ("nearest", "nearest-exact", "linear"),
            2: ("nearest", "nearest-exact", "bilinear", "bicubic"),
            3: ("nearest", "nearest-exact", "trilinear"),
        }[n]:
            yield Case(lambda mode=mode: nn.Upsample(scale_factor=2, mode=mode), (shape,))
        yield Case(
            lambda n=n: Call(
                lambda t: getattr(torch.ops.aten, f"max_pool{n}d_with_indices")(t, K[n], S[n], 0, 1, True)
            ),
            (shape,),
        )
    yield Case(lambda: nn.Linear(4, 3), ((2, 5, 4),))
    yield Case(lambda: nn.Bilinear(3, 4, 5), ((2, 3), (2, 4)))
    for (
        name
    ) in """ReLU ReLU6 Sigmoid Tanh GELU SiLU Mish ELU SELU CELU LeakyReLU Hardswish Hardsigmoid Hardtanh Softplus
        Softsign Softshrink Hardshrink Tanhshrink LogSigmoid RReLU Identity Dropout AlphaDropout FeatureAlphaDropout
        PReLU Softmax2d""".split():
        yield Case(lambda name=name: getattr(nn, name)(), (x,))
    for name in "Softmax LogSoftmax Softmin GLU".split():
        yield Case(lambda name=name: getattr(nn, name)(dim=1), (x,))
    yield Case(lambda: nn.Threshold(0.1, 0.0), (x,))
    yield Case(lambda: nn.SyncBatchNorm(4), (x,))
    yield Case(lambda: nn.GroupNorm(2, 4), (x,))
    yield Case(lambda: nn.LayerNorm(14), (x,))
    yield Case(lambda: LayerNorm2d(4), (x,))
    yield Case(lambda: nn.RMSNorm(14), (x,))
    yield Case(lambda: nn.LocalResponseNorm(3), (x,))
    yield Case(lambda: nn.CrossMapLRN2d(3), (x,))
    yield Case(lambda: nn.Flatten(), (x,))
    yield Case(lambda: nn.Unflatten(1, (2, 2)), (x,))
    yield Case(lambda: nn.Embedding(10, 4), (indices(2, 3),))
    yield Case(lambda: nn.PixelShuffle(2), (x,))
    yield Case(lambda: nn.PixelUnshuffle(2), ((2, 4, 10, 14),))
    yield Case(lambda: nn.ChannelShuffle(2), (x,))
    yield Case(lambda: torchvision.ops.StochasticDepth(0.5, "row"), (x,))
    for kind in ("RNN", "LSTM", "GRU"):
        yield Case(lambda kind=kind: getattr(nn, kind)(4, 5, num_layers=2), ((3, 2, 4),))
        yield Case(lambda kind=kind: getattr(nn, f"{kind}Cell")(4, 5), ((2, 4),))
    yield Case(lambda: nn.RNN(4, 5, nonlinearity="relu"), ((3, 2, 4),))
    yield Case(lambda: nn.RNNCell(4, 5, nonlinearity="relu"), ((2, 4),))
    yield Case(Attention, ((2, 5, 8),))
    yield Case(DropPath, (x,))
    for window in (ShiftedWindowAttention, ShiftedWindowAttentionV2):
        yield Case(lambda window=window: window(8, [2, 3], [1, 1], 2), ((1, 4, 6, 8),))
    # what only functions call
    unary = [name.removeprefix("aten.") for name in RULES if name.removeprefix("aten.") in LAYERS["ReLU"].functions]
    for name in [*unary, "rrelu_"]:
        given = {"threshold": (0.1, 0.0), "threshold_": (0.1, 0.0)}.get(name, ())
        yield Case(lambda name=name, given=given: Call(lambda t: getattr(torch.ops.aten, name)(t * 1, *given)), (x,))
    for name in "add sub mul div".split():
        yield Case(lambda name=name: Call(lambda a, b: getattr(torch, name)(a, b)), (x, x[1:]))
        yield Case(lambda name=name: Call(lambda a, b: getattr(a * 1, f"{name}_")(b)), (x, x))
    yield Case(lambda: Call(lambda t: torch.rsub(t, 2)), (x,))
    yield Case(lambda: Call(lambda t: (t**2.5).pow_(3)), (x,))
    yield Case(lambda: Call(torch.mm), ((3, 4), (4, 5)))
    yield Case(lambda: Call(torch.bmm), ((2, 3, 4), (2, 4, 5)))
    yield Case(lambda: Call(torch.matmul), ((2, 3, 4), (4, 5)))
    yield Case(lambda: Call(torch.mv), ((3, 4), (4,)))
    yield Case(lambda: Call(torch.dot), ((4,), (4,)))
    yield Case(lambda: Call(torch.vdot), ((4,), (4,)))
    yield Case(lambda: Call(torch.addmm), ((5,), (3, 4), (4, 5)))
    yield Case(lambda: Call(torch.baddbmm), ((2, 3, 5), (2, 3, 4), (2, 4, 5)))
    yield Case(lambda: Call(torch.addbmm), ((3, 5), (2, 3, 4), (2, 4, 5)))
    yield Case(lambda: Call(torch.addmv), ((3,), (3, 4), (4,)))
    yield Case(lambda: Call(F.scaled_dot_product_attention), ((2, 2, 5, 4), (2, 2, 6, 4), (2, 2, 6, 3)))
    yield Case(lambda: Call(lambda a, b: torch.cat((a, b), 1)), (x, x))
    yield Case(lambda: Call(lambda a, b: torch.stack((a, b), 1)), (x, x))
    yield Case(
        lambda: Call(lambda t, w, b: torch.convolution(t, w, b, (1, 2), (0, 0), (1, 1), False, (0, 0), 2)),
        (x, (6, 2, 3, 4), (6,)),
    )
    yield Case(
        lambda: Call(grouped), (torch.empty(6, 16, dtype=torch.bfloat16), torch.empty(2, 16, 8, dtype=torch.bfloat16))
    )
    flags = (False, (0, 0), 2, False, False, True, True)
    yield Case(
        lambda: Call(lambda t, w, b: torch.ops.aten._convolution(t, w, b, (1, 2), (0, 0), (1, 1), *flags)),
        (x, (6, 2, 3, 4), (6,)),
    )
    yield Case(
        lambda: Call(lambda t, o, w: torchvision.ops.deform_conv2d(t, o, w, padding=(1, 1))),
        (x, (2, 18, 11, 14), (5, 4, 3, 3)),
    )
    yield Case(lambda: Call(lambda t, b: torchvision.ops.roi_align(t, b, 3, sampling_ratio=2)), (x, (5, 5)))


class Use(NamedTuple):
    """A network in which an entry is used, and the arguments that it is asked with."""

    case: Case
    asked: list[dict[str, Any]]


@cache
def cast() -> dict[tuple[str, str], list[Use]]:
    """For each closed form ("formula", kind) and rule ("rule", operator) the networks in which it is used."""
    found: dict[tuple[str, str], list[Use]] = {}
    for case in cases():
        record = trace(case.build(), case.inputs)
        asked: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for op in record.ops:
            given = {key: value for key, value in op.args.items() if key != "out"}  # what a rule is asked without
            asked.setdefault(("rule", op.name), []).append(given)
        for row in rows(record, whole=verify.WHOLE):
            kind, config = (row.kind, row.config) if row.layer is not None else verify.as_layer(row)
            given = {"config": config, "shapes": tuple(t.shape for t in row.inputs)}
            asked.setdefault(("formula", kind), []).append(given)
        for entry, arguments in asked.items():
            found.setdefault(entry, []).append(Use(case, arguments))
    return found


# ------------------------------------------------------------------------------------------------------- the errors


class Planted:
    """A copy of an entry with an error. changed: whether it has said anything else than the original."""

    def __init__(
        self, original: Callable[..., Any], spoil: Callable[[dict[str, Any]], dict[str, Any]], after: Any
    ) -> None:
        self.original, self.spoil, self.after, self.changed = original, spoil, after, False

    def said(self, truth: Any, arguments: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Any:
        """The planted answer beside the true one."""
        spoiled = self.spoil(arguments)
        wrong = truth
        if spoiled is not arguments:
            try:
                wrong = ask(spoiled)
            except Exception:
                self.changed = True
                raise
        if wrong is not None:
            wrong = self.after(wrong)
        self.changed |= _numbers(wrong) != _numbers(truth)
        return wrong


class PlantedFormula(Planted):
    def __call__(self, config: Any, shapes: Any) -> Derived | None:
        return self.said(self.original(config, shapes), dict(config), lambda other: self.original(other, shapes))


class PlantedRule(Planted):
    def __call__(self, /, **given: Any) -> Work:
        return self.said(self.original(**given), given, lambda other: self.original(**other))


def _numbers(said: Any) -> Any:
    if isinstance(said, Derived):
        return said.shapes, int(said.params), int(said.macs), said.flops()
    return said and (said.shapes, said.macs, said.flops)


def _with(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Another value for an argument that is there and has one."""

    def spoil(given: dict[str, Any]) -> dict[str, Any]:
        changes = {key: value(given[key]) for key, value in values.items() if given.get(key)}
        return {**given, **changes} if changes else given

    return spoil


def _larger(value: Any) -> Any:
    """A kernel that is larger by one on every side; of a weight [c_out, c_in, k, …] too."""
    if isinstance(value, Tensor):
        c, sides = value.shape[:2], value.shape[2:]
        return value._replace(shape=(*c, *(k + 1 for k in sides))) if sides else value
    return tuple(k + 1 for k in value) if isinstance(value, tuple) else value + 1


def _turned(value: Any) -> Any:
    return value[::-1] if isinstance(value, tuple) else value


def _none(value: Any) -> None:
    return None


def _grown(said: Any) -> Any:
    """The last side of the first output is one too many."""
    first, *more = said.shapes or ((),)
    return said._replace(shapes=((*first[:-1], first[-1] + 1), *more)) if first else said


def _one_more(field: str) -> Callable[[Any], Any]:
    return lambda said: said._replace(**{field: int(getattr(said, field)) + 1})


def _one_operation_more(said: Any) -> Any:
    if not isinstance(said, Derived):
        return _one_more("flops")(said)
    return said if said.operations is None else _one_more("operations")(said)


def _same(said: Any) -> Any:
    return said


def _as_given(given: dict[str, Any]) -> dict[str, Any]:
    return given


SPOILS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "kernel off by one": _with(kernel_size=_larger, weight=_larger),
    "bias forgotten": _with(
        bias=lambda b: False if b is True else None, b_ih=_none, b_hh=_none, has_biases=lambda b: False
    ),
    "groups ignored": _with(groups=lambda g: 1),
    "floor for ceiling": _with(ceil_mode=lambda c: False),
    "stride on the wrong axis": _with(stride=_turned),
}
AFTERS: dict[str, Callable[[Any], Any]] = {"one row too many": _grown, "one multiply-add too many": _one_more("macs")}
FORMULA_ERRORS = [*SPOILS, *AFTERS, "one parameter too many", "one operation too many"]
RULE_ERRORS = [*SPOILS, *AFTERS, "one operation too many"]
AFTERS |= {"one parameter too many": _one_more("params"), "one operation too many": _one_operation_more}


def planted(registry: dict[str, Any], name: str, error: str) -> Planted:
    make, original = (PlantedFormula, registry[name].form) if registry is LAYERS else (PlantedRule, registry[name])
    return make(original, SPOILS.get(error, _as_given), AFTERS.get(error, _same))


def changes(entry: Any, asked: list[dict[str, Any]]) -> bool:
    """Whether a planted error says anything else than the original to one of these questions."""
    for given in asked:
        try:
            entry(**given)
        except Exception:
            if not entry.changed:
                raise
    return entry.changed


def told(case: Case, registry: dict[str, Any], name: str, error: str, patch: pytest.MonkeyPatch) -> list[str]:
    """What verify says of a network with a planted error."""
    wrong = planted(registry, name, error)
    patch.setitem(registry, name, LAYERS[name]._replace(form=wrong) if registry is LAYERS else wrong)
    patch.setattr(run, "OVERLOADS", {})  # the rules that were looked up already
    verify.forget()
    return of_module(case.build(), case.inputs)[1].wrong


def unseen(registry: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The planted errors of an entry that change a number somewhere and that verify reports nowhere."""
    word, errors = ("formula", FORMULA_ERRORS) if registry is LAYERS else ("rule", RULE_ERRORS)
    missed = set()
    for error in errors:
        where = [use.case for use in cast()[word, name] if changes(planted(registry, name, error), use.asked)]
        for case in where:
            with monkeypatch.context() as patch:
                wrong = told(case, registry, name, error, patch)
            if wrong:
                break
        else:
            missed |= {error} if where else set()
    verify.forget()
    return missed


# what no network can use under this name: its module has the forward, and so the kind, of another
NEVER = {
    "LazyLinear": "a lazy layer is a Linear once it has run",
    "ReLU6": "has the forward of Hardtanh",
    "UpsamplingNearest2d": "has the forward of Upsample",
    "UpsamplingBilinear2d": "has the forward of Upsample",
    "parameter": "explains a parameter of a container, and is compared with nothing",
}
_OPERATOR = "an operator has no parameters that could be compared"
_UNKNOWN = "there is no closed form of its work: it is held against its shape only"
EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    **{
        kind: ({"one parameter too many"}, _OPERATOR)
        for kind in "matmul grouped_mm addmm addbmm arithmetic cat stack scaled_dot_product_attention".split()
    },
    "torchvision.roi_align": ({"one multiply-add too many", "one operation too many"}, _UNKNOWN),
    "torchvision.deform_conv2d": ({"bias forgotten", "one multiply-add too many", "one operation too many"}, _UNKNOWN),
}


def test_every_entry_is_used_in_a_network() -> None:
    used = cast()
    assert {kind for kind in LAYERS if ("formula", kind) not in used} == set(NEVER)
    assert {name for name in RULES if ("rule", name) not in used} == set()


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind not in NEVER])
def test_an_error_in_a_closed_form_is_reported(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unseen(LAYERS, kind, monkeypatch) == EXCEPTIONS.get(kind, (set(), ""))[0]


@pytest.mark.parametrize("name", RULES)
def test_an_error_in_a_rule_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unseen(RULES, name, monkeypatch) == EXCEPTIONS.get(name, (set(), ""))[0]


def test_networks_without_an_error_are_verified() -> None:
    for case in cases():
        _, audit = of_module(case.build(), case.inputs)
        assert audit.wrong == []


def test_each_error_is_planted_somewhere() -> None:
    """An error that changed nothing anywhere would be no test."""
    original = RULES["aten.max_pool2d"]
    x = Tensor(0, (1, 4, 11, 15), "float32")
    given = {"self": x, "kernel_size": (2, 2), "stride": (2, 3), "ceil_mode": True}
    for error in ("kernel off by one", "floor for ceiling", "stride on the wrong axis"):
        assert changes(PlantedRule(original, SPOILS[error], _same), [given]), error
    conv = {"input": x, "weight": Tensor(1, (6, 2, 3, 3), "float32"), "bias": Tensor(2, (6,), "float32"), "groups": 2}
    for error in ("kernel off by one", "bias forgotten"):
        assert changes(PlantedRule(RULES["aten.conv2d"], SPOILS[error], _same), [conv]), error
