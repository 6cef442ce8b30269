"""Jobs -> rows: each in a process of its own, which isolates memory, caches and crashes; each row kept as it comes.

Under torchrun the processes are there already: every one runs every job, and the first writes and prints.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from archscope.bench.results import GOOD, SCHEMA, append, key_of, read

Show = Callable[[str, dict[str, Any]], None]
GRACE = 5  # seconds that the first process gets to write its row before torchrun ends it
PATIENCE = 20  # seconds that a process gets to say how far it came after Ctrl-C


def bench(jobs: Iterable[dict[str, Any]], output: str | None, show: Show, skip: bool = False) -> list[dict[str, Any]]:
    """Run jobs (the fields of `worker.Job`) one after the other and return their rows.

    output: a file that each row is appended to as soon as it is there. skip: leave out jobs whose row is in that file
    and good; the row is then taken from there. Ends after the job that was interrupted.
    """
    known = {row["key"]: row for row in _before(output) if row.get("status") in GOOD} if skip else {}
    rows: list[dict[str, Any]] = []
    for job in jobs:
        before = known.get(job_key(job)) if not job.get("batches") else None
        if before is not None:
            show(job["model"], {"event": "said", "text": f"is in {output} already"})
            rows.append(before)
            continue
        made = _in_a_process(job, show)
        for row in made:
            if row.get("threads") is None:  # it died before it could say where it ran: where the others did
                row |= {key: rows[0].get(key) for key in ("device", "device_name", "threads", "torch")} if rows else {}
            rows.append(row)
            if output is not None:
                append(output, row)
        if any(row["status"] == "interrupted" for row in made):
            break
    return rows


def job_key(job: dict[str, Any]) -> str:
    """The key that the job's row will have; as `worker.definition` says, without torch."""
    kept = ("model", "recipe", "data", "data_dir", "device", "seed", "flags", "batches")
    return key_of({key: job[key] for key in kept} | {"schema": SCHEMA})


def _before(output: str | None) -> list[dict[str, Any]]:
    path = Path(output or "").expanduser()
    return read([path]) if path.is_file() and path.stat().st_size else []


def _in_a_process(job: dict[str, Any], show: Show) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "archscope.bench", json.dumps(job)]
    environment = dict(os.environ)
    if job["flags"].get("deterministic"):
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    rows: list[dict[str, Any]] = []
    stopped = False
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8")
    assert process.stdout is not None
    try:
        try:
            rows = _listen(process.stdout, job["model"], show)
        except KeyboardInterrupt:  # the process got it too, and now writes its row
            stopped = True
            _hurry(process)
            rows = _listen(process.stdout, job["model"], show)
        process.wait(PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        stopped = True
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if not rows:
        rows = [_ended(job, process.returncode, stopped)]
    if stopped and rows[-1]["status"] != "interrupted":
        rows[-1] = rows[-1] | {"status": "interrupted", "error": rows[-1].get("error") or "interrupted"}
    return rows


def _hurry(process: subprocess.Popen[str]) -> None:
    if process.poll() is None and sys.platform != "win32":
        process.send_signal(signal.SIGINT)  # a second one does no harm; from a terminal it came already


def _listen(lines: Iterable[str], model: str, show: Show) -> list[dict[str, Any]]:
    """The rows among the events of a process; the others are shown."""
    rows = []
    for text in lines:
        event = json.loads(text)
        if event["event"] == "row":
            rows.append(event["row"])
        show(model, event)
    return rows


def _ended(job: dict[str, Any], code: int | None, stopped: bool) -> dict[str, Any]:
    """The row of a process that ended without one."""
    why = f"the process was ended by signal {-code}" if code and code < 0 else f"the process ended with {code}"
    from archscope.core.version import __version__

    return {
        "schema": SCHEMA, "kind": "infer" if job.get("batches") else "train", "key": job_key(job),
        "model": job["model"], "recipe": job["recipe"]["name"], "data": job["data"], "device": job["device"],
        "device_name": job["device"], "threads": None, "world_size": 1, "precision": job["flags"]["precision"],
        "flags": job["flags"], "seed": job["seed"], "epochs": job["recipe"]["epochs"],
        "batch": job["recipe"]["batch"], "archscope": __version__, "torch": None,
        "status": "interrupted" if stopped else "error",
        "error": "interrupted" if stopped else f"{why}; --resume goes on from the last complete epoch",
    }  # fmt: skip


def bench_here(jobs: Iterable[dict[str, Any]], output: str | None, show: Show) -> list[dict[str, Any]]:
    """Run jobs in this process, one of those that torchrun started. Returns the rows in the first, none in others."""
    from archscope.bench import parallel
    from archscope.bench.worker import Job, run

    group = parallel.joined()
    rows = []
    try:
        for job in jobs:

            def report(event: dict[str, Any], model: str = job["model"]) -> None:
                if group.first:
                    show(model, event)

            row = run(Job(**job), group, report)
            if group.first:
                show(job["model"], {"event": "row", "row": row})
                rows.append(row)
                if output is not None:
                    append(output, row)
            if row["status"] not in GOOD and group.world > 1:
                if not group.first:  # the first has failed alike and says so, or waits for what will not come
                    print(f"archscope: process {group.rank}: {row['error']}", file=sys.stderr, flush=True)
                    time.sleep(GRACE)
                    raise SystemExit(1)
                break  # the processes may no longer agree on what comes next
    finally:
        parallel.leave()
    return rows
