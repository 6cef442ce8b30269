"""From stored examples to batches, on the device: gather, resize, scale, normalise, and augment if a recipe says so.

The result equals torchvision's `Resize` and `ToTensor` on PIL images bit for bit. Pillow multiplies 8-bit pixels with
22-bit weights, adds horizontally, rounds to 8 bits, then does the same vertically. These sums stay below 2^53, so a
float64 matrix product is exact in any order of addition. (If the two sides are scaled by different factors, newer
versions of Pillow may begin vertically; a pixel may then differ by 1 of 255.)
"""

from functools import cache
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from archscope.bench.datasets.base import Split

RESIDENT = 1 << 30  # bytes
BITS = 22  # of Pillow's fixed-point weights, Resample.c: PRECISION_BITS = 32 - 8 - 2


@cache
def weights(size: int, out: int) -> Tensor:
    """Pillow's bilinear weights as float64 [out, size], whole numbers that add up to about 2^22 in each row.

    Resample.c, precompute_coeffs and normalize_coeffs_8bpc: a triangle of half-width max(1, size/out) about the place
    (i + 1/2)·size/out, normalised, times 2^22, rounded half up.
    """
    made = torch.zeros(out, size, dtype=torch.float64)
    scale = size / out
    wide = max(scale, 1.0)
    for i in range(out):
        center = (i + 0.5) * scale
        first, last = max(int(center - wide + 0.5), 0), min(int(center + wide + 0.5), size)
        each = [max(1.0 - abs((x - center + 0.5) * (1.0 / wide)), 0.0) for x in range(first, last)]
        whole = sum(each)
        for x, weight in zip(range(first, last), each, strict=True):
            made[i, x] = int(0.5 + weight / whole * (1 << BITS))
    return made


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """uint8 [N, c, h, w] -> float64 [N, c, height, width] of whole numbers 0 to 255, those that Pillow gives."""
    h, w = images.shape[-2:]
    x = images.to(torch.float64)
    if w != width:
        x = _round(x @ weights(w, width).to(x.device).T)
    if h != height:
        x = _round(weights(h, height).to(x.device) @ x)
    return x


def _round(sums: Tensor) -> Tensor:
    """clip8 of Resample.c: (sum + 2^21) >> 22, kept within 0 to 255."""
    return sums.add_(1 << (BITS - 1)).mul_(2.0**-BITS).floor_().clamp_(0, 255)


class SplitBatches:
    """The batches of one split, which stays on the device as it is stored.

    shape: of one example as the network takes it, without the batch. layout: a letter per axis, with n. mean, std: of
    inputs in 0 to 1. Images are resized once if they then take at most RESIDENT bytes, else batch by batch.
    """

    def __init__(
        self,
        split: Split,
        shape: tuple[int, ...],
        layout: str,
        device: torch.device,
        mean: float = 0.0,
        std: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        inputs, labels = split
        self.shape, self.layout, self.device = shape, layout, device
        self.mean, self.std, self.channels_last = mean, std, channels_last and len(shape) == 3
        self.image = inputs.dtype == torch.uint8
        once = len(inputs) * prod((inputs[:1].shape[1:2] or (1,)) + shape[1:]) <= RESIDENT or device.type == "mps"
        if device.type != "mps":  # which has no float64 and must resize here
            inputs = inputs.to(device)
        if self.image and inputs.shape[-2:] != shape[1:] and len(inputs) and once:
            inputs = torch.cat([resize(part, *shape[1:]).to(torch.uint8) for part in inputs.split(512)])
        self.inputs, self.labels = inputs.to(device), labels.to(device)

    def __len__(self) -> int:
        return self.inputs.shape[0]

    @property
    def targets(self) -> int:
        """Labels of one example: 1, or one a step of a sequence."""
        return self.labels[0].numel()

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs in the network's layout, float32 where they are images, and labels [n] or [n·t] in its order."""
        x, y = self.inputs.index_select(0, indices), self.labels.index_select(0, indices)
        if self.image:
            x = self.scaled(x)
        elif "n" in self.layout and self.layout.index("n"):
            x = x.movedim(0, self.layout.index("n")).contiguous()
        if y.ndim == 2:
            y = (y.T if self.layout.index("n") > self.layout.index("t") else y).flatten()
        return x, y

    def scaled(self, x: Tensor) -> Tensor:
        """uint8 [n, c, h, w] -> float32 in the network's size: resized, divided by 255, normalised, grey repeated."""
        if x.shape[-2:] != self.shape[1:]:
            x = resize(x, *self.shape[1:])
        x = x.to(torch.float32).div_(255)
        if self.mean or self.std != 1:
            x = x.sub_(self.mean).div_(self.std)
        if x.shape[1] != self.shape[0]:
            x = x.expand(-1, self.shape[0], -1, -1)
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


SHIFT = 29 / 227  # the paper takes 227 of 256 positions a side: up to 29 away


class AlexNet2012:
    """Krizhevsky et al., NeurIPS 2012, section 4.1: translations, reflections, and intensities along the principal
    components of the colours. The paper cuts a larger picture; ours has the network's size, so it is moved over black.
    """

    def __init__(self, images: Tensor) -> None:
        """images: uint8 [N, c, h, w], of which the components are computed (on at most 4096)."""
        colours = images[:4096].to(torch.float64).div(255).movedim(1, 0).flatten(1)  # [c, pixels]
        self.values, self.components = torch.linalg.eigh(torch.cov(colours).reshape(len(colours), len(colours)))

    def __call__(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same shape; every image is moved, turned and coloured by numbers of its own."""
        n, c, h, w = x.shape
        most = (round(h * SHIFT), round(w * SHIFT))
        right = torch.rand(n, 1, device=x.device) < 0.5
        rows = torch.randint(0, most[0] + 1, (n, 1), device=x.device) + torch.arange(h, device=x.device)
        columns = torch.arange(w, device=x.device).expand(n, w)
        columns = torch.where(right, w - 1 - columns, columns)
        columns = columns + torch.randint(0, most[1] + 1, (n, 1), device=x.device)
        top, left = most[0] // 2, most[1] // 2
        wider = pad(x, (left, most[1] - left, top, most[0] - top))
        moved = wider.movedim(1, -1)[
            torch.arange(n, device=x.device)[:, None, None], rows[:, :, None], columns[:, None]
        ]
        alpha = torch.randn(n, len(self.values), device=x.device) * 0.1
        values, components = self.values.to(x.device, x.dtype), self.components.to(x.device, x.dtype)
        shift = (alpha * values.clamp(min=0)) @ components.T  # p·(alpha·lambda) of each image
        if c != shift.shape[1]:
            shift = shift.expand(n, c)  # grey, repeated
        return (moved.movedim(-1, 1) + shift[:, :, None, None]).contiguous()
