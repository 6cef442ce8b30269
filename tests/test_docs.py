"""README and documentation: every example prints what its page shows, and every command and option is there."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_architecture import ROOMS
from typer.main import get_command

from archscope import cli
from archscope.sources.kinds import file

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def script(name: str) -> ModuleType:
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checked, hooks = script("examples"), script("hooks")
EXAMPLES: dict[Any, list[str]] = checked.examples()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
COMMANDS: dict[str, Any] = get_command(cli.app).commands  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------ examples


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{e.command} in {', '.join(p)}" for e, p in EXAMPLES.items()])
def test_examples_print_what_the_page_shows(example: Any) -> None:
    """On a terminal of 100 columns. When one does not: python docs/examples.py --update"""
    assert checked.difference(example) is None


def test_there_are_examples_everywhere() -> None:
    shown = {page for pages in EXAMPLES.values() for page in pages}
    assert {
        "README.md",
        "docs/tutorials/student.md",
        "docs/tutorials/researcher.md",
        "docs/tutorials/engineer.md",
    } <= shown
    assert len(EXAMPLES) >= 30 and all(example.shown for example in EXAMPLES)


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (("a", "b", "c"), None),
        (("a", "…", "c"), None),
        (("…", "b", "…"), None),
        (("a", "…"), None),
        (("a", "c"), "not printed here: 'c', but 'b'"),
        (("a", "b"), "not on the page: 'c'"),
        (("…", "c", "…", "b"), "not printed here: 'b'"),
        (("…", "d"), "not printed here: 'd'"),
    ],
)
def test_a_difference_is_found(shown: tuple[str, ...], wrong: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "output", lambda command: ("a", "b", "c"))
    assert checked.difference(checked.Example("archscope x", shown)) == wrong


def test_an_update_keeps_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("Title", "", "conv1  10", "conv2  20", "conv3  30", "Total  61", "note")
    monkeypatch.setattr(checked, "output", lambda command: lines)
    old = checked.Example("archscope x", ("Titel", "", "conv1  10", "…", "Total  60", "…"))
    new = checked.updated(old)
    assert new.shown == ("Title", "", "conv1  10", "…", "Total  61", "…") and checked.difference(new) is None
    assert checked.updated(new) is new


@pytest.mark.parametrize("name", sorted(checked.PICTURES))
def test_pictures_are_up_to_date(name: str) -> None:
    """When one is not: python docs/examples.py --update"""
    assert (DOCS / "images" / name).read_text(encoding="utf-8") == checked.picture(name)


def test_python_on_the_page_of_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGES["howto/python.md"], re.DOTALL):
        exec(block, names)
    assert (
        isinstance(names["trace"].layers, tuple | list)
        and names["archscope"].totals(names["trace"])["macs"] == 17_563_828_224
    )
    assert "14400" in capsys.readouterr().out.replace(",", "")  # 16 channels of 30×30 behind a kernel of 3 on 32


def test_the_gate_prints_what_its_pages_show(
    archscope: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGES["tutorials/engineer.md"]
    net = re.search(r"```python\n(from torch.*?)```", page, re.DOTALL)
    report = re.search(r"```text\n(✗ net.*?)```", page, re.DOTALL)
    assert net is not None and report is not None and report[1] in PAGES["howto/gate.md"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "net.py").write_text(net[1], encoding="utf-8")
    assert archscope("lock", "net.py:Net", "--input", "3x32x32").code == 0
    assert archscope("check").code == 0
    changed = net[1].replace("nn.Conv2d(16, 32, 1)", "nn.Conv2d(16, 32, 3, padding=1)")
    assert changed != net[1] and "nn.Conv2d(16, 32, 3, padding=1)" in page
    (tmp_path / "net.py").write_text(changed, encoding="utf-8")
    file._FILES.clear()  # another process would read the file anew
    sys.modules.pop("net", None)
    ran = archscope("check", "--format", "text")
    assert ran.code == 1 and ran.out == report[1]
    parameters = 3 * 3 * 3 * 16 + 16 + 16 * 32 + 32 + 32 * 10 + 10
    assert f"{parameters:_}" in page and f"params {parameters:,}" in report[1]
    (tmp_path / "net.py").write_text(net[1], encoding="utf-8")
    (budget,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(budget, encoding="utf-8")
    file._FILES.clear()
    sys.modules.pop("net", None)
    assert archscope("check").code == 0
    (test,) = re.findall(r"```python\n(from net .*?)```", page, re.DOTALL)
    (tmp_path / "test_net.py").write_text(test, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout


# ------------------------------------------------------------------------------------------------------ completeness


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_page_and_every_option_is_in_the_reference(name: str) -> None:
    assert any(f"archscope {name}" in text for page, text in PAGES.items() if page.startswith("howto/"))
    assert f"`{name}`" in README or f"`{name} ·" in README or f"· {name}`" in README or f"· {name} ·" in README
    section = re.search(rf"^### archscope {name} .*?(?=^###? |\Z)", hooks.command_reference(), re.MULTILINE | re.DOTALL)
    assert section is not None
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            assert all(re.search(rf"`[^`]*{option}\b", section[0]) for option in parameter.opts), parameter.opts
        assert not parameter.opts or (getattr(parameter, "help", None) or "").split("\n")[0][:20] in section[0]


def test_the_pages_name_no_option_that_is_not() -> None:
    known = {option for command in COMMANDS.values() for p in command.params for option in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "--version", "--install-completion", "--show-completion"}
    # what strangers type stands there with options that are not; tests/test_first_lines.py runs each line
    answered = "## These are answered"
    pages = {**PAGES, "howto/first-lines.md": PAGES["howto/first-lines.md"].partition(answered)[0]}
    for text in (README, *pages.values()):
        for line in re.findall(r"(?m)^\$? ?archscope .*$|`archscope [^`]*`", text):
            for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", line.partition("  #")[0]):
                assert option in known, line


def test_the_reference_has_every_tool_and_every_public_name() -> None:
    import archscope
    from archscope.peers.tools import COUNTERS

    assert all(f"| `{name}` |" in hooks.tool_reference() for name in COUNTERS)
    named = set(re.findall(r"(?m)^::: archscope\.(\w+)$", PAGES["reference/python.md"]))
    assert named == set(archscope.__all__) - {"__version__"}


def test_every_page_is_in_the_menu_and_every_link_leads_somewhere() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    notebooks = {path.relative_to(DOCS).with_suffix(".md").as_posix() for path in DOCS.rglob("*.ipynb")}
    assert set(re.findall(r"(?m): (\S+\.md)$", menu)) == set(PAGES) | notebooks
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / link).exists(), link


# ------------------------------------------------------------------------------------------------------ the README


def test_the_readme_is_short_and_has_its_parts() -> None:
    assert len(README.splitlines()) <= 250
    assert "![" in README and README.count("```console") >= 3
    for reader in ("student", "researcher", "engineer"):
        assert f"docs/tutorials/{reader}.md" in README


def test_the_set_up_lines() -> None:
    assert "pip install -e . && archscope table --models all" in README
    assert "pip install -e '.[test]' && pytest" in README
    for text in (README, *PAGES.values()):
        assert not re.search(r"pip install ['\"]?archscope(?!-torch)", text)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[test]'" in ci and "step pytest" in ci and "mkdocs build --strict" in ci


def test_what_the_readme_says_of_speed_and_agreement_was_measured() -> None:
    page = PAGES["explanation/measured.md"]
    analyse = re.search(r"<!-- analyse -->\n(.*?)<!-- /analyse -->", page, re.DOTALL)
    assert analyse is not None
    ratios = [
        tuple(map(float, found)) for found in re.findall(r"\| ([\d.]+)× \| ([\d.]+)× \|$", analyse[1], re.MULTILINE)
    ]
    said = re.search(r"at least (\d+) times quicker\s+than torchinfo and (\d+) times quicker than fvcore", README)
    assert said is not None and len(ratios) == 8  # seven networks and their sum
    assert min(a for a, _ in ratios) >= int(said[1]) and min(b for _, b in ratios) >= int(said[2])
    timm, torchvision = (
        re.search(rf"\| {s} .*\| (\d+) \| (\d+) \|$", page, re.MULTILINE) for s in ("timm", "torchvision")
    )
    assert timm is not None and torchvision is not None
    assert timm[1] == timm[2] and f"all {timm[2]} models of timm" in README
    assert torchvision[1] == torchvision[2] and f"the {torchvision[2]} models of" in README


# ------------------------------------------------------------------------------------------------------ CONTRIBUTING


def floor(room: str) -> int:
    """One above the highest room that it imports; the ground floor is 1."""
    return 1 + max(map(floor, ROOMS[room]), default=0)


def test_contributing_has_every_room_on_its_floor() -> None:
    rooms = {name: int(level) for level, name in re.findall(r"(?m)^\| (\d+) \| `(\w+)/` \|", CONTRIBUTING)}
    assert rooms == {room: floor(room) for room in ROOMS if not room.startswith("__")}


def test_contributing_names_files_that_exist() -> None:
    table = CONTRIBUTING.partition("## One place per addition")[2].partition("\n## ")[0]
    places = [
        place
        for row in re.findall(r"(?m)^\| .*$", table)
        for place in re.findall(r"`([^` ]*[/.][^` ]*)`", row.split(" | ")[-1])
    ]
    assert len(places) >= 20
    for place in places:
        assert any((home / place).exists() for home in (ROOT / "archscope", ROOT)), place
