"""Gradients, and functions of functions, inside the forward."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from corpus import case


@case([(5, 3)], params=3 * 8 + 8 * 1, macs=2 * 5 * (3 * 8 + 8 * 1), shapes=[(), (5, 3)])
class Forces(nn.Module):
    """An energy and its gradient: back to the positions each product has one more (none for the weights)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8, bias=False), nn.Linear(8, 1, bias=False)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.second(torch.tanh(self.first(x))).sum()
            (slope,) = torch.autograd.grad(energy, x)
        return energy, -slope


@case([(2, 6)], params=6 * 1, macs=2 * 6 + 2 * 6, shapes=[()])
class GradientPenalty(nn.Module):
    """One product forward, and one back to the input."""

    def __init__(self):
        super().__init__()
        self.critic = nn.Linear(6, 1, bias=False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.critic(x).sum(), x)
        return ((slope.norm(dim=1) - 1) ** 2).mean()


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, *slopes):
        x, weight = ctx.saved_tensors
        return slopes[0] @ weight.T, x.T @ slopes[0]


@case([(2, 3)], params=3 * 4, macs=2 * 3 * 4, shapes=[(2, 4)])
class CustomFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x):
        return _Scaled.apply(x, self.weight)


@case([(2, 3)], params=3 * 4, macs=2 * 3 * 4, shapes=[(2, 4)])
class HookOnTensor(nn.Module):
    """Grad-CAM keeps the gradient of a feature map."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4, bias=False)

    def forward(self, x):
        y = self.linear(x)
        if y.requires_grad:
            y.register_hook(lambda slope: slope)
        return y


@case([(2, 4)], params=4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4)])
class Checkpointed(nn.Module):
    """A part that is computed anew when gradients are taken: here it runs twice, called twice."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return checkpoint(self.linear, checkpoint(self.linear, x, use_reentrant=False), use_reentrant=False)


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3, shapes=[(2, 3)])
class FunctionalCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return torch.func.functional_call(self.linear, {"weight": self.linear.weight * 2}, (x,))


@case([(5, 4)], params=4 * 3, macs=5 * 4 * 3, shapes=[(5, 3)])
class VmapOverExamples(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 3))

    def forward(self, x):
        return torch.vmap(lambda row: row @ self.weight)(x)


@case([(4,)], params=3 * 4, macs=3 * 4 + 3 * 3 * 4, shapes=[(3, 4)])
class JacobianByJacrev(nn.Module):
    """The product, and one back for each of its three outputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x):
        return torch.func.jacrev(lambda row: functional.linear(row[None], self.weight)[0])(x)


@case([(2, 4)], params=2 * 4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4)])
class StopGradient(nn.Module):
    """A target network runs without gradients."""

    def __init__(self):
        super().__init__()
        self.online, self.target = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

    def forward(self, x):
        with torch.no_grad():
            aim = self.target(x)
        return self.online(x) - aim.detach()


@case([(1, 1, 6, 6)], params=2 * 1 * 9, macs=16 * 2 * 9 + 16 * 2 * 9, shapes=[(1, 1, 6, 6)])
class Saliency(nn.Module):
    """A convolution of 6 x 6 to 4 x 4, and its transpose back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            self_score = self.conv(x).amax()
            return torch.autograd.grad(self_score, x)[0].abs()


@case([(3, 4)], params=4 * 4, macs=3 * 4 * 4, shapes=[(3, 4)])
class StraightThrough(nn.Module):
    """Rounding with the gradient of the identity."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        y = self.linear(x)
        return y + (y.round() - y).detach()


@case(lambda: (torch.tensor([1, 2, 3]), torch.rand(3, 3), torch.tensor([[0, 1, 2], [1, 2, 0]])),
      params=10 * 8 + 9 * 16 + 16 * 1, macs=2 * 3 * (9 * 16 + 16 * 1), shapes=[(), (3, 3)])  # fmt: skip
class Potential(nn.Module):
    """Three edges of 8 + 1 numbers: both products once forward and once back, to the distances."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.net = nn.Sequential(nn.Linear(9, 16, bias=False), nn.SiLU(), nn.Linear(16, 1, bias=False))
        self.requires_grad_(False)

    def forward(self, kinds, places, edges):
        with torch.enable_grad():
            places = places.detach().requires_grad_()
            away = (places[edges[0]] - places[edges[1]]).norm(dim=-1, keepdim=True)
            each = self.net(torch.cat([self.table(kinds)[edges[0]], away], -1))
            energy = torch.zeros(3, 1).index_add(0, edges[0], each).sum()
            return energy, -torch.autograd.grad(energy, places)[0]


@case([(1, 3, 8, 8)], params=4 * 3 * 9 + 4 * 2, macs=2 * 64 * 4 * 3 * 9 + 3 * 4 * 2, shapes=[(1, 8, 8)])
class GradCam(nn.Module):
    """The gradient of a score for a feature map, by a hook; backward() takes those of both weights, too."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x):
        kept = []
        with torch.enable_grad():
            found = self.conv(x).relu()
            found.register_hook(kept.append)
            self.head(found.mean((2, 3)))[:, 0].sum().backward()
        return (kept[0].mean((2, 3), keepdim=True) * found).sum(1).relu()


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3 + 2 * 4 * 3, shapes=[(2, 4)])
class GradientByFunc(nn.Module):
    """torch.func.grad of a module that is called inside."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return torch.func.grad(lambda row: self.linear(row).sum())(x)


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3 + 2 * 4 * 3, shapes=[(2, 3, 4)])
class GradientPerExample(nn.Module):
    """A gradient of the weights for each example: 3 x 1 times 1 x 4, twice."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        def score(weights, row):
            return torch.func.functional_call(self.linear, weights, (row,)).sum()

        return torch.vmap(torch.func.grad(score), (None, 0))(dict(self.linear.named_parameters()), x)["weight"]


@case([(4,)], params=4 * 3, macs=4 * 3 + 3 * 4 * 3, shapes=[(3, 4)])
class JacobianByAutograd(nn.Module):
    """One product, and one back for each of three outputs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            return torch.autograd.functional.jacobian(self.linear, x)


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3, shapes=[(2, 3)])
class MappedModule(nn.Module):
    """A module under vmap: its rows are all rows."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return torch.vmap(self.linear)(x)


@case([(2, 3)], params=3 * 3, macs=2 * 3 * 3 + 2 * 3 * 3, shapes=[(2, 3)], answer="depends on values")
class GradientBehindABranch(nn.Module):
    """The sum of 6 values of [0, 1) times a weight of 0 is 0: the second product does not run; one product back."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.linear(x)
            if y.sum() > 1:
                y = self.linear(y)
            return torch.autograd.grad(y.sum(), x)[0]
