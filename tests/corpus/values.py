"""What the forward does depends on the values of a tensor."""

import torch
from torch import nn
from torch.nn import functional

from corpus import case


@case([(2, 8)], params=2 * (8 * 8 + 8), macs=2 * 8 * 8, shapes=[(2, 8)], answer="depends on values")
class EarlyExit(nn.Module):
    """The mean of values from [0, 1) is below 2: the second layer does not run."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.first(x)
        return y if x.mean() < 2 else self.second(y)


@case(lambda: (torch.rand(10, 8), torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1, 0])),
      params=3 * (8 * 24 + 24), macs=10 * 8 * 24, shapes=[(10, 24)])  # fmt: skip
class GivenRouting(nn.Module):
    """Each of 10 tokens goes to one of three experts, and which is given: 1,920 MACs, not the 5,760 of all experts."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 24) for _ in range(3))

    def forward(self, x, experts):
        out = x.new_zeros(len(x), 24)
        for i, expert in enumerate(self.experts):
            rows = (experts == i).nonzero().squeeze(1)
            out[rows] = expert(x[rows])
        return out


@case([(10, 8)], params=8 * 3 + 3 * 8 * 24, macs=10 * 8 * 3 + 10 * 8 * 24, shapes=[(10, 24)],
      answer="depends on values")  # fmt: skip
class TopOneRouting(nn.Module):
    """As above, routed by a product: the sum is the same whatever the routing, the layers' shares are not."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(8, 3, bias=False)
        self.experts = nn.ModuleList(nn.Linear(8, 24, bias=False) for _ in range(3))

    def forward(self, x):
        chosen = self.router(x).argmax(-1)
        out = x.new_zeros(len(x), 24)
        for i, expert in enumerate(self.experts):
            rows = torch.where(chosen == i)[0]
            out = out.index_add(0, rows, expert(x[rows]))
        return out


@case(lambda: (torch.tensor([[1.0, -1.0], [2.0, 0.0], [-3.0, -1.0]]),), params=2 * 5, macs=2 * 2 * 5, shapes=[(2, 5)],
      answer="depends on values")  # fmt: skip
class BooleanRows(nn.Module):
    """Two of three rows begin with a positive number."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 5, bias=False)

    def forward(self, x):
        return self.linear(x[x[:, 0] > 0])


@case(lambda: (torch.rand(3, 4), torch.tensor([True, False, True])), params=4 * 5, macs=2 * 4 * 5, shapes=[(2, 5)])
class GivenMask(nn.Module):
    """The mask is given, with two of three set."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5, bias=False)

    def forward(self, x, mask):
        return self.linear(x[mask])


@case(lambda: (torch.tensor([3, 1, 3, 3, 7, 1]),), params=10 * 4 + 4 * 6, macs=3 * 4 * 6, shapes=[(6, 6)])
class UniqueIds(nn.Module):
    """Three different ids among six: each is embedded and multiplied once."""

    def __init__(self):
        super().__init__()
        self.table, self.linear = nn.Embedding(10, 4), nn.Linear(4, 6, bias=False)

    def forward(self, ids):
        found, back = torch.unique(ids, return_inverse=True)
        return self.linear(self.table(found))[back]


@case(lambda: (torch.tensor([0, 2, 2, 5]),), params=6 * 4, macs=6 * 4, shapes=[(4,)])
class CountsOfGiven(nn.Module):
    """The largest of the given numbers is 5: six counts, times a matrix of 6 x 4."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 4))

    def forward(self, ids):
        return torch.bincount(ids).float() @ self.weight


@case(lambda: (torch.rand(2, 5, 4), torch.tensor([5, 3])), params=4 * (3 * 4 + 3 * 3 + 3 + 3),
      macs=(5 + 3) * 4 * 3 * (4 + 3), shapes=[(2, 5, 3)])  # fmt: skip
class PackedLengths(nn.Module):
    """Five steps and three: eight steps of an LSTM, not ten."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


@case(lambda: (torch.rand(2, 4), torch.tensor(3)), params=4 * 4, macs=3 * 2 * 4 * 4, shapes=[(2, 4)])
class GivenSteps(nn.Module):
    """As many steps as a given integer tensor says: three."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)

    def forward(self, x, steps):
        for _ in range(int(steps)):
            x = self.linear(x)
        return x


@case([(1, 4)], params=4 * 4, macs=3 * 4 * 4, shapes=[(1, 4)], answer="depends on values")
class WhileItIsLarge(nn.Module):
    """The weight is half of the identity: from 8 the sum goes below 1.5 after three steps (8, 4, 2, 1)."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)
        self.linear.weight = nn.Parameter(torch.eye(4) / 2)

    def forward(self, x):
        x = x / x.sum() * 8
        while x.sum() > 1.5:
            x = self.linear(x)
        return x


@case(lambda: (torch.rand(12, 2, 6), torch.tensor([[1, 2, 3], [2, 1, 2]])), params=6 * 5, macs=12 * 2 * 6 * 5,
      shapes=[()])  # fmt: skip
class CTC(nn.Module):
    """The loss reads lengths; the product before it is 12 steps of 2 examples."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5, bias=False)

    def forward(self, x, targets):
        scores = self.linear(x).log_softmax(-1)
        lengths = torch.tensor([12, 12]), torch.tensor([3, 3])
        return functional.ctc_loss(scores, targets, *lengths)


@case([(2, 4)], params=4 * 3, macs=2 * 4 * 3, shapes=[(2, 3)], answer="depends on values")
class ThroughNumpy(nn.Module):
    """The clipping is done in NumPy: torch sees the product alone."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return torch.from_numpy(self.linear(x).detach().numpy().clip(0, 1))


@case([(2, 6, 4)], params=4 * 4 + 4 * 3, macs=2 * 6 * 4 * 4 + 2 * 2 * 4 * 3, shapes=[(2, 2, 3)])
class TopTwoTokens(nn.Module):
    """Which two of six tokens go on depends on values, how many does not."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        y = self.first(x)
        best = y.sum(-1).topk(2).indices
        return self.second(y.gather(1, best[..., None].expand(-1, -1, 4)))


@case([(3, 4)], params=4 * 5 + 5 * 6, macs=3 * 4 * 5, shapes=[(3, 6)])
class EmbeddingOfArgmax(nn.Module):
    """An index that is computed, into a table of 5 rows of 6."""

    def __init__(self):
        super().__init__()
        self.linear, self.table = nn.Linear(4, 5, bias=False), nn.Embedding(5, 6)

    def forward(self, x):
        return self.table(self.linear(x).argmax(-1))


@case(lambda: (torch.rand(3, 4), torch.tensor([1, 2, 3])), params=4 * 5, macs=6 * 4 * 5, shapes=[(6, 5)])
class LengthRegulator(nn.Module):
    """Rows are repeated 1, 2 and 3 times, as given: six of them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5, bias=False)

    def forward(self, x, repeats):
        return self.linear(torch.repeat_interleave(x, repeats, dim=0))


@case([(2, 3, 4)], params=4 * 5, macs=2 * 3 * 4 * 5, shapes=[(2, 3, 5)], answer="depends on values")
class DurationPredictor(nn.Module):
    """Rows are repeated as often as a prediction says: rounded up, values from (0, 1) are 1."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5, bias=False)

    def forward(self, x):
        times = (x.mean(-1) / 2 + 0.1).ceil().long()
        return self.linear(torch.stack([torch.repeat_interleave(a, b, dim=0) for a, b in zip(x, times, strict=True)]))


@case(lambda: (torch.rand(2, 9, 4), torch.tensor([5, 7])), params=4 * 3, macs=2 * 7 * 4 * 3, shapes=[(2, 7, 3)])
class CutToTheLongest(nn.Module):
    """The longest given length is 7 of 9."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x, lengths):
        return self.linear(x[:, : lengths.max()])


@case([(6, 4)], params=4 * 3, macs=2 * 4 * 3, shapes=[(2, 3)], answer="depends on values")
class LargestAboveThreshold(nn.Module):
    """`masked_select` of what exceeds the third largest value: two."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        score = x.sum(1)
        return self.linear(torch.masked_select(x, (score > score.sort().values[-3])[:, None]).view(-1, 4))


@case(lambda: (torch.rand(2, 5, 4), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])), params=4 * 4,
      macs=2 * 5 * 4 * 4, shapes=[(2, 5, 4)])  # fmt: skip
class MaskThatIsAsked(nn.Module):
    """Masking code asks whether anything is masked at all: here it is, and the product of the branch runs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)

    def forward(self, x, mask):
        return x if mask.bool().all() else self.linear(x) * mask[..., None]
