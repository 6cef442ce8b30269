"""Fourier transforms, solvers, tensors of many axes."""

import torch
from torch import nn

from corpus import case


@case([(2, 3, 16)], params=3 * 4 * 5, macs=2 * 3 * 4 * 5, shapes=[(2, 4, 16)])
class SpectralConvolution(nn.Module):
    """As the Fourier neural operator: 5 of 9 frequencies times a complex matrix of 3 x 4 each."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4, 5, dtype=torch.complex64))

    def forward(self, x):
        f = torch.fft.rfft(x)[..., :5]
        return torch.fft.irfft(torch.einsum("bik,iok->bok", f, self.weight), n=16)


@case([(2, 3), (2, 4)], params=3 * 4 * 5, macs=2 * 3 * 4 * 5 + 2 * 4 * 5, shapes=[(2, 5)],
      uncounted="the second step is elementwise there")  # fmt: skip
class TensorProduct(nn.Module):
    """Bilinear: Σ over i, then over j."""

    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(3, 4, 5, bias=False)

    def forward(self, x, y):
        return self.form(x, y)


@case([(6, 2)], params=2 * 8 + 8, macs=2 * 6 * (2 * 8 + 8), shapes=[(6, 2)])
class PhysicsInformed(nn.Module):
    """The slope of the solution for its place: each product once forward and once back."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8, bias=False), nn.Linear(8, 1, bias=False)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.b(self.a(x).tanh()).sum(), x)[0]


@case([(2, 4)], params=4 * 4, macs=4 * 5 * 2 * 4 * 4, shapes=[(2, 4)])
class RungeKutta(nn.Module):
    """Four products a step, five steps."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        for _ in range(5):
            a = self.f(x)
            b = self.f(x + 0.1 * a)
            c = self.f(x + 0.1 * b)
            x = x + (a + 2 * b + 2 * c + self.f(x + 0.2 * c)) / 30
        return x


@case([(2, 4)], params=4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4)], answer="depends on values")
class Equilibrium(nn.Module):
    """A fixed point: with a weight of zeros the first step reaches it, and the second sees that."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4, bias=False)
        nn.init.zeros_(self.f.weight)

    def forward(self, x):
        z = x
        for _ in range(9):
            before, z = z, self.f(z)
            if torch.allclose(before, z):
                break
        return z


def unknown(operation, **more):
    """A product of 4 x 4 for 2 x 4 rows, and an operation whose work is an algorithm's, not a formula's."""
    facts = {"params": 4 * 4, "macs": 2 * 4 * 4 * 4, "shapes": [(2, 4, 4)], "answer": "unknown", **more}

    def forward(self, x):
        return operation(self.linear(x))

    def init(self):
        nn.Module.__init__(self)
        self.linear = nn.Linear(4, 4, bias=False)

    return lambda cls: case([(2, 4, 4)], **facts)(
        type(cls.__name__, (nn.Module,), {"__init__": init, "forward": forward, "__module__": cls.__module__})
    )


def spd(x):
    return x @ x.mT * 0 + torch.eye(4)


@unknown(torch.matrix_exp)
class MatrixExponential: ...


@unknown(torch.linalg.svdvals, shapes=[(2, 4)])
class SingularValues: ...


@unknown(lambda x: torch.linalg.eigvalsh(x + x.mT), shapes=[(2, 4)])
class Eigenvalues: ...


@unknown(lambda x: torch.linalg.cholesky(spd(x)), macs=2 * 4 * 4 * 4 + 2 * 4 * 4 * 4)
class Cholesky: ...


@unknown(lambda x: torch.linalg.solve(x + 9 * torch.eye(4), x))
class Solve: ...


@unknown(lambda x: torch.linalg.qr(x).Q)
class Orthogonal: ...


@unknown(lambda x: torch.linalg.inv(x + 9 * torch.eye(4)))
class Inverse: ...


@unknown(torch.linalg.pinv)
class PseudoInverse: ...


@case([(1, 2, 5, 5, 5)], params=2 * 3 * 27, macs=27 * 2 * 3 * 27, shapes=[(1, 3, 3, 3, 3)])
class Volume(nn.Module):
    """5 x 5 x 5 to 3 x 3 x 3 with a window of 27."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, bias=False)

    def forward(self, x):
        return self.conv(x)


@case([(2, 3, 4), (2, 5, 4)], params=0, macs=2 * 3 * 5 * 4, shapes=[(2, 3, 5)])
class Distances(nn.Module):
    """Squared distances: |a|² + |b|² − 2 a·b."""

    def forward(self, a, b):
        return a.square().sum(-1)[..., None] + b.square().sum(-1)[:, None] - 2 * a @ b.mT
