"""Help that fits the terminal: what stands beside an example or an option is folded, or moves below it."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

NARROW = 50  # columns, below which the explanation of an option stands under it


def formatter(base: Any) -> Any:
    """The formatter of typer's help, or of click's, for the width of this terminal. base: their class."""
    columns = max(20, shutil.get_terminal_size().columns)

    class Fitting(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.width = min(self.width, columns)  # both take 50 columns where there are fewer

        def write_text(self, text: str) -> None:
            room = max(self.width, columns) - self.current_indent
            paragraphs = text.split("\n\n")
            super().write_text("\n\n".join(fitted(one, room) if one[:1] == "\b" else one for one in paragraphs))

        def write_dl(self, rows: Sequence[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
            if self.width >= NARROW:
                super().write_dl(rows, *args, **kwargs)
                return
            for first, second in rows:
                self.write_text(first)
                with self.indentation(), self.indentation():
                    self.write_text(second)

    return Fitting


def fitted(paragraph: str, room: int) -> str:
    """Lines of two columns, an example and what it does, in `room` columns. An example is never broken."""
    lines = []
    for line in paragraph.split("\n"):
        left, gap, right = re.match(r"(\s*\S+(?: \S+)*)?( *)(.*)", line).groups("")  # pyright: ignore
        beside = len(left + gap)
        if len(line) <= room or not right:
            lines.append(line)
        elif beside <= room - 20:
            first, *rest = textwrap.wrap(right, room - beside)
            lines += [f"{left}{gap}{first}", *(" " * beside + more for more in rest)]
        else:
            lines += [left, *(f"    {more}" for more in textwrap.wrap(right, room - 4))]
    return "\n".join(lines)
