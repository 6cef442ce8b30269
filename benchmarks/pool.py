"""Run a function over many items in several processes. Results are JSON lines; a stopped run can be continued."""

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

Rows = list[dict[str, Any]]
Arguments = tuple[Any, ...]
Died = Callable[[Arguments], Rows]


def read(file: Path | None) -> Rows:
    """The rows of an earlier run, without a line that was cut off."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def run(function: Callable[..., Rows], work: list[Arguments], jobs: int, died: Died, file: Path | None = None) -> Rows:
    """The rows of `function(*arguments)` for each arguments of work, in the order in which they are ready.

    died: the rows of arguments with which the process dies. file: rows are appended to it at once.
    """
    found: Rows = []
    if file is not None and file.exists() and file.read_bytes()[-1:] not in (b"", b"\n"):
        file.write_bytes(file.read_bytes() + b"\n")  # end a line that was cut off
    results = _in_processes(function, work, jobs, died)
    for rows in track(results, "models", len(work), console=Console(file=sys.stderr)):
        found += rows
        if file is not None:
            with file.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return found


def _in_processes(function: Callable[..., Rows], work: list[Arguments], jobs: int, died: Died) -> Iterator[Rows]:
    again = []
    spawn = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, spawn) as pool:
        running = {pool.submit(function, *arguments): arguments for arguments in work}
        for done in as_completed(running):
            try:
                yield done.result()
            except BrokenProcessPool:
                again.append(running[done])
    for arguments in again:  # one dead process breaks the whole pool; alone, each shows whether it was the cause
        with ProcessPoolExecutor(1, spawn) as pool:
            try:
                yield pool.submit(function, *arguments).result()
            except BrokenProcessPool:
                yield died(arguments)
