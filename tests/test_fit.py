"""fit: the largest batch, checked by the record at it and at one more; the answer of made-up records, worked out."""

from collections.abc import Sequence

import pytest
from torch import nn

from archscope.analysis.allocator import events, simulate
from archscope.core.errors import SpecError
from archscope.core.record import Op, Storage, Trace
from archscope.shapes.fit import card_bytes, largest, steps_of
from archscope.sources.spec import parse

MiB = 1 << 20


def made(*sizes: int) -> Trace:
    """A record whose storages are all there at once."""
    storages = tuple(Storage(i, size, i, None, "temporary", False, ()) for i, size in enumerate(sizes))
    ops = tuple(Op("aten.relu", (), (), {}) for _ in sizes)
    return Trace("made", (), (), (), (), ops, {}, True, {}, storages=storages)


def test_the_largest_batch_of_one_tensor_that_grows() -> None:
    # 100 MiB that stay and 12 MiB for each example, each in a segment of its own: 100 + 12·n ≤ 1000, n = 75
    found = largest(lambda n: made(100 * MiB, 12 * n * MiB), 1000 * MiB)
    assert (found.largest, found.closed) == (75, True)
    assert found.at is not None and found.at.reserved == (100 + 12 * 75) * MiB
    assert found.beyond is not None and not found.beyond.fits
    assert found.runs == 4  # at 2 and 3 for the closed form, at 75 and 76 to check it


def test_what_is_not_linear_is_recorded_at_every_size_that_is_tried() -> None:
    # 12·n² MiB: 12·9² = 972 fits 1000, 12·10² does not
    found = largest(lambda n: made(12 * n * n * MiB), 1000 * MiB)
    assert (found.largest, found.closed) == (9, False)


def test_a_closed_form_that_breaks_off_is_not_believed() -> None:
    # linear up to 40 examples, twice as much from there on: 12·40 = 480 fits, 24·41 = 984 fits, 24·42 does not
    found = largest(lambda n: made((12 if n <= 40 else 24) * n * MiB), 1000 * MiB)
    assert (found.largest, found.closed) == (41, False)


def test_a_batch_of_one_that_runs_other_operators_does_not_disturb_the_others() -> None:
    # 12·n ≤ 100 for n = 8; one example alone takes two tensors of 30 MiB
    def record(n: int) -> Trace:
        return made(12 * n * MiB) if n > 1 else made(30 * MiB, 30 * MiB)

    found = largest(record, 100 * MiB)
    assert (found.largest, found.closed, found.runs) == (8, True, 4)


def test_where_two_examples_do_not_fit_one_is_tried() -> None:
    found = largest(lambda n: made(12 * n * MiB), 12 * MiB)
    assert found.largest == 1
    assert found.beyond is not None and not found.beyond.fits


def test_nothing_fits() -> None:
    found = largest(lambda n: made(12 * n * MiB), 11 * MiB)
    assert found.largest is None


@pytest.mark.parametrize(("taken", "answer"), [(range(1, 8), 7), (range(28, 32), 31), ([28], 28)])
def test_a_size_that_the_model_refuses_does_not_fit(taken: Sequence[int], answer: int) -> None:
    found = largest(lambda n: made(12 * n * MiB) if n in taken else None, 10**12, start=taken[0], linear=False)
    assert (found.largest, found.beyond) == (answer, None)


def test_sides_are_searched_from_the_side_that_the_network_has(archscope) -> None:
    # from a side of s lenet makes ⌊s/2⌋, and of that ⌊(⌊s/2⌋ − 4)/2⌋, which has to be 5: 28 ≤ s ≤ 31
    shown = archscope("fit", "lenet", "--memory", "24 GB", "--over", "side")
    assert shown.code == 0, shown.err
    assert "31" in shown.out and "lenet does not take a side of 32" in shown.out


@pytest.mark.parametrize(("model", "gib", "input"), [("lenet", 0.7, None), ("mnist-cnn", 0.7, None), ("nin", 4, 96)])
def test_at_the_answer_the_step_fits_and_at_one_more_it_does_not(model: str, gib: float, input: int | None) -> None:
    capacity = int(gib * 2**30) - 600 * 10**6
    record = steps_of(parse(model), input, "batch", None, {"optimizer": "adam"})
    found = largest(record, capacity)
    assert found.largest is not None
    for batch, fits in ((found.largest, True), (found.largest + 1, False)):
        again = record(batch)
        assert again is not None and simulate(events(again.storages), capacity).fits is fits


def test_cards() -> None:
    assert card_bytes("rtx 4090") == card_bytes("RTX4090") == 24 * 2**30
    with pytest.raises(SpecError, match="no card is called 'RTX 9999'.*--memory"):
        card_bytes("RTX 9999")


def test_the_command(archscope, tmp_path) -> None:
    shown = archscope("fit", "lenet", "--memory", "1GB,2GiB", "--format", "csv")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("model,memory,largest") and len(lines) == 3
    assert lines[1].startswith("lenet,1000000000,") and lines[2].startswith(f"lenet,{2 * 2**30},")
    assert archscope("fit", "lenet", "--memory", "24 XB").code == 2
    assert archscope("fit", "lenet", "--memory", "24 GB", "--batch", "8").code == 2


def test_a_module_of_the_user_is_left_as_it_was() -> None:
    from archscope import trace_step

    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    before = {name: p.clone() for name, p in net.state_dict().items()}
    found = largest(lambda n: trace_step(net, (n, 4)), 64 * MiB)
    assert found.largest is not None and found.largest > 1000
    assert all((before[name] == p).all() for name, p in net.state_dict().items())
