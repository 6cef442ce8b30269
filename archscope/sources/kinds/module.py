"""Models of an installed package: `package.module:factory`, the working folder on the import path."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from archscope.core.errors import SpecError, TraceError
from archscope.core.table import did_you_mean
from archscope.sources.guard import user_code
from archscope.sources.kinds.file import PythonModels
from archscope.sources.source import SOURCES, prefixes


@SOURCES.register("module")
class Packages(PythonModels):
    form = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^:]*"
    help = "package.module:NAME"
    order = 12  # a file may be called `run:1.json`

    def holder(self, where: str) -> ModuleType:
        return _imported(where)

    def keys(self, name: str) -> None:
        """Only the builder knows its arguments. Raises SpecError where there is no such package; none is imported."""
        where, _, _ = name.rpartition(":")
        with _here():
            if find_spec(where.partition(".")[0]) is None:
                raise SpecError(_absent(where))


def _absent(where: str) -> str:
    question = did_you_mean(where, prefixes())
    asked = f"there is no source of models and no package {where!r}"
    return f"{asked}{f': {question}' if question else ''} (sources are {', '.join(prefixes())})"


@contextmanager
def _here() -> Iterator[None]:
    """The working folder is on the import path."""
    added = "" not in sys.path and "." not in sys.path
    if added:
        sys.path.insert(0, "")
    try:
        yield
    finally:
        if added:
            sys.path.remove("")


def _imported(where: str) -> ModuleType:
    """Raises SpecError for a package that is not there, TraceError for one that fails."""
    with _here():
        try:
            with user_code():
                return import_module(where)
        except TraceError:
            raise
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise TraceError(f"{where} cannot be imported: {error}") from error
            raise SpecError(_absent(where)) from error
        except Exception as error:
            raise TraceError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
