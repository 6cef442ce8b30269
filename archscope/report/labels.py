"""Places for labels beside circles, so that none covers another: greedy, the same on every machine."""

from collections.abc import Iterator, Sequence
from math import cos, hypot, pi, sin
from typing import NamedTuple


class Circle(NamedTuple):
    """A point with a name, in pixels."""

    name: str
    x: float
    y: float
    radius: float


class LabelPosition(NamedTuple):
    """Where a label begins (left, middle of its height), and where a line to it ends, None where it is near."""

    x: float
    y: float
    line: tuple[float, float] | None


Rect = tuple[float, float, float, float]  # left, bottom, right, top

ANGLES = [pi * k / 12 for k in (0, 3, -3, 2, -2, 12, 9, -9, 6, -6, 1, -1, 4, -4, 5, -5, 7, -7, 8, -8, 10, -10, 11, -11)]
REACH = (2.0, 8.0, 16.0, 26.0, 38.0, 52.0, 68.0, 88.0)


def placed(circles: Sequence[Circle], size: float, within: Rect) -> list[LabelPosition]:
    """A spot for each label of a height of `size`; small circles, which have the least room, choose last."""
    taken: list[Rect] = []
    lines: list[Rect] = []

    def crowd(i: int) -> tuple[int, str]:
        """How little room a circle has: those with the least choose first."""
        own = circles[i]
        return -sum(hypot(c.x - own.x, c.y - own.y) < 60 for c in circles), own.name

    def cost(rect: Rect, line: Rect | None) -> float:
        """What a label covers there, and its line."""
        left, bottom, right, top = rect
        out = 500.0 if left < within[0] or right > within[2] or bottom < within[1] or top > within[3] else 0.0
        for a, b, c, d in taken:
            wide, tall = min(right, c) - max(left, a), min(top, d) - max(bottom, b)
            if wide > -2 and tall > -1:
                out += 200 + 4 * (wide + 2) * (tall + 1)
        for circle in circles:
            near_x, near_y = min(max(circle.x, left), right), min(max(circle.y, bottom), top)
            deep = min(circle.radius, 9.0) - hypot(circle.x - near_x, circle.y - near_y)  # may lie on a large one
            out += 30 + 12 * deep if deep > 0 else 0
        out += 60 * sum(_passes(other, rect) for other in lines)
        return out + (6 + 80 * sum(_passes(line, other) for other in taken) if line is not None else 0)

    def spots(circle: Circle) -> Iterator[tuple[float, LabelPosition, Rect]]:
        width, height = 0.64 * size * len(circle.name), 1.12 * size
        for reach in REACH:
            for turn, angle in enumerate(ANGLES):
                x, y = circle.x + (circle.radius + reach) * cos(angle), circle.y + (circle.radius + reach) * sin(angle)
                left = x if cos(angle) > 0.3 else x - width if cos(angle) < -0.3 else x - width / 2
                middle = y + (height / 2 if sin(angle) > 0.9 else -height / 2 if sin(angle) < -0.9 else 0)
                rect = (left, middle - height / 2, left + width, middle + height / 2)
                line = (circle.x, circle.y, x, y) if reach > 10 else None
                price = reach * 0.6 + turn * 0.35 + cost(rect, line)
                yield price, LabelPosition(left, middle, (x, y) if line else None), rect

    out: dict[int, LabelPosition] = {}
    for i in sorted(range(len(circles)), key=crowd):
        _, out[i], rect = min(spots(circles[i]), key=lambda one: one[0])
        taken.append(rect)
        if end := out[i].line:
            lines.append((circles[i].x, circles[i].y, *end))
    return [out[i] for i in range(len(circles))]


def _passes(line: Rect, rect: Rect) -> bool:
    """Whether a line, from its first point to its second, runs over a rectangle."""
    x0, y0, x1, y1 = line
    points = ((x0 + (x1 - x0) * k / 12, y0 + (y1 - y0) * k / 12) for k in range(1, 12))
    return any(rect[0] <= x <= rect[2] and rect[1] <= y <= rect[3] for x, y in points)
