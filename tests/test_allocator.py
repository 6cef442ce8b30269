"""The simulated allocator: every figure is worked out in the test from the rules of CUDACachingAllocator.cpp."""

from typing import NamedTuple

from archscope.analysis.allocator import Allocator, events, simulate

KiB, MiB = 1 << 10, 1 << 20


class Piece(NamedTuple):
    """What the simulation reads of a storage."""

    nbytes: int
    born: int
    died: int | None = None
    host: bool = False


def reserved(*pieces: Piece, capacity: int | None = None) -> tuple[int, int, int, bool]:
    return simulate(events(pieces), capacity)[:4]  # type: ignore[arg-type]


def test_sizes_are_rounded_up_to_512_bytes_and_share_a_small_segment() -> None:
    # 1 B and 513 B: 512 + 1024 of one segment of 2 MiB
    assert reserved(Piece(1, 0), Piece(513, 1)) == (514, 512 + 1024, 2 * MiB, True)


def test_one_mebibyte_is_small_and_a_byte_more_is_large() -> None:
    assert reserved(Piece(MiB, 0))[2] == 2 * MiB
    assert reserved(Piece(MiB + 1, 0))[2] == 20 * MiB


def test_below_ten_mebibytes_tensors_share_twenty() -> None:
    # 9 + 9 MiB fit one segment of 20; the third needs another
    assert reserved(Piece(9 * MiB, 0), Piece(9 * MiB, 1))[2] == 20 * MiB
    assert reserved(*[Piece(9 * MiB, i) for i in range(3)])[2] == 40 * MiB


def test_from_ten_mebibytes_on_a_tensor_has_a_segment_of_its_own() -> None:
    assert reserved(Piece(10 * MiB, 0))[2] == 10 * MiB
    assert reserved(Piece(11 * MiB, 0))[2] == 12 * MiB  # a multiple of 2 MiB
    assert reserved(Piece(11 * MiB, 0), Piece(MiB + 1, 1))[2] == (12 + 20) * MiB  # the rest of 1 MiB is too small


def test_a_rest_of_more_than_one_mebibyte_is_split_off() -> None:
    # 30 MiB are taken and given back; 20 of them leave 10, which serve the next
    one = Piece(30 * MiB, 0, died=1)
    assert reserved(one, Piece(20 * MiB, 1), Piece(10 * MiB, 2))[2] == 30 * MiB
    # 29 MiB of 30 leave 1 MiB, which is not split off: the block is 30 MiB
    assert reserved(one, Piece(29 * MiB, 1))[1:3] == (30 * MiB, 30 * MiB)


def test_memory_that_is_given_back_serves_the_next_operator() -> None:
    # the first dies at operator 1, before its output is made
    assert reserved(Piece(16 * MiB, 0, died=1), Piece(16 * MiB, 1)) == (16 * MiB, 16 * MiB, 16 * MiB, True)
    # it dies one operator later: both are there at once
    assert reserved(Piece(16 * MiB, 0, died=2), Piece(16 * MiB, 1))[2] == 32 * MiB


def test_neighbours_that_are_free_join() -> None:
    # two blocks of 8 MiB side by side in one segment of 20 are given back and serve 16 MiB, which is no size of that
    # segment's class, but a free block is taken where it is large enough
    pieces = [Piece(8 * MiB, 0, died=2), Piece(8 * MiB, 1, died=2), Piece(16 * MiB, 2)]
    assert reserved(*pieces)[2] == 20 * MiB
    # with a tensor between them they stay two holes, and 16 MiB need a segment of their own
    apart = [Piece(6 * MiB, 0, died=3), Piece(2 * MiB, 1), Piece(6 * MiB, 2, died=3), Piece(16 * MiB, 3)]
    assert reserved(*apart)[2] == (20 + 16) * MiB


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    pieces = [
        Piece(40 * MiB, 0, died=2), Piece(12 * MiB, 1, died=2), Piece(12 * MiB, 2), Piece(40 * MiB, 3),
    ]  # fmt: skip
    assert reserved(*pieces)[2] == 52 * MiB  # had 12 been taken of 40, the last would need 40 more


def test_segments_that_are_free_go_back_before_it_fails() -> None:
    # 12 MiB are cached; 20 do not fit beside them in 24, but do once they went back
    pieces = [Piece(12 * MiB, 0, died=1), Piece(20 * MiB, 1)]
    assert reserved(*pieces, capacity=24 * MiB)[3]
    assert not reserved(*pieces, capacity=19 * MiB)[3]
    # half of a segment that is in use does not go back
    held = [Piece(4 * MiB, 0), Piece(4 * MiB, 0, died=1), Piece(20 * MiB, 1)]
    assert not reserved(*held, capacity=39 * MiB)[3] and reserved(*held, capacity=40 * MiB)[3]


def test_what_stays_on_the_host_takes_nothing_of_the_device() -> None:
    assert reserved(Piece(64 * MiB, 0, host=True), Piece(0, 1)) == (0, 0, 0, True)


def test_a_failure_says_where() -> None:
    found = simulate(events([Piece(12 * MiB, 3), Piece(12 * MiB, 7)]), 16 * MiB)  # type: ignore[arg-type]
    assert (found.fits, found.op, found.reserved) == (False, 7, 12 * MiB)


def test_all_that_was_taken_is_given_back() -> None:
    allocator = Allocator()
    blocks = [allocator.take(size) for size in (700, 3 * MiB, 700 * KiB, 15 * MiB, 5 * MiB)]
    for block in (blocks[2], blocks[0], blocks[4], blocks[1], blocks[3]):
        assert block is not None
        allocator.give_back(block)
    assert allocator.allocated == 0
    # one block a segment: 2 MiB (both small), 20 MiB (3, and 15 of the 17 that it leaves), 20 MiB (5)
    assert sorted(key[0] for blocks in allocator.free.values() for key, _ in blocks) == [2 * MiB, 20 * MiB, 20 * MiB]
