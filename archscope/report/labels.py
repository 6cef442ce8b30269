"""Places for labels beside circles, so that none covers another: greedy, the same on every machine."""

from collections.abc import Sequence
from math import cos, hypot, pi, sin
from typing import NamedTuple


class Circle(NamedTuple):
    """A point with a name, in pixels."""

    name: str
    x: float
    y: float
    radius: float


class Spot(NamedTuple):
    """Where a label begins (left, middle of its height), and where a line to it ends, None where it is near."""

    x: float
    y: float
    line: tuple[float, float] | None


Rect = tuple[float, float, float, float]  # left, bottom, right, top

ANGLES = [pi * k / 12 for k in (0, 3, -3, 2, -2, 12, 9, -9, 6, -6, 1, -1, 4, -4, 5, -5, 7, -7, 8, -8, 10, -10, 11, -11)]
REACH = (2.0, 8.0, 16.0, 26.0, 38.0, 52.0, 68.0, 88.0)


def placed(circles: Sequence[Circle], size: float, within: Rect) -> list[Spot]:
    """A spot for each label of a height of `size`; small circles, which have the least room, choose last."""
    taken: list[Rect] = []
    lines: list[Rect] = []
    out: dict[int, Spot] = {}
    order = sorted(range(len(circles)), key=lambda i: (_crowd(circles, i), circles[i].name))
    for i in order:
        circle = circles[i]
        width, height = 0.64 * size * len(circle.name), 1.12 * size
        best: tuple[float, Spot, Rect] | None = None
        for reach in REACH:
            for turn, angle in enumerate(ANGLES):
                x = circle.x + (circle.radius + reach) * cos(angle)
                y = circle.y + (circle.radius + reach) * sin(angle)
                left = x if cos(angle) > 0.3 else x - width if cos(angle) < -0.3 else x - width / 2
                middle = y + (height / 2 if sin(angle) > 0.9 else -height / 2 if sin(angle) < -0.9 else 0)
                rect = (left, middle - height / 2, left + width, middle + height / 2)
                far = reach > 10
                cost = (
                    reach * 0.6
                    + turn * 0.35
                    + _cost(circles, taken, lines, rect, within, (circle, x, y) if far else None)
                )
                if best is None or cost < best[0]:
                    best = (cost, Spot(left, middle, (x, y) if far else None), rect)
        assert best is not None
        _, out[i], rect = best
        taken.append(rect)
        if out[i].line is not None:
            x, y = out[i].line or (0.0, 0.0)
            lines.append((circle.x, circle.y, x, y))
    return [out[i] for i in range(len(circles))]


def _crowd(circles: Sequence[Circle], i: int) -> float:
    """How little room a circle has: those with the least choose first."""
    own = circles[i]
    return -sum(hypot(c.x - own.x, c.y - own.y) < 60 for c in circles)


def _cost(
    circles: Sequence[Circle],
    taken: Sequence[Rect],
    lines: Sequence[Rect],
    rect: Rect,
    within: Rect,
    line: tuple[Circle, float, float] | None,
) -> float:
    left, bottom, right, top = rect
    cost = 0.0
    if left < within[0] or right > within[2] or bottom < within[1] or top > within[3]:
        cost += 500
    for a, b, c, d in taken:
        wide, tall = min(right, c) - max(left, a), min(top, d) - max(bottom, b)
        if wide > -2 and tall > -1:
            cost += 200 + 4 * (wide + 2) * (tall + 1)
    for circle in circles:
        near_x, near_y = min(max(circle.x, left), right), min(max(circle.y, bottom), top)
        deep = min(circle.radius, 9.0) - hypot(circle.x - near_x, circle.y - near_y)  # a label may lie on a large one
        if deep > 0:
            cost += 30 + 12 * deep
    for x0, y0, x1, y1 in lines:
        cost += 60 * _passes(x0, y0, x1, y1, rect)
    if line is not None:
        circle, x, y = line
        cost += 6 + 80 * sum(_passes(circle.x, circle.y, x, y, other) for other in taken)
    return cost


def _passes(x0: float, y0: float, x1: float, y1: float, rect: Rect) -> bool:
    """Whether a line runs over a rectangle."""
    for k in range(1, 12):
        x, y = x0 + (x1 - x0) * k / 12, y0 + (y1 - y0) * k / 12
        if rect[0] <= x <= rect[2] and rect[1] <= y <= rect[3]:
            return True
    return False
