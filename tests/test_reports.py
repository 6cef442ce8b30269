"""What is committed under reports/ is what the program prints today, versions aside."""

import re
from pathlib import Path

from typer.testing import CliRunner

from archscope import cli

REPORTS = Path(__file__).parent.parent / "reports"


def test_the_table_of_all_networks_is_up_to_date() -> None:
    """When it is not: archscope table --models all --format md --output reports/models.md"""
    result = CliRunner().invoke(cli.app, ["table", "--models", "all", "--format", "md"])
    assert result.exit_code == 0
    committed = (REPORTS / "models.md").read_text(encoding="utf-8")
    assert _unversioned(result.stdout) == _unversioned(committed)


def _unversioned(text: str) -> str:
    return re.sub(r"(archscope|torch) \d[^,*]*", r"\1 …", text)
