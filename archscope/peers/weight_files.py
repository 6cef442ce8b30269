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
from archscope.peers.loaded_names import IN_PIECES, as_loaded, left_out
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


class Comparison(NamedTuple):
    """A file held against a model. together: tensors that both have. wrong: what differs. stated: what differs for a
    reason. prefix: why names differ. spare: tensors of the file that the model is not loaded with."""

    together: int
    wrong: list[Difference]
    stated: list[Difference]
    prefix: list[str]
    spare: list[StoredTensor]


def compared(spec: Spec, weights: Weights) -> Table:
    """Every difference between a file and a model. Raises SpecError for a file whose names are no model's."""
    if weights.form == "GGUF":
        raise SpecError(f"{weights.file} has the names of llama.cpp, not the model's: compare .safetensors files")
    together, wrong, stated, prefix, _ = comparison(built(spec), weights)
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


def comparison(model: Any, weights: Weights, types: bool = True) -> Comparison:
    """A file with the names of the model against it. types: whether they are compared too."""
    wanted = expected(model)
    configured = str(getattr(getattr(model, "config", None), "dtype", None)).removeprefix("torch.")
    plain, prefix = renamed(weights, wanted, getattr(model, "base_model_prefix", ""))
    named = as_loaded(model, plain, {name: one.numel for name, one in wanted.items()})
    wrong: list[Difference] = []
    stated: list[Difference] = []
    here = {wanted[name].same for name in named if name in wanted}
    ignored = left_out(model, [name for name in named if name not in wanted])
    spare = [named[name] for name in ignored]
    for name, tensor in named.items():
        if tensor.packing == BESIDE:
            continue
        if name in ignored:
            stated.append(Difference(tensor.name, "is in the file, and the model is not loaded with it"))
        elif name not in wanted:
            wrong.append(Difference(tensor.name, "is in the file and not in the model"))
        elif not wanted[name].stored:
            stated.append(Difference(name, "is in the file, and the model computes it"))
        if name in wanted:
            wrong += _of_tensor(name, tensor, wanted[name])
            if types and (other := _other_type(tensor, wanted[name].dtype, configured)):
                wrong.append(Difference(name, f"is {tensor.dtype} in the file, {other} in the model"))
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
    together = sum(name in wanted for name, tensor in named.items() if tensor.packing != BESIDE)
    return Comparison(together, wrong, stated, prefix, spare)


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
        if tensor.params not in (None, one.numel):
            yield Difference(name, f"holds {tensor.params:,} parameters in the file, {one.numel:,} in the model")
    elif tensor.shape != one.shape:
        yield Difference(name, f"is {_shape(tensor.shape)} in the file, {_shape(one.shape)} in the model")


def _other_type(tensor: StoredTensor, built: str, configured: str) -> str | None:
    """The type that a tensor should have, where it has another: as built, or as a configuration states it."""
    if tensor.packing not in ("", IN_PIECES) or tensor.dtype in (built, configured):
        return None
    return configured if configured.startswith(("float", "bfloat")) and built == "float32" else built


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
