"""A causal language model as it is used: a prompt is read, then one token at a time, behind a cache.

    run = LanguageModel("transformers:LlamaConfig@num_hidden_layers=4")
    prefill = run.prefill(8192)     the record of a prompt of 8192 tokens
    decode = run.decode(8192)       of one more token; decode.cache are the cached tensors of the 8192

The cache is the model's own: transformers makes it from the configuration, and a prompt fills it on the meta device.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from archscope.core.errors import SpecError, TraceError
from archscope.core.record import Trace
from archscope.sources.loading import Loaded, built
from archscope.sources.records import traced
from archscope.sources.source import Source, source_of
from archscope.sources.spec import Spec, parse

CACHES = ("dynamic", "static")
_ARGUMENTS = ("cache", "past_key_values", "cache_params")  # what a forward calls its cache, the newest name first


class LanguageModel:
    """A model that is built once without weights, and run on prompts and behind caches.

    spec: as for `load`; of `transformers:LlamaConfig` the model with its head is built. cache: "dynamic" grows with the
    text, "static" has its full length from the beginning. Raises SpecError for what reads no tokens.
    """

    def __init__(self, spec: str | Spec, cache: str = "dynamic") -> None:
        given = parse(spec) if isinstance(spec, str) else spec
        if given.source.saved:
            raise SpecError(f"{given.name} is the record of one run: a language model has to be run again")
        if cache not in CACHES:
            raise SpecError(f"a cache is {' or '.join(CACHES)}, not {cache!r}")
        self.spec = given.source.decoder(given)
        self.kind = cache
        self.model = built(self.spec)
        self._names = list(inspect.signature(self.model.forward).parameters)
        self._filled: dict[tuple[int, int], Any] = {}
        self._prompts: dict[tuple[int, int], Trace] = {}

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the decoder as plain values, under the names that transformers has for all of them."""
        own = getattr(self.model, "config", None)
        return self._home.settings(own) if own is not None else {}

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

    def prefill(self, tokens: int, batch: int = 1) -> Trace:
        """The record of a prompt: all its tokens at once, and the cache that they fill. Raises what `trace` raises."""
        if (tokens, batch) not in self._prompts:
            empty = self._home.cache(self.model, self.kind, tokens + 1) if self.has_cache else None
            self._prompts[tokens, batch] = self._run(tokens, batch, empty, (tokens, batch))
        return self._prompts[tokens, batch]

    def decode(self, tokens: int, batch: int = 1) -> Trace:
        """The record of one token behind a cache of `tokens`. The record's `cache` holds the cached tensors.

        Raises SpecError for a forward that takes no cache, and what `trace` raises.
        """
        if not self.has_cache:
            raise SpecError(
                f"{self.spec.text}: its forward takes no cache that archscope knows: {', '.join(_ARGUMENTS)}"
            )
        if tokens:
            self.prefill(tokens, batch)
            return self._run(1, batch, self._filled[tokens, batch])
        return self._run(1, batch, self._home.cache(self.model, self.kind, 1))

    def decodes(self, tokens: int, batch: int = 1) -> Iterable[Trace]:
        """The records of `tokens` tokens that are read one by one, the first behind an empty cache."""
        cache = self._home.cache(self.model, self.kind, tokens)
        for step in range(tokens):
            yield self._run(1, batch, cache, (-step, batch))
            cache = self._filled.pop((-step, batch))

    def _run(self, tokens: int, batch: int, cache: Any, keep: tuple[int, int] | None = None) -> Trace:
        """keep: under which key the cache is kept that the run leaves behind."""
        import torch

        named: dict[str, Any] = {}
        ids = torch.empty((batch, tokens), dtype=torch.int64, device="meta")
        if self._argument is not None and cache is not None:
            named = {self._argument: cache, "use_cache": True}
        by_name = "input_ids" in self._names
        loaded = Loaded(self.model, () if by_name else (ids,), {"input_ids": ids, **named} if by_name else named)

        def left(module: Any, given: Any, output: Any) -> None:
            if keep is not None:
                self._filled[keep] = next((getattr(output, n) for n in _ARGUMENTS if getattr(output, n, None)), cache)

        hook = self.model.register_forward_hook(left)
        try:
            return traced(self.spec, loaded)
        finally:
            hook.remove()


def decode_step(spec: str | Spec, context: int, batch: int = 1, cache: str = "dynamic") -> Trace:
    """The record of one token behind a cache of `context` tokens; its `cache` holds the cached tensors.

    spec: as for `load`. Raises SpecError for a model without a cache, and what `trace` raises.
    """
    try:
        return LanguageModel(spec, cache).decode(context, batch)
    except KeyError as error:
        raise TraceError(f"{spec} left no cache behind") from error
