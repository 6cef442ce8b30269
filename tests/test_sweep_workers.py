"""The same work in several processes: in order, each once, whatever a process does."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Ran
from light_work import doubled, nothing
from torch import nn

from archscope.report.comparison import side_by_side
from archscope.sources.spec import expand
from archscope.sweeps.run import sweep
from archscope.sweeps.workers import in_order

Command = Callable[..., Ran]


def net(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())


def test_processes_that_die(tmp_path: Path) -> None:
    """What kills its process alone is lost, and told; of the others none is lost or doubled."""
    work = partial(doubled, str(tmp_path / "log"))
    found = list(in_order(work, range(60), 2, lambda item: -item, group=4))
    assert found == [-13 if item == 13 else 2 * item for item in range(60)]


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    run = in_order(nothing, endless(), 1, lambda item: item, group=2)
    assert [next(run) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert len(taken) < 20
    run.close()  # type: ignore[attr-defined]


def test_a_sweep_in_two_processes() -> None:
    """The same records in the same order: of a function, and of a network by name."""
    grid = {"width": range(1, 130), "input": [8, 16]}
    assert list(sweep(net, grid, jobs=2)) == list(sweep(net, grid))


def test_a_table_in_two_processes(archscope: Command) -> None:
    specs = expand(["resnet*", "lenet@num_classes=0", "lenet"])
    one, two = side_by_side(specs), side_by_side(specs, jobs=2)
    assert one.rows == two.rows and one.caption == two.caption
    assert [row["model"] for row in two.rows if row.get("error")] == ["lenet@num_classes=0"]
    ran = archscope("table", "lenet", "--jobs", "x")
    assert ran.code == 2 and "--jobs is a whole number from 1 on, not 'x'" in ran.err


def hearing() -> None:
    """A process that is started in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_where_the_records_are(jobs: str, tmp_path: Path) -> None:
    """Exit code 130; what came so far is kept, and the same command ends with every point once."""
    (tmp_path / "net.py").write_text(
        "import time\nfrom torch import nn\n\n\n"
        "def net(width=1):\n    time.sleep(0.02)\n    return nn.Conv2d(3, width, 1)\n"
    )
    words = [sys.executable, "-m", "archscope", "sweep", "net.py:net", "--over", "width=1:300", "--input", "8"]
    words += ["--jobs", jobs, "--output", "grid.csv"]
    part = tmp_path / "grid.csv.part" / "records"
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=hearing) as running:
        assert running.stderr is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        err = running.stderr.read()
        assert running.wait(60) == 130
    assert "what came so far is in grid.csv.part: the same command goes on from there" in err
    assert "Traceback" not in err
    done = part.read_text().count("\n") - 1
    assert 0 < done < 300
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "300 points in grid.csv" in ended.stderr
    with open(tmp_path / "grid.csv", newline="") as file:
        assert [(row["width"], row["params"]) for row in csv.DictReader(file)] == [
            (str(width), str(3 * width + width)) for width in range(1, 301)
        ]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_an_interruption_ends_all_processes() -> None:
    psutil = pytest.importorskip("psutil")
    words = [sys.executable, "-m", "archscope", "table", "--models", "torchvision:*", "--jobs", "2"]
    running = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hearing,
    )
    me = psutil.Process(running.pid)
    while len(me.children(recursive=True)) < 2:
        time.sleep(0.1)
    time.sleep(5)
    children = me.children(recursive=True)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == "" and "Traceback" not in err
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


CLUSTER = """
import os, signal, sys, threading, time
from distributed import LocalCluster
from archscope.sweeps.grid import Axis, Grid
from archscope.sweeps.run import sweep
from test_sweep_workers import net

def main():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = cluster.workers[0].pid
        grid = {"width": range(1, 1001), "input": [8, 16]}
        found = []
        for record in sweep(net, grid, scheduler=cluster.scheduler_address):
            found.append(record)
            if len(found) == 300:
                os.kill(victim, signal.SIGKILL)
    expected = list(sweep(net, grid))
    assert found == expected, (len(found), len(expected))
    print("equal", len(found))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    """Two workers of Dask, one of which is killed in mid-run: no point is lost or doubled, and they stay in order."""
    pytest.importorskip("distributed")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run(
        [sys.executable, "cluster.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "equal 2000\n"
