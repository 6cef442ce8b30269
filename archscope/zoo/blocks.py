"""The building blocks of the families, each on its own with an input of its own, to be taken apart.

They are the very classes of the networks, but for the naive Inception block, which no network has: figure 2a of the
GoogLeNet paper, drawn to show what the 1×1 reductions of figure 2b save. At 3a's size it is 303 M multiply–accumulates
against 128 M, and 416 channels out against 256, since its pooling branch cannot be thinned.
"""

import torch
from torch import Tensor, nn

from archscope.zoo.catalogue import register
from archscope.zoo.densenet import DenseBlock, transition
from archscope.zoo.googlenet import Inception, branch
from archscope.zoo.knobs import one_of, positive
from archscope.zoo.mobilenet import ACTIVATIONS, depthwise_separable
from archscope.zoo.resnet import BasicBlock

GOOGLENET = "Szegedy et al. 2015 CVPR, Going Deeper with Convolutions, arXiv 1409.4842"
RESNET = "He, Zhang, Ren, Sun 2016 CVPR, Deep Residual Learning for Image Recognition, arXiv 1512.03385"
DENSENET = "Huang et al. 2017 CVPR, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"
MOBILENET = "Howard et al. 2017, MobileNets, arXiv 1704.04861"


class NaiveInception(nn.Module):
    """1×1, 3×3, 5×5 and a pool side by side, concatenated: c1 + c2 + c3 + c_in channels."""

    def __init__(self, c_in: int, c1: int, c2: int, c3: int) -> None:
        super().__init__()
        self.branch1 = branch(conv=nn.Conv2d(c_in, c1, 1), relu=nn.ReLU())
        self.branch2 = branch(conv=nn.Conv2d(c_in, c2, 3, padding=1), relu=nn.ReLU())
        self.branch3 = branch(conv=nn.Conv2d(c_in, c3, 5, padding=2), relu=nn.ReLU())
        self.branch4 = branch(pool=nn.MaxPool2d(3, stride=1, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, dim=1)  # 4 × (n, c_i, h, w) -> (n, c1 + c2 + c3 + c_in, h, w)


@register("inception-block", input="1x192x28x28", params=163_696, macs=128_049_152, paper=GOOGLENET)
def inception_block(
    in_channels: int = 192,
    c1: int = 64,
    c2_reduce: int = 96,
    c2: int = 128,
    c3_reduce: int = 16,
    c3: int = 32,
    c4: int = 32,
) -> nn.Module:
    """GoogLeNet's 3a."""
    positive(in_channels=in_channels, c1=c1, c2_reduce=c2_reduce, c2=c2, c3_reduce=c3_reduce, c3=c3, c4=c4)
    return Inception(in_channels, c1, (c2_reduce, c2), (c3_reduce, c3), c4)


@register("inception-naive-block", input="1x192x28x28", params=387_296, macs=303_464_448, paper=GOOGLENET)
def inception_naive_block(in_channels: int = 192, c1: int = 64, c2: int = 128, c3: int = 32) -> nn.Module:
    """3a without its 1×1 reductions."""
    positive(in_channels=in_channels, c1=c1, c2=c2, c3=c3)
    return NaiveInception(in_channels, c1, c2, c3)


@register("residual-block", input="1x64x56x56", params=73_984, macs=231_211_008, paper=RESNET)
def residual_block(in_channels: int = 64, channels: int = 64, stride: int = 1) -> nn.Module:
    """ResNet-18's layer1.0; with other channels or a stride it gets the 1×1 shortcut."""
    positive(in_channels=in_channels, channels=channels, stride=stride)
    return BasicBlock(in_channels, channels, stride)


@register("dense-block", input="1x3x8x8", params=1_492, macs=92_160, paper=DENSENET)
def dense_block(in_channels: int = 3, growth: int = 10, layers: int = 2) -> nn.Module:
    """The textbook's example: 3 + 2·10 = 23 channels."""
    positive(in_channels=in_channels, growth=growth, layers=layers)
    return DenseBlock(layers, in_channels, growth, textbook=True)


@register("transition-block", input="1x23x8x8", params=286, macs=14_720, paper=DENSENET)
def transition_block(in_channels: int = 23, out_channels: int = 10) -> nn.Module:
    """The textbook's example, behind `dense-block`."""
    positive(in_channels=in_channels, out_channels=out_channels)
    return transition(in_channels, out_channels, textbook=True)


@register("depthwise-separable-block", input="1x32x112x112", params=2_528, macs=29_302_784, paper=MOBILENET)
def depthwise_separable_block(
    in_channels: int = 32, out_channels: int = 64, stride: int = 1, activation: str = "relu"
) -> nn.Module:
    """MobileNet V1's first."""
    positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
    one_of("activation", activation, ACTIVATIONS)
    return depthwise_separable(in_channels, out_channels, stride, activation)
