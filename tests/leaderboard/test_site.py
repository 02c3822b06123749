"""The site and the plots: deterministic, and safe whatever a record contains."""

from __future__ import annotations

import functools
import io
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.exports import export_files
from attnbench.leaderboard.plot_files import plot_files
from attnbench.leaderboard.plot_style import Plot, label_points, new_figure, styled, svg
from attnbench.leaderboard.site.builder import site_files, write_site
from attnbench.leaderboard.site.galleries import (
    FOLDER,
    KINDS,
    gallery,
    gallery_file_name,
    is_redistributable,
)
from attnbench.leaderboard.site.rendering import file_name, is_web_url, linked, source_text
from attnbench.leaderboard.site.result_rows import result_rows
from attnbench.records.outcome import scores_table
from attnbench.records.store import RecordStore
from attnbench.submission import load_submission
from attnbench.tasks import list_tasks, load_task
from tests.command_line import run
from tests.leaderboard.conftest import MakeRecord, boards_of

SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.0, -1.0]))


@pytest.fixture(scope="module")
def files(entries: list[Entry]) -> dict[str, bytes]:
    return dict(site_files(entries, boards_of(entries)))


def pages_in(files: dict[str, bytes]) -> Iterator[tuple[str, ElementTree.Element]]:
    for name, content in files.items():
        if name.endswith(".html"):
            yield name, ElementTree.fromstring(content)


def test_every_page_is_well_formed_and_has_no_broken_links(files: dict[str, bytes]) -> None:
    pages = dict(pages_in(files))
    assert len(pages) > 20
    for name, page in pages.items():
        for element in page.iter():
            for key in ("href", "src"):
                url = element.get(key)
                if url is None or url.startswith(("http://", "https://")):
                    continue
                parts = urlsplit(url)
                assert not parts.scheme, f"{name}: {url}"
                path = (Path("/site") / name).parent / unquote(parts.path)
                linked_name = str(path.resolve().relative_to("/site")) if parts.path else name
                assert linked_name in files, f"{name}: {url}"
                if parts.fragment and "=" not in parts.fragment:  # else a choice for a script
                    ids = {linked_element.get("id") for linked_element in pages[linked_name].iter()}
                    assert parts.fragment in ids, f"{name}: {url}"


def test_pages_load_nothing_from_elsewhere(files: dict[str, bytes]) -> None:
    for name, page in pages_in(files):
        for element in page.iter():
            assert "style" not in element.attrib and not any(
                key.startswith("on") for key in element.attrib
            ), name
            if element.tag in ("script", "link", "img", "iframe", "source"):
                assert "//" not in (element.get("src") or element.get("href") or ""), name
    own = ("site.css", "site.js", "charts.js")  # vega.js names standards by their addresses
    assert all(b"http" not in files[name] for name in own)


def test_every_method_has_a_page_with_commands(
    entries: list[Entry], files: dict[str, bytes]
) -> None:
    for name in {entry.record.identity.submission for entry in entries}:
        path = re.compile(rf"methods/{name.replace('_', '-')}-\w{{8}}\.html")
        pages = [content.decode() for file, content in files.items() if path.match(file)]
        assert pages, name
        for page in pages:
            assert "attnbench verify published/" in page and f"attnbench evaluate {name} " in page


def test_the_same_records_give_the_same_bytes_in_any_order(
    entries: list[Entry], files: dict[str, bytes]
) -> None:
    shuffled = random.Random(0).sample(entries, len(entries))
    by_path = sorted(shuffled, key=lambda entry: entry.path)
    rebuilt = dict(site_files(by_path, boards_of(shuffled)))
    assert [name for name in files if files[name] != rebuilt.get(name)] == []
    assert files.keys() == rebuilt.keys()


def test_hostile_text_stays_text(hostile: list[Entry]) -> None:
    files = dict(site_files(hostile, boards_of(hostile)))
    for name, content in files.items():
        assert not name.startswith("/") and ".." not in name.split("/")
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), name
        if name.endswith((".html", ".svg", ".csv", ".md", ".bib")):
            text = content.decode()
            assert "\x1b" not in text and "\u202e" not in text, name
        if name.endswith((".html", ".svg")):
            page = ElementTree.fromstring(content)
            scripts = [element for element in page.iter() if element.tag == "script"]
            assert all(not script.text or json.loads(script.text) for script in scripts), name
            assert len(content) < 400_000, name
    (method,) = [files[name].decode() for name in files if name.startswith("methods/x-x-")]
    assert "attnbench verify 'published/mini/noisy-mnist/2 $(rm -rf x)'\"'\"'.json'" in (
        ElementTree.tostring(ElementTree.fromstring(method), encoding="unicode", method="text")
    )
    for _, content in plot_files(hostile, boards_of(hostile)):
        assert content


def test_file_names_are_safe_and_distinct() -> None:
    names = ["../../x", "Con", "con", "<script>", "x" * 1_000_000, "", "日本語", "a/b", "a-b"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}", name) for name in files)
    assert max(map(len, files)) < 60


def test_only_web_urls_are_linked() -> None:
    markup = linked(
        "see doi:10.1007/s42113-021-00098-y, <b> https://a.example/x. javascript:alert(1)"
    )
    assert 'href="https://doi.org/10.1007/s42113-021-00098-y"' in markup
    assert 'href="https://a.example/x"' in markup and "&lt;b&gt;" in markup
    assert markup.count("href=") == 2
    for url in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//x",
        "file:///etc",
        "http://",
        "x",
    ):
        assert not is_web_url(url)
    assert linked("https://[x") == "https://[x"


def test_control_characters_in_a_source_are_made_visible() -> None:
    assert source_text("a = 1\r\n\tb\u202e\x00".encode()) == "a = 1\n    b��"
    assert len(source_text(b"x" * 10**6)) < 110_000


def test_a_source_is_shown_only_if_it_made_the_records(
    make_record: MakeRecord,
    submission_folder: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = submission_folder("mine", "# a <b>remark</b>\n")
    monkeypatch.chdir(tmp_path)
    for sha256, shown in ((load_submission(folder).sha256, True), ("e" * 64, False)):
        record = make_record(submission="mine", submission_sha256=sha256)
        entry = Entry(
            Path("published"), Path("mini/noisy-mnist/mine.json"), record, "self-reported", None
        )
        files = dict(site_files([entry], boards_of([entry])))
        (page,) = [files[name].decode() for name in files if name.startswith("methods/")]
        assert ("# a &lt;b&gt;remark&lt;/b&gt;" in page) == shown
        assert ("A. Tester" in page) == shown


def test_contended_times_are_marked_and_not_plotted(make_record: MakeRecord) -> None:
    records = [
        make_record(submission="alone"),
        make_record(submission="contended", contended=True),
        make_record(submission="elsewhere", contended=True, device_name="another"),
    ]
    entries = [
        Entry(Path("published"), Path(f"mini/noisy-mnist/{n}.json"), record, "verified", None)
        for n, record in enumerate(records)
    ]
    boards = boards_of(entries)
    rows = {row.method.submission: row for row in result_rows(boards)}
    assert rows["alone"].adaptation_seconds == 0.5 and rows["alone"].adaptation_passes == 5
    times = "adaptation_seconds", "adaptation_passes", "prediction_seconds"
    assert all(getattr(rows[name], t) is None for name in ("contended", "elsewhere") for t in times)
    files = dict(site_files(entries, boards))
    pages = {
        name: next(files[file].decode() for file in files if file.startswith(f"methods/{name}-"))
        for name in rows
    }
    assert "contended" not in pages["alone"]
    assert pages["contended"].count('<span class="quiet">contended</span>') == 6
    assert "2 of 2 episodes ran at the same time as others" in pages["contended"]
    # The plot of times has the one method with times; the plot of parameters has all methods.
    plots = [name for name in files if name.startswith("plots/mini-pareto")]
    assert sorted(plots) == ["plots/mini-pareto-parameters.svg", "plots/mini-pareto-time-0.svg"]
    index = files["index.html"].decode()
    assert "d_a against adaptation time, mini: 1 method;" in index
    assert "d_a against parameters, mini: 3 methods" in index
    table = pd.read_parquet(
        io.BytesIO(dict(export_files(entries, boards_of(entries)))["episodes.parquet"])
    )
    assert table["contended"].tolist() == [False] * 2 + [True] * 4


def test_the_page_without_records_says_how_to_make_one() -> None:
    assert b"attnbench evaluate submissions/attention" in dict(site_files([], {}))["index.html"]


def test_a_new_build_replaces_the_old_one_and_leaves_other_files_alone(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    def build(*names: str) -> set[str]:
        entries = [
            Entry(
                Path("published"),
                Path(f"mini/noisy-mnist/{name}.json"),
                make_record(submission=name),
                "verified",
                None,
            )
            for name in names
        ]
        write_site(tmp_path / "site", entries, boards_of(entries))
        return {path.name.split("-")[0] for path in (tmp_path / "site" / "methods").iterdir()}

    assert build("one", "two") == {"one", "two"}
    (tmp_path / "site" / "CNAME").write_text("kept")
    (tmp_path / "outside").write_text("kept")
    (tmp_path / "site" / ".attnbench-site.json").write_text('["../outside", "methods/x", 3]')
    assert build("one", "two") == {"one", "two"}
    assert build("two") == {"two"}
    assert (tmp_path / "site" / "CNAME").exists() and (tmp_path / "outside").exists()


def test_the_command_writes_site_plots_and_tables(tmp_path: Path, make_record: MakeRecord) -> None:
    RecordStore(tmp_path / "records").save(make_record(), SCORES)

    leaderboard = functools.partial(run, "leaderboard", folder=tmp_path)
    completed = leaderboard("--site", "site", "--plots", "plots", "--export", "tables")
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "site" / "index.html").is_file() and (tmp_path / "leaderboard.md").is_file()
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".svg", ".png"}
    assert (tmp_path / "tables" / "results.parquet").is_file()
    refused = leaderboard("--check", "--site", "site")
    assert refused.returncode == 2 and "--check" in refused.stderr
    not_a_folder = leaderboard("--site", "leaderboard.md")
    assert not_a_folder.returncode == 2 and "'leaderboard.md' is a file" in not_a_folder.stderr
    assert "Traceback" not in not_a_folder.stderr


def test_galleries_match_the_tasks_and_never_show_a_data_set() -> None:
    tasks = [task for task in map(load_task, list_tasks()) if is_redistributable(task)]
    assert {path.name for path in FOLDER.iterdir()} == {
        gallery_file_name(task, kind) for task in tasks for kind in KINDS
    }, "renew them with `python -m attnbench.leaderboard.site.galleries`"
    for task in tasks:
        assert all(gallery(task, "mini", kind) is not None for kind in KINDS)
        assert gallery(task, "small", "examples") is None
    assert gallery(None, "mini", "targets") is None


def test_point_labels_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.normal(0, 1, (40, 2))]
    with styled():
        figure = new_figure(9, 6.5)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set_xlim(-3, 3)
        axes.set_ylim(-3, 3)
        label_points(axes, points, [f"a_method_{n}" for n in range(40)], 8)
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert len(boxes) > 35
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(earlier) for earlier in boxes[:number])
        plot = Plot("x", "x", "x", figure)
        assert svg(plot) == svg(plot)


def test_pages_show_pareto_fronts(entries: list[Entry], files: dict[str, bytes]) -> None:
    pages = dict(pages_in(files))
    for name, label in (
        ("index.html", "Pareto front of the track mini"),
        (next(page for page in pages if "mini-noisy" in page), "Pareto front on shipped/"),
    ):
        (table,) = [
            element
            for element in pages[name].iter()
            if (element.get("aria-label") or "").startswith(label)
        ]
        rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")][1:]
        assert rows and all(len(row) == 7 for row in rows)
        assert any(row[3] == "none costs as little" for row in rows)
