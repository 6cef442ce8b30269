"""MobileNet V1 (Howard et al. 2017, arXiv 1704.04861), V2 (Sandler et al., CVPR 2018, arXiv 1801.04381) and
V3 (Howard et al., ICCV 2019, arXiv 1905.02244).

The papers' tables as data. Every convolution is `conv, bn, act` without bias. Where the literature stumbles:
- V1's table 1 prints the last depthwise layer as stride 2; its output has the size of its input, so the stride is 1.
- V1's "28 layers" are the depthwise and the pointwise convolutions counted apart, and the fc.
- `width` is the papers' α. V1 multiplies every channel count by it; V2 and V3 round the product to a multiple of 8, and
  never lose more than a tenth by it. V2 leaves its last 1,280 channels alone when α < 1. The resolution multiplier ρ is
  only another input size: 224, 192, 160 or 128.
- V1's text names ReLU6 for low-precision devices: `activation=relu6`. V2 has it everywhere.
- V2's projection is linear: the residual sum is of maps that no ReLU has cut.
"""

from collections import OrderedDict

from torch import Tensor, nn

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import one_of, positive

V1 = "Howard et al. 2017, MobileNets, arXiv 1704.04861"
V1_D2L = "Howard et al. 2017, MobileNets, arXiv 1704.04861, for Fashion-MNIST"
V2 = "Sandler et al. 2018 CVPR, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381"
V3 = "Howard et al. 2019 ICCV, Searching for MobileNetV3, arXiv 1905.02244"

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish}

# V1, table 1: output channels, stride of the depthwise separable blocks
V1_TABLE_1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)

# V2, table 2: expansion t, output channels c, repeats n, stride s of the first
V2_TABLE_2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)

# V3, tables 1 and 2: kernel, expanded size, output channels, squeeze-and-excite, activation, stride
V3_LARGE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)
V3_SMALL = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)


def conv_bn(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, activation: str | None = None
) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        bn=nn.BatchNorm2d(c_out),
    )
    if activation is not None:
        layers["act"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


def depthwise_separable(c_in: int, c_out: int, stride: int, activation: str) -> nn.Module:
    """3×3 in each channel, then 1×1 across them: 1/c_out + 1/9 of the arithmetic of a 3×3 convolution."""
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_bn(c_in, c_in, 3, stride, groups=c_in, activation=activation),
            pointwise=conv_bn(c_in, c_out, 1, activation=activation),
        )
    )


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one up where that loses more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class SqueezeExcite(nn.Module):
    """Every channel times a weight in [0, 1] that is computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.hardsigmoid = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc1(self.avgpool(x))  # (n, c, h, w) -> (n, c/4, 1, 1)
        weight = self.hardsigmoid(self.fc2(self.relu(weight)))  # (n, c, 1, 1)
        return x * weight


class InvertedResidual(nn.Module):
    """1×1 up to `c_mid` channels, k×k in each of them, 1×1 down; the sum where the shape is kept."""

    def __init__(
        self, c_in: int, c_mid: int, c_out: int, kernel: int, stride: int, activation: str, squeeze: bool = False
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if c_mid != c_in:
            layers["expand"] = conv_bn(c_in, c_mid, 1, activation=activation)
        layers["depthwise"] = conv_bn(c_mid, c_mid, kernel, stride, groups=c_mid, activation=activation)
        if squeeze:
            layers["squeeze"] = SqueezeExcite(c_mid, rounded(c_mid // 4))
        layers["project"] = conv_bn(c_mid, c_out, 1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.residual else y


@register("mobilenet-v1", input="1x3x224x224", params=4_231_976, macs=568_740_352, paper=V1)
@register(
    "mobilenet-v1-d2l",
    input="1x1x96x96",
    params=3_216_650,
    macs=102_957_568,
    paper=V1_D2L,
    in_channels=1,
    num_classes=10,
)
def mobilenet_v1(
    in_channels: int = 3, num_classes: int = 1000, width: float = 1.0, activation: str = "relu"
) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes, width=width)
    one_of("activation", activation, ACTIVATIONS)
    c_in = int(32 * width)
    if c_in < 1:
        raise ValueError(f"width must leave a channel of the first 32, and {width} does not")
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_bn(in_channels, c_in, 3, 2, activation=activation))
    for i, (channels, stride) in enumerate(V1_TABLE_1, start=1):
        c_out = int(channels * width)
        layers[f"block{i}"] = depthwise_separable(c_in, c_out, stride, activation)
        c_in = c_out
    return nn.Sequential(
        layers | OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(c_in, num_classes))
    )


@register("mobilenet-v2", input="1x3x224x224", params=3_504_872, macs=300_774_272, paper=V2)
def mobilenet_v2(in_channels: int = 3, num_classes: int = 1000, width: float = 1.0) -> nn.Module:
    positive(in_channels=in_channels, num_classes=num_classes, width=width)
    c_in, c_last = rounded(32 * width), rounded(1280 * max(1.0, width))
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_bn(in_channels, c_in, 3, 2, activation="relu6"))
    rows = [(t, c, s if i == 0 else 1) for t, c, n, s in V2_TABLE_2 for i in range(n)]
    for i, (expansion, channels, stride) in enumerate(rows, start=1):
        c_out = rounded(channels * width)
        layers[f"block{i}"] = InvertedResidual(c_in, expansion * c_in, c_out, 3, stride, "relu6")
        c_in = c_out
    return nn.Sequential(
        layers
        | OrderedDict(
            head=conv_bn(c_in, c_last, 1, activation="relu6"),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.2),
            fc=nn.Linear(c_last, num_classes),
        )
    )


@register("mobilenet-v3-large", input="1x3x224x224", params=5_483_032, macs=216_589_760, paper=V3, size="large")
@register("mobilenet-v3-small", input="1x3x224x224", params=2_542_856, macs=56_510_400, paper=V3, size="small")
def mobilenet_v3(size: str = "large", in_channels: int = 3, num_classes: int = 1000, width: float = 1.0) -> nn.Module:
    rows, last = one_of("size", size, {"large": (V3_LARGE, 1280), "small": (V3_SMALL, 1024)})
    positive(in_channels=in_channels, num_classes=num_classes, width=width)
    c_in, c_last = rounded(16 * width), rounded(last * width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_bn(in_channels, c_in, 3, 2, activation="hardswish"))
    for i, (kernel, expanded, channels, squeeze, activation, stride) in enumerate(rows, start=1):
        c_mid, c_out = rounded(expanded * width), rounded(channels * width)
        layers[f"block{i}"] = InvertedResidual(c_in, c_mid, c_out, kernel, stride, activation, squeeze)
        c_in = c_out
    return nn.Sequential(
        layers
        | OrderedDict(
            head=conv_bn(c_in, 6 * c_in, 1, activation="hardswish"),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc1=nn.Linear(6 * c_in, c_last),
            hardswish=nn.Hardswish(),
            dropout=nn.Dropout(0.2),
            fc2=nn.Linear(c_last, num_classes),
        )
    )
