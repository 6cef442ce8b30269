"""The caching allocator of PyTorch for CUDA, simulated over the births and deaths of storages.

`torch.cuda.memory_reserved()` is more than the tensors need: sizes are rounded up to 512 bytes, memory comes from the
driver in segments of 2 MiB, 20 MiB or a multiple of 2 MiB, and what lies free between tensors stays reserved. The rules
are those of `c10/cuda/CUDACachingAllocator.cpp` (torch 2.14) with its default settings, for one stream:

    size            rounded up to a multiple of 512 B
    small pool      sizes up to 1 MiB, in segments of 2 MiB
    large pool      sizes below 10 MiB in segments of 20 MiB, larger ones in one of their own, a multiple of 2 MiB
    best fit        the smallest free block of the pool that is large enough, the one at the lowest address among equals
    split           the rest of a block stays free if it is at least 512 B (small pool) or more than 1 MiB (large pool)
    free            a block joins its free neighbours of the same segment
    out of memory   segments that are free as a whole go back to the driver, then one more try

This file needs the standard library only.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from archscope.core.record import Storage

KiB, MiB = 1 << 10, 1 << 20
BLOCK = 512  # bytes; sizes are rounded up to a multiple
SMALL = 1 * MiB  # the largest size in the small pool; the large pool keeps a rest only above it
SMALL_SEGMENT, LARGE_SEGMENT, OWN_SEGMENT, ROUND = 2 * MiB, 20 * MiB, 10 * MiB, 2 * MiB


class Reserved(NamedTuple):
    """The most bytes at any moment: asked for by tensors, rounded up to blocks, taken from the driver.

    fits: whether the capacity was enough; if not, the figures are those up to the allocation that failed. op: the index
    of the operator at which most was reserved, or at which it failed.
    """

    requested: int
    allocated: int
    reserved: int
    fits: bool
    op: int


class _Block:
    """A piece of a segment. before, after: its neighbours, in the order of addresses."""

    __slots__ = ("after", "before", "free", "order", "size", "small")

    def __init__(self, size: int, order: tuple[int, int], small: bool) -> None:
        self.size, self.order, self.small, self.free = size, order, small, False
        self.before: _Block | None = None
        self.after: _Block | None = None

    @property
    def key(self) -> tuple[int, tuple[int, int]]:
        return self.size, self.order


class Allocator:
    """The state of one device. capacity: the bytes that the driver has for segments, None for as many as are needed."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.reserved = self.allocated = 0
        self.segments = 0
        self.free: dict[bool, list[tuple[tuple[int, tuple[int, int]], _Block]]] = {True: [], False: []}

    def take(self, nbytes: int) -> _Block | None:
        """A block for so many bytes; None where the capacity is not enough."""
        size = max(-(-nbytes // BLOCK) * BLOCK, BLOCK)
        small = size <= SMALL
        block = self._best(size, small) or self._segment(size, small)
        if block is None:
            self._release()
            block = self._segment(size, small)
        if block is None:
            return None
        rest = block.size - size
        if rest >= BLOCK if small else rest > SMALL:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        return block

    def give_back(self, block: _Block) -> None:
        """The tensor is gone; its block joins its free neighbours."""
        self.allocated -= block.size
        before, after = block.before, block.after
        if before is not None and before.free:
            self._forget(before)
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            block = before
        if after is not None and after.free:
            self._forget(after)
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
        self._keep(block)

    def _best(self, size: int, small: bool) -> _Block | None:
        blocks = self.free[small]
        at = bisect_left(blocks, (size, (0, 0)), key=lambda entry: entry[0])
        return blocks.pop(at)[1] if at < len(blocks) else None

    def _segment(self, size: int, small: bool) -> _Block | None:
        whole = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else -(-size // ROUND) * ROUND
        if self.capacity is not None and self.reserved + whole > self.capacity:
            return None
        self.reserved += whole
        self.segments += 1
        return _Block(whole, (self.segments, 0), small)

    def _release(self) -> None:
        """Give the segments that are free as a whole back to the driver."""
        for small, blocks in self.free.items():
            whole = [entry for entry in blocks if entry[1].before is None and entry[1].after is None]
            self.reserved -= sum(block.size for _, block in whole)
            self.free[small] = [entry for entry in blocks if entry not in whole]

    def _split(self, block: _Block, size: int) -> None:
        segment, offset = block.order
        rest = _Block(block.size - size, (segment, offset + size), block.small)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._keep(rest)

    def _keep(self, block: _Block) -> None:
        block.free = True
        insort(self.free[block.small], (block.key, block), key=lambda entry: entry[0])

    def _forget(self, block: _Block) -> None:
        blocks = self.free[block.small]
        blocks.pop(bisect_left(blocks, block.key, key=lambda entry: entry[0]))


def events(storages: "Iterable[Storage]") -> list[tuple[int, bool, int, int]]:
    """What happens to memory, in order: (operator, whether it is taken, place of the storage in the list, bytes).

    What dies at an operator is given back before the operator takes memory for its own outputs. A storage of the host
    is none of the device.
    """
    found = []
    for place, storage in enumerate(storages):
        nbytes = storage.nbytes
        if storage.host or not nbytes:
            continue
        found.append((storage.born, True, place, nbytes))
        if storage.died is not None:
            found.append((max(storage.died, storage.born + 1), False, place, nbytes))
    return sorted(found)


def simulate(changes: Iterable[tuple[int, bool, int, int]], capacity: int | None = None) -> Reserved:
    """The most that is requested, allocated and reserved at any moment. changes: as `events` gives them.

    capacity: bytes that are there for segments; the simulation stops at the first allocation that does not fit.
    """
    allocator = Allocator(capacity)
    blocks: dict[int, _Block] = {}
    requested = most_requested = most_allocated = most_reserved = at = 0
    for op, taken, place, nbytes in changes:
        if not taken:
            requested -= nbytes
            allocator.give_back(blocks.pop(place))
            continue
        block = allocator.take(nbytes)
        if block is None:
            return Reserved(most_requested, most_allocated, most_reserved, False, op)
        blocks[place] = block
        requested += nbytes
        most_requested = max(most_requested, requested)
        most_allocated = max(most_allocated, allocator.allocated)
        if allocator.reserved > most_reserved:
            most_reserved, at = allocator.reserved, op
    return Reserved(most_requested, most_allocated, most_reserved, True, at)
