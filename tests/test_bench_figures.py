"""Rows chosen by what they have, and measured figures in the comparison table: beside the model, never two settings."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_rows import row

from archscope.bench import results
from archscope.bench.model_columns import measured
from archscope.core.errors import SpecError

FORMATS = ("terminal", "md", "csv", "latex", "json", "html")


def write(path: Path, *rows: dict[str, Any]) -> str:
    for one in rows:
        results.append(path, one)
    return str(path)


# ---------------------------------------------------------------------------------------------------- FILE@key=value


def test_rows_are_chosen_by_what_they_have(tmp_path: Path) -> None:
    device = "Intel(R) Xeon(R) Processor @ 2.10GHz"
    file = write(
        tmp_path / "runs.jsonl",
        row(recipe="adam@epochs=1"),
        row(model="vgg11", recipe="adam", device_name=device, flags={"channels_last": True}),
        row(model="vgg13", recipe="adam", seed=1, data="digits@train=9@test=9"),
    )

    def models(choice: str) -> list[str]:
        return [one["model"] for one in results.read([f"{file}{choice}"])]

    assert models("") == ["lenet", "vgg11", "vgg13"]
    assert models("@recipe=adam@epochs=1") == ["lenet"]  # epochs belongs to the recipe
    assert models("@recipe=adam") == ["vgg11", "vgg13"]
    assert models("@recipe=adam@seed=1") == models("@data=digits@train=9@test=9") == ["vgg13"]
    assert models("@model=vgg*") == ["vgg11", "vgg13"]
    assert (
        models(f"@device_name={device}") == models("@device_name=*Xeon*") == models("@flags=channels-last") == ["vgg11"]
    )
    assert models("@flags=") == ["lenet", "vgg13"]
    with pytest.raises(SpecError, match=r"has recipe=d2l; there is adam, adam@epochs=1"):
        models("@recipe=d2l")
    with pytest.raises(SpecError, match=r"no row of .* is all of model=lenet, recipe=adam"):
        models("@model=lenet@recipe=adam")
    with pytest.raises(SpecError, match=r"unknown key of rows 'modle': did you mean model\?"):
        models("@modle=lenet")


def test_a_file_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    file = write(tmp_path / "of@model=mine.jsonl", row())
    assert len(results.read([file])) == 1
    folder = tmp_path / "me@home"
    folder.mkdir()
    file = write(folder / "runs.jsonl", row(), row(model="nin"))
    assert [one["model"] for one in results.read([f"{file}@model=nin"])] == ["nin"]
    with pytest.raises(SpecError, match="cannot read"):
        results.read([folder / "none@model=nin"])


# ----------------------------------------------------------------------------------------------------------- figures


def test_figures_are_means_and_say_what_they_are_of() -> None:
    rows = [row(test_accuracy=a, peak_memory=2_000 + s, mfu=0.25, seed=s) for s, a in enumerate((0.6, 0.8))]
    found = measured([*rows, row(model="nin", recipe="other")], ["lenet", "vgg16"], ["runs.jsonl"])
    assert set(found.figures) == {"lenet"}
    figures = found.figures["lenet"]
    assert figures["test_accuracy"] == pytest.approx(0.7) and figures["seeds"] == 2 and figures["mfu"] == 0.25
    assert figures["peak_memory"] == 2_000 and isinstance(figures["peak_memory"], int)  # 2,000.5 bytes are none
    assert found.notes[0] == "measured: digits, recipe d2l, fp32 on CPU with 1 thread"
    assert "means over 2 seeds" in found.notes


def test_a_run_that_failed_is_told_and_gives_no_figure() -> None:
    found = measured([row(status="nan", error="the loss is nan in step 4")], ["lenet"], ["runs.jsonl"])
    assert found.figures == {} and "lenet: the loss is nan in step 4" in found.notes


@pytest.mark.parametrize(
    ("other", "said", "choice"),
    [
        ({"recipe": "adam"}, "recipe: d2l, adam", "@recipe=d2l"),
        ({"device_name": "GPU"}, "device_name: CPU, GPU", "@device_name=CPU"),
        ({"data": "mnist"}, "data: digits, mnist", "@data=digits"),
        ({"flags": {"compile": "default"}}, "flags: none, compile=default", "@flags="),
        ({"recipe": "adam", "precision": "bf16"}, "precision: fp32, bf16", "@recipe=d2l@precision=fp32"),
    ],
)
def test_settings_are_not_mixed_in_a_column(other: dict[str, Any], said: str, choice: str, tmp_path: Path) -> None:
    """The sentence says what differs and what to type; what it says works."""
    for model in ("nin", "lenet"):
        path = tmp_path / f"{model}.jsonl"
        file = write(path, row(), row(model=model) | other)
        with pytest.raises(SpecError) as refused:
            measured(results.read([file]), ["lenet", "nin"], [file])
        assert said in str(refused.value) and f"--bench '{file}{choice}'" in str(refused.value)
        chosen = measured(results.read([f"{file}{choice}"]), ["lenet", "nin"], [file])
        assert set(chosen.figures) == {"lenet"}


def test_rows_of_other_models_are_not_in_the_way() -> None:
    assert measured([row(), row(model="nin", recipe="adam")], ["lenet"], ["a"]).figures["lenet"]["recipe"] == "d2l"
    with pytest.raises(SpecError, match="a holds no run of vgg16: it has lenet"):
        measured([row()], ["vgg16"], ["a"])
    with pytest.raises(SpecError, match="rows are of `bench --infer`"):
        measured([row(kind="infer")], ["lenet"], ["a"])


# -------------------------------------------------------------------------------------------------------- the command


def test_table_with_what_was_measured(archscope: Callable, tmp_path: Path) -> None:
    file = write(tmp_path / "runs.jsonl", row(peak_memory=5_000, mfu=0.125), row(seed=1, test_accuracy=0.5))
    ran = archscope("table", "lenet", "mnist-cnn", "--bench", file, "--format", "json", "--sort", "test_accuracy")
    assert ran.code == 0, ran.err
    lenet, other = json.loads(ran.out)
    assert lenet["params"] == 61_706 and lenet["test_accuracy"] == pytest.approx(0.45)
    assert lenet["examples_per_second"] == 1000.0 and lenet["recipe"] == "d2l" and lenet["device_name"] == "CPU"
    assert other["model"] == "mnist-cnn" and other["params"] == 79_797
    assert all(other[key] is None for key in ("test_accuracy", "examples_per_second", "peak_memory", "mfu"))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_measured_columns(format: str, archscope: Callable, tmp_path: Path) -> None:
    file = write(tmp_path / "runs.jsonl", row(test_accuracy=0.875))
    keys = "model,params,test_accuracy,examples_per_second"
    ran = archscope("table", "lenet", "nin", "--bench", file, "--columns", keys, "--format", format)
    assert ran.code == 0, ran.err
    if format == "csv":
        lenet, nin = csv.DictReader(io.StringIO(ran.out))
        assert lenet["test_accuracy"] == "0.875" and nin["test_accuracy"] == ""
    elif format == "json":
        assert json.loads(ran.out)[1]["test_accuracy"] is None
    else:
        assert "87.5" in ran.out and "recipe d2l, fp32 on CPU with 1 thread" in ran.out


def test_with_other_tools_beside(archscope: Callable, tmp_path: Path) -> None:
    file = write(tmp_path / "runs.jsonl", row())
    ran = archscope("table", "lenet", "--as", "fvcore", "--bench", file, "--format", "json")
    (lenet,) = json.loads(ran.out)
    assert lenet["fvcore"] > 0 and lenet["test_accuracy"] == 0.4


def test_the_columns_are_there_only_when_asked_for(archscope: Callable, tmp_path: Path) -> None:
    ran = archscope("table", "lenet", "--columns", "model,test_accuracy")
    assert ran.code == 2 and "unknown column 'test_accuracy'" in ran.err
    ran = archscope("table", "lenet", "--bench", str(tmp_path / "no.jsonl"))
    assert ran.code == 2 and "cannot read" in ran.err and not ran.out
