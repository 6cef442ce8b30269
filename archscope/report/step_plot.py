"""The bytes in use over a step of training, as an SVG: what lives, stacked by role, and where the phases begin."""

from archscope.analysis.training import TERMS, memory_curve, peak
from archscope.core.formats.base import show
from archscope.core.record import Trace
from archscope.report.svg import document, tag, wide

WIDTH, HEIGHT, LEFT, TOP = 900.0, 360.0, 90.0, 40.0
COLORS = {"parameter": "#0072B2", "buffer": "#767676", "input": "#D6C700", "optimizer state": "#56B4E9",
          "gradient": "#CC79A7", "saved": "#E69F00", "temporary": "#D55E00"}  # fmt: skip
GREY = "#767676"


def curves(trace: Trace) -> dict[str, list[int]]:
    """The bytes of each role in use while each operator runs; they add up to `memory_curve`."""
    changes = {role: [0] * (len(trace.ops) + 1) for role in TERMS}
    for storage in trace.storages:
        changes[storage.role][max(storage.born, 0)] += storage.nbytes
        if storage.died is not None:
            changes[storage.role][storage.died] -= storage.nbytes
    found = {}
    for role, steps in changes.items():
        now, curve = 0, []
        for change in steps[:-1]:
            now += change
            curve.append(now)
        found[role] = curve
    return found


def memory_svg(trace: Trace) -> str:
    """The picture."""
    whole, top = memory_curve(trace), peak(trace)
    across, high = WIDTH - LEFT - 20, HEIGHT - TOP - 60

    def x(op: float) -> float:
        return LEFT + across * op / max(len(whole), 1)

    def y(nbytes: float) -> float:
        return TOP + high * (1 - nbytes / max(top.nbytes, 1))

    body, below = [], [0] * len(whole)
    each = curves(trace)
    for role in COLORS:
        above = [a + b for a, b in zip(below, each[role], strict=True)]
        if above != below:
            edge = [(x(i + side), y(n)) for i, n in enumerate(above) for side in (0, 1)]
            edge += [(x(i + side), y(below[i])) for i in reversed(range(len(below))) for side in (1, 0)]
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge)
            body.append(tag("polygon", points=points, fill=COLORS[role], fill_opacity="0.85"))
        below = above
    for phase in trace.phases:
        if phase.name != "recompute" and phase.stop > phase.start:
            body.append(tag("line", x1=x(phase.start), x2=x(phase.start), y1=TOP, y2=TOP + high, stroke=GREY,
                            stroke_dasharray="3 3"))  # fmt: skip
            at, last = x(phase.start), x(phase.start) + wide(phase.name, 11) > WIDTH - 4  # no room behind its line
            body.append(tag("text", phase.name, x=at - 3 if last else at + 3, y=TOP + high + 16, font_size=11,
                            fill=GREY, text_anchor="end" if last else "start"))  # fmt: skip
    for part in (0.25, 0.5, 0.75, 1):
        label = show(int(top.nbytes * part), "bytes")
        body.append(tag("text", label, x=LEFT - 6, y=y(top.nbytes * part) + 4, font_size=11, fill=GREY,
                        text_anchor="end"))  # fmt: skip
    place = f"peak {show(top.nbytes, 'bytes')}, {top.phase}{f' of {top.layer}' if top.layer else ''}"
    anchor = "end" if top.op > len(whole) / 2 else "start"
    body.append(tag("text", place, x=x(top.op), y=TOP - 8, font_size=12, fill=GREY, text_anchor=anchor))
    at = LEFT
    for role, color in COLORS.items():
        if any(each[role]):
            body.append(tag("rect", x=at, y=HEIGHT - 22, width=10, height=10, fill=color))
            body.append(tag("text", role, x=at + 14, y=HEIGHT - 13, font_size=11, fill=GREY))
            at += 34.0 + 6.5 * len(role)
    return document(WIDTH, HEIGHT, body, f"{trace.model}: bytes in use over a step")
