"""Tables as text. The golden files are in tests/golden/render; to write them anew, and then to read the diff:

GOLDEN=write pytest tests/test_render.py
"""

import csv
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from archscope.core.files import save
from archscope.core.formats import RENDERERS, SHOW, heading, renderer, show, text_of
from archscope.core.formats.terminal import _width
from archscope.core.table import FORMS, Column, Table

GOLDEN = Path(__file__).parent / "golden" / "render"

TABLE = Table(
    title="Net_1: layer by layer & 100 %",
    columns=(
        Column("path", "Layer"),
        Column("kind", "Kind", priority=3),
        Column("input", "Input", "shape", priority=4),
        Column("output", "Output", "shape", priority=2),
        Column("params", "Parameters", "count"),
        Column("macs", "MACs", "scaled", unit="MAC", priority=1),
        Column("memory", "Memory", "bytes", unit="B", priority=5),
        Column("share", "Share of MACs", "share", priority=6),
        Column("reach", "Receptive field", "count", unit="px", priority=6),
        Column("ok", "Verified", "flag", priority=7),
    ),
    rows=(
        {"path": "features.0", "kind": "Conv2d", "input": (1, 3, 227, 227), "output": (1, 96, 55, 55),
         "params": 34944, "macs": 105415200, "memory": 1161600, "share": 0.9996, "reach": 11, "ok": True, "call": 0},
        {"path": "__init__|a_b", "kind": "MyLayer*", "input": ((1, 96, 55, 55), (1, 7)), "output": (1, 4096),
         "params": 0, "macs": None, "memory": 512, "share": None, "reach": None, "ok": None, "call": 1},
        {"path": "größe.{x}", "kind": "Linear", "input": (1, 4096), "output": (1, 1000), "params": 12345678901234567,
         "macs": 999960, "memory": 243860896, "share": 0.0004, "reach": 227, "ok": False, "note": "has no column"},
    ),
    notes=(
        "1 multiply–accumulate is 1 MAC, never 2; ⌊(m − p + 2·pad)/s⌋ + 1 → an output side, α ≤ 1.",
        "Unknown is empty <b>not 0</b> | $x$ costs ~5 %.",
    ),
    caption="Input 1×3×227×227, float32; torch_2.14.1.",
    totals={"params": 12345678901269511, "macs": 724406816},
    hidden=(Column("call", "Call", "count"),),
)  # fmt: skip

PEOPLE = ["terminal", "md", "latex", "html"]


@pytest.mark.parametrize("name", ["terminal", "terminal-80", "md", "csv", "latex", "json", "html"])
def test_golden(name: str) -> None:
    format, _, width = name.partition("-")
    text = text_of(TABLE, format, **({"width": int(width)} if width else {}))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "form", "unit", "text"),
    [
        (34944, "count", "", "34,944"),
        (34944, "count", "MAC", "34,944 MAC"),
        (34944.0, "count", "", "34,944"),
        (-3, "count", "", "-3"),
        (0, "count", "", "0"),
        (2**64, "count", "", "18,446,744,073,709,551,616"),
        ("≥ 3", "count", "", "≥ 3"),
        (724406816, "scaled", "", "724.4 M"),
        (4089184256, "scaled", "MAC", "4.089 GMAC"),
        (999, "scaled", "", "999"),
        (1000, "scaled", "", "1.000 K"),
        (999_949, "scaled", "", "999.9 K"),
        (999_950, "scaled", "", "1.000 M"),
        (-1500, "scaled", "", "-1.500 K"),
        (0.714, "scaled", "", "0.714"),
        (314 * 10**21, "scaled", "", "314,000 E"),
        (243860896, "bytes", "", "243.9 MB"),
        (2048, "bytes", "B", "2.048 kB"),
        (512, "bytes", "", "512 B"),
        ((1, 96, 55, 55), "shape", "", "1×96×55×55"),
        ([1, 96], "shape", "", "1×96"),
        (((1, 96), (1, 55)), "shape", "", "1×96, 1×55"),
        ((10,), "shape", "", "10"),
        ((), "shape", "", "()"),
        (0.962, "share", "", "96.2 %"),
        (1, "share", "", "100.0 %"),
        (True, "flag", "", "✓"),
        (False, "flag", "", "✗"),
        ("Conv2d", "text", "", "Conv2d"),
        ("a\n b\x1b[31m", "text", "", "a b[31m"),
        (7, "text", "", "7"),
    ],
)
def test_show(value: object, form: str, unit: str, text: str) -> None:
    assert show(value, form, unit) == text


@pytest.mark.parametrize("form", FORMS)
def test_unknown_is_empty(form: str) -> None:
    assert show(None, form, "MAC") == show(float("nan"), form) == ""
    assert set(SHOW) == set(FORMS)


def test_a_unit_is_said_once() -> None:
    assert heading(Column("macs", "MACs", "scaled", "MAC")) == "MACs"
    assert heading(Column("reach", "Receptive field", "count", "px")) == "Receptive field (px)"
    assert heading(Column("memory", "Memory", "bytes", "B")) == "Memory"


# ---------------------------------------------------------------- the registry


def test_names() -> None:
    assert list(RENDERERS) == ["terminal", "md", "csv", "latex", "json", "html"]
    with pytest.raises(ValueError, match="unknown format 'yaml': there is terminal, md, csv, latex, json, html"):
        text_of(TABLE, "yaml")
    with pytest.raises(ValueError, match="the format 'md' is registered twice"):
        renderer("md")(str)
    with pytest.raises(ValueError, match="unknown form 'number'"):
        show(1, "number")


@pytest.mark.parametrize("format", RENDERERS)
def test_one_newline_at_the_end_and_nothing_trailing(format: str) -> None:
    text = text_of(TABLE, format)
    assert text.endswith("\n") and not text.endswith("\n\n")
    if format != "csv":
        assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert "\x1b" not in text


@pytest.mark.parametrize("format", RENDERERS)
def test_no_rows(format: str) -> None:
    text = text_of(replace(TABLE, rows=(), totals=None), format)
    assert text == "[]\n" if format == "json" else ("Parameters" in text or "params" in text)


@pytest.mark.parametrize("format", PEOPLE)
def test_bare(format: str) -> None:
    bare = Table("", (Column("n", "N", "count"),), ({"n": 1234}, {}))
    text = text_of(bare, format)
    assert "1,234" in text and "Total" not in text and "None" not in text and "0" not in text.split("1,234")[1][:9]


# ---------------------------------------------------------------- machine formats


def test_json_round_trip() -> None:
    rows = json.loads(text_of(TABLE, "json"))
    keys = [column.key for column in TABLE.columns] + ["call"]
    assert [list(row) for row in rows] == [keys] * 3
    for row, raw in zip(rows, TABLE.rows, strict=True):
        assert row == json.loads(json.dumps({key: raw.get(key) for key in keys}))
    assert rows[2]["params"] == 12345678901234567 and rows[1]["macs"] is None and rows[0]["ok"] is True
    assert rows[1]["input"] == [[1, 96, 55, 55], [1, 7]]
    assert "größe" in text_of(TABLE, "json")


def test_json_of_odd_values() -> None:
    odd = Table("", (Column("x", "X"),), ({"x": float("nan")}, {"x": {"k": (1, 2)}}, {"x": Path("a")}))
    assert [row["x"] for row in json.loads(text_of(odd, "json"))] == [None, {"k": [1, 2]}, "a"]


def test_csv_round_trip() -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(TABLE, "csv"))))
    assert len(rows) == 3
    assert list(rows[0]) == [column.key for column in TABLE.columns] + ["call"]
    assert rows[2]["params"] == "12345678901234567"
    assert rows[0]["share"] == "0.9996"
    assert [row["ok"] for row in rows] == ["true", "", "false"]
    assert [row["macs"] for row in rows] == ["105415200", "", "999960"]
    assert json.loads(rows[0]["output"]) == [1, 96, 55, 55]
    assert rows[0]["output"] == "[1, 96, 55, 55]"
    assert json.loads(rows[1]["input"]) == [[1, 96, 55, 55], [1, 7]]
    assert [row["path"] for row in rows] == ["features.0", "__init__|a_b", "größe.{x}"]


def test_csv_quotes() -> None:
    table = Table("", (Column("x", "X"),), ({"x": 'a,"b"\nc'},))
    assert list(csv.reader(io.StringIO(text_of(table, "csv")))) == [["x"], ['a,"b"\nc']]


# ---------------------------------------------------------------- markdown, latex, html


def test_md_cells_are_cells() -> None:
    lines = [line for line in text_of(TABLE, "md").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 + 1
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(TABLE.columns) + 1
    assert r"\_\_init\_\_\|a_b" in lines[3]
    assert r"MyLayer\*" in lines[3]
    assert lines[1].split("|")[5].endswith(":") and lines[1].split("|")[1].startswith(":")
    assert "**Total**" in lines[-1] and "****" not in lines[-1]


def test_md_reads_back() -> None:
    from markdown_it import MarkdownIt  # comes with rich

    said = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text_of(TABLE, "md"))
    root = ElementTree.fromstring(f"<div>{said}</div>")
    cells = [["".join(cell.itertext()) for cell in row.findall("td")] for row in root.findall("table/tbody/tr")]
    for row, raw in zip(cells, (*TABLE.rows, {**(TABLE.totals or {}), "path": "Total"}), strict=True):
        assert row == [show(raw.get(column.key), column.form) for column in TABLE.columns]
    assert ["".join(item.itertext()) for item in root.findall("ul/li")] == list(TABLE.notes)
    assert ["".join(block.itertext()) for block in root.findall("p")] == [TABLE.title, TABLE.caption]


def test_md_notes_are_text() -> None:
    text = text_of(TABLE, "md")
    assert r"- Unknown is empty \<b>not 0\</b> \| \$x\$ costs \~5 %." in text
    assert text.endswith("\n\n*Input 1×3×227×227, float32; torch_2.14.1.*\n")


@pytest.mark.parametrize("character", "×·⌊⌋⌈⌉−→✓✗≤≥αρθ")
def test_latex_symbols_are_math(character: str) -> None:
    text = text_of(Table("", (Column("x", "X"),), ({"x": f"a{character}b"},)), "latex")
    assert text.isascii()
    assert re.search(r"a\$(\\[a-z]+|-)\$b", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b", r"a\_b"),
        ("R&D", r"R\&D"),
        ("5 %", r"5 \%"),
        ("#1", r"\#1"),
        ("$x$", r"\$x\$"),
        ("{x}", r"\{x\}"),
        ("~", r"\textasciitilde{}"),
        ("x^2", r"x\textasciicircum{}2"),
        ("a\\b", r"a\textbackslash{}b"),
        ("--columns", "-{}-columns"),
        ("[3, 64]", "{[}3, 64]"),
        ("a < b", "a $<$ b"),
    ],
)
def test_latex_text(text: str, latex: str) -> None:
    assert f"    {latex} \\\\\n" in text_of(Table("", (Column("x", "X"),), ({"x": text},)), "latex")


def test_latex_float() -> None:
    text = text_of(TABLE, "latex")
    for part in (r"\caption{Net\_1: layer by layer \& 100 \%}", r"\label{tab:net-1-layer-by-layer-100}", r"\toprule",
                 r"\begin{tabular}{llllrrrrrl}", r"\bottomrule", r"\begin{table}[htbp]", r"\end{table}"):  # fmt: skip
        assert text.count(part) == 1
    assert text.count(r"\midrule") == 2
    assert text.count("{") == text.count("}")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    head = "\\documentclass{article}\n\\usepackage{booktabs, amssymb}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + text_of(TABLE, "latex") + "\\end{document}\n", encoding="utf-8")
    run = subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True)
    assert run.returncode == 0, run.stdout.decode(errors="replace")


def test_html_is_well_formed() -> None:
    div = ElementTree.fromstring(text_of(TABLE, "html"))
    assert [len(row) for row in div.iter("tr")] == [10] * 5
    assert [th.get("scope") for th in div.iter("th")] == ["col"] * 10 + ["row"] * 4
    assert [cell.text for cell in div.findall("table/tfoot/tr/*")][:5:4] == ["Total", "12,345,678,901,269,511"]
    assert [note.text for note in div.findall("ul/li")] == list(TABLE.notes)
    assert div.findtext("p") == TABLE.caption and div.findtext("table/caption") == TABLE.title
    assert not re.search(r"#[0-9a-f]{3}|rgb|https?:|src=", text_of(TABLE, "html"))
    assert TABLE._repr_html_() == text_of(TABLE, "html")


# ---------------------------------------------------------------- terminal

NUMBER = re.compile(r"\d[\d.,×]*")


def test_terminal_whole() -> None:
    lines = text_of(TABLE, "terminal").splitlines()
    assert lines[0] == TABLE.title
    assert lines[2].startswith("Layer ") and lines[2].endswith("Verified")
    assert lines[3] == lines[7] == "─" * len(lines[2])
    assert lines[8].startswith("Total ")
    ends = [line.index(number) + len(number) for line, number in
            zip(lines[4:7], ("34,944", " 0 ", "12,345,678,901,234,567"), strict=True)]  # fmt: skip
    assert ends[0] == ends[1] - 1 == ends[2]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (200, []),
        (141, []),
        (140, []),  # one title on two lines
        (120, ["ok"]),
        (100, ["share", "reach", "ok"]),
        (80, ["input", "memory", "share", "reach", "ok"]),
        (60, ["kind", "input", "memory", "share", "reach", "ok"]),
        (40, ["kind", "input", "output", "macs", "memory", "share", "reach", "ok"]),
    ],
)
def test_terminal_narrow(width: int, left_out: list[str]) -> None:
    text = text_of(TABLE, "terminal", width=width)
    assert max(map(len, text.splitlines())) <= width
    said = re.search(r"Left out: (.*?) \(a wider terminal or --columns shows (it|them)\)", text.replace("\n", " "))
    assert (said[1].split(", ") if said else []) == left_out
    whole = set(NUMBER.findall(text_of(TABLE, "terminal")))
    assert set(NUMBER.findall(text)) <= whole


@pytest.mark.parametrize("width", [30, 20, 10, 1])
def test_terminal_never_cuts_a_number(width: int) -> None:
    for table in (TABLE, replace(TABLE, columns=tuple(replace(column, priority=0) for column in TABLE.columns))):
        text = text_of(table, "terminal", width=width)
        assert set(NUMBER.findall(text)) <= set(NUMBER.findall(text_of(table, "terminal")))
        assert "12,345,678,901,234,567" in text and "12,345,678,901,269,511" in text


def test_terminal_folds_titles_before_it_leaves_anything_out() -> None:
    table = Table("", (Column("a", "A"), Column("n", "Share of all", "count", priority=1)), ({"a": "x", "n": 5},))
    assert text_of(table, "terminal", width=9) == "   Share\n      of\nA    all\n────────\nx      5\n"


def test_terminal_folds_text_last() -> None:
    columns = (Column("path", "Layer"), Column("n", "N", "count"))
    table = Table("", columns, ({"path": "encoder.layers.encoder_layer_0", "n": 1234},))
    assert text_of(table, "terminal", width=20) == (
        "Layer              N\n────────────────────\nencoder.       1,234\nlayers.\nencoder_\nlayer_0\n"
    )


def test_terminal_puts_columns_closer_before_a_line_is_too_long() -> None:
    table = Table(
        "",
        (Column("a", "A"), Column("b", "B", "count"), Column("c", "C", "count")),
        ({"a": "x", "b": 1234, "c": 5678},),
    )
    assert text_of(table, "terminal", width=15) == "A      B      C\n───────────────\nx  1,234  5,678\n"
    assert text_of(table, "terminal", width=14) == "A     B     C\n─────────────\nx 1,234 5,678\n"


def test_terminal_colour() -> None:
    plain, colour = text_of(TABLE, "terminal", width=80), text_of(TABLE, "terminal", width=80, color=True)
    assert re.sub(r"\x1b\[\d+m", "", colour) == plain
    assert "\x1b[1m" in colour and "\x1b[2m" in colour


def test_terminal_wide_characters() -> None:
    table = Table("", (Column("a", "A"), Column("n", "N", "count")), ({"a": "層", "n": 1}, {"a": "ab", "n": 2}))
    assert text_of(table, "terminal") == "A   N\n─────\n層  1\nab  2\n"


def test_terminal_is_quick() -> None:
    table = replace(TABLE, rows=TABLE.rows * 67)
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        text_of(table, "terminal", width=100)
        best = min(best, time.perf_counter() - start)
    assert best < 0.04


# ---------------------------------------------------------------- tables


DERIVED = Table(
    title="",
    columns=(
        Column("path", "Layer"),
        Column("kind", "Kind", priority=1),
        Column("none", "Nothing", priority=2),
        Column("working", "Working", priority=4, below=True),
        Column("more", "More of it", priority=5, below=True),
        Column("count", "Count", "count", priority=3, means="Count: how many."),
    ),
    rows=(
        {"path": "a", "kind": "LocalResponseNorm", "working": "1 + 1 = 2", "more": "3 + 3 = 6", "count": 1000},
        {"path": "b", "kind": "ReLU", "working": "", "more": "4 + 4 = 8", "count": 2000},
        {"path": "c", "kind": "ReLU", "working": "", "more": "", "count": None},
    ),
    caption="End.",
)


def lines(width: int | None, table: Table = DERIVED) -> list[str]:
    return [line for line in text_of(table, "terminal", width=width).splitlines() if line]


def test_what_has_no_room_stands_below_its_row() -> None:
    assert len(lines(None)) == 2 + 3 + 1
    assert lines(46)[2:6] == [
        "a      LocalResponseNorm  1 + 1 = 2  1,000",
        "  3 + 3 = 6",
        "b      ReLU                          2,000",
        "  4 + 4 = 8",
    ]
    assert lines(36)[2:6] == [
        "a      LocalResponseNorm  1,000",
        "  1 + 1 = 2   3 + 3 = 6",
        "b      ReLU               2,000",
        "  4 + 4 = 8",
    ]
    assert lines(22)[2:6] == ["a      LocalResponse", "       Norm", "  1 + 1 = 2", "  3 + 3 = 6"]
    assert not any("Left out: working" in line for line in lines(22))
    assert "\x1b[2m  3 + 3 = 6\x1b[0m" in text_of(DERIVED, "terminal", width=46, color=True)


def test_text_folds_before_its_column_goes() -> None:
    assert "Kind" in lines(20)[0]
    assert "Kind" not in lines(13)[0]
    assert lines(13)[2] == "a"
    assert any(line.startswith("Left out:") for line in lines(13))


def test_a_column_without_contents_is_not_shown_unless_asked_for() -> None:
    assert "Nothing" not in lines(None)[0]
    assert "Nothing" in lines(None, DERIVED.select(["path", "none"]))[0]
    assert "none" in text_of(DERIVED, "csv")


def test_what_was_asked_for_is_never_left_out() -> None:
    shown = lines(10, DERIVED.select(["path", "count", "working"]))
    assert "Count" in shown[0] or "Count" in shown[1]
    assert not any("Left out" in line for line in shown)
    with pytest.raises(ValueError, match="column 'path' is named twice"):
        DERIVED.select(["path", "kind", "path"])


def test_widths() -> None:
    from rich.cells import cell_len

    for text in ("⌊(227 − 11 + 2·0)/4⌋ + 1 = 55", "1×96×55×55", "✓✗─–≤→…", "größe", "層", "a\u0301", "e\xad", "日本 x"):
        assert _width(text) == cell_len(text)


def test_columns_say_what_they_mean() -> None:
    for name in PEOPLE:
        assert "Count: how many. End." in text_of(DERIVED, name)
        assert "Count: how many" not in text_of(DERIVED.select(["path"]), name)
    assert "Count: how many" not in text_of(DERIVED, "terminal", width=10)  # a column that is left out
    assert "Count: how many" not in text_of(DERIVED, "json")


def test_select() -> None:
    table = TABLE.select(["params", "call"])
    assert [column.key for column in table.columns] == ["params", "call"]
    assert text_of(table, "csv") == "params,call\n34944,0\n0,1\n12345678901234567,\n"
    with pytest.raises(ValueError, match=r"unknown column 'parms': did you mean params"):
        TABLE.select(["path", "parms"])
    with pytest.raises(ValueError, match="unknown column 'zzz': choose from path, kind"):
        TABLE.select(["zzz"])
    with pytest.raises(ValueError, match="has no columns"):
        TABLE.select([])


@pytest.mark.parametrize(
    ("key", "descending", "order"),
    [
        ("params", False, [1, 0, 2]),
        ("params", True, [2, 0, 1]),
        ("macs", False, [2, 0, 1]),  # unknown last
        ("macs", True, [0, 2, 1]),
        ("path", False, [1, 0, 2]),
        ("input", True, [1, 0, 2]),  # by elements: 290,407; 154,587; 4,096
        ("call", True, [1, 0, 2]),
    ],
)
def test_sort(key: str, descending: bool, order: list[int]) -> None:
    assert TABLE.sort(key, descending).rows == tuple(TABLE.rows[i] for i in order)


def test_sort_unknown_key() -> None:
    with pytest.raises(ValueError, match="unknown column 'Memry': did you mean memory"):
        TABLE.sort("Memry")


def test_sort_of_mixed_values() -> None:
    table = Table("", (Column("x", "X"),), ({"x": "b"}, {"x": 10}, {"x": None}, {"x": 9}, {"x": "a"}))
    assert [row["x"] for row in table.sort("x").rows] == [9, 10, "a", "b", None]


def test_refused() -> None:
    with pytest.raises(ValueError, match="unknown form 'shap': did you mean shape"):
        Column("a", "A", "shap")
    with pytest.raises(ValueError, match="two columns with the key 'a'"):
        Table("", (Column("a", "A"),), (), hidden=(Column("a", "B"),))


def test_repr() -> None:
    assert repr(TABLE.select(["path", "macs"])) == "<Table 'Net_1: layer by layer & 100 %': 3 rows, columns path macs>"


def test_to_frame() -> None:
    frame = TABLE.to_frame()
    assert list(frame.columns) == [column.key for column in TABLE.columns] + ["call"]
    assert len(frame) == 3
    assert frame["params"].tolist() == [34944, 0, 12345678901234567]
    assert frame["params"].dtype == "int64"
    assert frame["macs"].dtype == "Int64" and frame["macs"].isna().tolist() == [False, True, False]
    assert frame["ok"].dtype == "boolean"
    assert frame["input"].tolist() == [row["input"] for row in TABLE.rows]
    assert frame["share"].sum() == 1.0
    assert frame["path"].tolist() == [row["path"] for row in TABLE.rows]


def test_to_frame_keeps_great_integers_and_empty_columns() -> None:
    columns = (Column("n", "N", "count"), Column("none", "None"))
    frame = Table("", columns, ({"n": 2**70}, {"n": None})).to_frame()
    assert frame["n"].tolist()[0] == 2**70
    assert frame["none"].isna().all()
    assert list(Table("", columns, ()).to_frame().columns) == ["n", "none"]


# ---------------------------------------------------------------- files


def test_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("größe\n", tmp_path / "new.txt")
    assert (tmp_path / "new.txt").read_bytes() == "größe\n".encode()
    monkeypatch.setenv("HOME", str(tmp_path))
    save("home\n", "~/home.txt")
    assert (tmp_path / "home.txt").read_text() == "home\n"
    monkeypatch.chdir(tmp_path)
    save("here\n", "here.txt")
    assert sorted(os.listdir(tmp_path)) == ["here.txt", "home.txt", "new.txt"]


def test_save_keeps_mode_and_link(tmp_path: Path) -> None:
    file, link, dangling = tmp_path / "file", tmp_path / "link", tmp_path / "dangling"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    dangling.symlink_to(tmp_path / "later")
    save("new", link)
    save("made", dangling)
    assert link.is_symlink() and file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (tmp_path / "later").read_text() == "made"


def test_save_to_a_stream(tmp_path: Path) -> None:
    save("gone", os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    code = "from archscope.core.files import save; save('said', '/dev/stdout')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"said"


@pytest.mark.parametrize("broken", ["os.replace", "os.chmod"])
def test_save_fails_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*args: object) -> None:
        raise OSError("disk full")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="disk full"):
        save("new", tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_save_of_text_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        save("\ud800", tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_save_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save("x", tmp_path / "no" / "file")
    with pytest.raises(IsADirectoryError):
        save("x", tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_save_without_permission(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(PermissionError):
        save("x", tmp_path / "file")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            save("x", tmp_path / "other")
    finally:
        tmp_path.chmod(0o755)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


# ---------------------------------------------------------------- imports


def test_rendering_needs_neither_torch_nor_pandas() -> None:
    code = """
import sys
from archscope.core.formats import RENDERERS, text_of
from archscope.core.table import Column, Table
early = {"rich", "tabulate", "torch", "pandas"} & set(sys.modules)
table = Table("t", (Column("a", "✓", "count"),), ({"a": 1},), ("n",), "c", {"a": 1})
for format in RENDERERS:
    text_of(table, format)
print(early, {"torch", "pandas", "numpy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("set() set()\n", "", 0)
