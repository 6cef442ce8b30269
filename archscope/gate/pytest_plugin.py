"""For pytest: a fixture, a marker and an option; a test fails when a model differs from its lock or its budget.

    def test_net(archscope):
        archscope.assert_unchanged(Net(), (1, 3, 32, 32))
        archscope.assert_params(Net(), 60_965_224)

    @pytest.mark.archscope("net.py:Net", input="3x32x32", params="<= 3.5 M", macs="<= +2 %")
    def test_budget(): ...

`pytest --archscope-update` renews the lock instead of failing. Loading the plugin imports pytest and nothing else of
weight: torch comes with the first assertion.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any

import pytest

MARK = "archscope(model, input=None, *, name=None, lock=None, train=False, message='', **limits): the model is what \
archscope.lock says, or keeps to the limits, such as params='<= 3.5 M'"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("archscope", "archscope, the parameters, MACs and layers of models")
    group.addoption("--archscope-update", action="store_true", help="renew archscope.lock with what the models are now")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)


class Gate:
    """The fixture: the assertions of archscope, with the lock and the folder of the repository that pytest runs in."""

    def __init__(self, config: pytest.Config) -> None:
        self.renew = bool(config.getoption("--archscope-update"))
        self.root = str(config.rootpath)

    def assert_unchanged(self, model: Any, input: Any = None, **options: Any) -> None:
        """As `archscope.assert_unchanged`; `--archscope-update` writes the model down instead."""
        __tracebackhide__ = True
        from archscope.gate.asserts import assert_unchanged

        with self._at_home():
            assert_unchanged(model, input, **{"renew": self.renew, **options})

    def assert_params(self, model: Any, expected: int | str, **options: Any) -> None:
        """As `archscope.assert_params`."""
        __tracebackhide__ = True
        from archscope.gate.asserts import assert_params

        with self._at_home():
            assert_params(model, expected, **options)

    def assert_budget(self, model: Any, input: Any = None, **limits: Any) -> None:
        """As `archscope.assert_budget`."""
        __tracebackhide__ = True
        from archscope.gate.asserts import assert_budget

        with self._at_home():
            assert_budget(model, input, **limits)

    def _at_home(self) -> AbstractContextManager[None]:
        """Where the config is, and the paths of models and locks begin, wherever pytest was started."""
        from archscope.gate.budget import find
        from archscope.gate.judge import inside

        return inside(find(self.root).folder)


@pytest.fixture
def archscope(request: pytest.FixtureRequest) -> Gate:
    """Assertions about models: `assert_unchanged`, `assert_params`, `assert_budget`."""
    return Gate(request.config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The markers are checked before the test's own body, and fail the test."""
    for mark in item.iter_markers("archscope"):
        _check(Gate(item.config), mark)
    return (yield)


NAMED = ("input", "name", "lock", "train")


def _check(gate: Gate, mark: pytest.Mark) -> None:
    model, *rest = mark.args or (None,)
    if model is None or len(rest) > 1 or (rest and "input" in mark.kwargs):
        raise pytest.UsageError(f"write @pytest.mark.{MARK.partition(':')[0]}")
    options = {key: value for key, value in mark.kwargs.items() if key in NAMED}
    limits = {key: value for key, value in mark.kwargs.items() if key not in NAMED}
    if rest:
        options["input"] = rest[0]
    failure = None
    try:
        _hold(gate, model, options, limits)
    except AssertionError as error:
        failure = str(error)
    if failure is not None:
        pytest.fail(failure, pytrace=False)


def _hold(gate: Gate, model: Any, options: dict[str, Any], limits: dict[str, Any]) -> None:
    if gate.renew or not set(limits) - {"message"}:
        gate.assert_unchanged(model, **options)
    if set(limits) - {"message"}:
        gate.assert_budget(model, **options, **limits)
