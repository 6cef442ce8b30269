"""Running a user's own code: what it may not do to the process that runs it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NoReturn

from archscope.core.errors import TraceError

HOME = Path(__file__).parent.parent


@contextmanager
def user_code() -> Iterator[None]:
    """Run a user's code: its prints go to stderr, because scripts read results from stdout.

    Raises TraceError where the code calls `sys.exit` or `os._exit`. Otherwise `sys.exit(0)` in a model's file would end
    `archscope check` with exit code 0.
    """
    before, process = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:  # a forked child may end itself
            before(status)
        raise SystemExit(status)

    os._exit = refuse
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        raise TraceError(f"the model's code ends the process, by exit({code}) at {_line_of(error)}") from error
    finally:
        os._exit = before


def _line_of(error: BaseException) -> str:
    """`nets.py:12`: the innermost line outside archscope."""
    found, at = "an unknown line", error.__traceback__
    while at is not None:
        file = Path(at.tb_frame.f_code.co_filename)
        if not file.is_relative_to(HOME) and file.name != "contextlib.py" and "_sitebuiltins" not in file.name:
            found = f"{file}:{at.tb_lineno}"
        at = at.tb_next
    return found
