"""The notebook runs as it stands, and prints what it shows."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NEEDED = ("nbclient", "nbformat", "ipykernel")

RUN = """
import sys
import nbclient, nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

class Here(KernelSpecManager):  # the kernel of this very Python, whatever is installed for the user
    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")

book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, km=AsyncKernelManager(kernel_spec_manager=Here()), timeout=300).execute()
print("@", nbformat.writes(book))
"""


def said(book: dict[str, Any]) -> list[str]:
    """What each cell printed or gave, frames aside: their look is pandas'."""
    out = []
    for cell in book["cells"]:
        texts = [output.get("data", {"text/plain": output.get("text", "")}) for output in cell.get("outputs", [])]
        out.append("".join("".join(data["text/plain"]) for data in texts if "text/html" not in data).strip())
    return out


@pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason=f"notebooks are run with {', '.join(NEEDED)}")
@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs_and_prints_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    shown = said(json.loads(text))
    assert any(shown), "it is committed with its outputs"
    assert "/tmp/" not in text and "/home/" not in text, "a path of one machine"
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert said(json.loads(ran.stdout.partition("@ ")[2])) == shown
