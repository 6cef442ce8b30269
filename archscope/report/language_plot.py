"""Memory against context: weights and cache of a language model, a line for each batch."""

from typing import Any

from archscope.core.errors import SpecError
from archscope.report.language import Usage
from archscope.report.plots import COLORS, bytes_of, canvas, digest

BATCHES = (1, 4, 16, 64)


def numbers(usage: Usage) -> dict[str, Any]:
    """What is drawn: bytes by batch and context, up to the model's positions or the context of the setting.

    Raises SpecError where the cache is not known as a function of the context.
    """
    if usage.layers is None:
        raise SpecError(f"{usage.prefill.model}: its cache as a function of the context is not known")
    most = max(usage.setting.context, usage.positions or 0)
    contexts = [0, *(most * i // 64 for i in range(1, 65))]
    return {
        "model": usage.prefill.model,
        "contexts": contexts,
        "bytes": {str(batch): [usage.needs(n, batch) for n in contexts] for batch in BATCHES},
        "weights": usage.weight_bytes(),
        "memory": usage.setting.memory,
    }


def picture(usage: Usage, form: str = "svg") -> bytes:
    """The plot as an svg or a png. Raises SpecError where matplotlib is missing."""
    data = numbers(usage)
    with canvas() as figure:
        figure.set_size_inches(7.0, 4.2)
        axes = figure.add_subplot()
        colors = [COLORS[name] for name in ("blue", "green", "orange", "vermillion")]
        for (batch, needed), color in zip(data["bytes"].items(), colors, strict=True):
            axes.plot(data["contexts"], [n / 1e9 for n in needed], color=color, label=f"batch {batch}")
        axes.axhline(data["weights"] / 1e9, color=COLORS["grey"], linestyle=":", label="weights")
        if data["memory"] is not None:
            axes.axhline(data["memory"] / 1e9, color=COLORS["purple"], linestyle="--", label="memory")
        axes.set_xlim(0, data["contexts"][-1])
        axes.set_ylim(0)
        axes.set_xlabel("Context (tokens)")
        axes.set_ylabel("Weights and cache (GB)")
        axes.set_title(data["model"].partition("@")[0])
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return bytes_of(figure, form, {"Description": f"archscope llm {digest(data)}"})
