"""A run on real values, for a forward that decides by them: a copy of the model with real weights, and real inputs.

Weights that have values are copied; others are made by the initialisers of their modules. Inputs with values are
copied; others are drawn with a fixed seed, integers in the range that was given or that of the smallest embedding.
"""

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch
from torch import nn

from archscope.core.errors import ArchscopeError, SpecError, TraceError
from archscope.core.record import Trace
from archscope.tracing import copies
from archscope.tracing.devices import is_meta
from archscope.tracing.tensors import is_lazy

SEED = 0
BELOW = "archscope_below"  # attribute of an input without values: those that are drawn for it are below
MEMORY = 4 << 30  # bytes that a run on real values may take
MODES = ("auto", "never", "always")

_Tensor = torch.Tensor


def estimate(record: Trace) -> int:
    """Bytes of weights and of what operators made, as far as a record without values goes."""
    made = {t.id: t for op in record.ops for t in op.outputs}
    held = {p.tensor.id: p.tensor for p in (*record.params, *record.buffers)}
    return sum(t.nbytes for t in (made | held).values())


def refuse(needed: int, limit: int) -> None:
    """Raises TraceError where a run on real values needs more memory than it may take."""
    if needed > limit:
        text = f"a run on real values needs {needed / 2**30:.1f} GiB and more; it may take {limit / 2**30:.1f} GiB"
        raise TraceError(f"{text}: memory=… sets another limit in bytes, in Python")


def check_mode(values: str) -> None:
    """Raises SpecError for what `values` cannot be."""
    if values not in MODES:
        raise SpecError(f"values={values!r}: it is 'auto', 'never' or 'always'")


def on_real_values(run: Callable[[], Trace], stopped: Any) -> Trace:
    """The record of a run on real values, after one without stopped. Raises the error of both where it stops, too."""
    try:
        return run()
    except ArchscopeError as second:
        if str(second) == str(stopped):
            raise
        first = type(stopped)(f"{stopped}. On real values: {second}")
        first.failure = stopped.failure
        raise first from stopped.__cause__


class Values:
    """Where real values come from. drawn: how many inputs had none. made: how many weights had none.

    Raises TraceError where the weights alone take more bytes than `limit`.
    """

    def __init__(self, model: nn.Module, limit: int) -> None:
        held = {id(t): t for t in (*model.parameters(), *model.buffers()) if not is_lazy(t)}
        refuse(sum(t.numel() * t.element_size() for t in held.values()), limit)
        self.original = model
        self.drawn = self.made = 0
        self.generator = torch.Generator().manual_seed(SEED)
        embeddings = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        self.largest = min(embeddings, default=2)

    def model(self) -> nn.Module:
        """A copy of the model in which every tensor has values."""
        fresh: list[torch.Tensor] = []
        originals = _Tensor.__deepcopy__, nn.Parameter.__deepcopy__
        memo: dict[int, Any] = {}

        def copied(tensor: Any, memo: dict[int, Any]) -> torch.Tensor:
            if is_lazy(tensor):
                return originals[1](tensor, memo)
            if id(tensor) not in memo:
                if is_meta(tensor):
                    new = torch.zeros(tensor.shape, dtype=tensor.dtype)
                    fresh.append(new)
                else:
                    new = tensor.detach().to("cpu", copy=True)
                if isinstance(tensor, nn.Parameter):
                    new = nn.Parameter(new, tensor.requires_grad)
                memo[id(tensor)] = new
            return memo[id(tensor)]

        _Tensor.__deepcopy__ = nn.Parameter.__deepcopy__ = copied  # type: ignore[method-assign]
        try:
            with torch.no_grad():
                model = copies.copied(self.original, memo)
        finally:
            _Tensor.__deepcopy__, nn.Parameter.__deepcopy__ = originals  # type: ignore[method-assign]
        self.made = len(fresh)
        if fresh:
            self._initialise(model, {t.data_ptr() for t in fresh})
        return model

    def _initialise(self, model: nn.Module, fresh: set[int]) -> None:
        """Give weights that had no values some, by the initialisers of their modules where they have one."""
        kept = torch.get_rng_state()
        torch.manual_seed(SEED)
        try:
            with torch.no_grad():
                for module in model.modules():
                    own = [p for p in module.parameters(recurse=False) if p.data_ptr() in fresh]
                    for p in own:
                        _fill(p)
                    start = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
                    if start is not None and len(own) == len(list(module.parameters())):
                        _tried(start)
                start = getattr(model, "_init_weights", None)  # of transformers
                if callable(start):
                    for module in model.modules():
                        if any(p.data_ptr() in fresh for p in module.parameters(recurse=False)):
                            _tried(start, module)
        finally:
            torch.set_rng_state(kept)

    def input(self, tensor: torch.Tensor) -> torch.Tensor:
        """An input with values."""
        if not is_meta(tensor):
            return tensor.detach().to("cpu", copy=True)
        self.drawn += 1
        shape, dtype = tensor.shape, tensor.dtype
        if dtype == torch.bool:
            return torch.ones(shape, dtype=dtype)
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(shape, generator=self.generator).to(dtype)
        below = getattr(tensor, BELOW, self.largest)
        return torch.randint(below, shape, generator=self.generator).to(dtype)

    def sentence(self, decided: Iterable[str]) -> str:
        """What the record says of a run on real values. decided: the operators by which the forward decides."""
        given = "as given" if not self.drawn else f"drawn with seed {SEED}"
        weights = f", weights drawn with seed {SEED}" if self.made else ""
        by = "; ".join(decided)
        what = f"sizes and branches depend on values, by {by}" if by else "the forward needs the values of tensors"
        return f"{what}: it ran on real values, inputs {given}{weights}"


def _fill(parameter: torch.Tensor) -> None:
    """Numbers of a usual size, where no initialiser says better."""
    if not parameter.is_floating_point():
        return
    if parameter.dim() < 2:
        parameter.fill_(1.0)
    else:
        parameter.normal_(0, 1 / sqrt(max(1, parameter[0].numel())))


def _tried(start: Any, *args: Any) -> None:
    try:
        start(*args)
    except Exception:  # an initialiser of the user's, which may want anything: the numbers of a usual size stay
        return
