"""The pool of the benchmarks: a process that dies costs one item, and a stopped run is continued."""

import json
import sys
from pathlib import Path

import light_work

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import pool  # noqa: E402


def died(arguments: tuple[int, ...]) -> list[dict[str, int]]:
    return [{"item": arguments[0], "twice": -1}]


def test_a_process_that_dies_costs_one_item(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"item": 1, "twice": 2}\n{"item": 2, "tw', encoding="utf-8")  # cut off
    assert pool.read(file) == [{"item": 1, "twice": 2}]
    rows = pool.run(light_work.row, [(item,) for item in (2, 13, 3, 4)], 2, died, file)
    assert {row["item"]: row["twice"] for row in rows} == {2: 4, 13: -1, 3: 6, 4: 8}  # 13 ends its process
    assert sorted(row["item"] for row in pool.read(file)) == [1, 2, 3, 4, 13]
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[0]) == {"item": 1, "twice": 2}
