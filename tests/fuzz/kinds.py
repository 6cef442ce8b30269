"""The kinds of files that archscope reads: how a valid one is made and damaged, and the commands that read it."""

import csv
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import damage

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # files and rows of the other tests

Damage = Callable[[bytes, Random], bytes]


class Kind(NamedTuple):
    """file: the one that is damaged. commands: those that read it, without `archscope`. written: files that a command
    is asked to write. needs: a package. part: of the cases, where several kinds here are one of a user's. work: seconds
    that a file's model takes by itself, where the damage makes it a larger one that is valid."""

    file: str
    make: Callable[[Path], None]
    damage: Damage
    commands: tuple[str, ...]
    written: tuple[str, ...] = ()
    needs: str = ""
    part: float = 1
    work: Callable[[bytes], float] = lambda data: 0.0


KINDS: dict[str, Kind] = {}


def either(*ways: Damage) -> Damage:
    return lambda data, chance: chance.choice(ways)(data, chance)


RECORDED = ("lenet", "inception-block", "lstm")


def recorded(name: str) -> str:
    """The record of a network of the zoo. Another process makes it: this one does without PyTorch."""
    return _recorded()[name]


@cache
def _recorded() -> dict[str, str]:
    code = "import archscope, sys\nfor name in sys.argv[1:]: print(archscope.record_of(name).to_json())"
    made = subprocess.run([sys.executable, "-c", code, *RECORDED], capture_output=True, check=True, encoding="utf-8")
    return dict(zip(RECORDED, made.stdout.splitlines(), strict=True))


# ----------------------------------------------------------------------------------------------------- saved traces


def _record(folder: Path) -> None:
    for name in RECORDED:
        (folder / f"{name}.json").write_text(recorded(name), encoding="utf-8")
    (folder / "net.json").write_text(recorded("lenet"), encoding="utf-8")


RECORD = (
    "trace {}",
    "trace {} --depth 1 --format latex",
    "trace {} --format json",
    "table {}",
    "table {} --as all",
    "explain {}",
    "explain {} --format md",
    "draw {}",
    "draw {} --format mermaid",
    "quiz {}",
    "verify {}",
    "reconcile {}",
    "diff {} lenet.json",
    "report --models {} --html page.html",
    "plot layers {} -o plot.svg",
)
for _name in RECORDED:
    KINDS[f"record-{_name}"] = Kind(f"{_name}.json", _record, either(damage.of_json, damage.of_json, damage.of_bytes),
                                    tuple(words.format(f"{_name}.json") if "diff" not in words else
                                          f"diff {_name}.json net.json" for words in RECORD),
                                    ("page.html", "plot.svg"), part=1 / 3)  # fmt: skip


def _step(folder: Path) -> None:
    from archscope import load, trace_step

    model, inputs = load("lenet", batch=2)
    (folder / "step.json").write_text(trace_step(model, inputs).to_json(), encoding="utf-8")


KINDS["step"] = Kind("step.json", _step, either(damage.of_json, damage.of_json, damage.of_bytes),
                     ("memory step.json", "memory step.json --format json", "memory step.json --plot step.svg",
                      "trace step.json", "table step.json"), ("step.svg",))  # fmt: skip


# ------------------------------------------------------------------------------------------------- lock and settings

SETTINGS = {"models": ["lenet", {"model": "nin", "batch": 2}], "lock": "archscope.lock", "require_coverage": False,
            "budget": [{"model": "lenet", "params": "<= 70 K", "macs": "<= +2 %", "message": "ask first"},
                       {"model": "*", "activations": "<= 64 MB"}],
            "cost": {"mylib::op": {"macs": "x[0] * x[1]", "flops": "3 * numel(out)"}}}  # fmt: skip


def _lock(folder: Path) -> None:
    from archscope.gate.budget import Config
    from archscope.gate.judge import look, plan_to_lock, renew

    plan = plan_to_lock(Config(str(folder)), None, ["lenet", "inception-block"], {})
    renew(plan, [look(target, plan) for target in plan.targets])
    (folder / "other.lock").write_bytes((folder / "archscope.lock").read_bytes())
    (folder / ".git").mkdir()


def _signed_again(data: bytes, chance: Random) -> bytes:
    """Lines with other values, and checksums that hold."""
    out: list[bytes] = []
    block: list[bytes] = []
    for line in damage.of_json_lines(data, chance).split(b"\n"):
        if line.startswith(b'{"end":') and b"checksum" in line:
            name = json.dumps(line.split(b'"')[3].decode("utf-8", "replace"), ensure_ascii=False)
            sign = hashlib.sha256(b"\n".join(block)).hexdigest()[:16]
            line, block = f'{{"end":{name},"checksum":"{sign}"}}'.encode("utf-8", "surrogatepass"), []
        elif out:
            block.append(line)
        out.append(line)
    return b"\n".join(out)


KINDS["lock"] = Kind("archscope.lock", _lock,
                     either(_signed_again, _signed_again, damage.of_json_lines, damage.of_bytes, damage.of_lines),
                     ("diff archscope.lock other.lock", "check lenet", "check --format github", "check --format junit",
                      "diff archscope.lock other.lock --format json", "check --format md"))  # fmt: skip


def _toml(value: Any) -> str:
    """A tree of `damage` as TOML, in one line."""
    if isinstance(value, damage.Raw):
        return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf", "null": '""'}.get(value, value)
    if isinstance(value, damage.Pairs):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(one)}' for key, one in value)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _settings(folder: Path) -> None:
    _lock(folder)
    tree = damage.tree(json.dumps(SETTINGS))
    (folder / "pyproject.toml").write_text(_settings_text(tree), encoding="utf-8")


def _settings_text(tree: Any) -> str:
    return "[tool.archscope]\n" + "".join(f"{json.dumps(key)} = {_toml(one)}\n" for key, one in tree)


def _other_settings(data: bytes, chance: Random) -> bytes:
    tree = damage.tree(json.dumps(SETTINGS))
    damage.values(tree, chance)
    return _settings_text(tree).encode("utf-8", "surrogatepass")


KINDS["settings"] = Kind("pyproject.toml", _settings,
                         either(_other_settings, _other_settings, damage.of_bytes, damage.of_lines),
                         ("check lenet", "check", "diff other.lock other.lock", "list lenet"))  # fmt: skip


# ------------------------------------------------------------------------------------------------ results of bench


def _runs(folder: Path) -> None:
    from made_rows import row

    more: list[dict[str, Any]] = [
        {}, {"seed": 1, "test_accuracy": 0.5}, {"model": "nin", "flags": {"compile": "default"},
         "peak_flops_measured": 1e9},
        {"model": "vgg11", "status": "oom_reduced", "micro_batch": 2, "batch": 8, "batch_norm": True},
        {"model": "vgg13", "status": "error", "error": "no memory"},
    ]  # fmt: skip
    rows = [row(**one) for one in more]
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows), encoding="utf-8")
    (folder / "lenet.json").write_text(recorded("lenet"), encoding="utf-8")


KINDS["runs"] = Kind("runs.jsonl", _runs,
                     either(damage.of_json_lines, damage.of_json_lines, damage.of_bytes, damage.of_lines),
                     ("bench compare runs.jsonl", "bench compare runs.jsonl --curves",
                      "plot curves runs.jsonl -o plot.svg",
                      "plot speed runs.jsonl@model=lenet -o plot.svg", "table lenet --bench runs.jsonl",
                      "bench compare runs.jsonl --format json", "bench compare runs.jsonl --format csv",
                      "report --models lenet.json --html page.html --bench runs.jsonl"),
                     ("plot.svg", "page.html"))  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- sweeps


def _part(folder: Path) -> None:
    """The part of a sweep that was stopped after two of its three points."""
    from archscope.sources.spec import parse
    from archscope.sweeps.factory import SweepModel
    from archscope.sweeps.grid import Grid, typed_axes
    from archscope.sweeps.run import records
    from archscope.sweeps.store import Store, signature

    subject = SweepModel(parse("lenet"), None, None, None, False)
    grid = Grid(typed_axes(["batch=1:3:1"], subject.spec))
    store = Store(str(folder / "grid.csv"), signature(subject, grid), lambda *_: {})
    found = iter(records(subject, grid))
    store.add([next(found), next(found)])


def _part_of(file: str, way: Damage) -> Kind:
    return Kind(f"grid.csv.part/{file}", _part, way, ("sweep lenet --over batch=1:3:1 --output grid.csv",),
                ("grid.csv", "grid.csv.part/records", "grid.csv.part/sweep.json"), part=0.5)  # fmt: skip


KINDS["sweep-records"] = _part_of("records", either(damage.of_json_lines, damage.of_bytes, damage.of_lines))
KINDS["sweep-note"] = _part_of("sweep.json", either(damage.of_json, damage.of_bytes))


# ---------------------------------------------------------------------------------------------------- stored records


def _store(folder: Path) -> None:
    """An entry of the store; what has no entry is refused instead of being run."""
    from archscope.core.errors import SpecError
    from archscope.sources import records, store

    os.environ["ARCHSCOPE_CACHE"] = "store"
    asked = store.asked_of("lenet", ["1x1x28x28"])
    body = {"key": store.key_of(asked), "dependencies": [], "record": recorded("lenet")}
    path = Path(store._path(store.key_of(asked)))
    store.write(str(folder / path), json.dumps(body).encode())
    KINDS["store"] = KINDS["store"]._replace(file=str(path))

    def miss(*arguments: Any) -> Any:
        raise SpecError("no entry")

    records.record_and_model = miss
    store.touched = lambda: ""  # these files are loaded, and change nothing


def _packed_again(data: bytes, chance: Random) -> bytes:
    head, _, packed = data.partition(b"\n")
    body = damage.of_json(zlib.decompress(packed), chance)
    if chance.random() < 0.7:  # the record itself
        tree = json.loads(zlib.decompress(packed))
        text = damage.of_json(tree["record"].encode(), chance).decode("utf-8", "replace")
        body = json.dumps({**tree, "record": text}).encode("utf-8", "surrogatepass")
    packed = zlib.compress(body)
    return b"archscope record " + hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed


KINDS["store"] = Kind("?", _store, either(_packed_again, _packed_again, damage.of_bytes),
                      ("trace lenet --input 1x1x28x28", "draw lenet --input 1x1x28x28", "cache show",
                       "explain lenet --input 1x1x28x28", "cache verify"))  # fmt: skip


# -------------------------------------------------------------------------------------------- worksheets and tables


def _sheets(folder: Path) -> None:
    from archscope.core.record import Trace
    from archscope.learn.quiz import head, worksheet

    record = Trace.from_json(recorded("lenet"))
    for form in ("md", "csv"):
        (folder / f"sheet.{form}").write_text(worksheet(record, form, head(record), True), encoding="utf-8")


for _form in ("md", "csv"):
    KINDS[f"sheet-{_form}"] = Kind(f"sheet.{_form}", _sheets,
                                   either(damage.of_cells, damage.of_cells, damage.of_lines, damage.of_bytes),
                                   (f"grade sheet.{_form}", f"grade sheet.{_form} --all --format json",
                                    f"grade sheet.{_form} sheet.md --format csv"), part=0.5)  # fmt: skip


def _tables(folder: Path) -> None:
    rows = [("Model", "Params (M)", "MACs (G)", "Input"), ("LeNet", "0.06", "0.0004", "28"),
            ("NIN", "1.99", "1.0", "224"), ("AlexNet", "61.1e6", "714M", "224"),
            ("nothing", "12 million", "x", "")]  # fmt: skip
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    (folder / "table.csv").write_text(out.getvalue(), encoding="utf-8")
    lines = ["Text.", "", *(f"| {' | '.join(row)} |" for row in rows)]
    lines.insert(3, "|---|---:|---:|---|")
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


for _form in ("md", "csv"):
    KINDS[f"table-{_form}"] = Kind(f"table.{_form}", _tables,
                                   either(damage.of_cells, damage.of_cells, damage.of_lines, damage.of_bytes),
                                   (f"verify-table table.{_form}", f"verify-table table.{_form} --format json",
                                    f"verify-table table.{_form} --format md"), part=0.5)  # fmt: skip


# ------------------------------------------------------------------------------------------------ files without code

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
          "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 64,
          "rms_norm_eps": 1e-6,
          "max_position_embeddings": 128, "rope_scaling": None, "tie_word_embeddings": False, "hidden_act": "silu",
          "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}  # fmt: skip


def _config(folder: Path) -> None:
    (folder / "net").mkdir()
    plain = {key: value for key, value in CONFIG.items() if key != "quantization_config"}
    (folder / "net/config.json").write_text(json.dumps(plain), encoding="utf-8")


def _layers(data: bytes) -> float:
    """25 ms a layer beyond the two: `llm` runs a model of 126 layers, as Llama 3.1 405B has, in 2 s."""
    try:
        return 0.025 * max(0, min(1000, json.loads(data)["num_hidden_layers"]) - 2)
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0.0


KINDS["config"] = Kind("net/config.json", _config, either(damage.of_json, damage.of_json, damage.of_bytes),
                       ("trace net/config.json --input 1x8:int64", "table net/config.json",
                        "llm net/config.json --context 8"), needs="transformers", work=_layers)  # fmt: skip


def _adapter(folder: Path) -> None:
    _config(folder)
    values = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "net", "r": 4, "bias": "none",
              "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2},
              "modules_to_save": ["lm_head"], "layers_to_transform": [0, 1], "inference_mode": True}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")


KINDS["adapter"] = Kind("adapter_config.json", _adapter, either(damage.of_json, damage.of_json, damage.of_bytes),
                        ("llm adapter_config.json --context 8", "table adapter_config.json"),
                        needs="peft")  # fmt: skip


NET = """
from dataclasses import dataclass, field
from torch import nn

@dataclass
class Head:
    out: int = 10
    rates: tuple[float, ...] = ()

@dataclass
class Config:
    hidden: int = 8
    head: Head = field(default_factory=Head)
    heads: list[Head] = field(default_factory=list)

class Net(nn.Linear):
    def __init__(self, config: Config):
        super().__init__(4, 2)
"""


def _argument(folder: Path) -> None:
    values = {"hidden": 4, "head": {"out": 2, "rates": [0.1, 2]}, "heads": [{"out": 3}, {"rates": [1e-3]}]}
    (folder / "nets.py").write_text(NET, encoding="utf-8")
    (folder / "argument.json").write_text(json.dumps(values), encoding="utf-8")


KINDS["argument"] = Kind("argument.json", _argument, either(damage.of_json, damage.of_json, damage.of_bytes),
                         ("trace nets.py:Net@config=argument.json --input 1x4",
                          "trace nets.py:Net@config=argument.json@config.hidden=8 --input 1x4"))  # fmt: skip


def _weights(folder: Path) -> None:
    from made_files import config, safetensors

    config(folder, **CONFIG)
    tensors = {"up.qweight": ("I32", (16, 64)), "up.scales": ("F16", (4, 64)), "a.weight": ("BF16", (3, 5)),
               "a.bias": ("F32", (3,)), "bn.running_mean": ("F32", (7,)), "up.g_idx": ("I32", (128,))}  # fmt: skip
    safetensors(folder / "net.safetensors", tensors)
    names = dict.fromkeys(tensors, "net.safetensors")
    (folder / "net.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


WEIGHTS = ("trace {}", "trace {} --depth 1 --format json", "table {}", "verify lenet --file {}")


def _header(data: bytes, chance: Random) -> bytes:
    """A header with other values, and the length that it has or claims."""
    length = int.from_bytes(data[:8], "little")
    header = damage.of_json(data[8 : 8 + length], chance)
    claim = chance.choice((len(header),) * 6 + (1 << 60, (1 << 64) - 1, 0, len(header) + 1, len(header) - 1))
    return struct.pack("<Q", claim) + header + data[8 + length :]


KINDS["safetensors"] = Kind("net.safetensors", _weights, either(_header, _header, damage.of_bytes),
                            tuple(words.format("net.safetensors") for words in WEIGHTS))  # fmt: skip
KINDS["index"] = Kind("net.safetensors.index.json", _weights, either(damage.of_json, damage.of_bytes),
                      tuple(words.format("net.safetensors.index.json") for words in WEIGHTS))  # fmt: skip
KINDS["packing"] = Kind("config.json", _weights, either(damage.of_json, damage.of_bytes),
                        tuple(words.format("net.safetensors") for words in WEIGHTS[:3]))  # fmt: skip


def _gguf(folder: Path) -> None:
    from made_files import gguf, text

    keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
            text("general.alignment") + struct.pack("<II", 4, 32),
            text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
            text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQI", 4, 1, 7)]  # fmt: skip
    tensors = [("blk.0.attn_q.weight", (512, 3), 12, 864), ("norm.weight", (512,), 0, 2048), ("b", (), 0, 4)]
    gguf(folder / "net.gguf", tensors, keys)


KINDS["gguf"] = Kind("net.gguf", _gguf, damage.of_bytes, tuple(words.format("net.gguf") for words in WEIGHTS[:3]))


# ----------------------------------------------------------------------------------------------------------- graphs


def _onnx(folder: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "act/Relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["nn"]),
        helper.make_node("Concat", ["nn", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], "fc/Gemm", transB=1, alpha=1.0),
    ]
    values = {"w": rng.random((4, 3, 3, 3), np.float32), "b": rng.random(4, np.float32), "zero": np.array(0),
              "axes": np.array([0]), "rest": np.array([-1]), "v": rng.random((5, 64), np.float32)}  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(folder / "net.onnx"))


def _other_graph(data: bytes, chance: Random) -> bytes:
    """A graph with another value somewhere."""
    from onnx import ModelProto

    model = ModelProto.FromString(data)
    graph = model.graph
    node, one = chance.choice(graph.node), chance.choice(graph.initializer)
    name = chance.choice(["", "w", "x", "p", "s", "nothing", damage.HOSTILE, "x" * damage.LONG, "a/b.c/d"])
    number = chance.choice([0, -1, 1, 2, 3, 7, 1 << 20, 1 << 40, 1 << 60, (1 << 63) - 1, -(1 << 63)])
    kind = chance.randrange(14)
    if kind == 0 and node.input:
        node.input[chance.randrange(len(node.input))] = name
    elif kind == 1:
        node.output[0] = name
    elif kind == 2:
        node.name = name
    elif kind == 3:
        node.op_type = chance.choice(["", "Nothing", "Loop", "If", "Scan", "Softmax", "Reshape", "Conv", "Resize",
                                      "Tile",
                                      "Expand", "Range", "ConstantOfShape", "Split", "LSTM", "Pad",
                                      "Slice"])  # fmt: skip
    elif kind == 4 and one.dims:
        one.dims[chance.randrange(len(one.dims))] = number
    elif kind == 5:
        one.dims.extend([number] * chance.choice((1, 2, 100)))
    elif kind == 6:
        one.data_type = chance.choice([0, 1, 7, 8, 10, 99, 16])
    elif kind == 7 and node.attribute:
        attribute = chance.choice(node.attribute)
        if attribute.ints:
            attribute.ints[0] = number
        else:
            attribute.i = number
        attribute.type = chance.choice([attribute.type] * 4 + [1, 2, 3, 7])  # pyright: ignore
    elif kind == 8:
        del graph.node[chance.randrange(len(graph.node))]
    elif kind == 9:
        graph.node.insert(chance.randrange(len(graph.node)), node)
    elif kind == 10:
        sides = chance.choice([graph.input[0], graph.output[0]]).type.tensor_type.shape.dim
        sides[chance.randrange(len(sides))].dim_value = number
    elif kind == 11:
        model.opset_import[0].version = chance.choice([0, 1, 7, 11, 13, 99, number])
    elif kind == 12:
        one.raw_data = chance.choice([b"", one.raw_data[:-1], one.raw_data * 2, b"\xff" * len(one.raw_data)])
    else:
        graph.input[0].type.tensor_type.elem_type = chance.choice([0, 7, 8, 9, 99])
    return model.SerializeToString()


KINDS["onnx"] = Kind("net.onnx", _onnx, either(_other_graph, _other_graph, damage.of_bytes),
                     ("trace net.onnx", "table net.onnx", "draw net.onnx", "verify net.onnx"),
                     needs="onnx")  # fmt: skip


def _exported(folder: Path) -> None:
    made = """
import torch
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, 3, 8, 8),)), "net.pt2")
"""
    subprocess.run([sys.executable, "-c", made], cwd=folder, check=True, capture_output=True)


def _other_member(data: bytes, chance: Random) -> bytes:
    """An archive of which one file is damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        hit = chance.choice([name for name in names if name.endswith(".json")] * 4 + names)
        for name in names:
            body = old.read(name)
            if name == hit:
                way = damage.of_json if name.endswith(".json") and chance.random() < 0.8 else damage.of_bytes
                body = way(body, chance)
                if chance.random() < 0.1:
                    continue
            new.writestr(name, body)
    return out.getvalue()


KINDS["pt2"] = Kind("net.pt2", _exported, either(_other_member, _other_member, damage.of_bytes),
                    ("trace net.pt2", "table net.pt2", "draw net.pt2"))  # fmt: skip
