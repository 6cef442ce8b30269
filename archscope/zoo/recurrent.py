"""Recurrent networks. RNN: Elman, Finding structure in time, Cognitive Science 1990. LSTM: Hochreiter & Schmidhuber,
Long short-term memory, Neural Computation 1997. GRU: Cho et al., EMNLP 2014, arXiv 1406.1078.

One step of an RNN cell is h' = tanh(W x + b + U h + b'), so a layer has h·(in + h) weights and, in PyTorch, two biases
where the papers have one: 2·h more. An LSTM has four such cells (3 gates and the candidate), a GRU three. The weights
are used again at every step: the parameters do not grow with the sequence, the arithmetic does.

Defaults are the classroom's: the four letters of "hello" as one-hot vectors of 4, a hidden state of 4, five steps.
"""

from torch import Tensor, nn, stack

from archscope.zoo.catalogue import register
from archscope.zoo.knobs import positive

ELMAN = "Elman 1990, Cognitive Science 14(2), Finding Structure in Time"
LSTM = "Hochreiter & Schmidhuber 1997, Neural Computation 9(8), Long Short-Term Memory"
GRU = "Cho et al. 2014 EMNLP, Learning Phrase Representations using RNN Encoder-Decoder, arXiv 1406.1078"


class Unrolled(nn.Module):
    """A cell in a Python loop over the steps."""

    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        hidden, found = None, []
        for step in x.unbind(0):  # (t, n, c) -> t × (n, c)
            hidden = self.cell(step, hidden)
            found.append(hidden)
        return stack(found)  # t × (n, h) -> (t, n, h)


class Recurrent(nn.Module):
    """The outputs of every step, without the last state."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.rnn(x)  # (t, n, c) -> (t, n, h), 2h where it is bidirectional
        return found


class CharRNN(nn.Module):
    """The next letter at every step: the hidden state is the scores of the letters."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(letters, letters)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.rnn(x)  # (t, n, letters)
        return found.flatten(0, 1)  # (t·n, letters), what a cross-entropy takes


class CharRNNEmbedding(nn.Module):
    """The same with letters as numbers: an embedding in front, a linear layer behind."""

    def __init__(self, vocabulary: int, dimension: int, hidden: int, num_layers: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dimension)
        self.rnn = nn.RNN(dimension, hidden, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.rnn(self.embedding(x))  # (n, t) -> (n, t, dimension) -> (n, t, hidden)
        return self.fc(found).flatten(0, 1)  # (n·t, num_classes)


class GRUClassifier(nn.Module):
    """One label a sequence, from the last state of the last layer, of both directions where there are two."""

    def __init__(self, vocabulary: int, hidden: int, num_layers: int, bidirectional: bool, num_classes: int) -> None:
        super().__init__()
        self.directions = 2 if bidirectional else 1
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.gru = nn.GRU(hidden, hidden, num_layers, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(self.directions * hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.gru(self.embedding(x))  # (n, t) -> (n, t, hidden) -> (layers·directions, n, hidden)
        last = state[-self.directions :].transpose(0, 1).flatten(1)  # (n, directions·hidden)
        return self.fc(last)


@register("rnn-cell", input="5x1x4", layout="tnc", params=40, macs=160, paper=ELMAN)
def rnn_cell(input_size: int = 4, hidden_size: int = 4) -> nn.Module:
    positive(input_size=input_size, hidden_size=hidden_size)
    return Unrolled(nn.RNNCell(input_size, hidden_size))


@register("rnn", input="5x1x4", layout="tnc", params=40, macs=160, paper=ELMAN)
def rnn(input_size: int = 4, hidden_size: int = 4, num_layers: int = 1, bidirectional: bool = False) -> nn.Module:
    positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    return Recurrent(nn.RNN(input_size, hidden_size, num_layers, bidirectional=bidirectional))


@register("lstm", input="5x1x4", layout="tnc", params=160, macs=640, paper=LSTM)
def lstm(input_size: int = 4, hidden_size: int = 4, num_layers: int = 1, bidirectional: bool = False) -> nn.Module:
    positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    return Recurrent(nn.LSTM(input_size, hidden_size, num_layers, bidirectional=bidirectional))


@register("gru", input="5x1x4", layout="tnc", params=120, macs=480, paper=GRU)
def gru(input_size: int = 4, hidden_size: int = 4, num_layers: int = 1, bidirectional: bool = False) -> nn.Module:
    positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    return Recurrent(nn.GRU(input_size, hidden_size, num_layers, bidirectional=bidirectional))


@register("char-rnn", input="5x1x4", layout="tnc", params=40, macs=160, paper=ELMAN)
def char_rnn(num_classes: int = 4) -> nn.Module:
    """One-hot letters in, scores of the same letters out ("hello" → "ohlol"): the letters are the classes."""
    positive(num_classes=num_classes)
    return CharRNN(num_classes)


@register("char-rnn-embedding", input="1x5:int64", layout="nt", params=380, macs=1_520, paper=ELMAN)
def char_rnn_embedding(
    vocabulary: int = 4, dimension: int = 10, hidden: int = 8, num_layers: int = 2, num_classes: int = 4
) -> nn.Module:
    positive(vocabulary=vocabulary, dimension=dimension, hidden=hidden, num_layers=num_layers, num_classes=num_classes)
    return CharRNNEmbedding(vocabulary, dimension, hidden, num_layers, num_classes)


@register("gru-classifier", input="1x10:int64", layout="nt", params=75_218, macs=601_800, paper=GRU)
def gru_classifier(
    vocabulary: int = 128, hidden: int = 100, num_layers: int = 1, bidirectional: bool = False, num_classes: int = 18
) -> nn.Module:
    """A name's letters (ASCII) to one of 18 languages.

    Choices: the embedding has as many dimensions as the state, one layer, ten letters, sequences of one length (no
    packing), and the label is read from the last state, not from the outputs.
    """
    positive(vocabulary=vocabulary, hidden=hidden, num_layers=num_layers, num_classes=num_classes)
    return GRUClassifier(vocabulary, hidden, num_layers, bidirectional, num_classes)
