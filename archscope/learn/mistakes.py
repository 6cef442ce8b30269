"""Common mistakes in working out shapes and parameters by hand, each with the wrong answers that it leads to.

A mistake takes the layer and gives a set of wrong answers, empty where it cannot be made. Many are the closed form of
another configuration: no padding, no bias, one group. Slips are looked at only where no rule explains an answer.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, product
from math import prod
from typing import Any, NamedTuple

from archscope.core.errors import ShapeError
from archscope.core.record import Shape
from archscope.core.registry import Registry
from archscope.layers import LAYERS, Derived, derive, window
from archscope.layers.formula import each

OUTPUT, PARAMS = "output", "parameters"
NOT_DERIVED = (ShapeError, LookupError, TypeError, ValueError, ArithmeticError)  # the form refuses the configuration
ANY = object()  # stands for every answer


class LayerCase(NamedTuple):
    """The layer that an answer is for."""

    kind: str
    config: Mapping[str, Any]
    shapes: tuple[Shape, ...]

    def derived(self, **changed: Any) -> Derived:
        """Its closed form, in another configuration where one is given. Raises LookupError where there is none."""
        found = derive(self.kind, {**self.config, **changed}, self.shapes)
        if found is None:
            raise LookupError(self.kind)
        return found

    @property
    def output(self) -> Shape:
        return self.derived().shapes[0]

    @property
    def params(self) -> int:
        return int(self.derived().params)

    @property
    def weights(self) -> int:
        """Its parameters without the biases."""
        return int(self.derived(bias=False).params) if "bias" in self.config else self.params

    @property
    def biases(self) -> int:
        return self.params - self.weights

    @property
    def gates(self) -> int:
        return len(LAYERS[self.kind].gates)

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """One side and all places of a kernel, the channels it reads, the kernels. LookupError without kernels."""
        k, kernels = each(self.config["kernel_size"], LAYERS[self.kind].sides), self.config["out_channels"]
        return k[0], prod(k), self.config["in_channels"] // self.config["groups"], kernels

    def slid(self, side: Callable[..., int], channels: int | None = None) -> Shape:
        """The output with another rule for its sides: (m, k, s, pad, d) -> side. LookupError where no window slides."""
        n, shape, config = LAYERS[self.kind].sides, self.shapes[0], self.config
        k, pad = each(config["kernel_size"], n), config.get("padding", 0)
        if LAYERS[self.kind].window != "sliding" or isinstance(pad, str):
            raise LookupError(self.kind)
        s, d = each(config.get("stride") or k, n), each(config.get("dilation", 1), n)
        sides = (side(*one) for one in zip(shape[-n:], k, s, each(pad, n), d, strict=True))
        return (*shape[: -n - 1], channels or config.get("out_channels", shape[-n - 1]), *sides)

    def side(self, m: int, k: int, s: int, pad: int, d: int) -> int:
        """The right side of its output."""
        return window(m, k, s, pad, d, bool(self.config.get("ceil_mode", False))).value

    def changed(self, key: str, value: Any) -> "LayerCase | None":
        """With another value of an argument, None where it has no such argument or the value is the same."""
        now = self.config.get(key)
        present = key in self.config or (key == "stride" and "kernel_size" in self.config)
        same = now == value or (isinstance(now, tuple) and now and set(now) == {value})
        if not present or same or (key == "padding" and not LAYERS[self.kind].window):
            return None
        return self._replace(config={**self.config, key: value})


Mistake = Callable[[LayerCase], Iterable[Any]]

# an argument overlooked: the value it is mistaken for, and the cells in which that shows
CHANGES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "padding forgotten": ("padding", 0, (OUTPUT,)),
    "stride forgotten": ("stride", 1, (OUTPUT,)),
    "dilation ignored": ("dilation", 1, (OUTPUT,)),
    "output padding forgotten": ("output_padding", 0, (OUTPUT,)),
    "bias forgotten": ("bias", False, (PARAMS,)),
    "a bias counted that the layer does not have": ("bias", True, (PARAMS,)),
    "groups ignored": ("groups", 1, (PARAMS,)),
    "only one layer of several counted": ("num_layers", 1, (PARAMS,)),
    "only one direction counted": ("bidirectional", False, (OUTPUT, PARAMS)),
    "γ and β counted that the layer does not have": ("affine", True, (PARAMS,)),
}
RULES: dict[str, Registry[Mistake]] = {OUTPUT: Registry("mistake"), PARAMS: Registry("mistake")}
SLIPS: dict[str, Registry[Mistake]] = {OUTPUT: Registry("mistake"), PARAMS: Registry("mistake")}


def missed(cell: str, case: LayerCase, same: Callable[[Any], bool]) -> list[str]:
    """The mistakes that lead to an answer: single rules, else slips, else two changes at once; empty where none does.

    same: whether a number or shape is the answer.
    """
    for known in (RULES[cell], SLIPS[cell]):
        if found := [name for name, make in known.items() if _leads_to(make, case, same)]:
            return found
    for (one, first), (other, second) in combinations(CHANGES.items(), 2):
        both = case.changed(*first[:2]) if cell in first[2] and cell in second[2] else None
        if both is not None and _leads_to(_with(second[0], second[1], cell), both, same):
            return [f"{one} and {other}"]
    return []


def _leads_to(make: Mistake, case: LayerCase, same: Callable[[Any], bool]) -> bool:
    try:
        return any(one is ANY or same(one) for one in make(case))
    except NOT_DERIVED:
        return False


def _with(key: str, value: Any, cell: str) -> Mistake:
    def make(case: LayerCase) -> set[Any]:
        other = case.changed(key, value)
        return set() if other is None else {other.output if cell == OUTPUT else other.params}

    return make


def _register(registry: Registry[Mistake], mistakes: Mapping[str, Mistake]) -> None:
    for name, make in mistakes.items():
        registry.add(name, make)


for _name, (_key, _value, _cells) in CHANGES.items():
    for _cell in _cells:
        RULES[_cell].add(_name, _with(_key, _value, _cell))


# ------------------------------------------------------------------------------------------------------------- shapes


def _floor(m: int, k: int, s: int, pad: int, d: int) -> int:
    return window(m, k, s, pad, d).value


def _ceil(m: int, k: int, s: int, pad: int, d: int) -> int:
    return -(-(m + 2 * pad - d * (k - 1) - 1) // s) + 1


def _padded_once(m: int, k: int, s: int, pad: int, d: int) -> int:
    return window(m - pad, k, s, pad, d).value


def _near(shape: Shape) -> set[Shape]:
    """One more or less in the sides, or in the last axis."""
    n = max(len(shape) - 2, 1)
    return {(*shape[:-n], *near) for near in product(*((m - 1, m, m + 1) for m in shape[-n:]))} - {shape}


def _flattened(case: LayerCase) -> bool:
    return case.kind == "Flatten" and len(case.shapes[0]) > 2


_register(
    RULES[OUTPUT],
    {
        "floor against ceiling": lambda c: {c.slid(_floor if c.config.get("ceil_mode") else _ceil)} - {c.output},
        "padding counted on one end only": lambda c: {c.slid(_padded_once)} if c.changed("padding", 0) else (),
        "the + 1 at the end forgotten": lambda c: {c.slid(lambda *one: c.side(*one) - 1)},
        "the channels of the input kept: a kernel gives one each": lambda c: {c.slid(_floor, c.config["in_channels"])},
        "only the sides multiplied, without the channels": lambda c: (
            {(c.shapes[0][0], prod(c.shapes[0][2:]))} if _flattened(c) else ()
        ),
        "only the channels kept: a flatten multiplies them with the sides": lambda c: (
            {c.shapes[0][:2]} if _flattened(c) else ()
        ),
        "the channels of one branch: those of all are added up": lambda c: c.shapes if c.kind == "cat" else (),
        "worked out as an ordinary convolution: a transposed one grows": lambda c: (
            {c._replace(kind=c.kind.replace("Transpose", "")).output} if "Transpose" in c.kind else ()
        ),
    },
)
_register(
    SLIPS[OUTPUT],
    {
        "the channels written last: they stand before the sides": lambda c: (
            {(c.output[0], *c.output[2:], c.output[1]), (*c.output[2:], c.output[1])} if len(c.output) > 2 else ()
        ),
        "height and width exchanged": lambda c: (
            {(*c.output[:-2], *c.output[:-3:-1])} - {c.output} if len(c.output) > 3 else ()
        ),
        "the channels left out": lambda c: {c.output[2:]} - {()},
        "the elements counted: a shape is its sides": lambda c: {(prod(c.output),)} if len(c.output) > 2 else (),
        "off by one": lambda c: _near(c.output),
        "the shape of the input: this layer changes it": lambda c: {c.shapes[0]} - {c.output},
    },
)


# --------------------------------------------------------------------------------------------------------- parameters


def _bias_of_inputs(case: LayerCase) -> set[int]:
    given = case.config.get("in_channels", case.config.get("in_features"))
    return {case.weights + given} if case.biases and given != case.biases else set()


def _kernel_without(case: LayerCase, part: str) -> set[int]:
    """The parameters of a convolution, with and without biases, where a part of its kernels is forgotten."""
    side, places, depth, kernels = case.kernel
    of = {"sides": side * depth, "depth": places}[part]
    biases = kernels if case.biases else 0
    return {of * kernels, of * kernels + biases} if of != places * depth else set()


def _one_kernel(case: LayerCase) -> set[int]:
    _, places, depth, kernels = case.kernel
    return {places * depth, places * depth + 1} if kernels != 1 else set()


def _one_place(case: LayerCase) -> set[int]:
    """The features of an fc taken for the channels of the map before it: they are fewer by the square of a side."""
    n_in, n_out = case.config["in_features"], case.config["out_features"]
    return {n_in // side**2 * n_out + case.biases for side in range(2, 33) if n_in % side**2 == 0}


def _buffers_counted(case: LayerCase) -> set[int]:
    kept, own = int(case.derived().buffers), case.params
    return {own + kept, own + kept - 1, kept, kept - 1} - {own} if kept else set()


_register(
    RULES[PARAMS],
    {
        "one bias for the layer: every output channel or feature has its own": lambda c: (
            {c.weights + 1} if c.biases > 1 else ()
        ),
        "a bias for every input channel or feature: it is one for every output": _bias_of_inputs,
        "the kernel counted on one side only: it has height and width": lambda c: _kernel_without(c, "sides"),
        "the input channels forgotten: a kernel has weights for each": lambda c: _kernel_without(c, "depth"),
        "one kernel counted: there is one for every output channel": _one_kernel,
        "the input flattened to its channels: every place has its weights": _one_place,
        "the buffers counted: running mean and variance are not learned": _buffers_counted,
        "γ or β forgotten: it learns both": lambda c: (
            {c.params // 2} - {0} if LAYERS[c.kind].family == "normalization" else ()
        ),
        "one bias a gate: PyTorch keeps two": lambda c: {c.weights + c.biases // 2} if c.gates and c.biases else (),
        "the gates forgotten: each has its own weights": lambda c: (
            {of // c.gates for of in (c.params, c.weights, c.weights + c.biases // 2)} if c.gates > 1 else ()
        ),
        "multiply–accumulates counted: a weight is counted once, however often it is used": lambda c: (
            {int(c.derived().macs)} - {c.params}
        ),
        "neurons counted: those are the outputs": lambda c: {prod(c.output)} - {c.params},
    },
)
_register(
    SLIPS[PARAMS],
    {
        "this layer learns nothing": lambda c: () if c.params else {ANY},
        "this layer has weights": lambda c: {0} if c.params else (),
        "off by one": lambda c: {c.params - 1, c.params + 1},
    },
)
