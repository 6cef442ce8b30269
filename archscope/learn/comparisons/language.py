"""Language models: queries that share keys and values, the cache, the causal half, and 2N and 6N."""

from collections.abc import Iterator, Sequence

from archscope.analysis import generation
from archscope.analysis.generation import score_products
from archscope.analysis.metrics import totals
from archscope.core.document import Equation, Section
from archscope.core.expression import product, symbols
from archscope.core.record import Trace
from archscope.learn.comparisons.base import ComparedRow, Instance, comparison, sum_of


@comparison("Keys and values that queries share")
def shared_keys(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """g heads of keys serve h heads of queries: the cache shrinks to g/h, the scores cost what they cost."""
    projections = {one.row.path: one for one in items if one.kind == "Linear"}
    for index, path in score_products(trace).items():
        op = trace.ops[index]
        query, key, value = (projections.get(f"{path}.{name}_proj") for name in "qkv")
        if not op.args.get("is_causal") or query is None or key is None or value is None:
            continue
        d, length = op.inputs[0].shape[-1], op.inputs[0].shape[-2]
        wide, narrow = query.config["out_features"], key.config["out_features"]
        if wide % d or narrow % d or op.inputs[1].shape[-2] != length or value.config["out_features"] != narrow:
            continue
        h, g, width, t = symbols(h=wide // d, g=narrow // d, d=d, T=length)
        whole = product(2, h, width)
        shared = product(2, g, width)
        full = product(2, h, width, t, t)
        half = product(h, width, t, t + 1)
        lines = (
            Equation("numbers cached a token", shared),
            Equation("with keys for each query head", whole),
            Equation("cached for the text", product(2, g, width, t)),
            Equation("scores and sums, all pairs", full),
            Equation("scores and sums, causal", half),
        )
        hidden = query.config["in_features"]
        notes = [
            "A query sees itself and what stands before it: T(T + 1)/2 pairs of T². Many programs compute all of them.",
            "A window of w tokens caches no more than w rows, however long the text.",
            "In bytes it is twice as many in 16 bits. A GiB is 1,073,741,824 bytes, a GB 1,000,000,000.",
        ]
        if hidden != wide:
            notes.append(
                f"A head has {d} features, which the configuration says; {hidden}/{wide // d} is another number."
            )
        about = f"{wide // d} heads of queries share {narrow // d} heads of keys and values."
        yield Instance((path,), Section(path, (about,), lines, tuple(notes)))


@comparison("What a token costs: 2N and 6N")
def costs_of_a_token(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """2N FLOPs forward and 6N in training, N being the matrices that a token meets; the scores come on top."""
    scores = score_products(trace)
    first = trace.inputs[0] if trace.inputs else None
    if not scores or first is None or len(first.shape) != 2 or not first.dtype.startswith("int"):
        return
    n, macs, tokens = generation.matrices(trace, {}), generation.macs(trace, {}), first.numel
    if n is None or not isinstance(macs, int) or macs <= n * tokens:
        return
    (count,) = symbols(N=n)
    lines = (
        Equation("parameters", sum_of(matrices=n, others=totals(trace)["params"] - n)),
        Equation("FLOPs of a token, forward", 2 * count),
        Equation("FLOPs of a token, training", 6 * count),
        Equation("FLOPs of the text, forward", sum_of(matrices=2 * n * tokens, scores=2 * (macs - n * tokens))),
    )
    notes = (
        "A table that tokens are looked up in multiplies nothing and is not in N; the head is. Papers differ in this.",
        "The backward pass has two products for each of the forward, for weights and for inputs: 6N and not 2N.",
        "FLOPs are twice the MACs.",
    )
    yield Instance(("",), Section(trace.model, (), lines, notes))


@comparison("Parameters that a token uses")
def active(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """Of E experts a token takes k: active are all parameters but those of the others."""
    how, found = generation.routing(trace, {}), generation.active(trace, {})
    if not score_products(trace) or how is None or found is None:
        return
    whole, routed, e, k = symbols(all=totals(trace)["params"], routed=how.params, E=how.experts, k=how.taken)
    lines = [Equation("active, with all tables", whole - routed * (e - k) / e)]
    if found.without_input != found.whole:
        one, table = symbols(active=found.whole, table=found.whole - found.without_input)
        lines.append(Equation("active, without the input table", one - table))
    notes = (
        "Papers count in both ways: Mixtral and Qwen3 with the tables, gpt-oss without the input table.",
        "The memory is that of all parameters: which experts a token takes is not known before.",
        "Attention, norms and tables are not shared out: all parameters times k/E is another number.",
    )
    about = f"{how.experts} experts in a layer, of which a token takes {how.taken}."
    yield Instance(("",), Section(trace.model, (about,), tuple(lines), notes))
