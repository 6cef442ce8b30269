"""Models from elsewhere: torchvision, timm, transformers, a user's own file or package, saved traces, programs."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archscope import ShapeError, SpecError, TraceError, load, totals, trace
from archscope.sources.kinds import torchvision as tv
from archscope.sources.loading import defaults_of
from archscope.sources.records import record_of
from archscope.sources.source import source_of
from archscope.sources.spec import expand, parse

Command = Callable[..., Any]


# --------------------------------------------------------------------------------------------------- torchvision


def builders(*families: str) -> list[str]:
    import torchvision.models

    return [name for name in torchvision.models.list_models() if tv._family(name) in families]


PUBLISHED = 0.0005e9  # torchvision prints 10⁹ MACs with three decimals


@pytest.mark.parametrize("name", builders("classification", "segmentation", "video", "optical_flow"))
def test_torchvision_publishes_the_same_counts(name: str) -> None:
    said = source_of("torchvision").published(name)
    found = totals(record_of(f"torchvision:{name}"))
    assert found["params"] == said["params"]
    assert abs(found["macs"] - said["macs"]) <= PUBLISHED
    assert not found["unknown"]


AUX = 128 * 768 + 2 * 128 + 768 * 128 * 25 + 2 * 768 + 768 * 1000 + 1000  # Inception-v3's auxiliary head, 3,326,696


@pytest.mark.parametrize("name", builders("quantization"))
def test_the_float_networks_of_torchvisions_quantized_ones(name: str) -> None:
    """The builder leaves out Inception's auxiliary head when it loads weights; the published count has it."""
    said = source_of("torchvision").published(name)
    found = totals(record_of(f"torchvision:{name}"))
    assert found["params"] + (AUX if name == "quantized_inception_v3" else 0) == said["params"]
    assert abs(found["macs"] - said["macs"]) <= PUBLISHED


# of one proposal: 12544·1024 + 1024·1024 + 1024·(91 + 4·91) in the box head of torchvision's Faster R-CNN
BOX = 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * 5 * 91
# of one detection: four 3×3 convolutions on 14×14, a 2×2 transposed one, 91 masks of 28×28
MASK = 4 * 14 * 14 * 9 * 256 * 256 + 14 * 14 * 4 * 256 * 256 + 28 * 28 * 256 * 91
# of one detection: 3×3 on 14×14 from 256 to 512 channels, seven more of 512, a 4×4 transposed one to 17 keypoints
POINTS = 14 * 14 * 9 * 512 * (256 + 7 * 512) + 14 * 14 * 16 * 512 * 17
# counted here for as many as the model keeps at most; published for an image of noise, in which nothing is found
FOUND = {
    "fasterrcnn_mobilenet_v3_large_fpn": 1000 * BOX,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 150 * BOX,
    "maskrcnn_resnet50_fpn": 100 * MASK,
    "keypointrcnn_resnet50_fpn": 99 * POINTS,  # one person is found in the noise
}


@pytest.mark.parametrize("name", builders("detection"))
def test_detectors_are_counted_for_what_they_keep_at_most(name: str) -> None:
    said = source_of("torchvision").published(name)
    record = record_of(f"torchvision:{name}")
    found = totals(record)
    assert found["params"] == said["params"]
    assert abs(found["macs"] - FOUND.get(name, 0) - said["macs"]) <= PUBLISHED
    assert not found["unknown"]
    assert any("taken at their largest" in note for note in record.notes)
    assert any("left out" in note for note in record.notes)


def test_torchvision_is_as_published_without_its_weights_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn
    from torchvision.models import WeightsEnum

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refused)
    state, load_state = WeightsEnum.get_state_dict, nn.Module.load_state_dict
    model, _ = load("torchvision:googlenet")
    assert model.aux1 is None and model.transform_input
    assert WeightsEnum.get_state_dict is state and nn.Module.load_state_dict is load_state
    assert all(p.is_meta for p in model.parameters())


def test_the_arguments_of_torchvisions_builders() -> None:
    assert totals(record_of("torchvision:resnet18@num_classes=10"))["params"] == 11_689_512 - 990 * 512 - 990
    assert totals(record_of("torchvision:vit_b_16@image_size=384"))["input"] == (1, 3, 384, 384)
    with pytest.raises(SpecError, match="resnet18 has no argument 'width'"):
        record_of("torchvision:resnet18@width=2")
    with pytest.raises(SpecError, match="torchvision has no model 'resnet5': did you mean resnet50"):
        parse("torchvision:resnet5")


def test_a_detectors_image_may_have_another_size() -> None:
    record = record_of("torchvision:retinanet_resnet50_fpn", "3x320x480")
    assert record.inputs[0].shape == (3, 320, 480)
    assert [spec.name for spec in expand(["torchvision:vgg1[13]"])] == ["vgg11", "vgg13"]


# -------------------------------------------------------------------------------------------- timm, transformers


def test_timm() -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    found = totals(record_of("timm:resnet18"))
    assert (found["params"], found["macs"]) == (11_689_512, 1_814_073_344)  # torchvision's, and so its metadata's
    assert defaults_of(parse("timm:vit_base_patch16_384"))[0].input.shape == (1, 3, 384, 384)
    assert record_of("timm:resnet18@in_chans=1@num_classes=10").inputs[0].shape == (1, 1, 224, 224)


def bert(tokens: int, vocabulary: int = 30_522, h: int = 768, layers: int = 12, inner: int = 3072) -> tuple[int, int]:
    """Parameters and MACs of Devlin et al. 2018, section 3: BERT base with its pooler."""
    embeddings = (vocabulary + 512 + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * h * inner + inner + h + 4 * h
    macs = tokens * (4 * h * h + 2 * h * inner) + 2 * tokens * tokens * h
    return embeddings + layers * layer + h * h + h, layers * macs + h * h


def llama(tokens: int, h: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> tuple[int, int]:
    """Parameters and MACs of Touvron et al. 2023 (gated unit, RMS norm), grouped queries, without the output layer."""
    keys = h // heads * groups
    weights = 2 * h * h + 2 * h * keys + 3 * h * inner
    macs = tokens * weights + 2 * tokens * tokens * h
    return vocabulary * h + layers * (weights + 2 * h) + h, layers * macs


def test_transformers_by_the_papers() -> None:
    pytest.importorskip("transformers", reason="transformers is an extra")
    found = totals(record_of("transformers:BertConfig"))
    assert (found["params"], found["macs"]) == bert(128)
    assert totals(record_of("transformers:bert", "64"))["macs"] == bert(64)[1]
    small = "@hidden_size=64@intermediate_size=96@num_hidden_layers=3@num_attention_heads=4@num_key_value_heads=2"
    found = totals(record_of(f"transformers:LlamaConfig{small}@vocab_size=1000"))
    assert (found["params"], found["macs"]) == llama(128, 64, 96, 3, 4, 2, 1000)
    assert not found["unknown"]


LARGE = """
from pathlib import Path
from archscope import totals
from archscope.sources.records import record_of
found = totals(record_of("transformers:LlamaConfig@hidden_size=8192@intermediate_size=28672@num_hidden_layers=80"
                         "@num_attention_heads=64@num_key_value_heads=8@vocab_size=128256"))
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(found["params"], found["macs"], peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read as on Linux")
def test_seventy_billion_parameters_fit_on_a_small_machine() -> None:
    pytest.importorskip("transformers", reason="transformers is an extra")
    ran = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    params, macs, kilobytes = map(int, ran.stdout.split())
    assert (params, macs) == llama(128, 8192, 28672, 80, 64, 8, 128_256)
    assert kilobytes < 2 << 20


def test_what_transformers_does_not_have() -> None:
    pytest.importorskip("transformers", reason="transformers is an extra")
    with pytest.raises(SpecError, match="no configuration or model 'LlamaConfg': did you mean"):
        record_of("transformers:LlamaConfg")
    with pytest.raises(SpecError, match="LlamaConfig has no argument 'hiden_size': did you mean hidden_size"):
        record_of("transformers:LlamaConfig@hiden_size=3")


@pytest.mark.parametrize("name", ["timm", "transformers"])
def test_a_source_that_is_not_installed_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(f"archscope.sources.kinds.{name}._{'names' if name == 'timm' else 'types'}", lambda *a: 1 / 0)
    with pytest.raises(SpecError, match=f"{name} is not installed; `pip install {name}`"):
        getattr(sys.modules[f"archscope.sources.kinds.{name}"], {"timm": "_timm"}.get(name, f"{name}_library"))()


# ------------------------------------------------------------------------------------------------ a user's file

NETS = """
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self, width=8, bias=True):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3, bias=bias)
            self.fc = nn.Linear(width * 30 * 30, 10)

        def forward(self, x):
            return self.fc(F.relu(self.conv(x)).flatten(1))

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(100, 16)
            self.out = nn.Linear(16, 2)

        def forward(self, tokens, *, mask):
            return self.out((self.embed(tokens) * mask.unsqueeze(-1)).mean(1))

    class Needs(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.fc = nn.Linear(4, classes)

        def forward(self, x):
            return self.fc(x)

        example_inputs = staticmethod(lambda: torch.zeros(2, 4))

    class Branching(nn.Module):
        def forward(self, x):
            if x.sum() > 0:
                return x
            return -x

    def build(depth: int = 2) -> nn.Module:
        return nn.Sequential(*[nn.Linear(5, 5) for _ in range(depth)])

    def broken() -> nn.Module:
        raise KeyError("weights")

    def number():
        return 3

    ready = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    plain = 4
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    """A file of networks; its folder is not on the import path."""
    path = tmp_path / "nets.py"
    path.write_text(textwrap.dedent(NETS), encoding="utf-8")
    return str(path)


def test_a_class_of_a_file(nets: str) -> None:
    record = record_of(f"{nets}:Net", "1x3x32x32")
    found = totals(record)
    assert found["params"] == 8 * (3 * 9 + 1) + 8 * 30 * 30 * 10 + 10
    assert found["macs"] == 30 * 30 * 8 * 27 + 7200 * 10
    assert found["model"] == f"{nets}:Net"
    assert totals(record_of(f"{nets}:Net@width=2@bias=false", "1x3x32x32"))["params"] == 2 * 27 + 1800 * 10 + 10


def test_the_first_layer_tells_the_channels(nets: str) -> None:
    assert record_of(f"{nets}:Net", "32").inputs[0].shape == (1, 3, 32, 32)
    assert record_of(f"{nets}:ready", "7x9").inputs[0].shape == (1, 1, 7, 9)
    assert record_of(f"{nets}:build@depth=3", "5").inputs[0].shape == (1, 5)


def test_inputs_by_name(nets: str) -> None:
    record = record_of(f"{nets}:Two", ["tokens=4x7:int64", "mask=4x7"])
    assert [t.shape for t in record.inputs] == [(4, 7), (4, 7)]
    assert record.inputs[0].dtype == "int64"
    model, inputs = load(f"{nets}:Two", ["tokens=4x7:int64", "mask=4x7"])
    assert model(**inputs).shape == (4, 2)
    assert totals(trace(model, inputs))["macs"] == 4 * 16 * 2
    mixed, inputs = load(f"{nets}:Two", ["4x7:int64", "mask=4x7"])
    assert mixed(**inputs).shape == (4, 2)


def test_example_inputs_beside_the_model(nets: str) -> None:
    assert record_of(f"{nets}:Needs@classes=3").inputs[0].shape == (2, 4)
    assert record_of(f"{nets}:Needs@classes=3", batch=5).inputs[0].shape == (5, 4)
    for written, shapes in (
        ("def example_inputs(): return torch.zeros(1, 3, 32, 32)", [(1, 3, 32, 32)]),
        ("example_inputs = (1, 3, 32, 32)", [(1, 3, 32, 32)]),
        ("example_inputs = '1x3x32x32'", [(1, 3, 32, 32)]),
        ("def example_inputs(): return {'x': torch.zeros(1, 3, 32, 32)}", [(1, 3, 32, 32)]),
        ("def example_inputs(): return (torch.zeros(1, 3, 32, 32),), {}", [(1, 3, 32, 32)]),
    ):
        path = Path(nets).with_name(f"n{abs(hash(written))}.py")
        path.write_text(textwrap.dedent(NETS) + written + "\n", encoding="utf-8")
        assert [t.shape for t in record_of(f"{path}:Net").inputs] == shapes


def test_what_a_file_lists(nets: str, archscope: Command) -> None:
    names = [spec.text.rpartition(":")[2] for spec in expand([f"{nets}:*"])]
    assert names == ["Net", "Two", "Branching", "build", "broken", "ready"]
    rows = json.loads(archscope("list", f"{nets}:N*", "--format", "json").out)
    assert [row["name"] for row in rows] == [f"{nets}:Net"]


def test_a_list_goes_on_behind_a_model_that_has_no_input(tmp_path: Path, archscope: Command) -> None:
    """What is wrong with the input of one is said where it stands alone."""
    path = tmp_path / "some.py"
    path.write_text(
        textwrap.dedent("""
            from torch import nn

            class Good(nn.ReLU):
                example_inputs = (2, 8)

            class Bad(nn.ReLU):
                def example_inputs():
                    raise RuntimeError("no such thing")

            def unmarked():
                return nn.ReLU()
        """)
    )
    rows = json.loads(archscope("list", f"{path}:*", "--format", "json").out)
    assert [(row["name"].rpartition(":")[2], row["input"]) for row in rows] == [("Good", [2, 8]), ("Bad", None)]
    ran = archscope("list", f"{path}:Bad")
    assert (ran.code, ran.out) == (2, "")
    assert "example_inputs of Bad fails, called without arguments: RuntimeError: no such thing" in ran.err
    other = tmp_path / "other.py"
    other.write_text("def unmarked():\n    return None\n")
    ran = archscope("list", f"{other}:*")
    assert ran.code == 2 and "functions that say `-> nn.Module`" in ran.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Nt", "has no 'Nt': did you mean Net? (it has Net, Two,"),
        ("plain", "plain in {} is neither a module nor something that builds one"),
        ("number", "number in {} gives an int, not a module"),
        ("Needs", "Needs needs classes: write Needs@classes=…"),
        ("Net@widht=3", "Net has no argument 'widht': did you mean width? (it has width, bias)"),
        ("ready@a=1", "is a module, not a class: it takes no arguments"),
        ("Net", "Net has no default input: give --input 1x3x224x224, or write example_inputs() beside it"),
    ],
)
def test_what_a_file_does_not_have(nets: str, name: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        record_of(f"{nets}:{name}")
    assert said.format(nets) in str(caught.value)


def test_files_that_fail(tmp_path: Path, nets: str) -> None:
    with pytest.raises(SpecError, match="there is no file"):
        record_of(f"{tmp_path}/none.py:Net")
    (tmp_path / "wrong.py").write_text("x = (\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"wrong.py cannot be imported: SyntaxError: .* \(line 1\)"):
        record_of(f"{tmp_path}/wrong.py:Net")
    (tmp_path / "fails.py").write_text("import archscope\n1 / 0\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"ZeroDivisionError: division by zero, at .*fails.py:2"):
        record_of(f"{tmp_path}/fails.py:Net")
    with pytest.raises(TraceError, match=r"broken could not be built: KeyError: 'weights', at .*nets.py:\d+"):
        record_of(f"{nets}:broken", "1")
    assert not [path for path in sys.path if path == str(tmp_path)]


def test_a_forward_that_depends_on_values_says_where(nets: str) -> None:
    line = next(i for i, text in enumerate(NETS.splitlines(), 1) if "x.sum() > 0" in text)
    record = record_of(f"{nets}:Branching", "1x3")
    assert any(f"nets.py:{line}" in note and "seed 0" in note for note in record.notes)


CHATTY = """
from torch import nn
print("imported")
class Chatty(nn.Linear):
    def __init__(self):
        super().__init__(3, 4)
        print("built")
    def forward(self, x):
        print("run", x.shape)
        return super().forward(x)
def example_inputs():
    return (2, 3)
"""


@pytest.mark.parametrize("words", [("trace",), ("table",), ("verify",), ("list",)])
def test_what_a_file_prints_is_no_part_of_the_result(
    words: tuple[str, ...], tmp_path: Path, archscope: Command
) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY, encoding="utf-8")
    name = f"{tmp_path}/chatty.py:" + ("*" if words == ("list",) else "Chatty")
    ran = archscope(*words, name, "--format", "json")
    assert ran.code == 0 and isinstance(json.loads(ran.out), dict if words == ("trace",) else list)
    assert "imported" in ran.err and ("run torch.Size([2, 3])" in ran.err) == (words != ("list",))


def test_a_forward_that_leaves_for_numpy(tmp_path: Path) -> None:
    (tmp_path / "away.py").write_text(
        "import torch\nfrom torch import nn\nclass Away(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(3, 4)\n    def forward(self, x):\n"
        "        return torch.from_numpy(super().forward(x).detach().numpy() + 1)\n",
        encoding="utf-8",
    )
    with pytest.raises(TraceError, match=r"Away: the forward hands a tensor to NumPy, .*, at .*away.py:7$") as caught:
        model, inputs = load(f"{tmp_path}/away.py:Away", "1x3")
        trace(model, inputs, name="Away", values="never")
    assert "cpu()" not in str(caught.value)


def test_one_sentence_is_said_once(tmp_path: Path, archscope: Command) -> None:
    (tmp_path / "words.py").write_text(
        "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Embedding(9, 3))\n",
        encoding="utf-8",
    )
    ran = archscope("trace", f"{tmp_path}/words.py:Net", "--input", "1x3")
    assert ran.code == 1 and ran.err.count("looks up integers") == 1


def test_a_missing_key_is_called_one(tmp_path: Path, archscope: Command) -> None:
    (tmp_path / "lost.py").write_text(
        "from torch import nn\nclass Lost(nn.Module):\n    def forward(self, x):\n        return {}['weight']\n",
        encoding="utf-8",
    )
    ran = archscope("trace", f"{tmp_path}/lost.py:Lost", "--input", "1x3", "--format", "json")
    assert ran.code == 1 and ": KeyError: 'weight', at " in ran.err


def test_a_shape_that_does_not_fit_is_diagnosed_in_a_users_file_too(nets: str, archscope: Command) -> None:
    with pytest.raises(ShapeError, match=r"fc .*7200.*6272"):
        record_of(f"{nets}:Net", "1x3x30x30")
    ran = archscope("trace", f"{nets}:Net", "--input", "1x3x30x30")
    assert ran.code == 1
    assert "conv" in ran.out  # the chain up to there


def test_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynets").mkdir()
    (tmp_path / "mynets" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "mynets" / "models.py").write_text(textwrap.dedent(NETS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert totals(record_of("mynets.models:build@depth=4", "5"))["params"] == 4 * 30
    with pytest.raises(SpecError, match="mynets.models has no 'Bild': did you mean build"):
        record_of("mynets.models:bild".replace("bild", "Bild"))
    with pytest.raises(SpecError, match="no package 'mynets.model'"):
        record_of("mynets.model:build")
    (tmp_path / "mynets" / "absent.py").write_text("import no_such_thing\n", encoding="utf-8")
    with pytest.raises(TraceError, match="No module named 'no_such_thing'"):
        record_of("mynets.absent:build")


# --------------------------------------------------------------------------------------- saved traces, programs


def test_a_saved_trace_is_a_model_like_any_other(tmp_path: Path, archscope: Command) -> None:
    saved = tmp_path / "lenet.json"
    first = archscope("trace", "lenet", "--save", str(saved))
    assert first.code == 0
    again = archscope("trace", str(saved))
    assert (again.code, again.out) == (0, first.out)
    rows = json.loads(archscope("table", str(saved), "lenet", "--format", "json").out)
    assert {**rows[0], "model": "lenet", "source": "zoo"} == rows[1]
    assert archscope("trace", str(saved), "--input", "32").err.endswith(
        "is the record of one run: its input and mode are what they were\n"
    )
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert "is no record of archscope" in archscope("trace", str(tmp_path / "other.json")).err
    saved.write_text(saved.read_text(encoding="utf-8")[:-900], encoding="utf-8")
    assert "is no record of archscope" in archscope("trace", str(saved)).err
    assert "cannot read" in archscope("trace", "none.json").err
    assert archscope("trace", "lenet", "--save", "").err == "archscope: --save names no file\n"


def test_a_saved_trace_needs_no_torch(tmp_path: Path, archscope: Command) -> None:
    saved = tmp_path / "lenet.json"
    archscope("trace", "lenet", "--save", str(saved))
    code = f"""
        import sys
        from archscope.cli import app
        try: app(["trace", {str(saved)!r}])
        except SystemExit as end: assert not end.code, end.code
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True)


def test_an_exported_program(tmp_path: Path) -> None:
    code = f"""
        import torch
        from torch import nn
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 5)).eval()
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), {str(tmp_path / "net.pt2")!r})
        torch.save({{"a": print}}, {str(tmp_path / "other.pt2")!r})
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, capture_output=True)
    record = record_of(str(tmp_path / "net.pt2"))
    found = totals(record)
    assert found["params"] == 8 * 28 + 288 * 5 + 5
    assert found["macs"] == 6 * 6 * 8 * 27 + 288 * 5
    assert [layer.kind for layer in record.layers][1] == "exported Conv2d"
    with pytest.raises(SpecError, match="holds no exported program"):
        record_of(str(tmp_path / "other.pt2"))
    with pytest.raises(SpecError, match="there is no file"):
        record_of("none.pt2")


# ------------------------------------------------------------------------------------------------------- listing


def test_what_a_source_publishes_is_listed(archscope: Command) -> None:
    rows = json.loads(archscope("list", "torchvision:resnet50", "lenet", "--format", "json").out)
    assert rows[0]["name"] == "torchvision:resnet50"
    assert rows[0]["input"] == [1, 3, 224, 224]
    assert (rows[0]["params"], rows[0]["macs"]) == (25_557_032, 4_089_000_000)
    assert (rows[1]["source"], rows[1]["params"]) == ("zoo", 61_706)


def test_models_of_several_sources_stand_in_one_table(archscope: Command) -> None:
    ran = archscope("table", "lenet,torchvision:alexnet,torchvision:vgg1[19]", "--columns", "source,model,params")
    assert ran.code == 0
    assert re.findall(r"^(\w+) +(\S+) +([\d,]+)$", ran.out, re.MULTILINE) == [
        ("zoo", "lenet", "61,706"),
        ("torchvision", "torchvision:alexnet", "61,100,840"),
        ("torchvision", "torchvision:vgg11", "132,863,336"),
        ("torchvision", "torchvision:vgg19", "143,667,240"),
    ]


def test_names_of_timm_with_tags_and_older_ones() -> None:
    """`tf_inception_v3` is what timm calls `inception_v3.tf_in1k` now (its table of deprecations in inception_v3.py),
    with the parameters of PyTorch's Inception without the auxiliary head: 27,161,264 − 3,326,696."""
    pytest.importorskip("timm")
    spec = parse("timm:tf_inception_v3@num_classes=1000")
    assert (spec.name, spec.text) == ("inception_v3.tf_in1k", "timm:inception_v3.tf_in1k@num_classes=1000")
    assert spec.note == "timm:tf_inception_v3 is now timm:inception_v3.tf_in1k"
    assert totals(record_of(spec.text))["params"] == 27_161_264 - 3_326_696
    assert parse("timm:resnet50.a1_in1k").name == "resnet50.a1_in1k"
    with pytest.raises(SpecError, match="did you mean resnet50"):
        parse("timm:resnet50.nope")
