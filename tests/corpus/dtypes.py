"""Other numbers than float32."""

import torch
from torch import nn

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)


def one(inputs=((2, 4),), **more):
    """One layer of 4 x 3 on 2 examples."""
    return case(inputs, **{"params": 4 * 3, "macs": 2 * 4 * 3, "shapes": [(2, 3)], **more})


@one()
class AutocastInside(Base):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.linear(x)


@one()
class AutocastAndBack(Base):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x)
        return y.float() * 2


@one(lambda: (torch.rand(2, 4, dtype=torch.bfloat16),))
class BFloat16(Base):
    def __init__(self):
        super().__init__()
        self.to(torch.bfloat16)

    def forward(self, x):
        return self.linear(x)


@one(lambda: (torch.rand(2, 4, dtype=torch.float64),))
class Double(Base):
    def __init__(self):
        super().__init__()
        self.double()

    def forward(self, x):
        return self.linear(x)


@one(lambda: (torch.randint(0, 255, (2, 4), dtype=torch.uint8),))
class BytesOfAnImage(Base):
    def forward(self, x):
        return self.linear(x / 255)


@one(lambda: (torch.rand(2, 4, dtype=torch.complex64),))
class ComplexLinear(nn.Module):
    """One complex multiply-accumulate counts as one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 3, dtype=torch.complex64))

    def forward(self, x):
        return x @ self.weight


@one()
class ThroughComplex(Base):
    def forward(self, x):
        return self.linear(torch.view_as_real(torch.view_as_complex(x.view(2, 2, 2)) * 1j).flatten(1))


@one()
class Float8Storage(Base):
    """Weights are kept in 8 bits and multiplied in 32."""

    def forward(self, x):
        return x @ self.linear.weight.to(torch.float8_e4m3fn).to(torch.float32).T


@one(lambda: (torch.rand(2, 4), torch.arange(8).view(2, 4)))
class FloatTimesInteger(Base):
    def forward(self, x, n):
        return self.linear(x * n + (n > 3))


@one()
class PromotedSum(Base):
    """float32 and float64 give float64, brought back before the product."""

    def forward(self, x):
        wide = x + torch.ones(2, 4, dtype=torch.float64)
        assert wide.dtype == torch.promote_types(x.dtype, torch.float64)
        return self.linear(wide.to(x.dtype))


@one(lambda: (torch.rand(2, 4, dtype=torch.float16),))
class HalfInFloatWeights(Base):
    def forward(self, x):
        return self.linear(x.to(self.linear.weight.dtype)).half()


@one(lambda: (torch.tensor([[True, False, True, True]] * 2),))
class BoolInput(Base):
    def forward(self, x):
        return self.linear(x.to(torch.float32) - (~x).float())


@one()
class AutocastAsDecorator(Base):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x):
        return self.linear(x)


@one(params=2 * 4 * 3, macs=2 * 4 * 3 + 2 * 3 * 4)
class AutocastSwitchedOffInside(Base):
    """16 bits outside, 32 inside."""

    def __init__(self):
        super().__init__()
        self.back = nn.Linear(3, 4, bias=False)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x)
            with torch.autocast("cpu", enabled=False):
                self.back(y.float())
            return y


@case([(1, 3, 8, 8)], params=4 * 3 * 9 + 2 * 4 + 4 * 2, macs=36 * 4 * 3 * 9 + 4 * 2, shapes=[(1, 2)])
class AutocastConvolution(nn.Module):
    """6 x 6 outputs; the norm keeps 32 bits for its weights and takes 16 for its input."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@case(lambda: (torch.rand(1, 2, 8, dtype=torch.complex64),), params=3 * 2 * 3 + 3, macs=6 * 3 * 2 * 3,
      shapes=[(1, 3, 6)], uncounted="PyTorch makes three real convolutions of a complex one")  # fmt: skip
class ComplexConvolution(nn.Module):
    """Six places, each complex multiply-accumulate counted as one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, dtype=torch.complex64)

    def forward(self, x):
        return self.conv(x)


@case([(16, 32)], params=16 * 32, macs=16 * 32 * 16, shapes=[(16, 16)])
class Float8Product(nn.Module):
    """16 x 32 times 32 x 16, in 8 bits, to 16."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(16, 32).to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x):
        one = torch.tensor(1.0)
        return torch.ops.aten._scaled_mm(x.to(torch.float8_e4m3fn), self.weight.t(), one, one, out_dtype=torch.bfloat16)
