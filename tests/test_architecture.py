"""The direction of the imports, and what must not be imported at all."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import archscope

HOME = Path(archscope.__file__).parent
FILES = sorted(p for p in HOME.rglob("*.py") if p.name != "__init__.py")

# the rooms from the ground up: a file stands alone or in the package of its name. A file may import its own room, its
# own floor and those below, and there are no circles
FLOORS = (
    {"archscope", "errors", "ir", "expr", "named", "table", "zoo.registry", "zoo.knobs"},
    {"ops", "construct", "largest", "failure"},
    {"formulas", "elementwise", "modules", "calls", "inputs", "render", "receptive", "spec", "tracer"},
    {"sources", "passes"},
    {"verify", "counters"},
    {"views", "sizes"},
    {"doctor", "clashes"},
    {"runs"},
    {"catalogue", "numbers", "learn", "gate", "bench"},
    {"report", "sweeps"},
    {"compare"},
    {"cli"},
    {"__main__"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# they may import torch at once: whatever needs them needs it
TORCH = {"tracer", "calls", "largest", "construct", "modules", "counters.hollow", "counters.muted", "numbers.witnesses"}
TORCH |= {"sizes.many", "sweeps.moulds", "sweeps.holdings", "sweeps.quick"}
TORCH |= {
    f"bench.{name}"
    for name in """examples own prepare augment checkpoint device parallel data measure network loop worker
    inference""".split()
}
LATER = ("spec", "sources.", "counters.", "numbers.", "bench.", "sweeps.", "report.")  # within a function
LATE = {"torchvision", "timm", "torchinfo", "fvcore", "pandas", "matplotlib", "rich", "tabulate", "numpy"}
LONGEST = 540
CATALOGUES = {"ops", "formulas"}  # one short entry an operator or layer: they grow with what is known
NAMED_AFTER = {"weightless"}  # a function of that name is part of the public face


class Import(NamedTuple):
    """One imported module. top: at module level, and so whenever the file is imported."""

    module: str
    top: bool


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts)


def imports(path: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path.name}:{child.lineno} has a relative import"
                assert child.module is not None
                inside = HOME.parent / child.module.replace(".", "/")
                for alias in child.names:
                    is_module = (inside / alias.name).with_suffix(".py").exists()
                    found.append(Import(f"{child.module}.{alias.name}" if is_module else child.module, top))
            visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def inside(path: Path) -> set[str]:
    """The modules of archscope that a file imports, anywhere in it."""
    return {
        module.removeprefix("archscope.")
        for module, _ in imports(path)
        if module == "archscope" or module.startswith("archscope.")
    }


def is_family(name: str) -> bool:
    return name.startswith("zoo.") and name not in FLOOR


def floor(name: str) -> int | None:
    """A file's own floor, or that of its package; None where it has none, or is one family of the zoo."""
    return FLOOR.get(name, FLOOR.get(name.partition(".")[0]))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    if is_family(name):
        assert all(other == "errors" or other.startswith("zoo.") for other in inside(path))
        return
    own = floor(name)
    assert own is not None, f"{name} has no floor: enter its room in FLOORS"
    for other in inside(path):
        below = floor(other)
        assert below is not None, f"{name} imports {other}, which has no floor or is one family of the zoo"
        assert below <= own, f"{name} imports {other}, which stands above it"


def test_formulas_and_ops_share_no_code() -> None:
    assert all(floor(other) == 0 for other in inside(HOME / "formulas.py"))
    assert all(floor(other) == 0 for other in inside(HOME / "ops.py"))


def test_no_circles() -> None:
    below = {name_of(path): inside(path) - {"archscope"} for path in FILES}

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"circle: {' > '.join((*way, name))}"
        for other in below.get(name, ()):
            walk(other, (*way, name))

    for name in below:
        walk(name, ())


def test_no_circles_between_rooms() -> None:
    below: dict[str, set[str]] = {}
    for path in FILES:
        room = name_of(path).partition(".")[0]
        below.setdefault(room, set()).update({other.partition(".")[0] for other in inside(path)} - {room, "archscope"})

    def walk(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, f"circle: {' > '.join((*way, room))}"
        for other in below.get(room, ()):
            walk(other, (*way, room))

    for room in below:
        walk(room, ())


@pytest.mark.parametrize("path", [*FILES, HOME / "__init__.py", HOME / "zoo" / "__init__.py"], ids=name_of)
def test_heavy_packages_come_late(path: Path) -> None:
    name = name_of(path)
    at_once = {module.partition(".")[0] for module, top in imports(path) if top}
    assert not at_once & LATE
    anywhere = {module.partition(".")[0] for module, _ in imports(path)}
    if name in TORCH or is_family(name):
        return
    assert "torch" not in at_once
    assert "torch" not in anywhere or name.startswith(LATER)


@pytest.mark.parametrize("name", ["errors", "ir", "expr", "table"])
def test_the_ground_needs_the_standard_library_only(name: str) -> None:
    outside = {module.partition(".")[0] for module, top in imports(HOME / f"{name}.py") if top}
    assert outside <= {*sys.stdlib_module_names, "archscope"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_and_lengths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if not is_family(name_of(path)):  # the builder of lenet is called lenet
        assert path.stem not in functions - NAMED_AFTER, "a function that bears its module's name hides it"
    assert ast.get_docstring(tree), "a file says what it is for"
    if path.stem not in CATALOGUES:
        assert len(text.splitlines()) <= LONGEST


def loaded(code: str) -> set[str]:
    """The packages that a fresh interpreter has imported after some code."""
    code += "\nimport sys\nprint('\\n@', *sorted({m.partition('.')[0] for m in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    return set(ran.stdout.rpartition("@")[2].split())


COMMAND = (
    "import sys\nfrom archscope.cli import app\ntry: app({})\nexcept SystemExit as end: assert not end.code, end.code"
)


@pytest.mark.parametrize(
    "code",
    [
        "import archscope",
        COMMAND.format(["--help"]),
        COMMAND.format(["--version"]),
        COMMAND.format(["list"]),
        COMMAND.format(["list", "vgg*", "--format", "json"]),
        COMMAND.format(["trace", "--help"]),
    ],
    ids=["import", "help", "version", "list", "list-json", "trace-help"],
)
def test_starts_without_torch(code: str) -> None:
    assert not loaded(code) & (LATE | {"torch", "pydantic"})


def test_a_stored_trace_is_shown_without_torch(tmp_path: Path, traced) -> None:
    stored = tmp_path / "trace.json"
    stored.write_text(traced("lenet").to_json(), encoding="utf-8")
    code = f"""
from pathlib import Path
import archscope
from archscope.render import RENDERERS, text_of
trace = archscope.Trace.from_json(Path({str(stored)!r}))
table = archscope.layer_table(trace)
for name in set(RENDERERS) - {{"md"}}:
    assert text_of(table, name)
assert trace._repr_html_()
assert archscope.totals(trace)["params"] == 61706
"""
    assert not loaded(code) & {"torch", "pandas", "numpy", "torchvision"}
