"""The table of what operators save, beside the installed PyTorch: a real forward of each, and what its hooks get."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archscope.analysis.saved import kept_by
from archscope.core.record import Op, Tensor
from archscope.operators.saves import SAVES

a = torch.ops.aten
LEAVES: list[torch.Tensor] = []


def x(*shape: int) -> torch.Tensor:
    """What needs a gradient; no leaf, so that it may be written over."""
    LEAVES.append(torch.rand(shape or (4, 6)).requires_grad_())
    return LEAVES[-1] + 0.1


def c(*shape: int) -> torch.Tensor:
    """What needs none."""
    return torch.rand(shape or (4, 6)) + 0.1


# the operator -> functions that run it, of one and of several kinds of arguments
MORE: dict[str, list[Callable[[], Any]]] = {
    "mul": [lambda: x() * x(), lambda: x() * c(), lambda: c() * x(), lambda: x() * 3],
    "mul_": [lambda: x().mul_(x()), lambda: x().mul_(c()), lambda: x().mul_(2)],
    "div": [lambda: x() / x(), lambda: x() / c(), lambda: c() / x(), lambda: x() / 3],
    "div_": [lambda: x().div_(x()), lambda: x().div_(c()), lambda: x().div_(2)],
    "add": [lambda: x() + x(), lambda: x() + 1], "add_": [lambda: x().add_(x())],
    "sub": [lambda: x() - x()], "sub_": [lambda: x().sub_(x())], "rsub": [lambda: a.rsub(x(), 1)],
    "mm": [lambda: x(4, 6) @ x(6, 3), lambda: x(4, 6) @ c(6, 3), lambda: c(4, 6) @ x(6, 3)],
    "bmm": [lambda: torch.bmm(x(2, 4, 6), x(2, 6, 3)), lambda: torch.bmm(x(2, 4, 6), c(2, 6, 3))],
   
    "addmm": [lambda: functional.linear(x(), x(3, 6), x(3)), lambda: functional.linear(c(), x(3, 6), x(3)),
              lambda: functional.linear(x(), c(3, 6), c(3))],
    "baddbmm": [lambda: torch.baddbmm(x(2, 4, 3), x(2, 4, 6), x(2, 6, 3))],
    "pow": [lambda: x() ** 3, lambda: x() ** x(), lambda: x() ** c(), lambda: c() ** x(), lambda: 2 ** x()],
    "convolution": [lambda: functional.conv2d(x(1, 2, 5, 5), x(3, 2, 3, 3), x(3)),
                    lambda: functional.conv2d(c(1, 2, 5, 5), x(3, 2, 3, 3), x(3)),
                    lambda: functional.conv2d(x(1, 2, 5, 5), c(3, 2, 3, 3))],
    "native_batch_norm": [lambda: functional.batch_norm(x(2, 3, 4, 4), c(3), c(3), x(3), x(3), training=True)],
    "native_layer_norm": [lambda: functional.layer_norm(x(), (6,), x(6), x(6))],
    "native_group_norm": [lambda: functional.group_norm(x(2, 4, 3, 3), 2, x(4), x(4))],
    "max_pool2d_with_indices": [lambda: a.max_pool2d_with_indices(x(1, 2, 4, 4), [2, 2])],
    "max_pool3d_with_indices": [lambda: a.max_pool3d_with_indices(x(1, 2, 4, 4, 4), [2, 2, 2])],
    "avg_pool2d": [lambda: functional.avg_pool2d(x(1, 2, 4, 4), 2)],
    "avg_pool3d": [lambda: functional.avg_pool3d(x(1, 2, 4, 4, 4), 2)],
    "_adaptive_avg_pool2d": [lambda: functional.adaptive_avg_pool2d(x(1, 2, 4, 4), 2)],
    "_adaptive_avg_pool3d": [lambda: functional.adaptive_avg_pool3d(x(1, 2, 4, 4, 4), 2)],
    "native_dropout": [lambda: torch.native_dropout(x(), 0.5, True)],
    "nll_loss_forward": [lambda: functional.nll_loss(x(), torch.zeros(4).long())],
    "embedding": [lambda: functional.embedding(torch.zeros(4).long(), x(5, 3))],
    "_softmax": [lambda: x().softmax(-1)], "_log_softmax": [lambda: x().log_softmax(-1)],
    "_safe_softmax": [lambda: a._safe_softmax(x(), -1)],
    "clamp": [lambda: x().clamp(0.2, 0.8)], "clamp_min": [lambda: x().clamp_min(0.2)],
    "clamp_max": [lambda: x().clamp_max(0.2)],
    "cat": [lambda: torch.cat([x(), x()])], "stack": [lambda: torch.stack([x(), x()])],
    "mean": [lambda: x().mean(), lambda: x().mean(1)], "sum": [lambda: x().sum(), lambda: x().sum(1)],
    "var": [lambda: x().var(1)],
    "view": [lambda: x().view(6, 4)], "_unsafe_view": [lambda: a._unsafe_view(x(), [6, 4])],
    "permute": [lambda: x().permute(1, 0)], "transpose": [lambda: x().mT],
    "t": [lambda: x().t()], "expand": [lambda: x(1, 6).expand(4, 6)], "squeeze": [lambda: x(1, 6).squeeze(0)],
    "unsqueeze": [lambda: x().unsqueeze(0)], "select": [lambda: x()[0]], "slice": [lambda: x()[1:3]],
    "split": [lambda: x().split(2)], "unbind": [lambda: x().unbind()],
    "split_with_sizes": [lambda: x().split([1, 3])], "unsafe_split": [lambda: a.unsafe_split(x(), 2)],
    "clone": [lambda: x().clone()], "alias": [lambda: a.alias(x())],
    "roll": [lambda: x().roll(1)], "_to_copy": [lambda: x().double()], "copy_": [lambda: x().copy_(x())],
    "constant_pad_nd": [lambda: functional.pad(x(), (1, 1))], "flip": [lambda: x().flip(0)],
    "native_channel_shuffle": [lambda: a.native_channel_shuffle(x(1, 4, 2, 2), 2)],
    "upsample_nearest1d": [lambda: functional.interpolate(x(1, 2, 4), scale_factor=2)],
    "upsample_nearest2d": [lambda: functional.interpolate(x(1, 2, 4, 4), scale_factor=2)],
    "upsample_bilinear2d": [lambda: functional.interpolate(x(1, 2, 4, 4), scale_factor=2, mode="bilinear")],
    "upsample_bicubic2d": [lambda: functional.interpolate(x(1, 2, 4, 4), scale_factor=2, mode="bicubic")],
    "cumsum": [lambda: x().cumsum(0)], "repeat": [lambda: x().repeat(2, 1)], "diagonal": [lambda: x().diagonal()],
    "unfold": [lambda: x().unfold(0, 2, 1)], "fill_": [lambda: x().fill_(1)], "zero_": [lambda: x().zero_()],
    "pixel_shuffle": [lambda: functional.pixel_shuffle(x(1, 4, 2, 2), 2)],
    "pixel_unshuffle": [lambda: functional.pixel_unshuffle(x(1, 1, 4, 4), 2)],
    "im2col": [lambda: functional.unfold(x(1, 2, 4, 4), 2)],
    "col2im": [lambda: functional.fold(x(1, 8, 9), (4, 4), 2)],
    "as_strided": [lambda: x().as_strided((2, 2), (1, 1))],
    "lift_fresh": [lambda: a.lift_fresh(x())],
    "masked_fill": [lambda: x().masked_fill(c() > 0.5, 0)], "masked_fill_": [lambda: x().masked_fill_(c() > 0.5, 0)],
    "index": [lambda: x()[torch.tensor([0, 2])], lambda: x()[:, torch.tensor([0, 2])]],
    "index_select": [lambda: x().index_select(0, torch.tensor([0, 2]))],
    "gather": [lambda: x().gather(1, torch.zeros(4, 2).long())],
    "where": [lambda: torch.where(c() > 0.5, x(), x())],
    "linalg_vector_norm": [lambda: torch.linalg.vector_norm(x(), dim=1)],
    "max": [lambda: x().max(1)], "min": [lambda: x().min(1)], "topk": [lambda: x().topk(2)],
    "sort": [lambda: x().sort(1)], "maximum": [lambda: torch.maximum(x(), x())],
    "minimum": [lambda: torch.minimum(x(), c())], "amax": [lambda: x().amax(1)], "amin": [lambda: x().amin(1)],
    "_prelu_kernel": [lambda: functional.prelu(x(), x(1))], "mse_loss": [lambda: functional.mse_loss(x(), c())],
    "smooth_l1_loss": [lambda: functional.smooth_l1_loss(x(), c())],
    "huber_loss": [lambda: functional.huber_loss(x(), c())],
    "binary_cross_entropy": [lambda: functional.binary_cross_entropy(x().sigmoid(), c().sigmoid())],
    "binary_cross_entropy_with_logits": [lambda: functional.binary_cross_entropy_with_logits(x(), c())],
    "reflection_pad1d": [lambda: functional.pad(x(1, 2, 4), (1, 1), "reflect")],
    "reflection_pad2d": [lambda: functional.pad(x(1, 2, 4, 4), (1, 1, 1, 1), "reflect")],
    "replication_pad2d": [lambda: functional.pad(x(1, 2, 4, 4), (1, 1, 1, 1), "replicate")],
    **{name: [lambda name=name: getattr(a, name)(x(), 0.5)] for name in "eq ne lt le gt ge eq_ ne_".split()},
    **{name: [lambda name=name: getattr(a, name)(x(), c())] for name in ["logical_and", "logical_or"]},
    **{name: [lambda name=name: getattr(a, name)(x(), [2])] for name in ["new_zeros", "new_empty", "new_ones"]},
    "new_full": [lambda: x().new_full([2], 1.0)], "full_like": [lambda: torch.full_like(x(), 2)],
    "bernoulli": [lambda: (x() * 0.5).bernoulli()],
    "bernoulli_": [lambda: (torch.empty_like(x()).bernoulli_(), x())[0]],
    "pow_": [lambda: x().pow_(3), lambda: x().pow_(2)], "clamp_": [lambda: x().clamp_(0.2, 0.8)],
    "clamp_min_": [lambda: x().clamp_min_(0.2)], "var_mean": [lambda: torch.var_mean(x(), 1)],
    "norm": [lambda: a.norm(x(), 2, [1])], "std": [lambda: x().std(1)], "logsumexp": [lambda: x().logsumexp(1)],
    "adaptive_max_pool2d": [lambda: functional.adaptive_max_pool2d(x(1, 2, 4, 4), 2)],
    "median": [lambda: x().median(1)], "atan2": [lambda: torch.atan2(x(), x())],
    "threshold": [lambda: functional.threshold(x(), 0.5, 0)],
}  # fmt: skip
ELSEWHERE = {"_fused_rms_norm"}  # PyTorch has no kernel of it for a CPU
NAMES = [name.removeprefix("aten.") for name in SAVES if name.removeprefix("aten.") not in ELSEWHERE]


class Recorder(TorchDispatchMode):
    """Writes operators down; a tensor's id is its storage."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.alive: list[Any] = []  # so that an address is one storage's

    def tensor(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        self.alive.append(value)
        return Tensor(value.untyped_storage()._cdata, tuple(value.shape), str(value.dtype).removeprefix("torch."))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        names = [argument.name for argument in func._schema.arguments]
        named = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        given = {
            key: tuple(map(self.tensor, value)) if isinstance(value, (list, tuple)) else self.tensor(value)
            for key, value in named.items()
        }
        inputs, outputs = (
            tuple(self.tensor(t) for t in tree_leaves(of) if isinstance(t, torch.Tensor)) for of in (named, output)
        )
        self.ops.append(Op(func._schema.name.replace("::", "."), inputs, outputs, given))
        return output


def ways(name: str) -> list[Callable[[], Any]]:
    """How an operator is run: by the table above, or of one tensor."""
    return MORE.get(name) or [lambda: getattr(a, name)(x())]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_what_the_installed_torch_saves(name: str) -> None:
    seen = False
    for run in ways(name):
        saved: dict[int, int] = {}
        recorder = Recorder()

        def pack(tensor: torch.Tensor, saved: dict[int, int] = saved, recorder: Recorder = recorder) -> torch.Tensor:
            recorder.alive.append(tensor)
            saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        LEAVES.clear()
        with recorder, saved_tensors_hooks(pack, lambda tensor: tensor):
            output = run()
        derived, unknown = kept_by(recorder.ops, {leaf.untyped_storage()._cdata for leaf in LEAVES})
        assert not unknown
        assert output is not None
        assert derived == saved.keys(), f"{[op.name for op in recorder.ops]}: {sum(saved.values())} bytes are saved"
        seen = seen or any(op.name == f"aten.{name}" for op in recorder.ops)
    assert seen, "the operator was not run"
