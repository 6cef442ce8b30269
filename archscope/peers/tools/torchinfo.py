"""torchinfo 1.8.0: "Total mult-adds".

Read from its `layer_info.py`. It hooks every module and, for each call of a module without children, multiplies the
parameters by sides of the output (`o` is the shape of the first output tensor):

    weight, bias of a class with "Conv" in its name      elements · o[0] · o[2] · o[3] · …
    weight, bias of any other class                      elements · o[0]
    a name that contains weight or bias (recurrent)      elements · o[0] · o[1]

So whatever runs without a module of its own is not seen, and every parameter of these names is a multiply-add.
"""

import copy
from math import prod
from typing import Any

from archscope.analysis.observed import cached
from archscope.core.record import Layer, Shape, Trace
from archscope.peers.accounts import Account, Ledger, counter, leaves, measures, refused
from archscope.peers.hooks import enter_not_seen


@counter(
    "torchinfo",
    title="torchinfo",
    calls="Total mult-adds",
    unit="MAC",
    package="torchinfo",
    version="1.8.0",
    order=1,
    means="every weight and bias of a module without children, times the batch and the sides of a convolution's output",
)
def convention(trace: Trace) -> Account:
    ledger = Ledger(trace)
    seen = [False] * len(trace.ops)
    names = own_params(trace)
    for layer in leaves(trace):
        counted = {name: _times(layer, name) for name, _ in names.get(layer.path, ()) if _is_counted(name)}
        if None in counted.values():
            return refused(f"torchinfo fails: {layer.path or layer.kind} has weights and a scalar as output")
        weights = biases = 0
        for name, elements in names.get(layer.path, ()):
            if name in counted:
                part = elements * counted[name]  # type: ignore[operator]
                weights, biases = (weights, biases + part) if "bias" in name else (weights + part, biases)
        if not counted:
            continue
        macs = sum(ledger.macs[layer.start : layer.stop])
        seen[layer.start : layer.stop] = [True] * (layer.stop - layer.start)
        place = layer.path or layer.kind
        if macs:
            ledger.enter(_reason(layer), weights - macs, place)
            ledger.enter(f"{_family(layer.kind)} biases counted as multiply-adds", biases, place)
        else:
            what = f"{_family(layer.kind)} weights{' and biases' if biases else ''}"
            ledger.enter(f"{what} counted as multiply-adds", weights + biases, place)
    enter_not_seen(ledger, seen)
    return ledger.account()


@cached
def own_params(trace: Trace) -> dict[str, list[tuple[str, int]]]:
    """The parameters of each module by its path: own name and elements, each tensor once in a module."""
    out: dict[str, list[tuple[str, int]]] = {}
    seen: set[tuple[str, int]] = set()
    for param in trace.params:
        path, _, name = param.name.rpartition(".")
        if (path, param.tensor.id) not in seen:
            seen.add((path, param.tensor.id))
            out.setdefault(path, []).append((name, param.tensor.numel))
    return out


def _is_counted(name: str) -> bool:
    return "weight" in name or "bias" in name


def _output(layer: Layer) -> Shape:
    return layer.outputs[0].shape if layer.outputs else ()


def _times(layer: Layer, name: str) -> int | None:
    """What the elements of a parameter are multiplied by; None where torchinfo fails."""
    out = _output(layer)
    if name not in ("weight", "bias"):
        return prod(out[:2])
    if "Conv" in layer.kind:
        return prod(out[:1] + out[2:])
    return out[0] if out else None


_FAMILIES = (
    ("BatchNorm", "batch-norm"), ("InstanceNorm", "instance-norm"), ("LayerNorm", "layer-norm"),
    ("GroupNorm", "group-norm"), ("RMSNorm", "RMS-norm"), ("Embedding", "embedding"),
    ("LSTM", "recurrent"), ("GRU", "recurrent"), ("RNN", "recurrent"),
)  # fmt: skip


_CONVOLUTIONS = {f"Conv{transposed}{n}d" for transposed in ("", "Transpose") for n in (1, 2, 3)}


def _family(kind: str) -> str:
    if "Conv" in kind:
        return "convolution" if kind in _CONVOLUTIONS else kind
    return next((word for part, word in _FAMILIES if part in kind), kind)


def _reason(layer: Layer) -> str:
    """Why the weights of a layer that multiplies are not its MACs."""
    kind, out = layer.kind, _output(layer)
    if "ConvTranspose" in kind:
        return "transposed convolution by output size, not by input size"
    if kind.endswith("Cell"):
        return f"{kind} counted once more for each hidden unit"
    if kind in ("LSTM", "GRU", "RNN"):
        packed = len(layer.inputs) > 1 and len(out) == 2
        return "packed sequence counted once more for each feature" if packed else f"{kind} without a batch axis"
    if kind == "Linear":
        return "Linear counted once a batch and not once a token" if len(out) > 1 else "Linear on a single vector"
    if kind in _CONVOLUTIONS:
        return "convolution without a batch axis"
    if "Conv" in kind:
        return f"{kind} taken for a convolution by its name"
    return f"{kind}: weights times the batch, not what it computes"


@measures("torchinfo")
def measured(model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    import torchinfo

    from archscope.peers.fake_cpu import on_fake_cpu

    def summed(model: Any, inputs: Any, device: str) -> int:
        mode = "train" if model.training else "eval"
        summary = torchinfo.summary(model, input_data=list(inputs), device=device, mode=mode, verbose=0, **kwargs)
        return int(summary.total_mult_adds)

    try:
        return summed(copy.deepcopy(model), inputs, "meta")
    except RuntimeError:  # a forward that makes tensors of its own makes them on the CPU
        with on_fake_cpu(model, (inputs, kwargs)) as (inputs, kwargs):
            return summed(model, inputs, "cpu")
