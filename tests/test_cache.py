"""The store of records: every change of a model is seen, what cannot be known is not stored, an entry is data."""

import json
import os
import pickle
import py_compile
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archscope.core.record import Trace
from archscope.sources import records, ship, shipped, store
from archscope.zoo.catalogue import entries

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks one process for each change")

NET = """
import json, os
from pathlib import Path
import torch
from torch import nn
import helper
from parts.block import WIDTH
from plugin import DEPTH

HERE = Path(__file__).parent
with open(HERE / "cfg.yaml") as stream:
    CLASSES = int(stream.read().split(":")[1])
DATA = json.loads((HERE / "data.json").read_text())
BLOCKS = len(os.listdir(HERE / "blocks"))
FLAG = os.path.exists(HERE / "flag")
LINK = (HERE / "link.txt").read_text()
SIZE = os.path.getsize(HERE / "w.bin")
MADE = os.stat(HERE / "w.bin").st_mtime

class Net(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        width = int(os.environ.get("NET_WIDTH", width)) + int(os.getenv("NET_DEPTH", "0"))
        self.token = nn.Parameter(torch.randn(1, width))
        self.first = nn.Linear(helper.SIDE, width, bias="NET_BIAS" not in os.environ)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.last(self.first(x) + self.token)

def example_inputs():
    return torch.zeros(1, helper.SIDE)
"""

# one lookup in a process of its own, after some code
ASK = """
import json, os, sys, importlib
from archscope.sources import ship, shipped, store, watch
for line in sys.stdin:
    change, asked = json.loads(line)
    out, into = os.pipe()
    if not (child := os.fork()):
        try:
            exec(change)
            answer = str(store.find(store.asked_of(*asked)) is not None)
        except BaseException as error:
            answer = repr(error)
        os.write(into, answer.encode())
        os._exit(0)
    os.waitpid(child, 0)
    print(os.read(out, 1000).decode(), flush=True)
"""
RECORD = "import archscope; archscope.record_of('net.py:Net')"


class Project:
    """A folder with a model, whose record is stored, and a process that looks it up."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("NET_", "ARCHSCOPE_", "TORCH"))}
        self.env |= {"ARCHSCOPE_CACHE": f"{folder}-store", "ARCHSCOPE_EXPLAIN_CACHE": "1"}
        self.env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(Path(store.__file__).parents[2])])
        texts = {
            "net.py": NET, "helper.py": "SIDE = 16\n", "parts/__init__.py": "\n", "parts/block.py": "WIDTH = 24\n",
            "cfg.yaml": "classes: 10\n", "data.json": "[1, 2]", "blocks/a.txt": "a", "blocks/b.txt": "b",
            "a.txt": "one", "b.txt": "two", "w.bin": "0123", "site/plugin.py": "DEPTH = 3\n",
            "site/plugin-1.0.dist-info/METADATA": "Name: plugin\n", "other/readme": "",
        }  # fmt: skip
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "link.txt").symlink_to("a.txt")
        old = time.time() - 60
        for path in sorted(folder.rglob("*")):
            os.utime(path, (old, old))
        while time.time() - max(p.lstat().st_ctime for p in folder.rglob("*")) < 0.05:
            time.sleep(0.01)
        ran = subprocess.run(
            [sys.executable, "-c", RECORD], cwd=folder, env=self.env, capture_output=True, text=True, encoding="utf-8"
        )
        assert "stored in" in ran.stderr, ran.stderr
        self.asker = subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=folder, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )  # fmt: skip

    def found(self, change: str = "", *asked: Any) -> str:
        assert self.asker.stdin and self.asker.stdout
        self.asker.stdin.write(json.dumps([change, asked or ("net.py:Net",)]) + "\n")
        self.asker.stdin.flush()
        return self.asker.stdout.readline().strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Any:
    made = Project(tmp_path_factory.mktemp("project"))
    yield made
    made.asker.communicate()


def edited(name: str, text: str) -> str:
    """Write a file within the second, and the length, that it has."""
    return (
        f"was = os.stat({name!r})\nold = open({name!r}).read()\nopen({name!r}, 'w').write({text!r})\n"
        f"os.utime({name!r}, ns=(was.st_atime_ns, was.st_mtime_ns))"
    )


COPY = """
import shutil
copy = os.getcwd() + "-copy"
shutil.rmtree(copy, ignore_errors=True)
shutil.copytree(store.ROOT, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
store.ROOT = copy
{}
"""

# each is made in the project's folder, one at a time, and undone from a copy of it
CHANGES = {
    "the model's file": "open('net.py', 'a').write('# changed')",
    "the same length, within the second": edited("net.py", NET.replace("self.last(", "self.lost(")),
    "a helper": "open('helper.py', 'w').write('SIDE = 32')",
    "a helper, the same length within the second": edited("helper.py", "SIDE = 17\n"),
    "a helper that is gone": "os.unlink('helper.py')",
    "a helper that became a link": "os.unlink('helper.py'); open('x', 'w').write('S=5'); os.symlink('x', 'helper.py')",
    "a package's __init__": "open('parts/__init__.py', 'w').write('x = 1')",
    "a module of a package": "open('parts/block.py', 'w').write('WIDTH = 25')",
    "a module on the import path": "open('site/plugin.py', 'w').write('DEPTH = 4')",
    "a YAML": "open('cfg.yaml', 'w').write('classes: 11')",
    "a YAML, the same length within the second": edited("cfg.yaml", "classes: 99\n"),
    "a JSON": "open('data.json', 'w').write('[1, 3]')",
    "a JSON that is gone": "os.unlink('data.json')",
    "a folder that got a file": "open('blocks/c.txt', 'w').close()",
    "a folder that lost a file": "os.unlink('blocks/a.txt')",
    "a folder with a renamed file": "os.rename('blocks/a.txt', 'blocks/z.txt')",
    "a file that was not there": "open('flag', 'w').close()",
    "a link's target": "os.unlink('link.txt'); os.symlink('b.txt', 'link.txt')",
    "what a link points to": "open('a.txt', 'w').write('eno')",
    "a size that was asked for": "open('w.bin', 'a').write('4')",
    "a time that was asked for": "os.utime('w.bin')",
    "a variable that was not set": "os.environ['NET_WIDTH'] = '7'",
    "a variable read by getenv": "os.environ['NET_DEPTH'] = '1'",
    "a variable that is looked for": "os.environ['NET_BIAS'] = ''",
    "a variable of PyTorch": "os.environ['TORCH_SOMETHING'] = '1'",
    "a variable of timm": "os.environ['TIMM_FUSED_ATTN'] = '0'",
    "a file that hides a module": "open('json.py', 'w').close()",
    "a folder that hides a module": "os.mkdir('torch'); open('torch/__init__.py', 'w').close()",
    "a module of an earlier folder": "open('plugin.py', 'w').write('DEPTH = 5')",
    "another version of a package": "os.rename('site/plugin-1.0.dist-info', 'site/plugin-1.1.dist-info')",
    "the same version, installed again": "os.utime('site/plugin-1.0.dist-info')",
    "a package more": "os.mkdir('site/more-1.0.dist-info')",
    "a .pth file": "open('site/paths.pth', 'w').close()",
    "the import path": "sys.path.insert(1, '/somewhere')",
    "the working folder": "os.chdir('other')",
    "the version of torch": "store.torch_version = lambda: '9.9'",
    "the version of archscope": "store.__version__ = '9.9'",
    "the version of Python": "sys.version = '3.99'",
    "the machine": "os.uname = lambda: ('Plan9', 'there', '1', '1', 'vax')",
    "the counting version": COPY.format("open(copy + '/operators/__init__.py', 'a').write('\\nCOUNTING = 99\\n')"),
    "a rule": COPY.format("open(copy + '/operators/pooling.py', 'a').write('#')"),
    "the tracer": COPY.format("open(copy + '/tracing/tracer.py', 'a').write('#')"),
    "a conftest.py that replaces something": "open('conftest.py', 'w').write('import json'); import conftest",
    "PyTorch loaded and perhaps changed": "import types; sys.modules['torch'] = types.ModuleType('torch')",
    "a fresh run wanted": "os.environ['ARCHSCOPE_FRESH'] = '1'",
    "the store switched off": "os.environ['ARCHSCOPE_CACHE'] = 'off'",
}  # fmt: skip
ASKED = {
    "another model": ("net.py:Other",),
    "an argument": ("net.py:Net@width=25",),
    "an input": ("net.py:Net", "1x16"),
    "a dtype": ("net.py:Net", "1x16:float64"),
    "a batch": ("net.py:Net", None, 2),
    "training mode": ("net.py:Net", None, None, True),
}
NO_CHANGE = {
    "nothing": "",
    "a folder beside it": "os.mkdir('results')",
    "a file beside it": "open('notes.txt', 'w').close()",
    "another variable": "os.environ['SOMETHING'] = '1'",
    "a copy of archscope": COPY.format(""),
    "the model's time only": "os.utime('net.py')",
}


def in_a_copy(project: Project, change: str, *asked: Any) -> str:
    """Look up after a change, which is then undone: files keep their places, so that paths are the same."""
    before = {path: (path.read_bytes() if path.is_file() else None, path.lstat()) for path in walk(project.home)}
    links = {path: os.readlink(path) for path in before if path.is_symlink()}
    try:
        return project.found(change, *asked)
    finally:
        for path in sorted(walk(project.home), reverse=True):
            if path not in before or path.is_symlink():
                path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        for path, (data, _) in sorted(before.items()):
            if path in links:
                path.symlink_to(links[path])
                continue
            if data is None:
                path.mkdir(exist_ok=True)
            elif not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
        for path, (_, was) in sorted(before.items(), reverse=True):
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns), follow_symlinks=False)


def walk(home: Path) -> list[Path]:
    return list(home.rglob("*"))


@posix
@pytest.mark.parametrize("name", CHANGES)
def test_a_stale_record_is_not_used(project, name) -> None:
    assert in_a_copy(project, CHANGES[name]) == "False"


@posix
@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_for_counts(project, name) -> None:
    assert project.found("", *ASKED[name]) == "False"


@posix
@pytest.mark.parametrize("name", NO_CHANGE)
def test_an_unchanged_model_is_answered(project, name) -> None:
    """After all the changes above, too: each was undone, so that it was the change that was seen."""
    assert in_a_copy(project, NO_CHANGE[name]) == "True"


def test_forty_kinds_of_changes() -> None:
    assert len(CHANGES) + len(ASKED) >= 40


# ------------------------------------------------------------------------------------------- what cannot be known

HEAD = "import torch\nfrom torch import nn\ndef example_inputs(): return torch.zeros(1, 4)\n"
UNKNOWN = {  # what a model does, and a word of the reason
    "import time\nW = 4 + int(time.time()) % 1": "clock",
    "from time import time\nW = 4 + int(time()) % 1": "clock",
    "import datetime\nW = 4 + datetime.datetime.now().year % 1": "clock",
    "import random\nW = random.randint(4, 4)": "random",
    "import numpy as np\nW = int(np.random.randint(4, 5))": "random",
    "import numpy as np\nW = int(np.random.default_rng().integers(4, 5))": "random",
    "import uuid\nW = 4 + uuid.uuid4().int % 1": "random",
    "W = 4 + int(torch.rand(1).item())": "random",
    "W = len(torch.rand(4).tolist())": "random",
    "import os\nW = 4 + os.getpid() % 1": "machine",
    "import os\nW = 4 + os.cpu_count() % 1": "machine",
    "import os\nW = 4 + os.urandom(1)[0] % 1": "machine",
    "import sys\nW = 4 + len(sys.argv[1:]) % 1": "command line",
    "import argparse\nargparse.ArgumentParser().parse_known_args()\nW = 4": "command line",
    "import subprocess\nsubprocess.run(['true'])\nW = 4": "another program",
    "import os\nos.system('true')\nW = 4": "another program",
    "import socket\nwith socket.socket() as s: s.connect_ex(('127.0.0.1', 9))\nW = 4": "network",
    "import sqlite3\nsqlite3.connect(':memory:').close()\nW = 4": "database",
    "open('made.txt', 'w').close()\nW = 4": "writes",
    "W = 4 + len(open('/proc/uptime').read()) * 0": "machine",
    "W = 4 + len(torch.jit.__name__) * 0\ndef load(): return torch.jit.load('x')": "native",
    "import ctypes\nctypes.CDLL(None)\nW = 4": "native",
    "import os\nos.environb.get(b'A')\nW = 4": "bytes",
}
KNOWN = [
    "W = 4",
    "import json\nW = 4",
    "W = nn.Parameter(torch.randn(4)).numel()",
    "import os\nW = int(os.getenv('W', '4'))",
]
RUNS = """
import io, json, os, sys, contextlib
import archscope
from archscope.sources import watch
with watch.loading():
    import torch
    import archscope.tracing.tracer
for name in json.loads(sys.argv[1]):
    out, into = os.pipe()
    if not (child := os.fork()):
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            try:
                archscope.record_of(f"{name}:Net")
            except BaseException as error:
                told.write(repr(error))
        os.write(into, told.getvalue().replace("\\n", " ").encode()[:4000])
        os._exit(0)
    os.waitpid(child, 0)
    print(os.read(out, 4000).decode(), flush=True)
"""


@posix
def test_what_cannot_be_known_is_not_stored(tmp_path) -> None:
    codes = [*UNKNOWN, *KNOWN]
    for number, code in enumerate(codes):
        text = f"{HEAD}{code}\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(W, 2)\n"
        (tmp_path / f"n{number}.py").write_text(text)
    time.sleep(0.05)
    names = [f"n{number}.py" for number in range(len(codes))]
    env = {**os.environ, "ARCHSCOPE_CACHE": str(tmp_path / "store"), "ARCHSCOPE_EXPLAIN_CACHE": "1"}
    command = [sys.executable, "-c", RUNS, json.dumps(names)]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8")
    told = dict(zip(codes, ran.stdout.splitlines(), strict=True))
    assert {
        code: told[code] for code, word in UNKNOWN.items() if f"{word}" not in told[code].partition("not stored")[2]
    } == {}
    assert {code: told[code] for code in KNOWN if "stored in" not in told[code]} == {}


# ------------------------------------------------------------------------------------------------ an entry is data


@pytest.fixture
def entry(traced) -> Any:
    """A stored record of lenet: its path and what was asked for."""
    body = {"key": {"model": "lenet", "inputs": [], "batch": None, "train": False}, "dependencies": []}
    path = os.path.join(store.folder(), "records", "ab", "abcd")
    store.write(path, json.dumps({**body, "record": traced("lenet").to_json()}).encode())
    return path


def test_an_entry_is_read_as_it_was_written(entry, traced) -> None:
    found = store.read(entry)
    assert found is not None and found.asked == store.asked_of("lenet")
    assert Trace.from_json(found.record) == traced("lenet")


@pytest.mark.parametrize(
    "how", ["cut", "changed", "empty", "long", "folder", "link", "pickle", "deep", "bomb", "other"]
)
def test_a_damaged_or_hostile_entry_is_none(entry, how, tmp_path) -> None:
    path, data = Path(entry), Path(entry).read_bytes()
    marker = tmp_path / "ran"
    if how == "cut":
        path.write_bytes(data[:-1])
    elif how == "changed":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "long":
        path.write_bytes(data + b"x")
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "link":
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    elif how == "pickle":

        class Hostile:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(marker),)

        store.write(entry, pickle.dumps(Hostile()))
    elif how == "deep":
        store.write(entry, b"[" * 100_000)
    elif how == "bomb":
        path.write_bytes(store.HEAD + b"0" * 64 + b"\n" + b"\0" * 10_000)
    else:
        store.write(entry, json.dumps({"key": [], "dependencies": 3, "record": {}}).encode())
    assert store.read(entry) is None
    assert not marker.exists()


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("tensors", {"0": [["__import__('os')"], "float32"]}),
        ("tensors", {"0": [[-1], "float32"]}),
        ("layers", []),
        ("model", 3),
        ("train", "yes"),
        ("versions", {"torch": []}),
        ("composites", [["aten.einsum", {}, 0, 10**9]]),
    ],
)
def test_a_record_that_no_run_gives_is_refused(traced, where, what) -> None:
    body = json.loads(traced("lenet").to_json())
    store.checked(json.dumps(body))
    body[where] = {**body[where], **what} if where == "tensors" else what
    with pytest.raises((ValueError, TypeError)):
        store.checked(json.dumps(body))


def test_old_entries_make_room(monkeypatch) -> None:
    monkeypatch.setenv("ARCHSCOPE_CACHE_SIZE", "0.1")
    for number in range(10):
        path = os.path.join(store.folder(), "records", "aa", str(number))
        store.write(path, os.urandom(20_000))
        os.utime(path, (number, number))
    store.trim()
    assert sorted(os.path.basename(path) for path, _ in store.entries()) == ["6", "7", "8", "9"]  # 5 × 20,106 > 100,000


WRITES = """
import json, os, sys
from archscope.sources import store
n = 0
while True:
    n += 1
    key = {"model": f"m{n % 20}", "inputs": [], "batch": None, "train": False}
    body = {"key": key, "dependencies": [], "record": json.dumps([n % 20] * 5000)}
    store.write(os.path.join(store.folder(), "records", "aa", f"m{n % 20}"), json.dumps(body).encode())
"""


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_writers_leave_no_wrong_entry(tmp_path, kills) -> None:
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("there is no kill -9")
    env = {**os.environ, "ARCHSCOPE_CACHE": str(tmp_path / "store")}
    os.makedirs(tmp_path / "store")

    def begin() -> Any:
        return subprocess.Popen([sys.executable, "-c", WRITES], env=env)

    writers = [begin() for _ in range(8)]
    chance = random.Random(17)
    try:
        while not (tmp_path / "store/records/aa/m19").exists():
            time.sleep(0.05)
        seen = 0
        for number in range(kills):
            time.sleep(chance.random() / 4)
            place = number % 8
            writers[place].kill()
            writers[place].wait()
            for path in (tmp_path / "store/records/aa").iterdir():
                if path.suffix != ".part":
                    found = store.read(str(path))
                    assert found is not None and json.loads(found.record) == [int(path.name[1:])] * 5000
                    seen += 1
            writers[place] = begin()
        assert seen >= 20
    finally:
        for one in writers:
            one.kill()
            one.wait()


def run(code: str, cwd: Path, **env: str) -> Any:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("place", ["/proc/archscope", "/dev/null/archscope"])
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, place) -> None:
    if not os.path.exists("/dev/null"):
        pytest.skip("there is no such folder")
    code = "from archscope.cli import app\napp(['trace', 'lenet', '--input', '30'])"
    ran = run(code, tmp_path, ARCHSCOPE_CACHE=place)
    assert (ran.returncode, ran.stderr) == (0, "")


# ------------------------------------------------------------------------------------------------------------ zoo


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The file of the zoo's records, made anew."""
    path = tmp_path_factory.mktemp("zoo") / "records.bin"
    path.write_bytes(ship.made())
    return path


def test_the_zoo_comes_with_its_records(made, traced, monkeypatch) -> None:
    """The file that a wheel has; `.ci/package` makes it before it builds."""
    monkeypatch.setattr(shipped, "FILE", str(made))
    head, place = shipped._head.__wrapped__()
    assert list(head["records"]) == list(entries()) and head["code"] == store.code_digest()
    assert made.stat().st_size <= 600_000
    assert not [name for name in entries() if shipped.read(head, place, name).trace() != traced(name)]


WITHOUT = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = sys.modules["torchvision"] = None
from archscope.sources import shipped
shipped.FILE = sys.argv.pop(1)
from archscope.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "command",
    [
        "trace alexnet", "table --models all", "explain alexnet conv1", "draw alexnet", "quiz lenet", "diff lenet nin",
        "report --models lenet,lstm --html page.html",
    ],
)  # fmt: skip
def test_the_zoo_needs_no_torch(made, archscope, tmp_path, command, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run_without(made, tmp_path, command)
    assert ran.returncode == 0, ran.stderr
    if "--html" not in command:
        with_torch = archscope(*command.split()).out
        assert unsigned(ran.stdout) == unsigned(with_torch)


def unsigned(text: str) -> list[str]:
    return [line.partition(", torch ")[0] for line in text.splitlines()]


def run_without(made: Path, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that has no PyTorch."""
    words = [sys.executable, "-c", WITHOUT, str(made), *command.split()]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, encoding="utf-8", env=env)


def test_other_runs_of_the_zoo_say_that_torch_is_missing(made, tmp_path) -> None:
    ran = run_without(made, tmp_path, "trace alexnet --batch 2")
    assert ran.returncode == 2 and "PyTorch" in ran.stderr and "bug" not in ran.stderr


@pytest.mark.parametrize(
    "command", ["memory lenet", "fit lenet --memory 24GB", "trace torchvision:resnet18", "sizes lenet"]
)
def test_a_command_that_runs_models_says_that_torch_is_missing(made, tmp_path, command) -> None:
    ran = run_without(made, tmp_path, command)
    assert ran.returncode == 2 and "is not installed: pip install torch" in ran.stderr and "bug" not in ran.stderr


def test_a_record_says_that_it_was_stored(made, tmp_path) -> None:
    code = f"""
import archscope
from archscope.sources import shipped
shipped.FILE = {str(made)!r}
stored = archscope.record_of("alexnet")
model, inputs = archscope.load("alexnet")
assert stored.cached and not archscope.trace(model, inputs).cached
assert stored == archscope.trace(model, inputs) and "cached" not in stored.to_json()
assert not archscope.record_of("alexnet").cached  # PyTorch is loaded
"""
    ran = run(code, tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_cache_shows_verifies_and_clears(tmp_path, archscope) -> None:
    env = {"ARCHSCOPE_CACHE": str(tmp_path / "store")}
    code = "from archscope.cli import app\napp({})"
    assert run(code.format(["trace", "lenet", "--input", "30"]), tmp_path, **env).returncode == 0
    shown = archscope("cache", "show", env=env)
    assert "1 record, 0.0 MB of 256 MB" in shown.out
    ran = run(code.format(["cache", "verify"]), tmp_path, **env)
    assert (ran.returncode, ran.stdout) == (0, "✓ lenet 30\n1 run again, 0 wrong\n"), ran.stderr
    assert archscope("cache", "clear", env=env).out == "1 record deleted\n"
    assert "0 records" in archscope("cache", "show", env=env).out


def test_a_step_is_stored_too(tmp_path) -> None:
    """A second `memory` says the same without PyTorch; a new run of the entry gives it again."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ARCHSCOPE_")} | {"ARCHSCOPE_CACHE": str(tmp_path)}
    code = """
import sys
from archscope.cli import app
try:
    app(sys.argv[1:])
except SystemExit:
    print("torch" in sys.modules)
"""

    def run(*words: str) -> list[str]:
        command = [sys.executable, "-c", code, *words]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", check=True)
        return ran.stdout.splitlines()

    line = ("memory", "resnet18-d2l", "--optimizer", "adamw", "--precision", "bf16-mixed")
    *first, one = run(*line)
    *second, other = run(*line)
    assert first == second and (one, other) == ("True", "False")
    assert run("cache", "verify")[-2] == "2 run again, 0 wrong"  # the step, and that with checkpoints


def test_a_step_is_asked_for_with_all_its_conditions(monkeypatch) -> None:
    asked, ran = [], []

    def noted(spec: str, what: store.RecordRequest, run: Any) -> None:
        asked.append(what)
        ran.append("kept")

    monkeypatch.setattr(records, "_stored_or_run", noted)
    monkeypatch.setattr(records, "_step", lambda *given: ran.append("run"))
    others = {"optimizer": "adamw", "implementation": "fused", "loss": "mean-square", "precision": "bf16",
              "attention": "flash", "frozen": ("fc*",), "accumulate": 2, "checkpoint": ("conv*",)}  # fmt: skip
    for conditions in ({}, *({key: value} for key, value in others.items()), dict(list(others.items())[:2])):
        records.step_of("lenet", **conditions)
    records.step_of("lenet", batch=3)
    records.step_of("lenet", "1x1x32x32")
    assert len(set(asked)) == len(asked) == len(ran) == 12 and store.asked_of("lenet") not in asked
    records.step_of("lenet", loss=lambda output: output.sum())  # nobody knows what a function depends on
    assert len(asked) == 12 and ran[-1] == "run"


def test_the_code_of_a_users_file_is_read_without_writing_beside_it(tmp_path: Path) -> None:
    """Names are looked for in the bytecode that an import made, where it is of this source, else in the source."""
    from archscope.sources.watch import Dependencies

    file = tmp_path / "clocked.py"
    file.write_text("import datetime\nnow = datetime.datetime.now()\n", encoding="utf-8")
    fresh = Dependencies()
    fresh._scan("clocked", str(file))
    assert fresh.unknown == ["clocked.py asks for the clock (now)"] and [*tmp_path.iterdir()] == [file]
    py_compile.compile(str(file))
    file.write_text("import datetime\nmoment = datetime.datetime.max\n", encoding="utf-8")  # its bytecode is stale
    os.utime(file, ns=(0, 0))
    later = Dependencies()
    later._scan("clocked", str(file))
    assert later.unknown == []
