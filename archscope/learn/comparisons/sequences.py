"""The gates of recurrent layers, projections and scores of attention."""

from collections.abc import Iterator, Sequence

from archscope.core.document import Equation, Section
from archscope.core.expression import Number, product, symbol, symbols
from archscope.core.record import Trace
from archscope.layers import LAYERS, derive
from archscope.learn.comparisons.base import ComparedRow, Instance, comparison, sum_of


@comparison("The gates of a recurrent layer")
def gates(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """One gate is an fc layer over input and state; a GRU has three, an LSTM four."""
    for one in items:
        names = LAYERS[one.kind].gates if one.kind in LAYERS else ()
        if not names or not one.check.agrees:
            continue
        config = one.config
        i, h = symbols(**{"in": config["input_size"], "h": config["hidden_size"]})
        if config.get("proj_size"):
            continue
        weights = h * (i + h)
        gate = weights + 2 * h if config["bias"] else weights
        count = symbol("gates", len(names))
        tail = "Cell" if one.kind.endswith("Cell") else ""
        alone = {**config, "num_layers": 1, "bidirectional": False}
        lines = [Equation("one gate", gate), Equation("all gates", count * gate)]
        for name in ("RNN", "GRU", "LSTM"):
            derived = derive(f"{name}{tail}", alone, tuple(t.shape for t in one.row.inputs[:1]))
            assert derived is not None
            lines.append(Equation(f"as {name}", derived.params))
        notes = ["PyTorch keeps two biases a gate, one for the input and one for the state; many texts count one."]
        if not config["bias"]:
            notes = []
        layers, directions = config.get("num_layers", 1), 1 + bool(config.get("bidirectional"))
        if layers > 1:
            notes.append(
                f"This is the first of {layers} layers; the others read what the one below gives: "
                f"{directions}·{h.value} = {directions * h.value} features."
            )
        if directions > 1:
            notes.append("Two directions: all of this twice, once for each.")
        many = "gates" if count.value > 1 else "gate"
        about = f"{count.value} {many} ({', '.join(names)}), each a fully connected layer over input and state."
        yield Instance((one.row.path,), Section(one.row.path or trace.model, (about,), tuple(lines), tuple(notes)))


@comparison("Projections and scores of attention")
def attention(trace: Trace, items: Sequence[ComparedRow]) -> Iterator[Instance]:
    """Four projections cost 4·l·e², scores and sums 2·l·s·e; the number of heads is in neither."""
    for one in items:
        if one.kind != "MultiheadAttention" or not one.check.agrees or len(one.row.inputs) < 3:
            continue
        config = one.config
        if (config["kdim"], config["vdim"]) != (config["embed_dim"],) * 2 or config.get("add_bias_kv"):
            continue
        query, key = one.row.inputs[0].shape, one.row.inputs[1].shape
        at = 1 if config["batch_first"] and len(query) == 3 else 0
        l, s, e = symbols(l=query[at], s=key[at], e=config["embed_dim"])  # noqa: E741  (the letters of the paper)
        n: tuple[Number, ...] = (symbol("N", query[1 - at]),) if len(query) == 3 and query[1 - at] != 1 else ()
        projections = product(*n, 2 * l * e * e + 2 * s * e * e) if n else 2 * l * e * e + 2 * s * e * e
        scores = product(*n, 2, l, s, e)
        if projections.value + scores.value != int(one.derived.macs):
            continue
        heads = config["num_heads"]
        lines = (
            Equation("projections", projections),
            Equation("scores and sums", scores),
            Equation("together", sum_of(projections=projections.value, scores=scores.value)),
            Equation("parameters", one.derived.params),
            Equation("features of a head", e / symbol("heads", heads)),
        )
        notes = (
            f"{heads} heads of {e.value}/{heads} features cost what one head of {e.value} costs.",
            "The scores grow with l·s: with as many keys as queries they pass the projections beyond "
            f"l = 2·e = {2 * e.value}.",
        )
        yield Instance((one.row.path,), Section(one.row.path, (), lines, notes))
