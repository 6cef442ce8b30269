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
