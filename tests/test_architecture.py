"""Rooms, floors and circles: the direction of every import, and what must not be imported at all.

Every import is read from the source, inside functions too, and each `import_module` with a text that begins with
"archscope" or with the package itself. A room is a folder under `archscope/`; `__init__.py` and `__main__.py` are rooms
of their own. A room's floor is one above the highest room that it imports.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import archscope

HOME = Path(archscope.__file__).parent
FILES = sorted(HOME.rglob("*.py"))

# what a room may import besides itself: the whole direction of the house, from the ground up
ROOMS: dict[str, set[str]] = {
    "core": set(),
    "zoo": {"core"},
    "operators": {"core"},
    "layers": {"core"},
    "tracing": {"core", "operators", "layers"},
    "analysis": {"core", "operators", "layers", "zoo"},
    "sources": {"core", "tracing", "zoo"},
    "peers": {"core", "operators", "tracing", "analysis", "sources", "zoo"},
    "shapes": {"core", "operators", "tracing", "analysis", "sources"},
    "gate": {"core", "operators", "tracing", "analysis", "sources", "zoo"},
    "sweeps": {"core", "operators", "tracing", "analysis", "sources"},
    "bench": {"core", "operators", "tracing", "analysis", "sources", "shapes"},
    "learn": {"core", "layers", "analysis", "sources", "peers", "shapes"},
    "report": {"core", "analysis", "sources", "zoo", "peers", "shapes", "sweeps", "bench"},
    "__init__": {"core", "tracing", "operators", "analysis", "sources", "shapes", "gate", "sweeps", "bench"},
    "cli": {"core", "zoo", "analysis", "sources", "peers", "shapes", "gate", "sweeps", "bench", "learn", "report"},
    "__main__": {"cli"},
}
MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 18, 9, 95  # with benchmarks/, which stands above all
# they may import torch at once: whatever needs them needs it
TORCH = ("tracing.", "peers.fake_cpu", "peers.suppressed_kernels", "peers.measured", "peers.cpu_step", "shapes.many")
TORCH += ("sweeps.lazy_layers", "sweeps.fast_totals")
TORCH += ("sources.graphs.",)
TORCH += tuple(
    f"bench.{name}"
    for name in "prepare checkpoint device parallel data network loop worker inference meter callbacks memory".split()
)
LATER = (
    "operators.indexing",
    "operators.vision",
    "sources.",
    "peers.",
    "bench.",
    "sweeps.",
    "report.",
)  # within a function
LATE = {"torchvision", "timm", "torchinfo", "fvcore", "pandas", "matplotlib", "rich", "tabulate", "numpy"}
LONGEST = 540


class Import(NamedTuple):
    """One imported module. top: at module level, and so whenever the file is imported. line: where it stands."""

    module: str
    top: bool
    line: int


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts)


def room_of(name: str) -> str:
    return name.partition(".")[0]


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file, in functions too, and the texts that `import_module` gets."""
    found: list[Import] = []
    package = "archscope." + ".".join(path.relative_to(HOME).parent.parts)

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, top, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path.name}:{child.lineno} has a relative import"
                assert child.module is not None
                inside = HOME.parent / child.module.replace(".", "/")
                for alias in child.names:
                    is_module = (inside / alias.name).with_suffix(".py").exists() or (inside / alias.name).is_dir()
                    module = f"{child.module}.{alias.name}" if is_module else child.module
                    found.append(Import(module, top, child.lineno))
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(("import_module", "__import__")):
                text = ast.unparse(child.args[0]).strip("f'\"").replace("{__name__}", package)
                found.append(Import(text.partition("{")[0].rstrip("."), top, child.lineno))
                if "{" in text:  # texts in this file say the rest
                    found.extend(Import(f"archscope.{name}", False, line) for name, line in _module_names(tree))
            visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    tree = ast.parse(path.read_text(encoding="utf-8"))
    visit(tree, True)
    return tuple(found)


def _module_names(tree: ast.AST) -> list[tuple[str, int]]:
    """The texts in a file that are names of modules of the package: "tracing.tracer"."""
    texts = [(n.value, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [(text, line) for text, line in texts if (HOME / f"{text.replace('.', '/')}.py").is_file() and "." in text]


def inside(path: Path) -> list[Import]:
    """What a file imports of archscope, by the name within the package."""
    own = [one for one in imports(path) if one.module == "archscope" or one.module.startswith("archscope.")]
    return [one._replace(module=one.module.removeprefix("archscope").removeprefix(".") or "__init__") for one in own]


@cache
def arrows() -> dict[str, dict[str, str]]:
    """Room -> the rooms that it imports, each with a place where it does."""
    found: dict[str, dict[str, str]] = {name: {} for name in ROOMS}
    for path in FILES:
        room = room_of(name_of(path))
        for one in inside(path):
            if room_of(one.module) != room:
                found[room].setdefault(room_of(one.module), f"{path.relative_to(HOME)}:{one.line}")
    return found


def test_nothing_is_loose() -> None:
    loose = {path.name for path in HOME.iterdir() if path.is_file() and path.suffix == ".py"}
    assert loose == {"__init__.py", "__main__.py"}
    folders = {path.name for path in HOME.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders | {"__init__", "__main__"} == set(ROOMS), "a room has no line in ROOMS, or a line no room"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    for other, place in arrows()[room].items():
        assert other in ROOMS[room], f"{place} imports {other}, which {room} may not"


def test_every_arrow_is_needed() -> None:
    spare = {room: sorted(allowed - arrows()[room].keys()) for room, allowed in ROOMS.items()}
    assert not {room: names for room, names in spare.items() if names}


def floors() -> dict[str, int]:
    found: dict[str, int] = {}

    def floor(room: str, way: tuple[str, ...]) -> int:
        assert room not in way, f"circle: {' > '.join((*way, room))}"
        if room not in found:
            found[room] = 1 + max([floor(other, (*way, room)) for other in ROOMS[room]], default=0)
        return found[room]

    for room in ROOMS:
        floor(room, ())
    return found


def test_rooms_floors_and_arrows_are_few() -> None:
    assert len(ROOMS) + 1 <= MOST_ROOMS
    assert max(floors().values()) <= MOST_FLOORS
    assert sum(map(len, ROOMS.values())) <= MOST_ARROWS


def test_no_circles() -> None:
    """Between files; what a package imports of itself when it is imported is no circle."""
    files = {name_of(path): path for path in FILES}
    below = {
        name: {one.module for one in inside(path) if one.module in files and one.module != name}
        for name, path in files.items()
    }
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"circle: {' > '.join((*way, name))}"
        if name not in done:
            for other in below[name]:
                walk(other, (*way, name))
            done.add(name)

    for name in below:
        walk(name, ())


def test_layers_and_operators_share_no_code() -> None:
    assert ROOMS["layers"] == ROOMS["operators"] == {"core"}


def is_family(name: str) -> bool:
    return name.startswith("zoo.") and name not in ("zoo.catalogue", "zoo.knobs", "zoo.__init__")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_packages_come_late(path: Path) -> None:
    name = name_of(path)
    at_once = {one.module.partition(".")[0] for one in imports(path) if one.top}
    graphs = {"numpy"} if name.startswith("sources.graphs.") else set()  # imported only to build an ONNX graph
    assert not at_once & (LATE - graphs)
    anywhere = {one.module.partition(".")[0] for one in imports(path)}
    if name.startswith(TORCH) or is_family(name):
        return
    assert "torch" not in at_once or name in ("operators.indexing", "operators.vision")
    assert "torch" not in anywhere or name.startswith(LATER)


@pytest.mark.parametrize("name", [p.stem for p in (HOME / "core").glob("*.py")])
def test_the_ground_needs_the_standard_library_only(name: str) -> None:
    outside = {one.module.partition(".")[0] for one in imports(HOME / "core" / f"{name}.py") if one.top}
    assert outside <= {*sys.stdlib_module_names, "archscope"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_and_lengths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text:
        assert path.name == "__init__.py"
        return
    tree = ast.parse(text)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if not is_family(name_of(path)) and not name_of(path).startswith(("operators.", "layers.")):  # lenet builds lenet
        assert path.stem not in functions - {"weightless"}, "a function that bears its module's name hides it"
    assert ast.get_docstring(tree), "a file says what it is for"
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
from archscope.core.formats import RENDERERS, text_of
trace = archscope.Trace.from_json(Path({str(stored)!r}))
table = archscope.layer_table(trace)
for name in set(RENDERERS) - {{"md"}}:
    assert text_of(table, name)
assert trace._repr_html_()
assert archscope.totals(trace)["params"] == 61706
"""
    assert not loaded(code) & {"torch", "pandas", "numpy", "torchvision"}
