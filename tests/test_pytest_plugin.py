"""The pytest plugin, on tests of its own; and the assertions without pytest."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import archscope as public
from archscope.gate.judge import lock

pytest_plugins = "pytester"

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.fc = nn.Linear(width * 64, 10)

    def forward(self, x):
        return self.fc(self.conv1(x).flatten(1))
"""
PARAMS = (3 * 9 + 1) * 16 + (16 * 64 + 1) * 10
MACS = 64 * 16 * 27 + 16 * 64 * 10
MORE = 4 * (3 * 9 + 1) + 4 * 64 * 10  # parameters, where the width is 20


@pytest.fixture(scope="module")
def warm() -> None:
    """What the runs import late is there before: pytester forgets what was imported since it began."""
    from archscope.cli import gate
    from archscope.sources.kinds import file as source_of_files

    assert gate.app and source_of_files.Files
    public.assert_budget("lenet", params="<= 1 M")


@pytest.fixture
def run(warm: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """`run(text, *options)`: run pytest on a file of tests beside a net.py."""
    pytester.makepyfile(net=NET)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the plugins of others take seconds to load
    (pytester.path / ".git").mkdir()

    def once(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=f"import pytest\nfrom net import Net\n\n{text}")
        plugins = ("-p", "archscope.gate.pytest_plugin", "-p", "no:cacheprovider")
        sys.modules.pop("net", None)  # of another test
        result = pytester.runpytest_inprocess(*plugins, "--strict-markers", *options)
        for name in ("net", "test_it"):
            sys.modules.pop(name, None)
        return result

    return once


UNCHANGED = """
def test_net(archscope):
    archscope.assert_unchanged(Net(WIDTH), (1, 3, 8, 8))
"""


def test_a_model_is_written_down_and_then_compared(run, pytester: pytest.Pytester) -> None:
    same = UNCHANGED.replace("WIDTH", "16")
    result = run(same)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Net is not in archscope.lock: `pytest --archscope-update`*"])
    run(same, "--archscope-update").assert_outcomes(passed=1)
    entry = lock.read(str(pytester.path / "archscope.lock"))["Net"]
    assert (entry.totals["params"], entry.totals["macs"], entry.by) == (PARAMS, MACS, "python")
    run(same).assert_outcomes(passed=1)
    result = run(UNCHANGED.replace("WIDTH", "20"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Net is not what archscope.lock says: 2 layers changed",
            f"*params {PARAMS:,} → {PARAMS + MORE:,} *",
            "*+ conv1 out_channels 16 → 20: +112 params, +6,912 MACs",
            "*+ fc in_features 1024 → 1280: +2,560 params, +2,560 MACs",
        ]
    )
    run(UNCHANGED.replace("WIDTH", "20"), "--archscope-update").assert_outcomes(passed=1)
    run(UNCHANGED.replace("WIDTH", "20")).assert_outcomes(passed=1)


def test_parameters(run) -> None:
    run(f"def test_net(archscope):\n    archscope.assert_params(Net(), {PARAMS})\n").assert_outcomes(passed=1)
    result = run(f"def test_net(archscope):\n    archscope.assert_params(Net(20), {PARAMS})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*Net has {PARAMS + MORE:,} parameters, not {PARAMS:,} (+{MORE:,})",
            "*fc (Linear): 12,810",
            "*conv1 (Conv2d): 560",
        ]
    )
    run(UNCHANGED.replace("WIDTH", "16"), "--archscope-update")
    result = run(f"def test_net(archscope):\n    archscope.assert_params(Net(20), {PARAMS})\n")
    result.stdout.fnmatch_lines(["*since archscope.lock:", "*+ conv1 out_channels 16 → 20: +112 params"])


def test_budgets(run) -> None:
    text = (
        "def test_net(archscope):\n    archscope.assert_budget(Net(), '1x3x8x8', params='<= 11 K', macs='<= LIMIT K')\n"
    )
    run(text.replace("LIMIT", "40")).assert_outcomes(passed=1)
    result = run(text.replace("LIMIT", "20"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*Net: macs {MACS:,}, over the limit <= 20 K by {MACS - 20_000:,} *"])


MARKED = """
@pytest.mark.archscope(Net, (1, 3, 8, 8))
def test_unchanged(): ...


@pytest.mark.archscope(Net, (1, 3, 8, 8), params=PARAMS)
@pytest.mark.archscope(Net, input="1x3x8x8", macs="<= +2 %", message="ask first")
def test_budget(archscope):
    archscope.assert_params(Net(), "<= 1 M")


@pytest.mark.archscope("net.py:Net", "3x8x8", macs="<= 1 K", message="ask first")
def test_over(): ...


@pytest.mark.archscope("lenet", params=61_706)
def test_zoo(): ...
"""


def test_markers(run, pytester: pytest.Pytester) -> None:
    text = MARKED.replace("PARAMS", str(PARAMS))
    run(text, "--archscope-update").assert_outcomes(passed=3, failed=1)
    assert list(lock.read(str(pytester.path / "archscope.lock"))) == ["Net", "lenet", "net.py:Net"]
    result = run(text)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines([f"net.py:Net: macs {MACS:,}, over the limit <= 1 K by *", "*ask first"])
    pytester.makepyfile(net=NET.replace("width=16", "width=20"))
    result = run(text, "-k", "not over")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*+ conv1 out_channels 16 → 20: +112 params, +6,912 MACs"])


def test_it_is_the_lock_of_the_repository_wherever_pytest_is_started(
    run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "@pytest.mark.archscope('net.py:Net', '3x8x8')\ndef test_net(): ...\n"
    (pytester.path / "archscope.toml").write_text("")
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "sub").mkdir()
    monkeypatch.chdir(pytester.path / "sub")
    run(text, str(pytester.path / "test_it.py"), "--archscope-update").assert_outcomes(passed=1)
    assert list(lock.read(str(pytester.path / "archscope.lock"))) == ["net.py:Net"]


def test_a_marker_without_a_model_says_how(run) -> None:
    result = run("@pytest.mark.archscope(params=3)\ndef test_net(): ...\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*write @pytest.mark.archscope(model, input=None*"])


def test_a_broken_lock_is_told(run, pytester: pytest.Pytester) -> None:
    (pytester.path / "archscope.lock").write_text("{}\n")
    result = run(UNCHANGED.replace("WIDTH", "16"), "--archscope-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LockError: *archscope.lock line 1: this is not a lock of archscope*"])
    assert (pytester.path / "archscope.lock").read_text() == "{}\n"


def test_the_command_leaves_what_only_python_can_build(run, pytester: pytest.Pytester, archscope) -> None:
    run(UNCHANGED.replace("WIDTH", "16"), "--archscope-update")
    (pytester.path / "archscope.toml").write_text('models = ["lenet"]\n')
    assert archscope("lock").out == "archscope.lock: 1 added\n"
    assert archscope("check", env={"GITHUB_ACTIONS": None}).out == "✓ lenet: as locked in archscope.lock\n"
    assert list(lock.read("archscope.lock")) == ["Net", "lenet"]


def test_pytest_finds_the_plugin() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\narchscope = "archscope.gate.pytest_plugin"\n' in text


def test_loading_the_plugin_imports_nothing_of_weight() -> None:
    code = (
        "import sys, archscope.gate.pytest_plugin\n"
        "heavy = {'torch', 'numpy', 'pandas', 'typer', 'rich', 'tabulate', 'torchvision'} & set(sys.modules)\n"
        "ours = {name for name in sys.modules if name.startswith('archscope.')}\n"
        "own = {'core', 'core.registry', 'gate', 'gate.pytest_plugin'};"
        "assert not heavy and ours == {f'archscope.{name}' for name in own}, (heavy, ours)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ----------------------------------------------------------------------------------------------- without pytest


class Tied(nn.Module):
    """A module whose two linear layers share their weight, which counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4, bias=False)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(self.two.bias.detach().clone())

    def forward(self, x, y=None):
        return self.two(self.one(x)) * self.scale + (0 if y is None else y)


def test_from_python(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    public.assert_unchanged(Tied(), (2, 4), lock=path, renew=True)
    public.assert_unchanged(Tied(), "2x4", lock=path)
    public.assert_unchanged(Tied, (2, 4), lock=path)
    public.assert_params(Tied(), 4 * 4 + 4 + 4, lock=path)
    public.assert_params(Tied(), "<= +0 %", lock=path)
    public.assert_budget(Tied(), (2, 4), lock=path, macs=2 * (2 * 4 * 4), params="< 25")
    with pytest.raises(AssertionError, match="the input changed"):
        public.assert_unchanged(Tied(), (3, 4), lock=path)
    with pytest.raises(AssertionError, match="Other is not in"):
        public.assert_unchanged(Tied(), (2, 4), lock=path, name="Other")
    public.assert_unchanged(Tied(), (2, 4), lock=path, name="net.py:Locked", renew=True)
    with pytest.raises(AssertionError, match="Locked is not in .*; `name='net.py:Locked'` means the one that is there"):
        public.assert_unchanged(Tied(), (2, 4), lock=path, name="Locked")
    with pytest.raises(AssertionError, match=r"24 parameters, not 25 \(-1\)"):
        public.assert_params(Tied(), 25, lock=path)
    public.assert_unchanged(Tied(), ["2x4", "y=2x4"], lock=path, name="both", renew=True)
    public.assert_unchanged(Tied(), {"x": (2, 4), "y": (2, 4)}, lock=path, name="both")


def test_names_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    public.assert_unchanged("lenet", lock=path, renew=True)
    public.assert_unchanged("lenet", lock=path)
    model, inputs = public.load("lenet")
    public.assert_unchanged(model, inputs, lock=path)
    public.assert_params("lenet", 61_706, lock=path)
    other, inputs = public.load("lenet@num_classes=20")
    with pytest.raises(AssertionError, match=r"\+ fc3 out_features 10 → 20: \+850 params, \+840 MACs"):
        public.assert_unchanged(other, inputs, lock=path, name="lenet")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda path: public.assert_unchanged(nn.Linear(2, 2), lock=path), "give the input"),
        (lambda path: public.assert_unchanged(3, lock=path), "3 is neither a module"),
        (lambda path: public.assert_params(nn.Linear(2, 2), "a few", lock=path), "is no limit"),
        (lambda path: public.assert_budget(nn.Linear(2, 2), (1, 2), lock=path), "no limit was given"),
        (lambda path: public.assert_budget(nn.Linear(2, 2), (1, 2), lock=path, parms=3), "did you mean params?"),
    ],
)
def test_what_cannot_be_understood(tmp_path: Path, call, told: str) -> None:
    with pytest.raises(public.SpecError) as caught:
        call(tmp_path / "a.lock")
    assert told in str(caught.value)
