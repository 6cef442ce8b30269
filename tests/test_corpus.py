"""The corpus: figures by hand against a real run on the CPU, and the record against these figures."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import GeneratorType
from typing import Any

import pytest
import torch
from corpus import Case, load, tensors
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import archscope

CASES = load()
HONEST = [case for case in CASES if case.answer]

# what the record gets wrong today, by reason; a model that comes out right fails its test until it is deleted here
FAILING: dict[str, str] = {}


@contextmanager
def as_counted() -> Iterator[None]:
    """Kernels that FlopCounterMode sees: attention as products, no fused recurrent layers."""
    with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


class NoModules(nullcontext):
    """In place of the tracker of modules, whose hooks refuse a leaf in `torch.autograd.grad`."""

    parents = frozenset({"Global"})


def marked(cases: Iterable[Case], failing: Mapping[str, str]) -> list[Any]:
    reasons = {name: reason for reason, names in failing.items() for name in names.split()}
    assert not reasons.keys() - {case.name for case in CASES}
    return [
        pytest.param(case, id=case.name, marks=pytest.mark.xfail(reason=reasons[case.name], strict=True))
        if case.name in reasons
        else pytest.param(case, id=case.name)
        for case in cases
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_figures_by_hand_are_those_of_a_real_run(case: Case) -> None:
    model, arguments, kwargs = case.made()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a kernel that nothing can look into
    try:
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = NoModules()  # pyright: ignore[reportAttributeAccessIssue]
        with as_counted(), counter:
            output = model(*arguments, **kwargs)
            if isinstance(output, GeneratorType):  # it runs as its parts are asked for
                output = tuple(output)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert sum(p.numel() for p in model.parameters()) == case.params
    assert [tuple(t.shape) for t in tensors(output)] == list(case.shapes)
    if not case.uncounted:
        assert counter.get_total_flops() == 2 * case.macs
    else:
        assert counter.get_total_flops() != 2 * case.macs, "FlopCounterMode counts it after all"


@pytest.mark.parametrize("case", marked(CASES, FAILING))
def test_the_record_says_what_was_derived_by_hand(case: Case) -> None:
    model, arguments, kwargs = case.made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = archscope.trace(model, arguments, kwargs, train=case.train)
    total = archscope.totals(record)
    assert total["params"] == case.params
    assert [t.shape for t in record.layers[0].outputs] == list(case.shapes)
    assert total["macs"] == case.macs


@pytest.mark.parametrize("case", HONEST, ids=lambda case: case.name)
def test_no_bare_figure_where_the_answer_is_another(case: Case) -> None:
    """Refused, said to be a bound, or with a note on the values that decided."""
    model, arguments, kwargs = case.made()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = archscope.trace(model, arguments, kwargs, train=case.train)
    except archscope.ArchscopeError:
        return
    if case.answer == "depends on values":
        assert record.notes
    else:
        assert archscope.totals(record)["unknown"]
    assert any(archscope.layer_table(record).notes)


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 150
    assert len({case.family for case in CASES}) == 16
    assert len(HONEST) >= 15
