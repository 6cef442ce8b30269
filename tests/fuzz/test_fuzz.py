"""Damaged files end in one sentence: every kind that archscope reads, in 100 ways, in 2,000 with -m slow.

`python tests/fuzz` does it, in a process of its own with limits on time and memory; see there.
"""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS, recorded

from archscope import Trace
from archscope.analysis.soundness import sound

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="limits need a system like Unix")
# what runs in one process: without PyTorch, with it, with packages besides; the store refuses to run anything, so it
# comes last
LIGHT = [name for name in KINDS if name.startswith("record-")] + ["packing", "index", "safetensors", "gguf", "store"]
HEAVY = ["config", "adapter", "onnx", "pt2"]
MENDED = ("packing", "sweep-records")  # what cannot be read is unknown, or run again
GROUPS = [LIGHT, [name for name in KINDS if name not in LIGHT + HEAVY], HEAVY]


def found(names: list[str], cases: int) -> list[dict[str, Any]]:
    there = [name for name in names if not KINDS[name].needs or find_spec(KINDS[name].needs)]
    command = [sys.executable, str(Path(__file__).parent), ",".join(there), str(cases)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    results = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [one["kind"] for one in results] == there, ran.stdout + ran.stderr
    return results


@pytest.mark.parametrize("names", GROUPS, ids=["light", "torch", "packages"])
def test_a_damaged_file_ends_in_one_sentence(names: list[str]) -> None:
    results = found(names, 100)
    assert not [(one["kind"], wrong) for one in results for wrong in one["wrong"]]
    for one in results:  # the damages are damages: not all of them go unnoticed
        assert one["kind"] in MENDED or one["codes"].get("2", 0) > 2, one["kind"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_thousands_of_damaged_files(name: str) -> None:
    (one,) = found([name], 2000)
    assert not one["wrong"]


def test_the_error_says_where() -> None:
    text = recorded("lenet")
    body = json.loads(text)
    del body["layers"][3][6]
    with pytest.raises(ValueError, match=re.escape("$.layers[3]")):
        Trace.from_json(json.dumps(body))
    body = json.loads(text)
    body["ops"][0][3]["stride"] = ["2"]
    with pytest.raises(ValueError, match=r"operator 0, aten.conv2d"):
        sound(Trace.from_json(json.dumps(body)))
    assert sound(Trace.from_json(text)).to_json() == text


def test_the_harness_sees_what_is_wrong() -> None:
    """Each rule of a case, broken once."""
    code = """
import sys
sys.argv = ["x"]
from runpy import run_path
from pathlib import Path
import os
wrong = run_path(sys.path[0] + "/__main__.py")["wrong"]
assert wrong(2, "", "archscope: no\\n") == "" == wrong(0, "x", "")
for bad in [(3, "", ""), (2, "", ""), (2, "", "a\\nb\\n"), (1, "", ""), (1, "", "archscope: this is a bug: x\\n"),
            (0, "", "Traceback"), (2, "", "archscope: " + "x" * 2000 + "\\n"), (2, "", "archscope: \\x1b[31m\\n")]:
    assert wrong(*bad), bad
"""
    first = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})"
    subprocess.run([sys.executable, "-c", first + code], check=True)
