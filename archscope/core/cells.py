"""The cells of a text with a delimiter, as spreadsheets write it."""

import csv
import re
from collections.abc import Iterable
from itertools import islice

from archscope.core import limits

Grid = list[tuple[int, list[str]]]  # line in the file, and its cells


def separated(text: str, delimiters: str, first: str, skip: bool = False) -> Grid:
    """The rows that have a cell with text in it. first: the line that decides which of the delimiters it is. skip:
    whether blanks after a delimiter do not count. Raises ValueError for what is no such text."""
    rows = csv.reader(text.splitlines(), delimiter=max(delimiters, key=first.count), skipinitialspace=skip)
    try:
        grid = [(rows.line_num, [cell.strip() for cell in row]) for row in rows if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num + 1}: {error}") from error
    return within(grid)


def bars(line: str) -> list[str]:
    """The cells between the bars of a Markdown table; `\\|` is no bar."""
    inner = re.sub(r"(?<!\\)\|$", "", line.strip().removeprefix("|"))
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


def within(grid: Iterable[tuple[int, list[str]]]) -> Grid:
    """The same rows. Raises ValueError for more of them, and for longer cells, than tables for people have."""
    found = list(islice(grid, limits.ROWS + 1))
    if len(found) > limits.ROWS:
        raise ValueError(f"it has more than {limits.ROWS:,} rows")
    for number, row in found:
        if longest := [cell for cell in row if len(cell) > limits.CELL]:
            raise ValueError(f"line {number}: a cell has {len(longest[0]):,} characters, more than {limits.CELL:,}")
    return found
