"""What several tests need: every network traced at most once, and the command as a function."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

if "PYTEST_XDIST_WORKER" in os.environ:  # one core each: before PyTorch is loaded, here and in processes of tests
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from archscope import Trace, load, trace

NUMBERS = count()


class Ran(NamedTuple):
    """What a run of the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """No test finds a record that another one, or the user, has stored."""
    monkeypatch.setenv("ARCHSCOPE_CACHE", str(tmp_path_factory.getbasetemp() / f"store-{next(NUMBERS)}"))


@pytest.fixture(scope="session")
def traced() -> Callable[..., Trace]:
    """`traced("alexnet")`: the trace of a network; `traced("lenet", "8x1x28x28", train=True)` with another input."""

    @cache
    def once(spec: str, input: str | None = None, train: bool = False) -> Trace:
        model, inputs = load(spec, input)
        return trace(model, inputs, name=spec, train=train)

    return once


@pytest.fixture
def archscope() -> Callable[..., Ran]:
    """`archscope("trace", "lenet")`: run the command in this process, not on a terminal."""
    from archscope.cli import app

    def run(*arguments: str, env: dict[str, Any] | None = None) -> Ran:
        plain = {"COLUMNS": None, "NO_COLOR": None, "FORCE_COLOR": None, "ARCHSCOPE_DEBUG": None}
        words: Sequence[str] = list(arguments)
        result = CliRunner().invoke(app, words, env=plain | (env or {}), prog_name="archscope")
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
