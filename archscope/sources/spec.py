"""What a user types -> a `Spec`: one model of one source, with the arguments of its builder.

    alexnet                            a network of the zoo
    mobilenet-v1@width=0.5@num_classes=10
    torchvision:resnet50   timm:vit_base_patch16_224   transformers:LlamaConfig@hidden_size=4096
    nets.py:Net   package.models:build@width=2         a user's own class, function or module
    nets.py:Net@layers=[64,128]   nets.py:Net@config=cfg.yaml@config.hidden=512   see `sources/nested.py`
    "package:Net('small', width=2).encoder"            a call of such, with values of Python, and an attribute
    nets.py                                            the only model of a file
    trace.json   program.pt2                           a saved trace, an exported program
    alexnet,vgg*,torchvision:resnet*                   several, with wildcards (in lists)

A name without a colon belongs to the zoo. Nothing here imports torch; a source other than the zoo may, for its names.
"""

import ast
import fnmatch
import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.table import did_you_mean
from archscope.sources.nested import FILE, Quoted
from archscope.sources.other_names import elsewhere, no_code, not_installed, question, translated, written_with_at
from archscope.sources.source import Keys, Source, prefixes, source_and_name
from archscope.sources.watch import loading
from archscope.zoo.catalogue import entries


@dataclass(frozen=True)
class Spec:
    """One model as it was asked for: its source, its name there, and the arguments of its builder.

    text: the full name, also where less or something else was typed; note: then says what.
    """

    text: str
    source: Source
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def keys(self) -> Keys:
        """The arguments that its builder is known to take, with their defaults."""
        return self.source.keys(self.name) or {}

    @property
    def in_zoo(self) -> bool:
        return self.source.name == "zoo"


def parse(text: str) -> Spec:
    """Read `[SOURCE:]NAME[@key=value…]`. Raises SpecError, naming the nearest right name or key."""
    text = text.strip()
    typed, pairs = _head_and_pairs(text)
    text = "@".join((typed, *pairs))
    head, note = _full(typed)
    builder, given = _call(head)
    if given is not None:
        head, texts = builder, [f"{key}={value!r}" for key, value in given.items()]
        if "(" not in head and not any(key.isdigit() for key in given) and "@" not in "".join(texts):
            pairs, given = [*texts, *pairs], {}
            note = f"{typed} is {'@'.join((head, *pairs))}"
    elif written := written_with_at(head):
        why = "arguments of a model are written behind an @" if "@" in written else "no weights are needed"
        raise SpecError(f"{why}: write {written}")
    source, typed_name = source_and_name(head)
    with loading() if source.closed else nullcontext():
        name, only = source.completed(typed_name)
        known = not source.closed or source.has(name)
    if not known:
        names = _names(source, "*")
        if not name:
            raise SpecError(f"no model was named; {_how_to_list(source)}")
        if why := no_code(name):
            raise SpecError(why)
        if re.search(r"[,*?\[]", name):
            raise SpecError(f"one model at a time, not {head!r}; `archscope table --models {head!r}` takes several")
        zoo = source.name == "zoo"
        what = f"no model is called {name!r}" if zoo else f"{source.name} has no model {name!r}"
        asked = question(name, names) if zoo else did_you_mean(name, names)
        own = "" if asked or not zoo else f"; a model of your own is nets.py:Net or package.models:Net{not_installed()}"
        raise SpecError(_with_question(what, asked, _how_to_list(source)) + own)
    if (note or only) and not given:
        text = "@".join((head.removesuffix(typed_name) + name, *pairs))
    arguments = _arguments(text, name, pairs, source.keys(name))
    return Spec(text, source, name, {**(given or {}), **arguments}, only or note)


def _call(head: str) -> tuple[str, dict[str, Any] | None]:
    """`package:Net`, and the arguments, for a call of what stands in a file or package: `package:Net(3, width=2)`.

    An argument by place has its number as its key. An attribute of what the call gives stays in the name,
    `package:Net().encoder`. None in place of the arguments where it is no such call.
    """
    found = re.fullmatch(r"([^\s(]+)\((.*)\)((?:\.[^\W\d]\w*)*)", head, re.DOTALL)
    name = translated(found[1]) if found is not None else ""
    if found is None or ":" not in name or name.partition(":")[0] in prefixes():
        return head, None
    _, inside, attributes = found.groups()
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        if not isinstance(call, ast.Call) or not all(one.arg for one in call.keywords):
            raise ValueError
        given = {str(i): _quoted(ast.literal_eval(one)) for i, one in enumerate(call.args)}
        given |= {str(one.arg): _quoted(ast.literal_eval(one.value)) for one in call.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise SpecError(
            f"({inside[:60]}) is not a list of values: numbers, text in quotes, lists and dicts; "
            "for anything else write a function into a file, nets.py:make"
        ) from None
    return f"{name}{'()' if attributes else ''}{attributes}", given


def _quoted(value: Any) -> Any:
    """A value of Python as it is: a text stays one, also where it looks like the name of a file."""
    return Quoted(value) if isinstance(value, str) else value


def _full(typed: str) -> tuple[str, str]:
    """A name as archscope writes it, and a note where that is not what was typed."""
    if typed in entries() or re.search(r"[,*?\[]", typed.partition("(")[0]) or not typed:
        return typed, ""
    head = translated(typed)
    found = elsewhere(head) if head not in entries() else []
    if found:
        also = f"; {' and '.join(found[1:])} is another model" if found[1:] else ""
        return found[0], f"{typed} is {found[0]}{also}"
    return head, f"{typed} is {head}" if head != typed else ""


def expand(texts: Iterable[str]) -> list[Spec]:
    """Specs of a list: names, comma-separated names, wildcards, `all`; each once, in the order asked for."""
    found: dict[str, Spec] = {}
    for text in [part for each in texts for part in _models_in(each)]:
        head, pairs = _head_and_pairs(text)
        head = "*" if head == "all" else head
        if not re.search(r"[*?\[]", head.partition("(")[0]):
            found.setdefault(text, parse(text))
            continue
        source, pattern = source_and_name(head)
        prefix = head.removesuffix(pattern)
        matches = [name for name in _names(source, pattern) if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise SpecError(f"no model matches {head!r}; {_how_to_list(source)}")
        for name in matches:
            full = "@".join((f"{prefix}{name}", *pairs))
            found.setdefault(full, parse(full))
    if not found:
        raise SpecError("no model was named; `archscope list` shows them, `all` takes every one")
    return list(found.values())


def _names(source: Source, pattern: str) -> list[str]:
    """The names of a source; some load PyTorch for them."""
    with loading():
        return list(source.names(pattern))


def _head_and_pairs(text: str) -> tuple[str, list[str]]:
    """Head and `key=value` texts. The folders of a file may hold an @ of their own."""
    start = (
        0 if "adapter_config.json@" in text else text.find(".py:") + 1
    )  # a base in a file of Python stands behind it
    head, *pairs = text[start:].split("@")
    return text[:start] + head, [argument for pair in pairs for argument in _arguments_in(pair)]


_SETS = re.compile(r"[A-Za-z_][\w.]*\s*=")  # how an argument begins, and no name of a model


def _arguments_in(text: str) -> list[str]:
    """`a=1,b=2` are two arguments; the comma of `a=1,2`, and one in quotes or brackets, belongs to the value."""
    if not re.search(rf",\s*{_SETS.pattern}", text) or re.search("['\"]", text):
        return [text]
    return _grouped(text, lambda part, _: "" if _SETS.match(part) else ",")


def _models_in(text: str) -> list[str]:
    """The models of a list. `net.py:Net@a=1,b=2` is one."""
    return _grouped(text, lambda part, before: "@" if "@" in before and _SETS.match(part) else "")


def _grouped(text: str, joint: Callable[[str, str], str]) -> list[str]:
    """The parts between commas, each with those behind it that belong to it. joint: what joins a part to what is before
    it, "" where it stands alone."""
    found: list[str] = []
    for part in _commas(text):
        if found and (by := joint(part, found[-1])):
            found[-1] += by + part
        else:
            found.append(part)
    return found


def _commas(text: str) -> list[str]:
    """The parts between commas. A comma within brackets, at any depth, does not separate."""
    parts, level = [""], 0
    for i, letter in enumerate(text):
        level += (letter in "([{" and _closes(text, i)) - (letter in ")]}" and level > 0)
        if letter == "," and not level:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _closes(text: str, start: int) -> bool:
    """Whether a bracket that opens is closed later."""
    return {"(": ")", "[": "]", "{": "}"}[text[start]] in text[start:]


def _how_to_list(source: Source) -> str:
    if source.name in ("file", "module"):
        return "a wildcard finds what needs no arguments: classes of modules, and functions that say `-> nn.Module`"
    if source.name == "zoo":
        return "`archscope list` shows all"
    return f"`archscope list '{source.name}:*'` shows all"


def _with_question(what: str, question: str, rest: str) -> str:
    """`what: question? (rest)`, or `what; rest` where there is no question."""
    return f"{what}: {question} ({rest})" if question else f"{what}; {rest}"


# --------------------------------------------------------------------------------------------------- arguments


def _arguments(text: str, name: str, pairs: list[str], keys: Keys | None) -> dict[str, Any]:
    """The arguments of `key=value` texts. keys: those of the builder with their defaults, None where unknown."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key:
            raise SpecError(f"an argument of {text!r} is empty; write {name}@key=value")
        if keys is not None and key not in keys:
            *first, last = keys or ["none"]
            has = f"it has {', '.join(first)} and {last}" if first else f"it has {last}"
            raise SpecError(_with_question(f"{name} has no key {key!r}", did_you_mean(key, keys), has))
        if not equals and keys is None:
            raise SpecError(f"{key!r} names no argument in {text!r}; write {name}@NAME={key}, NAME of the builder's")
        if not equals or not value:
            example = written(keys[key]) if keys else "value"
            raise SpecError(f"{key} has no value in {text!r}; write {name}@{key}={example}")
        if key in found:
            raise SpecError(f"{key} is set twice in {text!r}")
        found[key] = literal(value) if keys is None else _like(key, value, keys[key])
    return found


def _like(key: str, value: str, default: Any) -> Any:
    """A value of the type that the builder's default has."""
    if isinstance(default, bool):
        if value.lower() in ("true", "yes", "on", "1"):
            return True
        if value.lower() in ("false", "no", "off", "0"):
            return False
        raise SpecError(f"{key} is true or false, not {value!r}")
    if isinstance(default, str):
        return value
    read = _evaluated(value, None)
    if isinstance(default, float) and type(read) is int and abs(read) < 1 << 53:
        read = float(read)
    if type(read) is not type(default) and default is not None:
        number = {int: "a whole number", float: "a number"}.get(type(default))
        what = f"{number} (its default is {default})" if number else f"like {default!r}"
        raise SpecError(f"{key} is {what}, not {value!r}")
    return read


def literal(value: str) -> Any:
    """A value of unknown type: true, false, none, a Python literal, a list of such or of words, or text."""
    plain = {"true": True, "false": False, "none": None}
    if value.lower() in plain:
        return plain[value.lower()]
    read = _evaluated(value, value)
    if read is value and re.fullmatch(r"\[[^\[\]]*,[^\[\]]*\]", value):  # [MASK] alone is text
        return [literal(word) for word in _commas(value[1:-1])]
    return Quoted(read) if type(read) is str and read != value and re.fullmatch(FILE, read) else read


def _evaluated(value: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return otherwise


def written(value: Any) -> str:
    """A value as a user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
