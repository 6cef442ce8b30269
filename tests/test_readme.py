"""The README: every example prints what it says, every command and option is there, the set-up lines are right."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from archscope import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [
    (lines[0][2:], lines[1:])
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for lines in (example.splitlines() for example in re.split(r"\n(?=\$ )", block.rstrip("\n")))
]


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_examples_print_what_the_readme_shows(command: str, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 100 columns. A line `…` stands for any number of lines; versions are not compared."""
    monkeypatch.setenv("COLUMNS", "100")
    program, *arguments = shlex.split(command)
    assert program == "archscope"
    result = CliRunner().invoke(cli.app, arguments)
    printed = [_unversioned(line) for line in result.output.splitlines()]
    at = 0
    anywhere = False
    for line in map(_unversioned, shown):
        if line.strip() == "…":
            anywhere = True
            continue
        found = printed.index(line, at) if anywhere else at
        assert found < len(printed) and printed[found] == line
        at, anywhere = found + 1, False
    assert anywhere or at == len(printed)


def _unversioned(line: str) -> str:
    return re.sub(r"(archscope|torch) \d\S*?(?=[,.]?(\s|$))", r"\1 …", line.rstrip())


def test_the_readme_has_examples() -> None:
    assert len(EXAMPLES) >= 5 and all(shown for _, shown in EXAMPLES)


def test_every_command_and_option_is_in_the_readme() -> None:
    group = get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f"archscope {name}" in README
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help",):
                    assert option in README, f"{name} {option}"


def test_the_set_up_lines() -> None:
    assert "pip install -e . && archscope table --models all" in README
    assert "pip install -e '.[test]' && pytest" in README
    assert not re.search(r"pip install ['\"]?archscope", README)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[test]'" in ci and "step pytest" in ci
