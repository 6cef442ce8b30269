"""The same work in several processes, or on a Dask cluster: results in the order of the items, each once.

Items are handed out in groups. Where a process dies (out of memory, a crash below Python), each item of its group gets
a process of its own; the one that kills that process too is `lost`, and the others go on.
"""

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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

    work must be a function of a module, or a `partial` of one. lost: an item -> its result where its process died.
    """
    from pebble import ProcessExpired, ProcessPool

    # new processes: a fork of one that has run PyTorch may hang
    pool = ProcessPool(jobs, context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield from _results(
            lambda some: pool.schedule(work, args=(some,)), items, group, lambda: AHEAD * jobs, ProcessExpired, lost
        )
        pool.close()
    except BaseException:  # Ctrl-C, or the caller needs no more results: stop what is under way
        pool.stop()
        raise
    finally:
        pool.join()


def _begin() -> None:
    """In a new process: Ctrl-C goes to the parent process, and each process uses one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"


def _results(
    submit: Callable[[list[Item]], Any],
    items: Iterable[Item],
    group: int,
    ahead: Callable[[], int],
    died: type[Exception],
    lost: Callable[[Item], Result],
) -> Iterator[Result]:
    """The results of all items in order. submit: a group -> its future. ahead: how many groups may be under way."""
    rest = iter(items)
    waiting: deque[tuple[list[Item], Any]] = deque()
    while True:
        while len(waiting) < ahead() and (some := list(itertools.islice(rest, group))):
            waiting.append((some, submit(some)))
        if not waiting:
            return
        some, future = waiting.popleft()
        try:
            results = future.result()
        except died:
            results = [one for item in some for one in _alone(submit, item, died, lost)]
        yield from results


def _alone(
    submit: Callable[[list[Item]], Any], item: Item, died: type[Exception], lost: Callable[[Item], Result]
) -> list[Result]:
    try:
        return submit([item]).result()
    except died:
        return [lost(item)]


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
        yield from _results(
            lambda some: client.submit(work, some, pure=False), items, group,
            lambda: AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"])), KilledWorker, lost,
        )  # fmt: skip
