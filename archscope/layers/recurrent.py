"""Recurrent layers, and their cells of one step."""

from math import prod

from archscope.core.expression import Expr, product, symbol, total
from archscope.layers.formula import Config, Derived, Formula, Shapes, examples, layer, require

_ORDER = {False: ("t", "n"), True: ("n", "t")}  # by batch_first


def _gates(gates: int) -> tuple[Expr, ...]:
    return (symbol("gates", gates),) if gates > 1 else ()


def _operations(gates: int, pointwise: int, config: Config) -> int:
    """For each step and unit: the operations that combine the gates, and two biases a gate."""
    return config["hidden_size"] * (pointwise + (2 * gates if config["bias"] else 0))


def recurrent(gates: int, pointwise: int) -> Formula:
    def form(config: Config, shapes: Shapes) -> Derived:
        """Per layer and direction: gates·h·(in + h) weights and 2·gates·h biases; a layer above has in = directions·h.

        Shapes [t, n, in] → [t, n, directions·h], [layers·directions, n, h] (and the cell state).
        """
        shape = shapes[0]
        require(len(shape) in (2, 3), f"takes [t, n, features] or [t, features], gets {list(shape)}")
        *order, features = shape
        packed = len(shape) == 2 and len(shapes) > 1 and len(shapes[1]) == 1  # [steps of all, features], [rows a step]
        require(features == config["input_size"], f"takes {config['input_size']} features, gets {features}")
        directions, layers = (2 if config["bidirectional"] else 1), config["num_layers"]
        h, projected = symbol("h", config["hidden_size"]), config.get("proj_size", 0)
        out = symbol("proj", projected) if projected else h
        both = (symbol("directions", 2),) if directions == 2 else ()
        weights = []
        for level in range(layers):
            i = symbol("in", directions * out.value if level else features)
            once = product(*_gates(gates), h, i + out)
            once = once + h * out if projected else once
            weights.append(product(*both, once) if both else once)
        bias = product(2, *_gates(gates), h)
        biases = [product(*both, bias) if both else bias] * layers
        products = total(*weights)
        steps = tuple(symbol(name, side) for name, side in zip(_ORDER[config["batch_first"]], order, strict=False))
        require(packed or steps[config["batch_first"] and len(shape) == 3].value > 0, "takes at least one step")
        batch = () if len(shape) == 2 else (order[0 if config["batch_first"] else 1],)
        states = [(layers * directions, *batch, side.value) for side in ((out, h) if gates == 4 else (out,))]
        if packed:
            states = []
        elif len(shapes) > 1:
            require(list(shapes[1 : 1 + len(states)]) == states, f"takes states {states}, gets {list(shapes[1:])}")
        return Derived(
            shapes=((*order, directions * out.value), *states),
            params=total(products, *biases) if config["bias"] else products,
            macs=product(*(step for step in steps if step.value != 1), products),
            weighted=True,
            operations=prod(order) * layers * directions * _operations(gates, pointwise, config),
        )

    return form


def cell(gates: int, pointwise: int) -> Formula:
    def form(config: Config, shapes: Shapes) -> Derived:
        require(len(shapes[0]) in (1, 2), f"takes [n, features] or [features], gets {list(shapes[0])}")
        *batch, features = shapes[0]
        require(features == config["input_size"], f"takes {config['input_size']} features, gets {features}")
        i, h = symbol("in", features), symbol("h", config["hidden_size"])
        states = shapes[1:3] if gates == 4 else shapes[1:2]
        require(all(s == (*batch, h.value) for s in states), f"takes states {[*batch, h.value]}, gets {list(states)}")
        weights = product(*_gates(gates), h, i + h)
        return Derived(
            shapes=((*batch, h.value),) * (2 if gates == 4 else 1),
            params=weights + product(2, *_gates(gates), h) if config["bias"] else weights,
            macs=product(*examples(batch), weights),
            weighted=True,
            operations=prod(batch) * _operations(gates, pointwise, config),
        )

    return form


# kind, gates, pointwise operations a unit, source
for _kind, _names, _pointwise, _source in (
    ("RNN", ("h'",), 2, "Elman (1990), as PyTorch writes it: h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh)"),
    (
        "LSTM",
        ("input", "forget", "cell", "output"),
        13,
        "Hochreiter, Schmidhuber (1997) with forget gates: four gates of the same form",
    ),
    (
        "GRU",
        ("reset", "update", "candidate"),
        10,
        "Cho et al., arXiv:1406.1078, equations 5 to 8: reset, update, candidate",
    ),
):
    layer(_kind, source=_source, gates=_names)(recurrent(len(_names), _pointwise))
    layer(f"{_kind}Cell", source=_source, gates=_names)(cell(len(_names), _pointwise))
