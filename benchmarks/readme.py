"""Sections of README.md that are written by a program: between `<!-- NAME -->` and `<!-- /NAME -->`."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def write_section(name: str, text: str) -> None:
    """Put a text between the marks of a section. Raises ValueError when README.md has no such section."""
    before = README.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not mark.search(before):
        raise ValueError(f"README.md has no section {name!r}")
    after = mark.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", before)
    README.write_text(after, encoding="utf-8")
