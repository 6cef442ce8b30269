"""Messages along edges: gather, multiply, scatter."""

import torch
from torch import nn

from corpus import case


def edges(nodes=5, width=4):
    """Six edges between five nodes."""
    return torch.rand(nodes, width), torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


class Base(nn.Module):
    def __init__(self, n=4, m=3):
        super().__init__()
        self.linear = nn.Linear(n, m, bias=False)


@case(edges, params=4 * 3, macs=5 * 4 * 3, shapes=[(5, 3)])
class IndexAdd(Base):
    """5 nodes of 4 x 3; what goes along edges is added."""

    def forward(self, x, edges):
        y = self.linear(x)
        return torch.zeros_like(y).index_add(0, edges[1], y[edges[0]])


@case(edges, params=4 * 3, macs=6 * 4 * 3, shapes=[(5, 3)])
class PerEdge(Base):
    """The product is made per edge: six."""

    def forward(self, x, edges):
        y = self.linear(x[edges[0]])
        return y.new_zeros(5, 3).scatter_add_(0, edges[1][:, None].expand_as(y), y)


@case(edges, params=4 * 3, macs=5 * 4 * 3, shapes=[(5, 3)])
class ScatterMaximum(Base):
    def forward(self, x, edges):
        y = self.linear(x)
        where = edges[1][:, None].expand(-1, 3)
        return y.new_zeros(5, 3).scatter_reduce_(0, where, y[edges[0]], "amax", include_self=False)


@case(edges, params=4 * 3 + 2 * 3, macs=5 * 4 * 3 + 2 * 5 * 3, shapes=[(5, 3)])
class GraphAttention(nn.Module):
    """4 x 3 and two scores of 3 per node; a softmax over each node's edges."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.source, self.target = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)

    def forward(self, x, edges):
        y = self.linear(x)
        score = (self.source(y)[edges[0]] + self.target(y)[edges[1]]).exp()
        total = torch.zeros(5, 1).index_add(0, edges[1], score)
        return torch.zeros(5, 3).index_add(0, edges[1], y[edges[0]] * score / total[edges[1]])


@case([(5, 4), (5, 5)], params=4 * 3, macs=5 * 4 * 3 + 5 * 5 * 3, shapes=[(5, 3)])
class DenseAdjacency(Base):
    def forward(self, x, adjacency):
        return adjacency @ self.linear(x)


def sparse():
    at = torch.tensor([[0, 1, 2, 3], [1, 2, 0, 0]])
    return torch.rand(5, 4), torch.sparse_coo_tensor(at, torch.ones(4), (5, 5), check_invariants=False)


@case(sparse, params=4 * 3, macs=5 * 4 * 3 + 4 * 3, shapes=[(5, 3)],
      uncounted="it does not know sparse products")  # fmt: skip
class SparseProduct(Base):
    """Four entries, each times a row of 3."""

    def forward(self, x, adjacency):
        return torch.sparse.mm(adjacency, self.linear(x))


@case(lambda: (torch.rand(5, 4), torch.tensor([[0, 1, 2], [1, 2, 3]])), params=4 * 3, macs=5 * 4 * 3 + 3 * 3,
      shapes=[(5, 3)], uncounted="it counts a sparse product as if it were dense")  # fmt: skip
class SparseFromEdges(Base):
    """The matrix is made in the forward, of three given edges, and multiplied with @."""

    def forward(self, x, edges):
        return torch.sparse_coo_tensor(edges, torch.ones(3), (5, 5), check_invariants=False) @ self.linear(x)


@case(lambda: (torch.rand(5, 4), torch.tensor([[0, 1, 2], [1, 2, 3]])), params=4 * 3 + 3,
      macs=5 * 4 * 3 + 3 * 3 + 3 * 3, shapes=[(5, 3)], uncounted="it does not know sparse products")  # fmt: skip
class SparseAttention(Base):
    """A score of each of three edges, 3 x 1, is an entry of the matrix."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(3, 1, bias=False)

    def forward(self, x, edges):
        y = self.linear(x)
        scores = self.score(y[edges[0]]).squeeze(-1).sigmoid()
        return torch.sparse.mm(torch.sparse_coo_tensor(edges, scores, (5, 5), check_invariants=False), y)


@case(lambda: (torch.rand(5, 4), sparse()[1].to_sparse_csr()), params=0, macs=4 * 4, shapes=[(5, 4)],
      uncounted="it counts a sparse product as if it were dense")  # fmt: skip
class CompressedRows(nn.Module):
    """Four entries in rows, each times a row of 4."""

    def forward(self, x, adjacency):
        return adjacency.matmul(x)


@case(lambda: (torch.rand(5, 4), torch.tensor([0, 0, 1, 1, 1])), params=4 * 3, macs=2 * 4 * 3, shapes=[(2, 3)])
class MeanOfEachGraph(Base):
    """Two graphs, as the largest number of the given vector says."""

    def forward(self, x, graph):
        n = int(graph.max()) + 1
        total = x.new_zeros(n, 4).index_add(0, graph, x)
        return self.linear(total / torch.bincount(graph, minlength=n)[:, None])


@case(lambda: (*edges(), torch.rand(6, 2)), params=2 * 12, macs=6 * 2 * 12 + 6 * 4 * 3, shapes=[(5, 3)])
class EdgeNetwork(nn.Module):
    """Each edge's two features make a matrix of 4 x 3, by which its message is multiplied."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 12, bias=False)

    def forward(self, x, edges, features):
        weight = self.net(features).view(-1, 4, 3)
        message = torch.bmm(x[edges[0]][:, None], weight)[:, 0]
        return torch.zeros(5, 3).index_add(0, edges[1], message)


@case([(5, 4)], params=4 * 3, macs=5 * 2 * 4 * 3, shapes=[(5, 3)])
class NearestTwo(Base):
    """The two nearest nodes of each: which ones depends on values, how many does not."""

    def forward(self, x):
        apart = (x[:, None] - x[None]).norm(dim=-1)
        near = apart.topk(2, largest=False).indices
        return self.linear(x[near]).amax(1)


@case([(5, 3)], params=3 * 2, macs=4 * 3 * 2, shapes=[(4, 2)], answer="depends on values")
class RadiusGraph(Base):
    """Edges between nodes nearer than a radius: here the first node and its neighbours on a line."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        line = x * 0 + torch.arange(5.0)[:, None]
        apart = (line[:, None, 0] - line[None, :, 0]).abs()
        source, target = ((apart < 1.5) & (line[:, None, 0] < line[None, :, 0])).nonzero(as_tuple=True)
        return self.linear(x[source] - x[target])


@case(edges, params=4 * 4, macs=3 * 5 * 4 * 4, shapes=[(5, 4)])
class ThreeRounds(Base):
    def __init__(self):
        super().__init__(4, 4)

    def forward(self, x, edges):
        for _ in range(3):
            y = self.linear(x)
            x = x.index_copy(0, edges[1][:3], y[edges[0][:3]])
        return x
