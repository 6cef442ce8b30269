"""VGG. Simonyan & Zisserman: Very deep convolutional networks for large-scale image recognition, ICLR 2015, 1409.1556.

Table 1 of the paper as data: five groups of 3×3 convolutions, each group ended by a 2×2 pool, then three fully
connected layers. The weights are in the last three layers, the arithmetic is in the convolutions: fc6 alone holds
102,764,544 of the 138,357,544 parameters of VGG-16.

The slim forms divide every convolution's channels by `ratio`. One source keeps the 4,096 of fc6 and fc7
(`vgg11-d2l@ratio=4`), another divides them too (`vgg11-d2l@ratio=8@fc_width=512`).
"""

from collections import OrderedDict

from torch import nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import one_of, positive

PAPER = "Simonyan & Zisserman 2015 ICLR, Very Deep Convolutional Networks, arXiv 1409.1556"
PAPER_D2L = "Simonyan & Zisserman 2015 ICLR, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"

CHANNELS = (64, 128, 256, 512, 512)
CONVS = {  # convolutions in each of the five groups
    "A": (1, 1, 2, 2, 2),
    "A-LRN": (1, 1, 2, 2, 2),  # normalised after the first convolution
    "B": (2, 2, 2, 2, 2),
    "C": (2, 2, 3, 3, 3),  # the third of a group is 1×1
    "D": (2, 2, 3, 3, 3),
    "E": (2, 2, 4, 4, 4),
}


@register("vgg11", input="1x3x224x224", params=132_863_336, macs=7_609_090_048, paper=PAPER, configuration="A")
@register("vgg11-lrn", input="1x3x224x224", params=132_863_336, macs=7_609_090_048, paper=PAPER, configuration="A-LRN")
@register("vgg13", input="1x3x224x224", params=133_047_848, macs=11_308_466_176, paper=PAPER, configuration="B")
@register("vgg16-c", input="1x3x224x224", params=133_638_952, macs=11_770_888_192, paper=PAPER, configuration="C")
@register("vgg16", input="1x3x224x224", params=138_357_544, macs=15_470_264_320, paper=PAPER, configuration="D")
@register("vgg19", input="1x3x224x224", params=143_667_240, macs=19_632_062_464, paper=PAPER, configuration="E")
@register(
    "vgg11-d2l",
    input="1x1x224x224",
    params=128_806_154,
    macs=7_547_232_256,
    paper=PAPER_D2L,
    configuration="A",
    in_channels=1,
    num_classes=10,
)
def vgg(
    configuration: str = "D", in_channels: int = 3, num_classes: int = 1000, ratio: int = 1, fc_width: int = 4096
) -> nn.Module:
    convs = one_of("configuration", configuration, CONVS)
    positive(in_channels=in_channels, num_classes=num_classes, ratio=ratio, fc_width=fc_width)
    if ratio > min(CHANNELS):
        raise ValueError(f"ratio must be at most {min(CHANNELS)}, the channels of the first group, not {ratio}")

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    c_in = in_channels
    for group, (n, channels) in enumerate(zip(convs, CHANNELS, strict=True), start=1):
        c_out = channels // ratio
        for i in range(1, n + 1):
            k = 1 if configuration == "C" and i == 3 else 3
            layers[f"conv{group}_{i}"] = nn.Conv2d(c_in, c_out, k, padding=k // 2)
            layers[f"relu{group}_{i}"] = nn.ReLU()
            if configuration == "A-LRN" and (group, i) == (1, 1):
                layers["norm1_1"] = nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2)
            c_in = c_out
        layers[f"pool{group}"] = nn.MaxPool2d(2)

    layers |= OrderedDict(
        flatten=nn.Flatten(),
        fc6=nn.Linear(c_in * 7 * 7, fc_width),
        relu6=nn.ReLU(),
        dropout6=nn.Dropout(0.5),
        fc7=nn.Linear(fc_width, fc_width),
        relu7=nn.ReLU(),
        dropout7=nn.Dropout(0.5),
        fc8=nn.Linear(fc_width, num_classes),
    )
    return nn.Sequential(layers)
