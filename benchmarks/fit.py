"""The largest batch of the networks of the course texts on cards of 2 to 24 GiB: the tables of "Out of memory".

python benchmarks/fit.py --write    replaces them in docs/howto/out-of-memory.md
"""

import argparse
import re
from pathlib import Path

from archscope.core.errors import ShapeError
from archscope.shapes.fit import CONTEXT, largest, steps_of
from archscope.sources.spec import parse

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "out-of-memory.md"
MODELS = ("vgg11-d2l", "alexnet-d2l", "nin", "googlenet-d2l")
CARDS = (2, 4, 8, 12, 24)  # GiB


def table(side: int) -> str:
    """Markdown: a row a network, a column a card."""
    head = [f"{side}×{side}", *(f"{card} GiB" for card in CARDS)]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --: |" * len(CARDS)]
    for name in MODELS:
        record = steps_of(parse(name), side, "batch", None, {})
        try:
            found = [largest(record, card * 2**30 - CONTEXT).largest for card in CARDS]
            cells = [f"{batch:,}" if batch is not None else "none" for batch in found]
        except ShapeError:
            cells = ["does not take this size", *[""] * (len(CARDS) - 1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the tables of the page")
    write = parser.parse_args().write
    text = PAGE.read_text(encoding="utf-8")
    for side in (224, 96):
        made = table(side)
        print(made, end="\n\n")
        text = re.sub(
            rf"<!-- fit {side} -->\n.*?<!-- /fit {side} -->",
            lambda _, side=side, made=made: f"<!-- fit {side} -->\n{made}\n<!-- /fit {side} -->",
            text,
            flags=re.DOTALL,
        )
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
