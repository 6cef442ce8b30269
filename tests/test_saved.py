"""What a step saves for its backward: the record beside the table of operators."""

import pytest

import archscope
from archscope.analysis.saved import saved_check
from archscope.operators.saves import SAVES, nothing

MODELS = [
    "lenet",
    "mnist-cnn",
    "alexnet",
    "inception-block",
    "dense-block",
    "torchvision:convnext_tiny",
    "gru-classifier",
    "torchvision:mobilenet_v3_small",
    "torchvision:swin_t",
]


@pytest.mark.parametrize("spec", MODELS)
def test_record_and_table_agree(spec: str) -> None:
    model, inputs = archscope.load(spec, batch=2)
    check = saved_check(archscope.trace_step(model, inputs))
    assert check.agrees, check
    assert check.recorded == check.derived > 0


def test_a_wrong_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAVES, "aten.max_pool2d_with_indices", nothing)
    model, inputs = archscope.load("mnist-cnn", batch=2)
    check = saved_check(archscope.trace_step(model, inputs))
    assert check.agrees is False
    # the indices, 8 bytes for each of 14·14 and 7·7 places, which nothing else keeps
    assert check.missing == {
        "aten.max_pool2d_with_indices of pool1": 8 * 2 * 8 * 14 * 14,
        "aten.max_pool2d_with_indices of pool2": 8 * 2 * 32 * 7 * 7,
    }


def test_an_operator_that_the_table_lacks_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SAVES, "aten.sigmoid")
    model, inputs = archscope.load("lenet", batch=2)
    check = saved_check(archscope.trace_step(model, inputs))
    assert check.agrees is None
    assert check.unknown == ("aten.sigmoid",)
