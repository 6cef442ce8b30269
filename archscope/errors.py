"""What can go wrong, as one clear sentence each. The message is for the user; the class decides the exit code."""

from typing import Any


class ArchscopeError(Exception):
    """Anything that archscope refuses. `exit_code` is what the command line ends with."""

    exit_code = 2
    failure: Any = None  # of a run that stopped: where, and the record so far (tracer.Failure)


class SpecError(ArchscopeError):
    """A model, key, size or option that cannot be understood: what was typed, and what to type instead."""


class ShapeError(ArchscopeError, ValueError):
    """An operator or a layer refuses its input, as PyTorch would.

    expected, got: the two numbers that clash, where there are two.
    """

    exit_code = 1

    def __init__(self, message: str, *, expected: int | None = None, got: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class TraceError(ArchscopeError):
    """The model could not be run: where in the user's code, and what to do."""

    exit_code = 1
