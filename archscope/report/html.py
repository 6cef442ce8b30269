"""The interactive page: one HTML file that opens from disk and asks nothing of a network.

Tables are Tabulator's, the plot is Plotly's; both stand in `assets/` with their licences and are written into the
page. `assets/app.js` only joins them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from archscope.report.data import SIDES, page_data
from archscope.report.pages import ReportModel
from archscope.report.runs import Row

ASSETS = Path(__file__).with_name("assets")


def page_of(subjects: Iterable[ReportModel], sides: Iterable[int] = SIDES, runs: Sequence[Row] = ()) -> str:
    """The text of the page. runs: rows of bench, which have a section of their own."""
    data = json.dumps(page_data(subjects, list(sides), runs), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "STYLES": "\n".join(map(_asset, ("tabulator.min.css", "page.css"))),
        "LICENCES": escape(_asset("LICENSES.txt")),
        "DATA": data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        "TABLES": _script(_asset("tabulator.min.js")),
        "APP": _script(_asset("app.js")),
        "PLOTS": _script(_asset("plotly-basic.min.js")),  # last: the table need not wait for it
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return re.sub(r"/[/*]# sourceMappingURL=\S+( \*/)?", "", (ASSETS / name).read_text(encoding="utf-8"))


def _script(text: str) -> str:
    """A script within HTML must not close itself."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
