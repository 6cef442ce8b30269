"""Shapes in letters: how each operator of a trace carries N, H, W or T from its inputs to its outputs.

One run shows numbers; here the same operators are walked with letters in the place of the sides of the input, and each
output is again a shape, its sides polynomials with floors (`algebra.py`). A side that a window or a pad makes gets a
name, h1, h2 …, once for all layers that have the same.

Some arguments are numbers that the forward computed from a shape (`x.view(n, c, h * w)`). A second run on an input
with other sides, the *probe*, shows which: an argument that is the same in both is a constant, one that is not is
found among the sides at hand. After every operator the letters are held against what was recorded in both runs, and
an operator that does not come out stops the walk by its name.

Along the way everything that a size must fulfil is written down as a `Need`, and every window as a `Window`.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from archscope.analysis.observed import works
from archscope.core.errors import ArchscopeError
from archscope.core.record import Op, Shape, Tensor, Trace
from archscope.core.registry import Registry
from archscope.operators import RULES
from archscope.shapes.polynomial import Poly, Whole, least, letter, number, product

Dims = tuple[Poly, ...]
LETTERS = ("N", "T", "D", "H", "W")  # sides of an input that stay letters; channels are numbers


class Unable(ArchscopeError):
    """An operator that has no closed form in letters. at: its index. op: its name."""

    exit_code = 1

    def __init__(self, sentence: str, at: int = -1, op: str = "") -> None:
        super().__init__(sentence)
        self.at, self.op = at, op


class Need(NamedTuple):
    """What a size must fulfil for operator `at` to run.

    kind: "window", left is at least 1 (an output side); "equal", left = right, both from the input (branches that
    meet); "fixed", left = right, a number of the model's own (features, positions); "divides", right divides left.
    """

    at: int
    kind: str
    left: Poly
    right: Poly

    def holds(self, of: dict[str, int]) -> bool:
        """Whether these letters fulfil it."""
        if self.kind == "window":
            return self.left.value(of) >= 1
        if self.kind == "divides":
            return self.left.value(of) % self.right.value(of) == 0
        return self.left.value(of) == self.right.value(of)


class Window(NamedTuple):
    """A window of operator `at` over one side: ⌊(source − span + 2·pad)/stride⌋ + 1, rounded up with `ceil`."""

    at: int
    side: int  # from the end: -1 is the last axis
    source: Poly
    out: Poly
    span: int
    stride: int
    pad: int
    ceil: bool

    def lost(self, of: dict[str, int]) -> int:
        """Rows at the end of the input that no window reaches; padding is reached last, and lost first."""
        m, o = self.source.value(of), self.out.value(of)
        return max(0, m + self.pad - ((o - 1) * self.stride + self.span)) if o > 0 else 0


class Done(NamedTuple):
    """What an operator gives in letters: the shapes of its outputs, and its multiply–accumulates."""

    dims: tuple[Dims, ...]
    macs: Whole = 0


Rule = Callable[["Walk", Op], Done]
CARRIES: Registry[Rule] = Registry("way to carry")


def carries(*names: str) -> Callable[[Rule], Rule]:
    """Enter how operators carry letters."""
    return CARRIES.register(*(f"aten.{name}" for name in names))


class Walk:
    """One walk over a trace.

    layout: a letter for each axis of the first input, `nchw`: c stays a number. probe: a run of the same model on
    another input, as far as it came. refused: the operator at which the run stopped, whose needs are written down
    too. After `run`: dims of each tensor by id, macs of each operator, needs, windows,
    defined (each named side in letters of the input), values (of every letter in the trace), and stopped, the
    operator that could not be carried.
    """

    def __init__(self, trace: Trace, layout: str, probe: Trace | None = None, refused: Op | None = None) -> None:
        self.trace, self.layout = trace, layout
        self.probe, self.refused = probe, refused
        self.dims: dict[int, Dims] = {}
        self.macs: list[Poly] = []
        self.needs: list[Need] = []
        self.windows: list[Window] = []
        self.defined: dict[str, Poly] = {}
        self.parents: dict[str, list[tuple[str, Poly]]] = {}  # of a named side: the side before, and how it follows
        self.names: dict[Poly, str] = {}
        self.values: dict[str, int] = {}
        self.others: dict[str, int] = {}  # the same in the probe
        self.other: Op | None = None  # the operator in the probe
        self.stopped: Unable | None = None
        self.at = 0
        if trace.inputs:
            self._begin(trace.inputs[0], probe.inputs[0] if probe else None)

    def _begin(self, given: Tensor, other: Tensor | None) -> None:
        first = []
        for axis, side in enumerate(given.shape):
            name = self.layout[axis].upper() if axis < len(self.layout) else ""
            if name not in LETTERS or name in self.values:
                first.append(number(side))
                continue
            first.append(letter(name))
            self.values[name] = side
            self.others[name] = other.shape[axis] if other else side
        self.dims[given.id] = tuple(first)

    def run(self) -> "Walk":
        """Walk every operator, up to the one that cannot be carried."""
        beside = self.probe.ops if self.probe else ()
        done = works(self.trace)
        for at, op in enumerate(self.trace.ops):
            self.at = at
            self.other = beside[at] if at < len(beside) else None
            try:
                if self.other is not None and self.other.name != op.name:
                    raise Unable("the forward takes another way at another size")
                rule = CARRIES.get(op.name, generic)
                gives = rule(self, op)
                if rule is generic and (done[at] is None or done[at].macs):  # type: ignore[union-attr]
                    raise Unable("its multiply–accumulates have no closed form here")
                self._keep(op, gives)
            except Unable as error:
                self.stopped = Unable(str(error), at, op.name.removeprefix("aten."))
                return self
        if self.refused is not None:
            self.at, self.other = len(self.trace.ops), None
            with suppress(
                Unable, LookupError, ValueError, TypeError, AttributeError
            ):  # what is refused may be anything
                CARRIES.get(self.refused.name, generic)(self, self.refused)
        return self

    def _keep(self, op: Op, gives: Done) -> None:
        """Enter an operator's outputs, if they are what was recorded."""
        if len(gives.dims) < len(op.outputs):
            raise Unable("its number of outputs depends on the size")
        for i, (tensor, dims) in enumerate(zip(op.outputs, gives.dims, strict=False)):
            if tuple(d.value(self.values) for d in dims) != tensor.shape:
                raise Unable(f"gives {list(tensor.shape)}, in letters {_shape(dims)}")
            if self.other is not None and tuple(d.value(self.others) for d in dims) != self.other.outputs[i].shape:
                raise Unable("its output follows no closed form in the sides of the input")
            self.dims[tensor.id] = dims
        self.macs.append(gives.macs if isinstance(gives.macs, Poly) else number(gives.macs))

    # ------------------------------------------------------------------------------------------- what rules ask for

    def of(self, tensor: Tensor) -> Dims:
        """The shape of a tensor in letters; of a parameter or a constant, numbers."""
        known = self.dims.get(tensor.id)
        return known if known is not None else tuple(map(number, tensor.shape))

    def need(self, kind: str, left: Whole, right: Whole = 1) -> None:
        """Write down what a size must fulfil; what always holds is left out."""
        left, right = left + number(0), right + number(0)
        if kind in ("equal", "fixed") and left == right:
            return
        if kind == "window" and left.constant is not None:
            return
        self.needs.append(Need(self.at, kind, left, right))

    def same(self, left: Poly, right: Poly) -> Poly:
        """Two sides that must be one; the one that is a number is the model's own."""
        if left != right:
            own = [side for side in (left, right) if not side.letters - {"N"}]
            self.need("fixed" if own else "equal", left, right)
        return right if right.constant is not None else left

    def named(self, side: Poly) -> Poly:
        """A side under its name, once for all that are the same in letters of the input."""
        closed = side.replaced(self.defined)
        base = closed.letters
        if len(base) != 1 or base == {"N"}:
            return side
        if closed == letter(*base):
            return closed
        if closed not in self.names:
            (of,) = base
            lower = of.lower()
            name = f"{lower}{1 + sum(known.startswith(lower) for known in self.defined)}"
            self.names[closed] = name
            self.defined[name] = closed
            self.values[name], self.others[name] = closed.value(self.values), closed.value(self.others)
        name = self.names[closed]
        before = side.letters
        if len(before) == 1 and name not in before:
            step = (min(before), side)
            if step not in self.parents.setdefault(name, []):
                self.parents[name].append(step)
        return letter(name)

    def number_of(self, op: Op, key: str, near: Sequence[Poly]) -> list[Poly | None]:
        """The integers of an argument, each a number or a side that the forward read off a shape; None for −1."""
        given = op.args[key]
        other = self.other.args[key] if self.other is not None else None
        pairs = zip(given, other if other is not None else [None] * len(given), strict=True)
        return [None if one == -1 else self.integer(one, two, near) for one, two in pairs]

    def integer(self, one: int, two: int | None, near: Sequence[Poly]) -> Poly:
        """A number that was `one` in the run and `two` in the probe, in letters: a multiple of a side or of a product
        of sides, or a side and a constant more."""
        if two is None or one == two:
            return number(one)
        sides = [*near, *(product(near[i:j]) for i in range(len(near)) for j in range(i + 2, len(near) + 1))]
        letters = [letter(name) for name in self.values]
        sides += [side for side in letters if side not in sides]
        sides += [a * b for i, a in enumerate(letters) for b in letters[i + 1 :]]
        known = [(side, side.value(self.values), side.value(self.others)) for side in sides if side.constant is None]
        for side, a, b in known:
            if (a, b) == (one, two):
                return side
        for side, a, b in known:
            if a and b and not one % a and not two % b and one // a == two // b:
                return side * (one // a)
        for side, a, b in known:
            ratio = a // one if one else 0
            if ratio and (a, b) == (ratio * one, ratio * two) and all(not count % ratio for _, count in side.terms):
                return side // ratio
        for side, a, b in known:
            if one - a == two - b:
                return side + (one - a)
        raise Unable(f"the forward computes {one} from the size ({two} at another)")

    def quotient(self, above: Poly, below: Poly) -> Poly:
        """above/below; where a number does not always divide it, it must (a reshape)."""
        divisor = below.constant
        if divisor == 0 or not below.terms:
            raise Unable("divides by 0")
        if divisor is not None:
            if any(count % divisor for _, count in above.terms):
                self.need("divides", above, divisor)
            return above // divisor
        if len(below.terms) == 1:
            (powers, count), *_ = below.terms
            out = []
            for own, times in above.terms:
                left = list(own)
                for atom in powers:
                    if atom not in left:
                        break
                    left.remove(atom)
                else:
                    if not times % count:
                        out.append((tuple(left), times // count))
                        continue
                break
            else:
                return Poly(tuple(out))
        raise Unable(f"{above.text} cannot be divided by {below.text}")

    def slide(self, side: int, m: Poly, k: int, s: int, pad: int, d: int, ceil: bool = False) -> Poly:
        """The side that a window makes, written down as a window where it moves over a side in letters."""
        span = d * (k - 1) + 1
        reach = m + (2 * pad - span)
        out = (reach + (s - 1 if ceil else 0)) // s + 1
        if ceil and pad + s > k:  # a last window that would start in the right padding is dropped
            out = least(out, (m + pad + s - 1) // s)
        if out.constant is None:
            out = out if out == m else self.named(out)
            self.windows.append(Window(self.at, side, m, out, span, s, pad, ceil))
            self.need("window", out)
        return out

    def broadcast(self, shapes: Iterable[Dims]) -> Dims:
        """The common shape of several."""
        out: list[Poly] = []
        for dims in shapes:
            out = [number(1)] * (len(dims) - len(out)) + out
            for i in range(1, len(dims) + 1):
                if out[-i].constant == 1:
                    out[-i] = dims[-i]
                elif dims[-i].constant != 1:
                    out[-i] = self.same(out[-i], dims[-i])
        return tuple(out)


def _shape(dims: Iterable[Poly]) -> str:
    return "×".join(d.text if len(d.terms) < 2 else f"({d.text})" for d in dims)


def generic(walk: Walk, op: Op) -> Done:
    """What keeps a shape, meets element by element, or makes a constant."""
    here = [t for t in op.inputs if any(d.constant is None for d in walk.of(t))]
    other = walk.other
    if not here:
        if other is None or all(a.shape == b.shape for a, b in zip(op.outputs, other.outputs, strict=True)):
            return Done(tuple(tuple(map(number, t.shape)) for t in op.outputs))
        made = []
        for one, two in zip(op.outputs, other.outputs, strict=True):
            if len(one.shape) != len(two.shape):
                raise Unable("makes another number of axes at another size")
            made.append(tuple(walk.integer(a, b, ()) for a, b in zip(one.shape, two.shape, strict=True)))
        return Done(tuple(made))
    outputs = []
    for tensor in op.outputs:
        meets = [walk.of(t) for t in op.inputs if _expands(t.shape, tensor.shape)]
        alike = [walk.of(t) for t in here if t.shape == tensor.shape]
        if op.name in RULES and len(meets) == len(op.inputs):
            outputs.append(walk.broadcast(meets))
        elif alike:
            outputs.append(alike[0])
        elif len(meets) == len(op.inputs):
            outputs.append(walk.broadcast(meets))
        else:
            raise Unable("its output has no closed form here")
    return Done(tuple(outputs))


def _expands(small: Shape, large: Shape) -> bool:
    padded = (1,) * (len(large) - len(small)) + small
    return len(padded) == len(large) and all(a in (1, b) for a, b in zip(padded, large, strict=True))
