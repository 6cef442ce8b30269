"""How models are run, beside their inputs: what `--values` and `--method` say to a command and the processes it starts.

They stand in environment variables, as `--fresh` does, so that the workers of `table --jobs` have them too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from archscope.core.errors import SpecError
from archscope.core.table import unknown

VALUES, METHOD = "ARCHSCOPE_VALUES", "ARCHSCOPE_METHOD"
MODES = ("auto", "never", "always")  # of `trace(…, values=…)`


class Conditions(NamedTuple):
    """values: whether a model runs on real values, one of MODES. method: which runs in place of `forward`."""

    values: str = MODES[0]
    method: str = "forward"


def current() -> Conditions:
    """Those that are set now. Raises SpecError for what none can be."""
    values, method = os.environ.get(VALUES) or MODES[0], os.environ.get(METHOD) or "forward"
    if values not in MODES:
        raise SpecError(unknown("value of --values", values, MODES))
    if not method.isidentifier():
        raise SpecError(f"{method!r} is no name of a method: write --method forward_features")
    return Conditions(values, method)


@contextmanager
def under(values: str | None = None, method: str | None = None) -> Iterator[None]:
    """Set them for a while; None leaves one as it is."""
    wanted = {key: value for key, value in ((VALUES, values), (METHOD, method)) if value is not None}
    before = {key: os.environ.get(key, "") for key in wanted}
    os.environ.update(wanted)
    try:
        current()
        yield
    finally:
        os.environ.update(before)
