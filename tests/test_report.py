"""The report: what is committed is what `archscope report` writes today, and its pages say what they should."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from archscope import Trace, totals
from archscope.bench.results import read
from archscope.report.graph import graph_of
from archscope.report.grid import grid_of
from archscope.report.pages import ReportModel, marked, model_page, overview, pages_of, parts_table, plots_of, squeezed
from archscope.report.runs import drawable
from archscope.sources.spec import expand, parse

EXAMPLE = Path(__file__).parent.parent / "examples" / "runs.jsonl"
REPORTS = Path(__file__).parent.parent / "reports"
LIMIT = 4_000_000  # bytes, all of it


@pytest.fixture(scope="module")
def subjects(traced: Callable[..., Trace]) -> list[ReportModel]:
    return [ReportModel(spec, traced(spec.text)) for spec in expand(["all"])]


@pytest.fixture(scope="module")
def pages(subjects: list[ReportModel]) -> dict[str, str]:
    names = plots_of(subjects, [subjects[0].trace])
    return pages_of(subjects, {name: f"plots/{name}.svg" for name in names})


def test_the_committed_pages_are_up_to_date(pages: dict[str, str]) -> None:
    """When they are not: archscope report"""
    for path, text in pages.items():
        committed = REPORTS / path
        assert committed.exists(), f"{path} is missing: archscope report"
        assert committed.read_text(encoding="utf-8") == text, f"{path} is stale: archscope report"


def test_the_committed_plots_are_up_to_date(subjects: list[ReportModel]) -> None:
    """The digest of the numbers stands in the file, so nothing is drawn here and no version of matplotlib matters."""
    for name, (kind, data) in plots_of(subjects, grid_of(expand(["mobilenet-v1"]))).items():
        text = (REPORTS / f"plots/{name}.svg").read_text(encoding="utf-8")
        assert marked(kind, data) in text, f"plots/{name}.svg is stale: archscope report"


def test_nothing_else_is_committed(pages: dict[str, str]) -> None:
    committed = {
        str(path.relative_to(REPORTS))
        for folder in ("models", "figures")
        for path in (REPORTS / folder).iterdir()
        if path.suffix in (".md", ".svg")
    }
    assert committed == {path for path in pages if path != "README.md"}
    assert sum(path.stat().st_size for path in REPORTS.rglob("*") if path.suffix != ".html") < LIMIT


def test_links_lead_somewhere(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            target = (REPORTS / path).parent / link
            assert target.exists(), f"{path} links to {link}"


def test_nothing_depends_on_a_day_or_a_version(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        assert not re.search(r"torch \d|\+cu\d|archscope \d|matplotlib|20[2-9]\d-\d\d-\d\d", text), path


def test_the_overview_has_every_network(pages: dict[str, str], subjects: list[ReportModel]) -> None:
    text = pages["README.md"]
    rows = [line for line in text.splitlines() if line.startswith("|[")]
    assert len(rows) == len(subjects)
    assert "|[alexnet](models/alexnet.md)|1×3×227×227|8|60,965,224|724,406,816|" in text
    assert f"in {len(subjects)} of {len(subjects)}:" in text


def test_a_page_has_facts_drawing_layers_and_what_was_verified(pages: dict[str, str]) -> None:
    text = pages["models/alexnet.md"]
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Drawing", "Where parameters and MACs sit", "Layers", "Verified", "What other tools would print",
    ]  # fmt: skip
    assert "- Paper: Krizhevsky, Sutskever, Hinton 2012" in text
    assert "- Parameters: 60,965,224" in text and "](../figures/alexnet.svg)" in text
    assert "```mermaid\n%%{init" in text
    assert "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55|11·11·3·96 + 96 = 34,944|34,944|105,415,200|✓|" in text
    assert "Parameters and MACs in total are those that were published or derived by hand." in text
    assert "misprinted" in text  # figure 2 of the paper prints 253,440 for 290,400
    assert "figures/" not in pages["models/resnet50.md"]


def test_parts_add_up(subjects: list[ReportModel]) -> None:
    for subject in subjects:
        found = totals(subject.trace)
        rows = parts_table(subject.trace).rows
        assert sum(row["params"] for row in rows) == found["params"], subject.spec.text
        assert sum(row["macs"] for row in rows) == found["macs"], subject.spec.text
        assert len(rows) <= 60


def test_rows_that_are_left_out_hold_nothing(pages: dict[str, str], subjects: list[ReportModel]) -> None:
    """The parameters and MACs of the rows that are shown are those of the network."""
    for subject in subjects:
        text = pages[f"models/{subject.file}.md"].partition("## Layers")[2].partition("## Verified")[0]
        head, _, *body = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
        for title, key in (("Parameters", "params"), ("MACs", "macs")):
            at = head.index(title)
            *rows, whole = [int(row[at].replace(",", "").replace("*", "") or 0) for row in body]
            assert sum(rows) == whole == totals(subject.trace)[key], (subject.spec.text, key)


def test_what_was_run_otherwise_is_not_held_against_what_is_published(traced: Callable[..., Trace]) -> None:
    subject = ReportModel(parse("lenet"), traced("lenet", "8x1x28x28"), "8x1x28x28")
    text = model_page(subject, None, "")
    assert "published or derived by hand" not in text and "LeCun et al. 1998, section" not in text
    assert "layers agree with their closed form" in text


def test_a_disagreement_is_told(traced: Callable[..., Trace]) -> None:
    from dataclasses import replace

    trace = traced("lenet")
    at = next(i for i, layer in enumerate(trace.layers) if layer.path == "conv1")
    config = {**trace.layers[at].config, "out_channels": 7}
    layers = tuple(y._replace(config=config) if i == at else y for i, y in enumerate(trace.layers))
    text = model_page(ReportModel(parse("lenet"), replace(trace, layers=layers)), None, "")
    assert "Disagrees: conv1:" in text and "layers agree" not in text


def test_the_name_of_a_page_is_a_name_of_a_file(traced: Callable[..., Trace]) -> None:
    subject = ReportModel(parse("mobilenet-v1@width=0.5"), traced("mobilenet-v1@width=0.5"))
    assert subject.file == "mobilenet-v1@width=0.5"
    assert ReportModel(parse("torchvision:resnet18"), subject.trace).file == "torchvision_resnet18"


def test_a_table_is_squeezed_and_says_the_same() -> None:
    assert (
        squeezed("| a   |   b |\n|:----|----:|\n| x y |   1 |\n\ntext  stays")
        == "|a|b|\n|:--|--:|\n|x y|1|\n\ntext  stays"
    )


def test_report_writes_a_folder(archscope: Callable, tmp_path: Path) -> None:
    ran = archscope("report", "--models", "lenet,rnn", "--out", str(tmp_path / "r"))
    assert ran.code == 0 and "2 models: 3 pages, 1 drawing and" in ran.out
    found = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").rglob("*.*")}
    assert {"README.md", "models/lenet.md", "models/rnn.md", "figures/lenet.svg", "plots/models.svg"} <= found
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.*")}
    assert archscope("report", "--models", "lenet,rnn", "--out", str(tmp_path / "r")).code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.*")} == before


def test_report_shows_results_of_bench(archscope: Callable, tmp_path: Path) -> None:
    row = {
        "schema": 1, "kind": "train", "key": "k", "model": "lenet", "recipe": "d2l", "data": "fashion-mnist",
        "device": "cpu", "device_name": "a processor", "threads": 1, "world_size": 1, "precision": "fp32", "seed": 0,
        "epochs": 10, "batch": 256, "flags": {"precision": "fp32"}, "status": "ok", "test_accuracy": 0.8045,
        "archscope": "0.1.0", "torch": "2.14.1",
    }  # fmt: skip
    (tmp_path / "runs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    place = str(tmp_path / "r")
    assert archscope("report", "--models", "lenet", "--out", place, "--bench", str(tmp_path / "runs.jsonl")).code == 0
    text = (tmp_path / "r" / "README.md").read_text(encoding="utf-8")
    assert "80.5 %" in text.partition("## Measured")[2] and "recipe d2l" in text
    assert not (tmp_path / "r" / "plots" / "curves.svg").exists()  # no epochs, no speed: nothing to draw
    ran = archscope("report", "--models", "lenet", "--out", place, "--bench", str(tmp_path / "no.jsonl"))
    assert ran.code == 2 and "cannot read" in ran.err


def test_report_draws_the_runs(archscope: Callable, tmp_path: Path) -> None:
    """Beside the tables, and up to date by their digest; the page of --html has them too."""
    place, page = tmp_path / "r", tmp_path / "p.html"
    words = ("report", "--models", "lenet", "--out", str(place), "--html", str(page), "--bench", str(EXAMPLE))
    ran = archscope(*words)
    assert ran.code == 0, ran.err
    text = (place / "README.md").read_text(encoding="utf-8").partition("## Measured")[2]
    assert text.index("|basic-cnn|") < text.index("](plots/curves.svg)") < text.index("](plots/speed.svg)")
    drawn = drawable(read([EXAMPLE]))
    assert set(drawn) == {"curves", "speed"}
    for name, (kind, data) in drawn.items():
        assert marked(kind, data) in (place / f"plots/{name}.svg").read_text(encoding="utf-8")
    assert '"model":"basic-cnn"' in page.read_text(encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.svg")}
    assert archscope(*words).code == 0  # nothing has changed, and nothing is drawn again
    assert {path: path.stat().st_mtime_ns for path in place.rglob("plots/*.svg")}.items() <= before.items()


def test_report_refuses_what_cannot_be_written(archscope: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    ran = archscope("report", "--models", "lenet", "--out", str(tmp_path / "file" / "r"))
    assert ran.code == 2 and "cannot write" in ran.err
    ran = archscope("report", "--models", "lenet", "--html", str(tmp_path / "no" / "p.html"))
    assert ran.code == 2 and "there is no folder" in ran.err
    assert "--out names no folder" in archscope("report", "--out", "").err


def test_the_graph_of_a_page_is_that_of_draw(pages: dict[str, str], traced: Callable[..., Trace]) -> None:
    from archscope.report.draw import mermaid

    assert mermaid(graph_of(traced("resnet18"))) in pages["models/resnet18.md"]


def test_the_sentence_on_two_panels_is_for_two_panels(subjects: list[ReportModel]) -> None:
    """Of a few networks the plot has one panel; the zoo has more than twelve of 50 million MACs, and smaller ones."""
    assert "On the left" in overview(subjects, {"models": "models.svg"})
    assert "On the left" not in overview(subjects[:2], {"models": "models.svg"})
