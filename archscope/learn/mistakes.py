"""The rules that are missed when shapes and parameters are worked out by hand: what each mistake would give.

A mistake is a closed form told something else than the layer is: no padding, no bias, one group. Each takes the kind,
the configuration and the input shapes of a layer, and gives the wrong answer that it leads to, or None where it cannot
be made. `RULES` are those with a name that a student knows; `SLIPS` explain a number that no rule explains.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Shape
from archscope.layers import LAYERS, Derived, derive, window

Config = Mapping[str, Any]
Mistake = Callable[[str, Config, tuple[Shape, ...]], Any]

OUTPUT, PARAMS = "output", "parameters"
RULES: dict[str, dict[str, Mistake]] = {OUTPUT: {}, PARAMS: {}}
SLIPS: dict[str, dict[str, Mistake]] = {OUTPUT: {}, PARAMS: {}}


def mistake(name: str, *cells: str, slip: bool = False) -> Callable[[Mistake], Mistake]:
    """Enter a mistake under the name of what was missed. Raises ValueError on a duplicate."""

    def enter(function: Mistake) -> Mistake:
        for cell in cells:
            if name in RULES[cell] or name in SLIPS[cell]:
                raise ValueError(f"two mistakes are called {name!r}")
            (SLIPS if slip else RULES)[cell][name] = function
        return function

    return enter


def missed(cell: str, answer: Any, kind: str, config: Config, shapes: tuple[Shape, ...], same: Any) -> list[str]:
    """The mistakes that lead to an answer: single rules, else a slip, else two rules at once; empty where none does.

    same: (answer, number) -> whether they are the same, a shape with or without its batch.
    """
    for known in (RULES[cell], SLIPS[cell]):
        if found := [name for name, make in known.items() if same(answer, _made(make, kind, config, shapes))]:
            return found
    changes = [(name, change) for name, (change, cells) in CHANGES.items() if cell in cells]
    for (one, first), (other, second) in combinations(changes, 2):
        both = _changed(kind, _changed_config(kind, config, first), shapes, second)
        if both is not None and same(answer, _read(cell, both)):
            return [f"{one} and {other}"]
    return []


def _made(make: Mistake, kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    try:
        return make(kind, config, shapes)
    except (ShapeError, LookupError, TypeError, ValueError, ArithmeticError):
        return None


def _read(cell: str, derived: Derived) -> Any:
    return derived.shapes[0] if cell == OUTPUT else int(derived.params)


# ------------------------------------------------------------------------------------- a rule left out of the formula

# what was missed: the configuration in which it is not there, and the cells in which that shows
CHANGES: dict[str, tuple[Config, tuple[str, ...]]] = {
    "padding forgotten": ({"padding": 0}, (OUTPUT,)),
    "stride forgotten": ({"stride": 1}, (OUTPUT,)),
    "dilation ignored": ({"dilation": 1}, (OUTPUT,)),
    "output padding forgotten": ({"output_padding": 0}, (OUTPUT,)),
    "bias forgotten": ({"bias": False}, (PARAMS,)),
    "a bias counted that the layer does not have": ({"bias": True}, (PARAMS,)),
    "groups ignored": ({"groups": 1}, (PARAMS,)),
    "only one layer of several counted": ({"num_layers": 1}, (PARAMS,)),
    "only one direction counted": ({"bidirectional": False}, (OUTPUT, PARAMS)),
    "γ and β counted that the layer does not have": ({"affine": True}, (PARAMS,)),
}


def _changed_config(kind: str, config: Config, change: Config) -> Config | None:
    """A configuration with a change, None where it is so already."""
    key, value = next(iter(change.items()))
    if key not in config and not (key == "stride" and "kernel_size" in config):
        return None
    now = config.get(key)
    if now == value or (isinstance(now, tuple) and now and set(now) == {value}):
        return None
    if key == "padding" and kind.endswith(("Pad1d", "Pad2d", "Pad3d")):
        return None
    return {**config, key: value}


def _changed(kind: str, config: Config | None, shapes: tuple[Shape, ...], change: Config) -> Derived | None:
    wanted = None if config is None else _changed_config(kind, config, change)
    try:
        return None if wanted is None else derive(kind, wanted, shapes)
    except (ShapeError, LookupError, TypeError, ValueError, ArithmeticError):
        return None


def _enter_changes() -> None:
    for name, (change, cells) in CHANGES.items():
        for cell in cells:

            def make(
                kind: str, config: Config, shapes: tuple[Shape, ...], change: Any = change, cell: Any = cell
            ) -> Any:
                derived = _changed(kind, config, shapes, change)
                return None if derived is None else _read(cell, derived)

            mistake(name, cell)(make)


_enter_changes()


# ------------------------------------------------------------------------------------------------------------- shapes


def _windows(kind: str, config: Config, shape: Shape) -> tuple[Shape, list[tuple[int, int, int, int, int]]]:
    """What stands before the sides, and (m, k, s, pad, d) of each side. Raises LookupError for what is no window."""
    if not kind.startswith(("Conv", "MaxPool", "AvgPool")) or kind.startswith("ConvT"):
        raise LookupError(kind)
    n = int(kind[-2])

    def each(value: Any) -> tuple[int, ...]:
        return (value,) * n if isinstance(value, int) else tuple(value)

    k = each(config["kernel_size"])
    s = each(config.get("stride") or k)
    pad = config.get("padding", 0)
    if isinstance(pad, str):
        raise LookupError(pad)
    sides = zip(shape[-n:], k, s, each(pad), each(config.get("dilation", 1)), strict=True)
    return (*shape[: -n - 1], config.get("out_channels", shape[-n - 1])), list(sides)


@mistake("floor against ceiling", OUTPUT)
def rounded_otherwise(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    """Up where PyTorch rounds down, or down where `ceil_mode` rounds up."""
    lead, sides = _windows(kind, config, shapes[0])
    up = not config.get("ceil_mode", False)
    out = tuple(window(m, k, s, pad, d, up).value for m, k, s, pad, d in sides)
    exact = tuple(-(-(m + 2 * pad - d * (k - 1) - 1) // s) + 1 for m, k, s, pad, d in sides)
    right = tuple(window(m, k, s, pad, d, not up).value for m, k, s, pad, d in sides)
    wrong = exact if up else out
    return (*lead, *wrong) if wrong != right else None


@mistake("padding counted on one end only", OUTPUT)
def padded_once(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    lead, sides = _windows(kind, config, shapes[0])
    if not any(pad for *_, pad, _ in sides):
        return None
    return (*lead, *(window(m - pad, k, s, pad, d).value for m, k, s, pad, d in sides))


@mistake("the + 1 at the end forgotten", OUTPUT)
def without_one(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape:
    lead, sides = _windows(kind, config, shapes[0])
    ceil = bool(config.get("ceil_mode", False))
    return (*lead, *(window(m, k, s, pad, d, ceil).value - 1 for m, k, s, pad, d in sides))


@mistake("the channels of the input kept: a kernel gives one each", OUTPUT)
def channels_kept(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    if "out_channels" not in config:
        return None
    lead, sides = _windows(kind, config, shapes[0])
    right = tuple(window(m, k, s, pad, d).value for m, k, s, pad, d in sides)
    return (*lead[:-1], shapes[0][-len(sides) - 1], *right)


@mistake("only the sides multiplied, without the channels", OUTPUT)
def flattened_sides(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    return (shapes[0][0], prod(shapes[0][2:])) if kind == "Flatten" and len(shapes[0]) > 2 else None


@mistake("only the channels kept: a flatten multiplies them with the sides", OUTPUT)
def flattened_channels(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    return (shapes[0][0], shapes[0][1]) if kind == "Flatten" and len(shapes[0]) > 2 else None


@mistake("the channels of one branch: those of all are added up", OUTPUT)
def one_branch(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    return set(shapes) if kind == "cat" else None


@mistake("worked out as an ordinary convolution: a transposed one grows", OUTPUT)
def not_transposed(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    if not kind.startswith("ConvTranspose"):
        return None
    derived = derive(kind.replace("Transpose", ""), config, shapes)
    return derived.shapes[0] if derived else None


def _right(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape:
    derived = derive(kind, config, shapes)
    if derived is None:
        raise LookupError(kind)
    return derived.shapes[0]


@mistake("the channels written last: they stand before the sides", OUTPUT, slip=True)
def channels_last(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    shape = _right(kind, config, shapes)
    return {(shape[0], *shape[2:], shape[1]), (*shape[2:], shape[1])} if len(shape) > 2 else None


@mistake("height and width exchanged", OUTPUT, slip=True)
def exchanged(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    shape = _right(kind, config, shapes)
    return (*shape[:-2], shape[-1], shape[-2]) if len(shape) > 3 and shape[-1] != shape[-2] else None


@mistake("the channels left out", OUTPUT, slip=True)
def without_channels(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    shape = _right(kind, config, shapes)
    return shape[2:] if len(shape) > 2 else None


@mistake("the elements counted: a shape is its sides", OUTPUT, slip=True)
def elements(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    shape = _right(kind, config, shapes)
    return (prod(shape),) if len(shape) > 2 else None


@mistake("off by one", OUTPUT, slip=True)
def off_by_one(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    """One more or less in the sides, or in the last axis."""
    shape = _right(kind, config, shapes)
    n = max(len(shape) - 2, 1)
    moved = [(0, -1, 1)] * n
    near: set[Shape] = {()}
    for side, by in zip(shape[-n:], moved, strict=True):
        near = {(*start, side + step) for start in near for step in by}
    return {(*shape[:-n], *sides) for sides in near} - {shape}


@mistake("the shape of the input: this layer changes it", OUTPUT, slip=True)
def unchanged(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Shape | None:
    return shapes[0] if shapes[0] != _right(kind, config, shapes) else None


# --------------------------------------------------------------------------------------------------------- parameters


def _forms(kind: str, config: Config, shapes: tuple[Shape, ...]) -> tuple[Derived, int, int]:
    """The closed form, its weights and its biases."""
    derived = derive(kind, config, shapes)
    if derived is None:
        raise LookupError(kind)
    without = derive(kind, {**config, "bias": False}, shapes) if "bias" in config else derived
    assert without is not None
    return derived, int(without.params), int(derived.params) - int(without.params)


def _conv(kind: str, config: Config) -> tuple[int, int, int, int]:
    """Kernel places, channels a kernel sees, kernels, and the bias. Raises LookupError for what is no convolution."""
    if not kind.startswith("Conv"):
        raise LookupError(kind)
    kernel = config["kernel_size"]
    places = prod(kernel) if isinstance(kernel, tuple) else kernel ** int(kind[-2])
    return places, config["in_channels"] // config["groups"], config["out_channels"], bool(config["bias"])


@mistake("one bias for the layer: every output channel or feature has its own", PARAMS)
def one_bias(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    _, weights, biases = _forms(kind, config, shapes)
    return weights + 1 if biases > 1 else None


@mistake("a bias for every input channel or feature: it is one for every output", PARAMS)
def bias_of_inputs(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    _, weights, biases = _forms(kind, config, shapes)
    given = config.get("in_channels", config.get("in_features"))
    return weights + given if biases and given != biases else None


@mistake("the kernel counted on one side only: it has height and width", PARAMS)
def one_side(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    places, depth, kernels, bias = _conv(kind, config)
    kernel = config["kernel_size"]
    side = kernel[0] if isinstance(kernel, tuple) else kernel
    return {side * depth * kernels, side * depth * kernels + kernels * bias} if side != places else None


@mistake("the input channels forgotten: a kernel has weights for each", PARAMS)
def without_depth(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    places, depth, kernels, bias = _conv(kind, config)
    return {places * kernels, places * kernels + kernels * bias} if depth != 1 else None


@mistake("one kernel counted: there is one for every output channel", PARAMS)
def one_kernel(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    places, depth, kernels, _ = _conv(kind, config)
    return {places * depth, places * depth + 1} if kernels != 1 else None


@mistake("the input flattened to its channels: every place has its weights", PARAMS)
def one_place(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    """The features of an fc taken for the channels of the map behind it: known by a whole square in between."""
    if kind != "Linear":
        return None
    n_in, n_out, bias = config["in_features"], config["out_features"], bool(config["bias"])
    return {n_in // side**2 * n_out + n_out * bias for side in range(2, 33) if n_in % side**2 == 0}


@mistake("the buffers counted: running mean and variance are not learned", PARAMS)
def with_buffers(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    derived, *_ = _forms(kind, config, shapes)
    kept, own = int(derived.buffers), int(derived.params)
    return {own + kept, own + kept - 1, kept, kept - 1} - {own} if kept else None


@mistake("γ or β forgotten: it learns both", PARAMS)
def one_of_two(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    derived, *_ = _forms(kind, config, shapes)
    return (
        int(derived.params) // 2 if kind.endswith(("Norm", "Norm1d", "Norm2d", "Norm3d")) and derived.params else None
    )


@mistake("one bias a gate: PyTorch keeps two", PARAMS)
def half_biases(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    _, weights, biases = _forms(kind, config, shapes)
    return weights + biases // 2 if LAYERS[kind].gates and biases else None


@mistake("the gates forgotten: each has its own weights", PARAMS)
def one_gate(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    gates = len(LAYERS[kind].gates)
    derived, weights, biases = _forms(kind, config, shapes)
    return {int(derived.params) // gates, weights // gates, (weights + biases // 2) // gates} if gates > 1 else None


@mistake("multiply–accumulates counted: a weight is counted once, however often it is used", PARAMS)
def work_for_weights(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    derived, *_ = _forms(kind, config, shapes)
    return int(derived.macs) if int(derived.macs) != int(derived.params) else None


@mistake("neurons counted: those are the outputs", PARAMS)
def neurons_for_weights(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    derived, *_ = _forms(kind, config, shapes)
    return {prod(derived.shapes[0])} - {int(derived.params)}


@mistake("this layer learns nothing", PARAMS, slip=True)
def learns_nothing(kind: str, config: Config, shapes: tuple[Shape, ...]) -> Any:
    derived, *_ = _forms(kind, config, shapes)
    return Anything() if not int(derived.params) else None


@mistake("this layer has weights", PARAMS, slip=True)
def nothing_learned(kind: str, config: Config, shapes: tuple[Shape, ...]) -> int | None:
    derived, *_ = _forms(kind, config, shapes)
    return 0 if int(derived.params) else None


@mistake("off by one", PARAMS, slip=True)
def one_more(kind: str, config: Config, shapes: tuple[Shape, ...]) -> set[int]:
    derived, *_ = _forms(kind, config, shapes)
    return {int(derived.params) - 1, int(derived.params) + 1}


class Anything:
    """What every answer is the same as."""
