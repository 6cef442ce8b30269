"""Questions about a language model: its cache, the parameters that a token uses, FLOPs of training, a causal prompt.

The right figures and the usual mistakes are those of `peers/llm_figures.py`, by which `verify-table` judges.
"""

from fractions import Fraction
from typing import NamedTuple

from archscope.analysis import decoder, generation
from archscope.analysis.generation import score_products
from archscope.core.errors import ArchscopeError
from archscope.core.record import Trace
from archscope.peers.llm_figures import answer, known, rights
from archscope.peers.printed_table import cell_of

FIGURE = "figure"
FEW = "write three digits or more"


class LanguageQuestion(NamedTuple):
    """A question. heading: as a table would print it; it names the unit. given: what is known. truth: in the unit."""

    heading: str
    given: str
    truth: str


def asked(trace: Trace) -> list[LanguageQuestion]:
    """The questions about a language model that have an answer; none of another network."""
    reads = bool(trace.inputs) and trace.inputs[0].dtype.startswith("int") and score_products(trace)
    if not reads:
        return []
    try:
        config, record = known(trace.model)
    except (ArchscopeError, RuntimeError):  # it is no decoder, or the record of one run
        return []
    if decoder.is_encoder(config):
        return []
    most = decoder.number(config, "max_position_embeddings", "n_positions", "max_seq_len")
    tokens = min(most or 8192, 8192)
    headings = (
        "KV cache a token, 16 bits (bytes)",
        f"KV cache at {tokens:,} tokens, 16 bits (bytes)",
        "Active parameters a token",
        f"Causal MACs of a prompt of {min(tokens, 1024):,} tokens",
        "Training FLOPs a token",
    )
    out = []
    for heading in headings:
        try:
            count = rights(cell_of(heading, "0"), trace.model)[0][0]
        except ArchscopeError:  # no closed form
            continue
        truth = f"{count:,}"
        if " at " in heading:  # the memory of a text is said in larger units
            unit, power = next(
                (unit, n) for unit, n in (("GiB", 3), ("MiB", 2), ("KiB", 1)) if count >= 1024**n or n == 1
            )
            heading, truth = heading.replace("bytes", unit), f"{count / 1024**power:,.3f}"
        out.append(LanguageQuestion(heading, _sizes(config, record), truth))
    return out


def _sizes(config: decoder.Config, record: Trace) -> str:
    """The sizes that a student needs and that no layer of the sheet shows."""
    layers, heads, sizes = decoder.mixers(config), decoder.heads_of(config), decoder.head_sizes(config)
    latent, rope = decoder.number(config, "kv_lora_rank"), decoder.number(config, "qk_rope_head_dim")
    how = generation.routing(record, config)
    window = {layer.window for layer in layers or () if layer.window is not None}
    parts = [
        f"layers: {len(layers)}, {decoder.kinds_of(layers)}" if layers else "",
        f"a latent of {latent} and {rope}" if latent else "",
        f"{heads} heads, {sizes[0]} of keys and values, of {sizes[1]} features"
        if heads and sizes and not latent
        else "",
        f"window {window.pop()}" if len(window) == 1 else "",
        f"{how.taken} of {how.experts} experts" if how else "",
    ]
    return "; ".join(filter(None, parts))


def missed(model: str, heading: str, text: str) -> str | None:
    """What an answer gets wrong, "" where no rule gives it; None where it is right."""
    cell = cell_of(heading, text)
    if not cell.readings:
        return "this is no number: write 34944 or 34,944"
    last = cell.readings[-1]  # without a unit it is in units of one
    judged = answer(cell._replace(readings=(last,)), model)
    if judged.verdict == "agrees":
        rounding = last[1]
        coarse = rounding.high - rounding.low > Fraction(max(judged.counted, 1), 100)
        return FEW if coarse and rounding.value != judged.counted else None
    return judged.mistake
