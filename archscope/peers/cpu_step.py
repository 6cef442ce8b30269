"""The bytes of a real step of training on the CPU, counted by a few lines that share no code with `trace_step`.

A dispatch mode adds up the storages that are alive while PyTorch computes. What a kernel takes for itself (a workspace
of oneDNN) is no tensor, and not counted.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archscope.tracing.training import LOSSES, PRECISIONS, checkpointed, default_loss, make_optimizer

ATTENTION = {"math": SDPBackend.MATH, "cpu-flash": SDPBackend.FLASH_ATTENTION}


class Measured(NamedTuple):
    """Bytes in use: when the model has returned, at the most within the backward, at the most, and after the step."""

    after_forward: int
    peak_of_backward: int
    peak: int
    after_step: int


class LiveBytes(TorchDispatchMode):
    """Adds up the bytes of the storages that are alive. now, most: at the moment, and since `most` was last set.

    trail: gets every operator with the bytes that are alive after it.
    """

    def __init__(self, trail: list[tuple[str, int]] | None = None) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0
        self.trail = trail

    def see(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.freed, key).atexit = False
        self.most = max(self.most, self.now)

    def freed(self, key: int) -> None:
        self.now -= self.sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.see((args, kwargs))  # a constant of the model
        output = func(*args, **(kwargs or {}))
        self.see(output)
        name = func._schema.name.replace("::", ".")
        if self.trail is not None and not name.startswith("profiler."):
            self.trail.append((name, self.now))
        return output


def real(value: Any, dtype: torch.dtype | None = None) -> Any:
    """A tensor on the CPU with memory of its own, in a dtype if it is of a floating-point one; nested ones likewise."""
    if isinstance(value, torch.Tensor):
        made = torch.zeros_like(value, device="cpu") if value.is_meta else value.detach().clone()
        return made.to(dtype) if dtype is not None and made.is_floating_point() else made
    if isinstance(value, dict):
        return {key: real(one, dtype) for key, one in value.items()}
    return type(value)([real(one, dtype) for one in value]) if type(value) in (list, tuple) else value


def materialise(model: nn.Module) -> None:
    """Put zeros on the CPU in place of everything that is on the meta device. In place."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for group in (module._parameters, module._buffers):
            for name, value in group.items():
                if value is None or not value.is_meta:
                    continue
                if id(value) not in made:
                    zeros = torch.zeros_like(value, device="cpu")
                    made[id(value)] = nn.Parameter(zeros, value.requires_grad) if group is module._parameters else zeros
                    made[id(value)].kept = value  # an id is unique only while its tensor lives
                group[name] = made[id(value)]
        if isinstance(module, nn.RNNBase):
            module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


def real_step(
    model: nn.Module,
    arguments: Sequence[Any],
    named: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = "sgd",
    implementation: str = "foreach",
    checkpoint: Sequence[str] = (),
    attention: str = "math",
    accumulate: int = 1,
    set_to_none: bool = True,
    first: bool = False,
    trail: list[tuple[str, int]] | None = None,
    precision: str = "fp32",
    frozen: Sequence[str] = (),
    channels_last: bool = False,
) -> Measured:
    """Train a model on the CPU for one step, or for two unless `first`, and return the bytes of the last one.

    The conditions are those of `trace_step`. trail: a list that gets each operator of the last step, and the bytes in
    use after it. The model is changed: it gets weights, and they are trained.
    """
    dtype, lower = PRECISIONS[precision]
    materialise(model)
    model.train().to(dtype=dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not any(fnmatchcase(name, one) for one in frozen))
    arguments, named = real(tuple(arguments), dtype), real(dict(named or {}), dtype)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        arguments = tuple(one.to(memory_format=torch.channels_last) if one.dim() == 4 else one for one in arguments)
    checkpointed({module: path for path, module in model.named_modules()}, checkpoint)
    live = LiveBytes(trail)
    live.see([list(model.parameters()), list(model.buffers()), arguments, named])
    trainer = make_optimizer(optimizer, list(model.parameters()), implementation)
    targets: list[torch.Tensor] = []
    extra: list[int] = []

    def target(shape: Any) -> torch.Tensor:
        if not targets:
            with torch._C._DisableTorchDispatch():
                targets.append(torch.zeros(tuple(shape), dtype=torch.int64))
            live.see(targets)
            extra.append(targets[0].nbytes)  # it was there during the forward already
        return targets[0]

    after_forward = peak_of_backward = peak = 0
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(ATTENTION[attention]))
        stack.enter_context(_written_out(any(isinstance(module, nn.RNNBase) for module in model.modules())))
        stack.enter_context(live)
        for _ in range(1 if first else 2):
            peak = 0
            if trail is not None:
                trail.clear()
            for _ in range(accumulate):
                live.most = live.now
                with torch.autocast("cpu", dtype=lower) if lower is not None else nullcontext():
                    output = model(*arguments, **named)
                    peak, after_forward = max(peak, live.most), live.now
                    name = default_loss(output) if loss is None else loss
                    value = LOSSES[name](output, target) if isinstance(name, str) else name(output)
                    del output
                if extra:
                    after_forward, peak = after_forward + extra[0], peak + extra[0]
                    extra.clear()
                peak, live.most = max(peak, live.most), live.now
                value.backward()
                peak_of_backward = live.most
                peak = max(peak, live.most)
                del value
            live.most = live.now
            trainer.step()
            trainer.zero_grad(set_to_none)
            peak = max(peak, live.most)
    return Measured(after_forward, peak_of_backward, peak, live.now)


@contextmanager
def _without_contents(model: nn.Module, arguments: Sequence[Any], named: Any) -> Iterator[tuple[Any, Any]]:
    """Within this block the model, in training mode, and the arguments that it yields are on a CPU, without contents.
    The model is changed."""
    from torch._subclasses import FakeTensorMode

    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), _written_out(recurrent):
        materialise(model)
        model.train()
        yield real(tuple(arguments)), real(dict(named or {}))


def counted_step(model: nn.Module, arguments: Sequence[Any], named: Any, counting: Any) -> None:
    """Forward, loss and backward of a model under a mode that counts, without computing. The model is changed."""
    with _without_contents(model, arguments, named) as (arguments, named), counting:
        output = model(*arguments, **named)
        LOSSES[default_loss(output)](output, lambda shape: torch.zeros(tuple(shape), dtype=torch.int64)).backward()


def tracked_step(
    model: nn.Module, arguments: Sequence[Any], named: Any = None, *, loss: Any = None, optimizer: Any = "sgd"
) -> tuple[int, int, str]:
    """Two steps under PyTorch's MemTracker, on a CPU whose tensors have no contents: of the second one the most bytes
    in use, the bytes after it, and MemTracker's terms of the first figure. The model is changed."""
    from torch.distributed._tools.mem_tracker import MemTracker

    targets: list[torch.Tensor] = []
    with _without_contents(model, arguments, named) as (arguments, named):
        trainer = make_optimizer(optimizer, list(model.parameters()), "foreach")
        tracker = MemTracker()
        tracker.track_external(model, trainer, *tree_leaves((arguments, named)))

        def target(shape: Any) -> torch.Tensor:
            if not targets:
                with torch._C._DisableTorchDispatch():
                    targets.append(torch.zeros(tuple(shape), dtype=torch.int64))
                tracker.track_external(*targets)
            return targets[0]

        for _ in range(2):
            with tracker:  # each step has its own peak
                tracker.reset_mod_stats()
                output = model(*arguments, **named)
                name = default_loss(output) if loss is None else loss
                value = LOSSES[name](output, target) if isinstance(name, str) else name(output)
                del output
                value.backward()
                del value
                trainer.step()
                trainer.zero_grad()
    most, now = (tracker.get_tracker_snapshot(when)[torch.device("cpu")] for when in ("peak", "current"))
    terms = ", ".join(f"{getattr(key, 'value', key)} {nbytes:,}" for key, nbytes in most.items() if nbytes)
    return most["Total"], now["Total"], terms


@contextmanager
def _written_out(recurrent: bool) -> Iterator[None]:
    """Without the fused path of `nn.MultiheadAttention` and oneDNN's recurrent layers, which hide their work."""
    attention, fused = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small work: threads would wait for each other
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(fused and not recurrent)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(attention)
        torch._C._set_mkldnn_enabled(fused)
        torch.set_num_threads(threads)
