"""GoogLeNet. Szegedy et al.: Going deeper with convolutions, CVPR 2015, arXiv 1409.4842.

Table 1 of the paper as data. Where the literature stumbles:
- torchvision's `googlenet` is another network: its third branch is 3×3 where the paper's is 5×5, and it puts batch
  normalisation, which came later, behind bias-free convolutions. Its counts are not these.
- Table 1 has misprints: conv1 "2.7K, 34M" is no 7×7 convolution of 3 channels to 64 (9,408 weights, 118M), and the
  parameters printed for 4a, 4c, 4d, 4e, 5a, 5b do not follow from the filter counts in their own rows.
- The auxiliary classifiers run in training only, so they are 6.4 M parameters and no arithmetic of the trained network.
- The two local response normalisations of figure 3 are in `googlenet`, with Caffe's constants, since the paper gives
  none. The textbook form leaves them, dropout and the auxiliary classifiers out, and one source of it also leaves out
  the ReLUs behind conv2 and conv3 (`googlenet-d2l@stem_relu=false`).
- The paper's pools round up; a padding of 1 gives the same maps at 224.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

PAPER = "Szegedy et al. 2015 CVPR, Going Deeper with Convolutions, arXiv 1409.4842"
PAPER_D2L = "Szegedy et al. 2015 CVPR, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"

# block: input channels, #1×1, (#3×3 reduce, #3×3), (#5×5 reduce, #5×5), pool proj
INCEPTION = {
    "3a": (192, 64, (96, 128), (16, 32), 32),
    "3b": (256, 128, (128, 192), (32, 96), 64),
    "4a": (480, 192, (96, 208), (16, 48), 64),
    "4b": (512, 160, (112, 224), (24, 64), 64),
    "4c": (512, 128, (128, 256), (24, 64), 64),
    "4d": (512, 112, (144, 288), (32, 64), 64),
    "4e": (528, 256, (160, 320), (32, 128), 128),
    "5a": (832, 256, (160, 320), (32, 128), 128),
    "5b": (832, 384, (192, 384), (48, 128), 128),
}


def branch(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


class Inception(nn.Module):
    """Four branches over one input, concatenated: c1 + c2[1] + c3[1] + c4 channels (figure 2b)."""

    def __init__(self, c_in: int, c1: int, c2: tuple[int, int], c3: tuple[int, int], c4: int) -> None:
        super().__init__()
        self.branch1 = branch(conv=nn.Conv2d(c_in, c1, 1), relu=nn.ReLU())
        self.branch2 = branch(
            reduce=nn.Conv2d(c_in, c2[0], 1),
            relu1=nn.ReLU(),
            conv=nn.Conv2d(c2[0], c2[1], 3, padding=1),
            relu2=nn.ReLU(),
        )
        self.branch3 = branch(
            reduce=nn.Conv2d(c_in, c3[0], 1),
            relu1=nn.ReLU(),
            conv=nn.Conv2d(c3[0], c3[1], 5, padding=2),
            relu2=nn.ReLU(),
        )
        self.branch4 = branch(pool=nn.MaxPool2d(3, stride=1, padding=1), conv=nn.Conv2d(c_in, c4, 1), relu=nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, dim=1)  # 4 × (n, c_i, h, w) -> (n, c1 + c2 + c3 + c4, h, w)


class GoogLeNet(nn.Module):
    """A chain. A layer called aux… is a side branch: it looks on in training, and hands nothing down the chain.

    Gives the logits, or in training with side branches (logits, aux1, aux2); the paper adds 0.3 of each side loss.
    """

    def __init__(self, chain: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in chain.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        aside = []
        for name, layer in self.named_children():
            if not name.startswith("aux"):
                x = layer(x)
            elif self.training:
                aside.append(layer(x))
        return (x, *aside) if aside else x


def auxiliary(c_in: int, num_classes: int) -> nn.Module:
    """Section 5's side classifier, on the 14×14 maps that a 224×224 picture has at 4a and 4d."""
    return branch(
        pool=nn.AvgPool2d(5, stride=3),  # (n, c_in, 14, 14) -> (n, c_in, 4, 4)
        conv=nn.Conv2d(c_in, 128, 1),
        relu1=nn.ReLU(),
        flatten=nn.Flatten(),
        fc1=nn.Linear(128 * 4 * 4, 1024),
        relu2=nn.ReLU(),
        dropout=nn.Dropout(0.7),
        fc2=nn.Linear(1024, num_classes),
    )


def chain(in_channels: int, num_classes: int, aux: bool) -> OrderedDict[str, nn.Module]:
    """Table 1 from top to bottom, with the normalisations of figure 3."""
    positive(in_channels=in_channels, num_classes=num_classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, 64, 7, stride=2, padding=3),
        relu1=nn.ReLU(),
        maxpool1=nn.MaxPool2d(3, stride=2, padding=1),
        norm1=nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=1),
        conv2=nn.Conv2d(64, 64, 1),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(64, 192, 3, padding=1),
        relu3=nn.ReLU(),
        norm2=nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=1),
        maxpool2=nn.MaxPool2d(3, stride=2, padding=1),
    )
    for name, row in INCEPTION.items():
        layers[f"inception{name}"] = Inception(*row)
        if name in ("3b", "4e"):
            layers[f"maxpool{name[0]}"] = nn.MaxPool2d(3, stride=2, padding=1)
        if aux and name == "4a":
            layers["aux1"] = auxiliary(192 + 208 + 48 + 64, num_classes)
        if aux and name == "4d":
            layers["aux2"] = auxiliary(112 + 288 + 64 + 64, num_classes)
    return layers | OrderedDict(
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.4),
        fc=nn.Linear(384 + 384 + 128 + 128, num_classes),
    )


@register("googlenet", input="1x3x224x224", params=6_998_552, macs=1_582_671_872, paper=PAPER)
def googlenet(in_channels: int = 3, num_classes: int = 1000, aux: bool = False) -> nn.Module:
    """The published network; `aux` builds its two auxiliary classifiers, which run in training only."""
    return GoogLeNet(chain(in_channels, num_classes, aux))


@register("googlenet-d2l", input="1x1x96x96", params=5_977_530, macs=276_066_304, paper=PAPER_D2L)
def googlenet_d2l(in_channels: int = 1, num_classes: int = 10, stem_relu: bool = True) -> nn.Module:
    """Without normalisation, dropout and auxiliary classifiers."""
    layers = chain(in_channels, num_classes, aux=False)
    for name in ("norm1", "norm2", "dropout") if stem_relu else ("norm1", "norm2", "dropout", "relu2", "relu3"):
        del layers[name]
    return nn.Sequential(layers)
