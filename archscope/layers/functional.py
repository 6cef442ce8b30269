"""Functions of tensors that a container calls itself: products of matrices, arithmetic, joins."""

import functools
from math import prod

from archscope.core.expression import product, symbol, total
from archscope.layers.formula import Config, Derived, Shapes, axis_of, broadcast, examples, layer, require


@layer(
    "matmul",
    source="[n, p] = [n, m]·[m, p]: each of n·p sums has m products, for every matrix of the batch",
    letters={"n": "rows", "m": "sums of", "p": "columns"},
    functions=("mm", "bmm", "mv", "dot", "vdot", "matmul"),
)
def matmul(config: Config, shapes: Shapes) -> Derived | None:
    """Of two tensors; leading axes are a batch, and one of 1 is repeated. A vector is a row or a column."""
    if len(shapes) != 2 or not shapes[0] or not shapes[1]:
        return None
    left = shapes[0] if len(shapes[0]) > 1 else (1, *shapes[0])
    right = shapes[1] if len(shapes[1]) > 1 else (*shapes[1], 1)
    require(left[-1] == right[-2], f"[…, n, m]·[…, m, p] cannot be {list(shapes[0])}·{list(shapes[1])}")
    batch = broadcast(left[:-2], right[:-2])
    n, m, p = symbol("n", left[-2]), symbol("m", left[-1]), symbol("p", right[-1])
    rows, columns = ((n.value,) if len(shapes[0]) > 1 else ()), ((p.value,) if len(shapes[1]) > 1 else ())
    return Derived(((*batch, *rows, *columns),), macs=product(*examples(batch), n, m, p), operations=0)


@layer(
    "grouped_mm",
    source="[n, p] = [n, m]·[g, m, p]: each row by the matrix of its group",
    functions=("_grouped_mm",),
)
def grouped_mm(config: Config, shapes: Shapes) -> Derived | None:
    if len(shapes) < 2 or len(shapes[0]) != 2 or len(shapes[1]) != 3:
        return matmul(config, shapes[:2])
    require(shapes[0][1] == shapes[1][1], f"[n, m]·[g, m, p] cannot be {list(shapes[0])}·{list(shapes[1])}")
    n, m, p = symbol("n", shapes[0][0]), symbol("m", shapes[0][1]), symbol("p", shapes[1][2])
    return Derived(((n.value, p.value),), macs=product(n, m, p), operations=0)


@layer("addmm", source="a matrix product, and a tensor added to it", functions=("addmm", "baddbmm", "addmv"))
def addmm(config: Config, shapes: Shapes) -> Derived | None:
    """c + a·b, which are given in this order; the product may be one of a batch or of a vector."""
    product_of = matmul({}, shapes[1:])
    if product_of is None:
        return None
    shape = product_of.shapes[0]
    require(broadcast(shapes[0], shape) == shape, f"{list(shapes[0])} is too large")
    return product_of._replace(operations=prod(shape))


@layer("addbmm", source="the products of a batch, added up", functions=("addbmm",))
def addbmm(config: Config, shapes: Shapes) -> Derived | None:
    product_of = matmul({}, shapes[1:])
    if product_of is None:
        return None
    shape = product_of.shapes[0][1:]
    return product_of._replace(shapes=(shape,), operations=prod(shape))


@layer(
    "arithmetic",
    source="element by element: a side of 1, and one that is missing, is repeated",
    functions=("rsub", *(name + end for name in "add sub mul div pow".split() for end in ("", "_"))),
)
def arithmetic(config: Config, shapes: Shapes) -> Derived:
    """A sum, a product, … of two tensors, or of a tensor and a number."""
    shape = functools.reduce(broadcast, shapes)
    return Derived((shape,), operations=prod(shape))


@layer(
    "cat",
    source="side by side along one axis: the sum of its sides, the others alike",
    functions=("cat", "concat"),
)
def cat(config: Config, shapes: Shapes) -> Derived:
    shapes = tuple(shape for shape in shapes if shape != (0,)) or shapes  # an empty tensor joins with any other
    at = axis_of(config.get("dim", 0), shapes[0])
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
    require(len(rest) == 1, f"joins along axis {at} what is alike in all others, gets {list(map(list, shapes))}")
    side = total(*(symbol(f"n_{i}", shape[at]) for i, shape in enumerate(shapes, 1)))
    return Derived(((*shapes[0][:at], side.value, *shapes[0][at + 1 :]),), (side,), operations=0)


@layer("stack", source="side by side along a new axis", functions=("stack",))
def stack(config: Config, shapes: Shapes) -> Derived:
    require(len(set(shapes)) == 1, f"stacks what is alike, gets {list(map(list, shapes))}")
    at = config.get("dim", 0) % (len(shapes[0]) + 1)
    return Derived(((*shapes[0][:at], len(shapes), *shapes[0][at:]),), operations=0)
