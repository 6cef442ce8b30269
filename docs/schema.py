"""The JSON Schema of what commands print with --format json: `python docs/schema.py` checks docs/reference/schema.json,
`--update` writes it. Keys, titles and types come from the columns of the tables.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from archscope.core.table import Column

FILE = Path(__file__).parent / "reference" / "schema.json"

Type = dict[str, Any]


def one(*types: str) -> Type:
    """A value of one of these types."""
    return {"type": types[0] if len(types) == 1 else list(types)}


def many(items: Type) -> Type:
    """A list of such values."""
    return {"type": "array", "items": items}


def part(name: str) -> Type:
    """What another part of the schema describes."""
    return {"$ref": f"#/$defs/{name}"}


def maybe(kind: Type) -> Type:
    """Such a value, or null for unknown."""
    return {"anyOf": [kind, one("null")]}


TEXT, WHOLE, NUMBER, FLAG, OBJECT = map(one, ("string", "integer", "number", "boolean", "object"))
SHAPE = many(WHOLE)
FORMS = {  # of columns; any value may be unknown
    "text": one("string", "null"), "count": one("integer", "null"), "change": one("integer", "null"),
    "bytes": one("integer", "null"), "scaled": one("number", "null"), "share": one("number", "null"),
    "flag": one("boolean", "null"),
    "shape": {"anyOf": [SHAPE, many(SHAPE), one("integer", "null")]},
}  # fmt: skip
SIDES = {"anyOf": [SHAPE, one("integer", "null")]}  # one number where all axes are alike
OWN: dict[str, Type] = {  # keys that the form of their column does not tell
    "config": maybe(OBJECT), "wrong": many(TEXT), "reasons": many(TEXT), "missing": many(TEXT),
    "receptive_field": SIDES, "effective_stride": SIDES,
    "unknown": maybe({**OBJECT, "additionalProperties": WHOLE}), "macs_is_lower_bound": one("boolean", "null"),
    "account": many({**OBJECT, "properties": {"reason": TEXT, "amount": WHOLE}, "required": ["reason", "amount"]}),
    "closed_form": one("boolean", "null"), "synthetic": one("boolean", "null"), "resumed": one("boolean", "null"),
    "sample": one("number", "null"),
}  # fmt: skip
DECIMAL = """bits lr momentum weight_decay mean std clip train_loss test_loss validation_loss intensity roofline_ms
seconds step_ms_p50 step_ms_p90 step_ms_p99 latency_ms_p50 latency_ms_p90 latency_ms_p99 train_s eval_s warmup_s
compile_s prepare_s wall_s peak_flops_measured peak_flops_published bandwidth_measured bandwidth_published
stored_bits prefill_intensity decode_intensity validation_accuracy examples_per_second flops_per_second""".split()
INTEGERS = """seed seeds batch micro_batch epochs epochs_done best_epoch world_size threads params flops_per_example
schema peak_memory_process fitting_batch""".split()
OWN |= {key: one("number", "null") for key in DECIMAL} | {key: one("integer", "null") for key in INTEGERS}


def rows(about: str, columns: Iterable[Column], own: Mapping[str, Type] | None = None, **more: Any) -> Type:
    """A list of objects, one a row. own: types of keys of this command. more: other fields of a row's schema."""
    return {"title": about, **many(row(columns, own, **more))}


def row(columns: Iterable[Column], own: Mapping[str, Type] | None = None, **more: Any) -> Type:
    """A row: a key for each column that was asked for."""
    known = {}
    for column in columns:
        kind = {**OWN, **(own or {})}.get(column.key) or FORMS[column.form]
        said = {"title": column.title} if column.title != column.key else {}
        said |= {"description": column.means} if column.means else {}
        known[column.key] = said | kind
    return {"type": "object", "properties": known, "additionalProperties": False, **more}


def whole(about: str, **values: Type) -> Type:
    """An object that has all these keys, and no others."""
    return {"title": about, "type": "object", "properties": values, "required": list(values),
            "additionalProperties": False}  # fmt: skip


def of_models() -> dict[str, Type]:
    """list, trace, table, llm, sizes, memory, fit, sweep and search."""
    from archscope.analysis.by_layer import LAYER_COLUMNS, LAYER_HIDDEN
    from archscope.analysis.by_tensor import TENSOR_COLUMNS, TENSOR_HIDDEN
    from archscope.analysis.metrics import METRICS
    from archscope.analysis.step_table import MEMORY_COLUMNS
    from archscope.analysis.step_work import WORK_COLUMNS
    from archscope.peers.tools import COUNTERS
    from archscope.report import language
    from archscope.report.comparison import columns_for
    from archscope.shapes import fit
    from archscope.sources.catalogue import COLUMNS, HIDDEN
    from archscope.sweeps.tables import columns_of

    tensor = whole("A tensor", shape=SHAPE, dtype=TEXT)
    shown, hidden = columns_for((), measured=True, step=True)
    tools = tuple(Column(tool.name, tool.title, "count", means="With --as: what this tool prints.")
                  for tool in COUNTERS.values())  # fmt: skip
    totals = [metric.column() for metric in METRICS.values() if metric.total is not None]
    totals += [Column("unknown", "Operators of unknown cost"), Column("macs_is_lower_bound", "MACs are a lower bound")]
    head = {"schema": {"const": 1}, "model": TEXT, "input": many(tensor)}
    tail = {"notes": many(TEXT), "versions": {**OBJECT, "additionalProperties": TEXT}}
    points = (
        *columns_of({"batch": True, "trial": True})[0],
        *columns_of({"side": True}, step=True)[0],
        *columns_of({})[1],
    )
    axis = one("number", "string", "boolean", "null")
    return {
        "list": rows("archscope list", (*COLUMNS, *HIDDEN)),
        "trace": whole(
            "archscope trace MODEL", **head, train=FLAG, totals=row(totals),
            layers=many(row(LAYER_COLUMNS + LAYER_HIDDEN)), **tail,
        ),
        "trace-step": whole(
            "archscope trace MODEL --train-step", **head, train=FLAG, totals=row(WORK_COLUMNS[2:]),
            layers=many(row(WORK_COLUMNS)), **tail,
        ),
        "weights": whole(
            "archscope trace FILE, of a file of weights", **head,
            totals=row([column for column in TENSOR_COLUMNS + TENSOR_HIDDEN
                        if column.key in ("params", "stored", "bits", "tensors")]),
            tensors=many(row(TENSOR_COLUMNS + TENSOR_HIDDEN)), **tail,
        ),
        "table": rows("archscope table", (*shown, *hidden, *tools)),
        "table-llm": rows("archscope table --llm", language.MODEL_COLUMNS + language.MODEL_HIDDEN),
        "llm": rows("archscope llm", language.COLUMNS + language.HIDDEN,
                    dict.fromkeys(("value", "observed", "derived"), one("number", "null"))),
        "sizes": whole("archscope sizes", minimum=one("integer", "null"), fits={"anyOf": [SHAPE, one("null")]},
                       lossless=SHAPE),
        "sizes-symbolic": whole(
            "archscope sizes --symbolic: expressions of Python", model=TEXT, input=many(TEXT),
            letters={**OBJECT, "additionalProperties": WHOLE}, sides={**OBJECT, "additionalProperties": TEXT},
            output=many(many(TEXT)), macs=TEXT, activations=TEXT,
            layers=many(whole("A layer", path=TEXT, kind=TEXT, output=many(TEXT), macs=TEXT, activations=TEXT)),
            notes=many(TEXT), checked=many(SHAPE),
        ),
        "memory": rows("archscope memory", MEMORY_COLUMNS, {"macs": one("integer", "null")}),
        "fit": rows("archscope fit", fit.COLUMNS + fit.HIDDEN, {"runs": WHOLE}),
        "sweep": rows("archscope sweep and search", points, {"side": WHOLE}, additionalProperties=axis,
                      description="The other keys are the arguments that are varied."),
    }  # fmt: skip


def of_checks() -> dict[str, Type]:
    """verify, reconcile, verify-table, explain, grade, check and diff."""
    from archscope.gate import changes
    from archscope.learn import grade
    from archscope.peers import checks, explanations, llm, reconcile, weight_files

    equation = whole(
        "A derivation", quantity=TEXT, letter=one("string", "null"), symbols=TEXT, digits=TEXT, latex=TEXT,
        value=NUMBER, source=one("string", "null"),
    )  # fmt: skip
    section = {
        "type": "object",
        "properties": {
            "title": TEXT, "path": TEXT, "kind": TEXT, "input": FORMS["shape"], "output": FORMS["shape"],
            "agrees": one("boolean", "null"), "lines": many(equation), "notes": many(TEXT),
            "tables": many(many(OBJECT)),
        },
        "required": ["title", "lines", "notes"],
    }  # fmt: skip
    either = one("integer", "string", "null")
    return {
        "verify": rows("archscope verify", checks.COLUMNS_OF + checks.HIDDEN),
        "verify-file": rows("archscope verify --file", weight_files.COLUMNS + weight_files.HIDDEN),
        "reconcile": rows("archscope reconcile", reconcile.RECORD),
        "reconcile-llm": rows("archscope reconcile --llm", llm.COLUMNS + llm.HIDDEN),
        "verify-table": rows("archscope verify-table", explanations.SHOWN + explanations.HIDDEN,
                             {"value": one("number", "null")}),
        "explain": whole("archscope explain", title=TEXT, sections=many(section)),
        "grade": rows("archscope grade, of one sheet", grade.CELL_COLUMNS + grade.CELL_HIDDEN),
        "grade-many": rows("archscope grade, of several sheets", grade.SHEET_COLUMNS + grade.SHEET_HIDDEN,
                           {"wrong": one("integer", "null")}),
        "check": {
            "title": "archscope check: MODEL.TOTAL, MODEL.TOTAL.change, MODEL.ok, MODEL.problem",
            "type": "object",
            "properties": {"ok": FLAG},
            "patternProperties": {r"\.ok$": FLAG, r"\.problem$": TEXT, r"\.change$": WHOLE},
            "additionalProperties": WHOLE,
            "required": ["ok"],
        },
        "diff": whole(
            "archscope diff", before=TEXT, after=TEXT, same=WHOLE,
            models=many(row(changes.MODEL_COLUMNS)),
            totals=many(row(changes.TOTAL_COLUMNS, {"before": either, "after": either})),
            layers=many(row(changes.LAYER_COLUMNS + changes.LAYER_HIDDEN,
                            {"before": maybe(OBJECT)})),
        ),
    }  # fmt: skip


def of_bench() -> dict[str, Type]:
    """bench, its curves, its measurements of inference and its lists."""
    from archscope.bench import results
    from archscope.bench.recipes import recipes_table

    recipes = recipes_table()
    return {
        "bench": rows(
            "archscope bench, and bench compare",
            (c for c in (*results.TRAINING, *results.TRAINING_HIDDEN) if c.key != "spread"),
        ),
        "bench-infer": rows("archscope bench --infer", results.INFERENCE + results.INFERENCE_HIDDEN),
        "bench-curves": rows("archscope bench compare --curves", results.CURVES + results.CURVES_HIDDEN),
        "bench-list": rows("archscope bench --list", recipes.columns + recipes.hidden),
    }


def schema() -> dict[str, Any]:
    """All of it: a part for each form, under `$defs`."""
    parts = of_models() | of_checks() | of_bench()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What archscope prints with --format json",
        "description": "Raw values: integers, shapes as lists, bytes, shares from 0 to 1; null is unknown.",
        "anyOf": [part(name) for name in parts],
        "$defs": parts,
    }


def text() -> str:
    """The file as it should be."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Check the file, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write docs/reference/schema.json")
    if parser.parse_args().update:
        FILE.write_text(text(), encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text():
        print("docs/reference/schema.json is not that of the code: python docs/schema.py --update")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
