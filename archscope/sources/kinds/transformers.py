"""`transformers:LlamaConfig@hidden_size=4096`: architectures of transformers from a configuration, without weights.

A name is a configuration class (its bare model is built), a model class (`LlamaForCausalLM`, of which the
configuration is the default one), or a model type (`bert`). Nothing is looked up on the network.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.table import did_you_mean
from archscope.sources.inputs import Argument
from archscope.sources.source import SOURCES, Keys, Source, in_files
from archscope.sources.transformers_defaults import completed
from archscope.sources.transformers_inputs import inputs_of

TAKEN = "_archscope_taken"  # sentences on values that a configuration did not state
OWN_CACHES = ("rwkv", "xlstm", "minimax")  # the type of model whose forward makes a cache of its own kind


@SOURCES.register("transformers")
class Transformers(Source):
    help = "transformers:CLASS"
    order = 3
    closed = False

    def names(self, pattern: str) -> Iterable[str]:
        return sorted(set(_types().values()))

    def names_in_files(self) -> frozenset[str]:
        """The configurations, the models, and the types of models."""
        types = in_files("transformers", "models/auto/auto_mappings.py", r'\("([\w-]+)", "\w+Config"\)')
        classes = in_files("transformers", "models/auto/*_*.py", r'"([A-Z]\w+(?:Config|Model|For[A-Z]\w+))"')
        return types | classes

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return _build(name, arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        return _inputs(name, arguments)

    def running(self, name: str) -> AbstractContextManager[Sequence[str]]:
        return running()

    def notes(self, model: Any) -> tuple[str, ...]:
        return model.__dict__.get(TAKEN, ())

    def decoder(self, spec: Any) -> Any:
        name = causal(_class(spec.name), spec.name)
        return replace(spec, name=name)

    def settings(self, config: Any) -> Keys:
        return settings(config)

    def cache(self, model: Any, kind: str, length: int) -> Any:
        library, config = transformers_library(), model.config
        if getattr(config, "model_type", "") in OWN_CACHES:
            return None
        encodes = getattr(config, "is_encoder_decoder", False)
        if encodes:  # T5's decoder has a configuration of its own, with as many layers as the decoder
            config = getattr(model.get_decoder(), "config", config)
        try:
            own = library.DynamicCache(config=config)
        except AttributeError as error:  # of a model that divides its text by values, such as BLT
            raise SpecError(f"transformers makes no cache of {type(config).__name__}: {error}") from error
        if kind == "static":
            own = library.StaticCache(config=config, max_cache_len=length)
        if encodes:
            return library.EncoderDecoderCache(own, library.DynamicCache(config=config))
        return own


def causal(found: type, name: str) -> str:
    """The name of the model that continues a text, with its head, of a configuration class. Raises SpecError without.

    A configuration with an encoder means the model with its encoder, one with a part that sees the model that sees.
    """
    if not _is_config(found):
        return found.__name__
    auto = transformers_library().models.auto.modeling_auto
    decoders, seeing = auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    encoders = (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING)
    if _encodes(found):
        order = (*encoders, seeing, decoders)
    elif "vision_config" in getattr(found, "sub_configs", {}):
        order = (seeing, decoders, *encoders)
    else:
        order = (decoders, seeing, *encoders)
    model = next((made for mapping in order if (made := mapping.get(found, None)) is not None), None)
    if model is None:
        raise SpecError(f"transformers has no causal language model for {name}: it does not continue a text")
    return (model[0] if isinstance(model, tuple) else model).__name__


def _encodes(found: type) -> bool:
    try:
        return bool(found().is_encoder_decoder)
    except Exception:  # it has no defaults
        return False


def settings(config: Any) -> Keys:
    """The decoder's configuration as plain values, also under the names that transformers gives to all models.

    With an encoder the decoder's layers and heads are under the common names, and the encoder's under "encoder".
    """
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    plain = text.to_dict()
    for common in getattr(text, "attribute_map", {}):
        plain[common] = getattr(text, common, None)
    if type(layers := getattr(text, "num_hidden_layers", None)) is int:
        plain.setdefault("num_hidden_layers", layers)  # LongCat computes it: two in each of its layers
    if getattr(config, "is_encoder_decoder", False):
        plain |= _two_sides(config.to_dict())
    return plain


def _two_sides(own: Keys) -> dict[str, Any]:
    """Layers, heads and width of a head of decoder and encoder, by the names that older models give them."""
    layers = (
        own.get("decoder_layers") or own.get("num_decoder_layers"),
        own.get("encoder_layers") or own.get("num_encoder_layers") or own.get("num_layers"),
    )
    heads = [own.get(f"{side}_attention_heads") or own.get(f"num_{side}_attention_heads") or own.get("num_heads")
             for side in ("decoder", "encoder")]  # fmt: skip
    if None in (*layers, *heads):
        return {"encoder": {}}
    width = {"head_dim": own["d_kv"]} if own.get("d_kv") else {}
    decoder, encoder = (
        {"num_hidden_layers": n, "num_attention_heads": h, **width} for n, h in zip(layers, heads, strict=True)
    )
    return {**decoder, "encoder": {**encoder, "hidden_size": own.get("d_model")}}


def transformers_library() -> Any:
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise SpecError("transformers is not installed; `pip install transformers` brings its models") from error
    transformers.logging.set_verbosity_error()
    return transformers


@cache
def _types() -> dict[str, str]:
    """Model type -> name of its configuration class, for those that have a bare model."""
    auto = transformers_library().models.auto
    bare = auto.modeling_auto.MODEL_MAPPING_NAMES
    return {kind: name for kind, name in auto.configuration_auto.CONFIG_MAPPING_NAMES.items() if kind in bare}


def _class(name: str) -> Any:
    """A class of transformers by its name, or by the type of its models."""
    library = transformers_library()
    wanted = _types().get(name, name)
    found = getattr(library, wanted, None) if wanted.isidentifier() else None
    if not isinstance(found, type) or not (_is_config(found) or hasattr(found, "config_class")):
        question = did_you_mean(name, [*_types().values(), *_types()])
        if name.startswith("Auto"):
            question = "write the type or the class that it would choose, transformers:bert or transformers:BertModel"
        raise SpecError(
            f"transformers has no configuration or model {name!r}{f': {question}' if question else ''} "
            "(a class such as LlamaConfig or BertForMaskedLM; `archscope list 'transformers:*'` shows all)"
        )
    return found


def _is_config(found: type) -> bool:
    return issubclass(found, transformers_library().PretrainedConfig)


def _config(name: str, arguments: dict[str, Any]) -> Any:
    found = _class(name)
    kind = found if _is_config(found) else found.config_class
    try:
        plain = kind()
    except Exception as error:
        raise SpecError(f"{kind.__name__} has no default: {type(error).__name__}: {error}") from error
    known_arguments(plain, arguments)
    config = kind(**arguments)
    config.__dict__[TAKEN] = completed(config, arguments)
    return config


def known_arguments(config: Any, arguments: dict[str, Any]) -> None:
    """Raises SpecError for an argument that a configuration does not have."""
    for key in arguments:
        if key == "head_dim" and _has(config, "num_attention_heads"):
            continue  # its own field for each model, and some classes do not declare it
        if not _has(config, key):
            question = did_you_mean(key, [k for k in config.to_dict() if not k.startswith("_")])
            raise SpecError(f"{type(config).__name__} has no argument {key!r}{f': {question}' if question else ''}")


def _has(config: Any, key: str) -> bool:
    try:
        return hasattr(config, key)
    except Exception:  # a field that differs between layers is there, and is not read as one
        return True


def _build(name: str, arguments: dict[str, Any]) -> Any:
    config = _config(name, arguments)
    taken = config.__dict__.pop(TAKEN)
    model = build(_class(name), config)
    model.__dict__[TAKEN] = taken
    return model


def build(found: Any, config: Any) -> Any:
    """The model of a configuration. found: its class, or the class of the configuration for the bare model."""
    if hasattr(config, "use_cache"):
        config.use_cache = False  # a forward over a whole text keeps no keys for the next one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _bare(config)(config) if _is_config(found) else found(config)
        except (AttributeError, KeyError, TypeError) as error:
            name = type(config).__name__
            raise SpecError(
                f"{name} states too little or what does not fit together ({type(error).__name__}: {error}): set it, "
                f"transformers:{name}@KEY=VALUE, or name a folder with the config.json of a published model"
            ) from error


def _bare(config: Any) -> Any:
    """The class of the bare model of a configuration; where there are several, the first. Raises SpecError."""
    known = transformers_library().models.auto.modeling_auto.MODEL_MAPPING
    try:
        model = known.get(type(config), None)
    except ValueError as error:  # the library names a model that it does not have
        raise SpecError(f"transformers has no model for {type(config).__name__}: {error}") from error
    if model is None:
        raise SpecError(f"transformers has no bare model for {type(config).__name__}: name a class of a model")
    return model[0] if isinstance(model, tuple) else model


# ------------------------------------------------------------------------------------------------------- inputs


def _inputs(name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
    config = _config(name, arguments)
    del config.__dict__[TAKEN]
    return inputs_of_config(_class(name), config)


def inputs_of_config(found: Any, config: Any) -> tuple[Argument, ...]:
    """What the forward of a model needs: a text of 128 tokens, an image of the configured side, a second of sound."""
    try:
        made = _bare(config) if _is_config(found) else found
        if made.forward.__name__ != "_forward_unimplemented":
            return inputs_of(made, config)
    except (ImportError, SpecError):  # it stands for a model whose libraries are missing: to build it says which
        return ()
    inside = [name for name, one in vars(import_module(made.__module__)).items()
              if isinstance(one, type) and one.__module__ == made.__module__ and name.endswith("Model")
              and hasattr(one, "config_class") and one.forward.__name__ != made.forward.__name__]  # fmt: skip
    parts = ", ".join(f"transformers:{name}" for name in inside)
    raise SpecError(f"{made.__name__} has no forward; name a part of it that has one: {parts}")


class _ForgottenField:
    """A field that a class of outputs lacks: None, and a note where it is read."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def __get__(self, output: Any, owner: type | None = None) -> None:
        note = "the text model's output has no image_outputs in this version of transformers: None was taken for it"
        if output is not None and note not in self.notes:
            self.notes.append(note)


@contextmanager
def running() -> Iterator[Sequence[str]]:
    """Without the warning that looks for padding among the tokens: it would read their values."""
    owner, name = transformers_library().PreTrainedModel, "warn_if_padding_and_no_attention_mask"
    # Llama 4 with its image part reads a field of its text model's output that 5.24 forgot to give it
    output = transformers_library().modeling_outputs.MoeCausalLMOutputWithPast
    original, notes = getattr(owner, name, None), list[str]()
    if original is not None:
        setattr(owner, name, lambda self, input_ids, attention_mask: None)
    forgotten = not hasattr(output, "image_outputs")
    if forgotten:
        output.image_outputs = _ForgottenField(notes)
    try:
        yield notes
    finally:
        if original is not None:
            setattr(owner, name, original)
        if forgotten:
            del output.image_outputs
