"""The tables of language models: one model quantity by quantity, and many side by side.

Each figure is observed, in the record of a run, and derived, by a closed form of the configuration. The two share no
code; where one is unknown, it is empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from archscope.analysis import decoder, generation
from archscope.analysis.adapters import Adapted, adapted
from archscope.analysis.metrics import totals
from archscope.analysis.observed import works
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import BYTES, Trace
from archscope.core.table import Column, Table, unknown
from archscope.peers.stored_weights import stored_files
from archscope.sources.decoding import LanguageModel
from archscope.sources.records import reason
from archscope.sources.spec import Spec

WIDTHS: dict[str, Fraction] = {  # bytes of an element
    **{name: Fraction(n) for name, n in BYTES.items() if not name.startswith(("q", "complex", "bool"))},
    "fp32": Fraction(4), "bf16": Fraction(2), "fp16": Fraction(2), "fp8": Fraction(1), "int4": Fraction(1, 2),
    "mxfp4": Fraction(17, 32),  # blocks of 32 numbers of 4 bits and a scale of 8
}  # fmt: skip


def width_of(dtype: str) -> Fraction:
    """Bytes of an element. Raises SpecError for a dtype that is not known."""
    if dtype not in WIDTHS:
        raise SpecError(unknown("dtype", dtype, WIDTHS))
    return WIDTHS[dtype]


def bits_of(dtype: str) -> int:
    """Bits of an element in a product: the scales of blocks are not multiplied, so mxfp4 has 4."""
    return int(width_of(dtype) * 8)


@dataclass(frozen=True)
class Setting:
    """How a language model is used. memory: bytes, for the largest context and batch. paged: cache in blocks of 16.

    source, image: as for `LanguageModel`. shorten: to the positions of the model, where it has fewer than the context.
    """

    context: int = 8192
    batch: int = 1
    dtype: str = "bf16"
    cache_dtype: str = "bf16"
    paged: bool = False
    memory: int | None = None
    source: int | None = None
    image: int | None = None
    shorten: bool = False

    def __post_init__(self) -> None:
        width_of(self.dtype)
        width_of(self.cache_dtype)


@dataclass(frozen=True)
class Figure:
    """One quantity. observed: of the run. derived: by a closed form. working: how it comes about."""

    key: str
    title: str
    unit: str
    observed: Any = None
    derived: Any = None
    working: str = ""

    @property
    def agrees(self) -> bool | None:
        """None where one of the two is unknown."""
        return None if self.observed is None or self.derived is None else self.observed == self.derived

    @property
    def value(self) -> Any:
        return self.derived if self.observed is None else self.observed


class Usage:
    """A language model in a setting: its records, its configuration, and the figures that they give."""

    def __init__(self, spec: str | Spec, setting: Setting, of_many: bool = False) -> None:
        self.model = LanguageModel(spec, source=setting.source, image=setting.image, of_many=of_many)
        self.config = self.model.config
        if decoder.is_encoder(self.config):
            raise SpecError(
                f"{self.model.spec.text} is an encoder, in which each token sees all others: it continues no text. "
                "@is_decoder=true makes it a decoder"
            )
        if setting.shorten and self.positions is not None:
            setting = replace(setting, context=min(setting.context, self.positions))
        self.setting = setting
        self.prefill: Trace = self.model.prefill(setting.context, setting.batch)
        self.decode = self.model.decode(setting.context, setting.batch) if self.model.has_cache else None
        self.source = self.model.source_rows(setting.context, setting.batch) if self.model.encodes else None
        self.layers = decoder.mixers(self.config)
        if self.layers is not None and self.source is not None:
            crosses = decoder.crosses(self.config, self.source)
            self.layers = [*self.layers, *crosses] if crosses else None
        own = self.model.adapter
        self.adapter = None if own is None else adapted(own, self.prefill)
        self.brought = generation.of_adapter(self.prefill)
        if isinstance(self.adapter, str) and not self.brought:
            raise SpecError(f"no closed form of an adapter knows its {self.adapter}, and peft is not installed")

        self.stored = stored_files(self.model.spec, self.model.model, totals(self.prefill)["params"])

    # ------------------------------------------------------------------------------------------------ memory

    @property
    def absent(self) -> Adapted | None:
        """An adapter that the run is without, because peft is not installed."""
        return self.adapter if isinstance(self.adapter, Adapted) and not self.brought else None

    @property
    def adapter_width(self) -> Fraction:
        """Bytes of a parameter of an adapter: it is not quantised."""
        return max(width_of(self.setting.dtype), Fraction(2))

    def weights(self) -> dict[Fraction, int]:
        """Bytes of a parameter -> how many there are, each once."""
        more = sum(p.tensor.numel for p in generation.parameters(self.prefill) if p.tensor.id in self.brought)
        base = totals(self.prefill)["params"] - more
        more += self.absent.added if self.absent else 0
        width = width_of(self.setting.dtype)
        if not more or width == self.adapter_width:
            return {width: base + more}
        return {width: base, self.adapter_width: more}

    def weight_bytes(self) -> int:
        """Every parameter once, in the dtype of the setting; those of an adapter in 16 bits at least."""
        return sum(_ceil(n * width) for width, n in self.weights().items())

    def cache_bytes(self, tokens: int, batch: int) -> int | None:
        """By the closed form."""
        if self.layers is None:
            return None
        elements = decoder.cache_elements(self.layers, tokens, batch, self.setting.paged)
        return _ceil(elements * width_of(self.setting.cache_dtype))

    def needs(self, tokens: int, batch: int) -> int:
        """Bytes of weights and cache. Activations and workspace come on top."""
        return self.weight_bytes() + (self.cache_bytes(tokens, batch) or 0)

    # ----------------------------------------------------------------------------------------------- figures

    def figures(self) -> list[Figure]:
        """All of them, in the order of the table."""
        return [
            *self._parameters(),
            *self._work(),
            *self._bits(),
            *self._cache(),
            *self._fits(),
            *self._intensity(),
            *self._training(),
        ]

    def _parameters(self) -> Iterable[Figure]:
        record, config = self.prefill, self.config
        total, split = totals(record)["params"], generation.parts(record)
        parts = " + ".join(f"{n:,} {part}" for part, n in split.items())
        if self.absent is not None:
            yield Figure("params", "Parameters", "", None, total + self.absent.added, f"{parts} + adapter")
        else:
            yield Figure("params", "Parameters", "", total, None, parts)
        for part, n in split.items():
            yield Figure(f"params_{part.split()[0].lower()}", f"· {part}", "", n)
        yield from self._trained()
        active = generation.active(record, config)
        how = generation.routing(record, config)
        experts = bool(generation.of_experts(record))
        if experts:
            working = "" if how is None else f"{total:,} − {how.params:,}·({how.experts} − {how.taken})/{how.experts}"
            yield Figure("active", "Active a token, with both tables", "", active and active.whole, None, working)
        word = "Active a token" if experts else "Parameters"
        yield Figure("active_without_input", f"{word}, without the input table", "", active and active.without_input)
        yield Figure("active_without_either", f"{word}, without table and head", "", active and active.without_either)
        step = record if self.decode is None else self.decode
        seen, closed = generation.matrices(step, config), decoder.closed_matrices(config)
        if closed is not None and self.brought:
            more = self.adapter.matrices if isinstance(self.adapter, Adapted) else None
            closed = None if more is None else closed + more
        yield Figure("matrices", "In matrices that a token meets", "", seen, closed)
        working = " + ".join(f"{n:,}·{width}" for width, n in self.weights().items())
        yield Figure("weight_bytes", f"Weights in {self.setting.dtype}", "B", self.weight_bytes(), None, working)
        for i, file in enumerate(self.stored):
            more = f"_{i + 1}" if i else ""
            yield Figure(f"stored_bytes{more}", "Weights as stored", "B", file.nbytes, None, file.file)
            width = None if file.bits is None else round(file.bits, 4)
            yield Figure(
                f"stored_bits{more}", "· bits a weight", "bit", width, None, "scales of packed weights included"
            )

    def _trained(self) -> Iterable[Figure]:
        """What is trained, and so stored in the file of an adapter. Nothing where every parameter is."""
        found = totals(self.prefill)
        closed = self.adapter if isinstance(self.adapter, Adapted) else None
        if self.adapter is None and found["trainable"] == found["params"]:
            return
        seen = None if self.absent else found["trainable"]
        figure = Figure(
            "trainable", "Trainable", "", seen, closed and closed.trainable, closed.working if closed else ""
        )
        yield figure
        if self.adapter is not None:
            stored = _ceil(figure.value * self.adapter_width)
            working = f"{figure.value:,}·{self.adapter_width}"
            yield Figure("adapter_bytes", "Adapter, stored in 16 bits or more", "B", None, stored, working)

    def _work(self) -> Iterable[Figure]:
        s, config = self.setting, self.config
        derived = generation.derived_macs(self.prefill, config, s.context, s.batch, self.decode, self.source)
        observed = generation.macs(self.prefill, config)
        causal = generation.causal_macs(self.prefill, config, self.decode)
        step = None if self.decode is None else generation.macs(self.decode, config)
        text = f"{s.context:,} tokens" + (f" of each of {s.batch}" if s.batch > 1 else "")
        yield Figure("prefill_macs", f"Prefill of {text}, full scores", "MAC", observed, derived and derived.prefill,
                     "matrices·T + Σ heads·(d_qk + d_v)·T²")  # fmt: skip
        yield Figure("prefill_causal_macs", f"Prefill of {text}, causal", "MAC", causal, derived and derived.causal,
                     "matrices·T + Σ heads·(d_qk + d_v)·T(T + 1)/2, of a window w only its pairs")  # fmt: skip
        latent = self.layers is not None and any(layer.expand for layer in self.layers)
        yield Figure("decode_macs", f"Decode behind {text}", "MAC", step, derived and derived.decode,
                     "matrices + Σ heads·(d_qk + d_v)·(T + 1)"
                     + (", and keys and values of T latents made anew" if latent else ""))  # fmt: skip

    def _bits(self) -> Iterable[Figure]:
        """Bit operations: MACs times the bits of both operands (Bayesian Bits, arXiv:2005.07093)."""
        s = self.setting
        step = None if self.decode is None else generation.macs(self.decode, self.config)
        if self.decode is None or step is None:
            return
        scores = sum(done.macs for i in generation.score_products(self.decode)
                     if (done := works(self.decode)[i]) is not None)  # fmt: skip
        taken = 32 if bits_of(s.dtype) == 32 else 16
        low = sum(done.macs for i, keys in generation.products(self.decode).items()
                  if self.brought.issuperset(keys) and (done := works(self.decode)[i]) is not None)  # fmt: skip
        wide = int(self.adapter_width * 8)
        base = step - scores - low
        count = taken * (base * bits_of(s.dtype) + low * wide + scores * bits_of(s.cache_dtype))
        adapter = f" + {wide}·{low:,}" if low else ""
        working = (
            f"{taken}-bit activations: {taken}·({bits_of(s.dtype)}·{int(base):,}{adapter} "
            f"+ {bits_of(s.cache_dtype)}·{scores:,}), weights{', adapter' if low else ''} and cache"
        )
        yield Figure("decode_bit_operations", "· in bit operations", "BOP", count, None, working)

    def _cache(self) -> Iterable[Figure]:
        s, layers = self.setting, self.layers
        elements = None if self.decode is None or s.paged else generation.cached_elements(self.decode) or None
        if self.config.get("model_type") in decoder.STATES_IN_MODEL:
            elements = None
        closed = None if layers is None else decoder.cache_elements(layers, s.context, s.batch, s.paged)
        kind = "" if layers is None else decoder.kinds_of(layers)
        formula = "" if layers is None else decoder.cache_formula(layers, s.paged)
        yield Figure("cache_elements", f"Cache{f' ({kind})' if kind else ''}", "numbers", elements, closed, formula)
        width = width_of(s.cache_dtype)
        seen, known = (None if n is None else _ceil(n * width) for n in (elements, closed))
        yield Figure("cache_bytes", f"Cache in {s.cache_dtype}", "B", seen, known)
        if layers is not None:
            last = decoder.cache_elements(layers, s.context + 1) - decoder.cache_elements(layers, s.context)
            most = sum(layer.elements for layer in layers if layer.source is None)
            yield Figure("cache_bytes_token", "· one more token of one text", "B", None, _ceil(last * width))
            yield Figure("cache_bytes_full", "· a token, were every layer full", "B", None, _ceil(most * width))

    def _fits(self) -> Iterable[Figure]:
        s = self.setting
        cache = self.cache_bytes(s.context, s.batch)
        both = None if cache is None else self.weight_bytes() + cache
        yield Figure("bytes", "Weights and cache", "B", None, both, "activations and workspace come on top")
        if s.memory is None or self.layers is None:
            return
        limit = 1 << 40
        context = decoder.largest(lambda n: self.needs(n, s.batch), s.memory, limit)
        batch = decoder.largest(lambda n: self.needs(s.context, n), s.memory, limit)
        room = f"weights and cache in {s.memory:,} B"
        yield Figure("largest_context", "Largest context, at most", "tokens", None,
                     None if context == limit else max(context, 0), room if context < limit else "no end")  # fmt: skip
        yield Figure("largest_batch", f"Largest batch of {s.context:,} tokens, at most", "texts", None,
                     None if batch == limit else max(batch, 0), room)  # fmt: skip

    def _intensity(self) -> Iterable[Figure]:
        """FLOPs a byte: each weight that is used is read once, the cache is written or read once, and nothing else."""
        s, record = self.setting, self.prefill
        causal = generation.causal_macs(record, self.config, self.decode)
        step = None if self.decode is None else generation.macs(self.decode, self.config)
        cache, how = self.cache_bytes(s.context, s.batch), generation.routing(record, self.config)
        active = generation.active(record, self.config)
        if cache is None or active is None or len(record.inputs) > 1 or self.absent:
            return
        everything = active.without_input + (how.idle if how else 0)
        some = everything
        if how is not None:
            some = everything - how.params + how.params * min(how.experts, how.taken * s.batch) // how.experts
        for key, title, macs, weights in (
            ("prefill_intensity", "Arithmetic intensity of prefill, at most", causal, everything),
            ("decode_intensity", "Arithmetic intensity of decode, at most", step, some),
        ):
            wider = sum(n * (width - width_of(s.dtype)) for width, n in self.weights().items())
            read = weights * width_of(s.dtype) + wider + cache
            found = None if macs is None else round(float(2 * macs / read), 2)
            yield Figure(key, title, "FLOP/B", None, found, "2·MACs / (weights + cache)")

    def _training(self) -> Iterable[Figure]:
        from archscope.peers.llm import conventions

        s = self.setting
        if self.absent is not None:
            return
        for one in conventions(self.prefill, self.config):
            if one.name in ("palm", "maxtext-causal"):
                key, title = f"training_{one.name.replace('-', '_')}", f"Training a token, {one.title}"
                each = None if one.flops is None else Fraction(one.flops, s.context * s.batch)
                yield Figure(key, title, "FLOP", None, each, one.formula)

    def table(self) -> Table:
        """One row a figure."""
        s = self.setting
        title = f"{self.prefill.model}: context {s.context:,}, batch {s.batch}, {s.dtype}, cache {s.cache_dtype}"
        rows = [
            {"key": f.key, "quantity": f.title, "value": _number(f.value), "unit": f.unit or None, "agrees": f.agrees,
             "observed": _number(f.observed), "derived": _number(f.derived), "working": f.working or None}
            for f in self.figures()
        ]  # fmt: skip
        return Table(title, COLUMNS, tuple(rows), self.notes, _made_with(self.prefill), hidden=HIDDEN)

    @property
    def positions(self) -> int | None:
        """How many positions the configuration has."""
        return decoder.number(
            self.config, "max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, and whether the context is longer than the model's positions."""
        most = self.positions
        longer = most is not None and self.setting.context > most
        note = (f"the configuration has {most:,} positions, fewer than the context",) if longer else ()
        note = (*note, *self.model.beyond)
        unknown = decoder.unrecognised(self.config)
        if unknown is not None:
            note = (*note, f"no closed form of the cache, because this is not recognised: {unknown}")
        elif self.layers is not None and (why := decoder.without_macs(self.config, self.layers)) is not None:
            note = (*note, f"no closed form of the MACs: {why}")
        elif generation.has_norms(self.prefill):
            note = (*note, "no closed form of the MACs: DoRA makes the norms of its weights anew in each run")
        if self.config.get("zero_expert_num"):
            note = (*note, "some experts do nothing, so how many parameters are active depends on the text")
        if self.config.get("model_type") in decoder.STATES_IN_MODEL:
            note = (*note, "the model keeps its states to itself, so the cache is derived and not observed")
        if self.absent is not None:
            note = (*note, "peft is not installed: MACs and cache are those of the model without the adapter")
        elif isinstance(self.adapter, str):
            note = (*note, f"no closed form of the adapter, because this is not recognised: {self.adapter}")
        return (*self.prefill.notes, *note, *(sentence for file in self.stored for sentence in file.notes))


COLUMNS = (
    Column("quantity", "Quantity"),
    Column("value", "Value", "count"),
    Column("unit", "Unit"),
    Column("agrees", "Agrees", "flag", priority=1, means=(
        "Agrees: the figure of the run equals that of the closed form; empty where only one of them is known."
    )),
    Column("working", "Working", priority=3),
)  # fmt: skip
HIDDEN = (Column("key", "Key"), Column("observed", "Observed", "count"), Column("derived", "Derived", "count"))


def _made_with(trace: Trace) -> str:
    return f"archscope {trace.versions['archscope']}, torch {trace.versions['torch']}."


def _ceil(value: Fraction | int) -> int:
    return -int(-Fraction(value) // 1)


def _whole(value: Any) -> Any:
    exact = Fraction(value)
    return int(exact) if exact.denominator == 1 else float(exact)


def _number(value: Any) -> Any:
    return _whole(value) if isinstance(value, Fraction) else value


# ------------------------------------------------------------------------------------------------------ side by side

_MANY = {  # the last number: what a narrow terminal leaves out first
    "params": ("Parameters", "count", 0),
    "active": ("Active", "count", 3),
    "weight_bytes": ("Weights", "bytes", 4),
    "prefill_causal_macs": ("Prefill MACs, causal", "scaled", 2),
    "decode_macs": ("Decode MACs", "scaled", 1),
    "cache_bytes": ("Cache", "bytes", 1),
    "cache_bytes_token": ("One more token", "count", 5),
}
MODEL_COLUMNS = (
    Column("model", "Model"),
    *(Column(key, title, form, priority=last) for key, (title, form, last) in _MANY.items()),
    Column("kind", "Kind of cache", priority=6),
    Column("agrees", "Agrees", "flag"),
)
MODEL_HIDDEN = (
    Column("active_without_input", "Active without input table", "count"),
    Column("active_without_either", "Active without tables", "count"),
    Column("matrices", "In matrices", "count"),
    Column("cache_elements", "Cached numbers", "count"),
    Column("trainable", "Trainable", "count"),
    Column("adapter_bytes", "Adapter", "bytes"),
    Column("prefill_macs", "Prefill MACs, full", "count"),
    Column("decode_bit_operations", "Decode bit operations", "count"),
    Column("bytes", "Weights and cache", "bytes"),
    Column("stored_bytes", "Weights as stored", "bytes"),
    Column("stored_bits", "Stored bits a weight"),
    Column("prefill_intensity", "Intensity of prefill"),
    Column("decode_intensity", "Intensity of decode"),
    Column("error", "Error"),
)


def model_row(spec: Spec, setting: Setting) -> Mapping[str, Any]:
    """One model of the table, with the reason under `error` where it cannot be run."""
    try:
        usage = Usage(spec, setting, of_many=True)
        figures = {figure.key: figure for figure in usage.figures()}
    except (ArchscopeError, RuntimeError) as error:
        return {"model": spec.text, "error": reason(error)}
    row = {key: _number(figure.value) for key, figure in figures.items()}
    row.setdefault("active", row["params"])
    agree = [figure.agrees for figure in figures.values() if figure.agrees is not None]
    kind = "" if usage.layers is None else decoder.kinds_of(usage.layers)
    said = [sentence for file in usage.stored for sentence in file.notes]
    return {**row, "model": spec.text, "kind": kind or None, "agrees": all(agree) if agree else None, "notes": said}


def models_table(specs: Iterable[Spec], setting: Setting) -> Table:
    """Language models side by side, in one setting."""
    rows = tuple(model_row(spec, setting) for spec in specs)
    said = ((row, [row["error"]] if row.get("error") else row.get("notes", ())) for row in rows)
    notes = tuple(f"{row['model']}: {sentence}" for row, sentences in said for sentence in sentences)
    s = setting
    title = f"Language models: context {s.context:,}, batch {s.batch}, {s.dtype}, cache {s.cache_dtype}"
    return Table(title, MODEL_COLUMNS, rows, notes, hidden=MODEL_HIDDEN)
