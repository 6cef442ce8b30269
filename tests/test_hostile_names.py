"""Names that other programs would read as commands: of HTML, Markdown, LaTeX, Mermaid, DOT, ANSI, spreadsheets, GitHub.

One record has every such name as a layer, a class, an operator, a parameter and a note, and one of them as the model.
Every command that shows names writes it in every format, and each format is read as its readers read it.
"""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_rows import row

from archscope import Trace, trace

HTML = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "'\"><svg/onload=alert(1)>", "&lt;b&gt;"]
MARKDOWN = ["`a`|b|[c](javascript:alert(1))", "![x](x:evil)", "**b**_i_~~s~~<!--", "a|b|c"]
LATEX = ["\\input{/etc/passwd}", "$\\write18{id}$", "a%b_c^d~e&f#g{h}", "$\\frac{1", "a_b^{"]
MERMAID = ['"];click n0 "javascript:alert(1)"', "%%{init: {}}%%", "end", "A-->B:::x;style A fill:red"]
DOT = ['"];}digraph{x[label="', "\\N\\G\\", "<<b>x</b>>"]
ANSI = ["\x1b[31mred\x1b[0m\x07", "a\r\nb\x9b31m\x7f\x00", "\x1b]0;title\x07", "\u202etxt\u2028next"]
FORMULAS = ['=HYPERLINK("x:evil","x")', "+1+1", "-1+1", "@SUM(1)", "\t=1"]
GITHUB = ["::error file=a::b", "a\n::set-output name=x::y", " ::warning::w"]
NAMES = [*HTML, *MARKDOWN, *LATEX, *MERMAID, *DOT, *ANSI, *FORMULAS, *GITHUB]
MODELS = [HTML[1], MARKDOWN[0], LATEX[3], MERMAID[0], DOT[0], ANSI[1], FORMULAS[0], GITHUB[0], GITHUB[1]]


@pytest.fixture(scope="module")
def record() -> Trace:
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for _ in NAMES[::2]:
        layers += [nn.Linear(8, 8), nn.ReLU()]
    made = trace(nn.Sequential(*layers[: len(NAMES)]), torch.zeros(1, 8))
    names = {str(i): name.replace(".", ",") for i, name in enumerate(NAMES)}

    def renamed(path: str) -> str:
        head, dot, rest = path.partition(".")
        return f"{names.get(head, head)}{dot}{rest}"

    body = json.loads(made.to_json())
    for i, layer in enumerate(body["layers"]):
        layer[0] = renamed(layer[0])
        layer[2] = layer[2] if i % 5 else NAMES[i % len(NAMES)]  # some have a class of that name
        layer[4]["why"] = NAMES[i % len(NAMES)]
    body["modules"] = {renamed(path): NAMES[-i] if i % 7 == 0 else kind
                       for i, (path, kind) in enumerate(body["modules"].items())}  # fmt: skip
    for param in body["params"]:
        param[0] = renamed(param[0])
    for i in range(0, len(body["ops"]), 9):  # operators that nobody knows
        body["ops"][i][0] = NAMES[i % len(NAMES)]
    body["notes"] = list(NAMES)
    body["versions"]["torch"] = HTML[0]
    return Trace.from_json(json.dumps(body))


# -------------------------------------------------------------------------------------------------- how each is read


def still(text: str) -> None:
    """What holds for every format: nothing moves the cursor, and no line is a command of GitHub's runner."""
    bad = {c for c in text if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2028\u2029")}
    assert not bad
    assert not [line for line in re.split(r"[\n\r]", text) if line.lstrip().startswith("::")]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def html(text: str) -> None:
    still(text)
    tags = Tags()
    tags.feed(text)
    allowed = {"div", "style", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li", "p"}
    assert {tag for tag, _ in tags.found} <= allowed
    assert {key for _, attrs in tags.found for key, _ in attrs} <= {"class", "scope"}


def markdown(text: str, links: bool = False) -> None:
    still(text)
    reader = (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    )
    kinds: set[str] = set()
    for token in reader.parse(text):
        for one in [token, *(token.children or [])]:
            kinds.add(one.type)
            if one.type in ("link_open", "image"):
                assert links and re.match(r"[\w./#-]*$", str(one.attrs.get("href", one.attrs.get("src")))), one
            if one.type in ("html_inline", "html_block"):
                known = r"\s*</?(details|summary|br|sub|sup|a id=\"[\w-]+\")>[^\n]*\n?"
                assert links and re.fullmatch(known, one.content), one
    assert not kinds & {"s_open"}, kinds
    tables = [line for line in text.splitlines() if line.startswith("|")]
    if tables and "table_open" in kinds:
        wide = {len(re.findall(r"(?<!\\)\|", line)) for line in tables[:3]}
        assert len(wide) == 1, "a name adds a column"


def latex(text: str) -> None:
    still(text)
    for name in ("input", "write", "immediate", "frac{1", "N", "G"):
        assert not re.search(rf"\\{re.escape(name)}(?![A-Za-z])", text.replace("\\noindent", "")), name
    inner = re.sub(r"\\[&%$#_{}\\]|(?m:^%.*$)", "", text)
    assert inner.count("$") % 2 == 0
    assert inner.count("{") == inner.count("}")
    assert "%" not in inner


def comma_separated(text: str) -> None:
    still(text)
    lines = list(csv.reader(io.StringIO(text)))
    assert len({len(line) for line in lines if len(line) > 2}) <= 1
    for line in lines:
        for cell in line:
            assert not re.match(r"[=+@\t\r]|-(?!\d+(\.\d+)?$)", cell), cell


def plain_json(text: str) -> None:
    still(text)
    json.loads(text)


def svg(text: str) -> None:
    still(text)
    allowed = """svg g rect path text tspan title line polygon polyline circle ellipse defs marker style clipPath use
        metadata RDF Work type date format creator Agent description
        source publisher rights""".split()
    for element in ElementTree.fromstring(text).iter():
        assert element.tag.rpartition("}")[2] in allowed
        assert not [key for key in element.attrib if key.lower().startswith("on")]
        assert not [value for value in element.attrib.values() if "javascript" in value.lower()]


def mermaid(text: str) -> None:
    still(text)
    label = r'"[^"`<>]*(<br/>[^"`<>]*)*"'
    forms = rf"""%%{{init: .*}}%%|flowchart TD|\s+n\d+(\[|\(\[){label}(\]|\]\)):::\w+|\s+end|
        \s+subgraph\ b\d+\[{label}\]|\s+n\d+\ -->\|{label}\|\ n\d+|\s+classDef\ .*|\s+class\ [b\d,]+\ frame"""
    for line in text.splitlines():
        assert re.fullmatch(re.sub(r"\n\s*", "", forms), line), line


def dot(text: str) -> None:
    still(text)
    rest = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    assert rest.count("{") == rest.count("}") == 1 + rest.count("subgraph")
    assert not re.search(r"<|click|HYPERLINK|alert", rest)


READ: dict[str, Callable[[str], None]] = {
    "terminal": still, "md": markdown, "html": html, "latex": latex, "csv": comma_separated, "json": plain_json,
    "svg": svg, "mermaid": mermaid, "dot": dot,
}  # fmt: skip
TABLES = ("terminal", "md", "html", "latex", "csv", "json")
COMMANDS = [
    *((f"trace net.json --format {name}", name) for name in TABLES),
    *((f"table net.json lenet.json --format {name}", name) for name in TABLES),
    *((f"table net.json --as all --format {name}", name) for name in TABLES),
    *((f"verify net.json --format {name}", name) for name in TABLES),
    *((f"reconcile net.json --format {name}", name) for name in TABLES),
    *((f"diff net.json lenet.json --format {name}", name) for name in TABLES),
    *((f"explain net.json --format {name}", name) for name in ("terminal", "md", "latex", "json")),
    *((f"explain net.json * --format {name}", name) for name in ("terminal", "md", "latex", "json")),
    *((f"quiz net.json --format {name}", name) for name in ("md", "csv")),
    *((f"quiz net.json --answers --format {name}", name) for name in ("md", "csv")),
    *((f"draw net.json --format {name}", name) for name in ("svg", "mermaid", "dot")),
    *((f"bench compare runs.jsonl --format {name}", name) for name in TABLES),
    *((f"grade sheet.md --all --format {name}", name) for name in TABLES),
    *((f"verify-table table.md --format {name}", name) for name in TABLES),
    *((f"plot {kind} net.json -o plot.svg", "plot") for kind in ("layers", "share", "models")),
    *((f"plot {kind} runs.jsonl -o plot.svg", "plot") for kind in ("curves", "speed")),
    *((f"check --lock net.lock --format {name}", name) for name in ("md", "json", "text")),
    ("check --lock net.lock --format github", "github"),
    ("check --lock net.lock --format junit", "junit"),
]  # fmt: skip


@pytest.fixture
def folder(record: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def made(model: str) -> None:
        monkeypatch.chdir(tmp_path)
        mine = replace(record, model=model)
        Path("net.json").write_text(mine.to_json(), encoding="utf-8")
        less = replace(mine, notes=(), layers=(*mine.layers[:-1], mine.layers[-1]._replace(kind="Other")))
        Path("lenet.json").write_text(less.to_json(), encoding="utf-8")
        rows = [row(model=name, error=name, status="error" if i % 2 else "ok") for i, name in enumerate(NAMES)]
        rows += [row(model=model, device_name=model, sample=model), row(model=model, device_name=model, seed=1)]
        Path("runs.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows[-4:]), encoding="utf-8")
        cells = "".join(f"| {' '.join(name.split()).replace('|', '')} | {name.split()[0]} | 1 |\n" for name in NAMES)
        Path("table.md").write_text(f"| Model | Params | MACs |\n|---|---|---|\n{cells}", encoding="utf-8")
        rows_of_sheet = "".join(
            f"| {name.split()[0].replace('|', '')} | {' '.join(name.split())} | 1 |\n" for name in NAMES
        )
        answers = f"| conv1 | {model.split()[0].replace('|', '')} | 1 |\n{rows_of_sheet}"
        Path("sheet.md").write_text(
            f"- model: `lenet`\n- input: `1x1x28x28`\n\n| layer | output | parameters |\n|---|---|---|\n{answers}",
            encoding="utf-8",
        )

    return made


@pytest.mark.parametrize(("command", "form"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_names_are_inert(command: str, form: str, folder: Any, archscope: Any) -> None:
    for model in MODELS if form not in ("plot",) else MODELS[2:4]:
        folder(model)
        if "net.lock" in command:
            _locked()
        for width in (None, "40") if form == "terminal" else (None,):
            ran = archscope(*command.split(" "), env={"COLUMNS": width})
            assert "this is a bug" not in ran.err, ran.err
            assert ran.code in (0, 1) or "explain" in command, ran.err
            still(ran.err)
            out = Path("plot.svg").read_text(encoding="utf-8") if form == "plot" else ran.out
            if form == "github":
                _github(out)
            elif form == "junit":
                still(out)
                ElementTree.fromstring(out)
            elif form == "md" and command.startswith("check"):
                markdown(out, links=True)
            else:
                READ.get({"plot": "svg", "text": "terminal"}.get(form, form), still)(out)


def _locked() -> None:
    """A lock of net.json whose layers are other ones."""
    from archscope.gate.budget import Config
    from archscope.gate.judge import look, plan_to_lock
    from archscope.gate.lock import text_of

    outcome = look(next(iter(plan_to_lock(Config("."), "net.lock", ["net.json"], {}).targets)),
                   plan_to_lock(Config("."), "net.lock", ["net.json"], {}))  # fmt: skip
    entry = outcome.after
    assert entry is not None
    lines = tuple(line._replace(params=line.params + 1, kind=f"{line.kind}x") for line in entry.lines)
    Path("net.lock").write_text(text_of({"net.json": replace(entry, lines=lines)}), encoding="utf-8")


def _github(out: str) -> None:
    """Commands of the report itself, and none of a name's."""
    lines = [line for line in out.splitlines() if line.lstrip().startswith("::")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"::(error|warning) file=[^:,]*,line=\d+,title=[^:,]*::.*", line), line
    still("\n".join(line for line in out.splitlines() if line not in lines))


def test_pages(folder: Any, archscope: Any) -> None:
    for model in MODELS:
        folder(model)
        ran = archscope("report", "--models", "net.json,lenet.json", "--out", "pages", "--bench", "runs.jsonl")
        assert ran.code == 0, ran.err
        pages = list(Path("pages").rglob("*.md"))
        assert len(pages) >= 2
        for page in pages:
            markdown(page.read_text(encoding="utf-8"), links=True)
        for picture in Path("pages").rglob("*.svg"):
            svg(picture.read_text(encoding="utf-8"))


def test_the_checks_can_fail() -> None:
    """Each reader on a name that was not made inert."""
    for name, bad in {
        "terminal": "\x1b[31m", "md": "a [c](x:evil)", "html": "<div><img src=x></div>", "latex": "\\input{a}",
        "csv": "a,b,c\n=1,2,3\n", "json": '"\x9b"', "svg": "<svg><script/></svg>", "mermaid": '  n0["a"b"]:::x',
        "dot": 'digraph "a" { x[label="a"b{"]; }',
    }.items():  # fmt: skip
        with pytest.raises((AssertionError, ValueError)):
            READ[name](bad)
    for line in ("::error::x", "  ::warning::y"):
        with pytest.raises(AssertionError):
            still(f"a\n{line}")


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")
def test_the_page_in_a_browser(folder: Any, archscope: Any) -> None:
    """No name becomes an element, a dialog or a request; every view is opened, and the search field gets the names."""
    sync = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for model in (HTML[0], HTML[1], HTML[2], MARKDOWN[0]):
            folder(model)
            ran = archscope("report", "--models", "net.json,lenet.json", "--html", "page.html", "--bench", "runs.jsonl")
            assert ran.code == 0, ran.err
            heard: list[str] = []
            page = browser.new_page()
            page.on("dialog", lambda dialog, heard=heard: (heard.append(dialog.message), dialog.dismiss()))
            page.on("console", lambda message, heard=heard: heard.append(message.text))
            page.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
            file = Path("page.html").absolute().as_uri()
            page.on("request", lambda request, heard=heard: heard.append(request.url))
            page.goto(file)
            page.wait_for_selector("html[data-ready=yes][data-plot=yes]", timeout=20_000)
            for tab in page.query_selector_all("a[href^='#']"):
                tab.evaluate("tab => tab.click()")
                page.wait_for_timeout(30)
            page.wait_for_timeout(200)
            assert [text for text in heard if not text.startswith((file, "data:", "blob:"))] == []
            assert page.evaluate("document.querySelectorAll('img[src=x], [onerror], [onload]').length") == 0
            assert page.evaluate("[...document.scripts].filter(s => s.textContent.startsWith('alert')).length") == 0
            assert model.split()[0] in page.evaluate("document.body.innerText")
            page.close()
        browser.close()
