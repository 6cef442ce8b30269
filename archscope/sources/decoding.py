"""A causal language model as it is used: a prompt is read, then one token at a time, behind a cache.

    run = LanguageModel("transformers:LlamaConfig@num_hidden_layers=4")
    prefill = run.prefill(8192)     the record of a prompt of 8192 tokens
    decode = run.decode(8192)       of one more token; decode.cache are the cached tensors of the 8192

The cache is the model's own: transformers makes it from the configuration, and a prompt fills it on the meta device.
A model with an encoder reads a source in its prompt, and later steps read what the encoder has made of it. A model that
sees has one image in its prompt.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError, ShapeError, SpecError, TraceError
from archscope.core.record import Trace
from archscope.sources.loading import LoadedModel, built
from archscope.sources.prompts import (
    PromptExtras,
    PromptRequest,
    beside,
    encoder_output,
    needs_image,
    rows_beside,
    text_alone,
)
from archscope.sources.records import traced
from archscope.sources.source import Source, source_of
from archscope.sources.spec import Spec, parse

CACHES = ("dynamic", "static")
_ARGUMENTS = (
    "cache",
    "past_key_values",
    "cache_params",
    "state",
)  # what a forward calls its cache, the newest name first


class DecodeState(NamedTuple):
    """What a run leaves behind for the next one. encoded: what the encoder has made of its source."""

    cache: Any
    encoded: Any = None


class LanguageModel:
    """A model that is built once without weights, and run on prompts and behind caches.

    spec: as for `load`; of `transformers:LlamaConfig` the model with its head is built. cache: "dynamic" grows with the
    text, "static" has its full length from the beginning. source: tokens that an encoder reads, else as many as the
    text has. image: pixels of a side of the image in a prompt, 0 for none, else as configured. of_many: they are
    asked of several models, and left out where this one reads none. Raises SpecError for what reads no tokens.
    """

    def __init__(
        self,
        spec: str | Spec,
        cache: str = "dynamic",
        source: int | None = None,
        image: int | None = None,
        of_many: bool = False,
    ) -> None:
        given = parse(spec) if isinstance(spec, str) else spec
        if given.source.saved:
            raise SpecError(f"{given.name} is the record of one run: a language model has to be run again")
        if cache not in CACHES:
            raise SpecError(f"a cache is {' or '.join(CACHES)}, not {cache!r}")
        self.spec = given.source.decoder(given)
        self.kind = cache
        self.model, self.adapter = _unwrapped(built(self.spec))
        self.adapter = given.source.adapter(given.name) or self.adapter
        # what reads one more token, and takes a cache
        self._reader = self.model.language_model if needs_image(self.model) else self.model
        self._names = list(inspect.signature(self._reader.forward).parameters)
        self._wanted = PromptRequest(source, image)
        if of_many:
            sees = "pixel_values" in inspect.signature(self.model.forward).parameters
            self._wanted = PromptRequest(source if self.encodes else None, image if sees else None)
        self._filled: dict[tuple[int, int], DecodeState] = {}
        self._prompts: dict[tuple[int, int], Trace] = {}
        self.beyond: dict[str, None] = {}  # where a real run would end: sentences, in their order

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the decoder as plain values, under the names that transformers has for all of them."""
        own = getattr(self.model, "config", None)
        plain = self._home.settings(own) if own is not None else {}
        if "cross_attention_layers" in plain:
            plain = {**plain, "cross_rows": rows_beside(self.model, self._wanted)}
        return plain

    @property
    def _home(self) -> Source:
        """The source that knows the model's configuration: a class of the user's may be one of transformers."""
        of_library = any(cls.__module__.startswith("transformers.") for cls in type(self.model.config).__mro__)
        return source_of("transformers") if of_library else self.spec.source

    @property
    def has_cache(self) -> bool:
        """Whether the forward takes a cache."""
        known = self._argument is not None and getattr(self.model, "config", None) is not None
        return known and self._home.name == "transformers"

    @property
    def _argument(self) -> str | None:
        return next((name for name in _ARGUMENTS if name in self._names), None)

    @property
    def encodes(self) -> bool:
        """Whether an encoder reads a source, which the decoder attends to."""
        own = getattr(self.model, "config", None)
        return bool(getattr(own, "is_encoder_decoder", False)) and "encoder_outputs" in self._names

    def source_rows(self, tokens: int, batch: int = 1) -> int | None:
        """Rows that the encoder makes of the source of such a prompt; None without an encoder."""
        self.prefill(tokens, batch)
        encoded = self._filled[tokens, batch].encoded if (tokens, batch) in self._filled else None
        return None if encoded is None else int(encoded.shape[1])

    def prefill(self, tokens: int, batch: int = 1) -> Trace:
        """The record of a prompt: all its tokens at once, and the cache that they fill. Raises what `trace` raises."""
        if (tokens, batch) not in self._prompts:
            more = self._beside(tokens, batch)
            try:
                record = self._prompt(tokens, batch, more)
            except ArchscopeError as error:
                if isinstance(error, ShapeError) and getattr(self.model, "config", None) is None:
                    raise SpecError(f"{self.spec.text} does not read {batch}×{tokens} tokens: {error}") from error
                if more.ids is None or self._wanted.image or needs_image(self.model):
                    raise
                record = self._prompt(tokens, batch, text_alone(error))
            self._prompts[tokens, batch] = record
        return self._prompts[tokens, batch]

    def _prompt(self, tokens: int, batch: int, more: PromptExtras) -> Trace:
        ids = more.ids if more.ids is not None else self._text(tokens, batch)
        record = self._run(self.model, {self._tokens: ids, **more.named}, self._empty(tokens + 1), (tokens, batch))
        return replace(record, notes=(*record.notes, more.note)) if more.note else record

    def decode(self, tokens: int, batch: int = 1) -> Trace:
        """The record of one token behind a cache of `tokens`. The record's `cache` holds the cached tensors.

        Raises SpecError for a forward that takes no cache, and what `trace` raises.
        """
        if not self.has_cache:
            raise SpecError(
                f"{self.spec.text}: its forward takes no cache that archscope knows: {', '.join(_ARGUMENTS)}"
            )
        if not tokens:
            return self._step(batch, DecodeState(self._empty(1), self._encoded(1, batch)))
        self.prefill(tokens, batch)
        return self._step(batch, self._filled[tokens, batch])

    def decodes(self, tokens: int, batch: int = 1) -> Iterable[Trace]:
        """The records of `tokens` tokens that are read one by one, the first behind an empty cache.

        The first step makes the keys and values of an encoder's rows.
        """
        left = DecodeState(self._empty(tokens), self._encoded(tokens, batch))
        for step in range(tokens):
            yield self._step(batch, left, (-step, batch))
            left = DecodeState(self._filled.pop((-step, batch)).cache, left.encoded)

    # ------------------------------------------------------------------------------------------------------- runs

    @property
    def _tokens(self) -> str:
        return "decoder_input_ids" if self.encodes else "input_ids"

    def _text(self, tokens: int, batch: int) -> Any:
        import torch

        return torch.empty((batch, tokens), dtype=torch.int64, device="meta")

    def _empty(self, length: int) -> Any:
        return self._home.cache(self.model, self.kind, length) if self.has_cache else None

    def _beside(self, tokens: int, batch: int) -> PromptExtras:
        given = self.spec.source.inputs(self.spec.name, self.spec.arguments) if self.encodes else ()
        return beside(self.model, tokens, batch, self._wanted, given, self._features)

    def _encoded(self, tokens: int, batch: int) -> Any:
        if not self.encodes:
            return None
        self.prefill(tokens, batch)
        return self._filled[tokens, batch].encoded

    def _step(self, batch: int, left: DecodeState, keep: tuple[int, int] | None = None) -> Trace:
        named = {self._tokens: self._text(1, batch)}
        if left.encoded is not None:
            named["encoder_outputs"] = encoder_output(left.encoded)
        return self._run(self._reader, named, left.cache, keep)

    def _run(self, model: Any, named: dict[str, Any], cache: Any, keep: tuple[int, int] | None = None) -> Trace:
        """keep: under which key the cache is kept that the run leaves behind."""
        if self._argument is not None and self.has_cache:  # without one the model makes its own
            named = {**named, "use_cache": True} | ({} if cache is None else {self._argument: cache})
        first = () if self._tokens in self._names else (named.pop(self._tokens),)

        def left(module: Any, given: Any, named: dict[str, Any], output: Any) -> None:
            if keep is not None:  # some models fill the cache that they are given, and do not return it
                found = next((getattr(output, n) for n in _ARGUMENTS if getattr(output, n, None)), None)
                found = found or named.get(self._argument or "")
                self._filled[keep] = DecodeState(found, getattr(output, "encoder_last_hidden_state", None))

        hook = model.register_forward_hook(left, with_kwargs=True)
        try:
            return self._traced(LoadedModel(model, first, named))
        finally:
            hook.remove()

    def _traced(self, model: LoadedModel) -> Trace:
        """A record, also of a text that is longer than a table of positions: figures are functions of its length."""
        try:
            return traced(self.spec, model)
        except ShapeError as error:
            text = str(error)
            if "out of bounds" not in text:
                raise
            from archscope.tracing.bounds import unchecked

            note = f"{text.partition(':')[0]}: its table is too short for the text and one more token, as in a real run"
            self.beyond[f"{note}; the figures are those of a longer one"] = None
            with unchecked():
                return traced(self.spec, model)

    def _features(self, read: Any, pixels: dict[str, Any]) -> int:
        """Rows that the model makes of its images: the part that reads them is run."""
        import torch

        seen: list[int] = []

        class Reader(torch.nn.Module):
            def __init__(self, model: Any) -> None:
                super().__init__()
                self.model = model

            def forward(self, **pixels: Any) -> Any:
                made = read(**pixels)
                pooled = getattr(made, "pooler_output", made)
                made = made.last_hidden_state if pooled is None else pooled
                parts = list(made) if isinstance(made, list | tuple) else [made]
                seen[:] = [sum(part.numel() // part.shape[-1] for part in parts)]
                return made

        traced(self.spec, LoadedModel(Reader(self.model), (), pixels))
        return seen[0]


def _unwrapped(model: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """The model inside a `PeftModel`, whose layers have the adapter, and the configuration of the only adapter."""
    adapters = getattr(model, "peft_config", None)
    if not hasattr(model, "get_base_model") or not isinstance(adapters, dict):
        return model, None
    if any(one.is_prompt_learning for one in adapters.values()):
        raise SpecError("an adapter that learns a prompt makes the text longer, which archscope does not follow here")
    return model.get_base_model(), next(iter(adapters.values())).to_dict() if len(adapters) == 1 else None


def decode_step(spec: str | Spec, context: int, batch: int = 1, cache: str = "dynamic") -> Trace:
    """The record of one token behind a cache of `context` tokens; its `cache` holds the cached tensors.

    spec: as for `load`. Raises SpecError for a model without a cache, and what `trace` raises.
    """
    try:
        return LanguageModel(spec, cache).decode(context, batch)
    except KeyError as error:
        raise TraceError(f"{spec} left no cache behind") from error
