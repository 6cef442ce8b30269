"""Damage files, and run the commands that read them: `python tests/fuzz KIND,KIND [CASES] [SEED] [FIRST]`.

The folder of what went wrong is kept; `python tests/fuzz lock 18 0 17` runs case 17 alone. All cases run in this
process through the command line's own entry, each in a folder of its own. A case holds where the command ends with 0,
1 or 2 within the limits, says one sentence where it ends with 2, and changes no file.
"""

import faulthandler
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

os.environ |= {"ARCHSCOPE_CACHE": "off", "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": tempfile.mkdtemp(), "TERM": "dumb"}
for variable in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "ARCHSCOPE_DEBUG", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
    os.environ.pop(variable, None)
os.environ["MPLBACKEND"] = "agg"

from kinds import KINDS  # noqa: E402

SECONDS = 2.0  # of processor time, for a case
WAIT = 30.0  # of the clock, for a case that waits for something
MEMORY = 200e6  # bytes beyond those before the case
LONGEST = 1500  # characters on stderr


class Hang(BaseException):
    """A case that takes too long. No Exception, so that nothing catches it."""


def _stop(number: int, frame: Any) -> None:
    raise Hang(f"{frame.f_code.co_filename}:{frame.f_lineno}")


def memory(key: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since `reset`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def reset() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(arguments: list[str], told: Path, seconds: float = SECONDS) -> tuple[Any, str, str]:
    """Exit code, stdout and stderr of a command; what libraries write past Python is in stderr too."""
    from archscope.cli import app

    out, err = io.StringIO(), io.StringIO()
    before = told.stat().st_size
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, max(WAIT, 3 * seconds))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            app(arguments, prog_name="archscope")
        code: Any = "none"
    except SystemExit as end:
        code = end.code
    except Hang as hang:
        code = f"hang at {hang}"
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    with open(told, "rb") as stream:
        stream.seek(before)
        return code, out.getvalue(), err.getvalue() + stream.read().decode(errors="replace")


def wrong(code: Any, out: str, err: str) -> str:
    """What a command did that it may not."""
    if code not in (0, 1, 2):
        return f"ends with {code}"
    if "this is a bug" in err or "Traceback" in err or "Traceback" in out:
        return "a bug"
    lines = err.splitlines()
    if code == 2 and (len(lines) != 1 or not lines[0].startswith("archscope: ")):
        return f"{len(lines)} lines on stderr"
    if code == 1 and not out and not err:
        return "nothing is said"
    if len(err) > LONGEST:
        return f"{len(err):,} characters on stderr"
    if any(ord(c) < 32 and c not in "\n\t" or ord(c) == 127 for c in err):
        return "a control character on stderr"
    return ""


def prepare(name: str, home: Path) -> Path:
    """A folder with the files of a kind. Each command has run on them: its imports are no part of a case."""
    made = home / "made"
    made.mkdir()
    os.chdir(made)
    KINDS[name].make(made)
    for i, words in enumerate(KINDS[name].commands):
        shutil.copytree(made, home / f"whole-{i}")
        os.chdir(home / f"whole-{i}")
        code, _, err = run(words.split(), home / "stderr", 100)
        if code not in (0, 1):
            sys.exit(f"{name}: {words}: {code}: {err}")
    return made


def odd(file: Path, what: int) -> None:
    """What is no file: a pipe that nobody writes, a device, a folder, a link to nothing, a file without a byte."""
    file.unlink()
    if what == 0:
        os.mkfifo(file)
    elif what == 1:
        file.symlink_to("/dev/zero")
    elif what == 2:
        file.mkdir()
    elif what == 3:
        file.symlink_to("nothing")
    else:
        file.touch()


ODD = 5


def main(name: str, cases: int = 100, seed: int = 0, first: int = -ODD) -> bool:
    """Run the cases from `first` on; those below 0 are no files. Prints what was found as a line of JSON."""
    home = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    told = home / "stderr"
    told.touch()
    sys.stderr = sys.stdout  # what goes wrong here; each command has its own
    os.dup2(os.open(told, os.O_WRONLY | os.O_APPEND), 2)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, _stop)
    made = prepare(name, home)
    kind = KINDS[name]
    cases = round(cases * kind.part) if first < 0 else cases
    found: list[dict[str, Any]] = []
    codes: dict[str, int] = {}
    slowest, most = 0.0, 0
    for case in range(first, cases):
        chance = Random(f"{name} {seed} {case}")
        place, seconds = home / str(case), SECONDS
        shutil.copytree(made, place)
        os.chdir(place)
        if case < 0:
            odd(Path(kind.file), -1 - case)
        else:
            data = kind.damage((made / kind.file).read_bytes(), chance)
            Path(kind.file).write_bytes(data)
            seconds += kind.work(data)
        words = chance.choice(kind.commands).split()
        before = contents(place)
        faulthandler.dump_traceback_later(2 * WAIT, exit=True, file=1)
        reset()
        at, began = memory("VmRSS"), time.process_time()
        code, out, err = run(words, told, seconds)
        took, grown = time.process_time() - began, memory("VmHWM") - at
        faulthandler.cancel_dump_traceback_later()
        slowest, most = max(slowest, took), max(most, grown)
        codes[str(code)] = codes.get(str(code), 0) + 1
        why = wrong(code, out, err)
        if not why and grown > MEMORY:
            why = f"{grown / 1e6:.0f} MB"
        after = contents(place)
        changed = [key for key in {*before, *after} if before.get(key) != after.get(key) and key not in kind.written]
        if not why and changed:
            why = f"changed {changed}"
        if why:
            found.append({"case": case, "why": why, "command": " ".join(words), "stderr": err[:300]})
        os.chdir(home)
        if not why or len(found) > 50:
            shutil.rmtree(place)
    print(json.dumps({"kind": name, "cases": cases - first, "codes": codes, "slowest_s": round(slowest, 2),
                      "most_MB": round(most / 1e6), "folder": str(home) if found else "", "wrong": found}),
          flush=True)  # fmt: skip
    if not found:
        shutil.rmtree(home)
    return bool(found)


if __name__ == "__main__":
    names, *numbers = sys.argv[1:]
    sys.exit(any([main(name, *map(int, numbers)) for name in names.split(",")]))
