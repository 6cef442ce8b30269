"""A space of small networks for `archscope search examples/space.py:space`: values for each argument of `build`."""

from torch import nn

space = {"width": [16, 32, 64, 128], "blocks": range(2, 13), "kernel": [3, 5, 7], "input": [32, 64, 96]}


def build(width: int, blocks: int, kernel: int) -> nn.Module:
    """Depthwise separable blocks, every third of which halves the sides and doubles the channels."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for i in range(blocks):
        stride, wider = (2, 2 * width) if i % 3 == 2 else (1, width)
        layers += [nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, wider, 1), nn.BatchNorm2d(wider), nn.ReLU()]
        width = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def example_inputs() -> tuple[int, ...]:
    return (1, 3, 32, 32)
