"""The catalogue of the zoo: one decorator to add a network, one dict to find it.

The catalogue is *read*, not imported: `entries()` takes the literal arguments of each `@register(...)` from the
source text, so that `archscope list`, shell completion and the nearest-name messages never import torch.
`build()` imports the one family file that it needs; the decorator then checks itself against what was read.
"""

import ast
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from archscope.core.registry import Registry

# one family a file; a new family is its file and its line here
FAMILIES = (
    "lenet",
    "alexnet",
    "vgg",
    "nin",
    "googlenet",
    "resnet",
    "densenet",
    "mobilenet",
    "small",
    "recurrent",
    "blocks",
)


@dataclass(frozen=True)
class Entry:
    """The registration of one network.

    name: what a user types. family: the file. builder: the function in that file.
    input: the default input, `1x3x224x224` or `1x5:int64`. layout: one letter an axis (n batch, c channels, h w sides,
    t steps), which `--input 227` and `--batch 8` read. params, macs: the published or derived counts of the default
    build. paper: citation. keys: the builder's arguments with their defaults.
    """

    name: str
    family: str
    builder: str
    input: str
    layout: str
    params: int
    macs: int
    paper: str
    keys: dict[str, Any]


BUILDERS: Registry[Callable[..., Any]] = Registry("network")


def register(
    name: str, *, input: str, params: int, macs: int, paper: str, layout: str = "nchw", **fixed: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a builder under `name`. Every argument is a literal, or a module-level name of one.

    fixed: arguments of the builder that this name fixes; the user can still set them with `NAME@key=value`.
    May be stacked: one builder, several names.
    """

    def enter(builder: Callable[..., Any]) -> Callable[..., Any]:
        BUILDERS.add(name, functools.partial(builder, **fixed) if fixed else builder)
        return builder

    return enter


def build(name: str, **arguments: Any) -> Any:
    """The network `name` as an `nn.Module`. Raises KeyError when no network has that name."""
    entry = entries()[name]
    import_module(f"archscope.zoo.{entry.family}")
    return BUILDERS[name](**arguments)


@functools.cache
def entries() -> dict[str, Entry]:
    """Every registered network by name, in the order of FAMILIES and of the lines in each file."""
    found: Registry[Entry] = Registry("network")
    for family in FAMILIES:
        for entry in read(family, Path(__file__).with_name(f"{family}.py").read_text(encoding="utf-8")):
            found.add(entry.name, entry)
    return found


def read(family: str, source: str) -> list[Entry]:
    """The registrations in the text of one family file, top to bottom."""
    stated = {field.name for field in fields(Entry)}
    constants: dict[str, Any] = {}
    found = []
    for node in ast.parse(_outline(source)).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
        if not isinstance(node, ast.FunctionDef):
            continue
        defaults = dict(
            zip([a.arg for a in node.args.args][-len(node.args.defaults) :], node.args.defaults, strict=False)
        )
        for call in node.decorator_list:
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register"):
                continue
            given = {k.arg: _literal(k.value, constants) for k in call.keywords if k.arg}
            keys = {k: _literal(v, constants) for k, v in defaults.items()}
            keys |= {k: v for k, v in given.items() if k not in stated}
            name = _literal(call.args[0], constants)
            facts: dict[str, Any] = {"layout": "nchw"} | {k: v for k, v in given.items() if k in stated}
            found.append(Entry(name=name, family=family, builder=node.name, keys=keys, **facts))
    return found


_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]* = ")


def _outline(source: str) -> str:
    """The statements that a catalogue needs, and no bodies: constants, and decorated functions up to their colon.

    Parsing a whole family file costs ten times as much as parsing this.
    """
    kept: list[str] = []
    keeping = False
    for line in source.splitlines():
        if line[:1] not in ("", " ", "\t", ")", "]", "}", "#"):  # a statement of the top level begins
            keeping = line.startswith(("@register", "def ")) or bool(_CONSTANT.match(line))
            if line.startswith("def ") and not (kept and kept[-1].startswith(("@", ")"))):
                keeping = False
        if keeping:
            kept.append(line)
            if line.endswith(":") and line.startswith(("def ", ")")):
                kept.append("    ...")
                keeping = False
    return "\n".join(kept)


def _literal(node: ast.expr, constants: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id in constants:
        return constants[node.id]
    return ast.literal_eval(node)
