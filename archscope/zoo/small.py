"""Two small networks for MNIST (LeCun et al., Proc. IEEE 1998) that courses build first; no paper publishes them.

Both take 28×28 pictures: two pools by 2 leave 7×7 of them where the convolutions are padded (`mnist-cnn`), 4×4 where
they are not (`basic-cnn`: 28 → 24 → 12 → 8 → 4).
"""

from collections import OrderedDict

from torch import nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

PAPER = "a teaching network without a paper, for the digits of LeCun et al. 1998, Proc. IEEE 86(11)"


@register("mnist-cnn", input="1x1x28x28", params=79_797, macs=585_354, paper=PAPER)
def mnist_cnn(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 8, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(8, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * 7 * 7, 49),
            relu3=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            fc2=nn.Linear(49, num_classes),
            logsoftmax=nn.LogSoftmax(dim=1),
        )
    )


@register("basic-cnn", input="1x1x28x28", params=8_490, macs=467_200, paper=PAPER)
def basic_cnn(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 10, 5),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(10, 20, 5),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(20 * 4 * 4, num_classes),
        )
    )
