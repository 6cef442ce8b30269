"""What a language model costs, read from the records of a prompt and of one more token behind a cache.

Every function is pure: of records (`Trace`) and of the plain configuration that `analysis/decoder.py` reads.
"""

import re
from fractions import Fraction
from math import prod
from typing import NamedTuple

from archscope.analysis.decoder import (
    NOT_CAUSAL,
    Config,
    Mixer,
    crosses,
    encoder_scores,
    experts_per_token,
    mixers,
    without_macs,
)
from archscope.analysis.metrics import totals
from archscope.analysis.observed import cached, works
from archscope.analysis.states import number
from archscope.core.record import Layer, Op, Param, Tensor, Trace

PARTS: tuple[str, ...] = (
    "embedding", "attention", "state", "MLP", "experts", "router", "head", "image", "norms and others", "adapter",
    "replaced by the adapter",
)  # fmt: skip

ADAPTER = re.compile(r"(^|\.)(lora_\w+|modules_to_save)(\.|$)")  # parameters that an adapter of peft brings
_WRAPPED = re.compile(r"\.(base_layer|original_module|modules_to_save\.[^.]+)(?=\.|$)")

_EXPERTS = re.compile(r"^(|.*\.)experts(\.|$)(expert_)?(\d+\b)?")  # its groups: where they are, which one it is
_ROUTER = re.compile(r"(^|\.)(router|gate|classifier)(\.|$)")
_STATE = re.compile(r"(^|\.)(temporal_block|mamba|mixer|linear_attn|ssm|time_mix\w*|rglru|short_conv|conv)(\.|$)")
_ATTENTION = re.compile(
    r"(^|[._])(attn|att|self_att|self_attn|\w*attention|temporal_block\.[qkvo]_proj)(\.|$|_)", re.IGNORECASE
)
_CROSS = re.compile(r"(^|[._])(encoder_attn|EncDecAttention|cross_?attn|cross_?attention)(\.|$)", re.IGNORECASE)
_IMAGE = re.compile(
    r"(^|\.)(vision\w*|visual|image\w*|multi_?modal_projector|connector|aligner|embed_vision|qformer)(\.|$)"
)
_NORM = re.compile(r"(^|[._])(norm|layernorm|layer_norm|ln|ln_\w+|\w*norm\w*)([._]|\d|$)")


def parameters(trace: Trace) -> list[Param]:
    """Each parameter once, under its first name."""
    return list({p.tensor.id: p for p in reversed(trace.params)}.values())[::-1]


@cached
def looked_up(trace: Trace) -> frozenset[int]:
    """Ids of the tensors that are tables: an embedding looks rows up in them."""
    return frozenset(op.inputs[0].id for op in trace.ops if op.name == "aten.embedding" and op.inputs)


@cached
def _owners(trace: Trace) -> dict[int, int]:
    """Of each parameter, view of one, and choice of rows of one by a router: the id of the parameter."""
    home = {p.tensor.id: p.tensor.id for p in trace.params}
    for op in trace.ops:
        taken = op.name in ("aten.index", "aten.index_select") and op.inputs and op.inputs[0].id in home
        if op.inputs and (taken or all(t.id in home for t in op.inputs)):
            home.update((t.id, home[op.inputs[0].id]) for t in op.outputs)
    return home


@cached
def products(trace: Trace) -> dict[int, list[int]]:
    """Operators that multiply by parameters: index -> ids of the parameters."""
    home, out = _owners(trace), {}
    for i, (op, done) in enumerate(zip(trace.ops, works(trace), strict=True)):
        factors = _factors(op)
        owned = [home[t.id] for t in factors if t.id in home]
        if done is not None and done.macs and owned and len(owned) < len(factors):
            out[i] = owned
    return out


@cached
def multiplied(trace: Trace) -> frozenset[int]:
    """Ids of the parameters that activations are multiplied by, through views of them too."""
    return frozenset(key for keys in products(trace).values() for key in keys)


def _factors(op: Op) -> list[Tensor]:
    """The tensors that an operator multiplies, without those that it adds."""
    added = ("bias", "self") if op.name in ("aten.addmm", "aten.baddbmm", "aten.addbmm") else ("bias",)
    apart = {value.id for key in added if isinstance(value := op.args.get(key), Tensor)}
    return [t for t in op.inputs if t.id not in apart]


def plain_name(name: str) -> str:
    """The name of a parameter as it is without an adapter around its module."""
    return _WRAPPED.sub("", name)


@cached
def of_experts(trace: Trace) -> dict[int, Param]:
    """The parameters of routed experts by id: each expert's own, or all in one tensor, beside a router (JetMoE)."""
    routers = {name.rpartition(".router.")[0] for p in trace.params if ".router." in (name := plain_name(p.name))}
    found = {}
    for param in parameters(trace):
        name, axes = plain_name(param.name), len(param.tensor.shape)
        where = _EXPERTS.search(name)
        if where is not None and (where[4] or axes > 1 and ".router." not in name):
            found[param.tensor.id] = param
        elif axes == 3 and name.rpartition(".")[0].rpartition(".")[0] in routers:
            found[param.tensor.id] = param
    return found


@cached
def of_adapter(trace: Trace) -> frozenset[int]:
    """Ids of the parameters that an adapter brings: low ranks, and modules that are trained whole."""
    return frozenset(p.tensor.id for p in trace.params if ADAPTER.search(p.name))


def part_of(trace: Trace, param: Param) -> str:
    """The part that a parameter belongs to, one of PARTS. A table that is also the head counts as embedding."""
    name, key = plain_name(param.name), param.tensor.id
    if ".lora_" in param.name:
        return "adapter"
    if ".original_module." in param.name:
        return "replaced by the adapter"
    if _IMAGE.search(name):
        return "image"
    if key in looked_up(trace):
        return "embedding"
    if key in of_experts(trace):
        return "experts"
    module = name.rpartition(".")[0]
    inside = bool(re.search(r"\.\d+\.", name))
    if not inside and len(param.tensor.shape) == 2 and key in multiplied(trace) or module.endswith("lm_head"):
        return "head"
    if _NORM.search(module.rpartition(".")[2]) or not inside:
        return "norms and others"
    if _ROUTER.search(name) and len(param.tensor.shape) <= 2 and "gate_proj" not in name:
        return "router"
    if _ATTENTION.search(name):
        return "attention"
    return "state" if _STATE.search(name) else "MLP"


@cached
def parts(trace: Trace) -> dict[str, int]:
    """Parameters by part; they add up to all of them."""
    out: dict[str, int] = dict.fromkeys(PARTS, 0)
    for param in parameters(trace):
        out[part_of(trace, param)] += param.tensor.numel
    return {name: n for name, n in out.items() if n}


# ------------------------------------------------------------------------------------------------------- experts


class Routing(NamedTuple):
    """experts: in a layer. taken: of these by one token. params: of all routed experts, of all layers."""

    experts: int
    taken: int
    params: int

    @property
    def idle(self) -> int:
        """Parameters of the experts that one token does not take."""
        return self.params - self.params * self.taken // self.experts


def expert_count(trace: Trace, config: Config) -> int | None:
    """Experts of a layer: how many modules `experts.0`, `experts.1`, … are, or the leading axis of their weights; where
    that is no axis of its own, as configured. None without experts, and where layers differ."""
    numbers: dict[str, set[str]] = {}
    for param in of_experts(trace).values():
        if (where := _EXPERTS.search(plain_name(param.name))) and where[4]:
            numbers.setdefault(where[1], set()).add(where[4])
    leading = {p.tensor.shape[0] for p in of_experts(trace).values() if len(p.tensor.shape) == 3}
    counts = {len(found) for found in numbers.values()} or leading
    if not counts and of_experts(trace):
        return number(config.get("ffn_config") or {}, "moe_num_experts")  # DBRX
    return counts.pop() if len(counts) == 1 else None


def routing(trace: Trace, config: Config) -> Routing | None:
    """How experts are chosen; None where there are none, or where it is not known how many a token takes: with experts
    that do nothing (LongCat) the text decides."""
    count = expert_count(trace, config)
    taken = None if config.get("zero_expert_num") else experts_per_token(config) or _top_k(trace)
    if count is None or taken is None:
        return None
    return Routing(count, taken, sum(p.tensor.numel for p in of_experts(trace).values()))


def _top_k(trace: Trace) -> int | None:
    """The k of the routers' choice as the run shows it, where it is one number."""
    found = {op.args.get("k") for op in trace.ops if op.name == "aten.topk"}
    return found.pop() if len(found) == 1 else None


class ActiveParameters(NamedTuple):
    """Parameters that one token uses, in the three conventions.

    whole: with both tables. without_input: without the table that tokens are looked up in, unless it is the head too.
    without_either: without table and head.
    """

    whole: int
    without_input: int
    without_either: int


def active(trace: Trace, config: Config) -> ActiveParameters | None:
    """Active parameters. None where experts are there and nobody says how many a token takes."""
    total = totals(trace)["params"] - parts(trace).get("replaced by the adapter", 0)
    if of_experts(trace):
        how = routing(trace, config)
        if how is None:
            return None
        total -= how.idle
    tables = [p for p in parameters(trace) if p.tensor.id in looked_up(trace)]
    either = sum(p.tensor.numel for p in tables) + parts(trace).get("head", 0)
    alone = sum(p.tensor.numel for p in tables if p.tensor.id not in multiplied(trace))
    return ActiveParameters(total, total - alone, total - either)


def matrices(trace: Trace, config: Config) -> int | None:
    """Parameters that each token is multiplied by: all matrices but tables, of the experts those that it takes."""
    used = [p for p in parameters(trace) if p.tensor.id in multiplied(trace)]
    dense = sum(p.tensor.numel for p in used if p.tensor.id not in of_experts(trace))
    routed = sum(p.tensor.numel for p in used if p.tensor.id in of_experts(trace))
    if not routed:
        return dense
    how = routing(trace, config)
    return None if how is None else dense + routed * how.taken // how.experts


# ---------------------------------------------------------------------------------------------------------- MACs


@cached
def score_products(trace: Trace) -> dict[int, str]:
    """The products of softmax attention, queries with keys and weights with values: index of the operator -> path."""
    holders: list[Layer | None] = [None] * len(trace.ops)
    for layer in trace.layers:
        holders[layer.start : layer.stop] = [layer] * (layer.stop - layer.start)
    softmax = {id(holders[i]) for i, op in enumerate(trace.ops) if op.name in ("aten.softmax", "aten._softmax")}
    out = {}
    for i, (op, done) in enumerate(zip(trace.ops, works(trace), strict=True)):
        holder = holders[i]
        if holder is None or done is None or not done.macs or i in products(trace):
            continue
        if op.name == "aten.scaled_dot_product_attention" or id(holder) in softmax:
            out[i] = holder.path
    return out


def macs(trace: Trace, config: Config) -> int | Fraction | None:
    """MACs of a record. Experts whose number of tokens depends on values take their expected share: k of E each.

    None where an operator is unknown, or where it is not known how many experts a token takes.
    """
    if any(done is None for done in works(trace)) or config.get("zero_expert_num"):
        return None
    total = totals(trace)["macs"]
    largest = _upper_bounds(trace)
    if not largest:
        return total
    how = routing(trace, config)
    if how is None:
        return None
    sizes = {p.tensor.id: p.tensor.numel for p in trace.params}
    first = trace.inputs[0]
    tokens = first.numel if first.dtype.startswith("int") else prod(first.shape[:-1])
    done = sum(works(trace)[i].macs for i in largest)  # type: ignore[union-attr]
    numbers = sum(sizes[key] for keys in largest.values() for key in keys)
    return total - done + Fraction(numbers * tokens * how.taken, how.experts)


def _upper_bounds(trace: Trace) -> dict[int, list[int]]:
    """The products of experts that ran on the largest number of tokens that could be theirs."""
    if not any("taken at their largest" in note for note in trace.notes):
        return {}
    experts = of_experts(trace).keys()
    return {i: keys for i, keys in products(trace).items() if not experts.isdisjoint(keys)}


def causal_macs(prefill: Trace, config: Config, decode: Trace | None = None) -> int | Fraction | None:
    """MACs of a prompt where each query meets only the keys that it may see. None where a window is not known.

    decode: the step behind the prompt. What does not run there, an encoder or what reads an image, is not causal.
    """
    layers, full = mixers(config), macs(prefill, config)
    tokens = prefill.inputs[0].shape[-1]
    if layers is None or full is None or config.get("model_type") in NOT_CAUSAL:
        return None
    steps = None if decode is None else {*score_products(decode).values()}
    for index, path in score_products(prefill).items():
        if steps is not None and path not in steps or _CROSS.search(path):
            continue
        layer = _layer_of(path, layers)
        if layer is None:
            return None
        done = works(prefill)[index]
        assert done is not None
        full -= done.macs - Fraction(done.macs * layer.pairs(tokens), tokens * tokens)
    return int(full) if full == int(full) else full


def _layer_of(path: str, layers: list[Mixer]) -> Mixer | None:
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return layers[int(found[1])] if found and int(found[1]) < len(layers) else None


def has_norms(trace: Trace) -> bool:
    """Whether an adapter (DoRA) multiplies its matrices in every run, for the norms of the weights."""
    return any(".lora_magnitude_vector." in p.name for p in trace.params)


class Derived(NamedTuple):
    """MACs by closed forms: matrices·tokens + Σ over layers of heads·(d_qk + d_v)·pairs. None: not derived."""

    prefill: int | None
    causal: int | None
    decode: int


def derived_macs(
    trace: Trace, config: Config, tokens: int, batch: int = 1, decode: Trace | None = None, source: int | None = None
) -> Derived | None:
    """Of a prompt of `tokens` and of one token behind them. None for layers with a state, and what is not recognised.

    A model with a latent cache makes keys and values of every cached token anew, as transformers runs it.
    decode: the step behind the prompt, which tells what a token of the text meets, and what an encoder's rows or an
    image meet. source: rows of the encoder. The prompt of a model that reads an image or a sound is not derived.
    """
    layers, each = mixers(config), matrices(trace if decode is None else decode, config)
    if layers is None or each is None or without_macs(config, layers) is not None or has_norms(trace):
        return None
    n, cross = tokens, crosses(config, source)
    alone = len(trace.inputs) == 1
    before: int | None = 0 if alone else _of_source(trace, config, each, source)
    if source is not None and not cross:
        return None
    return Derived(
        None if before is None else batch * (each * n + before + sum(m.pair * m.seen(n) * n for m in cross)
                                             + sum(layer.pair for layer in layers) * n * n),
        None if before is None else batch * (each * n + before + sum(m.pair * m.pairs(n) for m in (*layers, *cross))),
        batch * (each + sum(m.pair * m.seen(n + 1) + m.expand * n for m in (*layers, *cross))),
    )  # fmt: skip


def _of_source(trace: Trace, config: Config, each: int, source: int | None) -> int | None:
    """MACs of what an encoder makes of one text, keys and values for the decoder with it. None for other sources."""
    all_of_it, ids = matrices(trace, config), trace.inputs[1]
    if source is None or all_of_it is None or ids.dtype != "int64" or ids.shape[-1] != source:
        return None
    scores = encoder_scores(config, source)
    return None if scores is None else (all_of_it - each) * source + scores


# --------------------------------------------------------------------------------------------------------- cache


def cached_tensors(decode: Trace) -> list[Param]:
    """The cached tensors that hold numbers of the text: those of whole numbers count tokens."""
    return [one for one in decode.cache if one.tensor.dtype.startswith(("float", "bfloat")) and one.tensor.shape]


def cached_elements(decode: Trace) -> int:
    """Elements of the cache that a step was given."""
    return sum(one.tensor.numel for one in cached_tensors(decode))
