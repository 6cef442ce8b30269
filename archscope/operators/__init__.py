"""One row per operator: its output shape, its cost, and how it moves the receptive field.

Counting semantics, version 1
-----------------------------
`macs` are multiply–accumulates: one multiplication and the addition that goes with it.

    convolution                 outputs · k · c_in/groups          (k = product of the kernel's sides), deformable too
    transposed convolution      inputs  · k · c_out/groups         by input size: each input element is spread once
    matrix products             n · m · p                          linear, mm, bmm, matmul, mv, dot, einsum
    sparse products             entries · p                        entries: those that the matrix stores
    bilinear                    n · o · (i · j + j)                first Σ over i, then over j
    attention                   queries · keys · (d_qk + d_v) · heads; a causal mask is not discounted
    recurrent gates             steps · gates · h · (in + h)

Of complex numbers a multiply–accumulate counts as one, and has 8 FLOPs: four multiplications and four additions.

`flops` are 2 · macs plus the work below, one operation a unit:

    bias                        1 per output element
    batch, instance norm        2 per element; 4 more to take the statistics of a batch in training
    layer, group, RMS norm      5 per element (RMS: 4)
    activation, arithmetic      1 per output element, whatever the function (what PyTorch writes as several
                                operators counts as those: softsign 3, tanhshrink 2)
    softmax                     5 per element (maximum, subtract, exponential, sum, divide)
    max pooling                 k − 1 comparisons per output;  adaptive: window − 1
    average pooling             k per output (k − 1 additions and a division);  adaptive: its window
    reductions, losses          1 per input element (mean: one division more per output; embedding bag: 1 per
                                element of the rows looked up; scatter, index add: 1 per element added)
    interpolation               nearest 0; linear 2^n · 2 per output in n dimensions; bicubic 32
    deformable convolution      8 per sampled element (bilinear), 1 more with a mask
    region align                9 per sample (bilinear, and the mean); a ratio that depends on the box counts as 1
    weight norm                 2 per element of the weight, 1 per gain
    recurrent pointwise         per step and unit: RNN 2, LSTM 13, GRU 10, and 2 per gate for the biases

Zero by definition: views and copies, concatenation, padding, indexing and embedding, dropout, comparison, sorting and
creation of tensors, non-maximum suppression. They move numbers and compute none. An operator that is in none of these
lists is *unknown*: its cost is `None`, never 0, it is named under every table, and the totals are lower bounds,
`≥ 108`, until `register_cost` says what it costs.

A rule takes the operator's arguments by their schema names, tensors as `ir.Tensor`, and returns a `Work`. It refuses
what PyTorch refuses (PyTorch's own meta kernels are more lenient than its real ones). Rules see shapes only, never
module configurations: the closed forms of layers derive the same figures from those, and neither knows of the other.
"""

from importlib import import_module
from pkgutil import iter_modules

from archscope.core.record import Op
from archscope.operators.custom import COSTS, register_cost
from archscope.operators.rule import (
    AXES,
    BY_OUTPUT,
    CONSTANT,
    DENSE,
    KEEPS,
    RULES,
    SHAPES,
    SHOWN,
    UPPER_BOUNDS,
    VIEWS,
    ZERO,
    Axes,
    Reach,
    Rule,
    Work,
    broadcast,
    by_output,
    op,
    shares,
)  # fmt: skip

__all__ = [
    "AXES", "BY_OUTPUT", "CONSTANT", "COUNTING", "DENSE", "KEEPS", "RULES", "SHAPES", "SHOWN", "UPPER_BOUNDS", "VIEWS",
    "ZERO", "Axes", "Reach", "Rule", "Work", "broadcast", "by_output", "of_complex", "op", "register_cost", "shares",
    "work",
]  # fmt: skip

COUNTING = 1  # version of the counting semantics above: one more whenever a rule counts differently

for _family in iter_modules(__path__):  # a file a family, each enters its rules
    import_module(f"{__name__}.{_family.name}")


def work(operator: Op) -> Work | None:
    """What a recorded operator did: its rule, or nothing for one that is zero by definition. None when unknown."""
    done = _work(operator)
    if done is not None and done.macs and operator.outputs and operator.outputs[0].dtype.startswith("complex"):
        return of_complex(done)
    return done


def of_complex(done: Work) -> Work:
    """A complex multiply–accumulate is one, of four multiplications and four additions."""
    return done._replace(flops=done.flops + 6 * done.macs)


def _work(operator: Op) -> Work | None:
    rule = RULES.get(operator.name)
    if rule is not None:
        args = operator.args
        return rule(**args) if "out" not in args else rule(**{k: v for k, v in args.items() if k != "out"})
    rule = BY_OUTPUT.get(operator.name)
    if rule is not None:
        return rule(operator)
    if operator.name in ZERO:
        return Work(None)
    own = COSTS.get(operator.name)
    if own is not None:
        return own(operator)
    plain = operator.name.removesuffix("_")  # in place, an operator computes what it does elsewhere
    return _work(operator._replace(name=plain)) if plain != operator.name else None
