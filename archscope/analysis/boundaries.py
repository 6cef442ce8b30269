"""Windows that do not reach the end of their input: what is lost, and what avoids it."""

from typing import Any

from archscope.analysis.row import Row
from archscope.analysis.verification import as_layer
from archscope.core.errors import ShapeError
from archscope.layers import Derived, derive

NAMES = {1: ("position",), 2: ("row", "column"), 3: ("plane", "row", "column")}


def boundary_text(row: Row, derived: Derived) -> str:
    """What the last window does not reach: `(224 − 11)/4 leaves 1: the last row and column are never reached`."""
    n = len(derived.lost)
    padding = row.config.get("padding", 0)
    found = []
    for i, (span, stride, rest) in enumerate(derived.lost):
        side = row.inputs[0].shape[i - n]
        pad = padding[i] if isinstance(padding, tuple) else padding if isinstance(padding, int) else 0
        ends = f" + 2·{pad}" if pad else ""
        found.append((f"({side} − {side + 2 * pad - span}{ends})/{stride} leaves {span % stride}", rest))
    texts = dict.fromkeys(text for text, rest in found if rest)
    ends = [(name, rest) for name, (_, rest) in zip(NAMES[n], found, strict=True) if rest]
    if len({rest for _, rest in ends}) == 1:
        rest = ends[0][1]
        names = " and ".join(name if rest == 1 else f"{name}s" for name, _ in ends)
        lost = f"the last {names}" if rest == 1 else f"the last {rest} {names}"
    else:
        lost = " and ".join(f"the last {rest} {name}{'s' if rest > 1 else ''}" for name, rest in ends)
    one = len(ends) == 1 and ends[0][1] == 1
    fixes = boundary_fixes(row, derived)
    would = f"; {fixes} would lose nothing" if fixes else ""
    return f"{', '.join(texts)}: {lost} {'is' if one else 'are'} never reached by the window{would}"


def boundary_fixes(row: Row, derived: Derived) -> str:
    """What makes a window reach the end of its input: `padding=2 or a side of 223 or 227`; the closed form says so.

    The padding is at most half of the window. Sides are those of what the window moves over, and are left out where
    it loses on one axis and not on another.
    """
    kind, config = (row.kind, row.config) if row.layer is not None else as_layer(row)
    shape, n = row.inputs[0].shape, len(derived.lost)

    def whole(sides: tuple[int, ...], **other: Any) -> bool:
        try:
            found = derive(kind, {**config, **other}, ((*shape[:-n], *sides),))
        except ShapeError:
            return False
        return found is not None and not any(rest for *_, rest in found.lost)

    sides, padding, window = shape[-n:], config.get("padding", 0), config.get("kernel_size", 0)
    most = min(window if isinstance(window, tuple) else (window,)) // 2
    least = max(padding if isinstance(padding, tuple) else (padding,)) if not isinstance(padding, str) else most
    found = [f"padding={pad}" for pad in range(least + 1, most + 1) if whole(sides, padding=pad)][:1]
    if "Pool" in kind and not config.get("ceil_mode") and whole(sides, ceil_mode=True):
        found.append("ceil_mode=True")
    if len(set(sides)) == 1:
        (side,), (_, stride, _) = set(sides), derived.lost[0]
        near = [m for m in (*range(side - 1, 0, -1)[:stride], *range(side + 1, side + stride + 1)) if whole((m,) * n)]
        near = [*[m for m in near if m < side][:1], *[m for m in near if m > side][:1]]
        found += [f"a side of {' or '.join(map(str, near))}"] if near else []
    return f"{', '.join(found[:-1])} or {found[-1]}" if len(found) > 1 else "".join(found)
