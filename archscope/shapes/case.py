"""One failure of a shape, and what can be asked of it: where a tensor comes from, and whether a change helps."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from archscope.analysis.row import Row
from archscope.core.errors import ArchscopeError, ShapeError
from archscope.core.record import Op, Shape, Tensor, Trace
from archscope.shapes.legal import layers_of
from archscope.shapes.resize import ResizableModel, ResizedRun
from archscope.tracing.failure import Failure
from archscope.tracing.weightless import weightless


class Mismatch(NamedTuple):
    """says: the sentence. mends: what works instead. tensors: those that clash, whose chains are worth showing. sizes:
    whether other input sizes may help. channels: of the input, where the model could be built for them."""

    says: str
    mends: Sequence[str] = ()
    tensors: tuple[Tensor, ...] = ()
    sizes: bool = False
    channels: int | None = None


@dataclass(frozen=True)
class FailureCase:
    """One failure: what the rules ask about it. model: to be run again, None where that cannot be."""

    error: ShapeError
    failure: Failure
    model: ResizableModel | None

    @classmethod
    def of(cls, error: ShapeError, layout: str = "") -> "FailureCase":
        """The case of an error that a run raised."""
        failure, again = error.failure, error.failure.rerun
        if again is None:
            return cls(error, failure, None)
        name = failure.trace.model
        model = ResizableModel(again.model, again.arguments, again.named, layout, name, again.train, again.bound)
        return cls(error, failure, model)

    @property
    def trace(self) -> Trace:
        return self.failure.trace

    @cached_property
    def op(self) -> Op | None:
        """The operator that refused; of a recurrent layer, which looks at its input itself, the one it would call."""
        if self.failure.op is not None or self.kind not in RECURRENT:
            return self.failure.op
        layer = next(y for y in self.trace.layers if y.path == self.path and not y.outputs)
        return Op(RECURRENT[self.kind], layer.inputs, (), {"input": layer.inputs[0]}) if layer.inputs else None

    @property
    def path(self) -> str:
        return self.failure.path

    @property
    def place(self) -> str:
        return self.failure.place

    @cached_property
    def row(self) -> dict[int, Row]:
        """The row of each operator."""
        return layers_of(self.trace)

    @cached_property
    def maker(self) -> dict[int, int]:
        """The operator that made each tensor, first. One in place gives the tensor that it got, and makes none."""
        made: dict[int, int] = {}
        for at, op in enumerate(self.trace.ops):
            given = {t.id for t in op.inputs}
            for t in op.outputs:
                if t.id not in given:
                    made.setdefault(t.id, at)
        return made

    @property
    def kind(self) -> str:
        return self.trace.modules.get(self.path, "")

    @property
    def name(self) -> str:
        """`fc6 (Linear)`; of the model itself its name."""
        return f"{self.path} ({self.kind})" if self.path else self.trace.model

    def behind(self, tensor: Tensor) -> frozenset[int]:
        """The operators that a tensor depends on."""
        found: set[int] = set()
        waiting = [tensor]
        while waiting:
            at = self.maker.get(waiting.pop().id)
            if at is not None and at not in found:
                found.add(at)
                waiting += self.trace.ops[at].inputs
        return frozenset(found)

    def from_input(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on an input of the model."""
        given = {t.id for t in self.trace.inputs}
        return tensor.id in given or any(t.id in given for at in self.behind(tensor) for t in self.trace.ops[at].inputs)

    def origin(self, tensor: Tensor) -> str:
        """The layer that gave a tensor its shape: back over what leaves a shape as it is; empty for the input."""
        at = self.maker.get(tensor.id)
        while at is not None:
            op = self.trace.ops[at]
            before = op.inputs[0] if op.inputs else None
            kept = before is not None and before.shape == op.outputs[0].shape and "weight" not in op.args
            if not (kept or (op.name.endswith("_norm") and before is not None)):
                return self.row[at].path if at in self.row else ""
            at = self.maker.get(before.id) if before is not None else None
        return ""

    # ------------------------------------------------------------------------------------------------ trying things

    def past(self, ran: ResizedRun) -> bool:
        """Whether a run came past the operator at which this one stopped."""
        return ran.error is None or len(ran.trace.ops) > len(self.trace.ops)

    def tried(self, change: AbstractContextManager[Any], through: bool = False) -> bool:
        """Whether the model comes past the failure with a change; through: to its end."""
        if self.model is None:
            return False
        try:
            with change:
                ran = self.model.at({})
        except (ArchscopeError, ValueError, TypeError, RuntimeError, AttributeError):
            return False
        return self.model.works(ran) if through else self.past(ran)

    def rebuilt(self, path: str, also: AbstractContextManager[Any] | None = None, /, **arguments: Any) -> bool:
        """Whether the layer at `path`, built with other arguments, gets past the failure; also: another change."""
        config = next((dict(y.config) for y in self.trace.layers if y.path == path), None)
        if self.model is None or not path or config is None:  # the path of a function is no module
            return False
        cls = type(self.model.model.get_submodule(path))
        if not cls.__module__.startswith("torch.nn"):
            return False
        taken = inspect.signature(cls.__init__).parameters
        names = set(taken) if "args" not in taken else OF_RECURRENT
        if cls.__name__ in ("RNN", "GRU"):
            names = names - {"proj_size"}  # which they refuse
        if not names >= arguments.keys():
            return False
        try:
            with weightless():
                other = cls(**{k: v for k, v in {**config, **arguments}.items() if k in names})
        except (ValueError, TypeError, RuntimeError):
            return False
        with self.model.replaced(path, other):
            return self.tried(also or nullcontext())

    def exchanged(self, kind: str) -> bool:
        """Whether the layer of another kind, BatchNorm2d for BatchNorm1d, gets past the failure."""
        config = next((dict(y.config) for y in self.trace.layers if y.path == self.path), None)
        if self.model is None or not self.path or config is None:
            return False
        made = getattr(sys.modules[type(self.model.model.get_submodule(self.path)).__module__], kind, None)
        if made is None:
            return False
        taken = inspect.signature(made.__init__).parameters
        with weightless():
            other = made(**{key: value for key, value in config.items() if key in taken})
        with self.model.replaced(self.path, other):
            return self.tried(nullcontext())

    def resettled(self, name: str, shape: Shape) -> bool:
        """Whether a parameter of another shape gets past the failure."""
        return self.model is not None and self.tried(self.model.with_parameter(name, shape))

    def with_input(self, shape: Shape, through: bool = True) -> bool:
        """Whether the model runs on a first input of this shape, or at least past the failure."""
        if self.model is None:
            return False
        try:
            ran = self.model.on(shape)
            return ran.error is None if through else self.past(ran)
        except ArchscopeError:
            return False

    def paddings(self, among: frozenset[int], most: int = 4) -> Iterator[str]:
        """`conv1 with padding=2`: the windows among these operators that get past the failure with other padding."""
        if self.model is None:
            return
        paths = dict.fromkeys(
            self.row[at].path
            for at in sorted(among)
            if at in self.row and self.row[at].layer is not None and "kernel_size" in self.row[at].config
        )
        found = 0
        for path in list(paths)[:most]:
            module = self.model.model.get_submodule(path)
            k, now = getattr(module, "kernel_size", 0), getattr(module, "padding", 0)
            largest = max(k) if isinstance(k, tuple) else k
            if not isinstance(largest, int) or isinstance(now, str):
                continue
            tries = [("padding", pad) for pad in range(largest // 2 + 1)]
            if getattr(module, "transposed", False) and max(module.stride) > 1:
                tries.insert(0, ("output_padding", 1))
            for key, pad in tries:
                now = getattr(module, key)
                each = (pad,) * len(now) if isinstance(now, tuple) else pad
                if each != now and self.tried(self.model.changed(path, **{key: each}), through=True):
                    yield f"{path} with {key}={pad}"
                    found += 1
                    break
            if found:
                return


RECURRENT = {"RNN": "aten.rnn_tanh", "LSTM": "aten.lstm", "GRU": "aten.gru", "RNNCell": "aten.rnn_tanh_cell",
             "LSTMCell": "aten.lstm_cell", "GRUCell": "aten.gru_cell"}  # fmt: skip

OF_RECURRENT = set(
    "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size nonlinearity".split()
)
