"""`archscope fit` on many networks and cards: the tables of the page "Out of memory".

    python benchmarks/fit.py                    the course texts' networks, and 20 networks × 3 cards with their checks
    python benchmarks/fit.py --only checks      one of the two: course, checks
    python benchmarks/fit.py --write            replaces the tables in docs/howto/out-of-memory.md

A check builds the model anew and records its step at the answer, which has to fit, and at one more, which must not.
"""

import argparse
import re
from pathlib import Path

from archscope.analysis.allocator import events, simulate
from archscope.core.errors import ShapeError
from archscope.shapes.fit import CONTEXT, Record, card_bytes, largest, steps_of
from archscope.sources.spec import parse

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "out-of-memory.md"
COURSE = ("vgg11-d2l", "alexnet-d2l", "nin", "googlenet-d2l")
SIZES = (2, 4, 8, 12, 24)  # GiB
NETWORKS = """mobilenet-v2 alexnet vgg16 nin googlenet resnet18 resnet50 densenet121 mobilenet-v1 mobilenet-v3-large
    densenet169 torchvision:squeezenet1_1 torchvision:shufflenet_v2_x1_0 torchvision:mnasnet1_0
    torchvision:efficientnet_b0
    torchvision:regnet_y_400mf torchvision:resnext50_32x4d torchvision:convnext_tiny torchvision:vit_b_16
    torchvision:swin_t""".split()
CARDS = ("RTX 4060", "RTX 4090", "A100 80GB")


def course(side: int) -> str:
    """Markdown: a row a network, a column a size of memory."""
    head = [f"{side}×{side}", *(f"{card} GiB" for card in SIZES)]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --: |" * len(SIZES)]
    for name in COURSE:
        record = steps_of(parse(name), side, "batch", None, {})
        try:
            found = [largest(record, card * 2**30 - CONTEXT).largest for card in SIZES]
            cells = [f"{batch:,}" if batch is not None else "none" for batch in found]
        except ShapeError:
            cells = ["does not take this size", *[""] * (len(SIZES) - 1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def checks() -> str:
    """Markdown: a row a network, a cell a card: the answer, ✓ where it fits and one more does not."""
    lines = [f"| network | {' | '.join(CARDS)} |", "| --- |" + " --: |" * len(CARDS)]
    wrong = 0
    for name in NETWORKS:
        record = steps_of(parse(name), None, "batch", None, {"optimizer": "adamw"})
        cells = []
        for card in CARDS:
            capacity = card_bytes(card) - CONTEXT
            answer = largest(record, capacity).largest
            if answer is None:
                cells.append("none")
                continue
            again = steps_of(parse(name), None, "batch", None, {"optimizer": "adamw"})
            fits = [_fits(again, batch, capacity) for batch in (answer, answer + 1)]
            wrong += fits != [True, False]
            cells.append(f"{answer:,} {'✓' if fits == [True, False] else f'✗ fits {fits[0]}, next {fits[1]}'}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(
        [*lines, "", f"{len(NETWORKS) * len(CARDS) - wrong} of {len(NETWORKS) * len(CARDS)} answers hold."]
    )


def _fits(record: Record, batch: int, capacity: int) -> bool:
    trace = record(batch)
    return trace is not None and simulate(events(trace.storages), capacity).fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the tables of the page")
    parser.add_argument("--only", choices=("course", "checks"))
    given = parser.parse_args()
    made: dict[str, str] = {}
    if given.only != "checks":
        made |= {f"fit {side}": course(side) for side in (224, 96)}
    if given.only != "course":
        made["fit checks"] = checks()
    text = PAGE.read_text(encoding="utf-8")
    for name, table in made.items():
        print(table, end="\n\n")
        text = re.sub(
            rf"<!-- {name} -->\n.*?<!-- /{name} -->",
            lambda _, name=name, table=table: f"<!-- {name} -->\n{table}\n<!-- /{name} -->",
            text,
            flags=re.DOTALL,
        )
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
