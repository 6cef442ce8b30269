"""A graph as a module of PyTorch: modules as the names of its nodes nest them, layers where a node is one.

The module runs on the meta device like any other. So the rules of the operators give every shape and cost, and each
shape is compared with what `onnx.shape_inference` derives.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from archscope.core.errors import ShapeError, TraceError
from archscope.sources.graphs.constants import MOST, folded
from archscope.sources.graphs.functions import FUNCTIONS
from archscope.sources.graphs.graph import Graph, Initializer, Node, subgraph
from archscope.sources.graphs.layers import LAYERS
from archscope.sources.graphs.unknown import recorded
from archscope.tracing.weightless import KIND

META = torch.device("meta")
# inputs that are settings or statistics, by operator: no parameters
STATISTICS = {"BatchNormalization": (3, 4)}
SETTINGS = {"Clip": (1, 2), "Resize": (1, 2), "Upsample": (1,), "Pad": (2,), "Dropout": (1,), "Pow": (1,)}


class Step(NamedTuple):
    """A node of a container, or a part of the run within a child: `inner`. ins, outs: what goes in and comes out."""

    node: Node | None
    child: Any
    inner: tuple["Step", ...] = ()
    ins: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()


class Plan:
    """The steps that a container runs this time; its tensors stand in `values`."""

    def __init__(self, steps: tuple[Step, ...], outs: tuple[str, ...], network: "Network") -> None:
        self.steps, self.outs, self.network = steps, outs, network


class Container(nn.Module):
    """A module that a graph names: it runs nodes and other modules."""

    def forward(self, plan: Plan, *inputs: Any) -> Any:
        for step in plan.steps:
            plan.network.take(step)
        values = plan.network.values
        return tuple(values[name] for name in plan.outs if isinstance(values[name], torch.Tensor))


class Network(Container):
    """The root."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.values: dict[str, Any] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.compare = False
        self.__dict__[KIND] = "Graph"
        used = {name for node in graph.nodes for name in node.inputs}
        roles = _roles(graph)
        for name in used & graph.initializers.keys():
            if roles.get(name, "") != "constant":
                self.weights[name] = _tensor(graph.initializers[name], roles.get(name) == "parameter")
        self.steps = self._planned(list(graph.nodes))

    # ------------------------------------------------------------------------------------------------ building

    def _planned(self, nodes: list[Node]) -> tuple[Step, ...]:
        alone: dict[tuple[str, ...], int] = {}
        for node in nodes:
            for depth in range(len(node.path) + 1):
                alone[node.path[:depth]] = alone.get(node.path[:depth], 0) + 1
        layers: dict[int, nn.Module] = {}
        places: list[tuple[str, ...]] = []
        for number, node in enumerate(nodes):
            place = node.path
            make = LAYERS.get(node.op) if not node.domain else None
            made = make(node, self._known(node), self.graph) if make is not None else None
            if made is not None:
                layers[number] = made
                if alone[node.path] > 1 or not node.path:
                    place = (*node.path, _free(self._at(node.path), node.own))
                _put(self, place, made)
            else:
                self._own_weights(node)
            places.append(place)
        for weight in self.weights.values():  # what nothing has taken up
            self._keep(weight)
        return self._steps(list(zip(nodes, places, range(len(nodes)), strict=True)), 0, layers, self.graph.outputs)

    def _known(self, node: Node) -> list[Any]:
        """The inputs of a node that are weights or constants, None for the others."""
        return [self.weights.get(name, self._constant(name)) for name in node.inputs]

    def _constant(self, name: str) -> Any:
        found = self.graph.initializers.get(name)
        return found.value if found is not None and name not in self.weights else None

    def _own_weights(self, node: Node) -> None:
        """A node that is no layer keeps its weights in the module that it runs in."""
        for name in node.inputs:
            weight = self.weights.get(name)
            if weight is not None and not hasattr(weight, "archscope_home"):
                home = self._at(node.path)
                key = _free(home, name.rpartition(".")[2].rpartition("/")[2].replace(":", "_") or "weight")
                _register(home, key, weight)

    def _keep(self, weight: torch.Tensor) -> None:
        if not hasattr(weight, "archscope_home"):
            _register(self, _free(self, "weight"), weight)

    def _at(self, path: Sequence[str]) -> nn.Module:
        """The container of that path, made where it is missing."""
        found: nn.Module = self
        for part in path:
            child = found._modules.get(part)
            if child is None:
                child = Container()
                child.__dict__[KIND] = "Module"
                found._modules[part] = child
            found = child
        return found

    def _steps(
        self, listed: list[tuple[Node, tuple[str, ...], int]], depth: int, layers: dict[int, nn.Module],
        outs: Iterable[str],
    ) -> tuple[Step, ...]:  # fmt: skip
        """The nodes of a container in order; those that run in one child, one after the other, are one call of it."""
        wanted_later = set(outs)
        steps: list[Step] = []
        at = len(listed)
        while at:  # from the end, so that what is needed later is known
            node, place, number = listed[at - 1]
            if number in layers and len(place) <= depth + 1:
                steps.append(Step(node, layers[number]))
                begin = at - 1
            elif len(place) == depth:
                steps.append(Step(node, None))
                begin = at - 1
            else:
                begin = at - 1
                while begin and self._inside(listed[begin - 1], depth, place[depth], layers):
                    begin -= 1
                part = listed[begin:at]
                made = [name for one, *_ in part for name in one.outputs if name]
                taken = dict.fromkeys(name for one, *_ in part for name in one.inputs if name not in made)
                out = tuple(name for name in made if name in wanted_later)
                ins = tuple(name for name in taken if name and name not in self.graph.initializers)
                child = self._at(place[: depth + 1])
                steps.append(Step(None, child, self._steps(part, depth + 1, layers, out), ins, out))
            for one, *_ in listed[begin:at]:
                wanted_later.update(one.inputs)
            at = begin
        return tuple(reversed(steps))

    @staticmethod
    def _inside(one: tuple[Node, tuple[str, ...], int], depth: int, name: str, layers: dict[int, nn.Module]) -> bool:
        _, place, number = one
        as_layer = number in layers and len(place) <= depth + 1
        return len(place) > depth and place[depth] == name and not as_layer

    # ------------------------------------------------------------------------------------------------- running

    def forward(self, *inputs: Any) -> Any:  # type: ignore[override]
        graph, values = self.graph, self.values
        values.clear()
        values.update({name: one.value for name, one in graph.initializers.items() if one.value is not None})
        values.update(self.weights)
        if len(inputs) != len(graph.inputs):
            raise TraceError(f"the graph takes {len(graph.inputs)} inputs, {', '.join(graph.inputs)}")
        values.update(zip(graph.inputs, inputs, strict=True))
        as_declared = all(
            None in one.shape or tuple(x.shape) == one.shape
            for x, one in zip(inputs, graph.inputs.values(), strict=True)
        )
        self.compare = as_declared and all(None not in one.shape for one in graph.inputs.values())
        try:
            for step in self.steps:
                self.take(step)
            made = [_as_tensor(values[name]) for name in graph.outputs]
        finally:
            values.clear()
        return made[0] if len(made) == 1 else tuple(made)

    def take(self, step: Step) -> None:
        values = self.values
        if step.node is None:
            if any(isinstance(values.get(name), torch.Tensor) for name in step.ins) or not step.ins:
                given = [values[name] for name in step.ins if isinstance(values.get(name), torch.Tensor)]
                step.child(Plan(step.inner, step.outs, self), *given)
            else:  # constants only: no call of a module
                for inner in step.inner:
                    self.take(inner)
            return
        node = step.node
        inputs = [values.get(name) if name else None for name in node.inputs]
        done = self._constants(node, inputs)
        if done is None:
            done = self._run(step, node, inputs)
        for name, value in zip(node.outputs, done, strict=False):
            if name:
                values[name] = value
                self._compare(node, name, value)

    def _run(self, step: Step, node: Node, inputs: list[Any]) -> tuple[Any, ...]:
        if step.child is not None:
            done = step.child(_as_tensor(inputs[0]))
        elif node.op == "If" and not node.domain:
            done = self._branch(node, inputs[0])
        elif node.op in FUNCTIONS and not node.domain:
            done = FUNCTIONS[node.op](node, self.graph.opset, *inputs)
        else:
            done = recorded(node, [x for x in inputs if isinstance(x, torch.Tensor)], self.graph.shapes)
        return done if isinstance(done, tuple) else (done,)

    def _branch(self, node: Node, condition: Any) -> tuple[Any, ...]:
        """An If whose condition is known: exporters ask for ranks and sizes. Raises TraceError for any other."""
        if condition is None or isinstance(condition, torch.Tensor):
            raise TraceError(f"{node.own} decides by the value of a tensor, which a trace does not compute")
        nodes, initializers, outputs = subgraph(node.attributes["then_branch" if condition else "else_branch"])
        self.values.update({name: one.value for name, one in initializers.items() if one.value is not None})
        for inner in nodes:
            self.take(Step(inner, None))
        return tuple(self.values[name] for name in outputs)

    @staticmethod
    def _constants(node: Node, inputs: list[Any]) -> tuple[Any, ...] | None:
        """The outputs of a node that computes with known values only."""
        if node.domain:
            return None
        if node.op == "Constant":
            return (_constant_of(node),)
        if node.op in ("Shape", "Size") and isinstance(inputs[0], torch.Tensor):
            sides = np.array(inputs[0].shape, np.int64)
            cut = sides[node.attributes.get("start", 0) : node.attributes.get("end")]
            return (cut if node.op == "Shape" else np.int64(inputs[0].numel()),)
        known = [x is None or (isinstance(x, np.ndarray | np.generic) and x.size <= MOST) for x in inputs]
        if not inputs or not all(known):
            return None
        try:
            done = folded(node.op, node.attributes, [x if x is None else np.asarray(x) for x in inputs])
        except (ValueError, IndexError, TypeError, KeyError, ArithmeticError, MemoryError) as error:
            raise TraceError(f"{node.title} cannot be done on its constants: {error}") from error
        return None if done is None else (done,)

    def _compare(self, node: Node, name: str, value: Any) -> None:
        """Raises ShapeError where the run and `onnx.shape_inference` do not agree."""
        known = self.graph.shapes.get(name) if self.compare else None
        if known is None or not hasattr(value, "shape") or None in known.shape:
            return
        if tuple(value.shape) != known.shape:
            seen, said = ("×".join(map(str, shape)) or "a scalar" for shape in (value.shape, known.shape))
            raise ShapeError(f"{node.title} gives {seen}, and {said} by onnx.shape_inference")


def _constant_of(node: Node) -> Any:
    from onnx import numpy_helper

    for key, value in node.attributes.items():
        if key == "value":
            return numpy_helper.to_array(value)
        if key in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if key in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise TraceError(f"{node.own} is a constant of a kind that is not supported")


def _as_tensor(value: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))


def _roles(graph: Graph) -> dict[str, str]:
    """What each initializer is: "parameter", "buffer" (statistics, large integers) or "constant"."""
    roles: dict[str, str] = {}
    for node in graph.nodes:
        for i, name in enumerate(node.inputs):
            one = graph.initializers.get(name)
            if one is None:
                continue
            if not one.dtype.startswith(("float", "bfloat", "complex")):
                role = "buffer" if one.value is None else "constant"
            elif i in STATISTICS.get(node.op, ()):
                role = "buffer"
            elif i in SETTINGS.get(node.op, ()) or (not one.shape and "." not in name):
                role = "constant" if one.value is not None else "buffer"
            else:
                role = "parameter"
            if roles.get(name) != "parameter":
                roles[name] = role
    return roles


def _tensor(one: Initializer, trainable: bool) -> torch.Tensor:
    made = torch.empty(one.shape, dtype=getattr(torch, one.dtype), device=META)
    return nn.Parameter(made) if trainable and made.is_floating_point() else made


def _put(root: "Network", path: tuple[str, ...], layer: nn.Module) -> None:
    for weight in (*layer.parameters(), *layer.buffers()):
        weight.archscope_home = True  # type: ignore[attr-defined]
    home = root._at(path[:-1])
    home._modules[path[-1]] = layer


def _register(home: nn.Module, key: str, weight: torch.Tensor) -> None:
    weight.archscope_home = True  # type: ignore[attr-defined]
    if isinstance(weight, nn.Parameter):
        home._parameters[key] = weight
    else:
        home._buffers[key] = weight


def _free(home: nn.Module, name: str) -> str:
    """A name that nothing in a module has."""
    taken = {*home._modules, *home._parameters, *home._buffers}
    number, found = 1, name
    while found in taken or hasattr(nn.Module, found):
        found = f"{name}_{number}"
        number += 1
    return found
