"""What is promised when things go wrong: files are written whole or not at all, and an error is one sentence.

kill -9, a full disk, folders that cannot be written, eight writers at once, no home, LANG=C, python -OO, 40 columns.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archscope import Trace
from archscope.core.files import save
from archscope.gate.lock import read

unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, signals and limits")
MODELS = ("lenet", "lstm", "rnn", "inception-block", "dense-block", "residual-block", "gru-classifier", "mnist-cnn")
# what writes a file: the words, the file, and what is in it before
WRITERS = {
    "trace lenet.json --output out.md": "out.md",
    "trace lenet.json --output out.csv": "out.csv",
    "trace lenet.json --save again.json": "again.json",
    "table lenet.json lstm.json --output table.tex": "table.tex",
    "explain lenet.json --output explained.md": "explained.md",
    "draw lenet.json --output lenet.svg": "lenet.svg",
    "quiz lenet.json --output sheet.md": "sheet.md",
    "plot layers lenet.json --output plot.svg": "plot.svg",
    "report --models lenet.json --html page.html": "page.html",
    "lock lenet.json lstm.json --lock net.lock": "net.lock",
    "sweep lenet --over batch=1:40 --output grid.csv": "grid.csv",
}
OLD = b"what was there before\n"


@pytest.fixture
def here(traced: Callable[..., Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in MODELS:
        (tmp_path / f"{name}.json").write_text(traced(name).to_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def before(file: str) -> bytes:
    """Something that the command may replace: a lock that it can read, else any bytes."""
    old = b'{"archscope_lock":1}\n{"end":"archscope_lock"}\n' if file.endswith(".lock") else OLD
    Path(file).write_bytes(old)
    return old


def one_sentence(ran: Any) -> None:
    assert ran.code == 2, ran
    assert ran.err.startswith("archscope: ") and ran.err.count("\n") == 1, ran.err
    assert "bug" not in ran.err


def parts() -> list[str]:
    return [path.name for path in Path().iterdir() if path.name.startswith(".archscope-")]


# ------------------------------------------------------------------------------------------------------------- kill -9


@unix
@pytest.mark.parametrize("words", [words for words in WRITERS if "sweep" not in words])
def test_kill_before_the_new_file_is_in_its_place(words: str, here: Path, archscope: Any) -> None:
    file = WRITERS[words]
    old = before(file)
    ready, told = os.pipe()
    child = os.fork()
    if not child:

        def stop(*_: Any) -> None:
            os.write(told, b"x")
            time.sleep(60)

        os.replace = stop  # type: ignore[assignment]
        archscope(*words.split())
        os._exit(3)
    assert os.read(ready, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert Path(file).read_bytes() == old
    ran = archscope(*words.split())
    assert ran.code == 0, ran.err
    assert Path(file).read_bytes() != old


@unix
def test_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    file, chance = tmp_path / "file", random.Random(19)
    for _ in range(30):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                for number in range(10**6):
                    save(f"{number} " * 20_000, file)
            os._exit(3)
        deadline = time.monotonic() + 30
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.random() / 30)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        words = file.read_text().split()
        assert len(words) == 20_000 and len(set(words)) == 1


# ----------------------------------------------------------------------------------------------------- a full disk


@contextlib.contextmanager
def full(size: int = 300) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk without room."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@unix
@pytest.mark.parametrize("words", WRITERS)
def test_a_full_disk(words: str, here: Path, archscope: Any) -> None:
    file = WRITERS[words]
    old = before(file)
    with full():
        ran = archscope(*words.split())
    one_sentence(ran)
    assert Path(file).read_bytes() == old
    assert not parts()
    ran = archscope(*words.split())  # with room again
    assert ran.code == 0, ran.err
    assert Path(file).read_bytes() != old


@unix
def test_a_full_disk_and_pages(here: Path, archscope: Any) -> None:
    with full():
        one_sentence(archscope("report", "--models", "lenet.json", "--out", "pages"))
    assert not [path for path in Path("pages").rglob("*") if path.is_file() and not path.stat().st_size]


@unix
def test_a_full_disk_of_the_store(tmp_path: Path) -> None:
    """A run whose record cannot be stored is a run."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
from archscope.cli import main
main()
"""
    env = {**os.environ, "ARCHSCOPE_CACHE": str(tmp_path / "store")}
    words = [sys.executable, "-c", code, "trace", "lenet", "--input", "30"]
    ran = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    assert (ran.returncode, ran.stderr) == (0, "")
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not left


# ------------------------------------------------------------------------------------------ what cannot be written


@unix
@pytest.mark.parametrize("words", WRITERS)
@pytest.mark.parametrize("how", ["folder", "nothing", "system", "read-only"])
def test_a_place_that_cannot_be_written(words: str, how: str, here: Path, archscope: Any) -> None:
    file = WRITERS[words]
    place = {"folder": f"taken/{file}", "nothing": f"none/{file}", "system": f"/proc/{file}"}.get(how, f"closed/{file}")
    if how == "folder":
        Path(place).mkdir(parents=True)
    if how == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        Path("closed").mkdir(mode=0o555)
    if how == "system" and not os.path.isdir("/proc"):
        pytest.skip("there is no /proc")
    there = {path.name for path in Path().rglob("*")}
    ran = archscope(*(place if word == file else word for word in words.split()))
    one_sentence(ran)
    assert place in ran.err
    assert {path.name for path in Path().rglob("*")} == there


@unix
def test_pages_in_a_place_that_cannot_be_written(here: Path, archscope: Any) -> None:
    Path("file").touch()
    one_sentence(archscope("report", "--models", "lenet.json", "--out", "file"))
    one_sentence(archscope("report", "--models", "lenet.json", "--out", "file/pages"))
    one_sentence(archscope("report", "--models", "lenet.json", "--out", "/proc/pages"))


# ---------------------------------------------------------------------------------------------- eight writers at once


@unix
def test_eight_writers_of_one_file(here: Path, archscope: Any) -> None:
    children = []
    for i, name in enumerate(MODELS):
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                codes = [archscope("lock", f"{name}.json", "--lock", "net.lock").code,
                         archscope("trace", f"{name}.json", "--save", "one.json").code,
                         archscope("report", "--models", f"{name}.json,lenet.json", "--out", "pages").code,
                         archscope("plot", "layers", f"{name}.json", "-o", "one.svg").code if i < 2 else 0]  # fmt: skip
                code = max(codes)
            os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert sorted(read("net.lock")) == sorted(f"{name}.json" for name in MODELS)
    Trace.from_json(Path("one.json"))
    assert Path("one.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert "lenet" in Path("pages/README.md").read_text(encoding="utf-8")
    assert not parts()


# ------------------------------------------------------------------------------------------- poor surroundings

POOR = {
    "no home": {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None},
    "a home that is not there": {"HOME": "FOLDER/gone", "XDG_CACHE_HOME": None, "MPLCONFIGDIR": None},
    "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
    "PYTHONOPTIMIZE=2": {"PYTHONOPTIMIZE": "2"},
    "40 columns": {"COLUMNS": "40"},
}
ASKED = [
    "trace lenet.json",
    "explain lenet.json conv1",
    "verify lenet.json",
    "draw lenet.json --output new.svg",
    "plot layers lenet.json --output new.svg",
    "trace lenet.json --output new.md",
    "report --models lenet.json --out new",
    "lock lenet.json",
    "cache show",
    "trace --help",
]


@pytest.mark.parametrize("how", POOR)
def test_poor_surroundings(how: str, here: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "ARCHSCOPE_CACHE")}
    for key, value in POOR[how].items():
        env.pop(key, None)
        env |= {key: value.replace("FOLDER", str(here))} if value is not None else {}
    code = """
import json, sys
from archscope.cli import app, main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""
    words = [sys.executable, "-c", code, json.dumps([each.split() for each in ASKED])]
    ran = subprocess.run(words, env=env, capture_output=True)
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    out = ran.stdout.decode("ascii" if how == "LANG=C" else "utf-8")
    assert "conv1" in out and "61,706" in out
    if how == "40 columns":
        whole = ("archscope ", "/", "1 model: ")  # what is copied, commands and paths, and messages
        assert not [line for line in out.splitlines() if len(line) > 40 and not line.strip().startswith(whole)]
    for file in ("new.md", "new.svg", "archscope.lock", "new/README.md"):
        assert Path(file).read_text(encoding="utf-8")
    assert "×" in Path("new.md").read_text(encoding="utf-8")  # a file is UTF-8 wherever it is written
