"""Why others have other numbers for a training step: FlopCounterMode, 3 × forward, 6N and its relatives.

Each account begins at archscope's MACs of the step, forward and backward, as the record of the step has them.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from archscope.analysis import generation
from archscope.analysis.metrics import totals
from archscope.analysis.observed import works
from archscope.analysis.training import layer_indices, phase_of, training_macs
from archscope.core.record import Op, Trace
from archscope.peers.accounts import Account, AccountItem, Counter, Ledger
from archscope.peers.llm import conventions
from archscope.peers.reconcile import NOT_RUN, Reconciled, ToolResult
from archscope.sources.guard import user_code
from archscope.sources.inputs import Text
from archscope.sources.loading import loaded
from archscope.sources.records import reason
from archscope.sources.spec import Spec

TWICE = "each multiply-add counted as two operations"


def step_reconciled(
    spec: Spec, record: Trace, input: Text = None, batch: int | None = None
) -> tuple[int, list[Reconciled]]:
    """MACs of a model's training step, and the accounts of others.

    record: of the forward. Raises what `load` and `trace_step` raise.
    """
    from archscope.tracing.step import trace_step

    model, arguments, named = loaded(spec, input, batch)
    with spec.source.running(spec.name), user_code():
        step = trace_step(model, arguments, named, name=spec.text)
        try:
            told = ToolResult(counted(model, arguments, named), version=step.versions.get("torch", ""))
        except Exception as error:
            told = ToolResult(None, reason(error))
    thrice = ToolResult(3 * totals(record)["macs"])
    found = [Reconciled(TORCH, told, flop_counter(step)), Reconciled(THRICE, thrice, three_forwards(step))]
    return training_macs(step), [*found, *language_model(spec, record, step, model)]


# ---------------------------------------------------------------------------------------------------- FlopCounterMode


def flop_counter(step: Trace) -> Account:
    """What PyTorch's FlopCounterMode says of forward and backward.

    `conv_backward_flop` of torch 2.14 takes the weight's gradient for a convolution of the input with the gradient, all
    channels with all: of g groups it counts g times what is computed.
    """
    ledger = Ledger(step, training_macs(step))
    for index, op in enumerate(step.ops):
        if op.name == "aten.convolution_backward":
            groups, weight = op.args["groups"], op.args["output_mask"][1]
            if groups > 1 and weight:
                more = (groups - 1) * _forward(op)
                ledger.enter(
                    "weight gradients of grouped convolutions, all channels with all", more, _place(step, index)
                )
        elif ledger.macs[index] and op.name.rpartition(".")[2] not in _KNOWN:
            name = op.name.rpartition(".")[2]
            ledger.enter(f"{name} has no formula: 0", -ledger.macs[index], _place(step, index))
    return ledger.account(factor=2)


_KNOWN = frozenset("mm addmm bmm baddbmm convolution convolution_backward".split())


def _forward(op: Op) -> int:
    """MACs of the forward of a convolution, from the call of its backward."""
    args = op.args
    spread = args["input"] if args["transposed"] else args["grad_output"]
    return spread.numel * prod(args["weight"].shape[1:])


def _place(step: Trace, index: int) -> str:
    owner = layer_indices(step)[index]
    return step.layers[owner].path if owner is not None else phase_of(step, index).name


def counted(model: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    """FlopCounterMode itself over forward, loss and backward. The model is changed."""
    from torch.utils.flop_counter import FlopCounterMode

    from archscope.peers.cpu_step import counted_step

    counting = FlopCounterMode(display=False)
    counted_step(model, arguments, named, counting)
    return counting.get_total_flops()


# --------------------------------------------------------------------------------------------------------- 3 × forward


def three_forwards(step: Trace) -> Account:
    """The forward three times: where a layer's backward is not twice its forward, and by how much."""
    ledger = Ledger(step, training_macs(step))
    for path, less in lacking(step).items():
        why = (
            "a gradient that nothing needs: of the data, or of frozen weights"
            if less > 0
            else "backward with more work"
        )
        ledger.enter(why, less, path)
    return ledger.account()


def lacking(step: Trace) -> dict[str, int]:
    """For each layer 3 × the MACs of its forward, less those of forward and backward."""
    found: dict[str, int] = {}
    for index, done in enumerate(works(step)):
        if done is not None and done.macs:
            path = _place(step, index)
            found[path] = found.get(path, 0) + (2 if phase_of(step, index).name == "forward" else -1) * done.macs
    return {path: macs for path, macs in found.items() if macs}


# ------------------------------------------------------------------------------------------------------ language models


def language_model(spec: Spec, record: Trace, step: Trace, model: Any) -> Iterator[Reconciled]:
    """6N + 12·L·H·Q·T of PaLM and 6N of transformers, for a causal language model; nothing for another."""
    scores = generation.score_products(record)
    if not scores or not record.inputs or not record.inputs[0].dtype.startswith("int") or not hasattr(model, "config"):
        return
    from archscope.sources.decoding import LanguageModel

    config = LanguageModel(spec).config
    macs, tokens = training_macs(step), record.inputs[0].numel
    matrices, total = generation.matrices(record, config), totals(record)["params"]
    pairs = sum(done.macs for i in scores if (done := works(record)[i]) is not None)
    unneeded = sum(lacking(step).values())
    for one in conventions(record, config):
        counter = LANGUAGE.get(one.name)
        if counter is None:
            continue
        if one.flops is None or one.params is None or matrices is None:
            yield Reconciled(counter, NOT_RUN, Account(None, (), one.note or "experts that a token takes are unknown"))
            continue
        amounts = [
            ("gradients that nothing needs", unneeded),
            (
                "3 for each parameter and token: tables, norms, biases that are in no product",
                3 * tokens * (total - matrices),
            ),
            ("without tables of embeddings", 3 * tokens * (one.params - total)),
            ("products of queries, keys and values as the formula has them", one.attention // 2 - 3 * pairs),
        ]
        items = [AccountItem(why, amount) for why, amount in amounts if amount]
        figure = macs + sum(item.amount for item in items)
        items.append(AccountItem(TWICE, figure))
        said = one.flops
        if one.name == "transformers" and hasattr(model, "num_parameters"):
            said = 6 * tokens * model.num_parameters(exclude_embeddings=True)  # what its Trainer adds up
        yield Reconciled(counter, ToolResult(said), Account(2 * figure, tuple(items)))


def _others(name: str, title: str, calls: str, unit: str, version: str = "") -> Counter:
    return Counter(name, title, calls, unit, "", version, lambda trace: Account(None))


TORCH = _others("torch, training", "torch FlopCounterMode, forward and backward", "FLOP", "FLOP", "2.14")
THRICE = _others("3 x forward", "3 × forward, as DeepSpeed's profiler (backward = 2 × forward)", "fwd+bwd MACs", "MAC")
LANGUAGE = {
    "palm": _others("6N + 12LHQT", "6N + 12·L·H·Q·T, arXiv:2204.02311, appendix B", "FLOPs", "FLOP"),
    "transformers": _others("floating_point_ops", "transformers, Trainer", "floating_point_ops", "FLOP"),
}
