"""`transformers:LlamaConfig@hidden_size=4096`: architectures of transformers from a configuration, without weights.

A name is a configuration class (its bare model is built), a model class (`LlamaForCausalLM`, of which the
configuration is the default one), or a model type (`bert`). Nothing is looked up on the network.
"""

import inspect
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.table import did_you_mean
from archscope.sources.inputs import Given, Input
from archscope.sources.source import SOURCES, Keys, Source, in_files

TOKENS = 128  # of a default text; what a model holds at most, where that is less
SECONDS = 1  # of a default sound
RATE = 16_000  # samples of sound a second


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

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Given, ...]:
        return _inputs(name, arguments)

    def running(self, name: str) -> AbstractContextManager[tuple[str, ...]]:
        return running()

    def decoder(self, spec: Any) -> Any:
        name = causal(_class(spec.name), spec.name)
        return replace(spec, name=name)

    def settings(self, config: Any) -> Keys:
        return settings(config)

    def cache(self, model: Any, kind: str, length: int) -> Any:
        library = transformers_library()
        if kind == "static":
            return library.StaticCache(config=model.config, max_cache_len=length)
        return library.DynamicCache(config=model.config)


def causal(found: type, name: str) -> str:
    """The name of the causal language model, with its head, of a configuration class. Raises SpecError without one."""
    if not _is_config(found):
        return name
    model = transformers_library().models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(found, None)
    if model is None:
        raise SpecError(f"transformers has no causal language model for {name}: it does not continue a text")
    return (model[0] if isinstance(model, tuple) else model).__name__


def settings(config: Any) -> Keys:
    """The decoder's configuration as plain values, also under the names that transformers gives to all models."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    plain = text.to_dict()
    for common in getattr(text, "attribute_map", {}):
        plain[common] = getattr(text, common, None)
    return plain


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
    return kind(**arguments)


def known_arguments(config: Any, arguments: dict[str, Any]) -> None:
    """Raises SpecError for an argument that a configuration does not have."""
    for key in arguments:
        if key == "head_dim" and hasattr(config, "num_attention_heads"):
            continue  # its own field for each model, and some classes do not declare it
        if not hasattr(config, key):
            question = did_you_mean(key, [k for k in config.to_dict() if not k.startswith("_")])
            raise SpecError(f"{type(config).__name__} has no argument {key!r}{f': {question}' if question else ''}")


def _build(name: str, arguments: dict[str, Any]) -> Any:
    return build(_class(name), _config(name, arguments))


def build(found: Any, config: Any) -> Any:
    """The model of a configuration. found: its class, or the class of the configuration for the bare model."""
    if hasattr(config, "use_cache"):
        config.use_cache = False  # a forward over a whole text keeps no keys for the next one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers_library().AutoModel.from_config(config) if _is_config(found) else found(config)


# ------------------------------------------------------------------------------------------------------- inputs


def _inputs(name: str, arguments: dict[str, Any]) -> tuple[Given, ...]:
    return inputs_of_config(_class(name), _config(name, arguments))


def inputs_of_config(found: Any, config: Any) -> tuple[Given, ...]:
    """By the main input of the model: a text of 128 tokens, an image of the configured side, a second of sound."""
    library = transformers_library()
    model = library.models.auto.modeling_auto.MODEL_MAPPING.get(type(config), None) if _is_config(found) else found
    model = model[0] if isinstance(model, tuple) else model
    try:
        main = getattr(model, "main_input_name", "input_ids")
    except ImportError:  # it stands for a model whose libraries are missing: to build it says which
        return ()
    tokens = Input((1, min(TOKENS, _limit(_text(config)))), "int64")
    given = {
        "input_ids": lambda: Given(tokens, "nt", main),
        "pixel_values": lambda: Given(Input((1, *_image(config))), "nchw", main),
        "input_values": lambda: Given(Input((1, SECONDS * RATE)), "nt", main),
        "input_features": lambda: Given(Input((1, *_sound(config))), "nct", main),
    }.get(main)
    if given is None:
        return ()
    wants = {*inspect.signature(model.forward).parameters} if model is not None else {main}
    beside = not any(hasattr(config, key) for key in ("image_token_id", "image_token_index"))
    extra = ()
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in wants:
        extra = (Given(tokens, "nt", "decoder_input_ids"),)
    elif beside and main == "input_ids" and "pixel_values" in wants:
        extra = (Given(Input((1, *_image(config))), "nchw", "pixel_values"),)
    elif beside and main == "pixel_values" and "input_ids" in wants:
        extra = (Given(tokens, "nt", "input_ids"),)
    return (given(), *extra)


def _text(config: Any) -> Any:
    """The configuration of what reads a text; of several the first."""
    try:
        return config.get_text_config()
    except (AttributeError, ValueError):
        return getattr(config, "text_encoder", config)


def _limit(config: Any) -> int:
    """How many positions a model holds."""
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return TOKENS


def _image(config: Any) -> tuple[int, int, int]:
    config = getattr(config, "vision_config", None) or config
    side = getattr(config, "image_size", None) or 224
    height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
    channels = getattr(config, "num_channels", None) or 3
    return (channels, height, width)


def _sound(config: Any) -> tuple[int, int]:
    """Mel bins and frames."""
    bins = getattr(config, "num_mel_bins", None) or 80
    return (bins, 2 * getattr(config, "max_source_positions", 1500))


@contextmanager
def running() -> Iterator[tuple[str, ...]]:
    """Without the warning that looks for padding among the tokens: it would read their values."""
    owner, name = transformers_library().PreTrainedModel, "warn_if_padding_and_no_attention_mask"
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, lambda self, input_ids, attention_mask: None)
    try:
        yield ()
    finally:
        if original is not None:
            setattr(owner, name, original)
