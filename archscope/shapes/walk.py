"""Shapes in letters: how each operator of a trace carries N, H, W or T from its inputs to its outputs.

One run shows numbers; here the same operators are walked with letters in the place of the sides of the input, and each
output is again a shape, its sides polynomials with floors (`algebra.py`). A side that a window or a pad makes gets a
name, h1, h2 …, once for all layers that have the same.

Some arguments are numbers that the forward computed from a shape (`x.view(n, c, h * w)`). A second run on an input
with other sides, the *probe*, shows which: an argument that is the same in both is a constant, one that is not is
found among the sides at hand. After every operator the letters are held against what was recorded in both runs, and
an operator that does not come out stops the walk by its name.

Along the way everything that a size must fulfil is written down as a `SizeRequirement`, and every window as a `Window`.
"""

import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from archscope.analysis.observed import works
from archscope.core.errors import ArchscopeError, ShapeError
from archscope.core.record import Op, Shape, Tensor, Trace
from archscope.operators import RULES, SHAPES, Work, broadcast
from archscope.shapes.polynomial import Poly, letter, number, product
from archscope.shapes.resize import windows_of
from archscope.shapes.symbolic_int import Assumption, Context, SymbolicInt, Unsupported, poly_of

Dims = tuple[Poly, ...]
# their sides stay products and sums of those before; every other new side gets a name
WRITTEN_OUT = frozenset(
    f"aten.{name}"
    for name in "view reshape _unsafe_view _reshape_alias flatten unflatten cat concat concatenate stack".split()
)
LETTERS = ("N", "T", "D", "H", "W")  # sides of an input that stay letters; channels are numbers


class SizeRequirement(NamedTuple):
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
        self.needs: list[SizeRequirement] = []
        self.windows: list[Window] = []
        self.defined: dict[str, Poly] = {}
        self.parents: dict[str, list[tuple[str, Poly]]] = {}  # of a named side: the side before, and how it follows
        self.names: dict[Poly, str] = {}
        self.values: dict[str, int] = {}
        self.others: dict[str, int] = {}  # the same in the probe
        self.other: Op | None = None  # the operator in the probe
        self.context = Context()  # of the operator that is walked
        self.computed = False  # whether the forward computed one of its arguments from a size
        self.stopped: Unsupported | None = None
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
        """Walk every operator, up to the one that has no closed form."""
        beside = self.probe.ops if self.probe else ()
        for at, (op, work) in enumerate(zip(self.trace.ops, works(self.trace), strict=True)):
            self.at, self.context = at, Context()
            self.other = beside[at] if at < len(beside) else None
            try:
                if self.other is not None and self.other.name != op.name:
                    raise Unsupported("the forward takes another way at another size")
                if work is None:
                    raise Unsupported("its multiply–accumulates are unknown")
                self._keep(op, *self._step(op, work))
            except (Unsupported, ShapeError) as error:
                self.stopped = Unsupported(str(error), at, op.name.removeprefix("aten."))
                return self
        if self.refused is not None:
            self.at, self.other, self.context = len(self.trace.ops), None, Context()
            with suppress(ArchscopeError, LookupError, ValueError, TypeError, AttributeError):  # it may be anything
                rule = RULES.get(self.refused.name) or SHAPES[self.refused.name]
                rule(**self._arguments(self.refused))
            self._assume(next(([one] for one in self.context.log if not one.holds), []))
        return self

    def _step(self, op: Op, work: Work) -> tuple[list[Dims], Poly]:
        """The output shapes of an operator, and its multiply–accumulates: by its rule, on symbolic sides."""
        self.computed = False
        arguments: dict[str, Any] = {}
        rule = RULES.get(op.name) or SHAPES.get(op.name)
        shapes: Sequence[Sequence[int]] | None = None
        macs: int = work.macs
        try:
            arguments = self._arguments(op)
            symbolic = self.computed or any(d.constant is None for t in op.inputs for d in self.of(t))
            if rule is not None and symbolic:
                found = rule(**arguments)
                shapes, macs = (found.shapes, found.macs) if isinstance(found, Work) else (found, 0)
        except Unsupported:
            if work.macs or self.other is None or not self.computed:
                raise
            return self._by_probe(op), number(0)
        if shapes is None:
            if macs and rule is None:
                raise Unsupported("its multiply–accumulates have no closed form here")
            shapes = self._generic(op)
        dims = [tuple(map(poly_of, one)) for one in shapes]
        names: dict[Poly, Poly] = {}
        if not self.computed and op.name not in WRITTEN_OUT:
            before = {side for t in op.inputs for side in self.of(t)}
            made = dict.fromkeys(d for one in dims for d in one)
            names = {d: self.named(d) for d in made if d.constant is None and d not in before}
            dims = [tuple([names.get(d, d) for d in one]) for one in dims]
        factors = {name: names.get(whole, whole) for name, whole in self.context.sums.items()}
        self._assume([one for one in self.context.log if one.holds])
        for axis, span, stride, pad, ceil in windows_of(op):
            source, out = self.of(op.inputs[0])[axis], dims[0][axis]
            if out.constant is None:
                self.windows.append(Window(self.at, axis, source, out, span, stride, pad, ceil))
        return dims, macs.product.replaced(factors) if isinstance(macs, SymbolicInt) else number(macs)

    def _assume(self, log: Iterable[Assumption]) -> None:
        """Write down what a size must fulfil for this operator."""
        for kind, left, right, _ in log:
            need = SizeRequirement(self.at, kind, left, right)
            if need not in self.needs[-8:]:
                self.needs.append(need)

    def _keep(self, op: Op, shapes: list[Dims], macs: Poly) -> None:
        """Enter an operator's outputs, if they are what was recorded."""
        if len(shapes) < len(op.outputs) or (self.other and len(self.other.outputs) != len(op.outputs)):
            raise Unsupported("its number of outputs depends on the size")
        for i, (tensor, dims) in enumerate(zip(op.outputs, shapes, strict=False)):
            if tuple(d.value(self.values) for d in dims) != tensor.shape:
                raise Unsupported(f"gives {list(tensor.shape)}, in letters {_shape(dims)}")
            if self.other is not None and tuple(d.value(self.others) for d in dims) != self.other.outputs[i].shape:
                raise Unsupported("its output follows no closed form in the sides of the input")
            self.dims[tensor.id] = dims
        self.macs.append(macs)

    # ------------------------------------------------------------------------------------------ arguments of a rule

    def of(self, tensor: Tensor) -> Dims:
        """The shape of a tensor in letters; of a parameter or a constant, numbers."""
        known = self.dims.get(tensor.id)
        return known if known is not None else tuple(map(number, tensor.shape))

    def _sides(self, tensor: Tensor) -> tuple[int, ...]:
        """The shape as a rule takes it."""
        return tuple([self._int(m, side) for m, side in zip(tensor.shape, self.of(tensor), strict=True)])

    def _int(self, value: int, side: Poly) -> int:
        return SymbolicInt.of(value, side, self.context)

    def _arguments(self, op: Op) -> dict[str, Any]:
        """The arguments of an operator, sides in letters for its tensors, and for numbers that the forward computed."""
        near = self.of(op.inputs[0]) if op.inputs else ()
        others = self.other.args if self.other is not None else {}
        arguments = {k: self._argument(v, others.get(k), near) for k, v in op.args.items() if k != "out"}
        if self.other is None:
            for key in ("size", "shape"):
                if key in arguments and op.outputs and op.name in WRITTEN_OUT:
                    arguments[key] = self._grouped(near, arguments[key], op.outputs[0].shape)
        return arguments

    def _argument(self, value: Any, other: Any, near: Dims) -> Any:
        if isinstance(value, Tensor):
            return value._replace(shape=self._sides(value))
        if type(value) is tuple:
            if type(other) is tuple and len(other) != len(value):
                raise Unsupported("as many parts as the input has steps")
            others = other if type(other) is tuple else (None,) * len(value)
            return tuple([self._argument(one, two, near) for one, two in zip(value, others, strict=True)])
        if type(value) is int and type(other) is int and value != other:
            self.computed = True
            return self._int(value, self.integer(value, other, near))
        return value

    def _grouped(self, x: Dims, sizes: tuple[int, ...], shape: Shape) -> tuple[int, ...]:
        """The sides of a view without a probe: a side that groups those of the input in order is their product."""
        here = [side.value(self.values) for side in x]
        out: list[Poly] = []
        i = 0
        for one in shape if -1 not in sizes else ():
            j, whole = i, 1
            while j < len(x) and whole < one:
                whole *= here[j]
                j += 1
            if j == i and i < len(x) and here[i] == 1 == one:
                j += 1
            if whole != one:
                return sizes
            out.append(product(x[i:j]))
            i = j
        if not out or product(out) != product(x):
            return sizes
        return tuple(map(self._int, shape, out))

    def _by_probe(self, op: Op) -> list[Dims]:
        """The output shapes that two runs show, where the rule cannot tell."""
        assert self.other is not None
        near = self.of(op.inputs[0]) if op.inputs else ()
        made = []
        for one, two in zip(op.outputs, self.other.outputs, strict=False):
            if len(one.shape) != len(two.shape):
                raise Unsupported("makes another number of axes at another size")
            made.append(tuple([self.integer(a, b, near) for a, b in zip(one.shape, two.shape, strict=True)]))
        return made

    def _generic(self, op: Op) -> list[tuple[int, ...]]:
        """What keeps a shape, meets element by element, or makes a constant."""
        here = [t for t in op.inputs if any(d.constant is None for d in self.of(t))]
        if not here:
            if self.other is None:
                return [t.shape for t in op.outputs]
            pairs = zip(op.outputs, self._by_probe(op), strict=False)
            return [tuple(map(self._int, t.shape, dims)) for t, dims in pairs]
        outputs = []
        for tensor in op.outputs:
            meets = [self._sides(t) for t in op.inputs if _expands(t.shape, tensor.shape)]
            alike = [self._sides(t) for t in here if t.shape == tensor.shape]
            every = len(meets) == len(op.inputs)
            if alike and not (every and op.name in RULES):
                outputs.append(alike[0])
            elif every:
                outputs.append(functools.reduce(broadcast, meets))
            else:
                raise Unsupported("its output has no closed form here")
        return outputs

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

    def integer(self, one: int, two: int | None, near: Sequence[Poly]) -> Poly:
        """A number that was `one` in the run and `two` in the probe, in letters: a multiple of a side or of a product
        of sides, a part of one, or a side and a constant more."""
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
            ratio = round(a / one) if one else 0
            if ratio > 1 and (a // ratio, b // ratio) == (one, two):
                return side // ratio
        for side, a, b in known:
            if one - a == two - b:
                return side + (one - a)
        raise Unsupported(f"the forward computes {one} from the size ({two} at another)")


def _shape(dims: Iterable[Poly]) -> str:
    return "×".join(d.text if len(d.terms) < 2 else f"({d.text})" for d in dims)


def _expands(small: Shape, large: Shape) -> bool:
    padded = (1,) * (len(large) - len(small)) + small
    return len(padded) == len(large) and all(a in (1, b) for a, b in zip(padded, large, strict=True))
