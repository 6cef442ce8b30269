"""From a Table to text: the one place where a number gets digits, separators, a prefix and an alignment.

One function a format, each `Table -> str`, each ending in one newline. The machine formats (csv, json) carry raw
values and the hidden columns, and no title, notes, caption or totals; the others are for people.

    text    as it is
    count   34,944           an exact integer
    change  +34,944          the same, by how much one grew
    scaled  724.4 M          four significant digits; K M G T P E are powers of 1000
    bytes   243.9 MB         the same, in bytes
    shape   1×96×55×55       several shapes: 1×96×55×55, 1×96; a single number is a count
    share   96.2 %           of 0.962
    flag    ✓ ✗

Unknown is empty, in every form.
"""

import io
import json as json_format
import numbers
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from archscope.core.registry import Registry
from archscope.core.table import Column, Table, is_unknown

RENDERERS: Registry[Callable[..., str]] = Registry("format")
renderer = RENDERERS.register


def text_of(table: Table, format: str, **options: Any) -> str:
    """The table in one of the formats of RENDERERS. Raises ValueError, naming the right ones, on an unknown format."""
    if format not in RENDERERS:
        raise ValueError(f"unknown format {format!r}: there is {', '.join(RENDERERS)}")
    return RENDERERS[format](table, **options)


# ---------------------------------------------------------------- values


def show(value: Any, form: str = "text", unit: str = "") -> str:
    """One raw value as people read it: `show(34944, "count", "MAC")` is "34,944 MAC". Unknown is "".

    Text in the place of a number is shown as it is.
    """
    if form not in SHOW:
        raise ValueError(f"unknown form {form!r}: there is {', '.join(SHOW)}")
    if is_unknown(value):
        return ""
    if isinstance(value, str):
        return _one_line(value)
    return SHOW[form](value, unit)


def _one_line(text: str) -> str:
    """Without line breaks and control characters: a layer's name must not move the cursor."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return "".join(c for c in " ".join(text.split()) if c.isprintable() or c == " ")


def _text(value: Any, unit: str) -> str:
    return _with(_one_line(str(value)), unit)


def _count(value: Any, unit: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _with(f"{value:,}", unit)


def _scaled(value: Any, unit: str, prefixes: str = "KMGTPE") -> str:
    if abs(value) < 1000:
        exact = isinstance(value, int) or float(value).is_integer()
        return _with(str(int(value)) if exact else f"{value:.4g}", unit)
    for power, prefix in enumerate(prefixes, 1):
        if abs(value / 1000**power) < 999.95:  # else it would read 1000
            return f"{value / 1000**power:#.4g} {prefix}{unit}"
    return f"{value / 1000 ** len(prefixes):,.0f} {prefixes[-1]}{unit}"


def _bytes(value: Any, unit: str) -> str:
    return _scaled(value, unit or "B", "kMGTPE")


def _shape(value: Any, unit: str) -> str:
    if isinstance(value, int):
        return _count(value, unit)
    if value and isinstance(value[0], tuple | list):
        return ", ".join(_shape(one, unit) for one in value)
    return _with("×".join(map(str, value)) or "()", unit)


def _share(value: Any, unit: str) -> str:
    return f"{100 * value:.1f} %"


def _flag(value: Any, unit: str) -> str:
    return "✓" if value else "✗"


def _with(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


SHOW: dict[str, Callable[[Any, str], str]] = {
    "text": _text, "count": _count, "scaled": _scaled, "bytes": _bytes, "shape": _shape, "share": _share,
    "flag": _flag, "change": lambda value, unit: _with(f"{value:+,}".replace("-", "−").replace("+0", "0"), unit),
}  # fmt: skip

RIGHT = {"count", "change", "scaled", "bytes", "share"}  # the forms that are aligned to the right


def heading(column: Column) -> str:
    """The title of a column, with its unit where neither title nor values say it."""
    said = not column.unit or column.form == "bytes" or column.unit.lower() in column.title.lower()
    return column.title if said else f"{column.title} ({column.unit})"


def _cells(table: Table, row: Mapping[str, Any]) -> list[str]:
    return [show(row.get(column.key), column.form) for column in table.columns]


def _totals(table: Table) -> list[str] | None:
    """The last row as text, called "Total" where the first column has room for that word."""
    if table.totals is None:
        return None
    cells = _cells(table, table.totals)
    if not cells[0] and table.columns[0].form == "text":
        cells[0] = "Total"
    return cells


def _raw(value: Any) -> Any:
    """A value as JSON knows it."""
    if is_unknown(value):
        return None
    if isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _raw(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_raw(one) for one in value]
    return str(value)


# ---------------------------------------------------------------- machine formats


@renderer("json")
def json(table: Table) -> str:
    """A list of objects, one a row: raw values, shapes as lists, unknown as null."""
    keys = [column.key for column in table.columns + table.hidden]
    rows = [{key: _raw(row.get(key)) for key in keys} for row in table.rows]
    return json_format.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@renderer("csv")
def csv(table: Table) -> str:
    """A line of keys and a line a row: raw values, shapes as JSON lists, booleans as true and false, unknown empty."""
    import csv as csv_format

    keys = [column.key for column in table.columns + table.hidden]

    def cell(value: Any) -> Any:
        value = _raw(value)
        as_json = isinstance(value, bool | list | dict)
        return json_format.dumps(value, ensure_ascii=False) if as_json else value

    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([cell(row.get(key)) for key in keys] for row in table.rows)
    return out.getvalue()


# ---------------------------------------------------------------- markdown

# what GitHub would read as markup; "_" only at the edge of a word, "<" and "&" only where a tag or an entity begins
_MARKUP = re.compile(r"[\\`*|\[~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)")


def _md(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", _one_line(text))


@renderer("md")
def md(table: Table) -> str:
    """A pipe table as GitHub shows it, the notes as a list under it, then the caption."""
    from tabulate import tabulate

    rows = [[_md(cell) for cell in _cells(table, row)] for row in table.rows]
    if totals := _totals(table):
        rows.append([f"**{_md(cell)}**" if cell else "" for cell in totals])
    body = tabulate(
        rows,
        headers=[_md(heading(column)) for column in table.columns],
        tablefmt="pipe",
        colalign=["right" if column.form in RIGHT else "left" for column in table.columns] if rows else None,
        disable_numparse=True,
    )
    blocks = [
        f"**{_md(table.title)}**" if table.title else "",
        body,
        "\n".join(f"- {_md(note)}" for note in table.notes),
        f"*{_md(table.legend())}*" if table.legend() else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


# ---------------------------------------------------------------- latex

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "[": "{[}", "*": "{*}",  # at the start of a row, \\ of the row before would take them for its own
    "\u200b": "{}", '"': "''", "`": r"\textasciigrave{}",
    "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
}  # fmt: skip
_LATEX_MATH = {
    "×": r"\times", "·": r"\cdot", "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "−": "-",
    "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow", "✓": r"\checkmark", "✗": r"\times",
    "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "±": r"\pm", "÷": r"\div", "∞": r"\infty",
    "√": r"\surd", "∑": r"\sum", "Σ": r"\Sigma", "∏": r"\prod", "Δ": r"\Delta", "∈": r"\in", "²": "^2", "³": "^3",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "θ": r"\theta",
    "λ": r"\lambda", "μ": r"\mu", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi",
    "ω": r"\omega", "ᵀ": "^T", "<": "<", ">": ">", "|": "|",
}  # fmt: skip
_LATEX_ALL = str.maketrans(_LATEX | {character: f"${name}$" for character, name in _LATEX_MATH.items()})


def _tex(text: str) -> str:
    apart = re.sub("-(?=-)", "-\u200b", _one_line(text))  # "--" would become a dash
    return apart.translate(_LATEX_ALL)


def escaped(text: str, format: str) -> str:
    """Running text as Markdown ("md") or LaTeX ("latex") writes it."""
    return {"md": _md, "latex": _tex}[format](text)


@renderer("latex")
def latex(table: Table) -> str:
    """A table float with caption and label for pdflatex, with the packages booktabs and amssymb (for ✓)."""

    def line(cells: Iterable[str]) -> str:
        return f"    {' & '.join(_tex(cell) for cell in cells)} \\\\"

    label = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
    below = [_tex(text) for text in (*table.notes, table.legend()) if text]
    lines = [
        r"% \usepackage{booktabs, amssymb}",
        r"\begin{table}[htbp]",
        r"  \centering",
        *([rf"  \caption{{{_tex(table.title)}}}"] if table.title else []),
        *([rf"  \label{{tab:{label}}}"] if label else []),
        rf"  \begin{{tabular}}{{{''.join('r' if c.form in RIGHT else 'l' for c in table.columns)}}}",
        r"    \toprule",
        line(heading(column) for column in table.columns),
        r"    \midrule",
        *(line(_cells(table, row)) for row in table.rows),
    ]
    if totals := _totals(table):
        lines += [r"    \midrule", line(totals)]
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if below:
        lines += [r"  \par\medskip", r"  \begin{minipage}{\linewidth}", r"    \footnotesize"]
        lines += [rf"    {text}\par" for text in below]
        lines += [r"  \end{minipage}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


# ---------------------------------------------------------------- html

# no colour of its own: text and lines take the colour of the page, light or dark
_STYLE = """\
.archscope { overflow-x: auto; }
.archscope table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.archscope table caption { text-align: left; font-weight: bold; padding: 0.3em 0; color: inherit; }
.archscope table th, .archscope table td { text-align: left; padding: 0.2em 0.8em; border: 0; color: inherit; }
.archscope table tbody th { font-weight: normal; }
.archscope table .number { text-align: right; white-space: nowrap; }
.archscope table thead tr { border-bottom: 1px solid currentColor; }
.archscope table tfoot tr { border-top: 1px solid currentColor; font-weight: bold; }
.archscope ul, .archscope p { font-size: 0.9em; margin: 0.5em 0; opacity: 0.8; }"""


@renderer("html")
def html(table: Table) -> str:
    """A fragment that stands alone: one div with its style, a table, the notes and the caption."""

    from html import escape

    def line(cells: Sequence[str], scope: str) -> str:
        def cell(column: Column, text: str, first: bool) -> str:
            name = "th" if first or scope == "col" else "td"
            mark = ' class="number"' if column.form in RIGHT else ""
            mark += f' scope="{scope}"' if name == "th" else ""
            return f"<{name}{mark}>{escape(_one_line(text))}</{name}>"

        pairs = zip(table.columns, cells, strict=True)
        return f"<tr>{''.join(cell(c, text, c is table.columns[0]) for c, text in pairs)}</tr>"

    lines = ['<div class="archscope">', f"<style>\n{_STYLE}\n</style>", "<table>"]
    if table.title:
        lines.append(f"<caption>{escape(_one_line(table.title))}</caption>")
    lines += ["<thead>", line([heading(column) for column in table.columns], "col"), "</thead>", "<tbody>"]
    lines += [line(_cells(table, row), "row") for row in table.rows]
    lines.append("</tbody>")
    if totals := _totals(table):
        lines += ["<tfoot>", line(totals, "row"), "</tfoot>"]
    lines.append("</table>")
    if table.notes:
        lines += ["<ul>", *(f"<li>{escape(_one_line(note))}</li>" for note in table.notes), "</ul>"]
    if legend := table.legend():
        lines.append(f"<p>{escape(_one_line(legend))}</p>")
    return "\n".join([*lines, "</div>"]) + "\n"


# ---------------------------------------------------------------- terminal

GAP = 2  # blanks between two columns
NARROW = 8  # text is not folded to less than this
APART = "   "  # between two derivations on one line

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@renderer("terminal")
def terminal(table: Table, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns; None: not a terminal, nothing is left out or folded. ANSI codes with `color`.

    What is too wide gets, in this order: titles on several lines; fewer columns, by their priority, their contents on
    a line of their own under each row or else a line that names them; text on several lines. A number is never cut:
    where nothing else helps, the lines are too long. A column without contents is not shown, unless it was asked for.
    rich measures the characters; its Table takes 130 ms for 200 rows and knows no priorities, so the layout is ours.
    """
    totals = _totals(table)
    rows = [_cells(table, row) for row in table.rows] + ([totals] if totals else [])
    strips = [_Strip(column, [row[i] for row in rows]) for i, column in enumerate(table.columns)]
    strips = strips[:1] + [strip for strip in strips[1:] if any(strip.cells) or not strip.column.priority]
    widths = _fit(strips, width)
    kept = [strip for strip in strips if strip.column.key in widths]
    under = [strip for strip in strips if strip.column.key not in widths and strip.column.below]
    left_out = [strip.column.key for strip in strips if strip not in kept and strip not in under]
    rule = "─" * _total(list(widths.values()))

    # every cell as a block of lines; titles stand on the rule
    titles = [_fold(strip.title, widths[strip.column.key]) for strip in kept]
    highest = max(map(len, titles))
    header = _join([[""] * (highest - len(lines)) + lines for lines in titles], kept, widths)
    cells = [[_fold(text, widths[strip.column.key]) for text in strip.cells] for strip in kept]
    body = [_join(row, kept, widths) for row in zip(*cells, strict=True)]
    last = body.pop() if totals else None
    legend = table.legend(strip.column for strip in (*kept, *under))

    out: list[str] = []

    def put(lines: Iterable[str], code: str = "") -> None:
        for line in map(str.rstrip, lines):
            out.append(f"{code}{line}{_PLAIN}" if color and code and line else line)

    if table.title:
        put([*_fold(_one_line(table.title), width), ""], _BOLD)
    put(header, _BOLD)
    put([rule], _DIM)
    for i, lines in enumerate(body):
        put(lines)
        put(_packed([strip.cells[i] for strip in under if strip.cells[i]], width), _DIM)
    if last:
        put([rule], _DIM)
        put(last, _BOLD)
    if left_out or table.notes or legend:
        put([""])
    if left_out:
        them = "it" if len(left_out) == 1 else "them"
        put(_fold(f"Left out: {', '.join(left_out)} (a wider terminal or --columns shows {them})", width))
    for note in table.notes:
        first, *more = _fold(_one_line(note), width and width - 2)
        put([f"· {first}", *(f"  {line}" for line in more)], _DIM)
    if legend:
        put(_fold(_one_line(legend), width), _DIM)
    return "\n".join(out) + "\n"


class _Strip:
    """One column of cells as text. full: the width that needs no folding; tight: with the title on several lines."""

    def __init__(self, column: Column, cells: list[str]) -> None:
        self.column = column
        self.title = heading(column)
        self.cells = cells
        values = max(map(_width, cells), default=0)
        self.full = max(values, _width(self.title))
        self.tight = max(values, *map(_width, self.title.split() or [""]))

    def least(self) -> int:
        """The width below which a number would be cut."""
        if self.column.form in RIGHT:
            return self.tight
        atoms = (atom for cell in self.cells for atom in _ATOM.findall(cell))
        return max(min(self.tight, NARROW), max(map(_width, atoms), default=0))


def _fit(strips: list[_Strip], width: int | None) -> dict[str, int]:
    """The width of each column that is kept, by key."""
    if width is None or _total([strip.full for strip in strips]) <= width:
        return {strip.column.key: strip.full for strip in strips}
    kept = list(strips)
    for strip in sorted(reversed(strips), key=lambda strip: -strip.column.priority):
        last = strip.column.priority == 1  # text folds rather than that such a column goes
        if strip.column.priority and _total([one.least() if last else one.tight for one in kept]) > width:
            kept.remove(strip)
    widths = {strip.column.key: strip.tight for strip in kept}
    room = width - _total(list(widths.values()))
    if room < 0:
        least = {strip.column.key: strip.least() for strip in kept}
        cap = max(widths.values())
        while cap > NARROW and _total([max(least[key], min(w, cap)) for key, w in widths.items()]) > width:
            cap -= 1
        return {key: max(least[key], min(w, cap)) for key, w in widths.items()}
    for strip in kept:  # whole titles while there is room
        if strip.full - strip.tight <= room:
            room -= strip.full - strip.tight
            widths[strip.column.key] = strip.full
    return widths


def _total(widths: list[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _join(row: Sequence[list[str]], strips: list[_Strip], widths: Mapping[str, int]) -> list[str]:
    """The lines of one row, from the lines of each of its cells."""
    lines = []
    for i in range(max(map(len, row))):
        line = ""
        for block, strip in zip(row, strips, strict=True):
            text = block[i] if i < len(block) else ""
            blank = " " * (widths[strip.column.key] - _width(text))
            line += (blank + text if strip.column.form in RIGHT else text + blank) + " " * GAP
        lines.append(line)
    return lines


_PART = re.compile(r"\d[\d.,×]*|[A-Z]?[^\dA-Z._/]+[._/]?|.")  # of a long word: "encoder." "layer_" "0" "Max" "Pool"
_ATOM = re.compile(r"\d[\d.,×]*|.")  # what is never cut: a number, a character


def _packed(texts: list[str], width: int | None) -> list[str]:
    """Several texts, indented, as many on a line as have room."""
    lines: list[str] = []
    for text in texts:
        if lines and (width is None or _width(f"{lines[-1]}{APART}{text}") <= width):
            lines[-1] += f"{APART}{text}"
        else:
            lines += [f"  {line}" for line in _fold(text, width and width - 2)]
    return lines


def _fold(text: str, width: int | None) -> list[str]:
    """The text in lines of at most `width`, broken between words, and inside a word that is longer than a line."""
    if width is None or _width(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        if _width(f"{lines[-1]} {word}".lstrip()) <= width:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
            continue
        lines.append("")
        for part in _PART.findall(word):
            for piece in [part] if _width(part) <= width else _ATOM.findall(part):
                if lines[-1] and _width(lines[-1] + piece) > width:
                    lines.append("")
                lines[-1] += piece
    return lines if lines[0] else lines[1:]


_SINGLE = re.compile(r"[ -~¡-¬®-ʯ×·−–⌊⌋⌈⌉✓✗─≤≥→…]*")  # one column each: what most tables need, without rich


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii() or _SINGLE.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


# ---------------------------------------------------------------- files


def save(text: str | bytes, path: str | os.PathLike[str]) -> None:
    """Write a file whole or not at all; "~" is expanded, a link is followed, an existing file keeps its mode.

    Raises OSError as it comes; the old file is then as it was.
    """
    data = text.encode() if isinstance(text, str) else text
    path = os.path.expanduser(path)
    mode = os.stat(path).st_mode if os.path.exists(path) else None
    if mode is not None and not stat.S_ISREG(mode):  # /dev/stdout, a pipe: nothing to replace; a folder says no
        with open(path, "wb") as stream:
            stream.write(data)
        return
    if mode is not None:
        open(path, "r+b").close()  # a file that may not be written says no
    target = os.path.realpath(path)
    part = os.path.join(os.path.dirname(target), f".archscope-{os.urandom(8).hex()}.part")
    try:
        with open(part, "xb") as new:
            new.write(data)
        if mode is not None:
            os.chmod(part, stat.S_IMODE(mode))
        os.replace(part, target)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
