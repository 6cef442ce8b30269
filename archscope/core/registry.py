"""The one idiom of registries: things by name, each name once."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules
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
        """A decorator: add what it decorates under each of these names."""

        def decorate(thing: T) -> T:
            for name in names:
                self.add(name, thing)
            return thing

        return decorate

    def put_first(self, *names: str) -> None:
        """Order: these names first, those of them that are known; the others follow as they were added."""
        for name in [*(name for name in names if name in self), *(name for name in self if name not in names)]:
            self[name] = self.pop(name)


def import_folder(package: str, path: Iterable[str]) -> None:
    """Import every file of a package, so that each registers what it has. path: the package's `__path__`."""
    for file in iter_modules(path):
        import_module(f"{package}.{file.name}")


# what this floor shows of itself and cannot do itself; `archscope/__init__.py` adds the functions of higher rooms
PROVIDED: Registry[Callable[..., Any]] = Registry("provided function")
