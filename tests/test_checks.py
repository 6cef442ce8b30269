"""Checks of values are taken to hold in a run without values, and nothing else is.

PYTEST_DONT_REWRITE: the checks below are those that Python compiles.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Distribution, MultivariateNormal, Normal

import archscope


class Checked(nn.Module):
    """[2, 4] times 4 x 3, between checks."""

    def __init__(self, check: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.linear, self.check = nn.Linear(4, 3, bias=False), check

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        self.check(y)
        return y


def asserted(y: torch.Tensor) -> None:
    assert (y < 9).all()


def asserted_not(y: torch.Tensor) -> None:
    assert not (y > 9).any(), f"{y.shape} is large"


def both(y: torch.Tensor) -> None:
    assert (y < 9).all() and (y > -9).all()


def raised(y: torch.Tensor) -> None:
    if y.isnan().any():
        raise ValueError("nan" if y.dim() else "none")


def raised_otherwise(y: torch.Tensor) -> torch.Tensor:
    if (y < 9).all():
        return y
    raise ValueError("large")


def by_item(y: torch.Tensor) -> None:
    if y.isnan().any().item():
        raise ValueError("nan")


def equal(y: torch.Tensor) -> None:
    if not torch.equal(y, y):
        raise ValueError("not equal")


def torch_assert(y: torch.Tensor) -> None:
    torch._assert((y < 9).all(), "large")


def normal(y: torch.Tensor) -> None:
    Normal(y, y.exp()).log_prob(y)


def categorical(y: torch.Tensor) -> None:
    Categorical(y.softmax(-1)).sample()


def multivariate(y: torch.Tensor) -> None:
    MultivariateNormal(y, scale_tril=y.diag_embed())


CHECKS = [asserted, asserted_not, both, raised, raised_otherwise, by_item, equal, torch_assert, normal]


@pytest.fixture
def validated() -> Iterator[None]:
    """Distributions check their arguments, which PyTorch's compiler switches off in the whole process."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)
    yield
    Distribution.set_default_validate_args(before)


@pytest.mark.usefixtures("validated")
@pytest.mark.parametrize("check", [*CHECKS, categorical, multivariate])
def test_a_check_is_taken_to_hold(check: Callable[[torch.Tensor], object]) -> None:
    record = archscope.trace(Checked(check), [(2, 4)], values="never")
    assert archscope.totals(record)["macs"] == 2 * 4 * 3
    assert "checks of values are taken to hold, in " in record.notes[0]


def branch(y: torch.Tensor) -> torch.Tensor:
    return y.relu() if y.mean() > 0 else y


def loop(y: torch.Tensor) -> None:
    while y.sum() > 0:
        y = y - 1


def counted(y: torch.Tensor) -> int:
    return 1 if (y > 0).any() else 2


def last(y: torch.Tensor) -> None:
    for one in y:
        if one.sum() > 0:
            break
        one.relu()


@pytest.mark.parametrize("question", [branch, loop, counted, last])
def test_another_question_is_not_answered(question: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(archscope.TraceError, match="depends on the value of a tensor"):
        archscope.trace(Checked(question), [(2, 4)], values="never")


def test_a_check_of_known_values_is_made() -> None:
    class Given(nn.Module):
        def forward(self, lengths: torch.Tensor) -> torch.Tensor:
            assert (lengths > 0).all(), "a length of 0"
            return lengths

    with pytest.raises(archscope.TraceError, match="a length of 0"):
        archscope.trace(Given(), (torch.tensor([3, 0]),))
    assert archscope.trace(Given(), (torch.tensor([3, 1]),)).notes == ()
