"""PyTorch's own `torch.utils.flop_counter.FlopCounterMode`: "FLOP", two for each multiply-add.

Read from its source in torch 2.14. Below it every operator is taken apart as far as PyTorch can, and what is then a
matrix product (mm, bmm, addmm, baddbmm) or a convolution is counted; all else is 0, without a word. It is run on the
meta device and with gradients enabled: on a CPU, attention and recurrent layers arrive as one fused call of which it
knows nothing, and the same network has another figure.
"""

import copy
from typing import Any

from archscope.core.record import Trace
from archscope.peers.accounts import Account, Ledger, counter, measures, place_of


@counter(
    "torch",
    title="torch FlopCounterMode",
    calls="FLOP",
    unit="FLOP",
    package="",
    version="2.14",
    order=3,
    means="two for each multiply-add of convolutions and matrix products",
)
def convention(trace: Trace) -> Account:
    ledger = Ledger(trace)
    for i, op in enumerate(trace.ops):
        name = op.name.rpartition(".")[2]
        if ledger.macs[i] and _vanishes(name, [len(t.shape) for t in op.inputs]):
            ledger.enter(f"{name} has no formula: 0", -ledger.macs[i], place_of(trace, i))
    return ledger.account(factor=2)


# products of which it has no formula, and which PyTorch does not take apart
_NO_FORMULA = frozenset("mv dot vdot addmv addbmm deform_conv2d _trilinear einsum linalg_solve_triangular".split())


def _vanishes(name: str, axes: list[int]) -> bool:
    """Whether an operator becomes one without a formula. axes: how many each of its inputs has."""
    return axes[1] == 1 if name in ("linear", "matmul") else name in _NO_FORMULA  # by a vector: mv


@measures("torch")
def measured(model: Any, inputs: tuple[Any, ...], kwargs: Any) -> int:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from archscope.peers.fake_cpu import on_fake_cpu

    def summed(model: Any, inputs: Any, kwargs: Any) -> int:
        counting = FlopCounterMode(display=False)
        with torch.enable_grad(), counting:
            model(*inputs, **kwargs)
        return counting.get_total_flops()

    model.requires_grad_(False)
    try:
        return summed(copy.deepcopy(model).to("meta"), inputs, kwargs)
    except RuntimeError:  # the forward makes tensors of its own, or reads the values of a constant
        with (
            on_fake_cpu(model, (inputs, kwargs)) as (given, named),
            sdpa_kernel(SDPBackend.MATH),  # and nothing fused, in which it would see nothing
            torch.backends.mkldnn.flags(enabled=False),
        ):
            return summed(model, given, named)
