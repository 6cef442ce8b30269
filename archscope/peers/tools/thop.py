"""thop 0.1.1 (Lyken17's pytorch-OpCounter): "MACs".

Read from its `profile.py`, `vision/basic_hooks.py` and `rnn_hooks.py`. Hooks on the class of a module, and nothing
else; what has no module of a class that it knows is 0, attention and functions among it:

    convolution                      multiply-adds without bias; a transposed one by output size, which is s² too many
    Linear                           multiply-adds without bias
    batch, layer, instance norm      4 per element with weights, 2 without; group norm 0
    average pooling                  1 per output element; adaptive: the window and 1 more, per output element
    softmax                          3n − 1 in each row
    PReLU                            1 per element; the other activations 0
    upsampling                       nearest 1, linear 5, bilinear 11, bicubic 259 per output element
    recurrent                        gates, biases and pointwise work

It adds in floating point; what it prints is a whole number all the same, but for an adaptive pooling, which it cuts.
"""

from functools import partial
from math import prod
from typing import Any

from archscope.core.record import Layer, Trace
from archscope.peers.accounts import Account, Ledger, counter, measures, refused
from archscope.peers.hooks import (
    CONVOLUTIONS,
    DIMENSIONS,
    GATES,
    TRANSPOSED,
    Hook,
    Part,
    enter_calls,
    enter_not_seen,
    is_packed,
    kind_of,
    recurrent,
    refusal,
)


@counter(
    "thop",
    title="thop",
    calls="MACs",
    unit="MAC",
    package="thop",
    version="0.1.1",
    order=5,
    isolated=True,
    means="multiply-adds of modules, 4 per element of a norm, average pooling; nothing that has no module",
)
def convention(trace: Trace) -> Account:
    if why := refusal(trace, "thop"):
        return refused(why)
    for layer in trace.layers:
        if kind_of(layer) in _READS_CHANNELS and len(layer.inputs[0].shape) < 2:
            return refused(f"thop fails: {layer.path or layer.kind} has no second axis")
    ledger = Ledger(trace)
    seen, _ = enter_calls(ledger, HOOKS)
    enter_not_seen(ledger, seen)
    return ledger.account()


def _convolution(layer: Layer, transposed: bool = False) -> list[Part]:
    config, out = layer.config, layer.outputs[0].shape
    c_in = layer.inputs[0].shape[1]
    count = prod(out) * (c_in // config["groups"]) * prod(config["kernel_size"])
    word = "transposed convolution by output size, not by input size" if transposed else "convolution without a batch"
    return [Part(word, count, True)]


def _linear(layer: Layer) -> list[Part]:
    return [Part("Linear", layer.config["in_features"] * layer.outputs[0].numel, True)]


def _norm(word: str, layer: Layer) -> list[Part]:
    each = 4 if layer.config.get("affine") or layer.config.get("elementwise_affine") else 2
    return [Part(f"{word}-norm elements, {each} each", each * layer.inputs[0].numel)]


def _prelu(layer: Layer) -> list[Part]:
    return [Part("PReLU elements", layer.inputs[0].numel)]


def _softmax(layer: Layer) -> list[Part]:
    n = layer.inputs[0].shape[layer.config["dim"]]
    return [Part("softmax, 3n − 1 in each row", layer.inputs[0].numel // n * (3 * n - 1))]


def _pool(layer: Layer) -> list[Part]:
    return [Part("outputs of average pooling", layer.outputs[0].numel)]


def _adaptive(layer: Layer) -> list[Part]:
    window = 1.0
    for m, o in zip(layer.inputs[0].shape[2:], layer.outputs[0].shape[2:], strict=True):
        window *= m / o
    return [Part("adaptive average pooling, its window and 1 per output", int((window + 1) * layer.outputs[0].numel))]


_UPSAMPLING = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 224 + 35}


def _upsample(layer: Layer) -> list[Part]:
    each = _UPSAMPLING.get(layer.config.get("mode", ""), 0)
    return [Part(f"outputs of upsampling, {each} each", each * layer.outputs[0].numel)]


# per unit and step, by the number of gates. GRU: 3 gates, r · (…), and the three of h' = (1 − z) · n + z · h.
# LSTM: 4 gates, the three of c' = f · c + i · g, and o · tanh c'
_POINTWISE = {1: 1, 3: 7, 4: 8}


def _recurrent(layer: Layer) -> list[Part]:
    config, hidden = layer.config, layer.config["hidden_size"]
    above = hidden * (2 if config.get("bidirectional") else 1)
    c_in = [config["input_size"]] + [above] * (config.get("num_layers", 1) - 1)
    found = recurrent(layer, _steps(layer), hidden, c_in, _POINTWISE)
    return [
        Part("recurrent gates by the size of a full batch", found.products, True),
        Part("recurrent pointwise work", found.pointwise),
        Part("recurrent biases", found.biases),
    ]


def _steps(layer: Layer) -> int:
    shape = layer.inputs[0].shape
    if layer.kind.endswith("Cell"):
        return shape[0]
    if is_packed(layer):  # the longest batch, at every step
        longest = layer.outputs[1].shape[-2] if len(layer.outputs) > 1 else 0
        return layer.inputs[1].numel * max(longest, 1)
    return prod(shape[:2])


_READS_CHANNELS = CONVOLUTIONS + TRANSPOSED


HOOKS: dict[str, Hook] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(TRANSPOSED, partial(_convolution, transposed=True)),
    "Linear": _linear,
    **{f"{word.title()}Norm{n}": partial(_norm, word) for word in ("batch", "instance") for n in DIMENSIONS},
    "SyncBatchNorm": partial(_norm, "batch"),
    "LayerNorm": partial(_norm, "layer"),
    "PReLU": _prelu,
    "Softmax": _softmax,
    **{f"AvgPool{n}": _pool for n in DIMENSIONS},
    **{f"AdaptiveAvgPool{n}": _adaptive for n in DIMENSIONS},
    "Upsample": _upsample,
    **{kind: _recurrent for kind in GATES},
    **{kind: lambda layer: [] for kind in "ZeroPad2d ReLU ReLU6 LeakyReLU Dropout PixelShuffle".split()},
    **{f"{a}MaxPool{n}": lambda layer: [] for a in ("", "Adaptive") for n in DIMENSIONS},
}


@measures("thop")
def measured(model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    import warnings
    from importlib import import_module

    from archscope.peers.fake_cpu import on_fake_cpu

    if kwargs:
        raise ValueError("thop takes no keyword arguments")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports distutils
        tool = import_module("thop")
    with on_fake_cpu(model, inputs) as given:
        count, _ = tool.profile(model, inputs=given, verbose=False)
    return int(count)
