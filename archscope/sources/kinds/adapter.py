"""`adapter_config.json@base=transformers:LlamaConfig@hidden_size=4096`: a model with an adapter of peft.

The other arguments are the base model's. Without `base`, it is the folder that `base_model_name_or_path` names, or the
adapter's own, where a `config.json` is in it. Nothing is downloaded, and no weight is read.
"""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from glob import glob
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from archscope.core.errors import SpecError
from archscope.sources.inputs import Argument
from archscope.sources.kinds import config, transformers
from archscope.sources.source import SOURCES, Keys, Source
from archscope.sources.spec import Spec, parse


@SOURCES.register("adapter")
class Adapters(Source):
    form = r"(.*/)?adapter_config\.json"
    help = "adapter_config.json@base=MODEL"
    order = 7
    closed = False

    def names(self, pattern: str) -> list[str]:
        return sorted(glob(pattern))

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        base = base_of(name, arguments)
        adapter = _of_library(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = base.source.build(base.name, base.arguments)
            try:
                return import_module("peft").inject_adapter_in_model(adapter, model)
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise SpecError(f"{name} does not fit the model {base.text}: {why}") from error

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        base = base_of(name, arguments)
        return base.source.inputs(base.name, base.arguments)

    def running(self, name: str) -> AbstractContextManager[Sequence[str]]:
        return transformers.running() if find_spec("transformers") else nullcontext(())

    def decoder(self, spec: Any) -> Any:
        """The base with its head and the adapter; the base alone where peft is not installed."""
        base = base_of(spec.name, spec.arguments)
        headed = base.source.decoder(base)
        return replace(spec, arguments={"base": headed}) if installed() else headed

    def adapter(self, name: str) -> Keys:
        return config.read(name)


def installed() -> bool:
    """Whether peft is there, which builds adapters."""
    return find_spec("peft") is not None


def base_of(name: str, arguments: dict[str, Any]) -> Spec:
    """The model under an adapter. Raises SpecError where nobody names it."""
    values = config.read(name)
    given, rest = arguments.get("base"), {key: value for key, value in arguments.items() if key != "base"}
    if isinstance(given, Spec):
        return given
    base = parse(str(given)) if given is not None else _beside(name, values.get("base_model_name_or_path"))
    base = replace(base, arguments={**base.arguments, **rest})
    return base.source.decoder(base) if values.get("task_type") == "CAUSAL_LM" else base


def _beside(name: str, stated: Any) -> Spec:
    home = Path(name).expanduser().parent
    folders = [Path(stated).expanduser(), home / stated] if isinstance(stated, str) and stated else []
    for folder in (*folders, home):
        if (folder / "config.json").is_file():
            return parse(str(folder / "config.json"))
    where = f"its base model is {stated}, which is not here" if stated else "it names no base model"
    raise SpecError(f"{name}: {where}: write {name}@base=MODEL, such as base=transformers:LlamaConfig or base=FOLDER/")


def _of_library(name: str) -> Any:
    """The configuration as peft has it, for training: a saved one says that it is for inference."""
    if not installed():
        raise SpecError(f"{name} is an adapter of peft, which is not installed: pip install peft")
    values = config.read(name)
    kind = values.get("peft_type")
    known = import_module("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
    made = next((one for key, one in known.items() if getattr(key, "value", key) == kind), None)
    if made is None:
        raise SpecError(f"{name} has the peft_type {kind!r}, which peft does not know")
    # how weights begin does not matter here, and some ways read the weights of the base
    taken = {**values, "inference_mode": False}
    taken |= {"init_lora_weights": True} if "init_lora_weights" in values else {}
    more = [key for key, value in taken.items() if value and key not in made.__dataclass_fields__]
    if more:
        raise SpecError(f"{name} sets {more[0]!r}, which this version of peft does not have for {kind}")
    try:
        return made(**{key: value for key, value in taken.items() if key in made.__dataclass_fields__})
    except Exception as error:
        raise SpecError(f"{name} is no configuration of {kind}: {type(error).__name__}: {error}") from error
