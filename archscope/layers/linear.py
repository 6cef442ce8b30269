"""Fully connected layers."""

from math import prod

from archscope.core.expression import product, symbol
from archscope.layers.formula import Config, Derived, Shapes, examples, layer, require


@layer("Linear", "LazyLinear", source="y = x·Wᵀ + b: one weight per pair of features, one bias per output")
def linear(config: Config, shapes: Shapes) -> Derived:
    """n_in·n_out + n_out parameters; n_in·n_out MACs for each vector. After a flatten it is a convolution."""
    require(len(shapes[0]) > 0, "takes at least one axis")
    *rows, features = shapes[0]
    n_in, n_out = symbol("n_in", config["in_features"]), symbol("n_out", config["out_features"])
    require(features == n_in.value, f"takes {n_in.value} features, gets {features}")
    weights = n_in * n_out
    return Derived(
        shapes=((*rows, n_out.value),),
        params=weights + n_out if config["bias"] else weights,
        macs=product(*examples(rows), n_in, n_out),
        weighted=True,
        operations=prod(rows) * n_out.value if config["bias"] else 0,
    )


@layer("Bilinear", source="y = x₁·W·x₂ + b: one matrix of weights per output, first x₁·W, then that times x₂")
def bilinear(config: Config, shapes: Shapes) -> Derived:
    """n_1·n_2·n_out + n_out parameters; n_out·(n_1·n_2 + n_2) MACs for each pair of vectors."""
    (*rows, first), (*others, second) = shapes[:2]
    n_1, n_2 = symbol("n_1", config["in1_features"]), symbol("n_2", config["in2_features"])
    n_out = symbol("n_out", config["out_features"])
    require(rows == others, f"takes as many vectors of one as of the other, gets {list(shapes[0])}, {list(shapes[1])}")
    require(first == n_1.value, f"takes {n_1.value} features, gets {first}")
    require(second == n_2.value, f"takes {n_2.value} features, gets {second}")
    weights = n_1 * n_2 * n_out
    return Derived(
        shapes=((*rows, n_out.value),),
        params=weights + n_out if config["bias"] else weights,
        macs=product(*examples(rows), n_out, n_1 * n_2 + n_2),
        weighted=True,
        operations=prod(rows) * n_out.value if config["bias"] else 0,
    )
