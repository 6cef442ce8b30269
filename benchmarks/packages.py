"""Models of packages that nobody here wrote: do they get a record, and are the figures right?

    python benchmarks/packages.py                     all of MODELS
    python benchmarks/packages.py timm peft           those of some packages
    python benchmarks/packages.py --write             and the table goes into docs/explanation/measured.md

Each model is built with random weights, small, and runs once on the CPU under `FlopCounterMode`, with attention and
recurrent layers as products. Its parameters and half of that count are held against the record. Not a part of CI: it
needs the packages, `pip install -r benchmarks/packages.txt` in an environment of its own.
"""

import argparse
import importlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Model(NamedTuple):
    """package: what is imported. build, inputs: Python expressions; inputs may be shapes, `1x3x64x64 2x7:30`, where
    `:30` asks for integers below 30."""

    package: str
    build: str
    inputs: str


def models() -> list[Model]:
    """The table beside this file: a package, an expression and inputs in each line."""
    lines = (HERE / "packages.tsv").read_text(encoding="utf-8").splitlines()
    return [Model(*line.split("\t")) for line in lines if line and not line.startswith("#")]


def tensor(text: str) -> Any:
    import torch

    shape, _, below = text.partition(":")
    sides = [int(side) for side in shape.split("x")]
    return torch.randint(0, int(below), sides) if below else torch.rand(sides)


@contextmanager
def slow_attention() -> Iterator[None]:
    """Attention in steps, not in one operator that the counter does not know."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def compared(one: Model) -> dict[str, Any]:
    """What both count. status: "equal", "MACs differ", "parameters differ", "refused", or "does not run" without
    archscope."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    import archscope

    class NoModules(nullcontext):
        parents = frozenset({"Global"})

    row: dict[str, Any] = {"package": one.package, "model": one.build}
    torch.manual_seed(0)
    names: dict[str, Any] = {"torch": torch, "nn": torch.nn}
    try:
        parts = one.package.split(".")
        names |= {
            name: importlib.import_module(name)
            for name in {parts[0], *(["transformers"] if parts[0] == "peft" else [])}
        }
        importlib.import_module(one.package)
        model = eval(one.build, names).eval()
        given = eval(one.inputs, names) if one.inputs[0] in "({" else tuple(map(tensor, one.inputs.split()))
        arguments, kwargs = ((), given) if isinstance(given, dict) else (given, {})
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = NoModules()  # pyright: ignore[reportAttributeAccessIssue]
        with (
            slow_attention(),
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
            counter,
        ):
            model(*arguments, **kwargs)
    except Exception as error:
        return {**row, "status": "does not run", "why": _short(error)}
    row |= {"params": sum(p.numel() for p in model.parameters()), "macs": counter.get_total_flops() // 2}
    began = time.perf_counter()
    try:
        record = archscope.trace(model, arguments, kwargs)
        total = archscope.totals(record)
    except Exception as error:
        return {**row, "status": "refused", "why": _short(error)}
    row |= {"seconds": round(time.perf_counter() - began, 2), "unknown": total["unknown"]}
    if total["params"] != row["params"]:
        return {**row, "status": "parameters differ", "why": f"{total['params']:,}"}
    if total["macs"] != row["macs"]:
        return {**row, "status": "MACs differ", "why": _why(total, row, record)}
    return {**row, "status": "equal", "why": ""}


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _why(total: dict[str, Any], row: dict[str, Any], record: Any) -> str:
    """Both figures, and the operators that make the difference where they do."""
    from archscope.analysis.observed import works

    text = f"{total['macs']:,}, by FlopCounterMode {row['macs']:,}"
    if total["unknown"]:
        return f"≥ {text}: no cost is known of {', '.join(total['unknown'])}"
    vectors = sum(
        work.macs
        for op, work in zip(record.ops, works(record), strict=True)
        if work is not None and work.macs and "matmul" in op.name and any(len(t.shape) == 1 for t in op.inputs)
    )
    if vectors == total["macs"] - row["macs"]:
        return f"{text}, which does not count products of a matrix and a vector"
    return text


def page(rows: Iterable[dict[str, Any]]) -> str:
    """The table of the documentation: a row a package, and what fails with its reason."""
    by: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by.setdefault(row["package"].partition(".")[0], []).append(row)
    lines = ["| package | models | traced | parameters equal | MACs equal |", "| --- | --: | --: | --: | --: |"]
    sums, ran = [0, 0, 0, 0], 0
    for package, each in sorted(by.items()):
        states = [row["status"] for row in each if row["status"] != "does not run"]
        if not states:
            continue
        ran += 1
        traced = [s for s in states if s != "refused"]
        equal = [s for s in traced if s != "parameters differ"]
        counts = [len(states), len(traced), len(equal), traced.count("equal")]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        lines.append(f"| {package} | " + " | ".join(map(str, counts)) + " |")
    lines.append(f"| **{ran} packages** | " + " | ".join(f"**{n}**" for n in sums) + " |")
    silent = [row["model"] for each in by.values() for row in each if row["status"] == "does not run"]
    if silent:
        lines += ["", f"Of {len(silent)} lines more PyTorch itself runs nothing with the versions that were installed: "
                  + ", ".join(f"`{text[:60]}`" for text in silent) + "."]  # fmt: skip
    bad = [row for each in by.values() for row in each if row["status"] not in ("equal", "does not run")]
    lines += ["", "What is not equal:", "", "| model | what | why |", "| --- | --- | --- |"]
    for row in bad:
        text = row["model"].replace("|", "\\|")
        lines.append(f"| `{text if len(text) < 90 else text[:87] + '…'}` | {row['status']} | {row['why']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="packages; all when left out")
    parser.add_argument("--write", action="store_true", help="write the table into the documentation")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for one in models():
        if asked.packages and one.package.partition(".")[0] not in asked.packages:
            continue
        rows.append(compared(one))
        print(f"{rows[-1]['status']:<18}{one.package}: {one.build}  {rows[-1]['why']}", flush=True)
    print(page(rows))
    if asked.write:
        from measured_page import write_section

        write_section("packages", page(rows))
    sys.exit(any(row["status"] == "parameters differ" for row in rows))


if __name__ == "__main__":
    main()
