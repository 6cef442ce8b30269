"""A model of one's own, for `startup.py`."""

from torch import Tensor, nn


class Net(nn.Sequential):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 16), nn.Linear(16, 2))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


def example_inputs() -> str:
    return "1x8"
