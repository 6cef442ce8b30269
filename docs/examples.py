"""The examples of the documentation: `python docs/examples.py` checks them, `--update` writes what commands print now.

A block ```console holds commands after `$ `. Below each command stands what it prints on a terminal of 100 columns. A
line `…` stands for any lines that the page leaves out. Versions are not compared. Pictures are outputs of commands too.
"""

import argparse
import difflib
import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
LEFT_OUT = "…"
# drawings without matplotlib: the same bytes on every machine
PICTURES = {
    "alexnet.svg": "archscope draw alexnet",
    "inception-block.svg": "archscope draw inception-block",
    "residual-block.svg": "archscope draw residual-block",
}


class Example(NamedTuple):
    """A command, and what a page shows of its output."""

    command: str
    shown: tuple[str, ...]


def examples_of(block: str) -> list[Example]:
    """The commands of one block."""
    parts = [part.splitlines() for part in re.split(r"\n(?=\$ )", block.rstrip("\n"))]
    return [Example(lines[0].removeprefix("$ "), tuple(lines[1:])) for lines in parts]


def examples() -> dict[Example, list[str]]:
    """Every example once, and the pages that show it."""
    found: dict[Example, list[str]] = {}
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for example in examples_of(block):
                found.setdefault(example, []).append(page.relative_to(ROOT).as_posix())
    return found


@cache
def output(command: str) -> tuple[str, ...]:
    """The lines that a command prints, run in this process at the root of the repository. Each command runs once."""
    from typer.testing import CliRunner

    from archscope.cli import app

    program, *arguments = shlex.split(command)
    if program != "archscope":
        raise ValueError(f"only archscope is run, not {command!r}")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return tuple(CliRunner().invoke(app, arguments, env={"COLUMNS": "100"}).output.splitlines())
    finally:
        os.chdir(before)


def plain(line: str) -> str:
    """A line without the versions in it."""
    return re.sub(r"(archscope|torch) \d\S*?(?=[,.]?(\s|$))", r"\1 …", line.rstrip())


def difference(example: Example) -> str | None:
    """The first line on a page that the command does not print there; None when all is well."""
    printed = [plain(line) for line in output(example.command)]
    at = 0
    anywhere = False
    for line in map(plain, example.shown):
        if line.strip() == LEFT_OUT:
            anywhere = True
            continue
        while anywhere and at < len(printed) and printed[at] != line:
            at += 1
        if at >= len(printed) or printed[at] != line:
            return f"not printed here: {line!r}" + (f", but {printed[at]!r}" if at < len(printed) else "")
        at, anywhere = at + 1, False
    return None if anywhere or at == len(printed) else f"not on the page: {printed[at]!r}"


def updated(example: Example) -> Example:
    """The example with what the command prints now; what the page left out stays left out."""
    if difference(example) is None:
        return example
    printed = output(example.command)
    if not example.shown:  # a new example: all of it
        return Example(example.command, printed)
    parts: list[list[str]] = [[]]
    for line in example.shown:
        if line.strip() == LEFT_OUT:
            parts.append([])
        else:
            parts[-1].append(line)
    lines: list[str] = []
    at = 0
    for number, part in enumerate(parts):
        if number:
            lines.append(LEFT_OUT)
        if not part:
            continue
        start = at if number == 0 else _nearest(part[0], printed, at)
        end = len(printed) if number == len(parts) - 1 else _nearest(part[-1], printed, start + len(part) - 1) + 1
        lines += printed[start:end]
        at = end
    return Example(example.command, tuple(lines))


def _nearest(line: str, printed: tuple[str, ...], first: int) -> int:
    """Where the line that is most like this one is printed, at `first` or later."""
    ratios = [difflib.SequenceMatcher(None, line, other).ratio() for other in printed[first:]]
    return first + ratios.index(max(ratios)) if ratios else len(printed)


def picture(name: str) -> str:
    """The text of a picture, as its command writes it."""
    return "\n".join(output(PICTURES[name])) + "\n"


def main() -> int:
    """Check every page, or write it anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write what the commands print into the pages")
    parser.add_argument("pages", nargs="*", help="only pages whose path contains one of these words")
    options = parser.parse_args()
    wrong = 0
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if options.pages and not any(word in name for word in options.pages):
            continue
        text = page.read_text(encoding="utf-8")
        for block in dict.fromkeys(BLOCK.findall(text)):
            found = examples_of(block)
            for example in found:
                if said := difference(example):
                    wrong += 1
                    print(f"{name}: {example.command}\n    {said}")
            if options.update:
                now = "".join("\n".join((f"$ {e.command}", *e.shown)) + "\n" for e in map(updated, found))
                text = text.replace(block, now)
        if options.update:
            page.write_text(text, encoding="utf-8")
    for name in PICTURES:
        path = ROOT / "docs" / "images" / name
        if not path.exists() or path.read_text(encoding="utf-8") != picture(name):
            wrong += 1
            print(f"{path.relative_to(ROOT)}: not what `{PICTURES[name]}` draws")
            if options.update:
                path.write_text(picture(name), encoding="utf-8")
    return 1 if wrong and not options.update else 0


if __name__ == "__main__":
    raise SystemExit(main())
