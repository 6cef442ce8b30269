"""The same work in several processes, or on a Dask cluster: results in the order of the items, each once.

Items are handed out in groups. A process that dies (out of memory, a crash below Python) takes its group with it, which
is given to another; what brings down its process twice, alone, is `lost`, and the others go on.
"""

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from archscope.core.errors import SpecError

Item = TypeVar("Item")
Result = TypeVar("Result")

GROUP = 64  # items that are handed out together
AHEAD = 3  # groups for each process that are under way or wait

Work = Callable[[list[Item]], list[Result]]


def in_order(
    work: Work[Item, Result],
    items: Iterable[Item],
    jobs: int,
    lost: Callable[[Item], Result],
    group: int = GROUP,
) -> Iterator[Result]:
    """The results of `work`, which takes a list and returns one of the same length, in `jobs` new processes.

    work must be a function of a module, or a `partial` of one. lost: an item -> what stands for its result.
    """
    groups = _grouped(items, group)
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    others = set(multiprocessing.active_children())
    pool = _pool(jobs)
    try:
        while True:
            while len(waiting) < AHEAD * jobs and (some := next(groups, None)) is not None:
                waiting.append((some, _handed(pool, work, some)))
            if not waiting:
                break
            some, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:  # it or one of those beside it
                pool.shutdown(wait=True, cancel_futures=True)
                results = _with_care(work, some, lost)
                pool = _pool(jobs)
                waiting = deque(
                    (other, one if _succeeded(one) else _handed(pool, work, other)) for other, one in waiting
                )
            yield from results
    except BaseException:  # Ctrl-C, or nobody wants the rest: what is under way is for nothing
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _succeeded(future: "Future[Any]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _handed(pool: ProcessPoolExecutor, work: Work[Item, Result], items: list[Item]) -> "Future[list[Result]]":
    """The work as handed out; a pool that has just broken says so when the result is asked for."""
    try:
        return pool.submit(work, items)
    except BrokenProcessPool as error:
        future: Future[list[Result]] = Future()
        future.set_exception(error)
        return future


def _with_care(work: Work[Item, Result], items: list[Item], lost: Callable[[Item], Result]) -> list[Result]:
    """The results of a group that a process may have died of: whole once more, then each in a process that may die."""
    found: list[Result] = []
    for some in (items, *([item] for item in items if len(items) > 1)):
        pool = _pool(1)
        try:
            results = pool.submit(work, some).result()
        except BrokenProcessPool:
            results = [lost(some[0])] if len(some) == 1 else None
        finally:
            pool.shutdown()
        if some is items and results is not None:
            return results
        found += results or []
    return found


def _grouped(items: Iterable[Item], n: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, n)):
        yield some


def _pool(jobs: int) -> ProcessPoolExecutor:
    """New processes: a fork of one that has run PyTorch may hang."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """In a new process: Ctrl-C is for the one that asked, and the cores are for the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"


def on_cluster(
    work: Work[Item, Result],
    items: Iterable[Item],
    address: str,
    lost: Callable[[Item], Result],
    group: int = GROUP,
) -> Iterator[Result]:
    """The same on the workers of a Dask scheduler. Needs dask.distributed.

    Raises SpecError where nothing answers at the address.
    """
    try:
        from distributed import Client, KilledWorker  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SpecError("--scheduler needs dask.distributed: pip install distributed") from error
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(f"no Dask scheduler answers at {address}") from error
    with client:
        groups = _grouped(items, group)
        waiting: deque[tuple[list[Item], Any]] = deque()

        def submit(some: list[Item]) -> Any:
            return client.submit(work, some, pure=False)

        while True:
            ahead = AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
            while len(waiting) < ahead and (one := next(groups, None)) is not None:
                waiting.append((one, submit(one)))
            if not waiting:
                break
            some, future = waiting[0]
            try:
                results = future.result()
            except KilledWorker:  # it went through several workers
                results = []
                for item in some:
                    try:
                        results += submit([item]).result()
                    except KilledWorker:
                        results.append(lost(item))
            waiting.popleft()
            yield from results
