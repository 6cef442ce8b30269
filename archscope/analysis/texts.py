"""Short texts of tables and messages: sizes, windows, derivations, versions."""

from collections.abc import Iterable, Mapping
from typing import Any

from archscope.core.record import Trace
from archscope.core.version import __version__, torch_version
from archscope.layers import Derived


def inputs_text(trace: Trace) -> str:
    """`1×3×227×227`, `1×128 int64`, several separated by commas."""
    texts = ("×".join(map(str, t.shape)) + (f" {t.dtype}" if t.dtype != "float32" else "") for t in trace.inputs)
    return ", ".join(texts)


def shape_text(derived: Derived | None) -> str:
    """The derivation of the output's sides: once where all are alike, else each under its letter."""
    if derived is None:
        return ""
    sides = derived.sides
    texts = [str(side) for side in sides]
    if all(side.plain for side in sides):
        return ""
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{axis}: {text}" for axis, text in zip("thw"[-len(texts) :], texts, strict=True))


def window_text(config: Mapping[str, Any]) -> str:
    """Kernel, stride, padding, dilation and groups of a layer as the papers write them: `3×3/2 p1 g32`."""
    kernel = config.get("kernel_size")
    if kernel is None:
        return ""
    n = len(kernel) if isinstance(kernel, tuple) else 2

    def sides(value: Any) -> tuple[Any, ...]:
        return value if isinstance(value, tuple) else (value,) * n

    def short(value: Any) -> str:
        each = sides(value)
        return str(each[0]) if len(set(each)) == 1 else "×".join(map(str, each))

    stride = config.get("stride") or kernel
    text = "×".join(map(str, sides(kernel)))
    text += f"/{short(stride)}" if set(sides(stride)) != {1} else ""
    padding = config.get("padding", 0)
    if isinstance(padding, str):
        text += f" {padding}"
    else:
        text += f" p{short(padding)}" if set(sides(padding)) != {0} else ""
    text += f" d{short(config['dilation'])}" if set(sides(config.get("dilation", 1))) != {1} else ""
    text += f" g{config['groups']}" if config.get("groups", 1) != 1 else ""
    text += " ceil" if config.get("ceil_mode") else ""
    return text


def step_text(conditions: Mapping[str, Any]) -> str:
    """What a training step of many models assumes: `Training step: adamw (foreach), fp32, …`."""
    parts = [
        f"{conditions.get('optimizer', 'sgd')} ({conditions.get('implementation', 'foreach')})",
        str(conditions.get("precision", "fp32")),
        str(conditions.get("loss") or "cross-entropy where the output is N×C, else the mean of squares"),
    ]
    return f"Training step: {', '.join(parts)}"


def uncounted(missing: Mapping[str, int]) -> tuple[str, ...]:
    """Operators of unknown cost and how often each ran, `mine.double (2×)`."""
    return tuple(f"{name} ({count}×)" for name, count in missing.items())


def without_cost(names: Iterable[str]) -> str:
    """The sentence on operators that `uncounted` names."""
    return f"the cost of these operators is unknown, and the totals are lower bounds: {', '.join(names)}"


def versions(known: Mapping[str, str] | None = None) -> str:
    """`archscope 0.1.0, torch 2.14.1.`, of a trace or of what is running."""
    if known is None:
        known = {"archscope": __version__, "torch": torch_version()}
    return ", ".join(f"{name} {version}" for name, version in known.items() if version) + "."


def of_model(model: str, text: str) -> str:
    """A sentence about a model, which an error may name already."""
    return text if text.startswith(f"{model}: ") else f"{model}: {text}"
