"""LeNet-5. LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 1998.

What everybody calls LeNet today is a simplification of the paper's network, and so is this one:
- the paper's pictures are 32×32 and its first convolution has no padding; here 28×28 is padded by 2, the same 32;
- the paper's S2 and S4 have a weight and a bias per map (12 + 32 parameters), average pooling has none;
- the paper's C3 sees only some of the six maps (1,516 parameters, not 2,416) and its output layer is RBF, not fc.
The paper counts 60,000 parameters, this network has 61,706.

`lenet-bn` puts batch normalisation (Ioffe & Szegedy, ICML 2015, arXiv 1502.03167) between every layer and its sigmoid.
"""

from collections import OrderedDict

from torch import nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

PAPER = "LeCun et al. 1998, Proc. IEEE 86(11), Gradient-based learning applied to document recognition"
PAPER_BN = "LeCun et al. 1998, Proc. IEEE 86(11), with Ioffe & Szegedy 2015 ICML, Batch Normalization, arXiv 1502.03167"


@register("lenet", input="1x1x28x28", params=61_706, macs=416_520, paper=PAPER)
@register("lenet-bn", input="1x1x28x28", params=62_158, macs=416_520, paper=PAPER_BN, batch_norm=True)
def lenet(in_channels: int = 1, num_classes: int = 10, batch_norm: bool = False) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, 6, 5, padding=2),
        norm1=nn.BatchNorm2d(6),
        sigmoid1=nn.Sigmoid(),
        pool1=nn.AvgPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        norm2=nn.BatchNorm2d(16),
        sigmoid2=nn.Sigmoid(),
        pool2=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(16 * 5 * 5, 120),
        norm3=nn.BatchNorm1d(120),
        sigmoid3=nn.Sigmoid(),
        fc2=nn.Linear(120, 84),
        norm4=nn.BatchNorm1d(84),
        sigmoid4=nn.Sigmoid(),
        fc3=nn.Linear(84, num_classes),
    )
    if not batch_norm:
        for name in ("norm1", "norm2", "norm3", "norm4"):
            del layers[name]
    return nn.Sequential(layers)
