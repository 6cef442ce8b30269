"""Activations and arithmetic, element by element."""

from math import prod
from typing import Any

from archscope.core.errors import ShapeError
from archscope.core.record import Op, Tensor
from archscope.operators.rule import Work, axes_of, axis, broadcast, by_output, by_x, elementwise, free, op, same


def arithmetic(self: Any, other: Any = None, *_: Any, **__: Any) -> Work:
    """[*] = f([*], [*] or number): one operation per element of the result."""
    if isinstance(other, Tensor):
        if isinstance(self, Tensor):
            shape = self.shape if self.shape == other.shape else broadcast(self.shape, other.shape)
            # two dtypes: PyTorch's own promotion decides
            return Work((shape,) if self.dtype == other.dtype else None, 0, prod(shape))
        return Work(None, 0, prod(other.shape))
    if not isinstance(self, Tensor):  # `torch.div(64, 8)`
        return Work(None, 0, 1)
    # a float times an integer tensor is a float tensor: PyTorch's own promotion decides
    known = self.dtype.startswith(("float", "bfloat")) and not isinstance(other, complex)
    return Work((self.shape,) if known else None, 0, prod(self.shape))


def quotient(self: Any, other: Any, *_: Any, **__: Any) -> Work:
    """[*] = f([*], [*] or number), where integers may give floats: PyTorch's own promotion decides there."""
    done = arithmetic(self, other)
    is_float = isinstance(self, Tensor) and self.dtype.startswith(("float", "bfloat"))
    return done if is_float else done._replace(shapes=None)


@op("aten.pow", "aten.pow_")
def power(self: Any, exponent: Any) -> Work:
    # [*] = pow([*], [*] or number)
    return quotient(self, exponent)


_IN_PLACE_TOO = """relu relu6 sigmoid tanh gelu silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu
    threshold rrelu exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal neg abs square sin cos erf erfinv floor
    ceil round sign trunc frac""".split()


for _name in [*_IN_PLACE_TOO, *(f"{name}_" for name in _IN_PLACE_TOO)]:
    op(f"aten.{_name}")(elementwise)


for _name in "log_sigmoid softplus softshrink hardshrink".split():
    op(f"aten.{_name}")(elementwise)


for _name in "add add_ sub sub_ mul mul_ rsub".split():
    op(f"aten.{_name}")(arithmetic)


for _name in "div div_".split():
    op(f"aten.{_name}")(quotient)


free("eq ne lt le gt ge logical_and logical_or logical_not logical_xor isnan isinf isfinite")  # comparison
free("bitwise_and bitwise_or bitwise_not bitwise_xor bitwise_and_ bitwise_or_ bitwise_xor_ __and__ __or__")
free("__lshift__ __rshift__ bitwise_left_shift bitwise_right_shift isneginf isposinf signbit")

# one operation per element of the output; PyTorch decides shape and dtype
_PER_OUTPUT = """clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ clip clip_ divide true_divide
    float_power maximum minimum fmax fmin fmod remainder remainder_ floor_divide floor_divide_ atan2 addcmul addcmul_
    addcdiv addcdiv_ lerp lerp_ addr outer cumsum cumprod logcumsumexp logaddexp logaddexp2 tan asin acos atan sinh
    cosh asinh acosh atanh lgamma digamma logit logit_ sgn heaviside deg2rad rad2deg polar complex angle
    rrelu_with_noise _prelu_kernel xlogy hypot copysign nan_to_num nan_to_num_ sinc i0 erfc
    fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask quantize_per_tensor diff
    fake_quantize_per_channel_affine_cachemask quantize_per_channel log_sigmoid_forward linalg_cross gcd lcm ldexp frexp
    nextafter igamma igammac polygamma mvlgamma special_entr special_erfcx special_i0e special_i1 special_i1e
    special_log_ndtr special_ndtri special_xlog1py special_zeta""".split()


@op("aten.prelu")
def prelu(self: Tensor, weight: Tensor) -> Work:
    # [N, c, *] = prelu([N, c, *], [c] or [1])
    slopes = prod(axes_of(weight, "the weight of prelu", 0, 1))
    c = self.shape[1] if len(self.shape) > 1 else 1
    if slopes != 1:
        same("input channels", slopes, c)
    return Work((self.shape,), 0, prod(self.shape))


@op("aten.glu")
def glu(self: Tensor, dim: int = -1) -> Work:
    # [*, a, *] = glu([*, 2a, *]): one half times the sigmoid of the other
    at = axis(dim, self)
    a, odd = divmod(self.shape[at], 2) if self.shape else (0, 1)
    if odd:
        raise ShapeError(f"axis {dim} of {by_x(self.shape)} cannot be halved")
    shape = (*self.shape[:at], a, *self.shape[at + 1 :])
    return Work((shape,), 0, prod(shape))


@by_output(*(f"aten.{name}" for name in _PER_OUTPUT), "prims.add", "prims.sub", "prims.mul", "prims.div")
def per_output(operator: Op) -> Work:
    # 1 per element of the result
    return Work(None, 0, operator.outputs[0].numel)
