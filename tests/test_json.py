"""The JSON of every command: what docs/reference/schema.json says of it."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from made_files import safetensors
from made_rows import row
from test_docs import ROOT, script
from typer.main import get_command

from archscope import cli
from archscope.bench import results

jsonschema = pytest.importorskip("jsonschema", reason="pip install -e '.[test]' brings jsonschema")
schema = script("schema")
BODY: dict[str, Any] = json.loads((ROOT / "docs" / "reference" / "schema.json").read_text(encoding="utf-8"))

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, width, 3, stride=2), nn.Dropout()
    def forward(self, x):
        return torch.linalg.det(self.drop(self.conv(x)))  # no rule counts it

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.spare = nn.Linear(4, 2), nn.LSTM(3, 5)
    def forward(self, a, b):
        return self.fc(a) * b.sum()

def build(width):
    return nn.Conv2d(3, width, 3)

space = {"width": [2, 4]}
"""
LLAMA = "transformers:LlamaConfig@vocab_size=97@hidden_size=64@num_hidden_layers=2@num_attention_heads=4" + (
    "@num_key_value_heads=2@intermediate_size=128"
)
SMALL = "--dataset synthetic@train=64@test=32 --device cpu --threads 1 --checkpoints none"

# which part of the schema: commands; each gets --format json
LINES = {
    "list": ["list", "list 'torchvision:res*' lenet nets.py:*"],
    "trace": ["trace alexnet", "trace googlenet --depth 1", "trace rnn", "trace nets.py:Net -i 3x7x7 --train",
              "trace nets.py:Two -i 2x4 -i 5:int64", "trace lenet --columns path,macs"],
    "trace-step": ["trace lenet --train-step",
                   "trace nets.py:Two -i 2x4 -i 5 --train-step --optimizer adamw --depth 1"],
    "weights": ["trace net.safetensors", "trace net.safetensors --depth 1"],
    "table": ["table lenet rnn residual-block", "table nets.py:Net nets.py:Two -i 3x7x7", "table lenet net.safetensors",
              "table lenet alexnet --as all", "table lenet --train-step",
              "table lenet nin --bench runs.jsonl", "table lenet --columns macs,model"],
    "table-llm": [f"table {LLAMA} --llm --context 16"],
    "llm": [f"llm {LLAMA} --context 32 --memory '1 MB'"],
    "sizes": ["sizes alexnet", "sizes residual-block"],
    "sizes-symbolic": ["sizes lenet --symbolic"],
    "memory": ["memory lenet --batch 2 --optimizer adamw", "memory lenet --inference --depth 1"],
    "fit": ["fit lenet --memory 1GB", "fit lenet --memory 1kB"],
    "sweep": ["sweep mobilenet-v1 --over width=0.25,0.5 --over input=128,1",
              "sweep lenet --over batch=1,2 --train-step", "search nets.py:space --input 3x8x8"],
    "verify": ["verify lenet resnet18", "verify lenet --against all", "verify nets.py:Net -i 3x7x7"],
    "verify-file": ["verify nets.py:Two --file net.safetensors"],
    "reconcile": ["reconcile lenet --against torch,fvcore"],
    "reconcile-llm": [f"reconcile {LLAMA} --llm --context 16"],
    "verify-table": ["verify-table table.md"],
    "explain": ["explain alexnet conv1", "explain mobilenet-v1", "explain nets.py:Net -i 3x7x7"],
    "grade": ["grade sheet.md --all", "grade sheet.md"],
    "grade-many": ["grade sheet.md torn.md"],
    "check": ["check lenet rnn"],
    "diff": ["diff lenet lenet@num_classes=20", "diff googlenet resnet18", "diff old.lock archscope.lock"],
    "bench": ["bench compare runs.jsonl", f"bench lenet --epochs 1 {SMALL}"],
    "bench-infer": ["bench lenet --infer --batches 1,2 --device cpu --threads 1"],
    "bench-curves": ["bench compare runs.jsonl --curves"],
    "bench-list": ["bench --list"],
}  # fmt: skip
CASES = [(part, line) for part, lines in LINES.items() for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: models, weights, runs, a table, worksheets, locks."""
    home = tmp_path_factory.mktemp("json")
    (home / "nets.py").write_text(NETS, encoding="utf-8")
    safetensors(home / "net.safetensors", {"fc.weight": ("F32", (2, 4)), "fc.bias": ("F16", (3,))})
    for one in (row(), row(seed=1), row(model="nin", status="oom", error="too large", test_accuracy=None)):
        results.append(home / "runs.jsonl", one)
    (home / "table.md").write_text(
        "| model | params | FLOPs |\n| --- | --- | --- |\n| resnet18 | 11.7M | 3.6G |\n| lenet | many | 1 |\n"
    )
    (home / "torn.md").write_text("no worksheet\n")
    return home


@pytest.fixture
def answered(folder: Path, archscope: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ran]:
    """`answered("trace lenet")`: the command in that folder, with --format json."""
    monkeypatch.chdir(folder)
    if not (folder / "sheet.md").exists():
        (folder / "sheet.md").write_text(archscope("quiz", "lenet", "--answers").out.replace("156", "150"))
        assert archscope("lock", "lenet", "rnn", "--lock", "archscope.lock").code == 0
        assert archscope("lock", "lenet", "nin", "--lock", "old.lock").code == 0
    return lambda line: archscope(*shlex.split(line), "--format", "json")


def problems(body: Any, part: str) -> list[str]:
    """What is wrong with a body as this part of the schema."""
    validator = jsonschema.Draft202012Validator({**BODY, "anyOf": [{"$ref": f"#/$defs/{part}"}]})
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for found in validator.iter_errors(body)
            for error in found.context or [found]]  # fmt: skip


def test_the_file_is_a_schema_and_that_of_the_code() -> None:
    """When it is not: python docs/schema.py --update"""
    jsonschema.Draft202012Validator.check_schema(BODY)
    assert schema.schema() == BODY


@pytest.mark.parametrize(("part", "line"), CASES, ids=[line[:60] for _, line in CASES])
def test_commands_print_what_the_schema_says(answered: Callable[[str], Ran], part: str, line: str) -> None:
    if "transformers:" in line:
        pytest.importorskip("transformers", reason="pip install -e '.[test]' brings transformers")
    ran = answered(line)
    assert ran.code in (0, 1), ran.err
    body = json.loads(ran.out)
    assert body and not problems(body, part)
    head = body if isinstance(body, dict) else body[0]
    known = BODY["$defs"][part].get("properties") or BODY["$defs"][part]["items"]["properties"]
    if part not in ("table", "sweep", "check"):  # those have keys of tools, runs, axes and models
        assert set(head) == set(known), "every key that the schema has, and no other"


def test_every_command_with_json_is_tried() -> None:
    group: Any = get_command(cli.app)
    having = {
        name
        for name in cli.FILES
        for option in group.commands[name].params
        if "--format" in option.opts and "json" in (option.help or "")
    }
    assert having == {line.split()[0] for _, line in CASES}
    assert set(BODY["$defs"]) == set(LINES)


def test_the_old_keys_of_a_layer_are_as_they_were(answered: Callable[[str], Ran]) -> None:
    """The rows stand under `layers`; their totals are those of `archscope.totals`."""
    body = json.loads(answered("trace lenet").out)
    assert list(body) == ["schema", "model", "input", "train", "totals", "layers", "notes", "versions"]
    assert body["schema"] == 1 and body["model"] == "lenet"
    assert body["input"] == [{"shape": [1, 1, 28, 28], "dtype": "float32"}]
    params = (5 * 5 * 1 * 6 + 6) + (5 * 5 * 6 * 16 + 16) + (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert body["totals"]["params"] == sum(layer["params"] for layer in body["layers"]) == params
    assert body["layers"][0]["params_formula"] == "5·5·1·6 + 6 = 156"
    lower = json.loads(answered("trace nets.py:Net -i 3x7x7").out)
    assert lower["totals"]["macs_is_lower_bound"] and lower["totals"]["unknown"] and lower["notes"]


@pytest.mark.parametrize(
    ("key", "value"), [("schema", 2), ("totals", None), ("layers", [{"pathh": "conv1"}]), ("layers", [{"params": "1"}])]
)
def test_what_is_wrong_is_found(answered: Callable[[str], Ran], key: str, value: Any) -> None:
    body = json.loads(answered("trace lenet").out)
    assert not problems(body, "trace")
    assert problems({**body, key: value}, "trace")
    del body[key]
    assert problems(body, "trace")
