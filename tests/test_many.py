"""One model at many sizes without records: the same as with one each, whatever a forward decides by the size."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archscope.shapes import many as runs
from archscope.shapes.legal import legal_sizes
from archscope.shapes.many import RepeatedRuns, SizeOutcome, outcome_of
from archscope.shapes.resize import ResizableModel, resized
from archscope.tracing import memo
from archscope.tracing.memo import MemoRun


class Windows(nn.Module):
    """Attention within windows of 4: pads to whole windows, rolls where there is more than one."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 6)
        self.merge = nn.Conv2d(6, 6, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        x = F.pad(x, (0, 0, 0, -w % 4, 0, -h % 4))
        rows, columns = x.shape[1] // 4, x.shape[2] // 4
        if rows > 1:
            x = torch.roll(x, (-2, -2), (1, 2))
        parts = x.view(n, rows, 4, columns, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        parts = F.scaled_dot_product_attention(self.mix(parts), parts, parts)
        x = parts.view(n, rows, columns, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, 4 * rows, 4 * columns, c)
        if rows > 1:
            x = torch.roll(x, (2, 2), (1, 2))
        return self.merge(x[:, :h, :w].permute(0, 3, 1, 2))


class Branches(nn.Module):
    """Another layer at every third size, and none from 20 on."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2), nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] >= 20:
            return x
        return self.a(x) if x.shape[-1] % 3 == 0 else self.b(x)


class Refuses(nn.Module):
    """Multiples of 3 only, and an fc behind the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(3 * 6 * 6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 3:
            raise RuntimeError("multiples of 3, please")
        return self.fc(self.pool(x).flatten(1))


class Rows(nn.Module):
    """`view(-1, 18)`: other examples at side 12."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2).view(-1, 18)


class Resizes(nn.Module):
    """Everything to 8×8, then what its child does, and a pool that shows how large that came out."""

    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child

    def prepare(self, side: int) -> None:
        """What is done to the child before it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.prepare(x.shape[-1])
        return F.max_pool2d(self.child(F.interpolate(x, (8, 8))), (3, 1))


class SetsAnAttribute(Resizes):
    def prepare(self, side: int) -> None:
        setattr(self.child, "stride", (1 + side % 3,) * 2)  # noqa: B010


class SetsBehindTheBack(Resizes):
    def prepare(self, side: int) -> None:
        self.child.__dict__["stride"] = (1 + side % 3,) * 2


class SwapsAParameter(Resizes):
    """As `torch.func.functional_call` does."""

    def prepare(self, side: int) -> None:
        weight: Any = torch.empty(4, 3, 1 + side % 3, 1, device="meta")
        self.child._parameters["weight"] = weight


class WritesIntoAList(Resizes):
    def __init__(self) -> None:
        super().__init__(nn.AdaptiveAvgPool2d([4, 4]))  # type: ignore[arg-type]

    def prepare(self, side: int) -> None:
        self.child.output_size[0] = 2 + side % 3  # type: ignore[index,operator]


BOARD = [0]


class Told(nn.Module):
    """A child that reads what its parent wrote elsewhere, and not from what it is called with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 1 + BOARD[0] % 3)


class Tells(Resizes):
    def __init__(self) -> None:
        super().__init__(Told())

    def prepare(self, side: int) -> None:
        BOARD[0] = side


class Hooked(Resizes):
    """A hook that changes what a layer gives, by the size that came."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3))
        self.now = 0
        self.child.register_forward_hook(lambda module, args, out: out[..., : 1 + self.now % 3, :])

    def prepare(self, side: int) -> None:
        self.now = side


class Activated(Resizes):
    """A layer of PyTorch's own that calls a function of the user's."""

    def __init__(self) -> None:
        self.side = 0
        block = nn.TransformerEncoderLayer(8, 2, 16, activation=self.activation)
        super().__init__(block)

    def activation(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if self.side % 2 else (x * 2) * 2

    def prepare(self, side: int) -> None:
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.prepare(x.shape[-1])
        return self.child(F.interpolate(x, (8, 8))[:, 0])


class Counts(nn.Module):
    """Branches on the values of constants, which it also writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(x.shape[-1])
        steps[0] = x.shape[-1]
        if int(steps.sum()) % 4 == 0:
            x = self.conv(x)
        mask = torch.zeros(4)
        mask[x.shape[-1] % 4] = 1
        return x * mask.max() if mask[1] else x[..., : int(mask.argmax()) + 1]


class Positions(nn.Module):
    """A layer of PyTorch's own that is given constants."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.table = nn.Conv2d(3, 6, 2, 2), nn.Embedding(9, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return x + self.table(torch.arange(x.shape[1]) % 9) + self.table(torch.arange(1))


class Draws(nn.Module):
    """Draws real numbers, from the same state in every run, and branches on them."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.shape[-1] % 5):
            x = x + 1 if float(torch.rand(1)) > 0.5 else F.avg_pool2d(x, 2, 1)
        return self.child(x)


class InPlace(nn.Module):
    """Changes the shape of what it has in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(x.clone())
        y.unsqueeze_(-1)
        y.squeeze_(-1)
        z = torch.empty(0, device=x.device)
        torch.add(y, 1, out=z)
        y.transpose_(1, 2)
        return self.act(y).sum((1, 2)) + z.sum((1, 2)) if x.shape[-1] % 2 else y


NETS: dict[str, Callable[[], nn.Module]] = {
    "windows": Windows,
    "branches": Branches,
    "refuses": Refuses,
    "rows": Rows,
    "sets": lambda: SetsAnAttribute(nn.Conv2d(3, 4, 3)),
    "behind": lambda: SetsBehindTheBack(nn.Conv2d(3, 4, 3)),
    "swaps": lambda: SwapsAParameter(nn.Conv2d(3, 4, 3)),
    "list": WritesIntoAList,
    "tells": Tells,
    "hooked": Hooked,
    "activated": Activated,
    "counts": Counts,
    "positions": Positions,
    "draws": Draws,
    "in place": InPlace,
    "padding": lambda: nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 4, 3, 2), nn.MaxPool2d(3)),
}  # fmt: skip


def subject(name: str) -> ResizableModel:
    return ResizableModel(NETS[name](), [torch.empty(1, 3, 16, 16)], name=name)


def differ(model: ResizableModel, sides: list[int]) -> list[tuple[int, SizeOutcome, SizeOutcome]]:
    """Where a run without a record is another than one with."""
    with RepeatedRuns(model) as many:
        got = [many.at(side) for side in sides]
    full = {side: outcome_of(model, model.at(side)) for side in set(sides)}
    return [(side, one, full[side]) for side, one in zip(sides, got, strict=True) if one != full[side]]


@pytest.mark.parametrize("name", NETS)
def test_the_same_as_with_records(name: str) -> None:
    sides = [*range(1, 31), *random.Random(1).choices(range(1, 31), k=20)]
    assert differ(subject(name), sides) == []


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "spec", ["torchvision:swin_t", "torchvision:retinanet_resnet50_fpn", "torchvision:maxvit_t", "rnn-cell"]
)
def test_models_of_libraries(spec: str, train: bool) -> None:
    if train and "retinanet" in spec:
        pytest.skip("training wants targets")
    assert differ(resized(spec, train=train), [40, 41, 40, 33, 3, 41]) == []


def by_records(model: ResizableModel, limit: int) -> tuple[Any, ...]:
    """The three sets and what is wrong below the minimum, each size recorded."""
    ran = {side: model.at(side) for side in range(1, limit + 1)}
    came_through = [side for side, one in ran.items() if one.error is None]
    fits = tuple(side for side in came_through if model.works(ran[side]))
    low = came_through[0]
    whole = tuple(side for side in came_through if not outcome_of(model, ran[side]).lost)
    below = ("", str(ran[low - 1].error)) if low > 1 else None
    return low, None if fits == tuple(range(low, limit + 1)) else fits, whole, below


@pytest.mark.parametrize("name", ["windows", "branches", "sets", "list", "tells", "counts", "in place"])
def test_the_answers_are_those_of_records(name: str) -> None:
    """Of forwards that decide by the size; a fixed layer behind the windows is for `legal_sizes` to see."""
    model = subject(name)
    found = legal_sizes(model, 40)
    assert (found.minimum, found.fits, found.lossless, found.below) == by_records(model, 40)
    assert "every size was run" in found.searched


def test_a_fixed_layer_behind_a_decision() -> None:
    """12 = 2·6 is a multiple of 3, and 13, which the fc would take too, is none."""
    found = legal_sizes(subject("refuses"), 20)
    assert (found.minimum, found.fits, found.lossless) == (12, (12,), (12,))
    assert found.below is not None and "multiples of 3, please" in found.below[1]


# ------------------------------------------------------------------------------------------------ what is not run again


def made(monkeypatch: pytest.MonkeyPatch, model: ResizableModel, *sides: int) -> list[int]:
    """Operators that are run under the tracer's rules at each of these sides."""
    count = 0
    original = MemoRun.__torch_dispatch__

    def counted(self: Any, *args: Any) -> Any:
        nonlocal count
        count += 1
        return original(self, *args)

    monkeypatch.setattr(MemoRun, "__torch_dispatch__", counted)
    out = []
    with RepeatedRuns(model) as many:
        for side in sides:
            count = 0
            many.at(side)
            out.append(count)
    return out


def test_what_was_run_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made(monkeypatch, resized("torchvision:swin_t"), 64, 64)
    assert first > 100 and second == 0
    # 67 is 16 patches of 4 wide, as 64 is: the patches alone are cut anew
    first, second = made(monkeypatch, resized("torchvision:swin_t"), 64, 67)
    assert second < 5


def test_the_model_is_left_as_it_was() -> None:
    model = subject("sets")
    call, assign = nn.Module.__call__, nn.Module.__setattr__
    model.model.train()
    before = dict(model.model.child.__dict__)
    with RepeatedRuns(model) as many:
        many.at(5)
        assert many.at(7).failed is False
    assert model.model.child.__dict__ == before and model.model.training
    assert (nn.Module.__call__, nn.Module.__setattr__) == (call, assign)


def test_an_interruption_is_no_failure_of_the_model() -> None:
    class Stops(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] == 9:
                raise KeyboardInterrupt
            return x

    model = ResizableModel(Stops(), [torch.empty(1, 3, 16, 16)], name="stops")
    call = nn.Module.__call__
    with pytest.raises(KeyboardInterrupt), RepeatedRuns(model) as many:
        many.at(8)
        many.at(9)
    assert nn.Module.__call__ is call


LEAVES = """
import atexit, gc, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background is started without
atexit.register(lambda: print("looked through" if gc.get_freeze_count() == 0 else "left"))
from archscope.cli import main
main()
"""


def test_ctrl_c_while_every_size_is_run(tmp_path: Path) -> None:
    """Exit code 130, no traceback, and no second of clearing up."""
    (tmp_path / "nets.py").write_text(
        "import os, signal\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        if x.shape[-1] == 300:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return x.squeeze(0) if x.shape[-1] % 2 else x\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-c", LEAVES, "sizes", f"{tmp_path}/nets.py:Net", "--input", "1x3x16x16"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (130, "left\n")
    assert "Traceback" not in ran.stderr


# ------------------------------------------------------------------------------------------------------ planted errors

PLANTED = [
    # what is taken away, and the networks that then come out wrong
    (memo.MemoRun, "key", lambda self, module: id(module), ["behind", "swaps", "list"]),
    (memo, "is_library", lambda cls: True, ["tells"]),
    (memo, "_HOOKS", lambda own: (), ["hooked"]),
    (memo.MemoRun, "frozen", lambda self, value: 0, ["activated"]),
    (runs, "lost_by", lambda op, axes: [], ["windows", "padding"]),
    (memo.MemoRun, "unchanged", lambda *args: True, ["in place"]),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "nets"), PLANTED)
def test_planted_errors_are_seen(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any, nets: list[str]
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    assert all(differ(subject(net), [*range(1, 31), *range(1, 31)]) for net in nets), nets


def test_records_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a run without a record be wrong where one is made, every size gets one."""
    right = legal_sizes(subject("branches"), 40)
    monkeypatch.setattr(RepeatedRuns, "at", lambda self, side: SizeOutcome(3, 0, side < 7, side >= 7))
    assert legal_sizes(subject("branches"), 40) == right
