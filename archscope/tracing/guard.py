"""The user's model is left as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._C._autograd import _unsafe_set_version_counter  # type: ignore[import]
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from archscope.tracing.devices import is_meta, real_devices
from archscope.tracing.tensors import is_lazy


@contextmanager
def untouched(modules: Iterable[nn.Module], train: bool | None) -> Iterator[None]:
    """Set the mode, and give the modules back as they were: flags, attributes, parameters, buffers, random state."""
    kept = []
    scripted = [(m, m.training) for m in modules if isinstance(m, torch.jit.ScriptModule)]
    if train is not None:
        for module, _ in scripted:
            module.training = train
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = module.__dict__
        groups = (own["_parameters"], own["_buffers"], own["_modules"])
        kept.append((own, own.copy(), [(group, group.copy() if group else {}) for group in groups]))
        if train is not None:
            own["training"] = train
        if own.get("_compiled_call_impl") is not None:
            own["_compiled_call_impl"] = None  # `module.compile()`: it runs as it was written
    # a write that the run leaves out still counts as one for autograd, which then refuses a backward that is pending
    state = [t for own, *_ in kept for name in ("_parameters", "_buffers") for t in own[name].values()]
    written = [t for t in state if t is not None and not is_meta(t) and not is_lazy(t) and not t.is_inference()]
    versions = [t._version for t in written]
    random = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path hides the work of attention
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(random)
        for module, training in scripted:
            module.training = training
        _unsafe_set_version_counter(tuple(written), tuple(versions))
        for own, attributes, contents in kept:
            own.clear()
            own.update(attributes)
            for group, members in contents:
                if group or members:
                    group.clear()
                    group.update(members)


@contextmanager
def materialized_apart() -> Iterator[None]:
    """Within this block a lazy module makes its parameters unseen by a run, and where they are to be."""
    original = UninitializedTensorMixin.materialize

    def materialize(self: Any, *args: Any, **kwargs: Any) -> None:
        with torch._C._DisableTorchDispatch(), torch.inference_mode(False), real_devices():
            original(self, *args, **kwargs)

    UninitializedTensorMixin.materialize = materialize
    try:
        yield
    finally:
        UninitializedTensorMixin.materialize = original
