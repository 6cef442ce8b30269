"""Graphs of ONNX against the PyTorch models that they were exported from, and graphs that are damaged."""

import json
import random
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_weight_files import CHILD, damaged

from archscope import ShapeError, SpecError, TraceError, totals
from archscope.analysis.verification import disagreements
from archscope.sources.loading import inputs_of
from archscope.sources.records import record_of
from archscope.sources.spec import parse
from archscope.zoo.catalogue import build, entries

onnx = pytest.importorskip("onnx")

Command = Callable[..., Any]
OPSET = 17
CLASSIFIERS = """alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t
    mnasnet1_0 mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d
    shufflenet_v2_x1_0 squeezenet1_0 swin_t vgg11_bn vit_b_16""".split()
# Inception-v3's auxiliary head: two convolutions, each with a batch norm, and a classifier
AUX = 128 * 768 + 2 * 128 + 768 * 128 * 25 + 2 * 768 + 768 * 1000 + 1000
QUICK = ["lenet-bn", "residual-block", "dense-block", "inception-block", "rnn-cell", "lstm", "gru-classifier",
         "char-rnn-embedding", "vgg11-lrn"]  # fmt: skip


def exported(name: str, file: Path) -> Path:
    """A network of the zoo or of torchvision with random weights: equal ones are stored once, as tied ones are."""
    import torch

    source, _, short = name.rpartition(":")
    if source:
        import torchvision.models

        model = torchvision.models.get_model(short, weights=None, **({"init_weights": False} if "ince" in short or
                                                                     "goog" in short else {}))  # fmt: skip
    else:
        model = build(name)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
    given = tuple(torch.zeros(g.input.shape, dtype=getattr(torch, g.input.dtype)) for g in inputs_of(parse(name)))
    mode = torch.onnx.TrainingMode.PRESERVE  # batch norms are kept, not folded into convolutions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), given, str(file), opset_version=OPSET, dynamo=False, training=mode,
                          do_constant_folding=False)  # fmt: skip
    return file


def same_as_pytorch(name: str, tmp_path: Path) -> None:
    from_graph = record_of(str(exported(name, tmp_path / "net.onnx")))
    found = totals(from_graph)
    wanted = dict(totals(record_of(name)))
    if name == "torchvision:inception_v3":
        wanted["params"] -= AUX  # it does not run, so the graph does not have it
    keys = ("params", "macs", "unknown") if ":" in name else ("params", "macs", "receptive_field", "unknown")
    assert {key: found[key] for key in keys} == {key: wanted[key] for key in keys}
    assert not disagreements(from_graph)


@pytest.mark.parametrize("name", QUICK)
def test_the_counts_of_the_network(name: str, tmp_path: Path) -> None:
    same_as_pytorch(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*entries(), *(f"torchvision:{name}" for name in CLASSIFIERS)])
def test_the_counts_of_every_network(name: str, tmp_path: Path) -> None:
    same_as_pytorch(name, tmp_path)


# ------------------------------------------------------------------------------------------------- graphs by hand


def graph(
    file: Path, nodes: list[Any], inputs: dict[str, Any], weights: dict[str, tuple[int, ...]], output: str,
    constants: dict[str, Any] | None = None, out_shape: tuple[int, ...] | None = None,
) -> Path:  # fmt: skip
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, out_shape)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
        + [numpy_helper.from_array(np.array(value), name) for name, value in (constants or {}).items()],
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(made, opset_imports=domains), file)
    return file


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(op, inputs, [output], name=attributes.pop("name", ""), **attributes)


def test_padding_that_is_not_symmetric(tmp_path: Path) -> None:
    """SAME_UPPER, as TensorFlow pads: 224 by a stride of 2 is 112, whatever the kernel."""
    nodes = [node("Conv", ["x", "a/w"], "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", name="a/Conv")]
    record = record_of(str(graph(tmp_path / "net.onnx", nodes, {"x": (1, 3, 224, 224)}, {"a/w": (8, 3, 3, 3)}, "y")))
    found = totals(record)
    assert record.layers[0].outputs[0].shape == (1, 8, 112, 112)
    assert (found["params"], found["macs"]) == (8 * 3 * 9, 112 * 112 * 8 * 3 * 9)


def test_products_shapes_and_an_open_batch(tmp_path: Path) -> None:
    """x·w + b, then a view by Shape, Gather, Unsqueeze and Concat, which are no operators of the network."""
    nodes = [
        node("MatMul", ["x", "w"], "m", name="/fc/MatMul"),
        node("Add", ["m", "b"], "s", name="/fc/Add"),
        node("Shape", ["s"], "shape"),
        node("Gather", ["shape", "zero"], "n", axis=0),
        node("Unsqueeze", ["n", "axis"], "n1"),
        node("Concat", ["n1", "rest"], "to", axis=0),
        node("Reshape", ["s", "to"], "y"),
    ]
    constants = {"zero": 0, "axis": [0], "rest": [-1]}
    file = graph(tmp_path / "net.onnx", nodes, {"x": ("n", 5, 7)}, {"w": (7, 11), "b": (11,)}, "y", constants)
    record = record_of(str(file), batch=3)
    found = totals(record)
    assert record.layers[0].outputs[0].shape == (3, 5 * 11)
    assert (found["params"], found["macs"]) == (7 * 11 + 11, 3 * 5 * 7 * 11)
    assert {op.name for op in record.ops} == {"aten.matmul", "aten.add", "aten.reshape"} or len(record.ops) == 3
    assert "fc" in {layer.path for layer in record.layers}


def test_an_unknown_operator_is_unknown(tmp_path: Path) -> None:
    nodes = [node("Mystery", ["x"], "m", domain="com.microsoft"), node("Relu", ["m"], "y")]
    file = graph(tmp_path / "net.onnx", nodes, {"x": (2, 3)}, {}, "y")
    with pytest.raises(TraceError, match="Mystery of com.microsoft"):
        record_of(str(file))
    model = onnx.load(file)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("m", 1, (2, 5)))
    onnx.save(model, file)
    record = record_of(str(file))
    assert record.layers[0].outputs[0].shape == (2, 5)
    assert totals(record)["unknown"] == {"onnx.Mystery": 1}


def test_a_shape_that_is_stated_wrong(tmp_path: Path) -> None:
    file = graph(tmp_path / "net.onnx", [node("Relu", ["x"], "y")], {"x": (2, 3)}, {}, "y", out_shape=(2, 4))
    with pytest.raises((ShapeError, SpecError), match="2×4|shape"):
        record_of(str(file))


def test_an_operator_without_a_name_is_named_once(tmp_path: Path) -> None:
    file = graph(
        tmp_path / "net.onnx", [node("MatMul", ["x", "w"], "y")], {"x": (2, 3)}, {"w": (3, 4)}, "y", {}, (2, 5)
    )
    with pytest.raises(ShapeError, match="net.onnx: MatMul gives 2×4, and 2×5 by"):
        record_of(str(file))


def test_the_commands(tmp_path: Path, archscope: Command) -> None:
    file = str(exported("lenet", tmp_path / "net.onnx"))
    rows = json.loads(archscope("trace", file, "--format", "json").out)["layers"]
    assert [(row["path"], row["kind"]) for row in rows][:3] == [
        ("conv1", "Conv2d"), ("sigmoid1", "Sigmoid"), ("pool1", "AvgPool2d")]  # fmt: skip
    assert all(row["agrees"] for row in rows)
    for command in (["table"], ["verify"], ["draw"], ["lock", "--lock", str(tmp_path / "a.lock")]):
        ran = archscope(command[0], file, *command[1:])
        assert ran.code == 0, (command, ran.err)


# -------------------------------------------------------------------------------------------------- damaged graphs


def test_no_weight_is_read(tmp_path: Path) -> None:
    from archscope.sources.graphs.wire import without_weights

    file = exported("lenet", tmp_path / "net.onnx")
    data = file.read_bytes()
    assert len(without_weights(data)) < len(data) - 400 * 120 * 4 + 100  # the largest weight, less a note of its size
    small = onnx.ModelProto.FromString(without_weights(data, "node"))  # a message without tensors is as it was
    assert small == onnx.ModelProto.FromString(data)


@pytest.mark.parametrize("claim", [1 << 60, 1 << 40, 7])
def test_a_weight_that_lies(tmp_path: Path, claim: int) -> None:
    file = graph(tmp_path / "net.onnx", [node("Add", ["x", "w"], "y")], {"x": (2, 3)}, {"w": (3,)}, "y")
    model = onnx.load(file)
    model.graph.initializer[0].dims[0] = claim
    file.write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match=r"'w' claims"):
        record_of(str(file))


def test_damaged_graphs(tmp_path: Path) -> None:
    chance = random.Random(16)
    nodes = [node("Conv", ["x", "w", "b"], "c", kernel_shape=[3, 3], name="/a/Conv"), node("Relu", ["c"], "r"),
             node("Flatten", ["r"], "f"), node("Gemm", ["f", "v"], "y", transB=1, name="/fc/Gemm")]  # fmt: skip
    weights = {"w": (4, 3, 3, 3), "b": (4,), "v": (5, 4 * 6 * 6)}
    good = graph(tmp_path / "good.onnx", nodes, {"x": (1, 3, 8, 8)}, weights, "y")
    data, bad = good.read_bytes(), []
    for number in range(60):
        file = tmp_path / f"bad{number}.onnx"
        file.write_bytes(damaged(data, len(data), chance))
        bad.append(str(file))
    asked = json.dumps([[str(good)], bad])
    child = [sys.executable, "-c", textwrap.dedent(CHILD)]
    ran = subprocess.run(child, input=asked, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    first, found, kilobytes = json.loads(ran.stdout)
    assert [code for code, *_ in first] == [0]
    assert kilobytes < 200_000
    for file, (code, err, _) in zip(bad, found, strict=True):
        assert code in (0, 1, 2), (file, err)
        assert "bug" not in err, (file, err)
        assert len(err.splitlines()) <= 1, (file, err)
