"""A pause of the garbage collector for code that makes thousands of objects and drops none of them in cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

FEW = 1000  # new objects that the collector goes through in no time
MANY = 500_000  # new objects after which it takes its full turn

_passed = [0, 0]  # new objects since the last full turn, and how many full turns there were


@contextmanager
def gc_paused() -> Iterator[None]:
    """No garbage collection within this block. Blocks may be nested; a collector that was off stays off.

    What the block made does not wake the collector when it ends: the objects count as old ones, which the next full
    collection goes through. One is made here after `MANY` such objects, so that garbage of the caller's does not pile
    up. A program that uses `gc.freeze` itself gets the plain pause.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            _make_old()
            gc.enable()


def _make_old() -> None:
    new = gc.get_count()[0]
    if new < FEW or gc.get_freeze_count():
        return
    full = gc.get_stats()[-1]["collections"]
    passed = new if full != _passed[1] else _passed[0] + new
    if passed > MANY:
        gc.collect()
        passed, full = 0, full + 1
    else:
        gc.freeze()  # both take constant time, and leave all objects in the oldest generation
        gc.unfreeze()
    _passed[:] = passed, full
