"""torchvision 0.29: the `_ops` in the metadata of its weights, "GFLOPS", which are multiply-adds.

Read from its `test/common_extended_utils.py`, a dispatch mode that was run on a CPU, with gradients enabled, to write
these figures. It knows mm, matmul, addmm, bmm and convolution, without biases, transposed ones by input size; attention
was still taken apart into these then. All else is 0: deformable convolutions, fused recurrent layers. The published
figures are rounded to a millionth of a G (0.714 for AlexNet); this one is not. There is no tool to run.
"""

from archscope.core.record import Trace
from archscope.peers.accounts import Account, Ledger, counter, place_of

_KNOWN = frozenset("linear mm matmul addmm bmm scaled_dot_product_attention".split())
_CELLS = frozenset("gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())  # their products


@counter(
    "torchvision",
    title="torchvision's published _ops",
    calls="GFLOPS",
    unit="MAC",
    package="torchvision",
    version="0.29",
    order=7,
    means="multiply-adds of convolutions and matrix products",
)
def convention(trace: Trace) -> Account:
    ledger = Ledger(trace)
    for i, op in enumerate(trace.ops):
        name = op.name.rpartition(".")[2]
        if ledger.macs[i] and name not in _KNOWN | _CELLS and not name.startswith("conv"):
            ledger.enter(f"{name} not seen", -ledger.macs[i], place_of(trace, i))
    return ledger.account()
