"""What archscope's accounts of the other tools leave unexplained: models × tools, each run and reconciled.

    python benchmarks/residuals.py                                     the zoo and torchvision's classification models
    python benchmarks/residuals.py 'torchvision:resnet*' vgg16 --against fvcore --jobs 2
    python benchmarks/residuals.py --output residuals.jsonl            resumes: what the file has is not run again

One line of JSON a model and tool. The last lines say for how many models each tool was run, and which residuals are
not 0.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

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


def run(work: list[tuple[str, list[str]]], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The records of each model as they come."""
    if jobs == 1:
        yield from (measured(*one) for one in work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(measured, *one) for one in work]):
            yield done.result()


def with_bar(items: Iterable[Any], count: int) -> Iterator[Any]:
    """The same items, and a progress bar on stderr where someone is looking."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, "reconciling", total=count, console=Console(stderr=True))


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
    parser.add_argument("--output", help="a file of JSON lines, continued where it stands")
    options = parser.parse_args()
    kept = Path(options.output) if options.output else None
    names = [spec.text for spec in expand(options.models or ["all"])]
    names += [] if options.models else classification()
    witnesses = chosen(options.against)
    records: list[dict[str, Any]] = []
    if kept is not None and kept.exists():
        records = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
        records = [one for one in records if one["model"] in names and one["witness"] in witnesses]
    have = {(one["model"], one["witness"]) for one in records}
    work = [(name, [w for w in witnesses if (name, w) not in have]) for name in names]
    work = [(name, missing) for name, missing in work if missing]
    for told in with_bar(run(work, options.jobs), len(work)):
        records += told
        if kept is not None:
            with kept.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in told)
    from archscope.core.formats import text_of

    print(text_of(summary(records), "terminal"), end="")
    if any(record.get("residual") for record in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
