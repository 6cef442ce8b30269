"""The schema of a row of bench: a wrong value is refused where the file is read."""

from typing import Annotated, Any

from msgspec import Meta, MsgspecError, Struct, convert, defstruct
from msgspec.json import decode

from archscope.core import limits
from archscope.core.errors import SpecError

SCHEMA = 1  # of the keys; a reader refuses a newer one

Number = Annotated[float, Meta(ge=-1e30, le=1e30)] | None
Count = Annotated[int, Meta(ge=0, le=limits.NUMBER)] | None
Text = Annotated[str, Meta(max_length=limits.CELL)]
Maybe = Annotated[str, Meta(max_length=limits.CELL)] | None

NUMBERS = """train_loss train_accuracy test_accuracy best_test_accuracy examples_per_second step_ms_p50 step_ms_p90
    step_ms_p99 data_wait_share peak_memory flops_per_second mfu mfu_published validation_accuracy test_loss train_s
    eval_s warmup_s compile_s prepare_s wall_s peak_memory_process flops_per_example peak_flops_measured
    peak_flops_published latency_ms_p50 latency_ms_p90 latency_ms_p99 intensity roofline_ms roofline_share
    bandwidth_measured bandwidth_published load_average""".split()
COUNTS = "params epochs epochs_done seed batch micro_batch best_epoch threads world_size".split()
TEXTS = "torch recipe data device peak_source bound sample error key".split()
FLAGS = "synthetic resumed data_seen batch_norm".split()
OF_EPOCH = """lr train_loss train_accuracy validation_accuracy validation_loss test_accuracy test_loss seconds
    examples_per_second""".split()


class _Flags(Struct):
    channels_last: bool | None = False
    deterministic: bool | None = False
    compile: str | bool | None = None
    fused: bool | None = None


_Epoch: Any = defstruct("_Epoch", [("epoch", Annotated[int, Meta(ge=0, le=limits.NUMBER)]),
                                   *((key, Number, None) for key in OF_EPOCH)])  # fmt: skip
_FIELDS: list[Any] = [
    ("schema", Annotated[int, Meta(ge=1)]),
    *((key, Text) for key in ("model", "status", "precision", "device_name", "archscope")),
    ("kind", Text, "train"),
    ("flags", _Flags | None, None),
    ("history", list[_Epoch] | None, None),
    *((key, Number, None) for key in NUMBERS),
    *((key, Count, None) for key in COUNTS),
    *((key, Maybe, None) for key in TEXTS),
    *((key, bool | None, None) for key in FLAGS),
]
_Row: Any = defstruct("_Row", _FIELDS, kw_only=True)
NEEDS = {"train": ("recipe", "data", "key"), "infer": ("key",)}  # besides what every row has


def row_of(line: str) -> dict[str, Any]:
    """A row as it was written. Raises ValueError, saying where, for what is no row, and SpecError for a newer one."""
    try:
        row = decode(line)
        newer = isinstance(row, dict) and isinstance(row.get("schema"), int) and row["schema"] > SCHEMA
        if newer:
            raise SpecError(f"it has schema {row['schema']:.0f}; this archscope reads up to {SCHEMA}")
        checked = convert(row, _Row)
    except (MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    needed = NEEDS["infer" if checked.kind == "infer" else "train"]
    if missing := [key for key in needed if getattr(checked, key) is None]:
        raise ValueError(f"it has no {missing[0]}")
    return row
