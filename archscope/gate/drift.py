"""Two entries of a lock -> what changed: layers added, removed, changed, renamed, and the totals.

Layers are matched in two ways, by path and by order, and the match in which less work changed is reported. A layer put
into a `Sequential` shifts the numbers of all that follow, and is one layer added; a layer that was widened in its place
is one layer changed, even where another layer now looks as it did.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from archscope.analysis.metrics import METRICS, STEP_METRICS
from archscope.gate.lock import AT_PEAK, DEFAULTS, STEP_KEYS, TOTALS, Entry, Line


class LayerChange(NamedTuple):
    """One layer that changed. how: added, removed, changed, renamed, or follows: the configuration is the same and the
    figures changed because the input did."""

    how: str
    before: Line | None
    after: Line | None

    @property
    def line(self) -> Line:
        """The layer as it is now, or as it was."""
        line = self.after or self.before
        assert line is not None
        return line

    def delta(self, figure: str) -> int | None:
        """By how much one of lock.FIGURES changed; None where it is unknown."""
        values = [getattr(line, figure) if line else 0 for line in (self.after, self.before)]
        return None if None in values else values[0] - values[1]


@dataclass(frozen=True)
class Drift:
    """What changed between two entries. totals: (before, after) of those that differ."""

    before: Entry
    after: Entry
    changes: tuple[LayerChange, ...]
    totals: Mapping[str, tuple[Any, Any]]

    @property
    def input(self) -> tuple[str, str] | None:
        """The inputs, where they differ."""
        return None if self.before.input == self.after.input else (self.before.input, self.after.input)

    def __bool__(self) -> bool:
        return bool(self.changes or self.totals or self.input)


def drift_of(before: Entry, after: Entry) -> Drift:
    """What changed from one entry to the other."""
    # an older lock may lack a metric, and only some have those of a training step
    both = [key for key in (*TOTALS, *STEP_KEYS) if key in before.totals and key in after.totals]
    totals = {key: (before.totals[key], after.totals[key]) for key in both}
    changed = {key: pair for key, pair in totals.items() if pair[0] != pair[1]}
    return Drift(before, after, changes(before.lines, after.lines), changed)


# -------------------------------------------------------------------------------------------------- which is which

_Pair = tuple[int | None, int | None]  # indices into the lines before and after


def changes(before: Sequence[Line], after: Sequence[Line]) -> tuple[LayerChange, ...]:
    """The layers that changed, in run order."""
    if list(before) == list(after):
        return ()
    by_path = _read(before, after, _by_path(before, after))
    if all(change.how in ("changed", "follows") for change in by_path) and not any(
        change.before and change.after and change.before.kind != change.after.kind for change in by_path
    ):
        return by_path
    return min(by_path, _read(before, after, _by_order(before, after)), key=_cost)


def _cost(found: tuple[LayerChange, ...]) -> tuple[int, int, int]:
    """How much work a match says was changed, in how many layers, and how many have another name."""
    own = [change for change in found if change.how != "follows"]
    renamed = sum(change.how == "renamed" for change in own)
    work = sum(abs(change.delta(key) or 0) for change in own for key in ("params", "macs"))
    return work, len(own) - renamed, renamed


def _by_path(before: Sequence[Line], after: Sequence[Line]) -> list[_Pair]:
    pairing = _Pairing(before, after)
    pairing.match(lambda lines: [(key, _whole(line)) for key, line in _keyed(lines)])
    pairing.match(lambda lines: [(key, line.kind) for key, line in _keyed(lines)])
    return _rest(pairing)


def _by_order(before: Sequence[Line], after: Sequence[Line]) -> list[_Pair]:
    """The longest common stretches of layers of the same kind and configuration; the rest as by path."""
    start, (old, new) = 0, ([_same(line) for line in before], [_same(line) for line in after])
    most = min(len(old), len(new))
    while start < most and before[start] == after[start]:
        start += 1
    end = 0
    while end < most - start and before[-1 - end] == after[-1 - end]:
        end += 1
    pairing = _Pairing(before, after)
    for i in range(start):
        pairing.join(i, i)
    for i in range(1, end + 1):
        pairing.join(len(old) - i, len(new) - i)
    middle = SequenceMatcher(None, old[start : len(old) - end], new[start : len(new) - end], autojunk=False)
    for i, j, count in middle.get_matching_blocks():
        for k in range(count):
            pairing.join(start + i + k, start + j + k)
    return _rest(pairing)


def _rest(pairing: "_Pairing") -> list[_Pair]:
    """What is not matched yet: the same layer under another path, another layer under the same one."""
    pairing.match(lambda lines: [_whole(line) for line in lines])
    pairing.match(lambda lines: [_same(line) for line in lines])
    pairing.match(lambda lines: [key for key, _ in _keyed(lines)])
    pairing.match(lambda lines: [line.path.rstrip("_") for line in lines])  # in place or not: add_ and add
    return pairing.pairs()


class _Pairing:
    """Which line before is which line after, found step by step."""

    def __init__(self, before: Sequence[Line], after: Sequence[Line]) -> None:
        self.before, self.after = before, after
        self.old: dict[int, int] = {}
        self.new: dict[int, int] = {}

    def join(self, i: int, j: int) -> None:
        self.old[i], self.new[j] = j, i

    def match(self, keys: Any) -> None:
        """Join the lines that have none yet and the same key, in order."""
        waiting: dict[Any, list[int]] = defaultdict(list)
        for i, key in enumerate(keys(self.before)):
            if i not in self.old:
                waiting[key].append(i)
        for j, key in enumerate(keys(self.after)):
            if j not in self.new and waiting.get(key):
                self.join(waiting[key].pop(0), j)

    def pairs(self) -> list[_Pair]:
        """All of them in the order of the lines after; removed lines at their old place."""
        gone: dict[int, list[int]] = defaultdict(list)
        last = -1
        for i in range(len(self.before)):
            last = self.old.get(i, last)
            if i not in self.old:
                gone[last].append(i)
        out: list[_Pair] = [(i, None) for i in gone[-1]]
        for j in range(len(self.after)):
            out.append((self.new.get(j), j))
            out += [(i, None) for i in gone[j]]
        return out


def _keyed(lines: Sequence[Line]) -> list[tuple[tuple[str, int], Line]]:
    """Each line with its path and how often that path came before: `x + y` twice is two lines of one path."""
    seen: dict[str, int] = defaultdict(int)
    out = []
    for line in lines:
        out.append(((line.path, seen[line.path]), line))
        seen[line.path] += 1
    return out


def _same(line: Line) -> str:
    return f"{line.kind} {json.dumps(dict(line.config), sort_keys=True)}"


def _whole(line: Line) -> tuple[Any, ...]:
    """A layer without its path."""
    return (_same(line), *line[3:])


def _read(before: Sequence[Line], after: Sequence[Line], pairs: list[_Pair]) -> tuple[LayerChange, ...]:
    out = []
    for i, j in pairs:
        old, new = None if i is None else before[i], None if j is None else after[j]
        if old is None or new is None:
            out.append(LayerChange("removed" if new is None else "added", old, new))
        elif old != new:
            out.append(LayerChange(_how(old, new), old, new))
    return tuple(out)


def _how(old: Line, new: Line) -> str:
    own = _same(old) != _same(new) or (old.params, old.trainable) != (new.params, new.trainable)
    own = own or (old.output == new.output and old.macs != new.macs)
    own = own or (old.kind in ("Parameter", "Buffer") and old.output != new.output)
    return "changed" if own else "renamed" if old.path != new.path else "follows"


# ---------------------------------------------------------------------------------------------------------- words

EVERY = {**METRICS, **STEP_METRICS}
SHOWN = 3  # layers of a peak
UNITS = {key: one.amount for key, one in EVERY.items()} | {"params": "params"}


def sentence(change: LayerChange) -> str:
    """`+ layer4.2.conv3 1×1 → 3×3: +1,048,576 params, +51,380,224 MACs`."""
    line = change.line
    mark = {"added": "+", "removed": "−", "renamed": "→"}.get(change.how) or _mark(change)
    text = f"{mark} {line.path or '(the model)'} {what(change)}"
    grown = difference(change)
    return f"{text}: {grown}" if grown else text


def _mark(change: LayerChange) -> str:
    for key in ("params", "macs", "flops", "activations"):
        if delta := change.delta(key):
            return "+" if delta > 0 else "−"
    return "~"


def what(change: LayerChange) -> str:
    """What happened to a layer, without its path: `1×1 → 3×3`, `added, Conv2d 64→128 3×3`."""
    old, new = change.before, change.after
    if old is None or new is None:
        return f"{change.how}, {describe(change.line)}"
    parts = [f"was {old.path or '(the model)'}"] if old.path != new.path else []
    if bool(old.output) != bool(new.output):
        return ", ".join([*parts, "runs now" if new.output else "never runs now"])
    if old.kind != new.kind:
        parts.append(f"{describe(old)} → {describe(new)}")
    else:
        parts += _arguments(old, new)
    if old.params == new.params and old.trainable != new.trainable:
        parts.append("frozen" if new.trainable < old.trainable else "trainable again")
    if not parts or (old.params != new.params and _same(old) == _same(new)):
        parts.append(f"output {_times(old.output)} → {_times(new.output)}" if old.output != new.output else "")
    text = ", ".join(part for part in parts if part)
    return text or ("another input" if change.how == "follows" else "works differently inside")


def _arguments(old: Line, new: Line) -> list[str]:
    parts = []
    for key in dict.fromkeys((*new.config, *old.config)):
        one, two = (line.config.get(key, DEFAULTS.get(key)) for line in (old, new))
        if one == two:
            continue
        if key == "kernel_size":
            parts.insert(0, f"{_sides(old.kind, one)} → {_sides(new.kind, two)}")
        elif key == "bias":
            parts.append("bias added" if two else "bias removed")
        else:
            parts.append(f"{key} {_value(one)} → {_value(two)}")
    return parts


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "×".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _sides(kind: str, value: Any) -> str:
    """A kernel as people write it: 3×3."""
    count = next((n for n in (1, 2, 3) if f"{n}d" in kind), 2)
    each = value if isinstance(value, list | tuple) else (value,) * count
    return "×".join(map(str, each))


def _times(shape: str) -> str:
    return shape.replace("x", "×")


_ENDS = (("in_channels", "out_channels"), ("in_features", "out_features"), ("input_size", "hidden_size"),
         ("num_embeddings", "embedding_dim"))  # fmt: skip


def describe(line: Line) -> str:
    """Kind and configuration in few words: `Conv2d 64→128 3×3, stride 2`."""
    config = dict(line.config)
    words = [line.kind]
    for start, end in _ENDS:
        if start in config and end in config:
            words.append(f"{config.pop(start)}→{config.pop(end)}")
    if "kernel_size" in config:
        words.append(_sides(line.kind, config.pop("kernel_size")))
    rest = [f"{key} {_value(value)}" for key, value in config.items() if key != "bias"]
    rest += ["no bias"] if config.get("bias") is False else []
    if line.kind in ("Parameter", "Buffer"):
        rest.append(_times(line.output))
    return ", ".join([" ".join(words), *rest])


def difference(change: LayerChange) -> str:
    """`+1,048,576 params, +51,380,224 MACs`; FLOPs or activations where neither changed; "" where nothing did."""
    parts = _differences(change, ("params", "macs"))
    if not parts and change.how != "renamed":
        parts = _differences(change, ("flops",)) or _differences(change, ("activations",))
    return ", ".join(parts)


def _differences(change: LayerChange, figures: Sequence[str]) -> list[str]:
    parts = []
    for key in figures:
        delta = change.delta(key)
        if delta is None:
            before, after = (getattr(line, key) if line else 0 for line in (change.before, change.after))
            if before != after or change.how != "changed":
                parts.append(f"{UNITS[key]} unknown")
        elif delta:
            parts.append(f"{signed(delta)} {UNITS[key]}")
    return parts


def signed(number: int) -> str:
    """`+1,048,576`, `−12`, `±0`."""
    return f"{number:+,}".replace("-", "−") if number else "±0"


def following(found: Sequence[LayerChange]) -> str:
    """One sentence for the layers that only follow, "" where there are none."""
    rest = [change for change in found if change.how == "follows"]
    if not rest:
        return ""
    sums = [(key, [change.delta(key) for change in rest]) for key in ("macs", "flops", "activations")]
    known = [(key, sum(d for d in deltas if d is not None)) for key, deltas in sums]
    grown = ", ".join(f"{signed(delta)} {UNITS[key]}" for key, delta in known if delta)
    layers = "1 layer follows" if len(rest) == 1 else f"{len(rest)} layers follow"
    return f"{layers}, of the same configuration on another input{': ' + grown if grown else ''}"


def totals_text(drift: Drift) -> list[str]:
    """One line for each total that changed, less those that another one implies:
    `params 60,965,224 → 62,013,800 (+1,048,576, +1.7 %)`."""
    out = [f"input {_times(drift.input[0])} → {_times(drift.input[1])}"] if drift.input else []
    for key, (before, after) in drift.totals.items():
        if key in EVERY and EVERY[key].implied_by in drift.totals:
            continue
        if isinstance(before, int) and isinstance(after, int):
            share = f", {100 * (after - before) / before:+.1f} %".replace("-", "−") if before else ""
            out.append(f"{key} {before:,} → {after:,} ({signed(after - before)}{share})")
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            out.append(f"operators of unknown cost: {_names(before)} → {_names(after)}")
        else:
            out.append(f"{key} {_value(before)} → {_value(after)}")
        if key == "peak_memory" and (layers := at_peak_text(drift)):
            out.append(layers)
    return out


def at_peak_text(drift: Drift) -> str:
    """The layers whose bytes at the peak of a training step changed most, "" where that is not known."""
    before, after = (entry.totals.get(AT_PEAK) for entry in (drift.before, drift.after))
    if not before or not after:
        return ""
    deltas = {path: after.get(path, 0) - before.get(path, 0) for path in (after | before)}
    changed = sorted((path for path in deltas if deltas[path]), key=lambda path: -abs(deltas[path]))
    rest = f", {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    each = ", ".join(f"{path or '(model)'} {signed(deltas[path])} B" for path in changed[:SHOWN])
    return f"at the peak: {each}{rest}" if each else ""


def _names(unknown: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count}×)" for name, count in unknown.items()) or "none"
