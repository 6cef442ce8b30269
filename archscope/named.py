"""The registries of the house: what is entered by name, each name once."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Named(dict[str, T]):
    """Things by name. what: what one of them is, as the error says it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def enter(self, name: str, thing: T) -> T:
        """Raises ValueError for a name that is taken."""
        if name in self:
            raise ValueError(f"the {self.what} {name!r} is entered twice")
        self[name] = thing
        return thing

    def of(self, *names: str) -> Callable[[T], T]:
        """A decorator: enter what it stands over, by each of these names."""

        def over(thing: T) -> T:
            for name in names:
                self.enter(name, thing)
            return thing

        return over
