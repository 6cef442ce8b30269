"""What other repositories use: the action, the hooks, the workflow and the snippets."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
BASH = shutil.which("bash")


def step(key: str) -> dict[str, Any]:
    return next(one for one in ACTION["runs"]["steps"] if one.get("id") == key)


@pytest.fixture
def act(tmp_path: Path):
    """Run the action's own script as GitHub does: `act("lenet", "--cached")` -> exit code, stdout, outputs, summary."""
    (tmp_path / ".git").mkdir()

    def run(models: str, arguments: str) -> tuple[int, str, dict[str, str], str]:
        outputs, summary = tmp_path / "outputs", tmp_path / "summary"
        for file in (outputs, summary):
            file.write_text("", encoding="utf-8")
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MODELS": models,
            "ARGUMENTS": arguments,
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(tmp_path),
            "GITHUB_OUTPUT": str(outputs),
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step("check")["run"]]
        ran = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False)
        said = dict(line.split("=", 1) for line in outputs.read_text(encoding="utf-8").splitlines())
        return ran.returncode, ran.stdout + ran.stderr, said, summary.read_text(encoding="utf-8")

    return run


@pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="a script of bash")
def test_the_action(act, tmp_path: Path, archscope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archscope("lock", "lenet", "mnist-cnn")
    code, out, said, summary = act("", "--cached")
    assert (code, said["ok"]) == (0, "true"), out
    assert "✓ 2 models: as locked" in out and summary.startswith("### ✓ archscope")
    assert Path(said["markdown"]).read_text(encoding="utf-8") + "\n" == summary
    (tmp_path / "archscope.toml").write_text('[[budget]]\nmodel = "lenet"\nparams = "<= 1 K"\n')
    code, out, said, summary = act("le* mnist-cnn", "--cached --require-coverage")
    assert (code, said["ok"]) == (1, "false")
    assert "::error file=archscope.toml,line=3," in out and summary.startswith("### ✗ archscope")
    code, out, said, _ = act("$(touch no) nothing*", "")
    assert (code, said["ok"]) == (2, "false") and not (tmp_path / "no").exists()


def test_the_action_uses_its_inputs() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(ACTION["inputs"])
    for one in ACTION["runs"]["steps"]:
        assert "${{" not in one.get("run", ""), "what a user wrote never becomes part of a script"


def test_the_hooks() -> None:
    from typer.main import get_command

    from archscope import cli

    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")):
        program, command, *options = hook["entry"].split()
        assert program == "archscope" and hook["pass_filenames"] is False
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(options) <= known
        assert re.search(hook["files"], "pkg/net.py") and re.search(hook["files"], "archscope.lock")
        assert not re.search(hook["files"], "README.md")


def test_the_workflow_runs_what_ci_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    runs = [one.get("run", "") for job in jobs.values() for one in job["steps"]]
    assert ".ci/run" in runs and any(one.get("uses") == "./" for one in jobs["gate"]["steps"])
    for name in re.findall(r"tests/\S+\.py", " ".join(runs)):
        assert (ROOT / name).exists()


def test_the_snippets_of_the_documentation_are_yaml_and_name_real_options() -> None:
    from typer.main import get_command

    from archscope import cli

    text = (ROOT / "docs" / "howto" / "ci.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5 and all(yaml.safe_load(block) for block in blocks)
    check = get_command(cli.app).commands["check"]  # type: ignore[attr-defined]
    known = {option for parameter in check.params for option in parameter.opts}
    for line in re.findall(r"archscope check ([^`\n|;]*)", text):
        assert {word for word in line.split() if word.startswith("--")} <= known
    hooks = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
    assert set(re.findall(r"archscope-(?:check|update)", text)) == hooks
