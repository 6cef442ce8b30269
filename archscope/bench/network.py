"""A network to train: fitted to the data if its builder allows that, with weights initialised by a recipe."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from archscope.analysis.metrics import totals
from archscope.bench.data import USUAL, check, data_of
from archscope.bench.datasets.base import Data, Lookup, NetworkInput
from archscope.bench.memory import side_of
from archscope.bench.meter import StepFlops, step_flops
from archscope.bench.recipes import Recipe
from archscope.core.errors import ArchscopeError, SpecError
from archscope.core.record import Trace
from archscope.sources.loading import inputs_of
from archscope.sources.records import record_of, step_of
from archscope.sources.spec import Spec, parse, written


@dataclass(frozen=True)
class Network:
    """A network before it has weights. layout: a letter per axis of its input. trace: in training mode, at the recipe's
    input size; side and batch are what it was asked for with. log: whether its outputs are log-probabilities."""

    spec: Spec
    needs: NetworkInput
    layout: str
    trace: Trace
    side: str | None
    batch: int | None
    log: bool

    @cached_property
    def flops(self) -> StepFlops:
        """Of a step of one batch, by its record."""
        return step_flops(step_of(self.spec, self.side, self.batch))

    @property
    def batch_norm(self) -> bool:
        """Whether the result for one example depends on the rest of the batch."""
        return any(op.name == "aten.batch_norm" for op in self.trace.ops)

    @property
    def params(self) -> int:
        return totals(self.trace)["params"]


def fitted(text: str, recipe: Recipe, dataset: str, lookup: Lookup = USUAL) -> tuple[Network, Data]:
    """The network and its data. `num_classes` and `in_channels` follow the data if the builder takes them and the user
    did not set them; else a grey image is repeated for each channel. Raises SpecError, ArchscopeError."""
    spec = parse(text)
    network = _network(spec, recipe)
    data = data_of(dataset, network.needs, lookup)
    keys = spec.keys
    changed: dict[str, Any] = {}
    if "num_classes" in keys and "num_classes" not in spec.arguments and data.classes != network.needs.classes:
        changed["num_classes"] = data.classes
    if len(network.needs.shape) == 3 and data.train.inputs.ndim == 4:
        channels = data.train.inputs.shape[1]
        if "in_channels" in keys and "in_channels" not in spec.arguments and channels != network.needs.shape[0]:
            changed["in_channels"] = channels
    if changed:
        tail = "".join(f"@{key}={written(value)}" for key, value in changed.items())
        network = _network(parse(spec.text + tail), recipe)
    check(data, network.needs)
    if recipe.loss == "nll" and not network.log:
        raise SpecError(
            f"the loss nll takes log-probabilities, and {spec.name} gives scores: write --recipe "
            f"{recipe.text}@loss=cross-entropy"
        )
    return network, data


def _network(spec: Spec, recipe: Recipe) -> Network:
    side = side_of(recipe)
    given = inputs_of(spec, side)
    if not given:
        raise SpecError(f"{spec.text} has no default input: write example_inputs() beside it, such as (1, 3, 224, 224)")
    if len(given) != 1 or given[0].listed:
        takes = "a list of images" if given[0].listed else f"{len(given)} inputs"
        raise SpecError(f"{spec.text} takes {takes}; bench trains networks that take one tensor")
    layout = given[0].layout
    batched = recipe.batch if "n" in layout else None
    record = record_of(spec, side, batched, train=True)
    shape = list(record.inputs[0].shape)
    if "n" not in layout:
        raise SpecError(f"the input of {spec.text} has no batch axis")
    del shape[layout.index("n")]
    outputs = record.layers[0].outputs
    if not outputs or len(outputs[0].shape) != 2:
        got = "×".join(map(str, outputs[0].shape)) if outputs else "nothing"
        raise SpecError(f"{spec.text} gives {got}; bench trains networks that give one row of scores an example")
    needs = NetworkInput(tuple(shape), record.inputs[0].dtype, outputs[0].shape[1])
    last = {t.id: op.name for op in record.ops for t in op.outputs}.get(outputs[0].id, "")
    return Network(spec, needs, layout, record, side, batched, last in ("aten.log_softmax", "aten._log_softmax"))


def per_example(network: Network) -> tuple[int | None, int | None]:
    """FLOPs (2·MACs) of one example: forward, and forward and backward; None where an operator's cost is unknown."""
    examples = network.trace.inputs[0].shape[network.layout.index("n")]
    flops = network.flops
    return (None, None) if flops.unknown else (flops.forward // examples, flops.model // examples)


def built(spec: Spec, recipe: Recipe, seed: int) -> nn.Module:
    """The network with weights on the CPU, initialised as the recipe says; equal for equal seeds."""
    torch.manual_seed(seed)
    try:
        model = spec.source.build(spec.name, spec.arguments)
    except ArchscopeError:
        raise
    except Exception as error:
        raise ArchscopeError(f"{spec.text} could not be built: {type(error).__name__}: {error}") from error
    INITIALISATIONS[recipe.init](model)
    return model.requires_grad_(True) if not any(p.requires_grad for p in model.parameters()) else model


def _as_built(model: nn.Module) -> None:
    """PyTorch's own initialisation."""


def _xavier(model: nn.Module) -> None:
    """d2l.train_ch6: Xavier-uniform weights of layers that are exactly Linear or Conv2d; biases as PyTorch has them."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and type(module) in (nn.Linear, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)


def _alexnet(model: nn.Module) -> None:
    """Krizhevsky et al. 2012, section 5: weights from N(0, 0.01²); biases 1 in convolutions 2, 4, 5 and in the hidden
    fully connected layers, 0 in the others."""
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    ones = [*(convs[i] for i in (1, 3, 4) if i < len(convs)), *dense[:-1]]
    for module in [*convs, *dense]:
        nn.init.normal_(module.weight, 0.0, 0.01)
        if module.bias is not None:
            nn.init.constant_(module.bias, 1.0 if module in ones else 0.0)


INITIALISATIONS = {"pytorch": _as_built, "xavier-uniform": _xavier, "alexnet2012": _alexnet}
