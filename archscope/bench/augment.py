"""Augmentation a batch at a time, on the device. A recipe names it; none is applied that no recipe names."""

import torch
from torch import Tensor
from torch.nn.functional import pad

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
