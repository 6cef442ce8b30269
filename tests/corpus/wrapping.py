"""Modules around modules, and weights that are computed."""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.linear(x)


def one(inputs=((2, 4),), **more):
    """One layer of 4 x 3 on 2 examples."""
    return case(inputs, **{"params": 4 * 3, "macs": 2 * 4 * 3, "shapes": [(2, 3)], **more})


def scripted(what):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(what)


@one(params=4 * 3 + 3)
class WeightNorm(Base):
    """A direction of 3 x 4 and a length for each of 3 rows."""

    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.linear)


@one(macs=2 * 4 * 3 + 3 * 4 + 3, uncounted="it does not know mv and dot")
class SpectralNormInEvaluation(Base):
    """σ = u·(W v): 3 x 4 for the vector and 3 for the scalar."""

    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.linear)


@one(macs=2 * 4 * 3 + 2 * 3 * 4 + 3 * 4 + 3, train=True, uncounted="it does not know mv and dot")
class SpectralNormInTraining(Base):
    """One iteration more: W v and Wᵀ u, 3 x 4 each."""

    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.linear)


@one()
class Pruned(Base):
    """The weight is a parameter times a mask, which is a buffer."""

    def __init__(self):
        super().__init__()
        prune.random_unstructured(self.linear, "weight", 0.5)


class _Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


@case([(2, 4)], params=4 * 4, macs=2 * 4 * 4, shapes=[(2, 4)])
class Parametrized(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)
        parametrize.register_parametrization(self.linear, "weight", _Symmetric())

    def forward(self, x):
        return self.linear(x)


@one()
class Averaged(nn.Module):
    """A running average of a model is a model around a copy."""

    def __init__(self):
        super().__init__()
        self.net = torch.optim.swa_utils.AveragedModel(Base())

    def forward(self, x):
        return self.net(x)


@one()
class DataParallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.DataParallel(Base())

    def forward(self, x):
        return self.net(x)


@one(shapes=[(2, 6)])
class HookThatChangesTheOutput(Base):
    """What a hook returns goes on: twice as wide."""

    def __init__(self):
        super().__init__()
        self.linear.register_forward_hook(self.doubled)

    @staticmethod
    def doubled(module, args, output):
        return torch.cat([output, output], 1)


@one(((2, 5),))
class HookBefore(Base):
    """A hook cuts 5 columns to 4."""

    def __init__(self):
        super().__init__()
        self.linear.register_forward_pre_hook(lambda module, args: (args[0][:, :4],))


@one(params=30 * 3 + 3, macs=2 * 30 * 3, inputs=((2, 30),))
class Lazy(nn.Module):
    """The input decides that the layer is 30 x 3."""

    def __init__(self):
        super().__init__()
        self.linear = nn.LazyLinear(3)
        with torch.no_grad():
            self.linear(torch.rand(2, 30))

    def forward(self, x):
        return self.linear(x)


@one()
class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = scripted(nn.Linear(4, 3, bias=False))

    def forward(self, x):
        return self.net(x)


def _gated(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


@one()
class ScriptedHelper(Base):
    def __init__(self):
        super().__init__()
        self.gated = scripted(_gated)

    def forward(self, x):
        return self.gated(self.linear(x))


@one()
class Delegates(nn.Module):
    """Attributes of a wrapped model are looked up in it."""

    linear: nn.Module

    def __init__(self):
        super().__init__()
        self.inner = Base()

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return self.linear(x)


@one(((2, 4),), params=4 * 3)
class SwappedInTheForward(Base):
    """The module is replaced by another of its kind during the run."""

    def forward(self, x):
        weight, self.linear = self.linear.weight, nn.Linear(4, 3, bias=False)
        self.linear.weight = weight
        return self.linear(x)


@case([(2, 3, 4)], params=4 * 8 + 8 + 4, macs=2 * 3 * 4 * 8, shapes=[(2, 3, 4)])
class GELU(nn.Module):
    """Called like a layer of PyTorch, and another: a product of 4 x 8, whose half gates the other, and a gain of 4."""

    def __init__(self):
        super().__init__()
        self.proj, self.gain = nn.Linear(4, 8), nn.Parameter(torch.ones(4))

    def forward(self, x):
        a, b = self.proj(x).chunk(2, -1)
        return a * nn.functional.gelu(b) * self.gain


@case([(2, 3, 4)], params=2 * 4 + 4 * 4, macs=2 * 3 * 4 * 4, shapes=[(2, 3, 4)])
class LayerNorm(nn.LayerNorm):
    """A subclass whose forward does more."""

    def __init__(self):
        super().__init__(4)
        self.mix = nn.Linear(4, 4, bias=False)

    def forward(self, input):
        return super().forward(self.mix(input))
