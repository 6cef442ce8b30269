"""A meter for a training loop of one's own: examples a second, FLOP/s, and their share of the device's peak.

    meter = archscope.Meter(model, images, device="cuda")
    for images, labels in loader:
        …                                    forward, backward, optimizer.step()
        reading = meter.step(examples=len(images))

The FLOPs are those of the record of a step: 2 for each multiply-add of forward and backward (PaLM, arXiv:2204.02311,
appendix B). MFU counts the work that the model needs: no gradient of the data or of frozen weights, and nothing twice.
HFU counts what runs, so also what a checkpoint computes again. A device is never waited for.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from archscope.analysis.training import uncounted_in, work_by_phase
from archscope.bench import peaks
from archscope.bench.device import Flags, matmul_peak, name_of
from archscope.core.errors import SpecError
from archscope.core.record import Trace
from archscope.core.table import unknown
from archscope.tracing.step import trace_step

CONVENTION = (
    "MFU: 2 FLOPs for each multiply-add that forward and backward need, per second, as a share of the peak; HFU: those "
    "that a checkpoint runs again too (PaLM, arXiv:2204.02311, appendix B)"
)


class StepFlops(NamedTuple):
    """FLOPs of one batch: of the forward, of forward and backward (model), and of all that runs (hardware: what
    checkpoints run again too). unknown: operators of unknown cost, without which the figures are lower bounds."""

    forward: int
    model: int
    hardware: int
    unknown: tuple[str, ...] = ()


def step_flops(step: Trace) -> StepFlops:
    """2 for each multiply-add of forward, loss and backward in the record of a step."""
    macs = {phase: macs for phase, (macs, _) in work_by_phase(step).items()}
    again = macs.get("recompute", 0)
    model = sum(n for phase, n in macs.items() if phase not in ("recompute", "optimizer"))
    return StepFlops(2 * macs["forward"], 2 * model, 2 * (model + again), tuple(uncounted_in(step)))


def share(rate: float | None, peak: float | None, devices: int = 1) -> float | None:
    """A rate as a share of the peak of so many devices; None where one is unknown."""
    return rate / (peak * devices) if rate and peak else None


class Reading(NamedTuple):
    """Rates over the last steps, None where they are not known. of: examples, tokens or FLOPs a second, or a share.

    lower_bound: operators of unknown cost are left out of FLOPs and shares.
    """

    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    flops_per_second: float | None = None
    hardware_flops_per_second: float | None = None
    mfu: float | None = None
    hfu: float | None = None
    lower_bound: bool = False

    def numbers(self) -> dict[str, float]:
        """What is known, for a logger."""
        return {key: value for key, value in self._asdict().items() if value is not None and key != "lower_bound"}

    def __str__(self) -> str:
        least = "≥ " if self.lower_bound else ""
        parts = [f"{self.examples_per_second:,.4g} examples/s" if self.examples_per_second else "no step yet"]
        parts += [f"{self.tokens_per_second:,.4g} tokens/s"] if self.tokens_per_second else []
        parts += [f"{least}{self.flops_per_second / 1e12:,.4g} TFLOP/s"] if self.flops_per_second else []
        parts += [f"MFU {least}{self.mfu:.1%}"] if self.mfu else []
        parts += [f"HFU {least}{self.hfu:.1%}"] if self.hfu and self.hfu != self.mfu else []
        return ", ".join(parts)


# steps, examples, tokens, FLOPs that the model needs and FLOPs that run, since the meter was made
_Count = tuple[float, float, float, float, float]
_ZERO: _Count = (0.0, 0.0, 0.0, 0.0, 0.0)


def _less(now: _Count, before: _Count) -> _Count:
    return now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3], now[4] - before[4]


class Meter:
    """Measures the steps of a training loop: `meter.step(examples=…)` after each of them gives a `Reading`.

    Args:
        model: The network as it is trained. It is run once on the meta device, and left as it was.
        example_batch: What its forward takes for one batch: a tensor, a tuple, a dict of arguments, or a shape.
        device: Where it is trained; by default where its parameters are.
        examples: How many examples the batch has; by default the length of its first tensor.
        loss: A function of the model's output. It decides which outputs have a gradient; by default all.
        precision: "fp32", "tf32", "bf16" or "fp16", for the published peak; by default that of the parameters. Under
            autocast give its precision.
        peak: FLOP/s of the device, where the published figure is unknown or another one is wanted. By default the
            published one, and where there is none, as for a CPU, that of the fastest matrix product that is measured.
        checkpoint: Patterns of modules that run again in the backward, where the model itself does not say so.
        window: How many steps a reading looks back.

    Frozen parameters are known from the model when the meter is made. With gradient accumulation call `step` once for
    each step of the optimizer, with the examples of all its batches, or once for each batch: the work goes by examples.
    Count the examples of this process; the rates are those of its device. Raises what `trace_step` raises.

    Attributes: `flops`, the `StepFlops` of the batch; `peak`, FLOP/s or None; `peak_source`; `notes`; `convention`.
    """

    convention = CONVENTION

    def __init__(
        self,
        model: nn.Module,
        example_batch: Sequence[Any] | Mapping[str, Any] | torch.Tensor,
        *,
        device: str | torch.device | None = None,
        examples: int | None = None,
        loss: Any = None,
        precision: str | None = None,
        peak: float | None = None,
        checkpoint: Sequence[str] = (),
        window: int = 20,
    ) -> None:
        if window < 1:
            raise SpecError(f"window is a whole number of steps from 1 on, not {window}")
        first = next(iter(model.parameters()), None)
        self.device = torch.device(device) if device is not None else first.device if first is not None else _CPU
        step = trace_step(model, example_batch, loss=loss, checkpoint=checkpoint)
        shape = step.inputs[0].shape if step.inputs else ()
        if examples is None:
            if not shape:
                raise SpecError("the batch has no tensor with a length: say examples=N")
            examples = shape[0]
        self.examples = examples
        if self.examples < 1:
            raise SpecError(f"examples is a whole number from 1 on, not {self.examples}")
        self.flops = step_flops(step)
        self.notes: list[str] = [CONVENTION]
        if self.flops.unknown:
            self.notes.append(f"lower bounds: the cost of {', '.join(self.flops.unknown)} is unknown")
        self.length = shape[-1] if len(shape) == 2 and step.inputs[0].dtype.startswith("int") else None
        self._growth = None if self.length is None else self._with_length(model, example_batch, loss, checkpoint)
        self.peak, self.peak_source = _peak(self.device, precision or _precision(first, self.device), peak)
        self._done: deque[tuple[Any, _Count]] = deque(maxlen=window + 1)
        self._pending: deque[tuple[Any, _Count, bool]] = deque()  # an accelerator has not passed these marks yet
        self._count = _ZERO
        self._begins = True  # the next mark begins a part, and is the end of no step
        self._origin: tuple[Any, _Count] | None = None
        self._paused, self._seconds_paused = _ZERO, 0.0

    # ------------------------------------------------------------------------------------------------ the loop

    def start(self) -> None:
        """Begin to measure now: before the loop, and again after a pause that is no training, such as an evaluation.

        Without it the first step only begins the measurement.
        """
        self._begins = True
        self._mark()

    def step(
        self,
        examples: float | None = None,
        *,
        tokens: float | None = None,
        lengths: Sequence[int] | None = None,
        padded: int | None = None,
    ) -> Reading:
        """A step is over. Returns the rates over the last steps that the device has finished.

        examples: of the step, by default those of the batch that the meter was made with. For texts also one of:
        tokens, without padding, each of which costs what it costs in a text of the batch's length (as 6N + 12·L·H·Q·T
        has it); or lengths, of every text (also of several that are packed into one row), whose attention is then
        counted exactly. padded: the length to which rows are padded, by default that of the batch. MFU leaves padding
        out, HFU counts it.
        """
        rows = self.examples if examples is None else examples
        scale = rows / self.examples
        model, hardware = self.flops.model * scale, self.flops.hardware * scale
        if tokens is not None or lengths is not None or padded is not None:
            tokens, model, hardware = self._of_text(rows, tokens, lengths, padded)
        elif self.length is not None:
            tokens = rows * self.length
        steps, before, texts, needed, ran = self._count
        self._count = (steps + 1, before + rows, texts + (tokens or 0), needed + model, ran + hardware)
        self._mark()
        return self.reading()

    def _of_text(
        self, rows: float, tokens: float | None, lengths: Sequence[int] | None, padded: int | None
    ) -> tuple[float, float, float]:
        """Tokens, model FLOPs and hardware FLOPs of a step on texts."""
        if self.length is None:
            raise SpecError("tokens, lengths and padded are for a model whose first input is a batch of token numbers")
        if tokens is not None and lengths is not None:
            raise SpecError("give tokens or lengths, not both: lengths tell the tokens too")
        wide = self.length if padded is None else padded
        if self._growth is None and (lengths is not None or wide != self.length):
            raise SpecError(f"{LENGTHS}: give tokens")
        texts = self.examples * self.length
        whole = self.flops.model / texts  # of a token in a text of the batch's length
        (a, b), (c, d) = self._growth or ((whole, 0.0), (self.flops.hardware / texts, 0.0))
        if lengths is not None:
            tokens = sum(lengths)
            model = a * tokens + b * sum([n * n for n in lengths])
        elif tokens is not None:
            model = tokens * whole
        else:
            tokens, model = rows * wide, rows * (a * wide + b * wide**2)
        return tokens, model, rows * (c * wide + d * wide**2)

    def _with_length(self, model: nn.Module, batch: Any, loss: Any, checkpoint: Sequence[str]) -> Any:
        """(a, b) of a text of n tokens, which costs a·n + b·n² FLOPs, for what the model needs and for what runs; None
        where shorter texts say otherwise."""
        length = self.length or 0
        if length < 4:
            return None
        found = {length: self.flops}
        for shorter in (length // 2, length // 4):
            try:
                made = trace_step(model, _shortened(batch, length, shorter), loss=loss, checkpoint=checkpoint)
            except Exception:  # whatever a forward has against another length
                self.notes.append(LENGTHS)
                return None
            found[shorter] = step_flops(made)
        (n, one), (half, two), (quarter, three) = found.items()
        forms = []
        for which in ("model", "hardware"):
            costs = [getattr(flops, which) / self.examples for flops in (one, two, three)]
            b = (costs[0] / n - costs[1] / half) / (n - half)
            a = costs[0] / n - b * n
            if abs(a * quarter + b * quarter**2 - costs[2]) > 1e-6 * costs[2]:
                self.notes.append(LENGTHS)
                return None
            forms.append((a, b))
        return forms

    # -------------------------------------------------------------------------------------------------- rates

    def _mark(self) -> None:
        begins, self._begins = self._begins, False
        if self.device.type == "cpu":
            self._pass(time.perf_counter(), self._count, begins)
            return
        event = torch.Event(self.device, enable_timing=True)
        event.record()
        self._pending.append((event, self._count, begins))

    def _pass(self, mark: Any, count: _Count, begins: bool) -> None:
        """The device has passed a mark."""
        if self._origin is None:
            self._origin = (mark, count)
        elif begins:
            last, before = self._done[-1]
            self._seconds_paused += self._between(last, mark)
            self._paused = _less(self._paused, _less(before, count))
        if begins:
            self._done.clear()
        self._done.append((mark, count))

    def _settle(self) -> None:
        """Take over the marks that the device has passed."""
        while self._pending and self._pending[0][0].query():
            self._pass(*self._pending.popleft())

    def _between(self, before: Any, after: Any) -> float:
        """Seconds."""
        return after - before if self.device.type == "cpu" else before.elapsed_time(after) / 1e3

    def reading(self) -> Reading:
        """The rates over the last steps that the device has finished, at most `window` of them. Waits for nothing."""
        self._settle()
        if len(self._done) < 2:
            return Reading(lower_bound=bool(self.flops.unknown))
        (first, before), (last, now) = self._done[0], self._done[-1]
        return self._rates(_less(now, before), self._between(first, last))

    def average(self) -> Reading:
        """The rates over all steps since the meter was made, without pauses. Waits until the device has finished."""
        if self._pending:
            self._pending[-1][0].synchronize()
        self._settle()
        if self._origin is None:
            return Reading(lower_bound=bool(self.flops.unknown))
        (first, before), (last, now) = self._origin, self._done[-1]
        seconds = self._between(first, last) - self._seconds_paused
        return self._rates(_less(_less(now, before), self._paused), seconds)

    def _rates(self, done: _Count, seconds: float) -> Reading:
        steps, examples, tokens, needed, ran = done
        if not steps:
            return Reading(lower_bound=bool(self.flops.unknown))
        seconds = max(seconds, 1e-9)
        model, hardware = needed / seconds, ran / seconds
        peak = self.peak
        return Reading(
            examples / seconds,
            tokens / seconds if tokens else None,
            seconds / steps,
            model,
            hardware,
            share(model, peak),
            share(hardware, peak),
            bool(self.flops.unknown),
        )


_CPU = torch.device("cpu")
LENGTHS = "the work of this model does not grow with the length of a text as a·n + b·n², or the batch cannot be cut"


def _shortened(value: Any, length: int, to: int) -> Any:
    """The batch with every axis but the first cut that has the length of a text."""
    if isinstance(value, torch.Tensor):
        for axis in range(1, value.dim()):
            value = value.narrow(axis, 0, to) if value.shape[axis] == length else value
        return value
    if isinstance(value, Mapping):
        return {key: _shortened(one, length, to) for key, one in value.items()}
    return type(value)(_shortened(one, length, to) for one in value) if type(value) in (list, tuple) else value


def _precision(parameter: Any, device: torch.device) -> str:
    known = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    if parameter is not None and parameter.dtype in known:
        return known[parameter.dtype]
    return "tf32" if device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32 else "fp32"


def _peak(device: torch.device, precision: str, given: float | None) -> tuple[float | None, str]:
    """FLOP/s of a device, and where the figure is from."""
    if precision not in peaks.PRECISIONS:
        raise SpecError(unknown("precision", precision, peaks.PRECISIONS))
    if given is not None:
        if not given > 0:
            raise SpecError(f"peak is a number of FLOP/s above 0, not {given}")
        return float(given), "given"
    if device.type == "meta":
        return None, "there is no device"
    name = name_of(device)
    published, source = peaks.flops_of(name, precision)
    if published is not None:
        return published, f"published for {name} in {precision}: {source}"
    return matmul_peak(device, Flags(precision=precision)), f"the fastest matrix product measured here in {precision}"
