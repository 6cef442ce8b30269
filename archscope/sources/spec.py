"""What a user types -> a model and its inputs.

    alexnet                            a network of the zoo
    mobilenet-v1@width=0.5@num_classes=10
    torchvision:resnet50   timm:vit_base_patch16_224   transformers:LlamaConfig@hidden_size=4096
    nets.py:Net   package.models:build@width=2         a user's own class, function or module
    trace.json   program.pt2                           a saved trace, an exported program
    alexnet,vgg*,torchvision:resnet*                   several, with wildcards (in lists)
    227   227x300   3x227x227   8x3x227x227   1x128:int64   tokens=1x128:int64        an input

A source is a file of `archscope/sources/` that fills in a `Source`; a name without a colon belongs to the zoo. Nothing
imports torch before a model is built or a source other than the zoo is asked for its names.
"""

import ast
import fnmatch
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError, SpecError, TraceError
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.core.table import did_you_mean, unknown
from archscope.sources.guard import user_code
from archscope.sources.inputs import Given, Input, parse_inputs


@dataclass(frozen=True)
class Spec:
    """One model as it was asked for: its source, its name there, and the arguments of its builder."""

    text: str
    source: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


Keys = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where models come from.

    names: pattern -> names, in order. build: (name, arguments) -> module. inputs: (name, arguments) -> the default
    inputs, empty where there are none. keys: name -> arguments with their defaults, None where only the builder knows.
    published: name -> what the source itself says: "params", "macs", "paper". running: name -> the circumstances that a
    run needs, with what is to be said of it. bound: whether sizes that depend on values are taken at their largest.
    closed: whether `names("*")` are all there are, so that another name is wrong. guess: module, text -> inputs where
    there is no default. record: name -> a Trace that is there already, so that nothing need be built.
    """

    names: Callable[[str], Iterable[str]]
    build: Callable[[str, dict[str, Any]], Any]
    inputs: Callable[[str, dict[str, Any]], tuple[Given, ...]]
    keys: Callable[[str], Keys | None] = lambda name: None
    published: Callable[[str], Mapping[str, Any]] = lambda name: {}
    running: Callable[[str], AbstractContextManager[tuple[str, ...]]] = lambda name: nullcontext(())
    bound: bool = False
    closed: bool = True
    guess: Callable[[Any, str], tuple[Given, ...]] | None = None
    record: Callable[[str], Trace] | None = None


# the files of archscope/sources/, each of which enters a source of its name; imported when it is asked for
NAMED = ("zoo", "torchvision", "timm", "transformers")  # before a colon
FILES = (*NAMED, "file", "module", "trace", "exported")  # the others are known by the form of the name
SOURCES: Registry[Callable[[], Source]] = Registry("source")


def source(name: str) -> Callable[[Callable[[], Source]], Callable[[], Source]]:
    """Enter a source of models."""
    return lambda make: SOURCES.add(name, functools.cache(make))


def source_of(name: str) -> Source:
    """The source of that name. Raises SpecError where there is none, or where a package that it needs is missing."""
    if name not in SOURCES:
        if name not in FILES:
            raise SpecError(unknown("source of models", name, [*FILES, *SOURCES]))
        import_module(f"archscope.sources.kinds.{name}")
    return SOURCES[name]()


# ------------------------------------------------------------------------------------------------------- models


def parse(text: str) -> Spec:
    """Read `[SOURCE:]NAME[@key=value…]`. Raises SpecError, naming the nearest right name or key."""
    head, pairs = _pairs(text.strip())
    origin, name = _origin(head)
    here = source_of(origin)
    see = _see(origin)
    if here.closed:
        names = list(here.names("*"))
        if name not in names:
            if not name:
                raise SpecError(f"no model was named; {see}")
            if re.search(r"[,*?\[]", name):
                raise SpecError(f"one model at a time, not {head!r}; `archscope table --models {head!r}` takes several")
            what = f"no model is called {name!r}" if origin == "zoo" else f"{origin} has no model {name!r}"
            raise SpecError(_sentences(what, did_you_mean(name, names), see))
    keys = here.keys(name)
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key:
            raise SpecError(f"an argument of {text.strip()!r} is empty; write {name}@key=value")
        if keys is not None and key not in keys:
            there = f"it has {_list(keys)}" if keys else "it has none"
            raise SpecError(_sentences(f"{name} has no key {key!r}", did_you_mean(key, keys), there))
        if not equals or not value:
            example = written(keys[key]) if keys else "value"
            raise SpecError(f"{key} has no value in {text.strip()!r}; write {name}@{key}={example}")
        if key in arguments:
            raise SpecError(f"{key} is set twice in {text.strip()!r}")
        arguments[key] = literal(value) if keys is None else _typed(key, value, keys[key])
    return Spec(text.strip(), origin, name, arguments)


def _see(origin: str) -> str:
    if origin in ("file", "module"):
        return "a wildcard finds what needs no arguments: classes of modules, and functions that say `-> nn.Module`"
    return "`archscope list` shows all" if origin == "zoo" else f"`archscope list '{origin}:*'` shows all"


def _pairs(text: str) -> tuple[str, list[str]]:
    """Head and `key=value` texts. The folders of a file may hold an @ of their own."""
    cut = text.find(".py:") + 1
    head, *pairs = text[cut:].split("@")
    return text[:cut] + head, pairs


def _origin(head: str) -> tuple[str, str]:
    """Source and name of `[SOURCE:]NAME`. A file keeps its whole text as its name."""
    if head.endswith(".json"):
        return "trace", head
    if head.endswith(".pt2"):
        return "exported", head
    origin, colon, name = head.rpartition(":")
    if not colon:
        if head.endswith(".py"):
            raise SpecError(
                f"name the class or function in {head}, such as {head}:Net; `archscope list '{head}:*'` shows them"
            )
        return "zoo", head
    if origin in NAMED or (origin in SOURCES and origin not in FILES):
        return origin, name
    if origin.endswith(".py"):
        return "file", head
    if all(part.isidentifier() for part in origin.split(".")):
        return "module", head
    raise SpecError(f"{head!r} names no model: write NAME, SOURCE:NAME, file.py:NAME or package.module:NAME")


def _sentences(what: str, question: str, rest: str) -> str:
    """`what: question? rest`, or `what; rest` where there is no question."""
    return f"{what}: {question} ({rest})" if question else f"{what}; {rest}"


def expand(texts: Iterable[str]) -> list[Spec]:
    """Specs of a list: names, comma-separated names, wildcards, `all`; each once, in the order asked for."""
    found: dict[str, Spec] = {}
    for text in [part for each in texts for part in _commas(each)]:
        head, pairs = _pairs(text)
        tail = "".join(f"@{pair}" for pair in pairs)
        if head == "all":
            head = "*"
        if not re.search(r"[*?\[]", head):
            found.setdefault(text, parse(text))
            continue
        origin, pattern = _origin(head)
        before = f"{origin}:" if head == f"{origin}:{pattern}" else ""
        matches = [name for name in source_of(origin).names(pattern) if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise SpecError(f"no model matches {head!r}; {_see(origin)}")
        for name in matches:
            full = f"{before}{name}{tail}"
            found.setdefault(full, parse(full))
    if not found:
        raise SpecError("no model was named; `archscope list` shows them, `all` takes every one")
    return list(found.values())


def _commas(text: str) -> list[str]:
    """The parts between commas; one within brackets or parentheses does not part."""
    return [part.strip() for part in re.findall(r"(?:\([^)]*\)|\[[^\]]*\]|[^,])+", text) if part.strip()]


def _typed(key: str, value: str, default: Any) -> Any:
    """A value as the builder's default says it should be."""
    if isinstance(default, bool):
        if value.lower() in ("true", "yes", "on", "1"):
            return True
        if value.lower() in ("false", "no", "off", "0"):
            return False
        raise SpecError(f"{key} is true or false, not {value!r}")
    if isinstance(default, str):
        return value
    number = "a whole number" if isinstance(default, int) else "a number" if isinstance(default, float) else ""
    try:
        read = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        read = None
    if isinstance(default, float) and type(read) is int and abs(read) < 1 << 53:
        read = float(read)
    if type(read) is not type(default) and default is not None:
        what = f"{number} (its default is {default})" if number else f"like {default!r}"
        raise SpecError(f"{key} is {what}, not {value!r}")
    return read


def literal(value: str) -> Any:
    """A value whose type nobody says: true, false, none, a Python literal, or text."""
    plain = {"true": True, "false": False, "none": None}
    if value.lower() in plain:
        return plain[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return value


def written(value: Any) -> str:
    """A value as a user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(words: Iterable[str], join: str = "and") -> str:
    *first, last = words
    return f"{', '.join(first)} {join} {last}" if first else last


# ------------------------------------------------------------------------------------------------------ loading


class Loaded(NamedTuple):
    """A model built without weights, and the arguments of its forward on the meta device."""

    model: Any
    arguments: tuple[Any, ...]
    named: dict[str, Any]


Text = str | int | Sequence[int] | Sequence[str] | None  # an input, or several, as a user writes them


def texts_of(input: Text) -> list[str]:
    """The same as text: 227 and (8, 3, 227, 227) are one input, ["1x128:int64", "1x128:bool"] are two."""
    if input is None:
        return []
    if isinstance(input, str | int):
        return [str(input)]
    if all(isinstance(side, int) for side in input):
        return ["x".join(map(str, input))]
    return [str(one) for one in input]


def defaults_of(spec: Spec) -> tuple[Given, ...]:
    """The default inputs. The builder's `in_channels` sets their channels."""
    found = source_of(spec.source).inputs(spec.name, spec.arguments)
    channels = spec.arguments.get("in_channels")
    if not isinstance(channels, int):
        return found
    return tuple(_with_channels(given, channels) for given in found)


def _with_channels(given: Given, channels: int) -> Given:
    if "c" not in given.layout:
        return given
    axis, shape = given.layout.index("c"), given.input.shape
    return given._replace(input=given.input._replace(shape=(*shape[:axis], channels, *shape[axis + 1 :])))


def inputs_of(spec: Spec, input: Text = None, batch: int | None = None) -> tuple[Given, ...]:
    """The inputs that a model will be run on, empty where only the model itself can tell. Raises SpecError."""
    found = defaults_of(spec)
    if not found and source_of(spec.source).guess is not None:
        return ()
    return parse_inputs(texts_of(input), found, batch)


def input_of(spec: Spec, text: Text = None, batch: int | None = None) -> Input:
    """The first input that a model will be run on. Raises SpecError where there is none."""
    found = inputs_of(spec, text, batch)
    if not found:
        raise SpecError(f"{spec.name} has no default input: give one, such as 1x3x224x224")
    return found[0].input


def load(spec: str | Spec, input: Text = None, batch: int | None = None) -> tuple[Any, Any]:
    """Build a model without weights, and its inputs on the meta device.

    spec: "alexnet", "mobilenet-v1@width=0.5", "torchvision:resnet50", "nets.py:Net", or what `parse` returned. input:
    227, (8, 3, 227, 227), "8x3x227x227", "1x128:int64", or a list of such texts, "name=SHAPE" for an argument by name.
    Returns the model and its inputs: a tuple, so that `model(*inputs)` runs, or a dict where they go by name, so that
    `model(**inputs)` does; `trace(model, inputs)` takes either. Raises SpecError for a wrong name, key or input, and
    for a value that the builder refuses; TraceError where the builder fails.
    """
    model, arguments, named = loaded(parse(spec) if isinstance(spec, str) else spec, input, batch)
    return model, named if named and not arguments else arguments if not named else _by_name(model, arguments, named)


def _by_name(model: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(model.forward).bind(*arguments, **named).arguments)


def loaded(spec: Spec, input: Text = None, batch: int | None = None) -> Loaded:
    """Build a model without weights, and the arguments of its forward. Raises what `load` raises."""
    given = inputs_of(spec, input, batch)  # what is wrong with the input is said before anything is built
    model = built(spec)
    return Loaded(model, *fed(spec, model, given, input, batch))


def fed(
    spec: Spec, model: Any, given: tuple[Given, ...], input: Text = None, batch: int | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a model's forward, by position and by name, on the meta device. given: what `inputs_of` says."""
    here = source_of(spec.source)
    if not given and here.guess is not None:
        texts = texts_of(input)
        given = parse_inputs(texts, here.guess(model, texts[0] if len(texts) == 1 else ""), batch)
        if not given:
            raise SpecError(
                f"{spec.name} has no default input: give --input 1x3x224x224, or write example_inputs() beside it"
            )
    made = [(each.name, tensor_of(each)) for each in given]
    return tuple(t for name, t in made if not name), {name: t for name, t in made if name}


def tensor_of(given: Given) -> Any:
    """An input on the meta device. Raises SpecError for a dtype that this torch does not have."""
    import torch

    try:
        made = torch.empty(given.input.shape, dtype=getattr(torch, given.input.dtype), device="meta")
    except (AttributeError, RuntimeError) as error:
        raise SpecError(f"torch {torch.__version__} makes no input of dtype {given.input.dtype}") from error
    return [made] if given.listed else made


def built(spec: Spec) -> Any:
    """The model, without weights. Raises SpecError and TraceError."""
    import torch

    from archscope.tracing.weightless import NAME, weightless

    here = source_of(spec.source)
    try:
        try:
            with weightless(), user_code():
                model = here.build(spec.name, spec.arguments)
        except RuntimeError as error:
            if "device meta" not in str(error):
                raise
            with weightless(), user_code(), torch.device("meta"):  # it runs a part of itself while it is built
                model = here.build(spec.name, spec.arguments)
    except ArchscopeError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError(f"{spec.text}: {error}") from error
    except Exception as error:
        unknown_key = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and unknown_key and unknown_key[1] in spec.arguments:
            raise SpecError(f"{spec.name} has no argument {unknown_key[1]!r}") from error
        raise TraceError(f"{spec.text} could not be built: {type(error).__name__}: {error}") from error
    object.__setattr__(model, NAME, spec.text)
    return model
