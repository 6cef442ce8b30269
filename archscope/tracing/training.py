"""What a step of training is made of besides the model: loss, optimizer, and stand-ins for what a GPU would run."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from archscope.core.errors import SpecError
from archscope.core.registry import Registry
from archscope.core.table import unknown
from archscope.tracing.casts import cast_now
from archscope.tracing.devices import real_devices
from archscope.tracing.memory_order import fused_on_cpu
from archscope.tracing.recurrent import recurrent_on_cpu
from archscope.tracing.weightless import META

IMPLEMENTATIONS = ("foreach", "for-loop", "fused")
BACKENDS: Registry[Callable[..., torch.Tensor]] = Registry("attention backend")
Loss = Callable[[Any], torch.Tensor]

# of parameters and inputs, and of autocast
PRECISIONS: dict[str, tuple[torch.dtype | None, torch.dtype | None]] = {
    "fp32": (None, None),
    "bf16": (torch.bfloat16, None),
    "fp16": (torch.float16, None),
    "bf16-mixed": (None, torch.bfloat16),
    "fp16-mixed": (None, torch.float16),
}
DEVICES = ("cuda", "cpu")

# -------------------------------------------------------------------------------------------------------- losses

LOSSES: Registry[Callable[..., torch.Tensor]] = Registry("loss")


def floating_in(output: Any, found: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """The floating-point tensors of a model's output, in order."""
    found = [] if found is None else found
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            found.append(output)
    elif isinstance(output, Mapping):
        for value in output.values():
            floating_in(value, found)
    elif isinstance(output, (list, tuple)):
        for value in output:
            floating_in(value, found)
    elif hasattr(output, "__dataclass_fields__"):
        for name in output.__dataclass_fields__:
            floating_in(getattr(output, name), found)
    return found


def _one(output: Any, axes: tuple[int, ...], what: str) -> torch.Tensor:
    outputs = floating_in(output)
    if not outputs or outputs[0].dim() not in axes:
        shape = "×".join(map(str, outputs[0].shape)) if outputs else "no tensor"
        raise SpecError(f"{what} needs an output of {' or '.join(map(str, axes))} axes; the model gives {shape}")
    return outputs[0]


@LOSSES.register("cross-entropy")
def cross_entropy(output: Any, target: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Of class scores [N, C] or [N, C, *] with a class for each example, or each position."""
    scores = _one(output, (2, 3, 4, 5), "cross-entropy")
    return functional.cross_entropy(scores, target((scores.shape[0], *scores.shape[2:])))


@LOSSES.register("next-token")
def next_token(output: Any, target: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of scores [N, T, V] with a token for each position."""
    scores = _one(output, (3,), "next-token")
    return functional.cross_entropy(scores.flatten(0, 1), target(scores.shape[:2]).flatten())


@LOSSES.register("mean-square")
def mean_square(output: Any, target: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The mean of the squares of every floating-point output, added up: it has no target."""
    outputs = [value for value in floating_in(output) if value.requires_grad]
    if not outputs:
        raise SpecError("no output of the model depends on a parameter that is trained")
    total = outputs[0].square().mean()
    for value in outputs[1:]:
        total = total + value.square().mean()
    return total


def default_loss(output: Any) -> str:
    """Cross-entropy where the one output is N×C, the mean of squares elsewhere."""
    outputs = floating_in(output)
    return "cross-entropy" if len(outputs) == 1 and outputs[0].dim() == 2 else "mean-square"


# ---------------------------------------------------------------------------------------------------- optimizers

# names that are no class of torch.optim, and what they stand for
SHORT = {"momentum": ("SGD", {"momentum": 0.9}), "sgd": ("SGD", {})}


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """The optimizers of torch.optim by their names in lower case, without the one that evaluates the loss itself."""
    return {
        name.lower(): one
        for name, one in vars(torch.optim).items()
        if inspect.isclass(one) and issubclass(one, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS")
    }


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer], params: Sequence[nn.Parameter], implementation: str
) -> torch.optim.Optimizer:
    """An optimizer over parameters. implementation: of its update, one of `IMPLEMENTATIONS`. Raises SpecError."""
    if not isinstance(optimizer, str):
        made = optimizer(params)
        if not isinstance(made, torch.optim.Optimizer):
            raise SpecError("optimizer is a name of torch.optim, or a function that makes one of a list of parameters")
        return made
    if implementation not in IMPLEMENTATIONS:
        raise SpecError(unknown("implementation of the optimizer", implementation, IMPLEMENTATIONS))
    known = optimizers()
    name, given = SHORT.get(optimizer.lower(), (optimizer, {}))
    if name.lower() not in known:
        raise SpecError(unknown("optimizer", optimizer, [*known, *SHORT]))
    cls = known[name.lower()]
    takes = inspect.signature(cls).parameters
    keys: dict[str, Any] = {"lr": 0.01, **given}
    if "foreach" in takes:
        keys["foreach"] = implementation == "foreach"
    if implementation == "fused":
        if "fused" not in takes:
            raise SpecError(f"{cls.__name__} has no fused implementation")
        made = cls(params, **keys)
        for group in made.param_groups:  # its own check asks for a device that the parameters are not on
            group["fused"], group["foreach"] = True, False
        return made
    return cls(params, **keys)


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()` without its wrappers, which import PyTorch's compiler."""
    step = inspect.unwrap(type(optimizer).step)
    module = inspect.getmodule(step)
    check = getattr(module, "_device_dtype_check_for_fused", None)
    try:
        if check is not None:
            vars(module)["_device_dtype_check_for_fused"] = lambda *_, **__: None
        with torch.no_grad():
            step(optimizer)
    finally:
        if check is not None:
            vars(module)["_device_dtype_check_for_fused"] = check


def check_conditions(
    loss: Any = None,
    optimizer: Any = "sgd",
    implementation: str = "foreach",
    precision: str = "fp32",
    attention: str = "math",
    device: str = "cuda",
) -> None:
    """Raises SpecError for a condition of `trace_step` that does not exist."""
    if isinstance(loss, nn.modules.loss._Loss):
        raise SpecError(f"loss is a function of the output alone: a name, {', '.join(LOSSES)}, or for this "
                        f"{type(loss).__name__} lambda output: criterion(output, target)")  # fmt: skip
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise SpecError(f"an optimizer is made for the parameters of the run: give optimizer=torch.optim.{name}, or "
                        f"lambda params: torch.optim.{name}(params, …)")  # fmt: skip
    words = [
        ("precision", precision, PRECISIONS), ("device", device, DEVICES), ("attention backend", attention, BACKENDS),
        ("implementation of the optimizer", implementation, IMPLEMENTATIONS),
    ]  # fmt: skip
    words += [("loss", loss, LOSSES)] if isinstance(loss, str) else []
    words += [("optimizer", optimizer.lower(), [*optimizers(), *SHORT])] if isinstance(optimizer, str) else []
    for what, word, known in words:
        if word not in known:
            raise SpecError(unknown(what, word, known))


# ------------------------------------------------------------------------------------------------------ stand-ins


def stand_in(
    modules: Mapping[nn.Module, str], dtype: torch.dtype | None, frozen: Sequence[str], channels_last: bool, most: int,
    real: bool = False,
) -> list[nn.Parameter]:  # fmt: skip
    """Put tensors of the same shape on the meta device in place of every parameter and large buffer, in these modules.

    The caller gives the modules back as they were. dtype: of what has a floating-point one; None: its own. frozen:
    patterns of the names of parameters that are not trained. most: elements of a buffer that keeps its values. real:
    all keep their values. Returns the parameters, each once, in the model's order.
    """
    made: dict[int, Any] = {}
    kept: list[Any] = []  # an id is unique only while its tensor lives

    def new(value: torch.Tensor, name: str) -> torch.Tensor:
        if id(value) in made:
            return made[id(value)]
        kept.append(value)
        to = dtype if dtype is not None and value.is_floating_point() else value.dtype
        is_parameter = isinstance(value, nn.Parameter)
        if real:
            copy = value.detach().to(to)
        elif not is_parameter and value.device.type == "cpu" and value.numel() <= most:
            copy = value.detach().clone().to(to)
        else:
            with torch.no_grad():
                copy = torch.empty_strided(value.shape, value.stride(), dtype=to, device=META)
        if channels_last and copy.dim() == 4:
            copy = copy.contiguous(memory_format=torch.channels_last)
        if is_parameter:
            trained = value.requires_grad and not any(fnmatchcase(name, pattern) for pattern in frozen)
            copy = nn.Parameter(copy, trained)
        made[id(value)] = copy
        return copy

    params: dict[int, nn.Parameter] = {}
    for module, path in modules.items():
        own = module.__dict__
        for group in ("_parameters", "_buffers"):
            for name, value in own[group].items():
                if value is not None:
                    own[group][name] = copy = new(value, f"{path}.{name}" if path else name)
                    if isinstance(copy, nn.Parameter):
                        params.setdefault(id(copy), copy)
    for module in modules:
        for name, value in module.__dict__.items():  # a recurrent layer keeps a list of its weights
            if isinstance(value, torch.Tensor) and id(value) in made:
                module.__dict__[name] = made[id(value)]
            elif isinstance(value, list) and any([isinstance(v, torch.Tensor) and id(v) in made for v in value]):
                module.__dict__[name] = [made.get(id(v), v) for v in value]
    return list(params.values())


def checkpointed(
    modules: Mapping[nn.Module, str],
    patterns: Sequence[str],
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[str, ...]:
    """Wrap the forward of the modules whose paths match in `torch.utils.checkpoint`, and return these paths.

    A module inside one that is wrapped stays as it is. around: makes a block in which each of the runs is. Raises
    SpecError for a pattern that matches none.
    """
    found: list[str] = []
    for pattern in patterns:
        matches = [path for path in modules.values() if path and fnmatchcase(path, pattern)]
        if not matches:
            near = [path for path in modules.values() if path]
            raise SpecError(unknown("module for checkpoint", pattern, near))
        found += matches
    chosen = {path for path in found if not any(path.startswith(f"{other}.") for other in found)}
    for module, path in modules.items():
        if path in chosen:
            module.__dict__["forward"] = _recomputing(module.forward, around)
    return tuple(path for path in modules.values() if path in chosen)


def _recomputing(forward: Callable[..., Any], around: Callable[[], AbstractContextManager[None]]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with around():
            return forward(*args, **kwargs)

    def again(*args: Any, **kwargs: Any) -> Any:
        return recomputed(run, *args, use_reentrant=False, **kwargs)

    return again


# ------------------------------------------------------------------------------------- what the device would run


@BACKENDS.register("math")
def math_attention(original: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Written out in matrix products and a softmax: what PyTorch does on the meta device."""
    return original(*args, **kwargs)


def _prepared(query: Any, key: Any, value: Any, enable_gqa: bool) -> tuple[Any, Any, Any]:
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    return query, key, value


def _summand(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as the kernels add it."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask.logical_not(), -torch.inf)


@BACKENDS.register("flash")
def flash_attention(
    original: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """FlashAttention on CUDA: half precision and no mask; PyTorch writes out, or takes another kernel, elsewhere."""
    fits = attn_mask is None and query.dim() == 4 and query.dtype in (torch.float16, torch.bfloat16)
    if not fits:
        return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    q, k, v = _prepared(query, key, value, enable_gqa)
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, scale=scale)[0]


@BACKENDS.register("efficient")
def efficient_attention(
    original: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The memory-efficient kernel on CUDA, which takes a mask and full precision too."""
    if query.dim() != 4:
        return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    q, k, v = _prepared(query, key, value, enable_gqa)
    if attn_mask is not None:
        attn_mask = _summand(attn_mask, q.dtype).expand(*q.shape[:3], k.shape[-2])
    made = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, attn_mask, q.requires_grad or k.requires_grad, dropout_p, is_causal, scale=scale
    )
    return made[0]


@BACKENDS.register("cpu-flash")
def cpu_flash_attention(
    original: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The fused kernel that PyTorch takes on a CPU where there is no dropout. It takes groups as they are."""
    if not fused_on_cpu(query, key, value, attn_mask, dropout_p, enable_gqa):
        return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    alone = query.dim() == 3
    q, k, v = (t.unsqueeze(0) if alone else t for t in (query, key, value))
    if attn_mask is not None:
        attn_mask = _summand(attn_mask, q.dtype)
        attn_mask = attn_mask.unsqueeze(0) if attn_mask.dim() == 3 else attn_mask
    made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )
    return made[0].squeeze(0) if alone else made[0]


@contextmanager
def as_on(device: str, attention: str) -> Iterator[None]:
    """Within this block functions of PyTorch that differ between devices call what this device would run.

    Dropout on CUDA keeps a mask of one byte an element, on a CPU one of the tensor's dtype. Attention has several
    kernels, which keep different tensors for the backward.
    """
    attend, drop, fast = functional.scaled_dot_product_attention, torch._VF.dropout, torch.dropout
    pad = torch._VF._pad_packed_sequence
    backend = BACKENDS[attention]

    def attention_of(*args: Any, **kwargs: Any) -> torch.Tensor:
        return backend(attend, *cast_now(*args), **dict(zip(kwargs, cast_now(*kwargs.values()), strict=True)))

    def dropout(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        if not train or not 0 < p < 1 or not input.numel():
            return fast(input, p, train)
        return torch.native_dropout(input, p, train)[0]

    def padded(*args: Any) -> Any:
        with real_devices():  # it writes the lengths into a tensor that it makes on the CPU
            return pad(*args)

    try:
        torch._VF._pad_packed_sequence = padded
        if attention != "math":
            functional.scaled_dot_product_attention = attention_of
        if device == "cuda":
            torch._VF.dropout = torch.dropout = dropout
        with recurrent_on_cpu() if device == "cpu" else nullcontext():
            yield
    finally:
        functional.scaled_dot_product_attention, torch.dropout = attend, fast
        torch._VF.dropout, torch._VF._pad_packed_sequence = drop, pad
