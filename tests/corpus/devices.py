"""A forward that asks where its tensors are gets the answer that a run on the CPU gets."""

import torch
from torch import nn

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)


def both(shapes=((2, 4),), **more):
    """Two layers of 4 x 4, of which the first alone runs, on 2 examples."""
    return case(shapes, **{"params": 2 * 4 * 4, "macs": 2 * 4 * 4, "shapes": [(2, 4)], **more})


@both()
class DeviceType(Base):
    def forward(self, x):
        return self.one(x) if x.device.type == "cpu" else self.other(self.other(x))


@both()
class IsCuda(Base):
    def forward(self, x):
        return self.other(self.other(x)) if x.is_cuda or not x.is_cpu else self.one(x)


@both()
class IsMeta(Base):
    def forward(self, x):
        return self.other(self.other(x)) if x.is_meta else self.one(x)


@both()
class DeviceOfParameters(Base):
    def forward(self, x):
        where = next(self.parameters()).device
        return self.one(x) if where == torch.device("cpu") else self.other(self.other(x))


@both()
class DeviceOfWeightText(Base):
    def forward(self, x):
        return self.one(x) if str(self.one.weight.device) == "cpu" else self.other(self.other(x))


@both()
class DeviceOfIntermediate(Base):
    def forward(self, x):
        y = self.one(x)
        return y if y.device.type == "cpu" and y.get_device() == -1 else self.other(y)


@both()
class FactoryOnTheDevice(Base):
    def forward(self, x):
        return self.one(x + torch.arange(4, device=x.device) + torch.zeros(2, 4, device=x.device, dtype=x.dtype))


@both()
class MovedToTheDevice(Base):
    def forward(self, x):
        return self.one(x.to(self.one.weight.device) + torch.ones(4).to(x))


@both()
class BackToTheCpu(Base):
    def forward(self, x):
        return self.one(x).cpu()


@both()
class CudaIfThereIsOne(Base):
    def forward(self, x):
        y = self.one(x)
        return y.cpu() if torch.cuda.is_available() else y


@both()
class AutocastOfTheDevice(Base):
    def forward(self, x):
        with torch.autocast(device_type=x.device.type, dtype=torch.bfloat16, enabled=x.device.type == "cuda"):
            return self.one(x)


@both()
class AutocastForCuda(Base):
    """A device that is not there: a warning, and no autocast."""

    def forward(self, x):
        with torch.autocast("cuda", enabled=False):
            return self.one(x)


@both()
class ConstantBesideParameters(Base):
    """A constant of Python is made a tensor at each call."""

    def forward(self, x):
        return self.one(x * torch.tensor([1.0, 2.0, 3.0, 4.0]) - torch.tensor(0.5, device=x.device))


@both()
class NewTensor(Base):
    def forward(self, x):
        return self.one(x + x.new_tensor([1.0, 0.0, 0.0, 0.0]))


@case([(1, 64)], params=0, macs=0, shapes=[(1, 9, 5)], uncounted="")
class WindowOnTheCpu(nn.Module):
    """stft with 16 points each 16: 64 / 16 + 1 = 5 frames of 16 / 2 + 1 = 9 frequencies."""

    def forward(self, x):
        return torch.stft(x, 16, 16, window=torch.hann_window(16), return_complex=True)
