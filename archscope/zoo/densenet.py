"""DenseNet. Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks, CVPR 2017, 1608.06993.

Every layer of a dense block adds `growth` channels and sees all those before it, so a block of n layers takes c
channels to c + n·growth. Names are torchvision's. Where the literature stumbles:
- DenseNet-BC is the published form for ImageNet: a 1×1 convolution to 4·growth before each 3×3 (B), transitions that
  halve the channels (C, θ = 0.5), convolutions without bias. Table 1 has growth 32, and 48 for DenseNet-161.
- `densenet-d2l` is the textbook's form: no bottleneck, convolutions with bias, four blocks of four layers.
- The order inside is norm, ReLU, convolution, the reverse of ResNet's.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import one_of, positive

PAPER = "Huang, Liu, van der Maaten, Weinberger 2017 CVPR, Densely Connected Convolutional Networks, arXiv 1608.06993"
PAPER_D2L = "Huang et al. 2017 CVPR, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"

# depth: channels of the stem, growth, layers in each of the four blocks
TABLE_1 = {
    121: (64, 32, (6, 12, 24, 16)),
    169: (64, 32, (6, 12, 32, 32)),
    201: (64, 32, (6, 12, 48, 32)),
    161: (96, 48, (6, 12, 36, 24)),
}


def dense_layer(c_in: int, growth: int, textbook: bool) -> nn.Module:
    if textbook:
        return nn.Sequential(
            OrderedDict(norm=nn.BatchNorm2d(c_in), relu=nn.ReLU(), conv=nn.Conv2d(c_in, growth, 3, padding=1))
        )
    return nn.Sequential(
        OrderedDict(
            norm1=nn.BatchNorm2d(c_in),
            relu1=nn.ReLU(),
            conv1=nn.Conv2d(c_in, 4 * growth, 1, bias=False),
            norm2=nn.BatchNorm2d(4 * growth),
            relu2=nn.ReLU(),
            conv2=nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )
    )


class DenseBlock(nn.Module):
    def __init__(self, layers: int, c_in: int, growth: int, textbook: bool = False) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", dense_layer(c_in + i * growth, growth, textbook))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat((x, layer(x)), dim=1)  # (n, c, h, w) -> (n, c + growth, h, w)
        return x


def transition(c_in: int, c_out: int, textbook: bool = False) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(c_in),
            relu=nn.ReLU(),
            conv=nn.Conv2d(c_in, c_out, 1, bias=textbook),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


def dense_net(
    stem: int, growth: int, blocks: tuple[int, ...], in_channels: int, num_classes: int, textbook: bool = False
) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes)
    features: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=textbook),
        norm0=nn.BatchNorm2d(stem),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = stem
    for i, layers in enumerate(blocks, start=1):
        features[f"denseblock{i}"] = DenseBlock(layers, channels, growth, textbook)
        channels += layers * growth
        if i < len(blocks):
            features[f"transition{i}"] = transition(channels, channels // 2, textbook)
            channels //= 2
    features["norm5"] = nn.BatchNorm2d(channels)
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(features),
            relu=nn.ReLU(),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(channels, num_classes),
        )
    )


@register("densenet121", input="1x3x224x224", params=7_978_856, macs=2_834_161_664, paper=PAPER, depth=121)
@register("densenet161", input="1x3x224x224", params=28_681_000, macs=7_727_907_072, paper=PAPER, depth=161)
@register("densenet169", input="1x3x224x224", params=14_149_480, macs=3_359_843_328, paper=PAPER, depth=169)
@register("densenet201", input="1x3x224x224", params=20_013_928, macs=4_291_365_888, paper=PAPER, depth=201)
def densenet(depth: int = 121, in_channels: int = 3, num_classes: int = 1000) -> nn.Module:
    stem, growth, blocks = one_of("depth", depth, TABLE_1)
    return dense_net(stem, growth, blocks, in_channels, num_classes)


@register("densenet-d2l", input="1x1x96x96", params=758_226, macs=129_077_168, paper=PAPER_D2L)
def densenet_d2l(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    return dense_net(64, 32, (4, 4, 4, 4), in_channels, num_classes, textbook=True)
