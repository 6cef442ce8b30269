"""Matrix products."""

from math import prod
from string import ascii_letters
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Tensor
from archscope.operators.rule import (
    DENSE,
    Maybe,
    Work,
    agree,
    aten,
    axes_of,
    broadcast,
    by_output,
    by_x,
    fits,
    op,
    same,
    same_dtype,
)

DENSE.update(aten("linear addmm mm bmm baddbmm _grouped_mm mv matmul"))


@op("aten.linear")
def linear(input: Tensor, weight: Tensor, bias: Maybe = None) -> Work:
    # [*, p] = linear([*, m], [p, m], [p])
    same_dtype("a linear layer", input, weight, bias)
    if not input.shape:
        raise ShapeError("a linear layer needs at least one axis")
    *n, m = input.shape
    *p, features = axes_of(weight, "the weight of a linear layer", 1, 2)
    same("input features", features, m)
    outputs = prod(n) * prod(p)
    macs = outputs * m
    if bias is not None:
        fits(bias.shape, (*n, *p))
    return Work(((*n, *p),), macs, 2 * macs + (outputs if bias is not None else 0))


def _inner(left: int, right: int) -> None:
    if not agree(left, right):
        raise ShapeError(f"the matrices do not fit: {left} columns against {right} rows", expected=right, got=left)


@op("aten.mm")
def mm(self: Tensor, mat2: Tensor) -> Work:
    # [n, p] = mm([n, m], [m, p])
    n, m = axes_of(self, "a matrix", 2)
    rows, p = axes_of(mat2, "a matrix", 2)
    _inner(m, rows)
    return Work(((n, p),), n * m * p, 2 * n * m * p)


@op("aten.bmm")
def bmm(self: Tensor, mat2: Tensor) -> Work:
    # [b, n, p] = bmm([b, n, m], [b, m, p])
    b, n, m = axes_of(self, "a batch of matrices", 3)
    batches, rows, p = axes_of(mat2, "a batch of matrices", 3)
    _inner(m, rows)
    if b != batches:
        raise ShapeError(f"the batches do not fit: {b} against {batches}", expected=b, got=batches)
    return Work(((b, n, p),), b * n * m * p, 2 * b * n * m * p)


@op("aten._grouped_mm")
def grouped_mm(self: Tensor, mat2: Tensor, offs: Maybe = None, **more: Any) -> Work:
    # groups of rows: [n, p] = mm([n, m], [g, m, p]), of columns: [n, p] = mm([g, n, m], [m, p]), and of what is summed
    # over, as for the gradient of the matrices: [g, n, p] = mm([n, m], [m, p]); without groups [g, n, p] = bmm
    a, b = self.shape, mat2.shape
    if not {len(a), len(b)} <= {2, 3}:
        raise ShapeError(f"expects matrices or batches of them, gets {by_x(a)} and {by_x(b)}")
    if len(a) == len(b) == 3:
        return bmm(self, mat2)
    if offs is None:
        raise ShapeError(f"expects the ends of groups for {by_x(a)} and {by_x(b)}")
    (n, m), (rows, p) = a[-2:], b[-2:]
    _inner(m, rows)
    groups = offs.shape if len(a) == len(b) else ()
    return Work(((*groups, n, p),), n * m * p, 2 * n * m * p)


@op("aten.mv")
def mv(self: Tensor, vec: Tensor) -> Work:
    # [n] = mv([n, m], [m])
    n, m = axes_of(self, "a matrix", 2)
    _inner(m, *axes_of(vec, "a vector", 1))
    return Work(((n,),), n * m, 2 * n * m)


@op("aten.dot", "aten.vdot")
def dot(self: Tensor, tensor: Maybe = None, other: Maybe = None) -> Work:
    # [] = dot([m], [m])
    (m,) = axes_of(self, "a vector", 1)
    _inner(m, *axes_of(tensor or other or self, "a vector", 1))
    return Work(((),), m, 2 * m)


def _plus(self: Tensor, product: Work) -> Work:
    """A product with a tensor added to it: one addition per element."""
    assert product.shapes is not None
    fits(self.shape, product.shapes[0])
    return product._replace(flops=product.flops + prod(product.shapes[0]))


@op("aten.addmm")
def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n, p] = addmm([n, p] or [p], [n, m], [m, p])
    return _plus(self, mm(mat1, mat2))


@op("aten.baddbmm")
def baddbmm(self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [b, n, p] = baddbmm([b, n, p], [b, n, m], [b, m, p])
    return _plus(self, bmm(batch1, batch2))


@op("aten.addbmm")
def addbmm(self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n, p] = addbmm([n, p], [b, n, m], [b, m, p]): the products of all b, added up
    product = bmm(batch1, batch2)
    return _plus(self, product._replace(shapes=((batch1.shape[1], batch2.shape[2]),)))


@op("aten.addmv")
def addmv(self: Tensor, mat: Tensor, vec: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    # [n] = addmv([n], [n, m], [m])
    return _plus(self, mv(mat, vec))


@op("aten.matmul")
def matmul(self: Tensor, other: Tensor) -> Work:
    # [*, n, p] = matmul([*, n, m], [*, m, p]); a vector on either side is a row, or a column, that is dropped after
    if not self.shape or not other.shape:
        raise ShapeError("a matrix product needs at least one axis on both sides")
    a = self.shape if len(self.shape) > 1 else (1, *self.shape)
    b = other.shape if len(other.shape) > 1 else (*other.shape, 1)
    *left, n, m = a
    *right, rows, p = b
    _inner(m, rows)
    batch = broadcast(tuple(left), tuple(right))
    macs = prod(batch) * n * m * p
    shape = batch + (() if len(self.shape) == 1 else (n,)) + (() if len(other.shape) == 1 else (p,))
    return Work((shape,), macs, 2 * macs)


@by_output("aten._trilinear")
def trilinear(operator: Op) -> Work | None:
    # [b, o] = Σᵢⱼ [b, i] · [o, i, j] · [b, j], as nn.Bilinear asks for it: for each o first [b, j] = Σᵢ, then [b] = Σⱼ
    asked = [operator.args.get(key) for key in ("expand1", "expand2", "expand3", "sumdim", "unroll_dim")]
    if asked != [(1, 3), (0,), (1, 2), (2, 3), None]:
        return None
    (b, i), (o, _, j) = (t.shape for t in operator.inputs[:2])
    macs = o * (b * i * j + b * j)
    return Work(None, macs, 2 * macs)


def _without_dots(operator: Op) -> str:
    """The equation with letters for the axes of `...`, which are counted from the last one."""
    text = operator.args["equation"].replace(" ", "")
    left, arrow, out = text.partition("->")
    free_letters = [letter for letter in ascii_letters if letter not in text]
    terms, most = [], ""
    for term, tensor in zip(left.split(","), operator.inputs, strict=True):
        count = len(tensor.shape) - len(term.replace("...", ""))
        dots = "".join(reversed(free_letters[:count])) if "..." in term else ""
        most = max(most, dots, key=len)
        terms.append(term.replace("...", dots))
    return ",".join(terms) + arrow + out.replace("...", most)


@by_output("aten.einsum")
def einsum(operator: Op) -> Work | None:
    # kept whole only between constants; otherwise it arrives as its bmm. Two operands, each letter once in each:
    # a product of the sides of all letters, less those that one operand sums over alone; PyTorch drops an axis of 1, so
    # that it is never contracted
    left, arrow, out = _without_dots(operator).partition("->")
    terms = left.split(",")
    if len(terms) != 2 or "." in left or not arrow or any(len(term) != len(set(term)) for term in terms):
        return None
    one, other = (dict(zip(term, t.shape, strict=True)) for term, t in zip(terms, operator.inputs, strict=True))
    sides = {c: max(one.get(c, 1), other.get(c, 1)) for c in left if c != ","}
    letters = [{c for c, side in axes.items() if side != 1} for axes in (one, other)]
    shared = letters[0] & letters[1]
    cost = prod(m for c, m in sides.items() if c in shared or c in out)
    summed = sum(t.numel for t, s in zip(operator.inputs, letters, strict=True) if s - shared - set(out))
    return Work(None, cost, 2 * cost + summed) if shared - set(out) else Work(None, 0, cost + summed)


@by_output("aten.linalg_solve_triangular")
def solve_triangular(operator: Op) -> Work:
    # [*, n, k] by substitution: row i takes i products, and a division where the diagonal is not 1 (LAPACK's trtrs)
    outputs, n = operator.outputs[0].numel, operator.inputs[0].shape[-1]
    macs = outputs * (n - 1) // 2
    return Work(None, macs, 2 * macs + (0 if operator.args.get("unitriangular") else outputs))
