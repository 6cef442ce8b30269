"""`lock` and `check` on a repository with a model of its own, which is changed and changed back."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archscope.gate.judge import lock
from archscope.operators import COUNTING
from archscope.sources.kinds import file as source_of_files

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 32, 1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.head(torch.relu(self.conv2(x)))


class Small(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
"""
CONFIG = """
[tool.archscope]
models = [
    {model = "net.py:Net", input = "3x8x8"},
    {model = "net.py:Small", input = "1x4"},
]
"""
PARAMS = (3 * 9 + 1) * 16 + 2 * 16 + (16 + 1) * 32 + (32 * 64 + 1) * 64 + (64 + 1) * 10
MACS = 64 * 16 * 3 * 9 + 64 * 32 * 16 + 32 * 64 * 64 + 64 * 10


class Repository:
    """A folder with a net.py and a pyproject.toml; called, it runs the command there."""

    def __init__(self, folder: Path, command: Callable) -> None:
        self.folder, self.command = folder, command
        self.write("net.py", NET)
        self.write("pyproject.toml", CONFIG)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        assert old in self.text(name)
        self.write(name, self.text(name).replace(old, new))

    def __call__(self, *arguments: str, **env: str | None):
        source_of_files._FILES.clear()  # another process would read the file anew
        sys.modules.pop("net", None)
        return self.command(*arguments, env={"GITHUB_ACTIONS": None, "GITHUB_STEP_SUMMARY": None, **env})


@pytest.fixture
def repository(tmp_path: Path, archscope, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / ".git").mkdir()
    made = Repository(tmp_path, archscope)
    ran = made("lock")
    assert (ran.code, ran.out) == (0, "archscope.lock: 2 added\n")
    yield made
    source_of_files._FILES.clear()
    sys.modules.pop("net", None)


def test_a_budget_of_a_locked_model_is_for_its_locked_input(repository: Repository) -> None:
    """The steps of the tutorial for engineers: lock with an input, then write a budget that has none."""
    repository.write("pyproject.toml", "")
    (repository.folder / "archscope.lock").unlink()
    assert repository("lock", "net.py:Net", "--input", "3x8x8").code == 0
    assert repository("lock", "lenet", "--batch", "4").code == 0
    budgets = [f'[[tool.archscope.budget]]\nmodel = "{name}"\nmacs = "<= +2 %"\n' for name in ("net.py:Net", "lenet")]
    repository.write("pyproject.toml", "".join(budgets))
    ran = repository("check")
    assert (ran.code, ran.err) == (0, "")
    assert f"✓ net.py:Net: macs {MACS:,}, within" in ran.out
    assert f"✓ lenet: macs {4 * 416_520:,}, within" in ran.out  # 416,520 in the tutorial for students
    before = repository.text("archscope.lock")
    assert repository("lock").code == 0
    assert repository.text("archscope.lock") == before


def test_what_did_not_move_is_fine(repository: Repository) -> None:
    ran = repository("check")
    assert (ran.code, ran.out, ran.err) == (0, "✓ 2 models: as locked in archscope.lock\n", "")
    locked = lock.read("archscope.lock")["net.py:Net"]
    assert (locked.totals["params"], locked.totals["macs"]) == (PARAMS, MACS)
    assert (locked.input, dict(locked.asked), locked.counting) == ("1x3x8x8", {"input": "3x8x8"}, COUNTING)


CHANGES = [  # what is edited, what is told of the layers, by how much parameters and MACs moved; the maps are 8×8
    pytest.param(
        "(width, 32, 1)", "(width, 32, 3, padding=1)",
        ["+ conv2 1×1 → 3×3, padding 0 → 1: +4,096 params, +262,144 MACs"],
        16 * 32 * (9 - 1), 64 * 16 * 32 * (9 - 1), id="kernel",
    ),
    pytest.param(
        "width=16", "width=20",
        ["+ conv1 out_channels 16 → 20: +112 params, +6,912 MACs", "+ bn1 num_features 16 → 20: +8 params",
         "+ conv2 in_channels 16 → 20: +128 params, +8,192 MACs", "… and 1 layer follows"],
        4 * (27 + 1) + 4 * 2 + 4 * 32, 64 * 4 * 27 + 64 * 4 * 32, id="width",
    ),
    pytest.param(
        "(width, 32, 1)", "(width, 32, 1, bias=False)", ["− conv2 bias removed: −32 params"], -32, 0, id="bias",
    ),
    pytest.param(
        "(width, 32, 1)", "(width, 32, 1, groups=4)", ["− conv2 groups 1 → 4: −384 params, −24,576 MACs"],
        -32 * (16 - 4), -64 * 32 * (16 - 4), id="groups",
    ),
    pytest.param(
        "(width, 32, 1)", "(width, 32, 1, padding=0, stride=1)", [], 0, 0, id="defaults",
    ),
    pytest.param(
        "nn.ReLU(), nn.Linear(64, 10)", "nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10)",
        ["+ head.3 added, Linear 64→64: +4,160 params, +4,096 MACs", "→ head.4 was head.3"],
        (64 + 1) * 64, 64 * 64, id="extra layer",
    ),
    pytest.param(
        "self.conv2", "self.mix", ["→ mix was conv2"], 0, 0, id="renamed",
    ),
    pytest.param(
        "self.bn1(self.conv1(x))", "self.conv1(x)", ["− bn1 never runs now: −2,048 FLOPs"], 0, 0, id="never runs",
    ),
    pytest.param(
        "self.bn1 = nn.BatchNorm2d(width)", "self.bn1 = nn.Identity()",
        ["− bn1 BatchNorm2d, num_features 16 → Identity: −32 params"], -2 * 16, 0, id="another kind",
    ),
    pytest.param(
        "nn.ReLU(), nn.Linear(64, 10)", "nn.GELU(), nn.Linear(64, 10)", ["~ head.2 ReLU → GELU"], 0, 0, id="GELU",
    ),
    pytest.param(
        "nn.Linear(64, 10))", "nn.Linear(64, 10)).requires_grad_(False)",
        ["~ head.1 frozen", "~ head.3 frozen", "trainable"], 0, 0, id="frozen",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "layers", "params", "macs"), CHANGES)
def test_a_layer_that_moved_is_named(
    repository: Repository, old: str, new: str, layers: list[str], params: int, macs: int
) -> None:
    before = repository.text("archscope.lock")
    repository.edit("net.py", old, new)
    ran = repository("check")
    assert ran.code == (1 if layers else 0) and ran.err == ""
    assert not (params and "memory" in ran.out) and not (macs and "flops" in ran.out), "what another total implies"
    for text in layers:
        assert text in ran.out
    assert repository.text("archscope.lock") == before
    flat = json.loads(repository("check", "--format", "json").out)
    assert flat["net.py:Net.params"] == PARAMS + params and flat["net.py:Net.params.change"] == params
    assert flat["net.py:Net.macs"] == MACS + macs and flat["net.py:Net.macs.change"] == macs
    assert (flat["net.py:Net.ok"], flat["net.py:Small.ok"], flat["ok"]) == (not layers, True, not layers)
    assert repository("check", "--update").code == 0
    assert repository("check").code == 0
    assert (repository.text("archscope.lock") == before) == (not layers)
    repository.edit("net.py", new, old)
    assert repository("check").code == (1 if layers else 0)


def test_a_changed_input_is_told_as_such(repository: Repository) -> None:
    repository.edit("pyproject.toml", "3x8x8", "2x3x8x8")
    ran = repository("check")
    assert ran.code == 1
    assert "✗ net.py:Net: the input changed\n    input 1×3×8×8 → 2×3×8×8\n" in ran.out
    assert f"macs {MACS:,} → {2 * MACS:,} (+{MACS:,}, +100.0 %)" in ran.out and "params" not in ran.out
    assert "9 layers follow" in ran.out


def test_a_model_that_vanished_is_named_and_the_others_are_checked(repository: Repository) -> None:
    before = repository.text("archscope.lock")
    repository.edit("net.py", "class Small", "class Tiny")
    ran = repository("check")
    assert ran.code == 1
    assert "✗ net.py:Small: cannot be run: net.py has no 'Small'" in ran.out and "[pyproject.toml line 5]" in ran.out
    assert "✓ net.py:Net: as locked" in ran.out
    assert repository("check", "--update").code == 1
    assert repository.text("archscope.lock") == before  # what could not be run stays as it was locked
    repository.write("net.py", "raise ImportError('no such package')")
    ran = repository("check")
    assert ran.code == 1 and ran.out.count("cannot be run") == 2


def test_a_model_that_left_the_config_is_named(repository: Repository) -> None:
    repository.edit("pyproject.toml", '    {model = "net.py:Small", input = "1x4"},\n', "")
    ran = repository("check")
    told = "is locked, and pyproject.toml does not name it: add it there, or `archscope check --update` removes it"
    assert ran.code == 1 and f"✗ net.py:Small: {told}" in ran.out
    assert repository("check", "net.py:Net").code == 0
    ran = repository("check", "--update")
    assert ran.code == 0 and "~ net.py:Small: removed from archscope.lock" in ran.out
    assert list(lock.read("archscope.lock")) == ["net.py:Net"]


def test_a_model_without_an_input_says_where_to_write_one(repository: Repository) -> None:
    repository.edit("pyproject.toml", '{model = "net.py:Small", input = "1x4"}', '"net.py:Small"')
    ran = repository("check")
    assert ran.code == 1 and 'in pyproject.toml: {model = "net.py:Small", input = "…"}' in ran.out


def test_a_model_that_is_not_locked_is_named(repository: Repository) -> None:
    repository.edit("pyproject.toml", "models = [", 'models = ["lenet",')
    ran = repository("check")
    assert ran.code == 1 and "✗ lenet: is not in archscope.lock; `archscope lock 'lenet'` adds it" in ran.out
    assert repository("lock", "lenet").out == "archscope.lock: 1 added\n"
    assert repository("check").code == 0
    assert repository("check", "--update").out == "✓ 3 models: locked in archscope.lock\n"


def test_lock_without_names_is_the_config(repository: Repository) -> None:
    ran = repository("lock", "lenet", "net.py:Net")
    told = "! lenet: pyproject.toml does not name it, as `archscope check` will say: add it there\n"
    assert ran.out == f"{told}archscope.lock: 1 added, 1 as before\n"
    ran = repository("lock")
    assert ran.code == 0
    assert ran.out == "− lenet: removed, pyproject.toml does not name it\narchscope.lock: 2 as before, 1 removed\n"


def test_lock_says_what_it_accepts(repository: Repository) -> None:
    repository.edit("net.py", "width=16", "width=20")
    ran = repository("lock", "net.py:Net")
    assert ran.code == 0 and "~ net.py:Net: 3 layers changed" in ran.out
    assert "+ conv1 out_channels 16 → 20: +112 params, +6,912 MACs" in ran.out
    assert ran.out.endswith("archscope.lock: 1 renewed\n")


def test_without_a_config_the_lock_says_what_to_check(repository: Repository) -> None:
    os.remove("pyproject.toml")
    assert repository("check").code == 0
    repository.edit("net.py", "width=16", "width=8")
    assert repository("check").code == 1
    assert repository("check", "--update").code == 0 and repository("check").code == 0
    assert dict(lock.read("archscope.lock")["net.py:Net"].asked) == {"input": "3x8x8"}
    assert repository("lock").out == "archscope.lock: 2 as before\n"


def test_it_works_from_a_folder_below(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository.folder / "sub").mkdir()
    monkeypatch.chdir(repository.folder / "sub")
    assert repository("check").code == 0
    assert not (repository.folder / "sub" / "archscope.lock").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "lenett"], "has no model 'lenett'"),
        (["check", "net.py:Nte"], "did you mean net.py:Net?"),
        (["check", "--format", "xml"], "unknown format 'xml': choose from text, github, md, junit, json"),
        (["check", "--lock", "other.lock"], "there is no other.lock; `archscope lock MODEL` writes it"),
        (["check", "--output", "no/where.xml"], "there is no folder"),
        (["lock", "--input", "3x8x8"], "name the models that the input is for"),
        (["lock", "alexnt"], "did you mean alexnet"),
        (["lock", "lenet", "--lock", ""], "--lock names no file"),
    ],
)
def test_what_cannot_be_understood(repository: Repository, words: list[str], told: str) -> None:
    before = repository.text("archscope.lock")
    ran = repository(*words)
    assert ran.code == 2 and told in ran.err and ran.out == "" and ran.err.count("\n") == 1
    assert repository.text("archscope.lock") == before


def test_nothing_to_lock(tmp_path: Path, archscope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for command in ("lock", "check"):
        ran = archscope(command)
        assert ran.code == 2 and "archscope lock MODEL" in ran.err
    assert archscope("lock", "lenet", "--input", "3").code == 1  # too small to run
    assert os.listdir(tmp_path) == [".git"]


BROKEN = {
    "cut off": lambda text: text[: len(text) // 2],
    "by hand": lambda text: text.replace('"params":448', '"params":449'),
    "newer": lambda text: text.replace('{"archscope_lock":1}', '{"archscope_lock":7}'),
    "conflict": lambda text: text.replace('{"layer":"conv1"', '<<<<<<< HEAD\n{"layer":"conv1"'),
    "not a lock": lambda text: "{}",
    "empty": lambda text: "",
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("words", [["check"], ["check", "--update"], ["lock"], ["lock", "lenet"]], ids=" ".join)
def test_a_broken_lock_is_told_and_not_written_over(repository: Repository, how: str, words: list[str]) -> None:
    broken = BROKEN[how](repository.text("archscope.lock"))
    repository.write("archscope.lock", broken)
    ran = repository(*words)
    assert ran.code == 2 and ran.out == "" and ran.err.startswith("archscope: archscope.lock")
    assert ran.err.count("\n") == 1 and ("line" in ran.err or "is empty" in ran.err)
    assert repository.text("archscope.lock") == broken


def test_another_convention_cannot_be_compared(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    from archscope.gate import judge as gate

    with monkeypatch.context() as later:
        later.setattr(gate, "COUNTING", COUNTING + 1)
        ran = repository("check")
        assert ran.code == 1 and ran.out.count("its figures cannot be compared") == 2
        assert repository("check", "--update").code == 0
    ran = repository("check")
    assert ran.code == 1 and "upgrade it" in ran.out


def test_the_docstring_of_the_rules_says_the_same_version() -> None:
    from archscope import operators as ops

    assert f"Counting semantics, version {COUNTING}\n" in str(ops.__doc__)


# ------------------------------------------------------------------------------------------------------- coverage

UNKNOWN = """
import torch
from torch import nn


class Odd(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvalsh(x)
"""


def test_an_operator_without_a_rule(repository: Repository) -> None:
    from archscope.operators import RULES

    assert "aten._linalg_eigh" not in RULES
    repository.write("odd.py", UNKNOWN)
    repository.write("pyproject.toml", '[tool.archscope]\nmodels = [{model = "odd.py:Odd", input = "1x4x4"}]\n')
    assert repository("lock").code == 0
    locked = lock.read("archscope.lock")["odd.py:Odd"]
    assert locked.totals["unknown"]
    ran = repository("check")
    assert ran.code == 0 and "· odd.py:Odd: the cost of these operators is unknown" in ran.out
    ran = repository("check", "--require-coverage")
    assert ran.code == 1 and "✗ odd.py:Odd: no rule knows the cost of aten." in ran.out
    repository.edit("pyproject.toml", "models", "require_coverage = true\nmodels")
    assert repository("check").code == 1


# --------------------------------------------------------------------------------------------------------- cached


def test_cached_needs_no_torch(repository: Repository) -> None:
    repository.write("pyproject.toml", '[tool.archscope]\nmodels = ["lenet", "vgg11@num_classes=10"]\n')
    assert repository("lock").code == 0
    code = (
        "import sys\nfrom archscope.cli import app\n"
        "try: app(['check', '--cached'])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "✓ 2 models: as locked in archscope.lock (not run again)\n"


@pytest.mark.parametrize("key", ["archscope", "torch", "code"])
def test_cached_runs_what_may_have_changed(repository: Repository, key: str) -> None:
    repository.write("pyproject.toml", '[tool.archscope]\nmodels = ["lenet", "lenet-bn"]\n')
    repository("lock")

    def older(now: lock.Lock) -> lock.Lock:
        entry = now["lenet"]
        lines = tuple(line._replace(params=line.params + 1) if line.path == "fc3" else line for line in entry.lines)
        changed = {"made": {**entry.made, key: "0"}, "lines": lines}
        return now | {"lenet": lock.Entry(**{**vars(entry), **changed})}

    lock.update("archscope.lock", older)
    ran = repository("check", "--cached")
    assert ran.code == 1 and "− fc3" in ran.out and "✓ lenet-bn: as locked in archscope.lock (not run again)" in ran.out


def test_cached_does_not_believe_another_convention(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    from archscope.gate import judge as gate

    repository.write("pyproject.toml", '[tool.archscope]\nmodels = ["lenet"]\n')
    repository("lock")
    monkeypatch.setattr(gate, "COUNTING", COUNTING + 1)
    ran = repository("check", "--cached")
    assert ran.code == 1 and "its figures cannot be compared" in ran.out


def test_cached_runs_users_models_and_other_inputs(repository: Repository) -> None:
    repository.write(
        "pyproject.toml", '[tool.archscope]\nmodels = ["lenet", {model = "net.py:Net", input = "3x8x8"}]\n'
    )
    repository("lock")
    assert repository("check", "--cached").out == "✓ 2 models: as locked in archscope.lock (1 not run again)\n"
    repository.edit("pyproject.toml", '"lenet"', '{model = "lenet", batch = 4}')
    ran = repository("check", "--cached")
    assert ran.code == 1 and "input 1×1×28×28 → 4×1×28×28" in ran.out


# -------------------------------------------------------------------------------------------------------- reports


@pytest.fixture
def moved(repository: Repository) -> Repository:
    """conv2 is 3×3 now, Small is gone, and there is a budget that does not hold, at line 7."""
    repository.write(
        "pyproject.toml",
        f"""{CONFIG.strip()}
[[tool.archscope.budget]]
model = "net.py:Net"
params = "<= 100 K"
depth = "<= 9"
message = "ask, first: 100 %"
""",
    )
    repository.edit("net.py", "(width, 32, 1)", "(width, 32, 3, padding=1)")
    repository.edit("net.py", "class Small", "class Tiny")
    return repository


OVER = f"params {PARAMS + 4096:,}, over the limit <= 100 K by {PARAMS + 4096 - 100_000:,}"


def test_text(moved: Repository) -> None:
    ran = moved("check")
    assert ran.code == 1
    assert f"✗ net.py:Net: {OVER} (36.9 %) [pyproject.toml line 8]\n    ask, first: 100 %\n" in ran.out
    assert "✓ net.py:Net: depth 4, within <= 9\n" in ran.out
    assert ran.out.endswith(
        "2 models checked: 1 changed, 1 over budget, 1 not comparable; `archscope check --update` accepts the changes\n"
    )


def test_github(moved: Repository) -> None:
    ran = moved("check", GITHUB_ACTIONS="true", GITHUB_WORKSPACE=str(moved.folder.parent))
    folder = moved.folder.name
    commands = [line for line in ran.out.splitlines() if line.startswith("::")]
    assert ran.code == 1 and len(commands) == 3
    lines = moved.text("archscope.lock").splitlines()
    conv2 = next(i for i, line in enumerate(lines, 1) if '"layer":"conv2"' in line)
    assert commands[0].startswith(
        f"::error file={folder}/archscope.lock,line={conv2},title=archscope%3A net.py%3ANet::1 layer changed%0Aparams"
    )
    assert commands[1].startswith(f"::error file={folder}/pyproject.toml,line=8,title=archscope%3A net.py%3ANet::")
    assert commands[1].endswith("%0Aask, first: 100 %25")
    assert commands[2].startswith(f"::error file={folder}/pyproject.toml,line=4,")
    assert moved("check", "--format", "text", GITHUB_ACTIONS="true").out == moved("check").out


def test_the_step_summary_is_appended_to(moved: Repository) -> None:
    summary = moved.folder / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    moved("check", GITHUB_STEP_SUMMARY=str(summary))
    moved("check", GITHUB_STEP_SUMMARY=str(summary))
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n### ✗ archscope\n") and text.count("### ✗ archscope") == 2
    ran = moved("check", GITHUB_STEP_SUMMARY=str(moved.folder))
    assert ran.code == 2 and "cannot write $GITHUB_STEP_SUMMARY" in ran.err


def test_markdown(moved: Repository) -> None:
    out = moved("check", "--format", "md").out
    assert "| changed  | conv2   | 1×1 → 3×3, padding 0 → 1 |       +4,096 | +262,144 |" in out
    assert "<details><summary>net.py:Net: 1 layer changed</summary>\n\n**Totals**" in out
    assert f"- ✗ **net.py:Net**: {OVER} (36.9 %)" in out


def test_junit(moved: Repository) -> None:
    assert moved("check", "--format", "junit", "--output", "report.xml").out == moved("check").out
    suite = ElementTree.parse("report.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "1")
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert list(cases) == [
        ("archscope.net.py:Net", "as locked"),
        ("archscope.net.py:Net", "params <= 100 K"),
        ("archscope.net.py:Net", "depth <= 9"),
        ("archscope.net.py:Small", "as locked"),
    ]
    told = cases["archscope.net.py:Net", "as locked"][0]
    assert told.tag == "failure" and "+ conv2 1×1 → 3×3" in str(told.text)
    assert len(cases["archscope.net.py:Net", "depth <= 9"]) == 0
    assert cases["archscope.net.py:Small", "as locked"][0].tag == "error"


def test_json_is_flat(moved: Repository) -> None:
    said = json.loads(moved("check", "--format", "json").out)
    assert all(type(value) in (int, bool, str) for value in said.values())
    assert said["net.py:Net.macs.change"] == 262_144 and said["ok"] is False
    assert "over the limit" in said["net.py:Net.problem"] and "cannot be run" in said["net.py:Small.problem"]


def test_only_the_largest_of_many_layers_are_told(repository: Repository) -> None:
    repository.write("pyproject.toml", '[tool.archscope]\nmodels = [{model = "resnet50", input = "64"}]\n')
    repository("lock")
    entry = lock.read("archscope.lock")["resnet50"]
    lines = tuple(line._replace(config={**line.config, "was": 1}) for line in entry.lines)
    lock.update("archscope.lock", lambda now: now | {"resnet50": lock.Entry(**{**vars(entry), "lines": lines})})
    out = repository("check").out
    assert f"… and {len(entry.lines) - 20} more layers" in out and len(out.splitlines()) < 30
    assert moved_rows(repository("check", "--format", "md").out) == len(entry.lines)


def moved_rows(text: str) -> int:
    return sum(line.startswith("| changed") for line in text.splitlines())


def test_this_repository_is_as_it_is_locked(archscope) -> None:
    """What .ci/run does. The layers of AlexNet are in the lock, with the counts that are derived by hand."""
    from archscope.zoo.catalogue import entries

    root = Path(__file__).parent.parent
    locked = lock.read(str(root / "archscope.lock"))
    assert list(locked) == sorted(entries())
    params = {line.path: line.params for line in locked["alexnet"].lines if line.params}
    assert params == {
        "conv1": (11 * 11 * 3 + 1) * 96,
        "conv2": (5 * 5 * 48 + 1) * 256,
        "conv3": (3 * 3 * 256 + 1) * 384,
        "conv4": (3 * 3 * 192 + 1) * 384,
        "conv5": (3 * 3 * 192 + 1) * 256,
        "fc6": (6 * 6 * 256 + 1) * 4096,
        "fc7": (4096 + 1) * 4096,
        "fc8": (4096 + 1) * 1000,
    }
    assert "step archscope check" in (root / ".ci" / "run").read_text(encoding="utf-8")
    here = os.getcwd()
    os.chdir(root)
    try:
        ran = archscope("check", env={"GITHUB_ACTIONS": None, "GITHUB_STEP_SUMMARY": None})
    finally:
        os.chdir(here)
    assert (ran.code, ran.err) == (0, ""), ran.out
