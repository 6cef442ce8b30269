"""The plots of runs: their numbers are the rows', nothing is mixed, what cannot be drawn is refused in a sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_rows import row

from archscope.bench import results
from archscope.core.errors import SpecError
from archscope.report import runs
from archscope.report.plots import PLOTS, digest, numbers_of, picture

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "runs.jsonl"


def losing(*losses: float | None, **more: Any) -> dict[str, Any]:
    """A run with these losses, epoch by epoch, and accuracies that grow by a tenth."""
    epochs = [{"epoch": i, "train_loss": loss, "test_accuracy": i / 10} for i, loss in enumerate(losses, 1)]
    return row(history=epochs, **more)


# ---------------------------------------------------------------------------------------------------------- numbers


def test_seeds_are_a_mean_and_a_range() -> None:
    (panel,) = numbers_of("curves", [losing(3.0, 1.0), losing(5.0, 2.0, seed=1), losing(4.0, 3.0, seed=2)])["panels"]
    (line,) = panel["lines"]
    assert line["name"] == "lenet" and line["seeds"] == 3 and line["epochs"] == [1, 2]
    assert line["train_loss"] == [[4.0, 3.0, 5.0], [2.0, 1.0, 3.0]]
    assert line["validation_accuracy"] == [None, None]  # there is none: nothing is drawn, not 0


def test_what_is_unknown_in_an_epoch_is_no_part_of_its_mean() -> None:
    (panel,) = numbers_of("curves", [losing(3.0, None), losing(5.0, 2.0, seed=1)])["panels"]
    assert panel["lines"][0]["train_loss"] == [[4.0, 3.0, 5.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    "apart",
    [{"precision": "bf16"}, {"device_name": "GPU"}, {"recipe": "d2l@lr=0.1"}, {"data": "mnist"}, {"threads": 2}],
)
@pytest.mark.parametrize("plot", ["curves", "speed"])
def test_panels_do_not_mix(plot: str, apart: dict[str, Any]) -> None:
    panels = numbers_of(plot, [row(), row(model="nin") | apart, row(model="vgg11")])["panels"]
    kind = "lines" if plot == "curves" else "points"
    assert [[one["name"] for one in panel[kind]] for panel in panels] == [["lenet", "vgg11"], ["nin"]]
    assert len({panel["title"] for panel in panels}) == 2


def test_flags_and_failures_are_lines_of_their_own() -> None:
    rows = [row(), row(flags={"channels_last": True}), row(seed=1, status="nan", key="l")]
    (panel,) = numbers_of("curves", rows)["panels"]
    assert [line["name"] for line in panel["lines"]] == ["lenet", "lenet channels-last", "lenet, seed 1: nan"]
    (panel,) = numbers_of("speed", rows)["panels"]  # the speed of a run that failed says nothing
    assert [point["name"] for point in panel["points"]] == ["lenet", "lenet channels-last"]


def test_many_networks_are_those_that_learned_most() -> None:
    rows = [row(model=f"net-{i}", history=[{"epoch": 1, "test_accuracy": i / 10}]) for i in range(9)]
    (panel,) = numbers_of("curves", rows)["panels"]
    assert [line["name"] for line in panel["lines"]] == [f"net-{i}" for i in range(3, 9)]
    assert "6 of 9 networks" in panel["notes"][0]


def test_speed_is_accuracy_rate_and_parameters() -> None:
    rows = [
        row(test_accuracy=0.5, examples_per_second=100.0),
        row(seed=1, test_accuracy=0.7, examples_per_second=300.0),
    ]
    (panel,) = numbers_of("speed", rows)["panels"]
    (point,) = panel["points"]
    assert point["examples_per_second"] == 200.0 and point["params"] == 61_706 and point["seeds"] == 2
    assert point["test_accuracy"] == pytest.approx([0.6, 0.5, 0.7])


def test_what_must_be_known_of_the_rows_is_said() -> None:
    busy = row(load_average=9.0)
    assert "do not trust the rates" in numbers_of("speed", [busy])["panels"][0]["notes"][0]
    assert numbers_of("curves", [busy])["panels"][0]["notes"] == []  # an accuracy does not hang on the load
    for plot in ("curves", "speed"):
        (panel,) = numbers_of(plot, [row(synthetic=True)])["panels"]
        assert "synthetic data" in panel["notes"][0]
        (panel,) = numbers_of(plot, [row(data_seen=True)])["panels"]
        assert "tested on the training data" in panel["notes"][0]


# --------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("plot", ["curves", "speed"])
def test_the_same_rows_give_the_same_bytes(plot: str) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    rows = [row(), row(seed=1, test_accuracy=0.5), row(model="alexnet", params=None), row(precision="bf16")]
    data = numbers_of(plot, rows)
    text = picture(plot, data).decode()
    assert text == picture(plot, data).decode() and f"archscope {plot} {digest(data)}" in text
    assert "fp32 on CPU with 1 thread" in text and "bf16 on CPU with 1 thread" in text
    assert "fill: #ffffff" not in text, "the background is transparent"
    assert digest(numbers_of(plot, [*rows, row(model="nin")])) != digest(data)


def test_seven_settings_are_too_many() -> None:
    with pytest.raises(SpecError, match=r"room for 6 settings .* not 7: choose some, as with 'runs.jsonl@recipe=r0'"):
        numbers_of("curves", [row(recipe=f"r{i}") for i in range(7)])


def test_the_picture_of_the_docs_is_up_to_date() -> None:
    """When it is not: archscope plot curves examples/runs.jsonl --output docs/images/curves.svg"""
    data = numbers_of("curves", results.read([EXAMPLE]))
    assert digest(data) in (ROOT / "docs" / "images" / "curves.svg").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runs.jsonl"
    for one in (row(), row(model="nin", recipe="adam"), row(kind="infer", recipe="", data="", history=None)):
        results.append(path, one)
    return path


def test_plot_writes_runs_without_torch(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    code = f"""
import sys
from archscope.cli import app
for kind, ending in (("curves", "svg"), ("speed", "png")):
    try: app(["plot", kind, {str(file)!r}, "-o", {str(tmp_path)!r} + f"/{{kind}}.{{ending}}"])
    except SystemExit as end: assert not end.code, end.code
assert not {{"torch", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("models", "runs.jsonl"), "holds runs: archscope plot curves runs.jsonl -o curves.svg"),
        (("curves", "alexnet"), "archscope bench alexnet --output runs.jsonl makes one"),
        (("curve", "runs.jsonl"), "did you mean curves?"),
        (("curves", "none.jsonl"), "cannot read none.jsonl"),
        (("curves", "runs.jsonl", "--batch", "2"), "--batch is for plots of models"),
        (("speed", "runs.jsonl", "--sides", "28"), "--sides is for plots of models"),
        (("speed", "runs.jsonl", "--input", "28"), "--input is for plots of models"),
        (("curves", "runs.jsonl@kind=infer"), "shows trainings, and these rows are of `bench --infer`"),
        (("curves", "runs.jsonl@recipe=d3l"), "no row of runs.jsonl has recipe=d3l; there is , adam, d2l"),
        (("curves", "runs.jsonl@recip=d2l"), "did you mean recipe?"),
        (("curves", "other.jsonl"), "other.jsonl, line 1, is not a row"),
        (("curves", "failed.jsonl"), "shows epochs that were completed, and these have none"),
        (("speed", "failed.jsonl"), "shows runs with an accuracy and a speed, and these have none"),
    ],
)
def test_plot_says_what_to_type_instead(
    words: tuple[str, ...], said: str, file: Path, archscope: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "other.jsonl").write_text('{"model": "lenet"}\n', encoding="utf-8")
    failed = row(status="error", error="no", history=[], test_accuracy=None)
    (file.parent / "failed.jsonl").write_text(json.dumps(failed) + "\n", encoding="utf-8")
    before = sorted(file.parent.iterdir())
    ran = archscope("plot", *words, "-o", "a.svg")
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1
    assert sorted(file.parent.iterdir()) == before


def test_a_plot_is_of_models_or_of_runs() -> None:
    assert {name for name, plot in PLOTS.items() if plot.of == "runs"} == {"curves", "speed"}
    assert runs.curves.__doc__ and {plot.of for plot in PLOTS.values()} == {"models", "runs"}
