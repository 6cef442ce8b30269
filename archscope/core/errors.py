"""What can go wrong, as one clear sentence each. The message is for the user; the class decides the exit code."""

from typing import Any

from archscope.core.registry import PROVIDED


class ArchscopeError(Exception):
    """Anything that archscope refuses. `exit_code` is what the command line ends with."""

    exit_code = 2
    shown = False  # whether a command has printed the layers up to the failure
    failure: Any = None  # of a run that stopped: where, and the record so far (failure.Failure)


class SpecError(ArchscopeError):
    """A model, key, size or option that cannot be understood: what was typed, and what to type instead."""


class ShapeError(ArchscopeError, ValueError, RuntimeError):
    """An operator or a layer refuses its input, as PyTorch would: a forward catches it as PyTorch's own, too.

    expected, got: the two numbers that clash, where there are two.
    """

    exit_code = 1

    def __init__(self, message: str, *, expected: int | None = None, got: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got

    @property
    def __notes__(self) -> list[str]:
        """The diagnosis, which Python prints below the error's own sentence; made when a traceback is printed."""
        if self.failure is None:
            return []
        try:
            said = PROVIDED["diagnosis"](self)
        except Exception:  # the error itself is what counts
            return []
        return [said] if said != str(self) else []

    def explain(self, width: int | None = None, color: bool = False) -> str:
        """Everything that can be said: the layers up to the failure, the numbers that clash, what would mend it.

        width: of the terminal; None: as wide as it is.
        """
        return PROVIDED["explanation"](self, width, color)


class TraceError(ArchscopeError):
    """The model could not be run: where in the user's code, and what to do."""

    exit_code = 1
