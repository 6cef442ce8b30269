"""Jobs -> rows. Each job has a process of its own, which isolates memory, caches and crashes. Rows are saved at once.

Under torchrun the processes exist already: each runs every job, and the first writes and prints.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from archscope.bench.job import Job
from archscope.bench.progress import Show
from archscope.bench.results import GOOD, append, read

GRACE = 5  # seconds for the first process to write its row before torchrun ends it
PATIENCE = 20  # seconds for a process to write its row after Ctrl-C


def bench(jobs: Iterable[Job], output: str | None, show: Show, skip: bool = False) -> list[dict[str, Any]]:
    """Run jobs one after the other and return their rows; stop after an interrupted job.

    output: a file to which each row is appended at once. skip: do not run a job again if that file has its row; return
    the row from there.
    """
    known = {row["key"]: row for row in _before(output) if row.get("status") in GOOD} if skip else {}
    rows: list[dict[str, Any]] = []
    for job in jobs:
        before = known.get(job.key) if not job.batches else None
        if before is not None:
            show(job.model, {"event": "note", "text": f"is in {output} already"})
            rows.append(before)
            continue
        made = _in_a_process(job, show)
        for row in made:
            if row.get("threads") is None:  # the process died before it could report where it ran
                row |= {key: rows[0].get(key) for key in ("device", "device_name", "threads", "torch")} if rows else {}
            rows.append(row)
            if output is not None:
                append(output, row)
        if any(row["status"] == "interrupted" for row in made):
            break
    return rows


def _before(output: str | None) -> list[dict[str, Any]]:
    path = Path(output or "").expanduser()
    return read([path]) if path.is_file() and path.stat().st_size else []


def _in_a_process(job: Job, show: Show) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "archscope.bench", job.to_json()]
    environment = dict(os.environ)
    if job.flags.get("deterministic"):
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    rows: list[dict[str, Any]] = []
    stopped = False
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8")
    assert process.stdout is not None
    try:
        try:
            rows = _events(process.stdout, job.model, show)
        except KeyboardInterrupt:  # the process was interrupted too, and writes its row
            stopped = True
            _hurry(process)
            rows = _events(process.stdout, job.model, show)
        process.wait(PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        stopped = True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if not rows:
        code = process.returncode
        how = f"the process was ended by signal {-code}" if code < 0 else f"the process ended with exit code {code}"
        error = f"{how}; --resume goes on from the last complete epoch"
        rows = [job.row() | {"status": "error", "error": None if stopped else error}]
    if stopped and rows[-1]["status"] != "interrupted":
        rows[-1] = rows[-1] | {"status": "interrupted", "error": rows[-1].get("error") or "interrupted"}
    return rows


def _hurry(process: subprocess.Popen[str]) -> None:
    if process.poll() is None and sys.platform != "win32":
        process.send_signal(signal.SIGINT)  # after Ctrl-C in a terminal this is a second signal, which is harmless


def _events(lines: Iterable[str], model: str, show: Show) -> list[dict[str, Any]]:
    """Show the events of a process and return its rows."""
    rows = []
    for text in lines:
        event = json.loads(text)
        if event["event"] == "row":
            rows.append(event["row"])
        show(model, event)
    return rows


def bench_here(jobs: Iterable[Job], output: str | None, show: Show) -> list[dict[str, Any]]:
    """Run jobs in this process, which torchrun started. Returns the rows in the first process, none in the others."""
    from archscope.bench import parallel
    from archscope.bench.worker import run

    group = parallel.joined()
    rows = []
    try:
        for job in jobs:

            def report(event: dict[str, Any], model: str = job.model) -> None:
                if group.first:
                    show(model, event)

            row = run(job, group, report)
            if group.first:
                show(job.model, {"event": "row", "row": row})
                rows.append(row)
                if output is not None:
                    append(output, row)
            if row["status"] not in GOOD and group.world > 1:
                if not group.first:  # the first process has failed too, or waits for this one
                    print(f"archscope: process {group.rank}: {row['error']}", file=sys.stderr, flush=True)
                    time.sleep(GRACE)
                    raise SystemExit(1)
                break  # the processes may no longer be in the same state
    finally:
        parallel.leave()
    return rows
