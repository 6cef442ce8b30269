"""The files of weights in the folder of a model: what they take, and whether they are those of the model.

The model is built from its configuration, and the files were written elsewhere. So they are held against each other.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from archscope.core.errors import SpecError
from archscope.core.weights import Weights, bits
from archscope.peers.weight_files import comparison
from archscope.sources.spec import Spec


class StoredFile(NamedTuple):
    """Weights as they are stored. nbytes: of all tensors. bits: stored bits a parameter, scales included. Both are None
    where they are unknown. file: its name. notes: where it is not that of the model, one sentence each."""

    file: str
    nbytes: int | None
    bits: float | None
    notes: tuple[str, ...] = ()


def stored_files(spec: Spec, model: Any, params: int) -> list[StoredFile]:
    """The files beside a configuration. model: as it is built. params: its parameters, each once."""
    return [_stored(each, model, params) for each in spec.source.weights_beside(spec.name)]


def _stored(weights: Weights | SpecError, model: Any, params: int) -> StoredFile:
    if isinstance(weights, SpecError):
        return StoredFile("its files", None, None, (f"the bytes as stored are unknown: {weights}",))
    name = Path(weights.file).name
    notes = [
        *weights.notes,
        *(_of_gguf(name, weights, params) if weights.form == "GGUF" else _of_model(name, weights, model)),
    ]
    return StoredFile(name, weights.nbytes, bits(weights.tensors), tuple(notes))


def _of_gguf(name: str, weights: Weights, params: int) -> Iterable[str]:
    """Names are those of llama.cpp, so only the number of parameters can differ."""
    if weights.params != params:
        yield f"{name} is not of this configuration: it holds {weights.params:,} parameters, and the model {params:,}"


def _of_model(name: str, weights: Weights, model: Any) -> Iterable[str]:
    found = comparison(model, weights, types=False)
    if found.wrong:
        first, more = found.wrong[0], len(found.wrong) - 1
        others = f", and {more:,} more, which `archscope verify MODEL --file FILE` names" if more else ""
        yield f"{name} is not of this configuration: {first.tensor} {first.text}{others}"
    if found.spare:
        count, size = len(found.spare), sum(tensor.nbytes for tensor in found.spare)
        what = "1 tensor" if count == 1 else f"{count:,} tensors"
        yield f"{name} has {what} of {size:,} B with which the model is not loaded, such as {found.spare[0].name}"
