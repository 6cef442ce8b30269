"""What MkDocs asks for while it builds the site: pages that are made from the code, and the notebook."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

COMMANDS = "<!-- commands -->"  # where reference/cli.md has every command
TOOLS = "<!-- tools -->"  # where explanation/tools.md has the other tools
DOCS = Path(__file__).parent


def command_reference() -> str:
    """Every command with its arguments and options, from the tree that `--help` prints."""
    from typer.main import get_command

    from archscope import cli

    group: Any = get_command(cli.app)
    parts = []
    for task, commands in cli.COMMANDS.items():
        parts.append(f"## {task}")
        for name in commands:
            parts.append(_command(f"archscope {name}", group.commands[name]))
    return "\n\n".join(parts)


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    parts = [
        f"### {name} {{ #{name.split()[-1]} }}",
        f"```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```",
    ]
    for paragraph in (command.help or "").split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0] == "\b":  # examples, each with a remark after some spaces
            shown = [re.sub(r"(?<=\S)( {2,})(?=\S)", r"\1# ", line.strip(), count=1) for line in lines[1:]]
            parts.append("```sh\n" + "\n".join(shown) + "\n```")
        else:
            parts.append(" ".join(lines))
    for title, kind in (("Argument", "argument"), ("Option", "option")):
        records = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        rows = [f"| `{_name(names)}` | {_cell(escape(text, quote=False))} |" for names, text in filter(None, records)]
        if rows:
            parts.append("\n".join([f"| {title} | Meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


def _name(names: str) -> str:
    """`MODEL <str>` without the type, which the meaning says better."""
    return _cell(re.sub(r" <[^>]*>$", "", names))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def tool_reference() -> str:
    """How each tool counts, as archscope's model of it says."""
    from archscope.peers.tools import COUNTERS

    rows = [
        f"| `{tool.name}` | {tool.title} | {tool.version} | {tool.calls} | {tool.unit} | {_cell(tool.means)} |"
        for tool in COUNTERS.values()
    ]
    head = "| name | tool | version | its word | unit | counts |\n| --- | --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def notebook(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and what the code printed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            shown = data.get("image/svg+xml") or data.get("text/html")
            if shown:  # without blank lines, at which Markdown would end the HTML
                lines = "".join(shown).splitlines()
                parts.append("<div>" + "\n".join(line.strip() for line in lines if line.strip()) + "</div>")
            else:
                parts.append("```text\n" + "".join(data["text/plain"]).rstrip() + "\n```")
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put what is made from the code into its page."""
    for mark, text in ((COMMANDS, command_reference), (TOOLS, tool_reference)):
        if mark in markdown:
            markdown = markdown.replace(mark, text())
    return markdown


def on_files(files: Any, config: Any) -> Any:
    """A page for each notebook."""
    from mkdocs.structure.files import File

    for path in sorted(DOCS.rglob("*.ipynb")):
        address = path.relative_to(DOCS).with_suffix(".md").as_posix()
        files.append(File.generated(config, address, content=notebook(path)))
    return files
