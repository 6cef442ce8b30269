"""Devices as a forward sees them: those of the user's tensors, never PyTorch's meta device.

`x.device`, `x.is_cuda` and the like are properties of the Python class `torch.Tensor`. While a model runs they answer
what they would answer in the user's own run. PyTorch's own kernels, called below, see the real device; archscope asks
`device_of` and `is_meta`.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import get_ident
from typing import Any

import torch
from torch.utils import checkpoint

CPU = torch.device("cpu")

_RAW = torch._C.TensorBase.__dict__
device_of: Callable[[torch.Tensor], torch.device] = _RAW["device"].__get__  # where a tensor really is
is_meta: Callable[[torch.Tensor], bool] = _RAW["is_meta"].__get__  # whether it has no values

Replaced = list[tuple[Any, str, Any]]

_KINDS = ("cpu", "cuda", "meta", "mps", "xpu")

# functions that start a device, which fails where it is not there
_FACTORIES = """tensor as_tensor asarray scalar_tensor zeros ones empty full arange range linspace logspace eye
tril_indices triu_indices rand randn randint randperm normal empty_strided empty_permuted
zeros_like ones_like empty_like full_like rand_like randn_like randint_like
hann_window hamming_window bartlett_window blackman_window kaiser_window
sparse_coo_tensor sparse_csr_tensor sparse_csc_tensor sparse_bsr_tensor sparse_bsc_tensor""".split()
_FREQUENCIES = "fftfreq rfftfreq".split()
_METHODS = "to new_zeros new_ones new_empty new_full new_empty_strided".split()


class _State:
    """Whose questions are answered: those of this thread, about tensors on the meta device, by `device`."""

    thread = 0
    device = CPU
    storages: Container[int] = ()  # of tensors with values that are said to be on it, too
    assumed: dict[str, None] = {}  # what was answered for a device that is not there, in sentences


def chosen(tensors: Iterable[torch.Tensor]) -> torch.device:
    """The device that a run is said to use: that of the first tensor with values, the CPU where there is none."""
    return next((device_of(t) for t in tensors if not is_meta(t)), CPU)


def answers() -> bool:
    """Whether the forward asks, and not one of PyTorch's own kernels."""
    return _State.thread != 0


class real_devices:
    """Within this block tensors say where they really are: for PyTorch's own kernels, some of which are Python."""

    __slots__ = ("thread",)

    def __enter__(self) -> None:
        self.thread, _State.thread = _State.thread, 0

    def __exit__(self, *error: object) -> None:
        _State.thread = self.thread


@contextmanager
def believed(
    device: torch.device, assumed: dict[str, None] | None = None, storages: Container[int] = ()
) -> Iterator[None]:
    """Within this block, in this thread, tensors on the meta device say that they are on `device`.

    assumed: takes a sentence where a forward asks what kind of card that is. storages: of tensors with values that say
    so, too.
    """
    kept = _State.thread, _State.device, _State.assumed, _State.storages
    _State.thread, _State.device, _State.storages = get_ident(), device, storages
    _State.assumed = {} if assumed is None else assumed
    replaced = _answers() if _has_cuda() else _answers() + _starts()
    saved = [(owner, name, vars(owner).get(name)) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        _State.thread, _State.device, _State.assumed, _State.storages = kept
        for owner, name, value in saved:
            if value is None:
                delattr(owner, name)  # it is inherited
            else:
                setattr(owner, name, value)


def _asked(tensor: torch.Tensor) -> bool:
    """Whether a forward asks for a device, which is answered by another one than where the tensor is."""
    if _State.thread != get_ident():
        return False
    if is_meta(tensor):
        return True
    return bool(_State.storages) and tensor.layout is torch.strided and storage_of(tensor) in _State.storages


def storage_of(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@cache
def _answers() -> Replaced:
    """The properties of torch.Tensor that name a device, and the methods that take theirs from a tensor."""

    def device(tensor: torch.Tensor) -> torch.device:
        if _asked(tensor):
            return _State.device
        return device_of(tensor)

    def answer(kind: str) -> property:
        raw = _RAW[f"is_{kind}"].__get__

        def ask(tensor: torch.Tensor) -> bool:
            if _asked(tensor):
                return _State.device.type == kind
            return raw(tensor)

        return property(ask)

    def index(tensor: torch.Tensor) -> int:
        if _asked(tensor):
            return -1 if _State.device.type == "cpu" else _State.device.index or 0
        return _RAW["get_device"](tensor)

    new_tensor, type_of = torch.Tensor.new_tensor, torch.Tensor.type

    def new(tensor: torch.Tensor, data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if _asked(tensor):
            return torch.tensor(data, dtype=dtype or tensor.dtype, device=device or CPU)
        return new_tensor(tensor, data, dtype=dtype, device=device, **kwargs)

    def named(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = type_of(tensor, *args, **kwargs)
        if isinstance(found, str) and _State.thread == get_ident():
            kind = _State.device.type
            return found.replace("torch.meta.", "torch." if kind == "cpu" else f"torch.{kind}.")
        return found

    kinds = {f"is_{kind}": answer(kind) for kind in _KINDS}
    found = {"device": property(device), **kinds, "get_device": index, "new_tensor": new, "type": named}
    # a checkpoint keeps the states of random numbers of the devices that it finds
    kept = [
        (checkpoint, name, _really(getattr(checkpoint, name))) for name in ("_infer_device_type", "get_device_states")
    ]
    return [*[(torch.Tensor, name, value) for name, value in found.items()], *kept]


def _really(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch's that sees where tensors really are."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        with real_devices():
            return function(*args, **kwargs)

    return ask


@cache
def _has_cuda() -> bool:
    return torch.cuda.is_available()


@cache
def _starts() -> Replaced:
    """The functions that take a device, for devices that are not there."""
    factories = [(torch, name, _started(getattr(torch, name))) for name in _FACTORIES]
    methods = [(torch.Tensor, name, _started(getattr(torch.Tensor, name))) for name in _METHODS]
    factories += [(torch.fft, name, _started(getattr(torch.fft, name))) for name in _FREQUENCIES]
    return [*factories, *methods, (torch.Tensor, "cuda", _cuda), (torch, "Generator", _Generator),
            (torch.cuda, "get_device_capability", _capability)]  # fmt: skip


def _there(value: Any) -> Any:
    """A device that can be had: itself, or the CPU for one that is not on this machine."""
    number = type(value) is int  # of a graphics card
    if number or (isinstance(value, str | torch.device) and str(value).partition(":")[0] in ("cuda", "xpu", "mps")):
        return CPU
    return value


def _started(original: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs["device"] = _there(kwargs["device"])
        if len(args) > 1 and type(args[1]) in (str, torch.device):
            args = (args[0], _there(args[1]), *args[2:])
        return original(*args, **kwargs)

    return make


def _capability(device: Any = None) -> tuple[int, int]:
    """That of an H100, of a graphics card that is not there."""
    _State.assumed.setdefault("the forward asks for the card's compute capability: that of an H100 was taken, 9.0")
    return 9, 0


_generator = torch.Generator


class _Generators(type(torch.Generator)):
    def __instancecheck__(cls, value: Any) -> bool:
        return type.__instancecheck__(_generator, value)


class _Generator(torch.Generator, metaclass=_Generators):
    """One of a device that is not there draws on the CPU."""

    def __new__(cls, device: Any = CPU) -> "_Generator":
        return super().__new__(cls, _there(device))  # pyright: ignore[reportCallIssue]


def _cuda(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return tensor
