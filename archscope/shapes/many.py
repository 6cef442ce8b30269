"""One model at many sizes, when all that is asked is whether it runs and what its windows leave out.

A full record of every size would take minutes. Here nothing is written down, and equal calls of modules and operators
are made once (`tracing/memo.py`). A forward of the user's runs in full, with its decisions, at every size. `legal.py`
compares some of the sizes with full records, and a test compares both ways.
"""

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from archscope.shapes.resize import ResizableModel, ResizedRun, lost_by, lost_in
from archscope.tracing.collector import gc_paused
from archscope.tracing.devices import CPU, believed
from archscope.tracing.guard import untouched
from archscope.tracing.inputs import prepared
from archscope.tracing.memo import Memo, MemoRun
from archscope.tracing.modules import listening
from archscope.tracing.run import LOCK
from archscope.tracing.tensors import tensors_in

MOST = 1 << 16  # calls that are kept


class SizeOutcome(NamedTuple):
    """The outcome of a run. ops: how many operators ran. lost: the sides of windows that leave rows or columns out.
    works: whether it succeeded, with as many examples as went in."""

    ops: int
    lost: int
    failed: bool
    works: bool


def outcome_of(model: ResizableModel, ran: ResizedRun) -> SizeOutcome:
    """The same of a full record."""
    ops = ran.trace.ops
    return SizeOutcome(len(ops), len(lost_in(ran.trace, model.axes)), ran.error is not None, model.works(ran))


class RepeatedRuns:
    """Within its block a model is run at one size after the other."""

    def __init__(self, model: ResizableModel) -> None:
        self.resized, self.model = model, model.model
        self.modules = list(self.model.modules())
        self.in_full = any(isinstance(m, (torch.jit.ScriptModule, LazyModuleMixin)) for m in self.modules)
        self.now: CountingRun | None = None

    def __enter__(self) -> "RepeatedRuns":
        with ExitStack() as stack:
            stack.enter_context(LOCK)
            if not self.in_full:
                self.memo = Memo(self.model)
                stack.enter_context(self.resized.running)
                stack.enter_context(untouched(self.modules, self.resized.train))
                stack.enter_context(believed(CPU))
                stack.enter_context(listening(self))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def at(self, side: int) -> SizeOutcome:
        """Run with this side."""
        if self.in_full:
            return outcome_of(self.resized, self.resized.at(side))
        if len(self.memo) > MOST:
            self.memo.clear()
        arguments, named = self.resized.inputs(side)
        arguments, named, inputs, _ = prepared(self.model, arguments, named)
        run = CountingRun(self.memo, self.resized)
        run.born.update(map(id, inputs))
        with gc_paused(), untouched(self.modules if self.memo.users else (), None), torch.inference_mode(), run:
            self.now = run
            try:
                output = self.model(*arguments, **named)
            except Exception:  # what it was, a full record tells
                return SizeOutcome(*run.start(), True, False)
            finally:
                self.now = None
                run.restore()
        made = tensors_in((output,))[:1]
        works = not self.resized.by_example or [t.shape[:1] for t in made] == [t.shape[:1] for t in inputs[:1]]
        return SizeOutcome(*run.start(), False, works)


class CountingRun(MemoRun):
    """One run, of which only the operators and the windows that leave something out are counted."""

    def __init__(self, memo: Memo, model: ResizableModel) -> None:
        super().__init__(memo, "", model.bound)
        self.axes = model.axes
        self.taken = self.lost = 0  # operators that were not run again; windows that leave something out
        self.looked = 0  # operators of `ops` whose windows were looked at

    def start(self) -> tuple[int, int]:
        """Operators and lossy windows so far."""
        for op in self.ops[self.looked :]:
            self.lost += len(lost_by(op, self.axes))
        self.looked = len(self.ops)
        return len(self.ops) + self.taken, self.lost

    def cost(self, start: tuple[int, int], module: nn.Module | None, given: Any, output: Any) -> tuple[int, int]:
        ops, lost = self.start()
        return ops - start[0], lost - start[1]

    def repeat(self, cost: tuple[int, int], given: Any, output: Any) -> None:
        self.taken += cost[0]
        self.lost += cost[1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            return MemoRun.__torch_dispatch__(self, func, types, args, kwargs)

        return self.remembered(func, make, args, kwargs or {})
