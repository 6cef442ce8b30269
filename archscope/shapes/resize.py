"""A model at other sizes: the same run with other sides, and where it stops when it does not come through."""

import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

from archscope.analysis.observed import works
from archscope.analysis.receptive_field import sides_of
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Op, Trace
from archscope.sources.inputs import Text, of_shape
from archscope.sources.loading import inputs_of, loaded
from archscope.sources.spec import Spec, parse

SIDES = "dhw"  # letters of a layout that stand for the sides of a picture; without them, t of a sequence moves
WINDOWS = frozenset(f"aten.{kind}{n}d" for kind in ("conv", "max_pool", "avg_pool") for n in (1, 2, 3))


class ResizedRun(NamedTuple):
    """One run. trace: the record, up to the failure where there was one. error: None where the model came through."""

    trace: Trace
    error: ArchscopeError | None = None

    @property
    def examples(self) -> int | None:
        """The first side of what comes out, None where nothing does."""
        made = self.trace.layers[0].outputs if self.error is None else ()
        return made[0].shape[0] if made and made[0].shape else None


class ResizableModel:
    """A model and the sides of its inputs that can be set.

    layout: a letter an axis of the first input. letters: those of the sides that move, "hw". side: what they are by
    default (of several, the first). A model that there is no more than a record of has `model` None and cannot be run.
    """

    def __init__(
        self,
        model: Any,
        arguments: Sequence[Any],
        named: Mapping[str, Any] | None = None,
        layout: str = "",
        name: str | None = None,
        train: bool | None = False,
        bound: bool = False,
        running: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.model, self.arguments, self.named = model, list(arguments), dict(named or {})
        self.name, self.train, self.bound = name, train, bound
        self.running = running if running is not None else nullcontext()
        first = self._first()
        self.shape: tuple[int, ...] = tuple(first.shape) if first is not None else ()
        self.layout = (layout or layout_of(self.shape, str(first.dtype))) if first is not None else ""
        if model is not None and self.layout in ("nct", "nchw", "ncdhw"):  # as long as the run does not say otherwise
            self.letters, self.layout = "", self._laid_out()
        moves = [letter for letter in self.layout if letter in SIDES] or [x for x in self.layout if x == "t"]
        self.letters = "".join(moves)
        self.side = self.shape[self.layout.index(moves[0])] if moves else 0
        self.axes = tuple(self.layout.index(x) - len(self.layout) for x in moves)

    def _laid_out(self) -> str:
        """The layout of the first input: channels last where the model takes them there, steps where it has them."""
        with suppress(ArchscopeError):
            record = self.on(self.shape).trace
            sides = sides_of(record.inputs, record.ops, works(record))
            if sides is not None and len(sides) == len(self.shape) - 2:
                rest = [axis for axis in range(len(self.shape)) if axis not in sides]
                letters = dict(zip([*rest, *sides], "nc" + self.layout[2:], strict=True))
                return "".join(letters[axis] for axis in range(len(self.shape)))
        return self.layout

    def _first(self) -> Any:
        ahead: list[Any] = [*self.arguments, *self.named.values()]
        while ahead:
            value = ahead.pop(0)
            if hasattr(value, "new_empty"):
                return value
            if isinstance(value, list | tuple | dict):
                ahead[:0] = value.values() if isinstance(value, dict) else value
        return None

    @property
    def immovable(self) -> str:
        """That no side can be set, as a sentence."""
        takes = "×".join(map(str, self.shape)) if self.shape else "no tensor outside of an object"
        return f"{self.name} takes {takes}: no side of it can be set"

    def at(self, sides: Mapping[str, int] | int, batch: int | None = None) -> ResizedRun:
        """Run with these sides; one number sets all that move. Every input of the first one's shape follows it."""
        return self._run(*self.inputs(sides, batch))

    def inputs(self, sides: Mapping[str, int] | int, batch: int | None = None) -> tuple[list[Any], dict[str, Any]]:
        """The inputs of such a run, by position and by name."""
        each = dict.fromkeys(self.letters, sides) if isinstance(sides, int) else dict(sides)
        if batch is not None:
            each["n"] = batch
        shape = tuple(each.get(x, m) for x, m in zip(self.layout, self.shape, strict=True))
        return self._given(shape)

    def _given(self, shape: tuple[int, ...]) -> tuple[list[Any], dict[str, Any]]:
        arguments = [self._set(value, shape) for value in self.arguments]
        return arguments, {key: self._set(value, shape) for key, value in self.named.items()}

    def _run(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> ResizedRun:
        from archscope.tracing.tracer import trace  # late: this file is imported for saved records too

        try:
            with self.running:
                how = {"name": self.name, "train": self.train, "bound": self.bound, "values": "never"}
                return ResizedRun(trace(self.model, arguments, named, **how))
        except ArchscopeError as error:
            if error.failure is None:
                raise
            return ResizedRun(error.failure.trace, error)

    def in_batches_of(self, batch: int) -> "ResizableModel":
        """The same model with another batch by default."""
        arguments, named = self.inputs({}, batch)
        return ResizableModel(
            self.model, arguments, named, self.layout, self.name, self.train, self.bound, self.running
        )

    def on(self, shape: Sequence[int]) -> ResizedRun:
        """Run with a first input of this shape, whatever its axes mean."""
        return self._run(*self._given(tuple(shape)))

    def works(self, ran: ResizedRun) -> bool:
        """Whether a run came through with as many examples as went in: `x.view(-1, 320)` makes others of them."""
        if ran.error is not None or not self.by_example:
            return ran.error is None
        return ran.examples in (None, ran.trace.inputs[0].shape[0])

    @functools.cached_property
    def by_example(self) -> bool:
        """Whether the first side of the output is that of the input, as far as one can tell."""
        ran = self.at({})
        return self.layout.startswith("n") and ran.examples in (None, self.shape[0])

    def _set(self, value: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(value, list | tuple):
            changed = [self._set(one, shape) for one in value]
            return getattr(type(value), "_make", type(value))(changed)  # a named tuple is made of its fields
        if type(value) is dict:
            return {key: self._set(one, shape) for key, one in value.items()}
        if hasattr(value, "new_empty") and tuple(value.shape) == self.shape:
            return value if shape == self.shape else value.new_empty(shape, device="meta")
        return value

    def probes(self, side: int | None = None) -> Iterator[Trace]:
        """The model on other inputs, that nothing be the same by chance: other sides and another batch; then, for a
        forward that refuses what is not square, square ones; then each side alone, and the batch alone. side: in the
        place of its own."""
        sides = {x: side or self.shape[self.layout.index(x)] for x in self.letters}
        batch = another_batch(self.shape[self.layout.index("n")]) if "n" in self.layout else None
        apart = {x: side * factor for (x, side), factor in zip(sides.items(), (3, 2, 4), strict=False)}
        if "t" in apart:
            apart["t"] = 2 * sides["t"] + 1
        alone = [{**sides, x: apart[x]} for x in sides] if len(sides) > 1 else []
        for each in (apart, {x: 2 * side for x, side in sides.items()}, *alone, sides):
            ran = self.at(each, batch)
            if ran.trace.ops:
                yield ran.trace

    @contextmanager
    def changed(self, path: str, **attributes: Any) -> Iterator[None]:
        """The model with other attributes of one module, `padding=(2, 2)`, and as it was afterwards."""
        module = self.model.get_submodule(path)
        before = {key: getattr(module, key) for key in attributes}
        try:
            for key, value in attributes.items():
                setattr(module, key, value)
            yield
        finally:
            for key, value in before.items():
                setattr(module, key, value)

    @contextmanager
    def replaced(self, path: str, module: Any) -> Iterator[None]:
        """The model with another module at a path, and as it was afterwards."""
        above, _, name = path.rpartition(".")
        members = self.model.get_submodule(above)._modules
        before = members[name]
        members[name] = module.train(before.training)
        try:
            yield
        finally:
            members[name] = before

    @contextmanager
    def with_parameter(self, name: str, shape: Sequence[int]) -> Iterator[None]:
        """The model with a parameter of another shape, and as it was afterwards."""
        above, _, key = name.rpartition(".")
        members = self.model.get_submodule(above)._parameters
        before = members[key]
        members[key] = type(before)(before.new_empty(tuple(shape), device="meta"), requires_grad=False)
        try:
            yield
        finally:
            members[key] = before

    def permuted(self, path: str, axes: Sequence[int]) -> AbstractContextManager[None]:
        """The model with the axes of what a module gets in another order."""
        return self.before(path, lambda x: x.permute(*axes))

    def flattened(self, path: str) -> AbstractContextManager[None]:
        """The model with `flatten(1)` before what a module gets, and as it was afterwards."""
        return self.before(path, lambda x: x.flatten(1))

    @contextmanager
    def before(self, path: str, change: Callable[[Any], Any]) -> Iterator[None]:
        """The model with something done to what a module gets, and as it was afterwards."""
        module = self.model.get_submodule(path)
        handle = module.register_forward_pre_hook(lambda _, given: (change(given[0]), *given[1:]))
        try:
            yield
        finally:
            handle.remove()


def another_batch(batch: int) -> int:
    """A batch that is no such multiple of the first as the sides of a probe are of theirs."""
    return next(n for n in range(batch + 2, 4 * batch + 3) if n not in (2 * batch, 3 * batch))


@contextmanager
def moved_around(model: Any, path: str, there: Sequence[int]) -> Iterator[None]:
    """The model with the axes of what a module gets in another order, and of what it gives in the old one."""
    back = sorted(range(len(there)), key=lambda axis: there[axis])
    module = model.get_submodule(path)
    handles = [
        module.register_forward_pre_hook(lambda _, given: (given[0].permute(*there), *given[1:])),
        module.register_forward_hook(lambda _, given, output: output.permute(*back)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layout_of(shape: Sequence[int], dtype: str = "") -> str:
    """The layout of an input that nobody describes; three axes are taken for a sequence of channels."""
    told = of_shape(shape, dtype.removeprefix("torch.")).layout
    return "nct" if told == "n??" else told


def resized(spec: str | Spec, input: Text = None, batch: int | None = None, train: bool = False) -> ResizableModel:
    """The model of a spec, to be run at other sizes. Raises SpecError for a saved record: it cannot be run."""
    wanted = parse(spec) if isinstance(spec, str) else spec
    source = wanted.source
    if source.saved:
        source.record(wanted.name)  # what is wrong with the file is said first
        raise SpecError(f"{wanted.name} is the record of one run: there is no model in it to run at another size")
    model, arguments, named = loaded(wanted, input, batch)
    given = inputs_of(wanted, input, batch)
    layout = given[0].layout if given else ""
    return ResizableModel(
        model, arguments, named, layout, wanted.text, train, source.upper_bound, _again(source.running, wanted.name)
    )


class _again(AbstractContextManager[Any]):
    """A context that can be entered as often as a model is run."""

    def __init__(self, make: Any, name: str) -> None:
        self.make, self.name = make, name
        self.inside: list[Any] = []  # it is entered within itself, too

    def __enter__(self) -> Any:
        self.inside.append(self.make(self.name))
        return self.inside[-1].__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self.inside.pop().__exit__(*error)


def lost_in(trace: Trace, axes: Container[int] = range(-3, 0)) -> list[tuple[int, int, int]]:
    """(index of the operator, axis from the end, rows) of each window that does not reach the end of its input, as
    the shapes of the run show it; over these axes only."""
    return [(at, axis, rest) for at, op in enumerate(trace.ops) for axis, rest in lost_by(op, axes)]


def lost_by(op: Op, axes: Container[int] = range(-3, 0)) -> list[tuple[int, int]]:
    """(axis from the end, rows) of each side of one operator's input of which a window does not reach the end."""
    return [(axis, rest) for axis, rest in _uncovered(op) if rest and axis in axes] if op.name in WINDOWS else []


def windows_of(op: Op) -> Iterator[tuple[int, int, int, int, bool]]:
    """(axis from the end, span, stride, padding, ceil_mode) of each side that a convolution or a pool moves over."""
    name = op.name.removesuffix("_with_indices")
    args = op.args
    if name not in WINDOWS or args.get("padding") == "same":
        return
    n = int(name[-2])
    conv = "weight" in args
    k = args["weight"].shape[-n:] if conv else each_side(args["kernel_size"], n)
    s = each_side(args.get("stride") or (1 if conv else k), n)
    p = (0,) * n if args.get("padding") == "valid" else each_side(args.get("padding", 0), n)
    d = each_side(args.get("dilation", 1), n)
    for i in range(n):
        yield i - n, d[i] * (k[i] - 1) + 1, s[i], p[i], bool(args.get("ceil_mode", False))


def _uncovered(op: Op) -> Iterator[tuple[int, int]]:
    for axis, span, stride, pad, _ in windows_of(op):
        m, o = op.inputs[0].shape[axis], op.outputs[0].shape[axis]
        yield axis, max(0, m + pad - ((o - 1) * stride + span))


def each_side(value: Any, n: int) -> tuple[int, ...]:
    """One number for n sides, or n numbers."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values
