"""Code of users that ends the process, and the other project on PyPI that is called archscope."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from archscope.core.errors import TraceError
from archscope.core.version import __version__
from archscope.sources.guard import user_code
from archscope.sources.records import record_of

RUN = "import sys, os\nfrom torch import nn\ndef example_inputs():\n    return '1x3'\nclass Net(nn.Module):\n"
ENDS = {
    "imported": "import sys\nsys.exit(0)\n",
    "imported, os": "import os\nos._exit(0)\n",
    "built": RUN + "    def __init__(self):\n        super().__init__()\n        os._exit(0)\n",
    "run": RUN + "    def forward(self, x):\n        sys.exit(0)\n",
    "run, os": RUN + "    def forward(self, x):\n        os._exit(0)\n",
    "example": "import os\n" + RUN.replace("return '1x3'", "os._exit(0)") + "    pass\n",
}


@pytest.mark.parametrize("when", ENDS)
def test_code_that_ends_the_process_is_a_failure(when: str, archscope, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(ENDS[when], encoding="utf-8")
    ran = archscope("trace", f"{file}:Net")
    assert ran.code == 1 and ran.out == "" and ran.err.count("\n") == 1
    assert "exit(0)" in ran.err and f"{file}:" in ran.err
    assert os._exit.__name__ == "_exit"


def test_check_fails_where_the_code_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(RUN + "    def forward(self, x):\n        return x\n", encoding="utf-8")
    (tmp_path / "archscope.toml").write_text('models = ["net.py:Net"]\n', encoding="utf-8")

    def ran(command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "archscope", command]
        return subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    assert (ran("lock").returncode, ran("check").returncode) == (0, 0)
    (tmp_path / "net.py").write_text(ENDS["run, os"], encoding="utf-8")
    failed = ran("check")
    assert failed.returncode == 1 and "ends the process" in failed.stdout


def test_a_child_process_may_end_itself() -> None:
    with user_code():
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_error_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(ENDS["run"], encoding="utf-8")
    with pytest.raises(TraceError, match=rf"net\.py:{len(ENDS['run'].splitlines())}$"):
        record_of(f"{file}:Net")


def environment(*folders: Path) -> dict[str, str]:
    """Processes that find this archscope first, then these folders."""
    import archscope

    home = Path(archscope.__file__).parent.parent
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (home, *folders)))}


@pytest.mark.parametrize(
    ("folder", "record", "warns"),
    [
        ("archscope-0.3.1.dist-info", "archscope/__init__.py,,\n", True),
        ("archscope-0.3.1.dist-info", "__editable__.archscope.pth,,\n", False),  # owns no folder of that name
        ("archscope_torch-0.1.0.dist-info", "archscope/__init__.py,,\n", False),
        ("archscope_viewer-1.dist-info", "archscope/__init__.py,,\n", False),
    ],
)
def test_the_other_project_is_reported_once(folder: str, record: str, warns: bool, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "RECORD").write_text(record, encoding="utf-8")
    about = f"Metadata-Version: 2.1\nName: {folder.partition('-')[0]}\nVersion: {__version__}\n"
    (tmp_path / folder / "METADATA").write_text(about, encoding="utf-8")
    words = [sys.executable, "-m", "archscope", "--version"]
    ran = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"archscope {__version__}\n")
    assert ran.stderr.count("\n") == warns and (str(tmp_path) in ran.stderr) == warns
