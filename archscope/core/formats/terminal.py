"""Text for a terminal of some width, with ANSI codes where it shows colour."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from archscope.core.document import Document, meanings, steps
from archscope.core.formats.base import RIGHT, cells_of, heading, one_line, renderer, totals_of, writer
from archscope.core.table import Column, Table

GAP = 2  # blanks between two columns
NARROW = 8  # text is not folded to less than this
APART = "   "  # between two derivations on one line

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@renderer("terminal")
def render(table: Table, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns; None: not a terminal, nothing is left out or folded. ANSI codes with `color`.

    What is too wide gets, in this order: titles on several lines; fewer columns, by their priority, their contents on
    a line of their own under each row or else a line that names them; text on several lines; one blank between columns
    in place of two. A number is never cut: where nothing else helps, the lines are too long. A column without contents
    is not shown, unless it was asked for.
    rich measures the characters; its Table takes 130 ms for 200 rows and knows no priorities, so the layout is ours.
    """
    totals = totals_of(table)
    rows = [cells_of(table, row) for row in table.rows] + ([totals] if totals else [])
    strips = [_TextColumn(column, [row[i] for row in rows]) for i, column in enumerate(table.columns)]
    strips = strips[:1] + [strip for strip in strips[1:] if any(strip.cells) or not strip.column.priority]
    widths = _fit(strips, width)
    kept = [strip for strip in strips if strip.column.key in widths]
    under = [strip for strip in strips if strip.column.key not in widths and strip.column.below]
    left_out = [strip.column.key for strip in strips if strip not in kept and strip not in under]
    gap = GAP if width is None or _total(list(widths.values())) <= width else 1
    rule = "─" * _total(list(widths.values()), gap)

    # every cell as a block of lines; titles stand on the rule
    titles = [_fold(strip.title, widths[strip.column.key]) for strip in kept]
    highest = max(map(len, titles))
    header = _join([[""] * (highest - len(lines)) + lines for lines in titles], kept, widths, gap)
    cells = [[_fold(text, widths[strip.column.key]) for text in strip.cells] for strip in kept]
    body = [_join(row, kept, widths, gap) for row in zip(*cells, strict=True)]
    last = body.pop() if totals else None
    legend = table.legend(strip.column for strip in (*kept, *under))

    out: list[str] = []

    def put(lines: Iterable[str], code: str = "") -> None:
        for line in map(str.rstrip, lines):
            out.append(f"{code}{line}{_PLAIN}" if color and code and line else line)

    if table.title:
        put([*_fold(one_line(table.title), width), ""], _BOLD)
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
        first, *more = _fold(one_line(note), width and width - 2)
        put([f"· {first}", *(f"  {line}" for line in more)], _DIM)
    if legend:
        put(_fold(one_line(legend), width), _DIM)
    return "\n".join(out) + "\n"


class _TextColumn:
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


def _fit(strips: list[_TextColumn], width: int | None) -> dict[str, int]:
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


def _total(widths: list[int], gap: int = GAP) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _join(row: Sequence[list[str]], strips: list[_TextColumn], widths: Mapping[str, int], gap: int) -> list[str]:
    """The lines of one row, from the lines of each of its cells."""
    lines = []
    for i in range(max(map(len, row))):
        line = ""
        for block, strip in zip(row, strips, strict=True):
            text = block[i] if i < len(block) else ""
            blank = " " * (widths[strip.column.key] - _width(text))
            line += (blank + text if strip.column.form in RIGHT else text + blank) + " " * gap
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


_STEPS = re.compile(r"(?= [+−] )|(?<=·)")  # where a side of an equation may be broken: before a sum, after a dot


def _equation(lead: str, parts: Sequence[str], has_letter: bool, width: int | None) -> list[str]:
    """The lines of an equation behind its name. parts: its sides, of which the first may be its letter."""
    whole = f"{lead}{' = '.join(parts)}"
    if width is None or _width(whole) <= width:
        return [whole]
    if has_letter and len(parts) > 1:
        at = _width(f"{lead}{parts[0]} ")
        lines = [f"{lead}{' = '.join(parts[:2])}", *(f"{' ' * at}= {part}" for part in parts[2:])]
    else:
        lines = [f"{lead}{parts[0]}", *(f"{' ' * len(lead)}= {part}" for part in parts[1:])]
    if max(map(_width, lines)) <= width:
        return lines
    lines = [lead.rstrip()]
    for i, part in enumerate(parts):
        sign = "    = " if i else "    "
        for piece in _STEPS.split(part):
            if sign or _width(lines[-1] + piece) > width:
                lines.append((sign or " " * 6) + piece.lstrip())
                sign = ""
            else:
                lines[-1] += piece
    return lines


_WIDEST = 110  # text in longer lines is hard to read


@writer("terminal")
def write(document: Document, width: int | None = None, color: bool = False) -> str:
    """For a terminal of `width` columns; None: not a terminal, no equation is broken. ANSI codes with `color`.

    An equation that is too wide has a line for each side, below its name where that is needed too, and a side that is
    still too wide is broken at its sums and products.
    """
    bold, dim, plain = (_BOLD, _DIM, _PLAIN) if color else ("", "", "")
    numbers = document.sources

    def folded(texts: Iterable[str], first: str = "", rest: str = "") -> list[str]:
        wrap = textwrap.TextWrapper(
            min(width or _WIDEST, _WIDEST), initial_indent=first, subsequent_indent=rest, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
        return [line for text in texts for line in wrap.wrap(one_line(text))]

    def titled(text: str) -> list[str]:
        return [f"{bold}{line}{plain}" for line in _fold(one_line(text), width)]

    out = [*titled(document.title), *folded(document.about)]
    for section in document.sections:
        out += ["", *titled(section.title), *folded(section.about)]
        names = max([len(one.name) for one in section.equations], default=0)
        if section.equations and not section.brief:
            out.append("")
        for one in section.equations:
            mark = f"  [{numbers[one.source]}]" if one.source and not section.brief else ""
            lead = f"  {one_line(one.name):<{names}}  "
            parts = [one_line(part) for part in steps(one, section.brief)]
            parts[-1] += (f" {one.unit}" if one.unit else "") + mark
            *lines, last = _equation(lead, parts, bool(one.letter), width)
            out += [*lines, f"{last.removesuffix(mark)}{dim}{mark}{plain if mark else ''}"]
        out += [line for table in section.tables for line in ("", render(table, width, color)[:-1])]
        if where := [f"{x}\u00a0=\u00a0{value}: {meaning}" for x, value, meaning in meanings(section)]:
            lines = folded([f"where {'; '.join(where)}."], "  ", "  ")  # "m = 227" stays on one line
            out += ["", *(line.replace("\u00a0", " ") for line in lines)]
        if section.notes:
            out += [*([] if section.brief else [""]), *folded(section.notes, "· ", "  ")]
    if numbers:
        out += ["", f"{bold}Sources{plain}"]
        out += [line for source, i in numbers.items() for line in folded([source], f"[{i}] ", "    ")]
    if document.caption:
        out += ["", *(f"{dim}{line}{plain}" for line in folded([document.caption]))]
    return "\n".join(out) + "\n"
