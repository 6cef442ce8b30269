"""How other tools count: the registry of conventions, and the account of a figure.

A *counter* is another tool. It has two halves, both in the file that bears its name:

    @counter("fvcore", title="fvcore", calls="flops", unit="MAC", package="fvcore", version="0.1.5.post20221221")
    def convention(trace: Trace) -> Account           # what it would print, from the Trace alone; no torch, no tool

    @measures("fvcore")
    def measured(model, inputs, kwargs) -> int        # what it prints: the tool itself, run on a copy

An account begins at archscope's MACs and names every difference, so that `macs + sum of the amounts` is the figure
exactly. What the account does not explain is the *residual*: measured − predicted, which should be 0.

A convention is written with a `Ledger`: for each operator or layer it enters what the tool counts more or less than
archscope, under a reason; the same reason adds up.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from archscope.analysis.metrics import totals
from archscope.analysis.observed import cached, works
from archscope.core.record import Layer, Trace
from archscope.core.registry import Registry
from archscope.core.table import unknown
from archscope.operators import VIEWS


class AccountItem(NamedTuple):
    """One difference between archscope's MACs and a tool's figure.

    reason: a phrase, "convolution biases". amount: in the tool's unit, negative for what it leaves out.
    places: paths of the layers (and operators of containers) where it strikes, each once, in run order.
    """

    reason: str
    amount: int
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The reason and where it strikes: `Linear biases (fc)`, `batch-norm weights and biases (53 layers)`."""
        if not self.places:
            return self.reason
        where = self.places[0] if len(self.places) == 1 else f"{len(self.places)} layers"
        return f"{self.reason} ({where})" if where else self.reason


class Account(NamedTuple):
    """What a tool would print for a trace, and how it gets there.

    figure: archscope's MACs plus the amounts of all items; None where the tool gives none (it refuses the model, or
    the trace does not say enough), and then `note` says why. note: anything else worth a sentence.
    """

    figure: int | None
    items: tuple[AccountItem, ...] = ()
    note: str = ""


class Counter(NamedTuple):
    """A tool that counts.

    calls: the tool's own word for its figure, "flops". unit: what one of its units really is, "MAC" (a multiply-add is
    one) or "FLOP" (a multiply-add is two). package: to install, "" for PyTorch's own. version: of the source that the
    convention was read from. convention: Trace -> Account. isolated: it changes the model or the process, and runs in
    a process of its own. means: what it counts, a phrase that stands under a table. order: its place in tables.
    """

    name: str
    title: str
    calls: str
    unit: str
    package: str
    version: str
    convention: Callable[[Trace], Account]
    isolated: bool = False
    means: str = ""
    order: int = 100


# (model, inputs, kwargs) -> the figure. The model is a copy without weights (meta device) that the tool may spoil, in
# the mode in which it shall be counted; the inputs are on the meta device too. Whatever it raises becomes a reason.
Measure = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], int]

COUNTERS: Registry[Counter] = Registry("counter")
MEASURES: Registry[Measure] = Registry("measure of")
measures = MEASURES.register  # over the function that runs the tool itself


def counter(name: str, **about: Any) -> Callable[[Callable[[Trace], Account]], Callable[[Trace], Account]]:
    """Register a tool by its convention. about: the other fields of its `Counter`."""

    def enter(convention: Callable[[Trace], Account]) -> Callable[[Trace], Account]:
        COUNTERS.add(name, Counter(name, convention=convention, **about))
        return convention

    return enter


def find(name: str) -> Counter:
    """The counter of a name. Raises ValueError that names the nearest right one."""
    if name not in COUNTERS:
        raise ValueError(unknown("tool", name, COUNTERS))
    return COUNTERS[name]


# ------------------------------------------------------------------------------------------------------ the ledger


class Ledger:
    """Differences to archscope's MACs, added up by reason.

    macs: of each operator of the trace, 0 where archscope does not know them (they are in no total either). base: where
    the account begins, by default the MACs of the model.
    """

    def __init__(self, trace: Trace, base: int | None = None) -> None:
        self.trace = trace
        self.base = totals(trace)["macs"] if base is None else base
        self.macs = [w.macs if w is not None else 0 for w in works(trace)]
        self._amounts: dict[str, int] = {}
        self._places: dict[str, dict[str, None]] = {}

    def enter(self, reason: str, amount: int, place: str | None = None) -> None:
        """Add a difference: what the tool counts, less what archscope counts there. An amount of 0 leaves no trace."""
        if amount:
            self._amounts[reason] = self._amounts.get(reason, 0) + amount
            if place is not None:
                self._places.setdefault(reason, {})[place] = None

    def account(self, factor: int = 1, note: str = "") -> Account:
        """The account. factor 2: the tool doubles all that it counts, which is an item of its own."""
        items = [
            AccountItem(reason, n, tuple(self._places.get(reason, ()))) for reason, n in self._amounts.items() if n
        ]
        figure = self.base + sum(item.amount for item in items)
        if factor != 1 and figure:
            items.append(AccountItem("each multiply-add counted as two operations", (factor - 1) * figure))
        return Account(factor * figure, tuple(items), note)


def refused(note: str) -> Account:
    """The account of a tool that gives no figure for this trace."""
    return Account(None, (), note)


@cached
def owners(trace: Trace) -> list[Layer]:
    """The innermost layer call that each operator ran in."""
    out = [trace.layers[0]] * len(trace.ops)
    for layer in trace.layers:  # a caller stands before what it calls
        out[layer.start : layer.stop] = [layer] * (layer.stop - layer.start)
    return out


@cached
def parents(trace: Trace) -> frozenset[str]:
    """Paths of the modules that contain modules; all others are leaves."""
    paths = {path for path in trace.modules if path}
    paths |= {p.name.rpartition(".")[0] for p in (*trace.params, *trace.buffers)}  # of modules with a second name too
    return frozenset(path.rpartition(".")[0] for path in paths if path)


@cached
def leaves(trace: Trace) -> list[Layer]:
    """The calls of modules that contain no module: what tools with hooks on modules see."""
    inside = parents(trace)
    return [layer for layer in trace.layers if layer.path not in inside]


def place_of(trace: Trace, index: int, name: str = "") -> str:
    """Path of the operator at an index: that of the leaf module it ran in, or of its container with its own name.

    name: of the composite that it is a piece of.
    """
    path = owners(trace)[index].path
    if path and path not in parents(trace):
        return path
    name = name or trace.ops[index].name.rpartition(".")[2]
    return f"{path}.{name}" if path else name


@cached
def live(trace: Trace) -> list[bool]:
    """For each operator, whether an output of the model depends on it; a tensor and its views are one."""
    home: dict[int, int] = {}  # of a tensor: the one whose memory it shares
    for op in trace.ops:
        if op.name in VIEWS and op.inputs:
            for t in op.outputs:
                home.setdefault(t.id, home.get(op.inputs[0].id, op.inputs[0].id))
    needed = {home.get(t.id, t.id) for t in (trace.layers[0].outputs if trace.layers else ())}
    out = [False] * len(trace.ops)
    for i in range(len(trace.ops) - 1, -1, -1):
        op = trace.ops[i]
        if any(home.get(t.id, t.id) in needed for t in op.outputs):
            out[i] = True
            needed.update(home.get(t.id, t.id) for t in op.inputs)
    return out
