"""The tensors of a file of weights: names, types, shapes and bytes, without a value.

Such a file has no operators. So it tells parameters and bytes, and nothing of MACs, activations or receptive fields.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

BESIDE = "scales"  # the packing of what stands beside packed weights: scales, zero points, orders


class StoredTensor(NamedTuple):
    """One tensor as it is stored.

    dtype: as PyTorch calls it, "bfloat16", or as the file does where PyTorch has no such type, "Q4_K". nbytes: what it
    takes in the file. params: how many parameters of the model it holds, 0 for buffers and for scales of packed
    weights, None where that is unknown. packing: how the parameters are packed, "GPTQ int4", empty where they are not.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    params: int | None
    packing: str = ""

    @property
    def numel(self) -> int:
        """How many elements are stored."""
        return prod(self.shape)


@dataclass(frozen=True)
class Weights:
    """The tensors of a file, in its order. form: of the file, "safetensors". notes: what is assumed or unknown."""

    file: str
    form: str
    tensors: tuple[StoredTensor, ...]
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> int | None:
        """The parameters of the model, None where one tensor's are unknown."""
        return total(t.params for t in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors)


def total(counts: Iterable[int | None]) -> int | None:
    """The sum, None where one of them is unknown."""
    known = list(counts)
    return None if None in known else sum(filter(None, known))


def bits(tensors: Iterable[StoredTensor]) -> float | None:
    """Stored bits a parameter, with scales and without buffers; None where there are no parameters, or unknown ones."""
    counted = [t for t in tensors if t.params != 0 or t.packing]
    params = total(t.params for t in counted)
    return 8 * sum(t.nbytes for t in counted) / params if params else None
