"""What the configuration of a decoder says of it: how each layer mixes tokens, what it caches, how experts are chosen.

A configuration is a mapping of plain values under the names of transformers: `num_key_value_heads`, `head_dim`,
`layer_types`, `kv_lora_rank`. What is not recognised is None, never a guess. No model is run and no record is read:
these are closed forms, to be held against what a run shows (`analysis/generation.py`).
"""

from typing import Any, NamedTuple

from archscope.analysis.states import Config, convolution_elements, number, state_elements


class Mixer(NamedTuple):
    """How one layer mixes tokens.

    kind: "full", "sliding", "chunked", "latent", "constant" (a state, whatever the length), "full and state", "cross"
    (of an encoder's rows) or "none". elements: cached a token. window: how many tokens a query sees at most, its own
    with them; None: all. Of a chunked layer it is the length of a chunk, before which nothing is seen. pair: MACs of
    one query and one key, all heads, scores and weighted values: heads·(d_qk + d_v). expand: MACs to make the keys and
    values of one cached token of its latent. source: rows of an encoder, which every query sees, whatever the length of
    the text. state: elements that do not grow with the text. masked: the window is a mask over all rows, which are
    cached and multiplied.
    """

    kind: str
    elements: int = 0
    window: int | None = None
    pair: int = 0
    expand: int = 0
    source: int | None = None
    state: int = 0
    masked: bool = False

    def rows(self, tokens: int, paged: bool = False) -> int:
        """Cached tokens after `tokens`: a window of w keeps w − 1 for the next. paged: w, and whole blocks of 16."""
        seen = tokens if self.source is None else self.source
        if self.window is not None and not self.masked:
            seen = min(tokens, self.window - (not paged))
        return -(-seen // BLOCK) * BLOCK if paged else seen

    def cached(self, tokens: int, paged: bool = False) -> int:
        """Elements in the cache after `tokens` tokens."""
        return self.state + self.elements * self.rows(tokens, paged)

    def seen(self, tokens: int) -> int:
        """How many tokens the last of `tokens` is multiplied with."""
        if self.source is not None:
            return self.source
        return tokens if self.window is None or self.masked else min(tokens, self.window)

    def pairs(self, tokens: int) -> int:
        """Pairs of a query and a key that it may see, in a text: Σ seen(t), t = 1…tokens, fewer where it is masked."""
        if self.source is not None:
            return tokens * self.source
        if self.kind == "chunked" and self.window is not None:
            whole, rest = divmod(tokens, self.window)
            return whole * (self.window * (self.window + 1) // 2) + rest * (rest + 1) // 2
        w = min(tokens, self.window or tokens)
        return w * (w + 1) // 2 + (tokens - w) * w


BLOCK = 16  # tokens of a block of a paged cache, as vLLM has by default

_FULL = ("full_attention", "attention", "indexed_attention", "global")
_SLIDING = ("sliding_attention",)
_CHUNKED = ("chunked_attention",)
_LINEAR = ("linear_attention", "mamba", "mamba2")
_MASKED = ("local",)  # GPT-Neo: a window that is a mask
STATES_IN_MODEL = ("recurrent_gemma",)  # its states are attributes of its layers, and not in the cache
_BOTH = ("hybrid", "hybrid_sliding")  # attention and a state side by side
_NONE = ("moe", "mlp")
_OTHER = ("xlnet", "reformer")  # they cache otherwise
# their attention has other products than queries with keys and weights with values
_OTHER_PRODUCTS = ("diffllama", "doge", "big_bird", "hrm_text", "prophetnet")
NOT_CAUSAL = ("prophetnet",)  # streams of several tokens ahead see more than the tokens before them
_ENCODERS = (  # each token sees all others, unless `is_decoder` is set
    "bert bert-generation big_bird camembert data2vec-text "
    "electra ernie roberta roberta-prelayernorm roc_bert xlm-roberta "
    "xlm-roberta-xl xmod"
).split()
# fields by which layers differ in ways that no closed form here knows
_MORE = ("global_head_dim", "swa_head_dim", "attention_k_eq_v")
_EVERY_EXPERT = ("llama4_text",)  # transformers multiplies each token by every expert


def mixers(config: Config) -> list[Mixer] | None:
    """Each layer's mixer in order; None where the configuration is not recognised."""
    found = _mixers(config)
    return None if isinstance(found, str) else found


def unrecognised(config: Config) -> str | None:
    """What of a configuration no closed form of the cache knows, by its name; None where all is recognised."""
    found = _mixers(config)
    return found if isinstance(found, str) else None


def without_macs(config: Config, layers: list[Mixer]) -> str | None:
    """Why MACs have no closed form though the cache has; None where they have one."""
    if config.get("altup_num_inputs") is not None:
        return "altup_num_inputs"
    if config.get("index_head_dim") is not None and any(layer.kind == "latent" for layer in layers):
        return "index_head_dim"
    if config.get("model_type") in _OTHER_PRODUCTS:
        return f"the attention of {config['model_type']} has other products"
    if config.get("model_type") in _EVERY_EXPERT:
        return "transformers runs every expert on every token"
    return "layers with a state" if any(layer.state for layer in layers) else None


def _mixers(config: Config) -> list[Mixer] | str:
    kind, layers = config.get("model_type"), number(config, "num_hidden_layers", "n_layer", "num_layers")
    layers = len(config.get("layer_types") or ()) or None if layers is None else layers
    if kind in _OTHER:
        return f"model_type {kind!r}"
    if is_encoder(config):
        return f"model_type {kind!r} without is_decoder"
    if (more := next((key for key in _MORE if config.get(key)), None)) is not None:
        return more
    if layers is None:
        return "the number of layers"
    kinds = layer_types(config, layers)
    if kinds is None:
        return f"layer_types that are not {layers}"
    beside = config.get("cross_attention_layers") or ()  # Mllama: layers that attend to an image, and not to the text
    made = [_beside(config) if i in beside else _mixer(of_layer(config, i), one) for i, one in enumerate(kinds)]
    if None in made:
        return f"layers of type {kinds[made.index(None)]!r}" + (f" of model_type {kind!r}" if kind else "")
    shared = number(config, "num_kv_shared_layers") or 0  # the last layers read the keys and values of earlier ones
    return [m._replace(elements=0) if i >= layers - shared else m for i, m in enumerate(made) if m is not None]


def _beside(config: Config) -> Mixer | None:
    """A layer that attends to the rows of an image; with none it is left out."""
    rows, heads, sizes = number(config, "cross_rows"), heads_of(config), head_sizes(config)
    if rows is None or heads is None or sizes is None:
        return None
    groups, key, value = sizes
    return Mixer("cross", groups * (key + value), None, heads * (key + value), source=rows) if rows else Mixer("none")


def of_layer(config: Config, layer: int) -> Config:
    """The configuration of one layer, where `per_layer_config` says that it differs."""
    own = config.get("per_layer_config") or {}
    differs = next((own[key] for key in (layer, str(layer), f"{layer:02}", f"{layer:03}") if key in own), None)
    return {**config, **differs} if isinstance(differs, dict) else config


def is_encoder(config: Config) -> bool:
    """Whether each token sees all others, so that no text is continued."""
    return config.get("model_type") in _ENCODERS and not config.get("is_decoder")


def crosses(config: Config, source: int | None) -> list[Mixer]:
    """What each layer of a decoder adds for the rows of an encoder. Empty without one, and where it is not known."""
    layers, heads, sizes = number(config, "num_hidden_layers"), heads_of(config), head_sizes(config)
    if source is None or layers is None or heads is None or sizes is None:
        return []
    _, key, value = sizes
    return [Mixer("cross", heads * (key + value), None, heads * (key + value), source=source)] * layers


_SPARSE = ("longt5", "led", "bigbird_pegasus", "pegasus_x")  # their encoders do not see all of the source


def encoder_scores(config: Config, source: int) -> int | None:
    """MACs of scores and weighted values of an encoder that reads `source` tokens. None where it is not recognised."""
    own = config.get("encoder") or {}
    layers, heads, sizes = number(own, "num_hidden_layers"), heads_of(own), head_sizes(own)
    if layers is None or heads is None or sizes is None or config.get("model_type") in _SPARSE:
        return None
    return layers * heads * (sizes[1] + sizes[2]) * source * source


def layer_types(config: Config, layers: int | None) -> list[str] | None:
    """The type of each layer: as listed, else sliding windows where a window is set, else full attention."""
    listed = config.get("layer_types") or config.get("layers_block_type") or config.get("attention_layers")
    if listed:
        return list(listed) if len(listed) == layers else None
    if layers is None or config.get("attention_chunk_size"):
        return None
    if any(key in config for key in ("state_size", "ssm_state_size")) and "num_attention_heads" not in config:
        return ["mamba"] * layers
    if config.get("model_type") in ("rwkv", "xlstm"):
        return ["linear_attention"] * layers
    period, offset = number(config, "attn_layer_period"), number(config, "attn_layer_offset")
    if period and offset is not None:
        return ["attention" if i % period == offset else "mamba" for i in range(layers)]
    return ["sliding_attention" if config.get("sliding_window") else "full_attention"] * layers


def heads_of(config: Config) -> int | None:
    """Query heads."""
    return number(config, "num_attention_heads", "n_head", "n_heads", "num_heads")


def head_sizes(config: Config) -> tuple[int, int, int] | None:
    """Heads of keys and values, width of a key, width of a value: `head_dim` is its own field where it is given."""
    heads, hidden = heads_of(config), number(config, "hidden_size", "n_embd", "d_model")
    if heads is None or hidden is None:
        return None
    width = number(config, "head_dim", "kv_channels")
    if width is None and hidden % heads:
        return None
    width = width or hidden // heads
    inner = config.get("attn_config") or {}  # DBRX
    groups = number(inner, "kv_n_heads") or number(config, "num_key_value_heads", "num_kv_heads") or heads
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        groups = 1
    return groups, width, number(config, "v_head_dim") or width


def _mixer(config: Config, kind: str) -> Mixer | None:
    if kind in _NONE:
        return Mixer("none")
    if kind in _LINEAR or kind == "conv":
        state = convolution_elements(config) if kind == "conv" else state_elements(config)
        return None if state is None else Mixer("constant", state=state)
    if kind in _BOTH:
        attention = _mixer(config, "sliding_attention" if kind == "hybrid_sliding" else "full_attention")
        state = state_elements(config)
        return attention and state and attention._replace(kind=f"{attention.kind} and state", state=state) or None
    heads = heads_of(config)
    if kind not in _FULL + _SLIDING + _CHUNKED + _MASKED or heads is None:
        return None
    window = None
    if kind not in _FULL:
        field = {**dict.fromkeys(_CHUNKED, "attention_chunk_size"), **dict.fromkeys(_MASKED, "window_size")}
        window = number(config, field.get(kind, "sliding_window"))
        if window is None:
            return None
    latent = number(config, "kv_lora_rank")
    if latent is not None:
        rope, nope = number(config, "qk_rope_head_dim"), number(config, "qk_nope_head_dim")
        value = number(config, "v_head_dim")
        if rope is None or nope is None or value is None:
            return None
        expand, indexed = latent * heads * (nope + value), kind not in _SLIDING  # an indexer keeps keys of its own
        keys = number(config, "index_head_dim") or 0 if indexed else 0
        return Mixer("latent", latent + rope + keys, window, heads * (nope + rope + value), expand)
    sizes = head_sizes(config)
    if sizes is None:
        return None
    groups, key, value = sizes
    if config.get("model_type") == "mimo_v2_flash" and kind in _SLIDING:
        groups *= 2  # layers with a window have twice the heads of keys (modeling_mimo_v2_flash.py)
    if config.get("new_decoder_architecture"):
        groups = heads  # keys and values are broadcast to all heads before they are cached (modeling_falcon.py)
    masked = kind in _MASKED or window == 1  # of which transformers keeps `rows[-1 + 1:]`, and that is all
    name = "full" if window is None or masked else "chunked" if kind in _CHUNKED else "sliding"
    return Mixer(name, groups * (key + value), window, heads * (key + value), masked=masked)


# ------------------------------------------------------------------------------------------------------- sums


def cache_elements(layers: list[Mixer], tokens: int, batch: int = 1, paged: bool = False) -> int:
    """Elements of the whole cache after `tokens` tokens of each of `batch` texts."""
    return batch * sum(layer.cached(tokens, paged) for layer in layers)


def kinds_of(layers: list[Mixer]) -> str:
    """ "full", "sliding", …, or "hybrid: 12 full, 12 sliding"."""
    names = [layer.kind for layer in layers if layer.kind not in ("none", "cross")]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    cross = " and cross" if any(layer.kind == "cross" for layer in layers) else ""
    if len(counts) == 1:
        return next(iter(counts)) + cross
    return f"hybrid: {', '.join(f'{n} {name}' for name, n in counts.items())}{cross}"


def cache_formula(layers: list[Mixer], paged: bool = False) -> str:
    """The cache of one text of T tokens, in elements: "24·1024·T + 24·1024·min(T, 127)"."""
    counts: dict[Mixer, int] = {}
    for layer in layers:
        if layer.elements or layer.state:
            counts[layer] = counts.get(layer, 0) + 1
    terms = []
    for layer, n in counts.items():
        rows = "·T"
        if layer.source is not None:
            rows = f"·{layer.rows(0, paged)}"
        elif layer.window is not None and not layer.masked:
            rows = f"·min(T, {layer.window - (not paged)})"
        if layer.elements:
            terms.append(f"{n}·{layer.elements}{rows}")
        if layer.state:
            terms.append(f"{n}·{layer.state}")
    return " + ".join(terms) + (f", T in blocks of {BLOCK}" if paged else "")


def experts_per_token(config: Config) -> int | None:
    """How many experts a token takes."""
    names = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k")
    return number(config, *names) or number(config.get("ffn_config") or {}, *names)


def largest(cost: Any, most: int, limit: int = 1 << 40) -> int:
    """The largest n ≥ 0 with cost(n) ≤ most, for a cost that never falls; `limit` where there is no end."""
    if cost(0) > most:
        return -1
    low, high = 0, 1
    while high < limit and cost(high) <= most:
        low, high = high, high * 2
    if high >= limit and cost(limit) <= most:
        return limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= most else (low, middle)
    return low


# ------------------------------------------------------------------------------------------------------- matrices

# how many matrices an MLP has, by `model_type`: with a gate three, without two. No field of a configuration says it.
_GATED = (
    "llama mistral ministral3 mixtral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3_text olmo olmo2 olmo3 olmoe "
    "deepseek_v2 deepseek_v3 granite smollm3 seed_oss exaone4 cohere cohere2 stablelm phi3 glm4_moe gpt_oss minimax_m2 "
    "ernie4_5 helium phimoe bitnet vaultgemma cwm flex_olmo qwen2_vl_text qwen2_5_vl_text qwen3_vl_text"
)
_PLAIN = "gpt2 gpt_neox gptj gpt_bigcode opt phi starcoder2 falcon mpt bloom nemotron arcee apertus nanochat"
MLP_MATRICES: dict[str, int] = {**dict.fromkeys(_GATED.split(), 3), **dict.fromkeys(_PLAIN.split(), 2)}


def closed_matrices(config: Config, every_expert: bool = False) -> int | None:
    """Parameters in matrices, without tables but with the head, from the configuration alone.

    every_expert: all of them, not the k that a token takes. None where the configuration is not recognised.
    """
    hidden, words = number(config, "hidden_size", "n_embd", "d_model"), number(config, "vocab_size")
    layers = number(config, "num_hidden_layers", "n_layer", "num_layers")
    each, kinds = MLP_MATRICES.get(str(config.get("model_type"))), layer_types(config, layers)
    attention = _attention_matrices(config)
    if kinds is None or set(kinds) - {*_FULL, *_SLIDING}:
        return None
    if not (hidden and words and layers and each and attention):
        return None
    table = number(config, "word_embed_proj_dim") or hidden  # OPT-350m: projected to and from a narrow table
    total = words * table + layers * attention + (2 * table * hidden if table != hidden else 0)
    experts = number(config, "num_local_experts", "n_routed_experts", "num_experts")
    inner = number(config, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * hidden
    if config.get("model_type") == "olmoe" or experts is None:
        moe_inner = inner
    else:
        moe_inner = number(config, "moe_intermediate_size") or inner
    taken = experts if every_expert else experts_per_token(config)
    for layer in range(layers):
        if experts is None or not _has_experts(config, layer):
            total += each * hidden * inner
            continue
        if taken is None:
            return None
        total += hidden * experts + taken * each * hidden * moe_inner
        shared = number(config, "shared_expert_intermediate_size")
        total += each * hidden * (shared or moe_inner * (number(config, "n_shared_experts") or 0))
        total += hidden if shared else 0  # its own gate
    return total


def _has_experts(config: Config, layer: int) -> bool:
    if layer < (number(config, "first_k_dense_replace") or 0) or layer in (config.get("mlp_only_layers") or ()):
        return False
    return (layer + 1) % (number(config, "decoder_sparse_step") or 1) == 0


def _attention_matrices(config: Config) -> int | None:
    """Parameters of queries, keys, values and output of one layer."""
    hidden, heads, sizes = number(config, "hidden_size", "n_embd", "d_model"), heads_of(config), head_sizes(config)
    latent = number(config, "kv_lora_rank")
    if hidden is None or heads is None or sizes is None:
        return None
    if latent is not None:
        rope, nope, value = (number(config, f"{name}_head_dim") or 0 for name in ("qk_rope", "qk_nope", "v"))
        query, low = heads * (rope + nope), number(config, "q_lora_rank")
        queries = hidden * query if low is None else low * (hidden + query)
        return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden
    groups, key, value = sizes
    return hidden * (heads * (key + value) + groups * (key + value))
