"""ResNet. He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, arXiv 1512.03385.

Table 1 of the paper as data. Module names are torchvision's. Where the literature stumbles:
- v1 or v1.5. In the paper a bottleneck that halves the map strides in its first 1×1 convolution (3.86 G
  multiply–accumulates for ResNet-50, printed as 3.8). Nearly every implementation since strides in the 3×3 (4.09 G),
  torchvision's too: `resnet50-v1.5`, or `resnet50@v1_5=true`. The parameters are the same.
- The shortcut is the paper's option B: a 1×1 convolution where the shape changes, nothing elsewhere.
- `resnet18-d2l` is the textbook's form: the convolutions keep their bias, the shortcut's convolution has no batch
  normalisation behind it.
"""

from torch import Tensor, nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import one_of, positive

PAPER = "He, Zhang, Ren, Sun 2016 CVPR, Deep Residual Learning for Image Recognition, arXiv 1512.03385"
PAPER_V1_5 = "He et al. 2016 CVPR, arXiv 1512.03385, with the stride of Goyal et al. 2017, arXiv 1706.02677"
PAPER_D2L = "He et al. 2016 CVPR, in the form of Zhang et al., Dive into Deep Learning, arXiv 2106.11342"

BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # depth: blocks in each of the four groups
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """The projection, where the block changes the shape; None where the input can be added as it is."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """y = ReLU(x + F(x)), F two 3×3 convolutions: the left half of the paper's figure 5."""

    expansion = 1

    def __init__(self, c_in: int, channels: int, stride: int = 1, textbook: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, channels, 3, stride=stride, padding=1, bias=textbook)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=textbook)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(c_in, channels, stride)
        if textbook and self.downsample is not None:
            self.downsample = nn.Conv2d(c_in, channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (n, c_in, h, w) -> (n, c, h/s, w/s)
        x = self.bn2(self.conv2(x))
        return self.relu(x + identity)


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up to four times the channels: the right half of figure 5."""

    expansion = 4

    def __init__(self, c_in: int, channels: int, stride: int = 1, v1_5: bool = False) -> None:
        super().__init__()
        first, second = (1, stride) if v1_5 else (stride, 1)
        c_out = channels * self.expansion
        self.conv1 = nn.Conv2d(c_in, channels, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.downsample = shortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (n, c_in, h, w) -> (n, c, h, w), or half of it in the paper's form
        x = self.relu(self.bn2(self.conv2(x)))  # (n, c, h/s, w/s)
        x = self.bn3(self.conv3(x))  # (n, 4c, h/s, w/s)
        return self.relu(x + identity)


class ResNet(nn.Module):
    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        in_channels: int,
        num_classes: int,
        stem_bias: bool = False,
        **form: bool,
    ) -> None:
        super().__init__()
        positive(in_channels=in_channels, num_classes=num_classes)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=stem_bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        c_in = 64
        for group, n in enumerate(blocks, start=1):
            channels = 64 * 2 ** (group - 1)
            layer = nn.Sequential()
            for i in range(n):
                stride = 2 if group > 1 and i == 0 else 1
                layer.append(block(c_in, channels, stride, **form))
                c_in = channels * block.expansion
            self.add_module(f"layer{group}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


@register("resnet18", input="1x3x224x224", params=11_689_512, macs=1_814_073_344, paper=PAPER, depth=18)
@register("resnet34", input="1x3x224x224", params=21_797_672, macs=3_663_761_408, paper=PAPER, depth=34)
def resnet_basic(depth: int = 18, in_channels: int = 3, num_classes: int = 1000) -> nn.Module:
    return ResNet(BasicBlock, one_of("depth", depth, BASIC), in_channels, num_classes)


@register("resnet50", input="1x3x224x224", params=25_557_032, macs=3_857_973_248, paper=PAPER, depth=50)
@register("resnet101", input="1x3x224x224", params=44_549_160, macs=7_570_194_432, paper=PAPER, depth=101)
@register("resnet152", input="1x3x224x224", params=60_192_808, macs=11_282_415_616, paper=PAPER, depth=152)
@register(
    "resnet50-v1.5", input="1x3x224x224", params=25_557_032, macs=4_089_184_256, paper=PAPER_V1_5, depth=50, v1_5=True
)
@register(
    "resnet101-v1.5", input="1x3x224x224", params=44_549_160, macs=7_801_405_440, paper=PAPER_V1_5, depth=101, v1_5=True
)
@register(
    "resnet152-v1.5",
    input="1x3x224x224",
    params=60_192_808,
    macs=11_513_626_624,
    paper=PAPER_V1_5,
    depth=152,
    v1_5=True,
)
def resnet_bottleneck(depth: int = 50, in_channels: int = 3, num_classes: int = 1000, v1_5: bool = False) -> nn.Module:
    return ResNet(Bottleneck, one_of("depth", depth, BOTTLENECK), in_channels, num_classes, v1_5=v1_5)


@register("resnet18-d2l", input="1x1x96x96", params=11_178_378, macs=318_657_536, paper=PAPER_D2L)
def resnet18_d2l(in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    return ResNet(BasicBlock, BASIC[18], in_channels, num_classes, stem_bias=True, textbook=True)
