"""Python decides what runs, from shapes, flags and arguments."""

from functools import partial

import torch
from torch import nn

from corpus import case


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)


def times(n, inputs=((2, 4),), **more):
    """One layer of 4 x 4 on 2 examples, n times."""
    return case(inputs, **{"params": 4 * 4, "macs": n * 2 * 4 * 4, "shapes": [(2, 4)], **more})


@times(3)
class LoopOfThree(Base):
    def forward(self, x):
        for _ in range(3):
            x = self.linear(x)
        return x


@times(2)
class LoopOverTheShape(Base):
    """As often as there are examples."""

    def forward(self, x):
        for _ in range(x.shape[0]):
            x = self.linear(x)
        return x


@times(1)
class BranchOnTheShape(Base):
    def forward(self, x):
        return self.linear(x) if x.size(0) < 3 else self.linear(self.linear(x))


@times(2)
class Recursion(Base):
    """Halves the width that it counts down: 4, 2, then it ends."""

    def forward(self, x, n=4):
        return x if n == 1 else self.forward(self.linear(x), n // 2)


@times(2, train=True)
class TrainingFlag(Base):
    def forward(self, x):
        y = self.linear(x)
        return self.linear(y) if self.training else y


@times(1, answer="depends on values", train=True)
class StochasticDepth(Base):
    """Drawn at random: with the seed that is used 0.49 or so, below 1.1 in any case."""

    def forward(self, x):
        return self.linear(x) if torch.rand(1).item() < 1.1 else x


@times(1)
class CalledByForward(Base):
    """`.forward()` leaves out hooks, and the layer ran all the same."""

    def forward(self, x):
        return self.linear.forward(x)


@times(2)
class PartialAndLambda(Base):
    def __init__(self):
        super().__init__()
        self.steps = [partial(self.apply_it, scale=2), lambda x: self.apply_it(x, 1)]

    def apply_it(self, x, scale):
        return self.linear(x) * scale

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


@times(1)
class TryAndExcept(Base):
    """A product that PyTorch refuses is no work."""

    def forward(self, x):
        try:
            x = self.linear(x[:, :3])
        except RuntimeError:
            x = self.linear(x)
        return x


@times(2, lambda: (torch.rand(2, 4), 2))
class NumberArgument(Base):
    def forward(self, x, n):
        while n > 0:
            x, n = self.linear(x), n - 1
        return x


@times(0, train=False)
class NothingButDropout(Base):
    """The layer never runs; its parameters are there."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


@case([(2, 4)], params=4 * 4, macs=2 * 4 * 4, shapes=[(2, 4)])
class Generator(Base):
    """The parts are yielded, and joined by the caller."""

    def parts(self, x):
        yield self.linear(x)
        yield x

    def forward(self, x):
        return sum(self.parts(x))


@times(1)
class InPlaceTranspose(Base):
    """The shape is changed in place, and back."""

    def forward(self, x):
        y = x.relu()
        y.t_()
        return self.linear(y.t())


@case([(3, 4)], params=3 * 5, macs=4 * 3 * 5, shapes=[(4, 5)])
class ProductAfterInPlaceTranspose(nn.Module):
    """[3, 4] becomes [4, 3] in place: 4 rows of 3 x 5."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 5))

    def forward(self, x):
        y = x.relu()
        y.t_()
        return y @ self.weight


@case([(2, 4)], params=4 * 4, macs=2 * 2 * 4 * 4, shapes=[(2, 4), (2, 4)])
class ForwardThatYields(Base):
    """Two parts, each a product: they run as they are asked for."""

    def forward(self, x):
        for _ in range(2):
            x = self.linear(x)
            yield x
