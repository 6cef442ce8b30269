"""NiN. Lin, Chen, Yan: Network in network, ICLR 2014, arXiv 1312.4400.

A small perceptron, that is two 1×1 convolutions, slides over every map; the last block has one map a class, and the
mean of a map is its class's score. There is no fully connected layer. The channels are the textbook's (AlexNet's),
not those of the paper's CIFAR networks, and the 1×1 convolution is the paper's "cascaded cross channel parametric
pooling" (cccp).
"""

from collections import OrderedDict

from torch import nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

PAPER = "Lin, Chen, Yan 2014 ICLR, Network In Network, arXiv 1312.4400"


def nin_block(c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(c_out, c_out, 1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(c_out, c_out, 1),
            relu3=nn.ReLU(),
        )
    )


@register("nin", input="1x1x224x224", params=1_992_166, macs=762_297_352, paper=PAPER)
def nin(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes)
    return nn.Sequential(
        OrderedDict(
            nin1=nin_block(in_channels, 96, kernel=11, stride=4, padding=0),
            pool1=nn.MaxPool2d(3, stride=2),
            nin2=nin_block(96, 256, kernel=5, stride=1, padding=2),
            pool2=nn.MaxPool2d(3, stride=2),
            nin3=nin_block(256, 384, kernel=3, stride=1, padding=1),
            pool3=nn.MaxPool2d(3, stride=2),
            dropout=nn.Dropout(0.5),
            nin4=nin_block(384, num_classes, kernel=3, stride=1, padding=1),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )
