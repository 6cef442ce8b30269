"""AlexNet. Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks, NIPS 2012.

Where the literature stumbles:
- 224 or 227. The paper says 224, but (224 − 11)/4 + 1 is no integer. 227 without padding gives the 55×55 maps of the
  paper, and so does 224 with padding 2 (`alexnet@padding=2`). 224 without padding floors to 54: the last row and column
  are never seen, pool5 gives 5×5, and fc6 has 6,400 inputs, not 9,216 (that is `alexnet-slim`; `alexnet-d2l` pads by 1
  and comes to 54 as well).
- conv1 has 11·11·3·96 + 96 = 34,944 parameters; 34,848 forgets the biases.
- conv2's kernels are 48 deep in the paper, whose maps are split over two GPUs (groups=2 in conv2, conv4 and conv5:
  307,456 parameters), and 96 deep on one device (614,656, `alexnet-onegpu`).
- "60 million parameters, 650,000 neurons" are 60,965,224 and 659,272.
- Figure 2 gives conv1 253,440 neurons; 55·55·96 is 290,400.
- `alexnet-owt` is another network: the one column of Krizhevsky, One weird trick for parallelizing convolutional neural
  networks, 2014, arXiv 1404.5997. It is what torchvision calls `alexnet`.
"""

from collections import OrderedDict

from torch import nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

PAPER = "Krizhevsky, Sutskever, Hinton 2012 NIPS, ImageNet Classification with Deep Convolutional Neural Networks"
PAPER_D2L = "Krizhevsky et al. 2012 NIPS, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"
PAPER_OWT = "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997"

Layers = OrderedDict[str, nn.Module]


def convolutions(in_channels: int, channels: tuple[int, int, int, int, int], padding: int, groups: int = 1) -> Layers:
    """conv1 to pool5; `padding` is conv1's, `groups` that of the three layers that the paper splits in two."""
    positive(in_channels=in_channels)
    if padding < 0:
        raise ValueError(f"padding must be 0 or above, not {padding}")
    c1, c2, c3, c4, c5 = channels
    return OrderedDict(
        conv1=nn.Conv2d(in_channels, c1, 11, stride=4, padding=padding),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(3, stride=2),  # overlapping: the window is wider than the stride
        conv2=nn.Conv2d(c1, c2, 5, padding=2, groups=groups),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(3, stride=2),
        conv3=nn.Conv2d(c2, c3, 3, padding=1),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(c3, c4, 3, padding=1, groups=groups),
        relu4=nn.ReLU(),
        conv5=nn.Conv2d(c4, c5, 3, padding=1, groups=groups),
        relu5=nn.ReLU(),
        pool5=nn.MaxPool2d(3, stride=2),
    )


def normalised(layers: Layers) -> Layers:
    """The same chain with local response normalisation after the ReLUs of conv1 and conv2 (section 3.3)."""
    found: Layers = OrderedDict()
    for name, layer in layers.items():
        found[name] = layer
        if name in ("relu1", "relu2"):
            found[f"norm{name[-1]}"] = nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2)
    return found


def fully_connected(*widths: int) -> Layers:
    """flatten, fc6, relu6, dropout6, fc7, ...: `widths` has the inputs first and the classes last."""
    positive(num_classes=widths[-1])
    layers: Layers = OrderedDict(flatten=nn.Flatten())
    last = 6 + len(widths) - 2
    for i, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False), start=6):
        layers[f"fc{i}"] = nn.Linear(n_in, n_out)
        if i < last:
            layers[f"relu{i}"] = nn.ReLU()
            layers[f"dropout{i}"] = nn.Dropout(0.5)
    return layers


@register("alexnet", input="1x3x227x227", params=60_965_224, macs=724_406_816, paper=PAPER)
def alexnet(in_channels: int = 3, num_classes: int = 1000, padding: int = 0) -> nn.Module:
    """The published two towers on one device."""
    layers = normalised(convolutions(in_channels, (96, 256, 384, 384, 256), padding, groups=2))
    return nn.Sequential(layers | fully_connected(256 * 6 * 6, 4096, 4096, num_classes))


@register("alexnet-onegpu", input="1x3x227x227", params=62_388_354, macs=1_135_266_096, paper=PAPER)
def alexnet_onegpu(in_channels: int = 3, num_classes: int = 10) -> nn.Module:
    """No groups, no normalisation, and one more layer, fc9, from the thousand outputs of fc8 to the classes.

    fc8 feeds fc9 as it is: between the two there is neither ReLU nor dropout.
    """
    positive(num_classes=num_classes)
    layers = convolutions(in_channels, (96, 256, 384, 384, 256), padding=0)
    head = fully_connected(256 * 6 * 6, 4096, 4096, 1000)
    return nn.Sequential(layers | head | OrderedDict(fc9=nn.Linear(1000, num_classes)))


@register("alexnet-d2l", input="1x1x224x224", params=46_764_746, macs=938_146_176, paper=PAPER_D2L)
def alexnet_d2l(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    """No groups, no normalisation, conv1 padded by 1."""
    layers = convolutions(in_channels, (96, 256, 384, 384, 256), padding=1)
    return nn.Sequential(layers | fully_connected(256 * 5 * 5, 4096, 4096, num_classes))


@register("alexnet-slim", input="1x1x224x224", params=29_983_434, macs=921_368_960, paper=PAPER)
def alexnet_slim(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    """`alexnet-d2l` without conv1's padding and with one hidden fully connected layer, not two: the classes are fc7."""
    layers = convolutions(in_channels, (96, 256, 384, 384, 256), padding=0)
    return nn.Sequential(layers | fully_connected(256 * 5 * 5, 4096, num_classes))


@register("alexnet-owt", input="1x3x224x224", params=61_100_840, macs=714_188_480, paper=PAPER_OWT)
def alexnet_owt(in_channels: int = 3, num_classes: int = 1000) -> nn.Module:
    """One column, no normalisation, conv1 padded by 2. `avgpool` is torchvision's: 6×6 for every size of picture."""
    layers = convolutions(in_channels, (64, 192, 384, 256, 256), padding=2)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(6)
    return nn.Sequential(layers | fully_connected(256 * 6 * 6, 4096, 4096, num_classes))
