"""Which packages each command loads on a stored record: PyTorch, pandas and torchvision are in none of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

OURS = {"archscope", "typer", "rich", "msgspec", "tabulate"}  # dependencies, and what these load themselves
THEIRS = {"click", "shellingham", "markdown_it", "mdurl", "pygments", "typing_extensions", "annotated_doc", "wcwidth"}
PLOTS = {"matplotlib", "mpl_toolkits", "numpy", "PIL", "kiwisolver", "contourpy", "cycler", "dateutil", "pyparsing"}
PLOTS |= {"packaging", "six", "pylab", "fontTools", "defusedxml", "cffi", "importlib_resources", "zipp"}

RUN = """
import json, sys
before = set(sys.modules)
from archscope.cli import app
try:
    app(json.loads(sys.argv[1]))
except SystemExit as end:
    assert not end.code, end.code
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print("\\n@", *sorted(n for n in names if n not in sys.stdlib_module_names and not n.startswith("_")))
"""


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """The packages outside the standard library that a command loads in a fresh process."""
    command = [sys.executable, "-c", RUN, json.dumps(arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=cwd)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.rpartition("@")[2].split())


@pytest.fixture(scope="module")
def saved(traced, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    (folder / "saved.json").write_text(traced("lenet").to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "trace saved.json",
        "trace saved.json --save again.json",
        *(f"trace saved.json --format {name}" for name in ("json", "csv", "md", "html", "latex")),
        "table saved.json",
        "table saved.json --as all",
        "explain saved.json",
        "explain saved.json conv1 --format md",
        "draw saved.json",
        "draw saved.json --format mermaid",
        "quiz saved.json",
        "verify saved.json",
        "reconcile saved.json",
        "diff saved.json saved.json",
        "report --models saved.json --html page.html",
    ],
)
def test_a_stored_record_needs_no_torch(saved, command) -> None:
    assert loaded(*command.split(), cwd=saved) <= OURS | THEIRS


@pytest.mark.parametrize("command", ["plot layers saved.json -o layers.svg", "report --models saved.json --out pages"])
def test_plots_need_matplotlib_only(saved, command) -> None:
    pytest.importorskip("matplotlib")
    assert loaded(*command.split(), cwd=saved) <= OURS | THEIRS | PLOTS


def test_a_cached_check_needs_no_torch(saved, archscope, monkeypatch) -> None:
    monkeypatch.chdir(saved)
    assert archscope("lock", "lenet").code == 0
    assert loaded("check", "--cached", cwd=saved) <= OURS | THEIRS
