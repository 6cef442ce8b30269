"""Printed figures of language models: KV cache, active parameters, FLOPs of training and of a prompt; usual mistakes.

Cache and causal prompts are closed forms of the configuration (`analysis/decoder.py`), active parameters and N of the
record. A
mistake is a figure worked out by a wrong rule. It is looked at only where no right rule gives the printed digits.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from math import log
from typing import NamedTuple

from archscope.analysis import decoder, generation
from archscope.analysis.decoder import Config
from archscope.analysis.metrics import totals
from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.peers.printed_table import PrintedCell
from archscope.peers.published import Rounded
from archscope.sources.decoding import LanguageModel

QUANTITIES = ("cache", "active", "training", "causal")
PROMPT = 16  # tokens of the record: parameters do not depend on it
Count = Fraction | int


class FigureSetting(NamedTuple):
    """What a figure is of. tokens: in the cache, or of a text. width: bytes of a cached number. record: a prompt's."""

    config: Config
    record: Trace
    tokens: int = 1
    width: int = 2

    def cache(self, paged: bool = False, **changed: int | bool | None) -> int:
        """Bytes of the cache of one text, in another configuration where one is given. SpecError: not recognised."""
        config = {**self.config, **changed}
        layers = decoder.mixers(config)
        if layers is None or config.get("is_encoder_decoder"):
            why = decoder.unrecognised(config) or "the source that the encoder reads"
            raise SpecError(f"no closed form of the cache knows {why}")
        return self.width * decoder.cache_elements(layers, self.tokens, paged=paged)

    @property
    def prompt(self) -> generation.Derived:
        """MACs of a prompt. Raises SpecError where no closed form has them."""
        found = generation.derived_macs(self.record, self.config, self.tokens)
        if found is None or found.prefill is None or self.config.get("is_encoder_decoder"):
            raise SpecError("no closed form has the MACs of its prompt")
        return found

    @property
    def params(self) -> int:
        return totals(self.record)["params"]

    @property
    def active(self) -> generation.ActiveParameters:
        """Raises SpecError where it is not known how many experts a token takes."""
        found = generation.active(self.record, self.config)
        if found is None:
            raise SpecError("it is not known how many experts a token takes")
        return found


Mistake = Callable[[FigureSetting], Iterable[Count]]
MISTAKES: dict[str, Registry[Mistake]] = {name: Registry("mistake") for name in QUANTITIES}


# ------------------------------------------------------------------------------------------------------------ cache


@MISTAKES["cache"].register("attention heads in the place of key–value heads")
def _every_head(case: FigureSetting) -> Iterator[int]:
    heads = decoder.heads_of(case.config)
    if heads is not None:
        yield case.cache(num_key_value_heads=heads, multi_query=False)


@MISTAKES["cache"].register("head_dim taken as hidden/heads: the configuration has its own")
def _head_of_hidden(case: FigureSetting) -> Iterator[int]:
    heads, hidden = decoder.heads_of(case.config), decoder.number(case.config, "hidden_size", "n_embd", "d_model")
    if heads and hidden and decoder.number(case.config, "head_dim") is not None:
        yield case.cache(head_dim=hidden // heads)


@MISTAKES["cache"].register("the sliding window forgotten")
def _no_window(case: FigureSetting) -> Iterator[int]:
    case.cache()
    layers = [layer._replace(window=None) for layer in decoder.mixers(case.config) or ()]
    yield case.width * decoder.cache_elements(layers, case.tokens)


# ----------------------------------------------------------------------------------------------- active parameters


@MISTAKES["active"].register("every expert counted as active: a token takes a few")
def _every_expert(case: FigureSetting) -> Iterator[int]:
    if generation.routing(case.record, case.config) is not None:
        yield case.params


@MISTAKES["active"].register("the whole model scaled by the share of experts: attention and tables are not shared out")
def _scaled(case: FigureSetting) -> Iterator[Count]:
    how = generation.routing(case.record, case.config)
    if how is not None:
        yield Fraction(case.params * how.taken, how.experts)


# --------------------------------------------------------------------------------------------------- training FLOPs


def _sizes(case: FigureSetting) -> Iterator[tuple[int, str]]:
    """What N may be."""
    yield case.params, "all parameters"
    yield case.active.whole, "active parameters"
    yield case.active.without_input, "active parameters without the input table"
    yield case.active.without_either, "active parameters without table and head"
    matrices = generation.matrices(case.record, case.config)
    if matrices is not None:
        yield matrices, "parameters in matrices that a token meets"


@MISTAKES["training"].register("2ND for 6ND: the forward pass alone, without the backward")
def _forward(case: FigureSetting) -> Iterator[int]:
    yield from (2 * n * case.tokens for n, _ in _sizes(case))


# --------------------------------------------------------------------------------------------- MACs of a causal prompt


@MISTAKES["causal"].register("the causal half forgotten: a token sees those before it alone")
def _full(case: FigureSetting) -> Iterator[int]:
    yield from filter(None, [case.prompt.prefill])


# ---------------------------------------------------------------------------------------------------------- judging


class FigureVerdict(NamedTuple):
    """verdict: "agrees", "explained" or "disagrees". counted: the right figure. because: in words, mistake too."""

    verdict: str
    value: Fraction
    counted: int
    because: str
    mistake: str = ""


def belongs(cell: PrintedCell, record: Trace) -> bool:
    """Whether a figure is of a language model: it reads tokens and attends. A causal figure names their number too."""
    reads = bool(record.inputs) and record.inputs[0].dtype.startswith("int") and generation.score_products(record)
    return bool(reads) and (cell.quantity != "causal" or tokens_of(cell.heading) > 1)


def elsewhere(cell: PrintedCell) -> str:
    """What such a column holds of another network: a quantity of `peers/printed_table.py`; "" where it has none."""
    of_prompt = "flops" if "flop" in cell.heading.lower() else "macs"
    return {"active": "params", "training": "flops", "causal": of_prompt}.get(cell.quantity, "")


def answer(cell: PrintedCell, spec: str) -> FigureVerdict:
    """A figure of QUANTITIES judged, of the model with its head. Raises SpecError where the right one is not known."""
    case, right = _case(cell, spec), rights(cell, spec)
    for count, because in right:
        if (match := _match(cell, count)) is not None:
            return FigureVerdict("agrees", match.value, count, because)
    counted, of = right[0]
    near = min((one.value for _, one in cell.readings), key=lambda value: abs(log(max(value, 1) / max(counted, 1))))
    apart = f"{float(near / counted):.3g} times {counted:,}" if counted else "there is none"
    for mistake, count in _wrong(cell, case):
        if (match := _match(cell, count)) is not None:
            why = f"{apart} ({of}); {mistake}: {int(count):,}"
            return FigureVerdict("explained", match.value, counted, why, mistake)
    return FigureVerdict("disagrees", near, counted, f"{apart} ({of})")


def rights(cell: PrintedCell, spec: str) -> list[tuple[int, str]]:
    """The figures that are right under a heading, the first as it is shown. Raises SpecError where they are unknown."""
    right = list(_right(cell.quantity, _case(cell, spec)))
    if cell.quantity == "causal" and elsewhere(cell) == "flops":
        macs, because = right[0]
        right = [(2 * macs, because.replace("MACs", "FLOPs"))]
    return right


def _case(cell: PrintedCell, spec: str) -> FigureSetting:
    tokens = tokens_of(cell.heading, 1000 if cell.quantity == "training" else 1024)
    return FigureSetting(*known(spec), tokens, width_of(cell.heading))


def _right(quantity: str, case: FigureSetting) -> Iterator[tuple[int, str]]:
    """The figures that are right, each with the convention that it follows; the first is the one that is shown."""
    tokens = f"{case.tokens:,} token{'s' if case.tokens > 1 else ''}"
    if quantity == "cache":
        yield case.cache(), f"bytes of {tokens}, {case.width} a number"
        if case.tokens > 1:
            yield case.cache(paged=True), f"bytes of {tokens}, {case.width} a number, in blocks of {decoder.BLOCK}"
    elif quantity == "causal":
        assert case.prompt.causal is not None
        yield case.prompt.causal, f"MACs of a prompt of {tokens}, causal"
    elif quantity == "active":
        looked_up = "the input table is looked up, not multiplied"
        yield case.active.without_input, "active without the input table"
        yield case.active.without_either, "active without table and head"
        yield case.active.whole, f"embeddings counted as active, as Mixtral and Qwen3 count: {looked_up}"
    else:
        yield from ((6 * n * case.tokens, f"6ND of {tokens}, N {what}") for n, what in _sizes(case))


def _wrong(cell: PrintedCell, case: FigureSetting) -> Iterator[tuple[str, Count]]:
    """Mistakes and what they give: of one rule, of the unit, of a rule and the unit."""
    made = [(name, count) for name, make in MISTAKES[cell.quantity].items() for count in make(case)]
    if cell.quantity == "causal" and elsewhere(cell) == "flops":
        made = [(name, 2 * count) for name, count in made]
        yield "MACs in a column of FLOPs", case.prompt.causal or 0
    yield from made
    if cell.quantity == "cache":
        worth = cell.readings[0][0]
        power, binary = _power(worth)
        if power:
            factor = Fraction(1000, 1024) ** (-power if binary else power)
            letter = " KMGT"[power]
            said, meant = (f"{letter}iB", f"{letter}B") if binary else (f"{letter}B", f"{letter}iB")
            unit = f"{said} for {meant}: a {letter}iB is 1,024{f'^{power}' if power > 1 else ''} bytes"
            yield unit, case.cache() * factor
            yield from ((f"{name}, and {unit}", count * factor) for name, count in made)


def _power(worth: int) -> tuple[int, bool]:
    """The power of 1,000 or of 1,024 that a unit is, and whether of 1,024."""
    return next((n, base == 1024) for base in (1000, 1024) for n in range(5) if base**n == worth)


def _match(cell: PrintedCell, count: Count) -> Rounded | None:
    return next((value for _, value in cell.readings if value.holds(count)), None)


@functools.lru_cache(maxsize=16)
def known(spec: str) -> tuple[Config, Trace]:
    """The configuration of a language model, and the record of a short prompt. Raises what building and running do."""
    model = LanguageModel(spec)
    return model.config, model.prefill(PROMPT)


def width_of(heading: str) -> int:
    """Bytes of a cached number: 2, where the heading names no type of another width."""
    named = re.search(r"\b(?:fp|float|int)(8|16|32)\b", heading.lower())
    return int(named[1]) // 8 if named else 2


def tokens_of(heading: str, thousand: int = 1024) -> int:
    """How many tokens a heading names: `KV cache at 8,192 tokens`, `(32K context)`, `@ 4096`, `15T tokens`; else 1.

    thousand: what a K is worth.
    """
    number = r"(\d[\d,]*(?:\.\d+)?)\s*([kmbt]?)"
    found = re.search(
        rf"{number}[ -]*(?:tokens?|context|ctx)\b|(?:@|\bat|\bT\s*=)\s*{number}\b", heading, re.IGNORECASE
    )
    if found is None:
        return 1
    digits, letter = (found[1], found[2]) if found[1] else (found[3], found[4])
    worth = {"": 1, "k": thousand, "m": 10**6, "b": 10**9, "t": 10**12}[letter.lower()]
    return int(Fraction(digits.replace(",", "")) * worth)
