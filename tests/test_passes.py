"""Every number is a function of the record: the definitions, on a network small enough to count by hand."""

import pytest
import torch
from torch import Tensor, nn

import archscope
from archscope.analysis.metrics import METRICS, metric, totals
from archscope.analysis.row import rows
from archscope.analysis.verification import WHOLE
from archscope.tracing.tracer import trace
from archscope.zoo.catalogue import entries


class Small(nn.Module):
    """conv 3×3 p1 4 → BN → ReLU in place → pool 2/2 → add → flatten → fc, on 2×3×6×6."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 3 * 3, 5)
        self.fc.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.relu(self.norm(self.conv(x))))
        return self.fc((y + y).flatten(1))


MAP, POOLED = 2 * 4 * 6 * 6, 2 * 4 * 3 * 3  # elements of the two feature maps, batch of 2


@pytest.fixture(scope="module")
def record() -> archscope.Trace:
    return trace(Small(), ((2, 3, 6, 6),), name="small")


def test_totals_by_hand(record: archscope.Trace) -> None:
    conv, norm, fc = 3 * 3 * 3 * 4 + 4, 2 * 4, 4 * 3 * 3 * 5 + 5
    macs = MAP * 3 * 3 * 3 + 2 * 36 * 5
    # conv bias 1, batch norm 2, ReLU 1 per element; max of 4: 3 comparisons; the addition; fc bias
    flops = 2 * macs + MAP * (1 + 2 + 1) + POOLED * 3 + POOLED + 2 * 5
    assert totals(record) == {
        "model": "small",
        "input": (2, 3, 6, 6),
        "depth": 2,
        "params": conv + norm + fc,
        "trainable": conv + norm + fc - 5,
        "buffers": 2 * 4 + 1,
        "memory": 4 * (conv + norm + fc) + 4 * 2 * 4 + 8,  # float32, and one int64 counter
        "macs": macs,
        "flops": flops,
        "activations": 4 * (MAP + MAP + POOLED + POOLED + 2 * 5),  # ReLU in place and the flatten make nothing new
        "neurons": MAP + 2 * 5,
        "receptive_field": 4,  # 3, then (2 − 1)·1 more
        "fc_share": fc / (conv + norm + fc),
        "unknown": {},
        "macs_is_lower_bound": False,
    }


def test_rows_cover_the_run_once_and_add_up(record: archscope.Trace) -> None:
    table = rows(record)
    assert [row.path for row in table] == ["conv", "norm", "relu", "pool", "add", "flatten", "fc"]
    assert [row.kind for row in table[4:6]] == ["add", "flatten"]
    assert [(row.start, row.stop) for row in table] == [(i, i + 1) for i in range(7)]
    for key in ("params", "trainable", "macs", "flops", "activations"):
        assert sum(METRICS[key].of(record, table)) == totals(record)[key]
    assert METRICS["neurons"].of(record, table) == [MAP, None, None, None, None, None, 2 * 5]
    assert METRICS["output_shape"].of(record, table)[3] == (2, 4, 3, 3)


def test_effective_stride_and_receptive_field_of_each_row(record: archscope.Trace) -> None:
    table = rows(record)
    # fc sees all 3 positions, 2 apart: 4 + (3 − 1)·2
    assert METRICS["receptive_field"].of(record, table) == [3, 3, 3, 4, 4, 4, 8]
    assert METRICS["effective_stride"].of(record, table) == [1, 1, 1, 2, 2, 2, None]


def test_a_second_metric_of_one_name_is_refused() -> None:
    with pytest.raises(ValueError, match="the metric 'macs' is registered twice"):
        metric("macs", "MACs", "row")(lambda trace, table: [])


@pytest.mark.parametrize("name", entries())
def test_rows_of_every_network_add_up_at_every_depth(name: str) -> None:
    model, inputs = archscope.load(name)
    record = trace(model, inputs)
    sums = totals(record)
    for depth in (1, 2, None):
        table = rows(record, depth, WHOLE)
        for key in ("params", "trainable", "macs", "flops", "activations"):
            assert sum(METRICS[key].of(record, table)) == sums[key], (depth, key)
        assert sum(n or 0 for n in METRICS["neurons"].of(record, table)) == sums["neurons"]
        covered = [i for row in table for i in range(row.start, row.stop)]
        assert covered == list(range(len(record.ops)))


# the depth in a network's name: weighted layers on the longest way through it, shortcuts aside
DEPTHS = {
    "lenet": 5, "alexnet": 8, "vgg11": 11, "vgg13": 13, "vgg16": 16, "vgg16-c": 16, "vgg19": 19, "googlenet": 22,
    "resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "resnet152": 152, "densenet121": 121,
    "densenet161": 161, "densenet169": 169, "densenet201": 201, "mobilenet-v1": 28,
}  # fmt: skip


@pytest.mark.parametrize(("name", "depth"), DEPTHS.items())
def test_depth_is_the_published_one(name: str, depth: int) -> None:
    assert totals(trace(*archscope.load(name)))["depth"] == depth


def test_alexnet_has_the_neurons_of_the_paper() -> None:
    found = totals(trace(*archscope.load("alexnet")))
    convs = 96 * 55 * 55 + 256 * 27 * 27 + 2 * 384 * 13 * 13 + 256 * 13 * 13
    assert found["neurons"] == convs + 4096 + 4096 + 1000 == 659_272  # "650,000 neurons", Krizhevsky et al., abstract
    assert found["params"] == 60_965_224


def test_training_mode_counts_the_statistics_of_the_batch() -> None:
    model = nn.BatchNorm2d(4)
    quiet, busy = (totals(trace(model, ((2, 4, 3, 3),), train=mode))["flops"] for mode in (False, True))
    assert (quiet, busy - quiet) == (2 * 2 * 4 * 3 * 3, 4 * 2 * 4 * 3 * 3 + 1)  # and one for the batch counter


def test_half_precision_halves_the_bytes() -> None:
    model = nn.Linear(4, 3).half()
    found = totals(trace(model, (torch.empty(2, 4, dtype=torch.float16),)))
    assert (found["memory"], found["activations"]) == (2 * (4 * 3 + 3), 2 * 2 * 3)
