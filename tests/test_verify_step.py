"""`archscope verify --train`: a step of training by its record, and three witnesses of its bytes."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import archscope
from archscope.analysis.training import memory_curve
from archscope.core.record import Trace
from archscope.operators.saves import SAVES, nothing
from archscope.peers import step_checks
from archscope.peers.checks import checked
from archscope.peers.step_checks import by_mem_tracker, by_real_step, by_table, step_compared
from archscope.sources.loading import loaded
from archscope.sources.spec import parse

SAMPLE = ["lenet", "mnist-cnn", "inception-block", "dense-block"]


@pytest.mark.parametrize("name", SAMPLE)
def test_every_witness_agrees(name: str) -> None:
    one = step_compared(parse(name), batch=2)
    assert one.wrong == one.missing == one.stated == ()
    assert one.compared > 20


def step_of_lenet() -> Trace:
    model, arguments, named = loaded(parse("lenet"), batch=2)
    return archscope.trace_step(model, arguments, named, optimizer="adamw", device="cpu")


def given() -> Any:
    return loaded(parse("lenet"), batch=2)


def heavier(record: Trace, name: str, more: int) -> Trace:
    """The record with `more` bytes too much where an operator runs for the first time."""
    born = next(i for i, op in enumerate(record.ops) if op.name == name)
    wrong = next(s for s in record.storages if s.born == born)
    storages = tuple(s._replace(nbytes=s.nbytes + more) if s is wrong else s for s in record.storages)
    return replace(record, storages=storages)


def test_the_first_operator_at_which_the_bytes_differ_is_named() -> None:
    record = step_of_lenet()
    at = next(i for i, op in enumerate(record.ops) if op.name == "aten.avg_pool2d")
    gone = next(s for s in record.storages if s.born == at).died
    assert gone is not None
    (told,) = by_real_step(heavier(record, "aten.avg_pool2d", 4), *given()).wrong
    now = memory_curve(record)[at]
    assert told == (
        f"training step: in the forward, at aten.avg_pool2d of pool1, {now + 4:,} B are in use by the record, {now:,} "
        f"B by a real step on the CPU (+4 B); they differ at {gone - at} of {len(record.ops):,} operators"
    )


def test_mem_tracker_sees_a_wrong_byte() -> None:
    record = step_of_lenet()
    assert by_mem_tracker(record, *given()).wrong == ()
    # parameters and two moments, 61,706 each; images, targets; ten counts of steps, on the CPU
    after = 3 * 4 * 61706 + 4 * 2 * 28 * 28 + 8 * 2 + 4 * 10
    first, *others = record.storages
    inputs = replace(record, storages=(first._replace(nbytes=first.nbytes + 8), *others))
    told = by_mem_tracker(inputs, *given()).wrong
    assert [text.partition(" by the record")[0] for text in told] == [
        f"training step: {max(memory_curve(record)) + 8:,} B at the peak",
        f"training step: {after + 8:,} B after the step",
    ]


def test_what_the_table_does_not_keep_is_named_with_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAVES, "aten.max_pool2d_with_indices", nothing)
    model, arguments, named = loaded(parse("mnist-cnn"), batch=2)
    told = by_table(archscope.trace_step(model, arguments, named, device="cpu"))
    record = archscope.trace_step(model, arguments, named, device="cpu")
    pool = next(op for op in record.ops if op.name == "aten.max_pool2d_with_indices")
    assert told.wrong[0] == (
        f"training step: {8 * pool.outputs[1].numel:,} B of aten.max_pool2d_with_indices of pool1 wait for the "
        "backward, and by the table no operator saves them"
    )


def test_an_operator_that_is_not_in_the_table_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SAVES, "aten.sigmoid")
    told = by_table(step_of_lenet())
    assert told.missing == ("training step: what aten.sigmoid saves is not known",) and not told.compared


def test_a_step_that_is_too_large_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_checks, "MOST_MACS", 10)
    told = by_real_step(step_of_lenet(), *given())
    assert told.compared == 0 and "multiply-adds on the CPU; give a smaller --batch or --input" in told.missing[0]
    monkeypatch.undo()
    monkeypatch.setattr(step_checks, "_free_memory", lambda: 1000)
    (why,) = by_real_step(step_of_lenet(), *given()).missing
    assert "and 1,000 B of memory are free" in why


@pytest.mark.parametrize("name", ["gru", "lstm", "char-rnn", "gru-classifier"])
def test_a_recurrent_layer_runs_as_on_a_cpu(name: str) -> None:
    found = step_compared(parse(name))
    assert (found.wrong, found.stated) == ((), ()) and found.compared > 50


def test_only_a_training_is_compared() -> None:
    assert checked(parse("lenet")).step.compared == 0
    assert checked(parse("lenet"), train=True).step.compared > 100


def test_the_command(archscope: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = json.loads(archscope("verify", "mnist-cnn", "--train", "--batch", "2", "--format", "json").out)
    assert row["verified"] is True and row["step"] > 90 and row["missing"] == []
    monkeypatch.setitem(SAVES, "aten.max_pool2d_with_indices", nothing)
    ran = archscope("verify", "mnist-cnn", "--train", "--batch", "2")
    assert ran.code == 1 and "by the table no operator saves them" in " ".join(ran.out.split())
