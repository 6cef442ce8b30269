"""Tables of learned numbers, and parameters that belong to no layer."""

from archscope.core.expression import product, symbol
from archscope.layers.formula import Config, Derived, Shapes, layer


@layer(
    "Embedding",
    source="one row of the table per symbol: vocabulary · dimension; a lookup, no arithmetic",
    letters={"d": "numbers a symbol"},
)
def embedding(config: Config, shapes: Shapes) -> Derived:
    vocabulary, dimension = symbol("vocabulary", config["num_embeddings"]), symbol("d", config["embedding_dim"])
    return Derived(((*shapes[0], dimension.value),), params=vocabulary * dimension, operations=0)


@layer("parameter", source="a tensor of learned numbers: the product of its sides")
def parameter(config: Config, shapes: Shapes) -> Derived:
    """A parameter that belongs to no layer: a class token, a position table, the scale of a residual branch."""
    sides = [symbol(f"n_{i}", n) for i, n in enumerate(shapes[0], 1)]
    return Derived(shapes[:1], params=product(*sides or [1]))
