"""A file of weights against the model that it is for: names, shapes, types. Neither holds a value.

The model is built without weights from its own code; the file was written elsewhere. So the file is a second derivation
of every parameter.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from archscope.core.errors import SpecError
from archscope.core.table import Column, Table
from archscope.core.weights import BESIDE, StoredTensor, Weights
from archscope.sources.loading import built
from archscope.sources.spec import Spec

COLUMNS = (
    Column("model", "Model"),
    Column("file", "File"),
    Column("tensors", "Tensors", "count", means="Tensors: those of the file that the model has too."),
    Column("params", "Parameters", "count", priority=1),
    Column("stated", "Excused", "count", priority=2, means="Excused: differences with a stated reason."),
    Column("disagreements", "Disagreements", "count"),
    Column("verified", "Verified", "flag"),
)
HIDDEN = (Column("wrong", "Sentences"), Column("reasons", "Stated reasons"))
PACKED_ENDS = {"qweight": "weight", "weight_packed": "weight"}


class Difference(NamedTuple):
    """One difference. tensor: its name in the model, or in the file where the model has none."""

    tensor: str
    text: str


class ExpectedTensor(NamedTuple):
    """One name of a model's state. same: the first name of the same tensor. stored: whether checkpoints have it."""

    shape: tuple[int, ...]
    dtype: str
    numel: int
    parameter: bool
    same: str
    stored: bool


def compared(spec: Spec, weights: Weights) -> Table:
    """Every difference between a file and a model. Raises SpecError for a file whose names are no model's."""
    if weights.form == "GGUF":
        raise SpecError(f"{weights.file} has the names of llama.cpp, not the model's: compare .safetensors files")
    model = built(spec)
    wanted = expected(model)
    named, prefix = renamed(weights, wanted, getattr(model, "base_model_prefix", ""))
    wrong: list[Difference] = []
    stated: list[Difference] = []
    together = 0
    for name, tensor in named.items():
        if tensor.packing == BESIDE:
            continue
        if name not in wanted:
            wrong.append(Difference(name, "is in the file and not in the model"))
            continue
        together += 1
        one = wanted[name]
        if not one.stored:
            stated.append(Difference(name, "is in the file, and the model computes it"))
        wrong += _of_tensor(name, tensor, one)
    here = {wanted[name].same for name in named if name in wanted}
    for name, one in wanted.items():
        if name in named or not one.stored:
            continue
        if one.same in here:
            if one.parameter:
                other = _tied(one.same, named, wanted)
                stated.append(Difference(name, f"is tied to {other}, which is in the file"))
        elif one.parameter or one.dtype.startswith(("float", "bfloat")):
            wrong.append(Difference(name, f"is in the model, {_shape(one.shape)} {one.dtype}, and not in the file"))
        else:  # a count, positions, a mask: PyTorch and transformers load a file without it
            stated.append(Difference(name, f"is a buffer of {one.dtype} that the file leaves out"))
    row = {
        "model": spec.text,
        "file": weights.file,
        "tensors": together,
        "params": weights.params,
        "stated": len(stated),
        "disagreements": len(wrong),
        "verified": not wrong,
        "wrong": [f"{each.tensor}: {each.text}" for each in wrong],
        "reasons": [*prefix, *(f"{each.tensor}: {each.text}" for each in stated)],
    }
    reasons = (f"for a stated reason: {text}" for text in grouped(stated))
    notes = (*grouped(wrong), *weights.notes, *prefix, *reasons)
    return Table("A file against its model", COLUMNS, (row,), notes, hidden=HIDDEN)


def expected(model: Any) -> dict[str, ExpectedTensor]:
    """The parameters and buffers of a model by name, those that checkpoints leave out too."""
    state = model.state_dict(keep_vars=True)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    everything = {**state, **dict(model.named_buffers(remove_duplicate=False))}
    first: dict[int, str] = {}
    return {
        name: ExpectedTensor(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            tensor.numel(),
            name in parameters,
            first.setdefault(id(tensor), name),
            name in state,
        )
        for name, tensor in everything.items()
        if hasattr(tensor, "shape")
    }


def renamed(
    weights: Weights, wanted: dict[str, ExpectedTensor], base: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors by the names that the model has for them, and why these differ from the file's.

    base: the attribute under which a model with a head keeps the bare one, "transformer."; files of the hub are often
    written from the bare model.
    """
    plain = {_unpacked(t): t for t in weights.tensors}
    if len(plain) < len(weights.tensors):  # two forms of one weight
        plain = {t.name: t for t in weights.tensors}
    added = {f"{base}.{name}" if f"{base}.{name}" in wanted and name not in wanted else name: t
             for name, t in plain.items()}  # fmt: skip
    taken = {name.removeprefix(f"{base}.") if name not in wanted else name: t for name, t in plain.items()}
    best = max((plain, added, taken), key=lambda names: sum(name in wanted for name in names))
    if not base or best is plain or len(best) < len(plain):
        return plain, []
    how = "without" if best is added else "with"
    return best, [f"names in the file are {how} the prefix {base!r} of the model"]


def _unpacked(tensor: StoredTensor) -> str:
    """The name of the weight that a packed tensor holds."""
    if not tensor.packing or not tensor.params:
        return tensor.name
    owner, dot, last = tensor.name.rpartition(".")
    return f"{owner}{dot}{PACKED_ENDS.get(last, last.removesuffix('_blocks'))}"


def _of_tensor(name: str, tensor: StoredTensor, one: ExpectedTensor) -> Iterable[Difference]:
    if tensor.packing:  # its shape is that of the packing
        if tensor.params != one.numel:
            yield Difference(name, f"holds {tensor.params:,} parameters in the file, {one.numel:,} in the model")
        return
    if tensor.shape != one.shape:
        yield Difference(name, f"is {_shape(tensor.shape)} in the file, {_shape(one.shape)} in the model")
    if tensor.dtype != one.dtype:
        yield Difference(name, f"is {tensor.dtype} in the file, {one.dtype} in the model")


def _tied(same: str, named: dict[str, StoredTensor], wanted: dict[str, ExpectedTensor]) -> str:
    return next(name for name in named if name in wanted and wanted[name].same == same)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"


SHOWN = 20  # sentences of a kind


def grouped(wrong: list[Difference]) -> list[str]:
    """One sentence each; the same text of many tensors is one sentence with the first name and the count."""
    counts = Counter(each.text for each in wrong)
    out: dict[str, None] = {}
    for each in wrong:
        more = counts[each.text] - 1
        if more < 3:
            out.setdefault(f"{each.tensor}: {each.text}")
        elif not any(line.endswith(each.text) for line in out):
            out.setdefault(f"{each.tensor} and {more:,} more: {each.text}")
    return _few(list(out))


def _few(texts: list[str]) -> list[str]:
    more = len(texts) - SHOWN
    return texts if more <= 0 else [*texts[:SHOWN], f"and {more:,} more: --format json has all"]
