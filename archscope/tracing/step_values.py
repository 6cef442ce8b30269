"""A step of training on real values, for a forward that decides by them: every operator runs on the CPU.

Weights and optimizer state are not written to, because the record of a step needs none of what the optimizer computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from archscope.tracing.checks import ASKS
from archscope.tracing.devices import CPU, storage_of
from archscope.tracing.dispatch import Overload
from archscope.tracing.step_run import StepRun
from archscope.tracing.tensors import tensors_in
from archscope.tracing.values import SEED


class RealStepRun(StepRun):
    """The run of a step in which every tensor has values."""

    real = True
    place = CPU
    made_on_host = False  # whether the operator that runs takes nothing from the device of the step

    @contextmanager
    def around(self) -> Iterator[None]:
        """Within this block attention and recurrent layers are made of products, and random numbers have a seed."""
        before = torch._C._get_mkldnn_enabled()
        torch.default_generator.manual_seed(SEED)  # its state is given back with the model
        torch._C._set_mkldnn_enabled(before and not any(isinstance(module, nn.RNNBase) for module in self.paths))
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch._C._set_mkldnn_enabled(before)

    def on_host(self, tensor: torch.Tensor) -> bool:
        return self.optimizing and self.made_on_host

    def produce(self, overload: Overload, func: Any, args: Any, kwargs: Any, asked: bool) -> Any:
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        if self.optimizing:
            found = [self.live.get(storage_of(t)) for t in tensors]
            self.made_on_host = kwargs.get("device") is None and all([p is None or p.host for p in found])
            if overload.in_place and not self.made_on_host:
                return args[0] if func._schema.returns else None
        if overload.name in ASKS and self.drawn and (answer := self.held()) is not None:
            return answer
        if overload.decides and self.phase in ("forward", "loss"):
            self.note_decision(overload, args, self.decided)
        if overload.name == "aten._to_copy" and kwargs.keys() == {"device"}:
            return torch.ops.aten.alias(*args)  # all tensors are on one device: nothing is copied
        args = [CPU if isinstance(value, torch.device) else value for value in args]
        kwargs = {key: CPU if isinstance(value, torch.device) else value for key, value in kwargs.items()}
        try:
            return func(*args, **kwargs)
        except NotImplementedError:
            if not overload.name.startswith("aten._scaled_dot_product"):
                raise
            return self.attention(overload, func, args, kwargs)

    def attention(self, overload: Overload, func: Any, args: Any, kwargs: Any) -> Any:
        """The output of a kernel that a CPU has not: memory as that kernel takes it, and the values of attention. Its
        gradients are zeros, because nothing decides by them."""

        def real(made: Any) -> Any:
            if not isinstance(made, torch.Tensor):
                return made
            return torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device=CPU).zero_()

        made = func(*map(self.meta, args), **{key: self.meta(value) for key, value in kwargs.items()})
        output = tuple(map(real, made))
        if "backward" not in overload.name:
            given = {**dict(zip(overload.arguments, args, strict=False)), **kwargs}
            attended = torch.ops.aten._scaled_dot_product_attention_math(
                *args[:3], given.get("attn_bias"), 0.0, given.get("is_causal", False), scale=given.get("scale")
            )
            output[0].copy_(attended[0])
        return output
