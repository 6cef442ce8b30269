"""What files of weights hold: `.safetensors` with or without an index, in one piece or several, and `.gguf`."""

import re
from pathlib import Path

from archscope.core.errors import SpecError
from archscope.core.weights import Weights
from archscope.sources.weights import gguf, safetensors
from archscope.sources.weights.packings import with_parameters

_INDEX = ".index.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.gguf)")
_OTHERS = ("adapter_model", "optimizer", "mmproj")  # beginnings of files that are not the weights of the model


def weights_of(names: list[str]) -> Weights:
    """The tensors of a file, or of all its shards. Raises SpecError for what is no file of weights."""
    first = names[0]
    if first.endswith(".gguf"):
        return Weights(first, "GGUF", tuple(tensor for name in names for tensor in gguf.read(name)))
    read = safetensors.read_index if first.endswith(_INDEX) else safetensors.read
    tensors = [tensor for name in names for tensor in read(name)]
    found, notes = with_parameters(tensors, Path(first).expanduser().parent / "config.json")
    return Weights(first, "safetensors", tuple(found), tuple(notes))


def weights_beside(config: Path) -> list[Weights | SpecError]:
    """The weights in the folder of a `config.json`, and in place of what cannot be read, the reason.

    Of several `.safetensors` the one that transformers loads: `model`, else the first by name. Each `.gguf`.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(config.parent.iterdir()):
        shard = _SHARD.fullmatch(path.name)
        name = shard[1] + shard[3] if shard else path.name.removesuffix(_INDEX)
        if name.endswith((".safetensors", ".gguf")) and not name.startswith(_OTHERS):
            found.setdefault(name, []).append(path)
    models = sorted(
        (name for name in found if name.endswith(".safetensors")), key=lambda name: name.split(".")[0] != "model"
    )
    return [_read(found[name]) for name in (*models[:1], *(name for name in found if name.endswith(".gguf")))]


def _read(paths: list[Path]) -> Weights | SpecError:
    index = [path for path in paths if path.name.endswith(_INDEX)]  # it names its shards
    try:
        if not index and (missing := _missing(paths)):
            raise SpecError(f"{missing} is not in {paths[0].parent}")
        return weights_of([str(path) for path in index or paths])
    except SpecError as error:
        return error


def _missing(paths: list[Path]) -> str | None:
    """The first shard that is not there, where names say how many there are."""
    shard = _SHARD.fullmatch(paths[-1].name)
    if shard is None:
        return None
    stem, count, end = shard.groups()
    every = (f"{stem}-{n:05}-of-{count}{end}" for n in range(1, int(count) + 1))
    return next((name for name in every if name not in {path.name for path in paths}), None)
