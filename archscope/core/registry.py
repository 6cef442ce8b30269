"""The one idiom of registries: what is entered by name, each name once."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(dict[str, T]):
    """Things by name. what: what one of them is, as the error message calls it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def add(self, name: str, thing: T) -> T:
        """Raises ValueError for a name that is taken."""
        if name in self:
            raise ValueError(f"the {self.what} {name!r} is registered twice")
        self[name] = thing
        return thing

    def register(self, *names: str) -> Callable[[T], T]:
        """A decorator: add what stands below it, under each of these names."""

        def decorate(thing: T) -> T:
            for name in names:
                self.add(name, thing)
            return thing

        return decorate


# what this floor shows of itself and cannot do itself; `archscope/__init__.py` adds the functions of higher rooms
PROVIDED: Registry[Callable[..., Any]] = Registry("provided function")
