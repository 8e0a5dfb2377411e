"""The page in a real headless Chromium: sort, filter, hover, keyboard, print, narrow screen, dark, no errors, `axe`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_folder import REFERENCE, fill

from smt_bench.machine.files import write_text
from smt_bench.report.page import build
from smt_bench.report.page.details import by_layer

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytest.importorskip("altair", reason="the page needs the extra 'report'")
BROWSER = os.environ.get("SMT_BENCH_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here: apt-get install chromium")
WAIT = 60_000  # milliseconds, on a busy machine
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """The page's address, and the keys of the committed records in it."""
    folder = tmp_path_factory.mktemp("page") / "results"
    keys = fill(folder)
    place = folder / "report" / "index.html"
    write_text(place, build.page(folder))
    return place.as_uri(), keys


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, written: tuple[str, list[str]]) -> Iterator[Visit]:
    """Opens the page; at the end nothing may have been said on the console, run, or asked of a network."""
    opened, said = [], []

    def call(hash_: str = "", **options: Any) -> Any:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        )
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda r: said.append(r.url) if r.url.split(":")[0] not in ("file", "data", "blob") else None
        )
        page.goto(written[0] + hash_)
        return page

    yield call
    hacked = [page.evaluate("window.hacked") for context in opened for page in context.pages]
    for context in opened:
        context.close()
    assert said == [] and not any(hacked)


def cells(page: Any, column: int) -> list[str]:
    """What is shown of a column of the table of all runs."""
    rows = page.locator("#all-runs tbody tr:visible")
    return [row.split("\t")[column].strip() for row in rows.all_inner_texts()]


def test_a_table_is_sorted_by_a_click_and_by_the_keyboard(visit: Visit) -> None:
    page = visit("#runs")
    head = page.locator("#all-runs th", has_text="held-out loss")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    told = [float(text) for text in cells(page, 9) if text]
    assert len(told) > 40 and told == sorted(told)
    assert cells(page, 9)[-1] == ""  # the run without a number stays last
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    again = [float(text) for text in cells(page, 9) if text]
    assert again == sorted(again, reverse=True) and cells(page, 9)[-1] == ""
    page.locator("#all-runs th", has_text="method").get_by_role("button").click()
    names = cells(page, 2)
    assert names == sorted(names, key=str.lower) and page.locator("#all-runs th[aria-sort]").count() == 1


def test_a_filter_shows_what_has_all_its_words_and_csv_is_what_is_shown(visit: Visit, tmp_path: Path) -> None:
    page = visit("#runs")
    tools = page.locator("#runs .tools")
    tools.get_by_label("Filter").fill("smt done")
    there = cells(page, 2)
    assert set(there) == {"SMT"} and f"{len(there)} of " in tools.inner_text() and len(there) >= 12
    with page.expect_download() as waiting:
        tools.get_by_role("button", name="CSV").click()
    waiting.value.save_as(tmp_path / "shown.csv")
    rows = list(csv.reader((tmp_path / "shown.csv").open(encoding="utf-8", newline="")))
    assert rows[0][:3] == ["key", "model", "method"]
    assert [row[0] for row in rows[1:]] == cells(page, 0) and {row[2] for row in rows[1:]} == {"SMT"}
    tools.get_by_label("Filter").fill("nothing has this")
    assert cells(page, 2) == []


def test_csv_holds_no_formula(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    page.evaluate("document.querySelector('#study-hostile-x').open = true")
    with page.expect_download() as waiting:
        page.locator("#study-hostile-x").get_by_role("button", name="CSV").click()
    waiting.value.save_as(tmp_path / "shown.csv")
    rows = list(csv.reader((tmp_path / "shown.csv").open(encoding="utf-8", newline="")))
    assert rows[1][0] == "'=1+1"


def test_a_front_s_axes_can_be_chosen_and_hover_shows_cell_and_run(visit: Visit) -> None:
    page = visit()
    figure = page.locator("figure[data-chart^=pareto]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".live svg").wait_for()
    assert figure.locator(".static").is_hidden()
    assert "trainable parameters" in figure.locator(".live svg").text_content()
    figure.get_by_label("Across").select_option("seconds")
    figure.locator(".live svg", has_text="training time (s)").wait_for()
    figure.get_by_label("Up").select_option("nll")
    figure.locator(".live svg", has_text="held-out loss").wait_for()
    figure.locator(".live svg .role-mark.mark-symbol path").last.hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert re.search(r"cell\s+\S+", tip.inner_text()) and re.search(r"runs?\s+[0-9a-f]{16}", tip.inner_text())


def test_a_figure_that_comes_alive_moves_nothing_below_it(visit: Visit) -> None:
    """A button that moves by half its height between press and release is not clicked."""
    page = visit()
    figure = page.locator("figure[data-chart^=pareto]").first
    before = figure.evaluate("it => it.getBoundingClientRect().height")
    figure.scroll_into_view_if_needed()
    figure.locator(".live svg").wait_for()
    assert figure.locator(".static").is_hidden()
    assert abs(figure.evaluate("it => it.getBoundingClientRect().height") - before) < 8


def test_a_click_on_a_mark_opens_its_runs(visit: Visit) -> None:
    page = visit()
    figure = page.locator("figure[data-chart^=pareto]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".live svg").wait_for()
    figure.locator(".live svg .role-mark.mark-symbol path").last.click(force=True)
    page.wait_for_function("location.hash.startsWith('#run')")


def test_a_run_has_a_page(visit: Visit, written: tuple[str, list[str]]) -> None:
    page = visit("#runs")
    page.locator("#all-runs tbody tr", has_text="SMT").first.get_by_role("link").click()
    run = page.locator("#run")
    run.locator("figure svg").first.wait_for()
    page.wait_for_function("document.querySelectorAll('#run figure svg').length >= 4")
    text = run.inner_text()
    for part in (
        "Training loss",
        "Chosen blocks",
        "Predictions",
        "Configuration",
        "Environment",
        "method.config.block_size",
    ):
        assert part in text
    assert page.locator("#main").is_hidden() and page.evaluate("document.activeElement.id") == "run"
    run.locator("summary").first.click()
    run.get_by_label("Filter").first.fill("wrong")
    rows = run.locator("table.data tbody tr:visible")
    assert rows.count() > 0 and all(line.endswith("wrong") for line in rows.all_inner_texts())
    page.go_back()
    page.locator("#all-runs").wait_for()
    assert page.locator("#run").is_hidden()


def test_a_failed_run_s_page_shows_its_message_as_text(visit: Visit) -> None:
    page = visit("#runs")
    page.locator("#all-runs tbody tr", has_text="failed").get_by_role("link").click()
    page.locator("#run-title").wait_for()
    assert "</script><script>window.hacked" in page.locator("#run").inner_text()


def test_a_claim_leads_to_its_table_figure_and_runs(visit: Visit) -> None:
    page = visit("#claims")
    # The same claim stands there of other settings too.
    link = page.locator("a[href='#table-plateau-tiny-table3_claims']")
    row = page.locator(".claims tbody tr", has_text="SMT beats LoRA at the same fraction, at 2", has=link)
    row.get_by_role("link", name="table").click()
    page.locator("#table-plateau-tiny-table3_claims").wait_for()  # visible: the folded section has opened
    page.go_back()
    row.get_by_role("link", name="figure").click()
    page.locator("[id^=figure-plateau-tiny-figure9] img").first.wait_for()
    place = page.locator("#figure-plateau-tiny-figure9").bounding_box()
    assert place is not None and 0 <= place["y"] < 300  # there, and not moved away by what loads above it
    page.go_back()
    row.get_by_role("link", name="10 runs").click()
    page.wait_for_function("document.querySelectorAll('#all-runs tbody tr:not([hidden])').length === 10")
    assert set(cells(page, 2)) == {"SMT", "LoRA"} and set(cells(page, 3)) == {"2"}
    page.get_by_role("button", name="All rows").click()
    assert len(cells(page, 2)) > 53  # all of the folder


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    summary = page.locator("#answer summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#answer details").first.get_attribute("open") is not None
    small = "[...document.querySelectorAll('a, button, input, select, summary')].filter((e) => e.tabIndex < 0).length"
    assert page.evaluate(small) == 0


@pytest.mark.parametrize("hash_", ["", "#runs", "run"])
def test_a_phone_shows_all_without_scrolling_sideways(visit: Visit, written: tuple[str, list[str]], hash_: str) -> None:
    page = visit(f"#run-{written[1][1]}" if hash_ == "run" else hash_, viewport={"width": 390, "height": 844})
    place = page.locator("#run figure" if hash_ == "run" else "figure[data-chart]").first
    place.scroll_into_view_if_needed()
    place.locator(".live svg").wait_for()
    for section in page.locator("section:visible").all():
        section.scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_claims_are_read_on_a_phone_without_scrolling(visit: Visit) -> None:
    page = visit("#claims", viewport={"width": 390, "height": 844})
    badges = page.locator(".claims td[data-title=verdict] .badge").all()
    assert badges
    for badge in badges:
        box = badge.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    for link in page.locator("nav a").all():  # all parts of the report can be reached
        box = link.bounding_box()
        assert box is not None and box["x"] + box["width"] <= 390


def test_a_legend_can_be_read_on_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844})
    figure = page.locator("figure[data-chart^=pareto]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".live svg").wait_for()
    legend = figure.locator(".live .role-legend-entry")
    sizes = legend.locator("text").evaluate_all("found => found.map((e) => parseFloat(getComputedStyle(e).fontSize))")
    shades = legend.locator("path").evaluate_all("found => found.map((e) => e.getAttribute('opacity') ?? '1')")
    assert sizes and min(sizes) >= 14
    assert shades and set(shades) == {"1"}  # a mark that stands for many is not as faint as one of them


def test_a_map_of_blocks_has_the_layers_without_one(visit: Visit, written: tuple[str, list[str]]) -> None:
    records = (json.loads((REFERENCE / "runs" / f"{key}.json").read_text(encoding="utf-8")) for key in written[1])
    found = {one["key"]: {layer for layer, *_ in by_layer(one["method"].get("blocks") or {})} for one in records}
    key, chosen = next((key, layers) for key, layers in found.items() if layers and len(layers) <= max(layers))
    page = visit(f"#run-{key}")
    figure = page.locator("#run figure", has_text="Chosen blocks").first
    figure.locator(".live svg").wait_for()
    shown = figure.locator(".live .role-axis-label text").all_text_contents()
    every = [str(layer) for layer in range(max(chosen) + 1)]
    assert [text for text in shown if text.isdigit()] == every and len(chosen) < len(every)


def test_print_has_static_figures_and_no_tools(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    figure = page.locator("figure[data-chart^=pareto]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".live svg").wait_for()
    page.emulate_media(media="print")
    assert figure.locator(".static svg").is_visible() and figure.locator(".live").is_hidden()
    assert page.locator(".tools:visible").count() == 0 and page.locator("nav").is_hidden()
    assert "accuracy (%)" in figure.locator(".static").text_content()
    content = page.pdf(format="A4")
    assert 2 < content.count(b"/Type /Page\n") < 40  # what is folded away and the table of all runs stay out


def test_without_scripts_figures_tables_and_answers_are_there(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("figure[data-chart^=pareto] .static svg").first.is_visible()
    assert page.locator("#answer table.answers").first.is_visible() and page.locator("#all-runs").is_visible()
    assert "needs scripts" in page.locator("noscript").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash_", ["", "run"])
def test_axe_finds_nothing(visit: Visit, written: tuple[str, list[str]], scheme: str, hash_: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = visit(f"#run-{written[1][-1]}" if hash_ else "", color_scheme=scheme)
    first = page.locator("#run figure" if hash_ else "figure[data-chart]").first
    first.scroll_into_view_if_needed()
    first.locator(".live svg").wait_for()
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = axe.run(page).response
    assert [(v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found["violations"]] == []
    assert len(found["passes"]) > 15
