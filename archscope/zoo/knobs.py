"""Checks of what a user sets with `NAME@key=value`: one sentence and ValueError, before anything is built."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def positive(**knobs: float) -> None:
    """Raises ValueError on the first knob that is not a number above zero."""
    for name, value in knobs.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a number above 0, not {value}")


def one_of(name: str, value: K, table: Mapping[K, T]) -> T:
    """table[value]. Raises ValueError, naming the choices, when the table has no such row."""
    if value not in table:
        raise ValueError(f"{name} must be one of {', '.join(map(str, table))}, not {value}")
    return table[value]
