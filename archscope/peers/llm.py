"""How frameworks count the FLOPs of training a language model, each as a function of record and configuration.

A convention counts forward and backward of all tokens of the record's input. T is the length of a text, H the number of
query heads, Q the width of a head, L the number of layers with attention, N a number of parameters that differs between
them, and that is where they differ most.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from archscope.analysis import decoder, generation
from archscope.analysis.decoder import Config
from archscope.analysis.metrics import totals
from archscope.analysis.observed import works
from archscope.core.record import Trace
from archscope.core.registry import Registry
from archscope.core.table import Column, Table
from archscope.sources.decoding import LanguageModel
from archscope.sources.spec import Spec


class Convention(NamedTuple):
    """A convention's figure. params: its N. attention: what it adds for the scores. flops: both, for all tokens.

    source: where it is defined. note: why there is no figure.
    """

    name: str
    title: str
    flops: int | None
    params: int | None
    attention: int
    formula: str
    source: str
    note: str = ""


class _Case(NamedTuple):
    record: Trace
    config: Config

    @property
    def tokens(self) -> int:
        return self.record.inputs[0].numel

    @property
    def length(self) -> int:
        return self.record.inputs[0].shape[-1]

    @property
    def total(self) -> int:
        return totals(self.record)["params"]

    @property
    def macs(self) -> int:
        return totals(self.record)["macs"]

    def scores(self, factor: int) -> int | None:
        """factor·L·H·Q·T a token, times all tokens; L counts the layers that have attention."""
        layers, heads, sizes = decoder.mixers(self.config), decoder.heads_of(self.config), _width(self.config)
        if layers is None or heads is None or sizes is None:
            return None
        attending = sum(layer.pair > 0 for layer in layers)
        return int(Fraction(factor * attending * heads * sizes * self.length, 2)) * self.tokens


def _width(config: Config) -> int | None:
    """Twice the width of a head: that of a key and that of a value."""
    rope, nope = decoder.number(config, "qk_rope_head_dim"), decoder.number(config, "qk_nope_head_dim")
    value = decoder.number(config, "v_head_dim")
    if rope is not None and nope is not None and value is not None:
        return rope + nope + value
    sizes = decoder.head_sizes(config)
    return None if sizes is None else sizes[1] + sizes[2]


_Count = Callable[[_Case], "tuple[int | None, int | None]"]  # N, and the FLOPs of the scores
CONVENTIONS: Registry[tuple[str, str, str, int, _Count]] = Registry("convention")


def _convention(name: str, title: str, formula: str, source: str, factor: int = 6) -> Callable[[_Count], _Count]:
    def enter(count: _Count) -> _Count:
        CONVENTIONS.add(name, (title, formula, source, factor, count))
        return count

    return enter


@_convention("2n", "2N: a forward pass", "2·N·tokens, N all parameters", "arXiv:2001.08361, section 2.1", factor=2)
def _two(case: _Case) -> tuple[int | None, int | None]:
    return case.total, 0


@_convention("6n", "6N", "6·N·tokens, N all parameters", "arXiv:2001.08361, section 2.1; arXiv:2203.15556")
def _six(case: _Case) -> tuple[int | None, int | None]:
    return case.total, 0


@_convention("palm", "PaLM", "6·N + 12·L·H·Q·T a token, N all parameters", "arXiv:2204.02311, appendix B")
def _palm(case: _Case) -> tuple[int | None, int | None]:
    return case.total, case.scores(12)


@_convention("nanogpt", "nanoGPT", "6·N + 12·L·H·Q·T a token, N without biases, as its models have none",
             "karpathy/nanoGPT transformer_sizing.ipynb")  # fmt: skip
def _nanogpt(case: _Case) -> tuple[int | None, int | None]:
    params = generation.parameters(case.record)
    return case.total - sum(p.tensor.numel for p in params if p.name.endswith("bias")), case.scores(12)


@_convention("torchtitan", "torchtitan", "6·N + 12·L·H·Q·T a token, N active, without the input table",
             "pytorch/torchtitan, get_dense/moe_model_nparams_and_flops")  # fmt: skip
def _torchtitan(case: _Case) -> tuple[int | None, int | None]:
    active = generation.active(case.record, case.config)
    return active and active.without_input, case.scores(12)


def _in_matrices(case: _Case, router: bool = True) -> int | None:
    n = generation.matrices(case.record, case.config)
    return n if router or n is None else n - generation.parts(case.record).get("router", 0)


@_convention("maxtext", "MaxText, full scores", "6·N + 12·L·H·Q·T a token, N in the matrices that a token meets",
             "AI-Hypercomputer/maxtext, calculate_tflops_training_per_device")  # fmt: skip
def _maxtext(case: _Case) -> tuple[int | None, int | None]:
    return _in_matrices(case), case.scores(12)


@_convention("maxtext-causal", "MaxText, causal", "6·N + 6·L·H·Q·T a token, N in the matrices that a token meets",
             "AI-Hypercomputer/maxtext, calculate_tflops_training_per_device")  # fmt: skip
def _maxtext_causal(case: _Case) -> tuple[int | None, int | None]:
    return _in_matrices(case), case.scores(6)


@_convention("megatron", "Megatron-LM, full scores", "6·N + 12·L·H·Q·T a token, N in matrices without routers",
             "NVIDIA/Megatron-LM, num_floating_point_operations")  # fmt: skip
def _megatron(case: _Case) -> tuple[int | None, int | None]:
    return _in_matrices(case, router=False), case.scores(12)


@_convention("megatron-causal", "Megatron-LM, causal", "6·N + 6·L·H·Q·T a token, N in matrices without routers",
             "NVIDIA/Megatron-LM, num_floating_point_operations")  # fmt: skip
def _megatron_causal(case: _Case) -> tuple[int | None, int | None]:
    return _in_matrices(case, router=False), case.scores(6)


@_convention("transformers", "transformers, floating_point_ops", "6·N·tokens, N without tables, all experts",
             "huggingface/transformers, Trainer.floating_point_ops")  # fmt: skip
def _transformers(case: _Case) -> tuple[int | None, int | None]:
    tables = generation.looked_up(case.record)
    return sum(p.tensor.numel for p in generation.parameters(case.record) if p.tensor.id not in tables), 0


def conventions(record: Trace, config: Config) -> list[Convention]:
    """Every convention's figure for the record of a prompt."""
    case, found = _Case(record, config), []
    one_text, frozen = len(record.inputs) == 1, totals(record)["trainable"] < case.total
    for name, (title, formula, source, factor, count) in CONVENTIONS.items():
        params, scores = count(case) if one_text and not (frozen and factor == 6) else (None, None)
        known = params is not None and scores is not None
        flops = factor * params * case.tokens + scores if params is not None and scores is not None else None
        why = "the configuration is not recognised" if one_text else "it reads more than one text"
        why = "frozen parameters get no gradient, and it counts one for each" if frozen else why
        note = "" if known else why
        found.append(Convention(name, title, flops, params, scores or 0, formula, source, note))
    return found


def other_counts(record: Trace, key: str) -> Iterator[tuple[str, int]]:
    """What is counted for a language model otherwise: of parameters (key "params") or of multiply-adds ("macs")."""
    scores = generation.score_products(record)
    if not scores or not record.inputs or not record.inputs[0].dtype.startswith("int"):
        return
    case, active = _Case(record, {}), generation.active(record, {})
    n, tokens, length = generation.matrices(record, {}), case.tokens, case.length
    if key == "params" and active is not None:
        if generation.routing(record, {}) is not None:
            yield "active a token, with both tables", active.whole
            yield "active a token, without the input table", active.without_input
            yield "active a token, without table and head", active.without_either
        else:
            yield "without the input table", active.without_input
            yield "without table and head", active.without_either
    if key == "macs" and n is not None:
        pairs = sum(done.macs for i in scores if (done := works(record)[i]) is not None)
        half = int(Fraction(pairs * (length + 1), 2 * length))
        yield "with the causal half of the scores", case.macs - pairs + half
        for title, count in (("a token", 1), ("the text", tokens)):
            yield f"N of {title}: matrices without scores", n * count
            yield f"3N of {title}, as MACs: training, 6N FLOPs, without scores", 3 * n * count
        yield "3 forward passes: training", 3 * case.macs


def residual(one: Convention, model: Any, tokens: int) -> int | None:
    """The figure of the tool itself less the convention's, where the tool runs here; None where it does not.

    transformers: `Trainer.floating_point_ops` is 6·tokens·model.num_parameters(exclude_embeddings=True).
    """
    count = getattr(model, "num_parameters", None)
    if one.name != "transformers" or count is None or one.flops is None:
        return None
    return 6 * tokens * count(exclude_embeddings=True) - one.flops


COLUMNS = (
    Column("title", "Convention"),
    Column("flops", "FLOPs", "count"),
    Column("params", "N", "count"),
    Column("attention", "For the scores", "count", priority=1),
    Column("residual", "Residual", "count", priority=2, means=(
        "FLOPs: of forward and backward of all tokens. Residual: the tool's own figure less this one, where it ran."
    )),
    Column("formula", "Formula", priority=3),
)  # fmt: skip
HIDDEN = (Column("key", "Key"), Column("source", "Source"), Column("note", "Note"))


def conventions_table(
    spec: Spec, context: int, batch: int, source: int | None = None, image: int | None = None
) -> Table:
    """What each convention says that training on `batch` texts of `context` tokens costs, of one model.

    source, image: as for `LanguageModel`.
    """
    model = LanguageModel(spec, source=source, image=image)
    record = model.prefill(context, batch)
    found = conventions(record, model.config)
    measured = generation.macs(record, model.config), generation.causal_macs(record, model.config)
    rows: list[dict[str, Any]] = [
        {"key": key, "title": title, "flops": None if macs is None else 2 * macs, "formula": "2·MACs of the record"}
        for key, title, macs in zip(("forward", "forward-causal"), FORWARD, measured, strict=True)
    ]
    rows += [
        {**one._asdict(), "key": one.name, "residual": residual(one, model.model, context * batch)}
        | ({"attention": None} if one.flops is None else {})
        for one in found
    ]
    unknown = dict.fromkeys(one.note for one in found if one.note)
    notes = (*record.notes, *(f"conventions without a figure: {why}" for why in unknown))
    title = f"FLOPs of training: {spec.text}, {batch} × {context:,} tokens"
    return Table(title, COLUMNS, tuple(rows), notes, hidden=HIDDEN)


FORWARD = ("archscope: the forward pass, full scores", "archscope: the forward pass, causal")
