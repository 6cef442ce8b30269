"""The page of the documentation whose sections a program writes: between `<!-- NAME -->` and `<!-- /NAME -->`."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "measured.md"


def write_section(name: str, text: str) -> None:
    """Put a text between the marks of a section. Raises ValueError when the page has no such section."""
    before = PAGE.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not mark.search(before):
        raise ValueError(f"{PAGE.name} has no section {name!r}")
    after = mark.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", before)
    PAGE.write_text(after, encoding="utf-8")
