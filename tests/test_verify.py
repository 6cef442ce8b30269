"""`archscope verify`: what is compared with what, what counts as a disagreement, and what the command says."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import archscope
from archscope import layers
from archscope.analysis import verification as verify
from archscope.analysis.by_model import model_table
from archscope.analysis.metrics import totals
from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE, check, disagreements, same_run
from archscope.core.record import Trace
from archscope.layers import LAYERS, derive
from archscope.operators import RULES
from archscope.peers import checks as audit
from archscope.peers import published
from archscope.peers.checks import Tally, checked, checks_table, derived, failed, of_module
from archscope.peers.published import Figure
from archscope.sources.spec import expand, parse
from archscope.tracing import run, tracer
from archscope.tracing.modules import describe


def test_every_network_of_the_zoo_is_verified() -> None:
    for spec in expand(["all"]):
        one = checked(spec)
        assert one.wrong == [], spec.text
        assert one.underived == 0
        assert one.layers.compared and one.kernels.compared and one.figures.compared >= 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet50", ""),
        ("swin_v2_t", ""),
        ("maskrcnn_resnet50_fpn", "sizes that depend on the image are taken at their largest"),
        ("quantized_inception_v3", "counts the auxiliary classifier, which the quantized network does not have"),
    ],
)
def test_networks_of_torchvision(name: str, reason: str) -> None:
    one = checked(parse(f"torchvision:{name}"))
    assert one.wrong == []
    assert one.figures.compared >= 2  # parameters and multiply-adds that torchvision publishes
    assert any(reason in text for text in one.figures.stated) or not reason


def test_an_excuse_excuses_no_other_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ((key, (more, why)),) = audit.EXCUSED.items()
    assert more == 27_161_264 - 23_834_568  # torchvision's published number less that of the network
    monkeypatch.setitem(audit.EXCUSED, key, (more + 1, why))
    assert checked(parse("torchvision:quantized_inception_v3")).wrong == [
        "23,834,568 parameters, 27,161,264 published or derived"
    ]


# ------------------------------------------------------------------------------------------- PyTorch's own kernels


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.adaptive_avg_pool2d(torch.relu(self.norm(self.conv(x))), 1).flatten(1))


def test_two_runs_of_one_network_are_the_same() -> None:
    ruled, kernels = (tracer.trace(Net(), ((2, 3, 9, 9),), rules=rules) for rules in (True, False))
    assert same_run(ruled, kernels) == []
    assert [op.name for op in ruled.ops] == [op.name for op in kernels.ops]


def changed(record: Trace, index: int, **fields: Any) -> Trace:
    ops = list(record.ops)
    ops[index] = ops[index]._replace(**fields)
    other = replace(record, ops=tuple(ops))
    other.__dict__.pop("_kept", None)
    return other


def test_a_difference_is_told_with_its_layer_and_both_shapes() -> None:
    ruled = tracer.trace(Net(), ((2, 3, 9, 9),))
    out = ruled.ops[0].outputs[0]
    other = changed(ruled, 0, outputs=(out._replace(shape=(2, 8, 4, 5)),))
    assert same_run(ruled, other) == [
        "conv: aten.conv2d gives [2×8×4×4×float32] by its rule, [2×8×4×5×float32] by PyTorch's kernel"
    ]
    assert same_run(ruled, changed(ruled, 2, name="aten.gelu")) == [
        "operator 2 is aten.relu by the rules, aten.gelu by PyTorch's kernels"
    ]
    # and a record in which an operator gave what its rule does not say
    (told, *_) = same_run(other, other)
    assert told == "aten.conv2d: its rule gives [[2, 8, 4, 4]], the run [[2, 8, 4, 5]]"


def test_a_rule_that_stops_the_run_is_reported_where_it_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    original = RULES["aten.conv2d"]

    def off(**given: Any) -> Any:
        done = original(**given)
        assert done.shapes is not None
        n, c, h, w = done.shapes[0]
        return done._replace(shapes=((n, c + 1, h, w),))

    monkeypatch.setitem(RULES, "aten.conv2d", off)
    monkeypatch.setattr(run, "OVERLOADS", {})
    _, told = of_module(Net(), ((2, 3, 9, 9),))
    assert told.kernels.wrong[0] == (
        "conv: aten.conv2d gives [2×9×4×4×float32] by its rule, [2×8×4×4×float32] by PyTorch's kernel"
    )
    assert "expects" in told.error  # the norm after it takes 8 channels


def test_what_pytorch_refuses_too_is_an_error() -> None:
    _, told = of_module(Net(), ((2, 4, 9, 9),))
    assert told.kernels == Tally()
    assert told.wrong == [told.error] and "3 input channels" in told.error


# --------------------------------------------------------------------------------------------------- closed forms


def test_the_operators_of_a_container_have_closed_forms() -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor, w: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            y = F.conv2d(x, w, groups=2) + F.conv_transpose2d(x, t).mean()
            return torch.stack((y * 2, y), 1)

    record = tracer.trace(Own(), ((1, 4, 5, 5), (6, 2, 3, 3), (4, 6, 3, 3)))
    table = rows(record, whole=verify.WHOLE)
    checks = dict(zip([row.kind for row in table], verify.check(record, table), strict=True))
    assert {kind for kind, one in checks.items() if one.agrees} == {"conv2d", "conv_transpose2d", "add", "mul", "stack"}
    assert checks["conv2d"].derived is not None and checks["conv_transpose2d"].derived is not None
    assert int(checks["conv2d"].derived.macs) == 3 * 3 * 6 * 3 * 3 * 2
    assert int(checks["conv_transpose2d"].derived.macs) == 5 * 5 * 4 * 3 * 3 * 6
    assert derived(record).wrong == []


def test_a_tensor_that_is_given_for_the_output_is_no_input() -> None:
    class Into(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((x * 2, x), 1, out=torch.empty(0))

    assert of_module(Into(), ((2, 3),))[1].wrong == []


# fmt: off
FLOPS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    # (layer, input, operations besides two for each multiply-add)
    (nn.Conv2d(3, 8, 3), (2, 3, 9, 9), 2*8*7*7),
    (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 6*11*11),
    (nn.Linear(5, 4, bias=False), (3, 5), 0),
    (nn.BatchNorm2d(4), (2, 4, 3, 3), 2 * 72),
    (nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 3, 3), 6 * 72),
    (nn.LayerNorm(3), (2, 4, 3), 5 * 24),
    (nn.MaxPool2d((3, 2), 2), (1, 4, 9, 9), 4*4*4 * (3*2 - 1)),
    (nn.AvgPool2d(3, 2), (1, 4, 9, 9), 4*4*4 * 3*3),
    (nn.AdaptiveAvgPool2d((2, 1)), (1, 4, 5, 3), 4 * (3 + 3) * 3),  # rows 0 to 2 and 2 to 4
    (nn.AdaptiveMaxPool2d((2, 1)), (1, 4, 5, 3), 4 * ((3 + 3) * 3 - 2)),
    (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 3), 8 * 2*6*6),
    (nn.GLU(dim=1), (2, 4, 3), 2*2*3),
    (nn.Softmin(dim=1), (2, 4), 6 * 8),
    (nn.LSTM(3, 4, num_layers=2, bidirectional=True), (5, 2, 3), 5*2 * 2*2 * 4 * (13 + 2*4)),
    (nn.GRUCell(3, 4, bias=False), (2, 3), 2 * 4 * 10),
]
# fmt: on


@pytest.mark.parametrize(("module", "shape", "more"), FLOPS, ids=lambda value: type(value).__name__)
def test_operations_by_hand(module: nn.Module, shape: tuple[int, ...], more: int) -> None:
    kind, config = describe(module)
    form = derive(kind, config, (shape,))
    assert form is not None
    assert form.flops() == 2 * int(form.macs) + more
    assert totals(tracer.trace(module, (shape,)))["flops"] == 2 * int(form.macs) + more


def test_flops_that_differ_in_training_are_unknown_there() -> None:
    norm = derive("BatchNorm1d", {"num_features": 4, "affine": True}, ((2, 4),))
    assert norm is not None and (norm.flops(), norm.flops(train=True)) == (16, None)
    unknown = derive("MultiheadAttention", describe(nn.MultiheadAttention(4, 2))[1], ((3, 2, 4),) * 3)
    assert unknown is not None and unknown.flops() is None
    assert of_module(Net(), ((2, 3, 9, 9),), train=True)[1].wrong == []


def test_closed_forms_share_no_code_with_the_rules() -> None:
    """What agrees with the rules of operators must not have been read there."""
    for path in Path(layers.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"^from (archscope\S*)", text, re.MULTILINE):
            assert line.startswith(("archscope.layers.", "archscope.core.")), (path.name, line)


def test_a_kind_is_entered_once() -> None:
    with pytest.raises(ValueError, match="the closed form of 'ReLU' is registered twice"):
        layers.layer("ReLU", source="")(LAYERS["ReLU"].form)


def test_operations_that_disagree_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    verify.forget()
    linear = LAYERS["Linear"].form

    def without_bias(config: Any, shapes: Any) -> Any:
        form = linear(config, shapes)
        return None if form is None else form._replace(operations=0)

    monkeypatch.setitem(LAYERS, "Linear", LAYERS["Linear"]._replace(form=without_bias))
    assert of_module(Net(), ((2, 3, 9, 9),))[1].wrong == ["fc: 160 FLOPs by formula, 170 observed"]
    verify.forget()


# ------------------------------------------------------------------------------------------------ published figures


def test_a_published_figure_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = published.figures("alexnet")
    wrong = next(f for f in figures if f.quantity == "params" and not f.layers)
    misprinted = wrong._replace(printed="61.5 million", rounded=published.rounded("61.5 million"))
    monkeypatch.setattr(published, "figures", lambda model: (misprinted,))
    one = checked(parse("alexnet"))
    assert len(one.wrong) == 1
    assert one.wrong[0].startswith("params: ") and "61.5 million" in one.wrong[0]


def test_figures_are_for_the_networks_own_input() -> None:
    own, other = checked(parse("alexnet")), checked(parse("alexnet"), "259")
    assert own.figures.compared > other.figures.compared
    assert isinstance(published.figures("alexnet")[0], Figure)


# --------------------------------------------------------------------------------------------------------- printing


def test_one_line_a_model(archscope: Callable[..., Any]) -> None:
    ran = archscope("verify", "lenet", "resnet18", "--against", "torch", env={"COLUMNS": "100"})
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines() if line.startswith(("lenet", "resnet18"))]
    assert [(line[0], line[-2], line[-1]) for line in lines] == [("lenet", "0", "✓"), ("resnet18", "0", "✓")]
    assert "for a stated reason 4 figures differ: `archscope verify MODEL` tells them" in ran.out
    alone = archscope("verify", "lenet")
    assert "60,000 + 900 − 44 + 850 = 61,706" in " ".join(alone.out.split())


def test_as_json(archscope: Callable[..., Any]) -> None:
    (row,) = json.loads(archscope("verify", "lenet", "--format", "json").out)
    assert row["verified"] is True and row["disagreements"] == 0 and row["wrong"] == []
    assert row["witnesses"] is None
    assert len(row["reasons"]) == row["stated"] == 4


def test_a_disagreement_is_exit_1(archscope: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original = LAYERS["Linear"].form

    def wrong(config: Any, shapes: Any) -> Any:
        form = original(config, shapes)
        return None if form is None else form._replace(macs=int(form.macs) + 1)

    verify.forget()
    monkeypatch.setitem(LAYERS, "Linear", LAYERS["Linear"]._replace(form=wrong))
    ran = archscope("verify", "lenet", "--input", "28", "--batch", "1")
    verify.forget()
    assert ran.code == 1
    assert "lenet: fc1: 48,001 MACs by formula, 48,000 observed" in ran.out
    assert "✗" in ran.out


def test_what_cannot_run_has_its_line(archscope: Callable[..., Any]) -> None:
    ran = archscope("verify", "lenet", "alexnet", "--input", "28")
    assert ran.code == 1
    assert "✓" in ran.out and "✗" in ran.out


def test_a_saved_trace(archscope: Callable[..., Any], tmp_path: Any, traced: Callable[..., Any]) -> None:
    stored = tmp_path / "lenet.json"
    stored.write_text(traced("lenet").to_json(), encoding="utf-8")
    ran = archscope("verify", str(stored))
    assert ran.code == 0
    assert "not compared: a saved trace: there is no model to run again" in " ".join(ran.out.split())


def test_wrong_words(archscope: Callable[..., Any]) -> None:
    assert archscope("verify").code == 2
    assert archscope("verify", "lenett").code == 2
    ran = archscope("verify", "lenet", "--against", "fvcor")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean fvcore?" in ran.err


def test_the_table_of_an_error() -> None:
    one = audit.ModelCheck("net", error="it fails")
    table = checks_table([one])
    assert failed([one]) and not failed([])
    assert table.rows[0]["layers"] is None and table.rows[0]["verified"] is False
    assert table.notes == ("net: it fails",)


# ------------------------------------------------------------------------------------------ weights that are computed


def weight_normed(layer: nn.Module, way: str, dim: Any) -> nn.Module:
    if way == "parametrization":
        return nn.utils.parametrizations.weight_norm(layer, dim=dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer, dim=dim)  # its older form, a hook


@pytest.mark.parametrize("way", ["parametrization", "hook"])
@pytest.mark.parametrize(
    ("layer", "shape", "dim", "params", "flops"),
    [
        # 3·4·8 weights, 8 biases, a norm for each of 8 kernels; on 14 places 2·3·4·8 and a bias each; squares and
        # products of 96 weights, and 8 quotients
        (lambda: nn.Conv1d(4, 8, 3), (1, 4, 16), 0, 96 + 8 + 8, 14 * (2 * 96 + 8) + 2 * 96 + 8),
        (lambda: nn.Conv1d(4, 8, 3), (1, 4, 16), 2, 96 + 8 + 3, 14 * (2 * 96 + 8) + 2 * 96 + 3),
        (lambda: nn.Linear(5, 7), (2, 5), None, 35 + 7 + 1, 2 * (2 * 35 + 7) + 2 * 35 + 1),
        # transposed: the kernels of 4 channels in, of 2 groups; 2·2 places of the input, 18 outputs each of 6 channels
        (
            lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (1, 4, 2, 2), 0, 4 * 3 * 9 + 4,
            2 * (4 * 4 * 3 * 9) + 2 * (4 * 3 * 9) + 4,
        ),
    ],
)  # fmt: skip
def test_a_weight_with_norms_of_its_own(
    way: str, layer: Callable[[], nn.Module], shape: tuple[int, ...], dim: Any, params: int, flops: int
) -> None:
    """Salimans and Kingma (2016), equation 2: w = g·v/‖v‖, with g to be learned for each index of an axis."""
    trace = archscope.trace(nn.Sequential(weight_normed(layer(), way, dim)), shape)
    (row,) = rows(trace, whole=WHOLE)
    (checked,) = check(trace, [row])
    assert checked.agrees and checked.derived is not None
    assert (int(checked.derived.params), archscope.totals(trace)["params"]) == (params, params)
    assert archscope.totals(trace)["flops"] == flops


def test_a_weight_that_is_computed_otherwise_has_no_closed_form() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.triu() + x.triu(1).mT

    one = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(one, "weight", Symmetric())
    for layer in (one, nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))):
        trace = archscope.trace(nn.Sequential(layer, nn.ReLU()), (2, 4))
        first, second = check(trace, rows(trace, whole=WHOLE))
        assert first.agrees is None and first.derived is None and second.agrees
        assert not disagreements(trace)


def test_nothing_stands_beside_anything() -> None:
    """PyTorch joins an empty vector with whatever else; caches of transformers begin so."""

    class Cache(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.new_empty(0), x, x.new_empty(0), x], dim=-2)

    trace = archscope.trace(Cache(), (2, 3, 4))
    assert trace.layers[0].outputs[0].shape == (2, 3 + 3, 4)
    assert not disagreements(trace)


def test_a_model_of_many_disagreements_leaves_room_for_others() -> None:
    row = {"model": "net", "differences": [f"layer {i}" for i in range(1002)]}
    notes = model_table([row, {"model": "other", "differences": ["one"]}], "").notes
    assert notes == (
        "net: layer 0", "net: layer 1", "net: layer 2", "net: and 999 more disagreements: archscope verify net",
        "other: one",
    )  # fmt: skip


def test_a_bilinear_layer_is_verified() -> None:
    """5 outputs of 2 pairs: 5·(2·3·4 + 2·4) MACs, and a bias an output."""
    record, one = of_module(nn.Bilinear(3, 4, 5), (torch.empty(2, 3), torch.empty(2, 4)))
    assert (one.wrong, one.uncounted) == ([], ())
    (checked,) = check(record, rows(record, whole=WHOLE))
    assert checked.agrees and checked.derived is not None
    assert int(checked.derived.macs) == 5 * (2 * 3 * 4 + 2 * 4) and int(checked.derived.params) == 3 * 4 * 5 + 5


class Factors(nn.Module):
    """An operator without a known cost."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x).Q


def test_operators_without_a_cost_are_told() -> None:
    record, one = of_module(Factors(), (torch.empty(2, 8),))
    said = "Factors: the cost of these operators is unknown, and the totals are lower bounds: aten.linalg_qr (1×)"
    assert one.uncounted == ("aten.linalg_qr (1×)",) and said in checks_table([one]).notes
    assert not of_module(nn.Linear(3, 4), (torch.empty(2, 3),))[1].uncounted
