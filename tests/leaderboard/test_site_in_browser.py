"""The site as a reader has it: in a browser, from a file, by keyboard, on a phone, without scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnbench.leaderboard.entries import read_entries
from attnbench.leaderboard.site.building import write_site
from attnbench.leaderboard.standings import standings_by_track

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
RECORDS = Path(__file__).parents[2] / "records"
# Of linear_probe on noisy-mnist: ten targets for each seed.
EPISODES = 10 * len(list((RECORDS / "mini" / "noisy-mnist").glob("linear_probe@*.json")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries, _ = read_entries(RECORDS)
    tasks = ("noisy-mnist", "cifar-ssl", "imagenet-a")
    chosen = [each for each in entries if each.record.identity.task in tasks]
    tracks = standings_by_track([each.record for each in chosen], {})
    folder = tmp_path_factory.mktemp("site") / "with space"
    write_site(folder, chosen, tracks)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


class Watched:
    """A page that notes what goes wrong, and whom it asks."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # a picture that the next page did not wait for
            self.complaints.append(f"{request.url}: {request.failure}")

    def open(self, file: Path) -> Any:
        self.page.goto(file.as_uri())
        return self.page

    def check(self) -> None:
        assert self.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in self.asked)


def column(page: Any, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:visible > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_tables_sort_by_click_and_by_enter(browser: Any, site: Path) -> None:
    watched = Watched(browser)
    page = watched.open(site / "index.html")
    heading = page.locator("#track-mini th", has_text="parameters")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = page.locator("#track-mini tbody tr > :nth-child(8)").evaluate_all(
        "cells => cells.map(cell => cell.dataset.value)"
    )
    numbers = [float(value) for value in values if value is not None]
    assert numbers == sorted(numbers) and len(numbers) > 20
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    method = page.locator("#track-mini th", has_text="method")
    method.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert method.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None
    names = column(page, "#track-mini", 2)
    assert names == sorted(names, key=str.lower)
    watched.check()


def test_results_filter_by_task_track_backbone_device_and_name(browser: Any, site: Path) -> None:
    watched = Watched(browser)
    page = watched.open(site / "index.html")
    every = page.locator("#results tbody tr").count()
    page.get_by_label("task", exact=True).select_option("noisy-mnist")
    assert set(column(page, "#results", 3)) == {"noisy-mnist"}
    page.get_by_label("track", exact=True).select_option("small")
    assert set(column(page, "#results", 2)) == {"small"}
    page.get_by_label("track", exact=True).select_option("")
    page.get_by_label("task", exact=True).select_option("")
    page.get_by_label("backbone", exact=True).select_option("shipped/cifar-vae")
    assert set(column(page, "#results", 4)) == {"shipped/cifar-vae"}
    page.get_by_label("backbone", exact=True).select_option("")
    page.get_by_label("device", exact=True).select_option(index=1)
    page.get_by_label("method", exact=True).fill("ATTENTION")
    found = column(page, "#results", 1)
    assert found and all("attention" in name for name in found) and len(found) < every
    assert page.get_by_role("status").inner_text() == f"{len(found)} of {every} rows"
    watched.check()


def test_a_long_table_shows_its_first_rows_until_all_are_asked_for(
    browser: Any, site: Path
) -> None:
    watched = Watched(browser)
    page = watched.open(site / "index.html")
    every = page.locator("#results tbody tr").count()
    assert every > 100
    page.locator("#results th", has_text="method").get_by_role("button").click()
    first = column(page, "#results", 1)
    page.locator("#results").get_by_role("button", name="Show all rows").press("Enter")
    all_rows = column(page, "#results", 1)
    assert len(all_rows) == every and first == all_rows[:100]
    assert page.get_by_role("button", name="Show all rows").count() == 0
    watched.check()


def test_a_method_opens_with_its_details(browser: Any, site: Path) -> None:
    watched = Watched(browser)
    page = watched.open(site / "index.html")
    page.locator("#track-mini").get_by_role("link", name="linear_probe").click()
    assert page.get_by_role("heading", level=1).inner_text() == "linear_probe"
    page.locator("summary", has_text="noisy-mnist, mini").click()
    assert page.locator("details[open] table tbody tr").count() == EPISODES
    page.get_by_role("link", name="noisy-mnist").first.click()
    assert "noisy-mnist, mini" in page.get_by_role("heading", level=1).inner_text()
    page.wait_for_load_state("networkidle")
    broken = "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.locator("img").evaluate_all(broken) == []
    watched.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, site: Path, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    watched = Watched(browser, color_scheme=scheme, bypass_csp=True)
    for file in (site / "index.html", site / "data.html", *pages_of_each_kind(site)):
        page = watched.open(file)
        page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        violations = axe.Axe().run(page).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == [], file.name


def pages_of_each_kind(site: Path) -> list[Path]:
    return [next(iter(sorted((site / kind).glob("*.html")))) for kind in ("methods", "tasks")]


def test_a_phone_need_not_scroll_sideways(browser: Any, site: Path) -> None:
    watched = Watched(browser, viewport={"width": 400, "height": 800})
    for file in (site / "index.html", site / "data.html", *pages_of_each_kind(site)):
        page = watched.open(file)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, file.name
    watched.check()


def test_without_scripts_everything_can_be_read(browser: Any, site: Path) -> None:
    watched = Watched(browser, java_script_enabled=False)
    page = watched.open(site / "index.html")
    assert len(column(page, "#results", 1)) > 60
    assert not page.locator("form").is_visible()
    page.locator("#track-mini").get_by_role("link", name="linear_probe").click()
    page.locator("summary", has_text="noisy-mnist, mini").click()
    assert page.locator("details[open] table tbody tr").count() == EPISODES
    watched.check()
