"""Boxes, pyramids, masks."""

import torch
import torchvision
from torch import nn
from torch.nn import functional

from corpus import case


class Base(nn.Module):
    def __init__(self, n=3, m=4, k=3):
        super().__init__()
        self.conv = nn.Conv2d(n, m, k, padding=k // 2, bias=False)


def one(inputs=((1, 3, 8, 8),), **more):
    """A convolution of 3 x 4 x 3 x 3 on 8 x 8."""
    return case(inputs, **{"params": 3 * 4 * 9, "macs": 64 * 3 * 4 * 9, "shapes": [(1, 4, 8, 8)], **more})


@one(shapes=[(64, 4)])
class Anchors(Base):
    """Boxes from offsets to the centres of 8 x 8 cells."""

    def forward(self, x):
        y = self.conv(x).flatten(2).transpose(1, 2)[0]
        at = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"), -1).view(-1, 2)
        return torch.cat([at + y[:, :2].sigmoid(), y[:, 2:].exp()], 1)


@case([(4, 2)], params=2 * 3, macs=4 * 2 * 3, shapes=[(4, 3)], answer="depends on values")
class Suppression(nn.Module):
    """Four boxes far apart: all are kept, and each is multiplied."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3, bias=False)

    def forward(self, x):
        corner = x + 10 * torch.arange(4.0)[:, None]
        kept = torchvision.ops.nms(torch.cat([corner, corner + 1], 1), x[:, 0], 0.5)
        return self.linear(x[kept])


@one(lambda: (torch.rand(1, 3, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0], [0.0, 2.0, 2.0, 7.0, 7.0]])),
     params=3 * 4 * 9 + 4 * 4 * 5, macs=64 * 3 * 4 * 9 + 2 * 4 * 4 * 5, shapes=[(2, 5)])  # fmt: skip
class RegionsOfInterest(Base):
    """Two boxes, of 2 x 2 cells with 4 channels each, into 5 classes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 5, bias=False)

    def forward(self, x, boxes):
        return self.head(torchvision.ops.roi_align(self.conv(x), boxes, 2).flatten(1))


@case([(1, 3, 8, 8)], params=3 * 4 + 4 * 4 + 4 * 4 * 4, macs=64 * 3 * 4 + 64 * 4 * 4 + 16 * 4 * 4 * 4,
      shapes=[(1, 4, 8, 8)])  # fmt: skip
class Pyramid(nn.Module):
    """8 x 8, a level of 4 x 4 by a 2 x 2 window, and back to the size of the other."""

    def __init__(self):
        super().__init__()
        self.a, self.lateral = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)
        self.down = nn.Conv2d(4, 4, 2, 2, bias=False)

    def forward(self, x):
        a = self.a(x)
        up = functional.interpolate(self.down(a), size=a.shape[-2:], mode="nearest")
        return self.lateral(a) + up


@case([(1, 3, 8, 8)], params=12 * 4 * 9, macs=16 * 12 * 4 * 9, shapes=[(1, 4, 4, 4)])
class Focus(Base):
    """Four slices with a stride of 2: 12 channels on 4 x 4."""

    def __init__(self):
        super().__init__(12)

    def forward(self, x):
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.conv(torch.cat(parts, 1))


@one(shapes=[(5, 4)])
class BestProposals(Base):
    """Five of 64 cells."""

    def forward(self, x):
        y = self.conv(x).flatten(2)[0].T
        return y[y[:, 0].topk(5).indices]


@one(shapes=[(1, 4, 8, 8)], params=3 * 4 * 9 + 3 * 18 * 9, macs=64 * 3 * 18 * 9 + 64 * 3 * 4 * 9,
     uncounted="it does not know deformable convolutions")  # fmt: skip
class Deformable(nn.Module):
    """Offsets of 2 x 9 by a convolution, and one of 3 x 4 x 3 x 3 that follows them."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Conv2d(3, 18, 3, padding=1, bias=False)
        self.conv = torchvision.ops.DeformConv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv(x, self.offset(x))


@one(lambda: ([torch.rand(3, 8, 6), torch.rand(3, 7, 8)],), macs=2 * 64 * 3 * 4 * 9, shapes=[(2, 4, 8, 8)])
class ImagesOfDifferentSizes(Base):
    """Padded to the largest height and width, 8 x 8."""

    def forward(self, images):
        h, w = (max(image.shape[i] for image in images) for i in (1, 2))
        return self.conv(torch.stack([functional.pad(i, (0, w - i.shape[2], 0, h - i.shape[1])) for i in images]))


@one(params=3 * 4 * 9 + 16 * 2, macs=64 * 3 * 4 * 9 + 64 * 16 * 2, shapes=[(1, 2, 8, 8)])
class SpatialPyramid(Base):
    """The map and three pools of it, 16 channels, into 2."""

    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(16, 2, 1, bias=False)

    def forward(self, x):
        y = [self.conv(x)]
        for _ in range(3):
            y.append(functional.max_pool2d(y[-1], 5, 1, 2))
        return self.out(torch.cat(y, 1))


@case([(6, 3)], params=3 * 2, macs=6 * 3 * 2, shapes=[(6, 2)], answer="depends on values")
class ScoresAboveThreshold(nn.Module):
    """All of six are above −1."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2, bias=False)

    def forward(self, x):
        return self.linear(x[x.amax(1) > -1])


@one(lambda: (torch.rand(2, 3, 8, 8),), macs=2 * 64 * 3 * 4 * 9 + 2 * 9 * 2 * 3, shapes=[(2, 4, 3, 3)],
     uncounted="it does not know the product of the grid")  # fmt: skip
class GridSample(Base):
    """Sampled on a grid of 3 x 3, whose 2 coordinates are products of 3 numbers each."""

    def forward(self, x):
        grid = functional.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 4, 3, 3], align_corners=False)
        return functional.grid_sample(self.conv(x), grid, align_corners=False)
