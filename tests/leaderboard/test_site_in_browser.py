"""The site in a browser: opened from a file, by keyboard, on a phone and without scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnbench.commands.compare import compare
from attnbench.leaderboard.entries import Entry, read_entries
from attnbench.leaderboard.order import order_correlations
from attnbench.leaderboard.site.builder import write_site
from attnbench.leaderboard.standings import standings_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
PAGES = ("index.html", "compare.html", "data.html")
RECORDS = Path(__file__).parents[2] / "published"
# Episodes of linear_probe on noisy-mnist: ten targets per seed.
EPISODES = 10 * len(list((RECORDS / "mini" / "noisy-mnist").glob("linear_probe@*.json")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries, _ = read_entries([RECORDS])
    tasks = ("noisy-mnist", "cifar-ssl", "imagenet-a")
    selected = [entry for entry in entries if entry.record.identity.task in tasks]
    # A second track: the same records under another name.
    selected += [_on_track(entry, "small") for entry in selected]
    boards = standings_of([entry.record for entry in selected], {}, order_correlations(selected))
    folder = tmp_path_factory.mktemp("site") / "with space"
    write_site(folder, selected, boards)
    return folder


def _on_track(entry: Entry, track: str) -> Entry:
    identity = entry.record.identity.model_copy(update={"track": track})
    return replace(entry, record=entry.record.model_copy(update={"identity": identity}))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


class MonitoredPage:
    """A page that collects its errors and the URLs that it requests."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # aborted by a navigation to the next page
            self.errors.append(f"{request.url}: {request.failure}")

    def open(self, file: Path) -> Any:
        """Open a file and return Playwright's page."""
        self.page.goto(file.as_uri())
        return self.page

    def check(self) -> None:
        """Assert that there were no errors and no requests to the network."""
        assert self.errors == []
        assert all(url.startswith(("file:", "data:")) for url in self.requests)


def column(page: Any, table: str, number: int) -> list[str]:
    """Return the texts of a table's column in its visible rows; columns count from 1."""
    cells = page.locator(f"{table} tbody tr:visible > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_tables_sort_by_click_and_by_enter(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser)
    page = monitored.open(site / "index.html")
    heading = page.locator("#track-mini .standings th", has_text="parameters")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = page.locator("#track-mini .standings tbody tr > :nth-child(6)").evaluate_all(
        "cells => cells.map(cell => cell.dataset.value)"
    )
    numbers = [float(value) for value in values if value is not None]
    assert numbers == sorted(numbers) and len(numbers) > 20
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    method = page.locator("#track-mini .standings th", has_text="method")
    method.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert method.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None
    names = column(page, "#track-mini .standings", 1)
    assert names == sorted(names, key=str.lower)
    monitored.check()


def test_a_method_is_followed_through_charts_and_tables(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser, viewport={"width": 1440, "height": 900})
    page = monitored.open(site / "index.html")
    charts = page.locator(".chart")
    expect = playwright.expect
    expect(charts.locator("svg")).to_have_count(charts.count())
    assert not charts.locator("img").first.is_visible()
    faint = "path => Number(path.getAttribute('opacity')) < 0.5"
    points = charts.last.locator(".mark-symbol.role-mark path")
    assert points.count() > 10 and not any(p.evaluate(faint) for p in points.all())

    page.get_by_label("follow a method", exact=True).select_option("attention")
    followed = page.locator("tr.followed th").all_inner_texts()
    assert followed and set(followed) == {"attention"}
    assert sum(not p.evaluate(faint) for p in points.all()) == 1

    page.get_by_label("follow a method", exact=True).select_option("")
    points.first.click(force=True)
    name = page.get_by_label("follow a method", exact=True).input_value()
    assert name and set(page.locator("tr.followed th").all_inner_texts()) == {name}
    monitored.check()


def test_two_methods_are_compared_without_a_server(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser, viewport={"width": 1440, "height": 900})
    page = monitored.open(site / "index.html")
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("track", exact=True).select_option("mini")
    (expected,) = compare(
        ["last_layer", "prototype"], records=[RECORDS], track="mini", task="noisy-mnist"
    )
    page.get_by_label("method", exact=True).select_option("last_layer")
    page.get_by_label("minus", exact=True).select_option("prototype")
    difference = expected.pairs[0].d_a
    assert difference.interval
    text = "{:+.2f} [{:+.2f}, {:+.2f}]".format(difference.value, *difference.interval)
    cells = page.locator("#differences tr", has_text="noisy-mnist").locator("td").all_inner_texts()
    assert cells == [text.replace("-", "−"), "10"]
    # The other way round, everything changes its sign.
    page.get_by_label("method", exact=True).select_option("prototype")
    page.get_by_label("minus", exact=True).select_option("last_layer")
    low, high = difference.interval
    turned = f"{-difference.value:+.2f} [{-high:+.2f}, {-low:+.2f}]".replace("-", "−")
    row = page.locator("#differences tr", has_text="noisy-mnist")
    assert row.locator("td").first.inner_text() == turned
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.get_by_label("minus", exact=True).input_value() == "last_layer"
    points = page.locator("#targets .mark-symbol.role-mark path")
    playwright.expect(points.first).to_be_visible()
    assert points.count() >= 10
    monitored.check()


def test_the_answer_is_on_the_first_screen(browser: Any, site: Path) -> None:
    for width, height in ((1440, 900), (390, 844)):
        monitored = MonitoredPage(browser, viewport={"width": width, "height": height})
        page = monitored.open(site / "index.html")
        answers = page.locator(".answers li").all()
        assert len(answers) > 1
        boxes = [answer.bounding_box() for answer in answers]
        assert all(box["y"] + box["height"] < height for box in boxes)
        heads = page.locator("#track-mini .standings thead th").all()
        edges = {head.inner_text().split("\n")[0]: head.bounding_box() for head in heads}
        last = {1440: "badge", 390: "d′"}[width]
        box = next(box for text, box in edges.items() if text.startswith(last) and box)
        assert box["x"] + box["width"] <= width
        monitored.check()


def test_results_filter_by_task_track_backbone_device_and_name(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser)
    page = monitored.open(site / "index.html")
    row_count = page.locator("#results tbody tr").count()
    page.get_by_label("task", exact=True).select_option("noisy-mnist")
    assert set(column(page, "#results", 3)) == {"noisy-mnist"}
    page.get_by_label("track", exact=True).select_option("small")
    assert set(column(page, "#results", 2)) == {"small"}
    page.get_by_label("track", exact=True).select_option("")
    page.get_by_label("task", exact=True).select_option("")
    page.get_by_label("backbone", exact=True).select_option("shipped/figures-simclr")
    assert set(column(page, "#results", 4)) == {"shipped/figures-simclr"}
    page.get_by_label("backbone", exact=True).select_option("")
    page.get_by_label("device", exact=True).select_option(index=1)
    page.get_by_label("method", exact=True).fill("ATTENTION")
    names = column(page, "#results", 1)
    assert names and all("attention" in name for name in names) and len(names) < row_count
    assert page.get_by_role("status").inner_text() == f"{len(names)} of {row_count} rows"
    monitored.check()


def test_a_long_table_shows_its_first_rows_until_all_are_requested(
    browser: Any, site: Path
) -> None:
    monitored = MonitoredPage(browser)
    page = monitored.open(site / "index.html")
    row_count = page.locator("#results tbody tr").count()
    assert row_count > 100
    page.locator("#results th", has_text="method").get_by_role("button").click()
    first_rows = column(page, "#results", 1)
    page.locator("#results").get_by_role("button", name="Show all rows").press("Enter")
    all_rows = column(page, "#results", 1)
    assert len(all_rows) == row_count and first_rows == all_rows[:100]
    assert page.get_by_role("button", name="Show all rows").count() == 0
    monitored.check()


def test_method_and_task_pages_open_from_links(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser)
    page = monitored.open(site / "index.html")
    page.locator("#track-mini").get_by_role("link", name="linear_probe").click()
    assert page.get_by_role("heading", level=1).inner_text() == "linear_probe"
    page.locator("summary", has_text="noisy-mnist, mini").click()
    assert page.locator("details[open] table tbody tr").count() == EPISODES
    page.get_by_role("link", name="noisy-mnist").last.click()
    assert "noisy-mnist, mini" in page.get_by_role("heading", level=1).inner_text()
    page.wait_for_load_state("networkidle")
    broken = "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.locator("img").evaluate_all(broken) == []
    monitored.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_no_serious_violation(browser: Any, site: Path, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    monitored = MonitoredPage(browser, color_scheme=scheme, bypass_csp=True)
    for file in (*(site / name for name in PAGES), *pages_of_each_kind(site)):
        page = monitored.open(file)
        page.locator("details").evaluate_all("all => all.forEach(details => details.open = true)")
        violations = axe.Axe().run(page).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == [], file.name


def pages_of_each_kind(site: Path) -> list[Path]:
    return [next(iter(sorted((site / kind).glob("*.html")))) for kind in ("methods", "tasks")]


def test_pages_fit_the_width_of_a_phone(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser, viewport={"width": 400, "height": 800})
    for file in (*(site / name for name in PAGES), *pages_of_each_kind(site)):
        page = monitored.open(file)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, file.name
    monitored.check()


def test_pages_are_complete_without_scripts(browser: Any, site: Path) -> None:
    monitored = MonitoredPage(browser, java_script_enabled=False)
    page = monitored.open(site / "index.html")
    assert len(column(page, "#results", 1)) > 60
    assert not any(form.is_visible() for form in page.locator("form").all())
    assert page.locator(".chart img").first.is_visible()
    page.locator("#track-mini").get_by_role("link", name="linear_probe").click()
    page.locator("summary", has_text="noisy-mnist, mini").click()
    assert page.locator("details[open] table tbody tr").count() == EPISODES
    monitored.check()
