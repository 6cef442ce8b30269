"""Sweeps: grids, records, files that are resumed, the command."""

import csv
import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from torch import nn

import archscope
from archscope.core.errors import SpecError
from archscope.sources.spec import parse
from archscope.sweeps import fast_totals, store
from archscope.sweeps import lazy_layers as layers
from archscope.sweeps.grid import TOTALS, Axis, Grid, typed_axes
from archscope.sweeps.run import sweep

Command = Callable[..., Ran]


def net(width: int = 8, depth: int = 1, k: int = 3) -> nn.Module:
    return nn.Sequential(*[nn.Conv2d(3 if i == 0 else width, width, k) for i in range(depth)])


# ----------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("input=64:512:64", (64, 128, 192, 256, 320, 384, 448, 512)),
        ("input=64:100:32", (64, 96)),
        ("input=3:1:-1", (3, 2, 1)),
        ("input=1:3", (1, 2, 3)),
        ("input=32, 64:66", (32, 64, 65, 66)),
        ("input=3x64x128,3x64x64", ("3x64x128", "3x64x64")),
        ("batch=1,8", (1, 8)),
        ("width=0.25:1:0.25", (0.25, 0.5, 0.75, 1.0)),
        ("width=0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("activation=relu,relu6", ("relu", "relu6")),
        ("num_classes=10", (10,)),
    ],
)
def test_axes(text: str, values: tuple[Any, ...]) -> None:
    (axis,) = typed_axes([text], parse("mobilenet-v1"))
    assert axis.values == values
    assert [type(value) for value in axis.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht=1", "did you mean width?"),
        ("foo=1", "unknown axis 'foo': choose from input, batch, "),
        ("in=1", "did you mean input or in_channels?"),
        ("width", "'width' is no axis: write NAME=VALUES"),
        ("width=", "is no axis"),
        ("width=a", "width is a number (its default is 1.0), not 'a'"),
        ("width=1,1.0,1", "width has the value 1 twice"),
        ("input=3:1", "empty range"),
        ("input=1:2:0", "empty range"),
        ("input=1:1000000000", "1,000,000,000 values; an axis has at most 100,000"),
        ("input=x", "'x' is not an input"),
        ("batch=0", "a batch is a whole number from 1 on, not '0'"),
    ],
)
def test_axes_that_are_none(text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        typed_axes([text], parse("mobilenet-v1"))
    assert said in str(error.value)


def test_a_grid_is_numbered() -> None:
    grid = Grid([Axis("input", (32, 64)), Axis("width", (1, 2, 3)), Axis("batch", (1, 8))])
    points = list(grid)
    assert len(points) == len(grid) == 2 * 3 * 2
    assert points[0] == {"input": 32, "width": 1, "batch": 1}
    assert [list(point) for point in points] == [["input", "width", "batch"]] * 12
    assert [point["width"] for point in points] == [1] * 4 + [2] * 4 + [3] * 4  # what is built anew varies slowest
    assert len({tuple(point.values()) for point in points}) == 12
    assert grid[3:5] == points[3:5] and grid[-1] == points[-1]
    huge = Grid([Axis(name, tuple(range(1000))) for name in "abcdef"])
    assert huge[10**18 - 1] == dict.fromkeys("abcdef", 999)
    with pytest.raises(SpecError, match="twice"):
        Grid([Axis("a", (1,)), Axis("a", (1,))])


# -------------------------------------------------------------------------------------------------------- records

# Howard et al. 2017, arXiv 1704.04861: mult-adds and parameters in millions, as printed
TABLE_6 = {1.0: (569, 4.2), 0.75: (325, 2.6), 0.5: (149, 1.3), 0.25: (41, 0.5)}  # by width multiplier, at 224
TABLE_7 = {224: (569, 4.2), 192: (418, 4.2), 160: (290, 4.2), 128: (186, 4.2)}  # by resolution, at width 1


def test_the_tables_of_mobilenet(archscope: Command) -> None:
    """Mult-adds agree within 1 in the last digit printed; parameters to the digit printed, but for width 0.5's 1.33
    and 0.25's 0.47, which are printed as 1.3 and 0.5."""
    ran = archscope(*"sweep mobilenet-v1 --over width=0.25,0.5,0.75,1 --over input=128:224:32 --format json".split())
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert len(rows) == 16
    by = {(row["width"], row["side"]): row for row in rows}
    for width, (macs, params) in TABLE_6.items():
        assert abs(by[width, 224]["macs"] / 1e6 - macs) < 1
        assert round(by[width, 224]["params"] / 1e6, 1) == params
    for side, (macs, params) in TABLE_7.items():
        assert abs(by[1.0, side]["macs"] / 1e6 - macs) < 1
        assert round(by[1.0, side]["params"] / 1e6, 1) == params


def test_records() -> None:
    """Each says what its model's totals are, in plain values."""
    records = list(sweep("mobilenet-v2", {"width": [0.5, 1.0], "input": [96, 128], "batch": [1, 4]}))
    assert len(records) == 8
    for record in records:
        assert list(record) == ["width", "side", "batch", *TOTALS, "error"]
        model = f"mobilenet-v2@width={record['width']}"
        expected = archscope.totals(archscope.record_of(model, record["side"], record["batch"]))
        assert {key: record[key] for key in TOTALS} == expected
        assert record["error"] is None
    assert archscope.sweep is sweep


def test_a_function_is_swept() -> None:
    records = list(sweep(net, {"width": [4, 8], "depth": range(1, 4)}, input=(2, 3, 16, 16)))
    assert [(r["width"], r["arg_depth"]) for r in records] == [(4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3)]
    assert records[2]["depth"] == 3
    assert records[2]["params"] == 4 * (3 * 9 + 1) + 2 * 4 * (4 * 9 + 1)
    assert records[2]["macs"] == 2 * (14 * 14 * 4 * 27 + 12 * 12 * 4 * 36 + 10 * 10 * 4 * 36)
    assert records[2]["model"] == "net@width=4@depth=3"
    points = [{"width": 3}, {"depth": 2, "input": (1, 3, 9, 9)}]
    free = list(sweep(net, points, input=8))
    assert [r["params"] for r in free] == [3 * 28, 8 * 28 + 8 * 73]
    assert free[1]["input"] == (1, 3, 9, 9)


def test_what_did_not_change_is_not_built_again() -> None:
    built: list[int] = []

    def counted(width: int) -> nn.Module:
        built.append(width)
        return net(width)

    grid = {"input": range(8, 48), "width": [1, 2, 3], "batch": [1, 2]}
    assert sum(1 for _ in sweep(counted, grid)) == 240
    assert built == [1, 2, 3]


def test_a_point_that_fails_is_a_record_with_its_reason() -> None:
    def fragile(k: int) -> nn.Module:
        if k == 2:
            raise RuntimeError("no even kernels")
        return net(k=k)

    ok, built, shape = sweep(fragile, {"k": [1, 2, 9]}, input=8)
    assert ok["error"] is None and ok["params"] == 8 * 4
    assert built["error"] == "fragile@k=2 could not be built: RuntimeError: no even kernels"
    assert built["params"] is None and built["k"] == 2
    assert "9" in shape["error"] and "8" in shape["error"] and shape["macs"] is None
    assert list(ok) == list(built) == list(shape)


def test_records_come_one_by_one() -> None:
    """An endless sweep is no reason to wait."""

    def points() -> Any:
        while True:
            yield {"width": 2}

    run = sweep(net, points(), input=8)
    assert [next(run)["params"] for _ in range(40)] == [2 * 28] * 40
    run.close()  # type: ignore[attr-defined]
    assert gc.isenabled()
    assert nn.Conv2d(1, 1, 1).weight.device.type == "cpu"


def test_two_functions_of_one_name() -> None:
    first, second = (lambda width: net(width)), (lambda width: net(2 * width))
    assert [next(sweep(f, {"width": [1]}, input=8))["params"] for f in (first, second, first)] == [28, 56, 28]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: sweep("lenett", {}), "did you mean lenet"),
        (lambda: sweep(3, {}), "3 is neither the name of a model nor a function"),  # type: ignore[arg-type]
        (lambda: sweep(net, {"width": []}), "width has no values"),
        (lambda: sweep(net, {"width": [1]}, 8, output="grid.txt"), "unknown ending of a file of records '.txt'"),
    ],
)
def test_what_cannot_be_understood_is_said_at_once(wrong: Callable[[], Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        wrong()


def test_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 models none of which is like another: what is remembered of layers is dropped in time."""
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(fast_totals, "MOST", 512)
    monkeypatch.setattr(layers, "MOST", 512)
    process = psutil.Process()
    marks = {}
    grid = {"width": range(1, 20_001)}
    for i, record in enumerate(sweep(lambda width: nn.Sequential(nn.Linear(width, 1)), [
        {"width": w, "input": (1, w)} for w in grid["width"]
    ]), 1):  # fmt: skip
        assert record["params"] == i + 1
        if i in (5_000, 20_000):
            gc.collect()
            marks[i] = process.memory_info().rss
    assert marks[20_000] - marks[5_000] < 8 << 20
    assert len(fast_totals.MEMO) < 600 and len(layers._TEMPLATES) < 600


# ---------------------------------------------------------------------------------------------------------- files


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return [
            {key: json.loads(value) if value and key != "model" and key != "error" else value or None
             for key, value in row.items()}
            for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        ]  # fmt: skip
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pq = pytest.importorskip("pyarrow.parquet")
    return pq.read_table(path).to_pylist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_killed_sweep_goes_on_where_it_was(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(store, "ROWS", 20)
    monkeypatch.setattr(store, "GROUP", 10)
    target, log = tmp_path / f"grid.{ending}", tmp_path / "built"
    part = tmp_path / f"grid.{ending}.part"

    def slow(width: int) -> nn.Module:
        with open(log, "a") as built:
            built.write(f"{width}\n")
        time.sleep(0.005)
        return nn.Sequential(nn.Conv2d(1, width, 1))

    def run() -> list[dict[str, Any]]:
        return list(sweep(slow, {"width": range(1, 201)}, (1, 1, 4, 4), output=str(target)))

    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until some records are in the file
        if (part / "records").exists() and (part / "records").stat().st_size:
            break
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not target.exists()
    built = len(log.read_text().split())
    assert 0 < built < 200
    with open(part / "records", "ab") as torn:
        torn.write(b'{"torn')
    records = run()
    assert [record["width"] for record in records] == list(range(1, 201))
    rows = rows_of(target)
    assert [row["width"] for row in rows] == list(range(1, 201))
    assert [row["params"] for row in rows] == [2 * width for width in range(1, 201)]
    assert not part.exists()
    assert 200 <= len(log.read_text().split()) < built + 200  # some were not built again
    rest = [record for record in sweep(net, {"width": [1, 2]}, 8, output=str(target))]  # another one takes its place
    assert [row["width"] for row in rows_of(target)] == [record["width"] for record in rest] == [1, 2]


def test_the_part_of_another_sweep_is_not_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "grid.jsonl")
    run = sweep(net, {"width": [1, 2, 3]}, 8, output=path)
    next(run)
    run.close()  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"grid.jsonl.part holds the records of another sweep \(axes differ\)"):
        sweep(net, {"width": [1, 2]}, 8, output=path)
    assert [record["width"] for record in sweep(net, {"width": [1, 2, 3]}, 8, output=path)] == [1, 2, 3]


def test_parquet_of_mixed_columns(tmp_path: Path) -> None:
    """A receptive field is a number, or one a side; an error is there or not; all in one file."""
    pytest.importorskip("pyarrow")

    def made(k: Any) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, k))

    ks = [1, (1, 3), 50, (3, 3)]
    saved, store.ROWS = store.ROWS, 1
    try:
        direct = list(sweep(made, {"k": ks}, 8))
        list(sweep(made, {"k": ks}, 8, output=str(tmp_path / "g.parquet")))
    finally:
        store.ROWS = saved
    rows = rows_of(tmp_path / "g.parquet")
    assert [row["macs"] for row in rows] == [record["macs"] for record in direct]
    assert [json.loads(row["receptive_field"] or "null") for row in rows] == [1, [1, 3], None, 3]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False]


# -------------------------------------------------------------------------------------------------------- command


def test_the_command(archscope: Command, tmp_path: Path) -> None:
    words = ["sweep", "gru-classifier", "--over", "input=8:16:8", "--over", "batch=1,2"]
    rows = json.loads(archscope(*words, "--format", "json").out)
    assert [(row["side"], row["batch"], row["input"]) for row in rows] == [
        *((8, 1, [1, 8]), (8, 2, [2, 8])),
        *((16, 1, [1, 16]), (16, 2, [2, 16])),
    ]
    ran = archscope(*words, "--output", str(tmp_path / "grid.csv"))
    assert (ran.code, ran.out) == (0, "") and "4 points in " in ran.err
    stored = rows_of(tmp_path / "grid.csv")
    assert [row["macs"] for row in stored] == [row["macs"] for row in rows]
    assert set(TOTALS) <= stored[0].keys()
    md = archscope(*words, "--format", "md", "--columns", "side,batch,macs").out
    assert "|   Input side |   Batch |" in md
    for width in (60, 100):
        assert max(map(len, archscope(*words, env={"COLUMNS": str(width)}).out.splitlines())) <= width


def test_failed_points_in_the_command(archscope: Command) -> None:
    ran = archscope("sweep", "alexnet", "--over", "input=224,227", "--format", "json")
    assert ran.code == 0
    failed, fine = json.loads(ran.out)
    assert failed["macs"] is None and "9216" in failed["error"] and fine["macs"] == 724406816
    ran = archscope("sweep", "alexnet", "--over", "input=100,224")
    assert ran.code == 1 and "failed: " in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lenet", "nothing is varied: write --over"),
        ("lenet --over input=32 --of mac", "did you mean macs?"),
        ("lenet --over input=32 --plot x.gif", "--plot draws .svg, .png and .pdf"),
        ("lenet --over input=32 --jobs 0", "--jobs is a whole number from 1 on"),
        ("lenet --over input=32 --output /nowhere/x.csv", "there is no folder /nowhere"),
        ("vgg* --over input=224", "one model at a time"),
        ("mobilenet-v1@width=1 --over width=1,2", "width is set in mobilenet-v1@width=1 and varied"),
    ],
)
def test_wrong_words(words: str, said: str, archscope: Command) -> None:
    ran = archscope("sweep", *words.split())
    assert ran.code == 2 and ran.out == "" and said in ran.err


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_plot(ending: str, archscope: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{ending}"
    words = ["sweep", "mobilenet-v1", "--over", "width=0.5,1", "--over", "input=64:128:32", "--plot", str(path)]
    assert archscope(*words).code == 0
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert b"width 0.5" in data and b"Input side" in data and b"MACs" in data


def test_a_pipe_that_is_closed(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("needs a shell")
    code = f"{sys.executable} -m archscope sweep lenet --over batch=1:40 --format csv | head -1"
    ran = subprocess.run(code, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.startswith("batch,input,depth") and "Traceback" not in ran.stderr


@pytest.mark.parametrize("how", ["gone", "twice", "other", "type"])
def test_a_damaged_record_of_a_part_is_run_again(tmp_path: Path, how: str) -> None:
    target = tmp_path / "grid.jsonl"
    run = sweep(net, {"width": [1, 2, 3, 4]}, 8, output=str(target))
    for _ in range(3):
        next(run)
    run.close()  # type: ignore[attr-defined]
    part = tmp_path / "grid.jsonl.part/records"
    lines = part.read_text(encoding="utf-8").splitlines(keepends=True)
    if how == "gone":
        del lines[1]
    elif how == "twice":
        lines.insert(1, lines[0])
    elif how == "other":
        lines[1] = lines[1].replace('"width":2', '"width":3')
    else:
        lines[1] = lines[1].replace('"params":', '"params":"x","p":')
    part.write_text("".join(lines), encoding="utf-8")
    again = list(sweep(net, {"width": [1, 2, 3, 4]}, 8, output=str(target)))
    assert [row["params"] for row in again] == [27 * width + width for width in (1, 2, 3, 4)]  # a kernel of 3×3×3
    assert [row["width"] for row in rows_of(target)] == [1, 2, 3, 4]
