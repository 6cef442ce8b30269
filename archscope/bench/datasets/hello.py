"""hello → ohlol, one sequence of letters."""

from archscope.bench.datasets.base import Data, Lookup, NetworkInput, Split, dataset
from archscope.core.errors import SpecError

LETTERS = "ehlo"


@dataset("hello", train=1, test=1, example="5 letters of 4; tested on itself", origin="built in")
def sequence(needs: NetworkInput, lookup: Lookup) -> Data:
    """One sequence, hello, with the letter that follows each letter: ohlol. The test set is the training set."""
    import torch

    if not is_hello(needs):
        raise SpecError("the data set hello is for networks of sequences of four letters, such as char-rnn")
    letters = torch.tensor([[LETTERS.index(letter) for letter in "hello"]])  # [1, 5]
    labels = torch.tensor([[LETTERS.index(letter) for letter in "ohlol"]])
    one_hot = torch.nn.functional.one_hot(letters, 4).float()  # [1, 5, 4]
    split = Split(letters if len(needs.shape) == 1 else one_hot, labels)
    return Data("hello", split, split, 4, seen=True, origin="built in", letters=LETTERS)


def is_hello(needs: NetworkInput) -> bool:
    """Whether a network takes sequences of four letters."""
    return needs.classes == 4 and (len(needs.shape) == 1 or (len(needs.shape) == 2 and needs.shape[-1] == 4))
