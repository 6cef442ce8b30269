"""`verify-table`: somebody's table is read, its models recognised, and each figure judged to its printed digits."""

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from archscope.core.errors import SpecError
from archscope.core.registry import PROVIDED
from archscope.peers import explanations
from archscope.peers.explanations import JudgedFigure, failed, judged, verdict_table
from archscope.peers.model_names import candidates, in_torchvision, nearest
from archscope.peers.printed_table import BILLION, MILLION, THOUSAND, Line, lines_of, readings, unit_of

MARKDOWN = """
Some text | with a bar

| Model       | Params (M) | FLOPs (G) | Top-1 |
|:------------|-----------:|----------:|------:|
| *Baselines* |            |           |       |
| [VGG-16](https://example.org) | **138** | 15.5 | 71.6 |
| ResNet-50 [3] | 25.6     | 4.1       | 76.1  |
| ours        | -          | n/a       | 80.0  |

| Dataset | Images |
|---------|--------|
| CIFAR   | 60000  |
"""


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., list[Line]]:
    def read(text: str, name: str = "table.md") -> list[Line]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return lines_of(path)

    return read


def row(model: str, input: str = "", **figures: str) -> list[JudgedFigure]:
    """One row judged: `row("VGG-16", params="138M", flops="15.5 G")`."""
    from archscope.peers.printed_table import PrintedCell

    cells = tuple(
        PrintedCell(key.partition("_")[0], key, text, readings(text, None, key.partition("_")[0]))
        for key, text in figures.items()
    )
    return judged(Line(1, model, input, cells))


def verdicts(model: str, input: str = "", **figures: str) -> list[str]:
    return [one.verdict for one in row(model, input, **figures)]


# ---- reading ----


def test_markdown(table: Callable[..., list[Line]]) -> None:
    vgg, resnet = table(MARKDOWN)
    assert (vgg.model, vgg.number, [cell.text for cell in vgg.cells]) == ("VGG-16", 7, ["138", "15.5"])
    assert (resnet.model, [cell.quantity for cell in resnet.cells]) == ("ResNet-50", ["params", "flops"])
    assert vgg.cells[0].readings[0][1].value == 138 * MILLION
    assert resnet.cells[1].readings[0][1] == (Fraction(41, 10) * BILLION, 4_050 * MILLION, 4_150 * MILLION)


@pytest.mark.parametrize(
    "text",
    [
        "model,params,GFLOPs\nvgg16,138M,15.5\n",
        "model;params;GFLOPs\nvgg16;138M;15,5\n",
        "model\tparams\tGFLOPs\nvgg16\t138M\t15.5\n",
        '"Model","#Params","GFLOPs"\n"vgg16","138 M","15.5"\n',
        "\ufeffmodel,params,GFLOPs\r\n\r\nvgg16,138M,15.5\r\n",
        "Network,GFLOPs,params\nvgg16,15.5,138M\n",
    ],
)
def test_csv(text: str, table: Callable[..., list[Line]]) -> None:
    (line,) = table(text, "table.csv")
    assert line.model == "vgg16"
    values = {cell.quantity: cell.readings[0][1].value for cell in line.cells}
    assert values == {"params": 138 * MILLION, "flops": 15_500 * MILLION}


def test_a_resolution_column(table: Callable[..., list[Line]]) -> None:
    lines = table("model,input,MACs (M)\nmobilenet-v1,160×160,291\nmobilenet-v1,192,418\nx,96x128,1\n", "t.csv")
    assert [line.input for line in lines] == ["160", "192", "96x128"]
    assert [judged(line)[0].verdict for line in lines[:2]] == ["agrees", "agrees"]


@pytest.mark.parametrize(
    ("heading", "worth"),
    [
        *(("Params (M)", MILLION), ("#Params [M]", MILLION), ("Params/M", MILLION), ("Params, M", MILLION)),
        *(("Parameters (millions)", MILLION), ("Params in M", MILLION), ("MFLOPs", MILLION), ("MMACs", MILLION)),
        *(("#Params (×10⁶)", MILLION), ("Params (10^6)", MILLION), ("Mult-Adds (Million)", MILLION)),
        *(("GFLOPs", BILLION), ("FLOPs (G)", BILLION), ("FLOPs (×10^9)", BILLION), ("FLOPs (B)", BILLION)),
        *(("FLOPs $(\\times 10^{9})$", BILLION), ("MACs (GMACs)", BILLION), ("Params (K)", THOUSAND)),
        *(("Params", None), ("FLOPs", None), ("MAdds", None), ("#Param.", None)),
    ],
)
def test_the_unit_of_a_heading(heading: str, worth: int | None) -> None:
    assert unit_of(heading) == worth


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("25.6M", 25_550_000, 25_650_000),
        ("4.1 G", 4_050_000_000, 4_150_000_000),
        ("4.1 GFLOPs", 4_050_000_000, 4_150_000_000),
        ("3.8×10^9", 3_750_000_000, 3_850_000_000),
        ("3.8x10^9", 3_750_000_000, 3_850_000_000),
        ("3.8*10^9", 3_750_000_000, 3_850_000_000),
        ("3.8×10⁹", 3_750_000_000, 3_850_000_000),
        ("$3.8\\times10^{9}$", 3_750_000_000, 3_850_000_000),
        ("3.8e9", 3_750_000_000, 3_850_000_000),
        ("569 million", 568_500_000, 569_500_000),
        ("~1.5B*", 1_450_000_000, 1_550_000_000),
        ("25,557,032", Fraction(51_114_063, 2), Fraction(51_114_065, 2)),
        ("25 557 032", Fraction(51_114_063, 2), Fraction(51_114_065, 2)),
        ("60M [12]", 59_500_000, 60_500_000),
    ],
)
def test_a_number_with_its_unit(text: str, low: int, high: int) -> None:
    ((_, value),) = readings(text, None, "params")
    assert (value.low, value.high) == (low, high)
    assert readings(text, THOUSAND, "params") == readings(text, None, "params")  # the cell goes before the heading


def test_a_number_without_a_unit_is_left_open() -> None:
    assert [worth for worth, _ in readings("4.1", None, "flops")] == [BILLION, MILLION, 1]
    assert [worth for worth, _ in readings("4.1", MILLION, "flops")] == [MILLION]
    assert readings("see text", None, "flops") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no table"),
        ("just\nprose, and more\nof it", "holds no table"),
        ("prose, and more\nof it, and so on", "its headings: 'prose', 'and more'"),
        ("| Model | Top-1 |\n|---|---|\n| vgg16 | 71 |\n", "its headings: 'Model', 'Top-1'"),
        ("model,params\n", "holds no table"),
        ("| Model | Params |\n|---|---|\n", "no column of parameters, MACs or FLOPs with rows under it"),
    ],
)
def test_what_is_no_table(text: str, told: str, table: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="table") as caught:
        table(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read .*nowhere.md: No such file"):
        lines_of(tmp_path / "nowhere.md")
    with pytest.raises(SpecError, match="cannot read"):
        lines_of(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(SpecError, match="is not text in UTF-8"):
        lines_of(tmp_path / "model.pt")


# ---- recognising ----


@pytest.mark.parametrize(
    ("printed", "spec", "input"),
    [
        *(("VGG-16", "vgg16", ""), ("VGG 16 (ours)", "vgg16", ""), ("vgg16", "vgg16", "")),
        *(("MobileNetV2 1.0", "mobilenet-v2", ""), ("MobileNetV2 (1.4)", "mobilenet-v2@width=1.4", "")),
        *(("0.5 MobileNet-160", "mobilenet-v1@width=0.5", "160"), ("1.0 MobileNet-224", "mobilenet-v1", "224")),
        *(("MobileNet V3 Large 1.0", "mobilenet-v3-large", ""), ("MobileNetV3-Small", "mobilenet-v3-small", "")),
        *(("DenseNet-121 (k=32)", "densenet121", ""), ("DenseNet-BC-169", "densenet169", "")),
        *(("GoogleNet", "googlenet", ""), ("Inception v1", "googlenet", ""), ("LeNet-5", "lenet", "")),
        *(("ResNet-18 @ 256", "resnet18", "256"), ("ResNet-18†", "resnet18", "")),
        *(("mobilenet-v1@width=0.25", "mobilenet-v1@width=0.25", ""), ("ResNet-50-v1.5", "resnet50-v1.5", "")),
    ],
)
def test_names_of_the_zoo(printed: str, spec: str, input: str) -> None:
    assert tuple(candidates(printed)[0]) == (spec, input)


def test_a_name_may_stand_for_several() -> None:
    assert [one.spec for one in candidates("ResNet-50")] == ["resnet50", "resnet50-v1.5"]
    assert candidates("GPT-2") == candidates("ours") == []
    assert nearest("ResNet-500").startswith("did you mean resnet50")
    assert nearest("GPT-2") == ""


@pytest.mark.parametrize(
    ("printed", "name", "input"),
    [
        *(("ViT-B/16", "vit_b_16", ""), ("ViT-Large/16 @ 384", "vit_l_16", "384"), ("Swin-T", "swin_t", "")),
        *(("ConvNeXt-T", "convnext_tiny", ""), ("EfficientNet-B0", "efficientnet_b0", "")),
        *(("ResNeXt-50 (32x4d)", "resnext50_32x4d", ""), ("WRN-50-2", "wide_resnet50_2", "")),
        *(("RegNetY-3.2GF", "regnet_y_3_2gf", ""), ("ShuffleNet v2 0.5×", "shufflenet_v2_x0_5", "")),
        *(("VGG16 (BN)", "vgg16_bn", ""), ("SqueezeNet", "squeezenet1_0", ""), ("MNASNet 1.0", "mnasnet1_0", "")),
    ],
)
def test_names_of_torchvision(printed: str, name: str, input: str) -> None:
    assert [tuple(one) for one in in_torchvision(printed)] == [(f"torchvision:{name}", input)]


# ---- judging ----


def test_agreement_is_to_the_printed_digits() -> None:
    # 138,357,544 parameters; 15,470,264,320 multiply-adds
    assert verdicts("VGG-16", params="138M", macs="15.5G") == ["agrees", "agrees"]
    assert verdicts("VGG-16", params="138.4M", macs="15.47G") == ["agrees", "agrees"]
    assert verdicts("VGG-16", params="138,357,544", macs="15470264320") == ["agrees", "agrees"]
    assert verdicts("VGG-16", params="138,357,543") == ["disagrees"]


def test_the_factor_of_two() -> None:
    assert verdicts("VGG-16", flops="15.5G") == ["agrees as MACs"]
    assert verdicts("VGG-16", flops="30.9G") == ["agrees"]  # 2 · 15.470 = 30.941
    assert verdicts("VGG-16", macs="30.94G") == ["agrees as FLOPs"]


def test_the_unit_is_read_from_the_size() -> None:
    assert verdicts("MobileNet v1", macs="569", params="4.2") == ["agrees", "agrees"]
    assert verdicts("VGG-16", macs="15.5", params="138") == ["agrees", "agrees"]
    assert verdicts("LeNet-5", params="61706") == ["agrees"]


def test_which_resnet_is_meant() -> None:
    """The figures say whether a block strides in its first convolution or in its second."""
    assert {(one.spec, one.verdict) for one in row("ResNet-50", params="25.6M", flops="4.1G")} == {
        *(("resnet50-v1.5", "agrees"), ("resnet50-v1.5", "agrees as MACs"))
    }
    assert [one.spec for one in row("ResNet-50", macs="3.86G")] == ["resnet50"]


def test_what_a_paper_prints() -> None:
    (one,) = row("ResNet-50", flops="3.8×10^9")
    assert one.verdict == "as published"
    assert "He et al. 2016, table 1" in one.because and "cut off" in one.because


def test_what_a_tool_counts() -> None:
    """fvcore adds 2 for each of 11,113,984 batch-norm elements and 7·7·2048 inputs of the average pooling."""
    figure = 4_089_184_256 + 2 * 11_113_984 + 7 * 7 * 2048
    (one,) = row("ResNet-50", macs=f"{figure:,}")
    assert (one.verdict, one.spec, one.counted) == ("agrees by fvcore", "resnet50-v1.5", figure)
    assert "batch-norm elements" in one.because


@pytest.mark.parametrize(
    ("model", "figures", "because"),
    [
        # 256 of 224: (256/224)² of the convolutions, and the classifier of 512·1000
        ("ResNet-18", {"macs": f"{(1_814_073_344 - 512_000) * 64 // 49 + 512_000:,}"}, "with an input of 256×256"),
        # 32 of 224: a 49th of the convolutions, and a classifier of 512·10
        (
            "ResNet-18",
            {"macs": f"{(1_814_073_344 - 512_000) // 49 + 5_120:,}"},
            "with an input of 32×32 and 10 classes",
        ),
        # of 1000 classes, 512·1000 + 1000 parameters go and 512·10 + 10 come
        ("ResNet-18", {"params": f"{11_689_512 - 513_000 + 5_130:,}"}, "with 10 classes"),
        ("ResNet-18", {"params": f"{11_689_512 - 513_000:,}"}, "without the classifier"),
        ("VGG-16", {"params": f"{138_357_544 - 4224 - 4096 - 4096 - 1000:,}"}, "without the biases"),
        ("VGG-16", {"macs": "15,346,630,656"}, "without the fully connected layers"),
        ("VGG-16", {"params": "553.4M"}, "in bytes of float32: a size"),
        ("VGG-16", {"params": "143.67M"}, "this is what vgg19 has"),
        ("VGG-16", {"macs": "15.47M"}, "1,000 times too small"),
        ("VGG-16", {"macs": "19.632G"}, "this is what vgg19 has: 19,632,062,464 MACs"),
        ("ResNet-18", {"params": f"{11_689_512 - 2 * 4_800:,}"}, "without the norms"),
        ("GoogLeNet", {"params": "13,378,280"}, "with its auxiliary heads"),
    ],
)
def test_causes(model: str, figures: dict[str, str], because: str) -> None:
    (one,) = row(model, **figures)
    assert one.verdict == "explained", one
    assert because in one.because


@pytest.mark.parametrize(
    ("model", "figure", "because"),
    [
        # its windows of 7 pad the sides of 256 to 70, 35, …, so that the ratio of the figures says 200 and not 224
        ("Swin-T", "4.5G", "; with an input of 224×224: 4,490,566,656 MACs"),
        # that figure is of 224, whatever the table says of its inputs
        ("ResNet-50", "4.089G", "; this is what resnet50-v1.5 has with an input of 224×224: 4,089,184,256 MACs"),
    ],
)
def test_a_figure_of_the_networks_own_input_under_another(model: str, figure: str, because: str) -> None:
    (one,) = row(model, "256", macs=figure)
    assert one.verdict == "explained" and one.because.endswith(because), one.because


def test_a_figure_without_a_cause_disagrees() -> None:
    (one,) = row("VGG-16", macs="17.77G")
    assert one.verdict == "disagrees"
    assert one.because == "14.87 % more than 15,470,264,320 MACs"  # 17.77 / 15.470 = 1.1487
    assert failed([one])
    (far,) = row("VGG-16", macs="1.2345T")
    assert far.because == "39.9 times 30,940,528,640 FLOPs"  # 1234.5 / 30.94
    assert not failed(row("VGG-16", macs="15.5G"))


def test_what_is_not_judged() -> None:
    assert verdicts("FancyNet", params="12M", flops="2G") == ["unknown model", "unknown model"]
    assert row("ResNet-51", params="12M")[0].because.startswith("did you mean resnet50")
    assert verdicts("VGG-16", params="see text") == ["no number"]
    (one,) = row("AlexNet", "16", macs="0.7G")
    assert one.verdict == "not run" and "inputs of side 227 to 258 work" in one.because


def test_a_column_that_mixes_both() -> None:
    found = [*row("VGG-16", flops="15.5G"), *row("VGG-19", flops="19.6G"), *row("ResNet-18", flops="3.63G")]
    shown = verdict_table("t", found)
    assert shown.notes == (
        "3 figures: 2 agree as MACs, 1 agrees",
        "flops mixes MACs and FLOPs, a factor of 2: 2 of 3 are MACs; the odd one out: ResNet-18",
    )
    assert verdict_table("t", found[:2]).notes[1] == "flops holds MACs: a factor of 2"


# ---- the command ----


def test_the_command(tmp_path: Path, archscope: Callable[..., Any]) -> None:
    path = tmp_path / "table.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    ran = archscope("verify-table", str(path), "--format", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [one["verdict"] for one in found] == ["agrees", "agrees as MACs"] * 2
    assert found[0]["counted"] == 138_357_544 and found[0]["line"] == 7 and found[0]["value"] == 138_000_000
    path.write_text(MARKDOWN.replace("15.5", "17.77"), encoding="utf-8")
    ran = archscope("verify-table", str(path), "--columns", "model,verdict,because")
    assert ran.code == 1
    assert "14.87 % more than" in ran.out or "42.57 % less than" in ran.out


def test_the_command_takes_an_input(tmp_path: Path, archscope: Callable[..., Any]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("model,MACs\nmobilenet-v1,291M\n", encoding="utf-8")  # 290,675,200 at 160
    assert "agrees" in archscope("verify-table", str(path), "--input", "160").out
    assert archscope("verify-table", str(path), "--input", "160x").code == 2
    ran = archscope("verify-table", str(tmp_path / "none.csv"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("archscope: cannot read ")


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ("| lenet | 61.7K |", 0),
        ("| lenet | 61.7K |\n| nin | abc |", 1),  # a cell that is no number
        ("| nobody-knows | 3M |", 1),  # nothing was checked
        ("| lenet | 61.7K |\n| nobody-knows | 3M |", 0),
    ],
)
def test_exit_code_of_what_cannot_be_read(rows: str, code: int, tmp_path: Path, archscope: Callable[..., Any]) -> None:
    (tmp_path / "t.md").write_text(f"| Model | Params |\n|---|---|\n{rows}\n")
    assert archscope("verify-table", str(tmp_path / "t.md")).code == code


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_table_that_is_piped_in(name: str) -> None:
    words = [sys.executable, "-m", "archscope", "verify-table", name]
    # LeNet: 5·5·1·6 + 6 + 5·5·6·16 + 16 + 400·120 + 120 + 120·84 + 84 + 84·10 + 10
    ran = subprocess.run(words, input="model,params\nlenet,61706\n", capture_output=True, text=True)
    assert ran.returncode == 0 and "1 agrees" in ran.stdout
    ran = subprocess.run(words, input="", capture_output=True, text=True)
    assert ran.returncode == 2 and "holds no table" in ran.stderr


def test_inputs_that_are_tried_are_not_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To explain 1.0 G the network runs at many sides; most fail, and what would mend them is nobody's question."""
    explanations._record.cache_clear()
    explanations._judged.cache_clear()
    told: list[Any] = []
    monkeypatch.setitem(PROVIDED, "diagnosis", lambda error, spec=None: told.append(spec) or "no")
    assert verdicts("LeNet", "28", macs="1.0 G") == ["disagrees"] and not told
    assert row("LeNet", "7", macs="1.0 G")[0].because == "no" and len(told) == 1  # the table's own input is
    explanations._record.cache_clear()
    explanations._judged.cache_clear()
