"""The bytes of a step of training, derived and measured: models × conditions, each with its residuals.

    python benchmarks/memory.py                                 the zoo and torchvision's classification models
    python benchmarks/memory.py 'torchvision:resnet*' --jobs 2
    python benchmarks/memory.py --output memory.jsonl           continues an earlier run

One line of JSON a model and condition: the four figures of `real_step`, a step on the CPU that counts by itself, and
derived less measured. Then a table, which `--write` puts into docs/explanation/measured.md. The last line says how many
residuals are not 0.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pool
from measured_page import write_section
from residuals import classification

from archscope.sources.records import reason
from archscope.sources.spec import expand

CONDITIONS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum"},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
    "adamw, checkpoints": {"optimizer": "adamw", "checkpoint": True},
}
# how often a real step holds the parameters: themselves, gradients, state of the optimizer, foreach temporaries
COPIES = {"sgd": 2, "momentum": 3, "adam": 5, "adamw": 5}
LARGEST = 8 * 10**9  # bytes of those copies, for which a real step is run
SIDES = {"inception_v3": None, "vgg": 32, "alexnet": 64}  # torchvision: by the beginning of the name; others 32


def side_of(model: str) -> int | None:
    """A small side at which the network runs; None: its own."""
    name = model.removeprefix("torchvision:")
    if name.startswith(("vit", "swin", "maxvit")):
        return None
    if name == model:  # of the zoo: what has no layer that fixes the side
        return 64 if name.startswith(("resnet", "densenet1", "densenet2", "mobilenet-v", "googlenet")) else None
    return next((side for start, side in SIDES.items() if name.startswith(start)), 32)


def blocks(model: Any) -> list[str]:
    """The outermost modules with several layers that are not the model, its stages or a list of them."""
    from torch import nn

    plain = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # not their subclasses: a dense block is one module
    inside = [(path, one) for path, one in model.named_modules() if path and list(one.children())]
    chosen = [path for path, one in inside if type(one) not in plain]
    return [path for path in chosen if not any(path.startswith(f"{other}.") for other in chosen)]


def measured(model: str, names: list[str]) -> list[dict[str, Any]]:
    """One record a condition."""
    import torch

    import archscope
    from archscope.analysis.training import after_forward, after_step, peak, peak_within
    from archscope.peers.cpu_step import real_step

    torch.set_num_threads(1)
    rows = []
    for name in names:
        began = time.perf_counter()
        row: dict[str, Any] = {"model": model, "condition": name}
        try:
            conditions = dict(CONDITIONS[name])
            built, inputs = archscope.load(model, input=side_of(model), batch=2)
            size = COPIES[conditions["optimizer"]] * sum(p.numel() * p.element_size() for p in built.parameters())
            if size > LARGEST:
                raise MemoryError(f"{size:,} bytes for parameters, gradients and state, and no real step was run")
            if conditions.pop("checkpoint", False):
                conditions["checkpoint"] = blocks(built)
                if not conditions["checkpoint"]:
                    continue
            trace = archscope.trace_step(built, inputs, device="cpu", **conditions)
            derived = [after_forward(trace), peak_within(trace, "backward"), peak(trace).nbytes, after_step(trace)]
            given = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
            real = real_step(built, *given, **conditions)
            row |= {"measured": list(real), "residual": [a - b for a, b in zip(derived, real, strict=True)]}
        except Exception as error:
            row["note"] = reason(error)
        rows.append(row | {"seconds": round(time.perf_counter() - began, 1)})
    return rows


def died(arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [{"model": arguments[0], "condition": name, "note": "the process died"} for name in arguments[1]]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a condition, how many models have which residual; below, what is not 0 and what was not run."""
    lines = ["| condition | models | every residual 0 | not 0 |", "| :-- | --: | --: | --: |"]
    for name in CONDITIONS:
        found = [row for row in rows if row["condition"] == name and "residual" in row]
        exact = sum(not any(row["residual"]) for row in found)
        lines.append(f"| {name} | {len(found)} | {exact} | {len(found) - exact} |")
    lines.append("")
    for row in rows:
        if any(row.get("residual", ())):
            lines.append(f"- {row['model']}, {row['condition']}: {', '.join(f'{n:+,}' for n in row['residual'])} bytes")
    failed: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "residual" not in row:
            failed.setdefault((row["model"], row["note"]), []).append(row["condition"])
    lines += [f"- {model} was not run with {'; '.join(names)}: {note}" for (model, note), names in failed.items()]
    sizes = [row["measured"][2] for row in rows if "measured" in row]
    lines.append(f"\nReal peaks of {min(sizes):,} to {max(sizes):,} bytes; batch 2, small sides, fp32, foreach.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--only", nargs="*", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table into docs/explanation/measured.md")
    given = parser.parse_args()
    models = [spec.text for spec in expand(given.models or ["all", *classification()])]
    rows = pool.read(given.output)
    done = {row["model"] for row in rows}
    work = [(model, given.only) for model in models if model not in done]
    rows += pool.run(measured, work, given.jobs, died, given.output)
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
    print(table(rows))
    if given.write:
        write_section("memory", table(rows))
    residuals = [row for row in rows if any(row.get("residual", ()))]
    failed = [row for row in rows if "residual" not in row]
    exact = len(rows) - len(residuals) - len(failed)
    print(f"{exact} of {len(rows)} residual 0; {len(residuals)} not 0; {len(failed)} without a figure")


if __name__ == "__main__":
    main()
