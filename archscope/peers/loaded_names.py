"""The names under which transformers loads the tensors of a file: some are renamed, some joined to one or split.

Files of Mixtral have three matrices an expert, for example, and the model has two for all experts of a layer.
"""

import re
import sys
from collections.abc import Collection
from typing import Any

from archscope.core.weights import StoredTensor, total

IN_PIECES = "in pieces"  # the packing of a tensor whose numbers are those of the model, in other shapes


def as_loaded(model: Any, named: dict[str, StoredTensor], wanted: dict[str, int]) -> dict[str, StoredTensor]:
    """The tensors of a file under the names of the model. named: by their own. wanted: elements of the model's.

    What is joined from several tensors, or split, is in pieces: it has a number of parameters, and no shape.
    """
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return named
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    except ImportError:  # an older one, whose names are those of the files
        return named
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    targets = {pattern: step.target_patterns for step in converters for pattern in step.source_patterns}
    found: dict[str, StoredTensor] = {}
    pieces: dict[tuple[str, ...], list[StoredTensor]] = {}
    for name, tensor in named.items():
        prefix = getattr(model, "base_model_prefix", None)
        new, pattern = rename_source_key(name, renamings, converters, prefix, wanted)
        if new not in wanted and name in wanted:
            new, pattern = name, None
        if pattern is None:
            found.setdefault(new, tensor)
        else:
            first, *more = targets[pattern]
            names = (new, *(new.replace(first, one, 1) for one in more))
            pieces.setdefault(names, []).append(tensor)
    for names, tensors in pieces.items():
        found.update(_shared_out(names, tensors, wanted))
    return found


def _shared_out(names: tuple[str, ...], tensors: list[StoredTensor], wanted: dict[str, int]) -> dict[str, StoredTensor]:
    """The pieces of some tensors of the model. The first is held to what the others leave over."""
    types = ", ".join(dict.fromkeys(tensor.dtype for tensor in tensors))
    one = StoredTensor(
        tensors[0].name, (), types, sum(t.nbytes for t in tensors), total(t.params for t in tensors), IN_PIECES
    )
    others = {name: wanted.get(name, 0) for name in names[1:]}
    rest = None if one.params is None else one.params - sum(others.values())
    return {names[0]: one._replace(params=rest)} | {name: one._replace(params=n) for name, n in others.items()}


def left_out(model: Any, names: Collection[str]) -> list[str]:
    """Those of the names that the model is not loaded with: its class says so, of heads for several tokens at once."""
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return [name for name in names if any(re.search(pattern, name) for pattern in patterns)]
