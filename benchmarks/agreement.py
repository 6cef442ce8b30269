"""Do archscope's counts agree with PyTorch's, over every model of a source?

    python benchmarks/agreement.py 'timm:*' --jobs 2 --output timm.jsonl
    python benchmarks/agreement.py 'torchvision:*' 'transformers:*'

For each model: parameters against `sum(p.numel() for p in model.parameters())`, and MACs against half of what
`torch.utils.flop_counter.FlopCounterMode` counts on the meta device, where operators run on PyTorch's own kernels.
One line of JSON a model; a run that was stopped goes on where it was when it is given the same --output.
"""

import argparse
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pool
from measured_page import write_section


def compared(text: str) -> list[dict[str, Any]]:
    """The row of one model, for the pool."""
    return [_compared(text)]


def _compared(text: str) -> dict[str, Any]:
    """One model: what both count, and how long each took, in seconds. `status` is one of STATUS."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from archscope import totals
    from archscope.sources.loading import loaded
    from archscope.sources.records import traced
    from archscope.sources.spec import parse

    torch.set_num_threads(1)
    row: dict[str, Any] = {"model": text}
    began = time.perf_counter()
    try:
        spec = parse(text)
        model = loaded(spec)
    except Exception as error:
        return row | {"status": "not built", "reason": _reason(error)}
    try:
        ours = totals(traced(spec, model))
    except Exception as error:
        return row | {"status": "not traced", "reason": _reason(error)}
    row |= {"params": ours["params"], "macs": ours["macs"], "unknown": ours["unknown"]}
    row["seconds"] = round(time.perf_counter() - began, 4)
    params = sum(p.numel() for p in model.model.parameters())
    if params != ours["params"]:
        return row | {"status": "parameters differ", "reason": f"{params} by PyTorch"}
    try:
        # a view of a parameter that wants a gradient stops the counter's hooks
        model.model.to("meta").eval().requires_grad_(False)
        began = time.perf_counter()
        with FlopCounterMode(display=False) as counter:
            model.model(*model.arguments, **model.named)
        row["torch_seconds"] = round(time.perf_counter() - began, 4)
    except Exception as error:
        return row | {"status": "not counted by PyTorch", "reason": _reason(error)}
    twice = counter.get_total_flops()
    if twice != 2 * ours["macs"]:
        return row | {"status": "MACs differ", "reason": f"{twice / 2:.0f} by PyTorch, {ours['macs']} here"}
    return row | {"status": "unknown operators" if ours["unknown"] else "agrees", "reason": ""}


STATUS = (
    "agrees",
    "unknown operators",
    "MACs differ",
    "parameters differ",
    "not counted by PyTorch",
    "not traced",
    "not built",
)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]


def died(arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The row of a model whose process died."""
    return [{"model": arguments[0], "status": "not traced", "reason": "the process died, perhaps out of memory"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names and wildcards, such as 'timm:*'")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=None, help="JSON lines; models that it has are not run again")
    parser.add_argument("--write", action="store_true", help="write the table into docs/explanation/measured.md")
    parser.add_argument("--every", type=int, default=1, help="only every N-th model")
    options = parser.parse_args()

    from archscope.sources.spec import expand

    models = [spec.text for spec in expand(options.models)][:: options.every]
    rows = {row["model"]: row for row in pool.read(options.output) if row["model"] in set(models)}
    work = [(model,) for model in models if model not in rows]
    rows |= {row["model"]: row for row in pool.run(compared, work, options.jobs, died, options.output)}
    report(list(rows.values()))
    if options.write:
        write_section("agreement", table(list(rows.values())))


def table(rows: list[dict[str, Any]]) -> str:
    """One line a source, as Markdown."""
    lines = [
        "| source | models | built and traced | counted by PyTorch too | same parameters and MACs |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(row["model"].partition(":")[0] for row in rows):
        own = Counter(row["status"] for row in rows if row["model"].startswith(f"{name}:"))
        total, failed = own.total(), own["not built"] + own["not traced"]
        both = total - failed - own["not counted by PyTorch"]
        lines.append(f"| {name} {_version(name)} | {total} | {total - failed} | {both} | {own['agrees']} |")
    return "\n".join(lines)


def _version(package: str) -> str:
    return version(package).partition("+")[0]


def report(rows: list[dict[str, Any]]) -> None:
    """How many agree, and why the rest does not."""
    counts = Counter(row["status"] for row in rows)
    counted = sum(counts[s] for s in STATUS[:4])
    for status in STATUS:
        if counts[status]:
            print(f"{counts[status]:6} {status}")
    print(f"{len(rows):6} models; of {counted} that both could count {counts['agrees'] / max(counted, 1):.2%} agree")
    both = [row for row in rows if "torch_seconds" in row]
    ours, theirs = sum(r["seconds"] for r in both), sum(r["torch_seconds"] for r in both)
    print(f"archscope built and traced them in {ours:.0f} s; FlopCounterMode ran them, once built, in {theirs:.0f} s")
    for row in rows:
        if row["status"] != "agrees":
            print(f"  {row['model']}: {row['status']}: {row['reason'] or row.get('unknown')}")


if __name__ == "__main__":
    sys.exit(main())
