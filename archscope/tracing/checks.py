"""Checks of values in a forward: `assert (x >= 0).all()`, `if x.isnan().any(): raise …`, those of torch.distributions.

A run without values cannot know how they come out. A check is taken to hold; no other question is answered. What is a
check the bytecode of the frame that asks tells: the answer decides a jump, and one of its two ways ends in `raise`.
"""

import dis
import sys
from functools import cache
from pathlib import Path
from types import CodeType

ASKS = frozenset(("aten.is_nonzero", "aten.item", "aten._local_scalar_dense", "aten.equal", "aten.allclose"))

_HOME = str(Path(__file__).parent)
_SKIPPED = frozenset(("CACHE", "NOP", "TO_BOOL", "COPY", "EXTENDED_ARG", "NOT_TAKEN"))


def holding() -> bool | None:
    """The answer with which the check that is made at this moment holds, None where it is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HOME):
        frame = frame.f_back
    return _holding(frame.f_code, frame.f_lasti) if frame is not None else None


@cache
def _holding(code: CodeType, at: int) -> bool | None:
    listed = list(dis.get_instructions(code))
    places = {one.offset: i for i, one in enumerate(listed)}
    i, turned = places.get(at, len(listed)), False
    if i < len(listed) and not _decides(listed[i].opname):
        i += 1  # behind the call that gives the answer
    while i < len(listed) and (listed[i].opname in _SKIPPED or listed[i].opname == "UNARY_NOT"):
        turned ^= listed[i].opname == "UNARY_NOT"
        i += 1
    if i >= len(listed) or not _decides(listed[i].opname):
        return None
    jump = listed[i]
    there, here = _raises(listed, places, places[jump.argval]), _raises(listed, places, i + 1)
    if there == here:
        return None
    jumps_at = "IF_TRUE" in jump.opname
    return (jumps_at != there) != turned


def _decides(name: str) -> bool:
    return "JUMP" in name and ("IF_TRUE" in name or "IF_FALSE" in name)


def _raises(listed: list[dis.Instruction], places: dict[int, int], start: int) -> bool:
    """Whether every way from an instruction on ends in `raise`."""
    ahead, seen = [start], set[int]()
    while ahead:
        i = ahead.pop()
        if i in seen:
            continue
        if i >= len(listed):
            return False
        seen.add(i)
        name = listed[i].opname
        if name.startswith("RAISE"):
            continue
        if name.startswith(("RETURN", "FOR_ITER")) or "YIELD" in name:
            return False
        if "JUMP" in name:
            target = places[listed[i].argval]
            if target <= i:
                return False
            ahead.append(target)
            if "IF" not in name:
                continue
        ahead.append(i + 1)
    return True
