"""The JSON form of a record, checked before anything is made of it: its types by a schema, then what holds it together.

msgspec checks the types, and says where one is wrong: `$.layers[3][6]`.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from math import prod
from typing import Annotated, Any, Literal

from archscope.core import limits

SCHEMA = 2  # of the JSON form; a reader refuses a newer one. 1: a forward; 2: a whole step of training
HOLDERS = (dict, list)  # of other values
ROLES = ("parameter", "gradient", "optimizer state", "saved", "temporary", "input", "buffer")  # of a storage


def body_of(text: str | bytes) -> Any:
    """The body of a record. Raises ValueError, saying where, for what is no record of this version or is damaged."""
    import msgspec

    try:
        head: Any = msgspec.json.decode(text, type=msgspec.defstruct("Head", [("archscope_trace", int)]))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError("not an archscope trace") from error
    version = head.archscope_trace
    if not 1 <= version <= SCHEMA:
        raise ValueError(f"the trace has version {version}; this archscope reads up to {SCHEMA}")
    try:
        body = _decoder().decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        what, _, place = str(error).partition(" - at ")
        raise ValueError(f"it is damaged: {what[:1].lower()}{what[1:]}{f' at {place}' if place else ''}") from error
    for wrong in _wrong(body):
        raise ValueError(f"it is damaged: {wrong}")
    return body


_DECODER: list[Any] = []


def _decoder() -> Any:
    """Made once, when it is needed: to import msgspec takes as long as `archscope list`."""
    if not _DECODER:
        import msgspec

        number = Annotated[int, msgspec.Meta(ge=0, le=limits.NUMBER)]
        side = Annotated[int, msgspec.Meta(ge=0, le=limits.SIDE)]
        ids = tuple[int, ...]
        named = list[tuple[str, int, bool]]
        values = dict[str, Any]
        fields: list[Any] = [
            ("archscope_trace", int),
            ("model", str),
            ("train", bool),
            ("versions", dict[str, str]),
            ("modules", dict[str, str]),
            ("inputs", ids),
            ("params", named),
            ("buffers", named),
            ("layers", list[tuple[str, number, str, number, values, ids, ids, number, number]]),
            ("ops", list[tuple[str, ids, ids, values]]),
            ("tensors", dict[int, tuple[Annotated[tuple[side, ...], msgspec.Meta(max_length=limits.AXES)], str]]),
            ("notes", tuple[str, ...], ()),
            ("composites", list[tuple[str, values, number, number]], []),
            ("spelled", dict[int, str] | None, None),
            ("cache", named, []),
            ("phases", list[tuple[str, number, number]], []),
            ("storages", list[tuple[number, number, int, number | None, Literal[ROLES], bool, ids]], []),
            ("owners", dict[int, number], {}),
            ("step", values, {}),
        ]
        _DECODER.append(msgspec.json.Decoder(msgspec.defstruct("Record", fields, kw_only=True)))
    return _DECODER[0]


# ------------------------------------------------------------------------------------------- what holds it together


def _wrong(body: Any) -> Iterator[str]:
    """What no run can have given."""
    for i, (shape, _) in body.tensors.items():
        if prod(shape) > limits.ELEMENTS:
            yield f"tensor {i} has more than {limits.ELEMENTS:,} elements"
    yield from _unknown_tensors(body)
    count = len(body.ops)
    forward = body.phases[0][2] if body.phases else count
    if not body.layers or body.layers[0][0] or body.layers[0][7:] != (0, forward):
        yield "its first layer is not the whole model"
    around: list[Any] = []
    for i, layer in enumerate(body.layers):
        depth, start, stop = layer[3], *layer[7:]
        del around[depth:]
        if len(around) != depth or not start <= stop or (around and not _inside(around[-1], start, stop)):
            yield f"layer {i} is not inside the one before it"
        around.append((start, stop))
    for what, parts in (("composite", body.composites), ("phase", body.phases)):
        for i, (*_, start, stop) in enumerate(parts):
            if not start <= stop <= count:
                yield f"{what} {i} ends after the run"
    for i, storage in enumerate(body.storages):
        number, _, born, died = storage[:4]
        if number != i or not -1 <= born < max(count, 1) or (died is not None and not born <= died <= count):
            yield f"storage {i} is not one of the run"
    if any(not 0 <= i < count or layer >= len(body.layers) for i, layer in body.owners.items()):
        yield "an operator belongs to a layer that is not there"
    if any(not 0 <= i < count for i in body.spelled or ()):
        yield "an operator is spelled that is not there"
    for values in chain((y[4] for y in body.layers), (o[3] for o in body.ops), (c[1] for c in body.composites)):
        yield from _wrong_value(values)
    yield from _wrong_value(body.step)
    if body.phases:
        yield from _wrong_step(body)


def _wrong_step(body: Any) -> Iterator[str]:
    """The conditions of a step of training."""
    import msgspec

    fields: list[Any] = [(key, str) for key in ("optimizer", "implementation", "loss", "precision", "attention")]
    fields += [("checkpoint", list[str]), ("accumulate", Annotated[int, msgspec.Meta(ge=1)]), ("first", bool)]
    try:
        msgspec.convert(body.step, msgspec.defstruct("Step", fields))
    except msgspec.ValidationError as error:
        yield f"its step: {str(error)[:1].lower()}{str(error)[1:]}"


def _inside(around: tuple[int, int], start: int, stop: int) -> bool:
    return around[0] <= start and stop <= around[1]


def _unknown_tensors(body: Any) -> Iterator[str]:
    groups: Iterable[Iterable[int]] = chain(
        [body.inputs],
        ([tensor for _, tensor, _ in named] for named in (body.params, body.buffers, body.cache)),
        chain.from_iterable((y[5], y[6]) for y in body.layers),
        chain.from_iterable((o[1], o[2]) for o in body.ops),
        (storage[6] for storage in body.storages),
    )
    for group in groups:
        for i in group:
            if i not in body.tensors:
                yield f"there is no tensor {i}"
    places = chain((y[4] for y in body.layers), (o[3] for o in body.ops), (c[1] for c in body.composites), [body.step])
    for values in places:
        for i in _tensors_in(values):
            if type(i) is not int or i not in body.tensors:
                yield f"there is no tensor {i!r:.40}"


def _tensors_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            yield value["tensor"]
        else:
            for one in value.values():
                if type(one) in HOLDERS:
                    yield from _tensors_in(one)
    elif isinstance(value, list):
        for one in value:
            if type(one) in HOLDERS:
                yield from _tensors_in(one)


def _wrong_value(value: Any, level: int = 0) -> Iterator[str]:
    """Arguments and configurations: plain values of a size that a model can have."""
    if level > limits.DEPTH:
        yield "values are nested too deeply"
    elif isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] not in ("inf", "-inf", "nan"):
            yield "a number that is not finite has another name"
        for one in value.values():
            if type(one) in HOLDERS or type(one) is int:
                yield from _wrong_value(one, level + 1)
    elif isinstance(value, list):
        for one in value:
            if type(one) in HOLDERS or type(one) is int:
                yield from _wrong_value(one, level + 1)
    elif isinstance(value, int) and abs(value) > limits.NUMBER:
        if value not in (-(1 << 63), (1 << 63) - 1):  # "to the end" of a slice, and its counterpart
            yield "a number is larger than any that a model has"
