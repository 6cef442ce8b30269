"""Policies, values, and what is drawn from them."""

import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal
from torch.nn import functional

from corpus import case


class Base(nn.Module):
    """Observations of 6 to a hidden layer of 8, to 3 actions and one value."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 8, bias=False)
        self.policy, self.value = nn.Linear(8, 3, bias=False), nn.Linear(8, 1, bias=False)


def both(inputs=((2, 6),), **more):
    return case(inputs, **{"params": 6 * 8 + 8 * 3 + 8, "macs": 2 * (6 * 8 + 8 * 3 + 8), "shapes": [(2, 3), (2, 1)],
                **more})  # fmt: skip


@both(lambda: ({"observation": torch.rand(2, 6)},))
class ActorCritic(Base):
    def forward(self, batch):
        hidden = self.body(batch["observation"]).tanh()
        return self.policy(hidden), self.value(hidden)


@both(shapes=[(2,), (2,), (2, 1)])
class DrawnAction(Base):
    """The distribution's arguments are checked."""

    def forward(self, x):
        hidden = self.body(x).tanh()
        draw = Categorical(logits=self.policy(hidden), validate_args=True)
        action = draw.sample()
        return action, draw.log_prob(action), self.value(hidden)


@both(shapes=[(2, 3), (2,), (2, 1)])
class GaussianPolicy(Base):
    def forward(self, x):
        hidden = self.body(x).tanh()
        draw = Independent(Normal(self.policy(hidden), torch.ones(3)), 1)
        action = draw.rsample()
        return action, draw.log_prob(action), self.value(hidden)


@both(lambda: (torch.rand(2, 6), torch.tensor([[True, True, False], [False, True, True]])))
class ForbiddenActions(Base):
    def forward(self, x, allowed):
        hidden = self.body(x).tanh()
        return self.policy(hidden).masked_fill(~allowed, -torch.inf).log_softmax(-1), self.value(hidden)


@both(shapes=[(2, 3)])
class Dueling(Base):
    """A value and advantages less their mean."""

    def forward(self, x):
        hidden = self.body(x).relu()
        advantage = self.policy(hidden)
        return self.value(hidden) + advantage - advantage.mean(1, keepdim=True)


@both(shapes=[(2, 3), (2, 1)])
class GumbelSoftmax(Base):
    def forward(self, x):
        hidden = self.body(x)
        return functional.gumbel_softmax(self.policy(hidden), hard=True), self.value(hidden)


@both(lambda: (torch.rand(5, 2, 6), torch.rand(5, 2)), macs=5 * 2 * (6 * 8 + 8), shapes=[(5, 2)])
class AdvantageEstimate(Base):
    """Values of 5 steps, and a sum from the back."""

    def forward(self, x, reward):
        value = self.value(self.body(x))[..., 0]
        out, last = torch.zeros_like(reward), torch.zeros(2)
        for t in reversed(range(4)):
            last = reward[t] + 0.9 * value[t + 1] - value[t] + 0.8 * last
            out[t] = last
        return out


@case(lambda: (torch.rand(4, 2, 6), torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0]], dtype=torch.bool)),
      params=3 * (5 * 6 + 5 * 5 + 5 + 5) + 5 * 3, macs=4 * 2 * 3 * 5 * (6 + 5) + 4 * 2 * 5 * 3,
      shapes=[(4, 2, 3)])  # fmt: skip
class RecurrentPolicy(nn.Module):
    """The state is set to zero where an episode begins."""

    def __init__(self):
        super().__init__()
        self.cell, self.policy = nn.GRUCell(6, 5), nn.Linear(5, 3, bias=False)

    def forward(self, x, first):
        state, out = x.new_zeros(2, 5), []
        for step, begins in zip(x, first, strict=True):
            state = self.cell(step, torch.where(begins[:, None], torch.zeros_like(state), state))
            out.append(self.policy(state))
        return torch.stack(out)


@case([(2, 6)], params=6 * 3 * 5, macs=2 * 6 * 3 * 5, shapes=[(2, 3)])
class Distributional(nn.Module):
    """5 atoms for each of 3 actions, and their mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 15, bias=False)
        self.register_buffer("atoms", torch.linspace(-1, 1, 5))

    def forward(self, x):
        return (self.head(x).view(-1, 3, 5).softmax(-1) * self.atoms).sum(-1)


@case([(1, 6)], params=6 * 3, macs=6 * 3, shapes=[(1, 6)], answer="depends on values")
class StepOfAnEnvironment(nn.Module):
    """The action is handed to a simulator in Python as a number."""

    def __init__(self):
        super().__init__()
        self.policy = nn.Linear(6, 3, bias=False)

    def forward(self, x):
        action = int(self.policy(x).argmax())
        return x + [0.0, 1.0, 2.0][action]


@both(shapes=[(2,), (2, 1)])
class CheckedGaussian(Base):
    """Normal checks its arguments and the value whose density is asked for; no value is needed but for that."""

    def forward(self, x):
        hidden = self.body(x).tanh()
        draw = Independent(Normal(self.policy(hidden), torch.ones(3), validate_args=True), 1, validate_args=True)
        return draw.log_prob(torch.zeros(2, 3)), self.value(hidden)


@both(shapes=[(2, 3), (2, 1)])
class Asserts(Base):
    """assert, torch._assert and raise, on what cannot be known: all are taken to hold."""

    def forward(self, x):
        assert (x > -1).all() and not x.isnan().any(), "observations"
        hidden = self.body(x).tanh()
        torch._assert((hidden <= 1).all(), "tanh")
        if hidden.isinf().any():
            raise ValueError("infinite")
        return self.policy(hidden), self.value(hidden)
