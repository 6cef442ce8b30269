"""Autocast for a run on the meta device, with the lists of the device that the step is for.

PyTorch's autocast casts the arguments of operators by the device of their tensors, so tensors without data are never
cast. Here the same casts are made by kernels of a dispatch key that no device of PyTorch uses, and only within
`autocast(…)`. An operator that PyTorch calls inside another one is reached as with `torch.autocast`.

Lists and rules are those of `aten/src/ATen/autocast_mode.h` (CUDA) and `autocast_mode.cpp` (CPU) of PyTorch 2.14. The
two devices differ: on CUDA normalisation, softmax and sums run in float32, on a CPU in the dtype that they get. A test
compares the names with what the installed PyTorch registers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from archscope.core.errors import SpecError

# rule -> operators by device: `lower` casts to the lower precision, `float` to float32, `widest` to the widest dtype of
# the arguments, `dtype` asks for an output in float32, `refused` raises
LISTS: dict[str, dict[str, str]] = {
    "cuda": {
        "lower": """_convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d
            conv_transpose2d.input conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv
            linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
            _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell _scaled_dot_product_flash_attention
            scaled_dot_product_attention""",
        "float": """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
            pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim
            nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d
            hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
            multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss
            binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp upsample_nearest1d
            _upsample_nearest_exact1d upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d
            _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa
            upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa""",
        "dtype": """prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm
            linalg_matrix_norm.str_ord sum sum.dim_IntList norm.Scalar norm.ScalarOpt_dim""",
        "widest": "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add",
        "refused": "binary_cross_entropy",
    },
    "cpu": {
        "lower": """conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding bmm mm linalg_vecdot baddbmm addmm
            addbmm linear _addmm_activation _convolution.deprecated matmul conv_tbc mkldnn_rnn_layer conv_transpose1d
            conv_transpose2d.input conv_transpose3d.input prelu scaled_dot_product_attention
            _native_multi_head_attention""",
        "float": """avg_pool3d binary_cross_entropy grid_sampler polar prod prod.dim_int quantile quantile.scalar
            nanquantile nanquantile.scalar stft stft.center cdist grid_sampler_2d _grid_sampler_2d_cpu_fallback
            grid_sampler_3d trace view_as_complex cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse
            max_pool3d max_unpool2d max_unpool3d adaptive_avg_pool3d reflection_pad1d reflection_pad2d replication_pad1d
            replication_pad2d replication_pad3d mse_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss
            poisson_nll_loss smooth_l1_loss cross_entropy_loss l1_loss huber_loss margin_ranking_loss soft_margin_loss
            triplet_margin_loss multi_margin_loss ctc_loss.IntList ctc_loss.Tensor kl_div multilabel_margin_loss
            binary_cross_entropy_with_logits fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft
            fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft linalg_cond linalg_cond.p_str
            linalg_matrix_rank linalg_matrix_rank.tol_tensor linalg_matrix_rank.atol_rtol_tensor
            linalg_matrix_rank.atol_rtol_float linalg_solve linalg_cholesky linalg_svdvals linalg_eigvals
            linalg_eigvalsh linalg_inv linalg_householder_product linalg_tensorinv linalg_tensorsolve
            fake_quantize_per_tensor_affine geqrf _lu_with_info linalg_qr linalg_svd linalg_eig linalg_eigh
            linalg_lstsq linalg_inv_ex linalg_cholesky_ex linalg_matrix_sqrth svd triangular_solve fractional_max_pool2d
            fractional_max_pool3d adaptive_max_pool3d multilabel_margin_loss_forward""",
        "widest": "stack cat index_copy",
    },
}

_KEYS = {"cuda": "AutocastHPU", "cpu": "AutocastIPU"}  # of devices that PyTorch itself has no kernels for
_key: Any = torch._C.DispatchKey  # type: ignore[attr-defined]
_set: Any = torch._C.DispatchKeySet  # type: ignore[attr-defined]
_without: Any = torch._C._ExcludeDispatchKeyGuard  # type: ignore[attr-defined]


class Casts:
    """The casts of one device within `autocast`. cache: the weights that were cast, as `torch.autocast` keeps them."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.lower = device, dtype
        self.key = _KEYS[device]
        self.keys = _set(getattr(_key, self.key))
        self.rules = {name: rule for rule, names in LISTS[device].items() for name in names.split()}
        self.cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.depth = 0

    @property
    def dtype(self) -> torch.dtype:
        """The lower precision at this moment: a model may choose another one for a part."""
        return torch.get_autocast_dtype(self.device)

    def to(self, dtype: torch.dtype, value: Any) -> Any:
        """An argument in another dtype: tensors, and those in a list, that autocast is for."""
        if isinstance(value, (list, tuple)):
            return [self.to(dtype, one) for one in value]
        if not _eligible(value) or value.dtype == dtype:
            return value
        leaf = value.dtype == torch.float32 and value.requires_grad and value.is_leaf and value._base is None
        if dtype != self.dtype or not leaf:
            return value.to(dtype)
        if id(value) not in self.cache:
            self.cache[id(value)] = (value, value.to(dtype))
        return self.cache[id(value)][1]

    def call(self, name: str, op: Any, args: Any, kwargs: Any) -> Any:
        """An operator with the arguments that its rule gives it."""
        rule = self.rules[name]
        if not torch.is_autocast_enabled(self.device):  # the model may turn it off
            return op(*args, **kwargs)
        if rule == "refused":
            raise SpecError(f"{name} is unsafe to autocast on {self.device}, PyTorch says: take {name}_with_logits")
        if rule == "dtype":
            return _in_float(op, args, kwargs)
        dtype = torch.float32
        if rule == "lower" or (rule == "widest" and not _has_float(args)):
            dtype = self.dtype
        # the last argument first, as the compiled code of PyTorch does; it is the order in the backward too
        named = {key: self.to(dtype, kwargs[key]) for key in reversed(kwargs)}
        given = [self.to(dtype, value) for value in reversed(args)]
        return op(*reversed(given), **named)


def _eligible(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _has_float(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_float, value))
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


_APPENDED = {"norm.Scalar": "ScalarOpt_dtype", "norm.ScalarOpt_dim": "ScalarOpt_dim_dtype"}  # they take no dtype


def _in_float(op: Any, args: Any, kwargs: Any) -> Any:
    """An operator whose output is asked for in float32, where nobody asked for another dtype."""
    if not _eligible(args[0]):
        return op(*args, **kwargs)
    name = op._schema.name.partition("::")[2]
    if other := _APPENDED.get(f"{name}.{op._schema.overload_name}"):
        dim = [*args[1:], *([False] if len(args) == 3 else [])]
        return getattr(getattr(torch.ops.aten, name), other)(args[0], *dim, dtype=torch.float32)
    at = [argument.name for argument in op._schema.arguments].index("dtype")
    given = args[at] if len(args) > at else kwargs.get("dtype")
    if given is not None:
        return op(*args, **kwargs)
    return op(*args[:at], **{**kwargs, "dtype": torch.float32})


_active: list[Casts] = []


@cache
def _library(device: str) -> tuple[Any, ...]:
    """The kernels of a device, made once. They run within `autocast` alone."""
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(torch.library.fallthrough_kernel, _KEYS[device])
    library = torch.library.Library("aten", "IMPL")
    for group in LISTS[device].values():
        for name in group.split():
            base, _, overload = name.partition(".")
            packet = getattr(torch.ops.aten, base, None)
            if packet is not None and (overload or "default") in packet.overloads():
                library.impl(name, _kernel(name, getattr(packet, overload or "default")), _KEYS[device])
    return rest, library


def _kernel(name: str, op: Any) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without(_active[-1].keys):
            return _active[-1].call(name, op, args, kwargs)

    return kernel


@contextmanager
def autocast(these: Casts | None) -> Iterator[None]:
    """Within this block operators on tensors without data are cast as `torch.autocast` casts those of the device."""
    if these is None:
        yield
        return
    device = these.device
    _library(device)
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    _active.append(these)
    these.depth += 1
    _switch(these.key, True)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, these.lower)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
        these.depth -= 1
        if not these.depth:
            these.cache.clear()
        _active.pop()
        _switch(these.key, bool(_active))


@contextmanager
def followed(device: str) -> Iterator[None]:
    """Within this block `torch.autocast` in the model's own code casts tensors without data of the device.

    PyTorch switches autocast off for CUDA on a machine without it: not here.
    """
    these = Casts(device, torch.get_autocast_dtype(device))
    amp: Any = torch.cuda.amp.common
    turn, clear, missing = torch.set_autocast_enabled, torch.clear_autocast_cache, amp.amp_definitely_not_available
    takes_bf16 = torch.cuda.is_bf16_supported

    def turned(*args: Any) -> None:
        kind, value = args if len(args) == 2 else ("cuda", *args)
        if kind == device and value and not _active:
            _library(device)
            _active.append(these)
            _switch(these.key, True)
        turn(kind, value)

    def cleared() -> None:
        these.cache.clear()
        clear()

    torch.set_autocast_enabled, torch.clear_autocast_cache = turned, cleared
    if device == "cuda":
        amp.amp_definitely_not_available, torch.cuda.is_bf16_supported = lambda: False, lambda *_: True
    try:
        yield
    finally:
        torch.set_autocast_enabled, torch.clear_autocast_cache = turn, clear
        amp.amp_definitely_not_available, torch.cuda.is_bf16_supported = missing, takes_bf16
        if these in _active:
            _active.remove(these)
            _switch(these.key, bool(_active))


def _switch(key: str, on: bool) -> None:
    torch._C._dispatch_tls_set_dispatch_key_included(key, on)  # type: ignore[attr-defined]
    torch._C._dispatch_tls_set_dispatch_key_excluded(key, not on)  # type: ignore[attr-defined]


def cast_now(*values: Any) -> list[Any]:
    """Arguments of attention in the dtype of the block around, for a kernel that is called without its function."""
    if not _active or not torch.is_autocast_enabled(_active[-1].device):
        return list(values)
    with _without(_active[-1].keys):
        return [_active[-1].to(_active[-1].dtype, value) for value in values]
