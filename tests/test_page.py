"""The interactive page in a real browser: Chromium driven by Playwright, which downloads nothing here."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_rows import row

from archscope import Trace, totals
from archscope.bench.results import read
from archscope.report.data import moving, page_data
from archscope.report.html import ASSETS, _asset, _script, page_of
from archscope.report.pages import ReportModel
from archscope.sources.spec import parse

MODELS = ("lenet", "rnn", "alexnet", "resnet18", "mobilenet-v1")
SIDES = (160, 224, 227)
EXAMPLE = Path(__file__).parent.parent / "examples" / "runs.jsonl"
RUNS = (
    row(params=61_706, test_accuracy=0.5),
    row(seed=1, test_accuracy=0.75),
    row(model="<b>mine</b>", params=None, examples_per_second=3_000.0),
    row(precision="bf16", peak_memory=1_000_000),
    row(kind="infer", recipe="", data="", batch=8, latency_ms_p50=2.5, history=None),
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def subjects(traced: Callable[..., Trace]) -> list[ReportModel]:
    return [ReportModel(parse(name), traced(name)) for name in MODELS]


@pytest.fixture(scope="module")
def file(subjects: list[ReportModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_of(subjects, SIDES, RUNS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """`opened("phone", "#alexnet")`: the page, loaded. No console message and no request may come of it."""
    contexts = []
    heard: list[str] = []

    def open_page(size: str = "desktop", hash: str = "", **options: Any) -> Any:
        width, height = WIDTHS[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: None if request.url.startswith(file.as_uri()) else heard.append(request.url))
        page.goto(file.as_uri() + hash)
        page.wait_for_selector("html[data-ready=yes][data-plot=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in heard if not text.startswith(("data:", "blob:"))] == [], "silent, and nothing is asked for"


def until(page: Any, condition: str, seconds: float = 15) -> None:
    """Wait for a condition of the page, whose policy lets nothing be evaluated within it."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def rows(page: Any, table: str, count: int) -> None:
    until(page, f"document.querySelectorAll('{table}').length === {count}")


def column(page: Any, field: str) -> list[str]:
    """The texts of a column, top to bottom."""
    return page.locator(f'#models .tabulator-row .tabulator-cell[tabulator-field="{field}"]').all_inner_texts()


def named(page: Any) -> list[str]:
    return column(page, "model")


# ------------------------------------------------------------------------------------------- without a browser


def test_the_data_is_raw_and_exact_at_every_stop(subjects: list[ReportModel], traced: Callable[..., Trace]) -> None:
    """Each figure of the slider is that of a run at that size: compared with runs of their own."""
    data = page_data(subjects, SIDES)
    models = {model["model"]: model for model in data["models"]}
    assert models["alexnet"]["params"] == 60_965_224
    for name in ("resnet18", "mobilenet-v1"):
        for side in SIDES:
            alone = traced(name, f"3x{side}x{side}")
            assert models[name]["sizes"][str(side)] == moving(alone)
            assert models[name]["sizes"][str(side)]["macs"] == totals(alone)["macs"]
    assert models["alexnet"]["sizes"]["224"] is None and models["alexnet"]["sizes"]["227"] is not None
    assert models["rnn"]["sizes"] == {}
    keys = [c["key"] for c in data["layer_columns"]]
    conv1 = dict(zip(keys, models["alexnet"]["layers"][0], strict=True))
    assert conv1["formula"] == "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55" and conv1["params"] == 11 * 11 * 3 * 96 + 96


def test_the_page_holds_all_it_needs(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    shell = text.replace(_script(_asset("plotly-basic.min.js")), "").replace(_script(_asset("tabulator.min.js")), "")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(\s*[\"']?http", shell)
    assert "sourceMappingURL" not in text and "MIT" in text
    assert len(text.encode()) < 6_000_000
    assert text.count("</script>") == 4  # the data, two libraries, and what joins them
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert len(json.loads(data)["models"]) == len(MODELS)
    licences = (ASSETS / "LICENSES.txt").read_text(encoding="utf-8")
    assert "Oli Folkerd" in licences and "Plotly" in licences


def test_a_name_cannot_leave_the_data(traced: Callable[..., Trace]) -> None:
    from dataclasses import replace

    trace = replace(traced("lenet"), notes=("</script><script>alert(1)</script>",))
    text = page_of([ReportModel(parse("lenet"), trace)], ())
    assert "</script><script>alert" not in text and text.count("</script>") == 4


# ---------------------------------------------------------------------------------------------- in the browser


@pytest.mark.parametrize("size", WIDTHS)
def test_sort(size: str, opened: Callable[..., Any]) -> None:
    page = opened(size)
    assert named(page) == list(MODELS)
    page.locator('#models .tabulator-col[tabulator-field="params"] .tabulator-col-title').click()
    assert named(page) == ["alexnet", "resnet18", "mobilenet-v1", "lenet", "rnn"]
    header = page.locator('#models .tabulator-col[tabulator-field="params"]')
    assert header.get_attribute("aria-sort") == "descending"
    title = header.locator(".tabulator-col-title")
    title.focus()
    page.keyboard.press("Enter")
    assert named(page) == ["rnn", "lenet", "mobilenet-v1", "resnet18", "alexnet"]


def test_unknown_is_sorted_last(opened: Callable[..., Any]) -> None:
    page = opened()
    title = page.locator('#models .tabulator-col[tabulator-field="receptive_field"] .tabulator-col-title')
    for _ in range(2):  # rnn has no receptive field
        title.click()
        assert named(page)[-1] == "rnn"


@pytest.mark.parametrize("size", WIDTHS)
def test_filter(size: str, opened: Callable[..., Any]) -> None:
    page = opened(size)
    page.fill("#find", "ResNet he zhang")  # a name and its authors
    rows(page, "#models .tabulator-row", 1)
    assert "1 of 5 models" in page.inner_text("#count") and named(page) == ["resnet18"]
    page.fill("#find", "krizhevsky")
    rows(page, "#models .tabulator-row", 1)
    assert named(page) == ["alexnet"]
    page.fill("#find", "")
    for wanted, left in (
        ("> 10 M", ["alexnet", "resnet18"]),
        ("1k..5M", ["lenet", "mobilenet-v1"]),
        ("61,706", ["lenet"]),
    ):
        box = page.locator('#models .tabulator-col[tabulator-field="params"] input')
        box.fill("")
        box.press_sequentially(wanted)
        shown = ",".join(f"#{name}" for name in left)
        links = "[...document.querySelectorAll('#models .tabulator-row a')]"
        until(page, f"{links}.map((link) => link.hash).join() === '{shown}'")
        assert named(page) == left


def test_columns_units_and_convention(opened: Callable[..., Any], subjects: list[ReportModel]) -> None:
    page = opened()
    page.click("#columns-box summary")
    page.get_by_label("Neurons", exact=True).check()
    assert "659,272" in column(page, "neurons")
    page.get_by_label("FLOPs", exact=True).uncheck()
    assert not page.locator('#models .tabulator-col[tabulator-field="flops"]').is_visible()
    page.select_option("#units", "scaled")
    assert "60.97 M" in column(page, "params")
    page.select_option("#units", "exact")
    page.select_option("#convention", "torch")
    alexnet = next(s.trace for s in subjects if s.spec.text == "alexnet")
    assert (
        column(page, "macs")[MODELS.index("alexnet")] == f"{2 * totals(alexnet)['macs']:,}"
    )  # PyTorch's counter says 2·MACs
    assert (
        "FLOP by torch FlopCounterMode" in page.locator('#models .tabulator-col[tabulator-field="macs"]').inner_text()
    )


@pytest.mark.parametrize("size", WIDTHS)
def test_the_slider_shows_runs_at_other_sizes(
    size: str, opened: Callable[..., Any], traced: Callable[..., Trace]
) -> None:
    page = opened(size)
    page.locator("#side").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#side-text") == "160×160"
    assert page.locator("#side").get_attribute("aria-valuetext") == "160×160"
    macs = dict(zip(named(page), column(page, "macs"), strict=True))
    # Howard et al. 2017, table 7: 290 million at 160
    assert macs["mobilenet-v1"] == f"{totals(traced('mobilenet-v1', '3x160x160'))['macs']:,}" == "290,675,200"
    assert macs["alexnet"] == "does not run" and macs["rnn"] == "160"
    assert column(page, "input")[named(page).index("mobilenet-v1")] == "1×3×160×160"
    assert "do not run on 160" in page.inner_text("#count")
    page.keyboard.press("End")
    assert dict(zip(named(page), column(page, "macs"), strict=True))["alexnet"] == "724,406,816"
    page.keyboard.press("Home")
    assert page.inner_text("#side-text") == "each model’s own"


@pytest.mark.parametrize("size", WIDTHS)
def test_open_a_model(size: str, opened: Callable[..., Any]) -> None:
    page = opened(size)
    page.get_by_role("link", name="alexnet").click()
    page.wait_for_selector("#panes .tabulator-row")
    assert page.url.endswith("#alexnet")
    assert "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55" in page.locator("#panes").inner_text()
    assert "misprinted" in page.locator("#panes").inner_text()
    assert page.evaluate("document.activeElement.id") == "detail-heading"
    page.click("#close")
    assert not page.locator("#detail").is_visible() and "#" not in page.url


def test_deep_links_and_two_models_side_by_side(opened: Callable[..., Any]) -> None:
    page = opened("desktop", "#resnet18")
    assert page.inner_text("#detail-heading") == "resnet18"
    page.select_option("#beside", "mobilenet-v1")
    rows(page, "#panes .tabulator", 2)
    assert page.url.endswith("#resnet18,mobilenet-v1")
    facts = page.locator("#facts tr", has_text="Parameters").first.inner_text().split("\t")
    assert facts[1:3] == ["11,689,512", "4,231,976"] and facts[3] == f"{4231976 / 11689512:.3g}×"
    page.go_back()
    rows(page, "#panes .tabulator", 1)
    assert not opened("desktop", "#nothing-of-that-name").locator("#detail").is_visible()


def test_the_plot_opens_models_and_changes_its_axes(opened: Callable[..., Any]) -> None:
    page = opened()
    assert page.locator("#plot .point").count() == 5
    page.select_option("#x", "receptive_field")
    rows(page, "#plot .point", 4)  # rnn has none
    assert "Receptive field" in page.locator("#plot .xtitle").text_content()
    page.locator("#plot").scroll_into_view_if_needed()
    point = page.locator("#plot .point").first
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#plot .hovertext")
    assert "Parameters:" in page.locator("#plot .hovertext").text_content()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#panes .tabulator-row")


@pytest.mark.parametrize("form", ["md", "latex", "csv"])
def test_copy(form: str, opened: Callable[..., Any]) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.locator('#models .tabulator-col[tabulator-field="params"] .tabulator-col-title').click()
    page.click(f"[data-copy={form}]")
    until(page, "document.getElementById('copied').textContent !== ''")
    text = page.evaluate("navigator.clipboard.readText()").replace("\r\n", "\n")
    lines = text.splitlines()
    if form == "md":
        assert lines[0].startswith("| Model | Input | Depth | Parameters | MACs |") and "--:" in lines[1]
        assert lines[2].startswith("| alexnet | 1×3×227×227 | 8 | 60,965,224 | 724,406,816 |")
    elif form == "latex":
        assert lines[0] == r"\begin{tabular}{llrrrrrrrl}" and lines[-1] == r"\end{tabular}"
        assert lines[4].startswith(r"alexnet & 1$\times$3$\times$227$\times$227 & 8 & 60,965,224")
        assert r"96.2 \%" in text
    else:
        assert lines[1].startswith("alexnet,1×3×227×227,8,60965224,724406816,")
    page.goto(page.url + "#lenet")
    page.wait_for_selector("#panes .tabulator-row")
    page.click(f"[data-copy-layers={form}]")
    until(page, "navigator.clipboard.readText().then((text) => text.includes('conv1'))")


@pytest.mark.parametrize("size", WIDTHS)
def test_dark_mode(size: str, opened: Callable[..., Any]) -> None:
    def colors(page: Any) -> tuple[str, str]:
        return tuple(
            page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        )

    light, dark = opened(size, color_scheme="light"), opened(size, color_scheme="dark")
    assert colors(light) == ("rgb(26, 26, 26)", "rgb(255, 255, 255)")
    assert colors(dark) == ("rgb(232, 232, 232)", "rgb(20, 23, 26)")
    light.click("#theme")
    assert colors(light) == colors(dark)
    assert light.locator("#theme").get_attribute("aria-pressed") == "true"
    assert "rgb(232, 232, 232)" in light.locator("#plot .xtitle").get_attribute("style")


def test_a_phone_scrolls_the_table_and_not_the_page(opened: Callable[..., Any]) -> None:
    page = opened("phone", "#alexnet,lenet")
    page.wait_for_selector("#panes .tabulator-row")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent).map(b => b.offsetHeight)"
    )
    assert min(sizes) >= 36


def test_what_a_screen_reader_is_told(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click("#columns-box summary")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button')].filter(e => e.offsetParent && !(e.labels?.length
        || e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("h1").count() == 1 and page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("slider").count() == 1
    page.keyboard.press("Tab")
    roles = page.locator("#models [role=columnheader]").count()
    assert roles >= 10 and page.locator("#models [role=grid], #models[role=grid]").count() >= 1


def test_print(opened: Callable[..., Any]) -> None:
    page = opened()
    page.emulate_media(media="print")
    assert not page.locator(".settings").is_visible() and not page.locator("#theme").is_visible()
    assert page.locator("#models .tabulator-row").count() == 5
    assert len(page.pdf(format="A4", landscape=True)) > 10_000
    page.emulate_media(media="screen")


def test_paper_is_white(opened: Callable[..., Any]) -> None:
    page = opened(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("html").get_attribute("data-theme") == "light"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"


# ------------------------------------------------------------------------------------------------------------ runs


def of_runs(page: Any, field: str) -> list[str]:
    return page.locator(f'#runs .tabulator-row .tabulator-cell[tabulator-field="{field}"]').all_inner_texts()


def test_the_runs_are_in_blocks_that_mix_nothing(subjects: list[ReportModel]) -> None:
    one, other, infer = page_data(subjects[:1], (), RUNS)["runs"]
    assert [r["model"] for r in one["rows"]] == ["lenet", "<b>mine</b>"] and one["rows"][0]["test_accuracy"] == 0.625
    assert one["points"][0]["test_accuracy"] == [0.625, 0.5, 0.75] and one["lines"][0]["seeds"] == 2
    assert "bf16" in other["title"] and len(other["rows"]) == 1
    assert infer["title"].startswith("Inference") and infer["points"] == infer["lines"] == []
    assert page_data(subjects[:1], ())["runs"] == []
    example = page_data(subjects[:1], (), read([EXAMPLE]))["runs"]
    assert [r["model"] for r in example[0]["rows"]] == ["lenet-bn", "mnist-cnn", "basic-cnn"]


@pytest.mark.parametrize("size", WIDTHS)
def test_runs_are_sorted_and_drawn(size: str, opened: Callable[..., Any]) -> None:
    page = opened(size)
    assert of_runs(page, "model") == ["lenet", "<b>mine</b>"] and of_runs(page, "test_accuracy") == ["62.5 %", "40.0 %"]
    title = page.locator('#runs .tabulator-col[tabulator-field="examples_per_second"] .tabulator-col-title')
    title.scroll_into_view_if_needed()
    title.click()
    assert of_runs(page, "examples_per_second") == ["3.000 K", "1.000 K"]
    assert "standard deviation" in page.inner_text("#run-notes")
    assert page.locator("#runs-plot .point").count() == 2 and page.locator("#runs-plot .errorbar").count() >= 1
    page.select_option("#figure", "curves")
    until(page, "document.querySelectorAll('#runs-plot .point').length === 2 * (2 + 2 + 2)")  # loss, test, train
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_another_block_of_runs(opened: Callable[..., Any]) -> None:
    page = opened()
    page.select_option("#block", "1")
    rows(page, "#runs .tabulator-row", 1)
    assert of_runs(page, "peak_memory") == ["1,000,000 B"]
    page.select_option("#units", "scaled")
    until(
        page, "document.querySelector('#runs [tabulator-field=peak_memory].tabulator-cell').textContent === '1.000 MB'"
    )
    page.select_option("#block", "2")
    rows(page, "#runs .tabulator-row", 1)
    assert of_runs(page, "latency_ms_p50") == ["2.5"]
    assert not page.locator("#runs-plot").is_visible() and not page.locator("#figure").is_visible()
    link = page.locator("#runs a", has_text="lenet")
    assert link.get_attribute("href") == "#lenet"
    link.click()
    page.wait_for_url("**#lenet")
    page.wait_for_selector("#panes .tabulator-row")


def test_without_runs_nothing_is_shown_of_them(subjects: list[ReportModel], browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(page_of(subjects[:1], ()), encoding="utf-8")
    page = browser.new_page()
    heard: list[str] = []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes][data-plot=yes]")
    assert not page.locator("#measured").is_visible() and not page.locator("#block option").count() and not heard
    page.close()


def test_a_batch_is_that_of_the_sizes_too(traced: Callable[..., Trace]) -> None:
    subject = ReportModel(parse("lenet"), traced("lenet", "8x1x28x28"), batch=8)
    (model,) = page_data([subject], (28,))["models"]
    assert model["sizes"]["28"]["macs"] == model["macs"] == 8 * 416_520


def test_a_saved_trace_has_no_other_sizes(traced: Callable[..., Trace], tmp_path: Path) -> None:
    saved = tmp_path / "lenet.json"
    saved.write_text(traced("lenet").to_json(), encoding="utf-8")
    (model,) = page_data([ReportModel(parse(str(saved)), traced("lenet"))], SIDES)["models"]
    assert model["sizes"] == {} and model["side"] is None
