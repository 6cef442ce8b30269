"""timm: the `gmacs` that its benchmark tables publish, which are fvcore's.

Read from timm 1.0.31's `benchmark.py`: `FlopCountAnalysis(model, torch.ones(1, …)).total()`. So the figure is
fvcore's, with normalisation, adaptive average pooling and interpolation in it, and without what fvcore has no handle
for: padding='same', recurrent layers, and attention where it is one fused call (the tables of torch 2.4 and before were
run with attention taken apart, and count it). They round to a hundredth of a G, and some of their rows are of models
in their re-parameterised form.
"""

from archscope.core.record import Trace
from archscope.peers.accounts import Account, counter
from archscope.peers.tools import fvcore


@counter(
    "timm",
    title="timm's published gmacs",
    calls="gmacs",
    unit="MAC",
    package="timm",
    version="1.0.31",
    order=8,
    means="those of fvcore",
)
def convention(trace: Trace) -> Account:
    return fvcore.convention(trace)
