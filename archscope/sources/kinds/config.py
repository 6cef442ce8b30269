"""`path/to/folder` and `path/to/config.json` of the Hugging Face hub: a model from its configuration, without weights.

`model_type` names the configuration class of transformers, and `architectures` the class of the model; without one that
transformers has, the bare model is built. Nothing is downloaded, of files of weights headers are read, and code that a
folder brings along (`auto_map`) is not run.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any

from archscope.core import files, limits
from archscope.core.errors import SpecError
from archscope.core.table import did_you_mean
from archscope.core.weights import Weights
from archscope.sources.inputs import Argument
from archscope.sources.kinds import transformers
from archscope.sources.other_names import question
from archscope.sources.source import SOURCES, Source
from archscope.sources.weights.files import weights_beside

OTHERS = "json|py|pt2|onnx|safetensors|gguf"  # files that are other sources'


@SOURCES.register("config")
class HubFolders(Source):
    form = rf"(.*/)?config\.json|(?!.*\.({OTHERS})(:.*)?$)[^:]*/[^:]*"
    help = "folder/config.json"
    order = 9
    closed = False

    def names(self, pattern: str) -> list[str]:
        return sorted(name for name in glob(pattern) if file_of(name).is_file())

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return transformers.build(*class_and_config(name, arguments))

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        return transformers.inputs_of_config(*class_and_config(name, arguments))

    def running(self, name: str) -> AbstractContextManager[Sequence[str]]:
        return transformers.running()

    def decoder(self, spec: Any) -> Any:
        return replace(spec, source=WithHead(self.name))

    def weights_beside(self, name: str) -> list[Weights | SpecError]:
        return weights_beside(file_of(name))


class WithHead(HubFolders):
    """The folders again, for language models: a folder that names no architecture means the model with its head."""

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        found, config = class_and_config(name, arguments)
        headed = getattr(transformers.transformers_library(), transformers.causal(found, name), found)
        return transformers.build(headed, config)


def file_of(name: str) -> Path:
    """The config.json of a folder, or the file itself."""
    path = Path(name).expanduser()
    return path / "config.json" if path.is_dir() else path


def class_and_config(name: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """The class of a folder's model, and its configuration with arguments set. Raises SpecError."""
    values = read(name)
    kind = values.get("model_type")
    library = transformers.transformers_library()
    known = library.models.auto.configuration_auto.CONFIG_MAPPING
    if not isinstance(kind, str):
        raise SpecError(f"{file_of(name)} names no model_type, so nothing says which model it configures")
    if kind not in known:
        question = did_you_mean(kind, known)
        code = "; its own code is not run" if "auto_map" in values else ""
        raise SpecError(f"transformers has no model_type {kind!r}{f': {question}' if question else ''}{code}")
    try:
        config = known[kind].from_dict(values)
    except ImportError as error:
        raise SpecError(f"{file_of(name)} needs more than transformers: {error}") from error
    except Exception as error:
        raise SpecError(f"{file_of(name)} is no configuration of {kind}: {type(error).__name__}: {error}") from error
    transformers.known_arguments(config, arguments)
    for key, value in arguments.items():
        setattr(config, key, value)
    wanted = values.get("architectures")
    for architecture in wanted if isinstance(wanted, list) else ():
        found = getattr(library, architecture, None) if isinstance(architecture, str) else None
        if isinstance(found, type) and getattr(found, "config_class", None) is type(config):
            return found, config
    return type(config), config


def read(name: str) -> dict[str, Any]:
    """The values of a configuration. Raises SpecError for a file that is none, or holds numbers that no model has."""
    full = file_of(name)
    if full.name == "config.json" and not full.is_file() and (full.parent / "adapter_config.json").is_file():
        raise SpecError(f"{full.parent} has an adapter: write {full.parent}/adapter_config.json@base=MODEL")
    if not full.is_file():
        if full.name == "config.json":
            raise SpecError(f"there is no {full}")
        asked = question(name, [])
        rest = "nothing is downloaded, a folder with its config.json is read"
        raise SpecError(f"there is no folder or file {name}{f': {asked} ({rest})' if asked else f'; {rest}'}")
    about = full.stat()
    return _read(full.absolute(), str(full), about.st_mtime_ns, about.st_size)


# keys of numbers that are never negative; others say -1 for "none"
COUNTS = ("num_hidden", "num_layers", "num_attention", "num_key_value", "num_heads", "n_layer", "n_head", "hidden_size")
COUNTS += ("vocab_size", "intermediate_size")


@lru_cache(maxsize=8)
def _read(full: Path, path: str, changed: int, size: int) -> dict[str, Any]:
    try:
        values = json.loads(files.text(full, limits.CONFIG), object_hook=_number)
        if not isinstance(values, dict):
            raise ValueError("it holds no keys and values")
        for key, number in _numbers(values):
            least = 0 if key.startswith(COUNTS) else -limits.INPUT
            if not least <= number <= (limits.LAYERS if "layers" in key else limits.INPUT):
                raise ValueError(f"{key} is {number}, which no model has")
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path} cannot be read as a configuration: {str(error)[:200]}") from error
    return values


def _number(found: dict[str, Any]) -> Any:
    """transformers writes infinity, which JSON does not have, as {"__float__": "Infinity"}."""
    text = found.get("__float__")
    return float(text) if len(found) == 1 and text in ("Infinity", "-Infinity", "NaN") else found


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number, with its key."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _numbers(one, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one, key)
