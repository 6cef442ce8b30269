"""The arguments of a user's own builder, from those that were typed: nested, from a file, of the annotated class.

    config.hidden=512       a field of the argument `config`
    config=cfg.yaml         the content of a file: YAML, JSON or TOML
    layers=[64,128]         a list; a tuple where the builder says so

What is built follows the annotation of the parameter, then its default: a dataclass or any other class, a mapping, or
without either `Settings`. A parameter that takes text (`path: str`, `path="a.yaml"`) gets the text.
"""

import copy
import dataclasses
import inspect
import json
import os
import pathlib
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from archscope.core import files, limits
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.table import did_you_mean

FILE = r".+\.(json|toml|ya?ml)"
_TEXTS = (str, bytes, os.PathLike, pathlib.PurePath, pathlib.Path)
_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, type, types.FunctionType)
_NONE = inspect.Parameter.empty


class Quoted(str):
    """A text that was typed in quotes: it stays one, also where it looks like the name of a file."""


class Settings(dict[str, Any]):
    """A dict whose keys are attributes too: `config.hidden` and `config["hidden"]`."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"it has no {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        del self[key]


def in_full(factory: Any, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a function or class. typed: those of a `Spec`, `config.hidden` for a field of `config`.

    Raises SpecError for a field that the class does not have, a value that it does not take, and a file that is not
    there or damaged.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    hints = _hints(factory)
    given: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in typed.items():
        first, dot, rest = key.partition(".")
        if dot:
            _enter(parts.setdefault(first, {}), rest.split("."), value, key)
        else:
            given[key] = value
    made = {}
    for key in dict.fromkeys(key.partition(".")[0] for key in typed):
        parameter = parameters.get(key)
        default = parameter.default if parameter is not None else _NONE
        hint = hints.get(key, Any)
        value = given.get(key, _NONE)
        from_file = False
        if type(value) is str and re.fullmatch(FILE, value) and not _takes_text(hint, default):
            value, from_file = read(value), True
        elif isinstance(value, Quoted):
            value = str(value)
        if key in parts:
            whole = {} if value is _NONE else value
            if not isinstance(whole, Mapping):
                raise SpecError(f"{key} is {value!r}, so it has no field {next(iter(parts[key]))!r} to set")
            base = _NONE if whole and isinstance(default, Mapping) else default
            value = _merged(whole, parts[key])
        else:
            base = _NONE if isinstance(default, Mapping) else default  # a whole dict replaces the default
        made[key] = _value(value, hint, base, key, top=not from_file)
    alone = [key for key in _without_default(parameters) if key not in made and _alone(hints.get(key))]
    return made | {key: hints[key]() for key in alone}


def required(factory: Any) -> list[str]:
    """The arguments of a builder that have to be given. One that is annotated with a dataclass need not be, where every
    field of that has a default."""
    hints = _hints(factory)
    return [name for name in _without_default(inspect.signature(factory).parameters) if not _alone(hints.get(name))]


def _without_default(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    keyless = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, p in parameters.items() if p.default is _NONE and p.kind not in keyless]


def _alone(hint: Any) -> bool:
    """Whether it is a dataclass that is built without arguments."""
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return False
    return not _without_default(inspect.signature(hint).parameters)


def _enter(held: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    """Set one field at its place. Raises SpecError where it is set twice, or set and given fields."""
    *folders, last = path
    if not all(path):
        raise SpecError(f"{key!r} names no field: write it as config.hidden=512")
    for folder in folders:
        held = held.setdefault(folder, {})
        if not isinstance(held, dict):
            break
    if not isinstance(held, dict) or last in held:
        raise SpecError(f"{key} sets a part of what is set as a whole")
    held[last] = str(value) if isinstance(value, Quoted) else value


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the values of another set in it, at any depth."""
    found = dict(base)
    for key, value in over.items():
        old = found.get(key)
        found[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


# ------------------------------------------------------------------------------------------------------ values


def _value(value: Any, hint: Any, base: Any, key: str, top: bool = False) -> Any:
    """A plain value as its annotation wants it. base: the default, whose other fields are kept.

    top: of an argument itself, as typed. Where it does not fit its annotation, the builder judges, as in Python.
    """
    hint = _one(hint, value)
    origin = typing.get_origin(hint)
    kind = origin or hint
    if isinstance(value, Mapping):
        return _mapping(value, hint, kind, base, key)
    items = typing.get_args(hint)
    if isinstance(value, list | tuple) and kind in (list, tuple, Sequence, Iterable, Collection) and items:
        same = len(items) == 1 or items[1] is ...
        each = [items[0]] * len(value) if same else list(items)
        if len(each) == len(value):
            new = [_value(*one, _NONE, f"{key}[{i}]") for i, one in enumerate(zip(value, each, strict=True))]
            return tuple(new) if kind is tuple else new
    return _plain(value, hint, base, key, top)


def _plain(value: Any, hint: Any, base: Any, key: str, top: bool) -> Any:
    """Numbers, text, lists: converted by msgspec where it knows the type, so that a list is a tuple, text an enum."""
    import msgspec

    if hint is Any or base is not _NONE and type(value) is type(base):
        return value
    try:
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError:
            if not isinstance(value, str):
                raise
            return msgspec.convert(value, hint, strict=False)  # YAML reads 1e-3 as text
    except msgspec.ValidationError as error:
        if top:
            return value
        raise SpecError(f"{key} is {_name(hint)}, not {value!r}") from error
    except Exception:  # a type that only the user's own code knows
        return value


def _mapping(value: Mapping[str, Any], hint: Any, kind: Any, base: Any, key: str) -> Any:
    """Keys and values as the object that the annotation names, or that the default is."""
    if getattr(kind, "__module__", "").partition(".")[0] == "omegaconf":
        return import_module("omegaconf").OmegaConf.create(dict(value))
    if typing.is_typeddict(kind):
        hints = _hints(kind)
        _known(value, hints, key, kind.__name__)
        return {name: _value(one, hints[name], _NONE, f"{key}.{name}") for name, one in value.items()}
    if kind in (dict, Mapping, typing.MutableMapping) or isinstance(base, dict):
        items = typing.get_args(hint)
        inner = items[1] if len(items) == 2 else Any
        found = {k: _value(v, inner, _NONE, f"{key}.{k}") if inner is not Any else v for k, v in value.items()}
        return _merged(copy.deepcopy(base), found) if isinstance(base, Mapping) else found
    if kind in (Any, object) or not isinstance(kind, type):  # Any is a class from Python 3.11 on
        kind = type(base)
        if base is _NONE or base is None:
            return _settings(value)
    if kind in _PLAIN or base is not _NONE and isinstance(base, type):
        raise SpecError(f"{key} is {_name(kind)}, so it has no field {next(iter(value), '')!r}")
    if kind is not type(base):
        base = _NONE
    if kind is types.SimpleNamespace or base is not _NONE and not _replaceable(base):
        return _changed(value, kind, base, key)
    return _instance(value, kind, base, key)


def _replaceable(base: Any) -> bool:
    """Whether a new object with other fields can be made of it: a dataclass, a NamedTuple."""
    return dataclasses.is_dataclass(base) or hasattr(base, "_replace")


def _settings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Settings({key: _settings(one) for key, one in value.items()})
    return [_settings(one) for one in value] if isinstance(value, list) else value


def _changed(value: Mapping[str, Any], kind: type, base: Any, key: str) -> Any:
    """A copy of the default object, with attributes set that it has."""
    if base is _NONE:
        return types.SimpleNamespace(**{k: _namespace(one) for k, one in value.items()})
    made = copy.deepcopy(base)
    _known(value, [name for name in dir(made) if not name.startswith("_")], key, kind.__name__)
    for name, one in value.items():
        new = _value(one, Any, getattr(made, name), f"{key}.{name}")
        _called(partial(setattr, made, name, new), key, kind)
    return made


def _namespace(value: Any) -> Any:
    if isinstance(value, Mapping):
        return types.SimpleNamespace(**{key: _namespace(one) for key, one in value.items()})
    return [_namespace(one) for one in value] if isinstance(value, list) else value


def _instance(value: Mapping[str, Any], kind: type, base: Any, key: str) -> Any:
    """An instance of a class: a dataclass, a NamedTuple, a model of pydantic, any class with a signature."""
    try:
        parameters = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        parameters = {}
    open_ended = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not open_ended:
        _known(value, parameters, key, kind.__name__)
    bases = {name: _default(kind, base, name, parameters) for name in value}
    hints = _hints(kind)
    made = {name: _value(one, hints.get(name, Any), bases[name], f"{key}.{name}") for name, one in value.items()}
    if base is not _NONE:
        replace = base._replace if hasattr(base, "_replace") else partial(dataclasses.replace, base)
        return _called(lambda: replace(**made), key, kind)
    missing = [name for name in _without_default(parameters) if name not in made]
    if missing:
        wants = "".join(f"@{key}.{name}=…" for name in missing)
        raise SpecError(f"{kind.__name__} needs {', '.join(missing)}: add {wants}")
    return _called(lambda: kind(**made), key, kind)


def _called(make: Callable[[], Any], key: str, kind: type) -> Any:
    try:
        return make()
    except ArchscopeError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise SpecError(f"{key} could not be built: {kind.__name__}: {type(error).__name__}: {text}") from error


def _default(kind: type, base: Any, name: str, parameters: Mapping[str, inspect.Parameter]) -> Any:
    """What a field is where nobody sets it, so that the rest of a nested object is kept; `_NONE` without such."""
    if base is not _NONE:
        return getattr(base, name, _NONE)
    field = getattr(kind, "__dataclass_fields__", {}).get(name)
    if field is not None and field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return parameters[name].default if name in parameters else _NONE


def _known(value: Mapping[str, Any], names: Iterable[str], key: str, what: str) -> None:
    """Raises SpecError for a field that is not there, with the nearest one."""
    names = list(names)
    for name in value:
        if name not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            question = did_you_mean(str(name), names)
            start = f"{key} ({what}) has no field {name!r}"
            raise SpecError(f"{start}: {question} ({has})" if question else f"{start}; {has}")


# ------------------------------------------------------------------------------------------------- annotations


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _hints(factory: Any) -> dict[str, Any]:
    """Annotations of the parameters of a function, of the fields or of the constructor of a class."""
    found: dict[str, Any] = {}
    for owner in (factory, factory.__init__) if isinstance(factory, type) else (factory,):
        try:
            found |= typing.get_type_hints(owner)
        except Exception:  # a name that only a type checker sees
            continue
    return found


def _options(hint: Any) -> list[Any]:
    """The types that an annotation names: those of a union without None, else itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for option in typing.get_args(hint) if option is not type(None) for one in _options(option)]
    return [hint]


def _one(hint: Any, value: Any) -> Any:
    """The type that a value is read as: of a union the only one, or for keys and values the first class."""
    options = _options(hint)
    if value is None or len(options) == 1:
        return hint if value is None else options[0]
    if isinstance(value, Mapping):
        scalars = (bool, int, float, *_TEXTS)
        return next(
            (one for one in options if isinstance(one, type) and one is not Any and one not in scalars), options[0]
        )
    return hint


def _takes_text(hint: Any, default: Any) -> bool:
    return isinstance(default, str | os.PathLike) or any(one in _TEXTS for one in _options(hint))


# ------------------------------------------------------------------------------------------------------- files


def read(path: str) -> Any:
    """The content of a YAML, JSON or TOML file. Raises SpecError where it cannot be read, in one sentence."""
    try:
        text = files.text(path, limits.SETTINGS)
    except FileNotFoundError:
        raise SpecError(f"there is no file {path}; a text that is no file stands in quotes, \"'{path}'\"") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    ending = path.rpartition(".")[2].lower()
    form = {"yml": "YAML"}.get(ending, ending.upper())
    try:
        value = _LOADERS[form](text)
        _check(value)
    except ImportError as error:
        raise SpecError(f"{path} needs PyYAML: pip install pyyaml, or write it as .json or .toml") from error
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        what = " ".join(str(error).split())
        raise SpecError(f"{path} is not {form}: {what[:200]}") from error
    return value


def _check(value: Any) -> None:
    """Raises ValueError for more values, or deeper ones, than a configuration has: YAML can repeat a part of itself."""
    level, count = [value], 0
    for _ in range(limits.DEPTH):
        level = [one for each in level for one in _inside(each)]
        count += len(level)
        if count > limits.VALUES:
            raise ValueError(f"it holds more than {limits.VALUES:,} values")
    if level:
        raise ValueError(f"it has more than {limits.DEPTH} levels of values within values")


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _yaml(text: str) -> Any:
    yaml = import_module("yaml")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _toml(text: str) -> Any:
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


_LOADERS: dict[str, Callable[[str], Any]] = {"JSON": json.loads, "TOML": _toml, "YAML": _yaml}
