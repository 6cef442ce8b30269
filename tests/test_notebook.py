"""The notebook runs as it stands, and prints what it shows."""

import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def said(cell: Any) -> list[str]:
    """What a cell printed or gave, frames aside: their look is pandas'."""
    out = []
    for output in cell.get("outputs", []):
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "text/html" not in data:
            out.append("".join(data["text/plain"]))
    return ["".join(out).strip()]


@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
@pytest.mark.parametrize("path", sorted(DOCS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs_and_prints_what_it_shows(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks are run with nbclient")
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run with nbclient")
    pytest.importorskip("ipykernel", reason="notebooks are run with nbclient")
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class Here(KernelSpecManager):
        """The kernel of this very Python, whatever is installed for the user."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name=kernel_name, language="python")

    book = nbformat.read(path, as_version=4)
    before = [said(cell) for cell in book.cells]
    assert any(any(text) for text in before), "it is committed with its outputs"
    assert "/tmp" not in path.read_text(encoding="utf-8") and "/home" not in path.read_text(encoding="utf-8")
    manager = AsyncKernelManager(kernel_spec_manager=Here(), transport="ipc")
    nbclient.NotebookClient(book, km=manager, timeout=300, resources={"metadata": {"path": str(DOCS)}}).execute()
    assert [said(cell) for cell in book.cells] == before
