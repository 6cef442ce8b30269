"""The residuals of archscope's explanations of other tools: models × tools, each run and reconciled.

    python benchmarks/residuals.py                                     the zoo and torchvision's classification models
    python benchmarks/residuals.py 'torchvision:resnet*' vgg16 --against fvcore --jobs 2
    python benchmarks/residuals.py --output residuals.jsonl            continues an earlier run

One line of JSON a model and tool. The last lines say for how many models each tool was run, and which residuals are
not 0.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import pool

from archscope.core.table import Column, Table
from archscope.peers.reconcile import account_of, chosen
from archscope.sources.loading import loaded
from archscope.sources.records import reason, traced
from archscope.sources.spec import expand


def classification() -> list[str]:
    """torchvision's classification models."""
    import torchvision.models

    return [f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models)]


def measured(model: str, witnesses: list[str]) -> list[dict[str, Any]]:
    """One record a tool: its figure, what was predicted, and the residual; or the reason why there is none."""
    import torch

    from archscope.peers.measured import run_tool

    torch.set_num_threads(1)
    try:
        (spec,) = expand([model])
        built = loaded(spec)
        record = traced(spec, built)
    except Exception as error:
        return [{"model": model, "witness": name, "note": reason(error)} for name in witnesses]
    out = []
    for name in witnesses:
        began = time.perf_counter()
        try:
            with spec.source.running(spec.name):
                one = account_of(record, name, run_tool(name, *built))
            told: dict[str, Any] = {"figure": one.result.figure, "predicted": one.account.figure}
            told |= {"residual": one.residual, "note": "; ".join(one.notes)}
        except Exception as error:
            told = {"note": reason(error)}
        out.append({"model": model, "witness": name, **told, "seconds": round(time.perf_counter() - began, 2)})
    return out


def died(arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The records of a model whose process died."""
    model, witnesses = arguments
    return [{"model": model, "witness": name, "note": "the process died"} for name in witnesses]


def summary(records: list[dict[str, Any]]) -> Table:
    """For each tool, how many models have residual 0; the others are notes."""
    columns = [
        Column("witness", "Tool"),
        *(Column(key, key.title(), "count") for key in ("models", "explained", "unexplained", "without a figure")),
    ]
    rows, notes = [], []
    for name in dict.fromkeys(record["witness"] for record in records):
        its = [record for record in records if record["witness"] == name]
        known = [record for record in its if record.get("residual") is not None]
        wrong = [record for record in known if record["residual"]]
        rows.append(
            {
                "witness": name,
                "models": len(its),
                "explained": len(known) - len(wrong),
                "unexplained": len(wrong),
                "without a figure": len(its) - len(known),
            }
        )
        notes += [
            f"{name}, {record['model']}: residual {record['residual']:,} of {record['figure']:,}" for record in wrong
        ]
        notes += [f"{name}, {r['model']}: {r['note']}" for r in its if r.get("residual") is None]
    return Table("Residuals", tuple(columns), tuple(rows), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names and wildcards; the zoo and torchvision when left out")
    parser.add_argument("--against", default="torchinfo,fvcore,torch", help="tools, separated by commas, or all")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", help="a file of JSON lines; an earlier run is continued")
    options = parser.parse_args()
    kept = Path(options.output) if options.output else None
    names = [spec.text for spec in expand(options.models or ["all"])]
    names += [] if options.models else classification()
    witnesses = chosen(options.against)
    records = [one for one in pool.read(kept) if one["model"] in names and one["witness"] in witnesses]
    have = {(one["model"], one["witness"]) for one in records}
    missing = [(name, [w for w in witnesses if (name, w) not in have]) for name in names]
    records += pool.run(measured, [one for one in missing if one[1]], options.jobs, died, kept)
    from archscope.core.formats import text_of

    print(text_of(summary(records), "terminal"), end="")
    if any(record.get("residual") for record in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
