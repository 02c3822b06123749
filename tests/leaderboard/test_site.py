"""The site and the plots: functions of the records, whatever stands in them."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from attnbench.leaderboard.drawing import Plot, name_points, new_figure, styled, svg
from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.exports import exported
from attnbench.leaderboard.plotting import plot_files
from attnbench.leaderboard.site.building import site_files, write_site
from attnbench.leaderboard.site.contents import rows_of
from attnbench.leaderboard.site.pictures import FOLDER, file_of, gallery, is_made_up
from attnbench.leaderboard.site.rendering import file_name, is_web, linked, source_text
from attnbench.records.store import RecordStore
from attnbench.submission import load_submission
from attnbench.tasks import list_tasks, load_task
from tests.leaderboard.conftest import MakeRecord, tracks_of


@pytest.fixture(scope="module")
def files(entries: list[Entry]) -> dict[str, bytes]:
    return dict(site_files(entries, tracks_of(entries)))


def pages_in(files: dict[str, bytes]) -> Iterator[tuple[str, ElementTree.Element]]:
    for name, content in files.items():
        if name.endswith(".html"):
            yield name, ElementTree.fromstring(content)


def test_every_page_is_well_formed_and_its_links_lead_somewhere(files: dict[str, bytes]) -> None:
    pages = dict(pages_in(files))
    assert len(pages) > 30
    for name, page in pages.items():
        for element in page.iter():
            for key in ("href", "src"):
                address = element.get(key)
                if address is None or address.startswith(("http://", "https://")):
                    continue
                parts = urlsplit(address)
                assert not parts.scheme, f"{name}: {address}"
                target = (Path("/site") / name).parent / unquote(parts.path)
                found = str(target.resolve().relative_to("/site")) if parts.path else name
                assert found in files, f"{name}: {address}"
                if parts.fragment:
                    ids = {each.get("id") for each in pages[found].iter()}
                    assert parts.fragment in ids, f"{name}: {address}"


def test_pages_ask_nobody_else_for_anything(files: dict[str, bytes]) -> None:
    for name, page in pages_in(files):
        for element in page.iter():
            assert "style" not in element.attrib and not any(
                key.startswith("on") for key in element.attrib
            ), name
            if element.tag in ("script", "link", "img", "iframe", "source"):
                assert "//" not in (element.get("src") or element.get("href") or ""), name
    assert b"http" not in files["site.css"] and b"http" not in files["site.js"]


def test_every_method_has_its_page_with_figures_curves_and_commands(
    entries: list[Entry], files: dict[str, bytes]
) -> None:
    for name in {entry.record.identity.submission for entry in entries}:
        address = re.compile(rf"methods/{name.replace('_', '-')}-\w{{8}}\.html")
        pages = [files[each].decode() for each in files if address.match(each)]
        assert pages, name
        for page in pages:
            assert "attnbench verify records/" in page and f"attnbench evaluate {name} " in page


def test_the_same_records_give_the_same_bytes_in_any_order(
    entries: list[Entry], files: dict[str, bytes]
) -> None:
    shuffled = random.Random(0).sample(entries, len(entries))
    again = dict(site_files(sorted(shuffled, key=lambda each: each.path), tracks_of(shuffled)))
    assert [name for name in files if files[name] != again.get(name)] == []
    assert files.keys() == again.keys()


def test_hostile_text_is_text(hostile: list[Entry]) -> None:
    files = dict(site_files(hostile, tracks_of(hostile)))
    for name, content in files.items():
        assert not name.startswith("/") and ".." not in name.split("/")
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), name
        if name.endswith((".html", ".svg", ".csv", ".md", ".bib")):
            text = content.decode()
            assert "\x1b" not in text and "\u202e" not in text, name
        if name.endswith((".html", ".svg")):
            page = ElementTree.fromstring(content)
            scripts = [each for each in page.iter() if each.tag == "script"]
            assert all(not each.text for each in scripts), name
            assert len(content) < 400_000, name
    (method,) = [files[name].decode() for name in files if name.startswith("methods/x-x-")]
    assert "attnbench verify 'records/mini/noisy-mnist/2 $(rm -rf x)'\"'\"'.json'" in (
        ElementTree.tostring(ElementTree.fromstring(method), encoding="unicode", method="text")
    )
    for _, content in plot_files(hostile, tracks_of(hostile)):
        assert content


def test_names_of_files_are_safe_and_distinct() -> None:
    names = ["../../x", "Con", "con", "<script>", "x" * 1_000_000, "", "日本語", "a/b", "a-b"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{8}", name) for name in files)
    assert max(map(len, files)) < 60


def test_only_the_web_is_linked() -> None:
    shown = linked(
        "see doi:10.1007/s42113-021-00098-y, <b> https://a.example/x. javascript:alert(1)"
    )
    assert 'href="https://doi.org/10.1007/s42113-021-00098-y"' in shown
    assert 'href="https://a.example/x"' in shown and "&lt;b&gt;" in shown
    assert shown.count("href=") == 2
    for address in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//x",
        "file:///etc",
        "http://",
        "x",
    ):
        assert not is_web(address)
    assert linked("https://[x") == "https://[x"


def test_a_source_shows_its_control_marks() -> None:
    assert source_text("a = 1\r\n\tb\u202e\x00".encode()) == "a = 1\n    b��"
    assert len(source_text(b"x" * 10**6)) < 110_000


def test_a_source_is_shown_only_where_it_is_the_recorded_one(
    make_record: MakeRecord,
    submission_folder: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = submission_folder("mine", "# a <b>remark</b>\n")
    monkeypatch.chdir(tmp_path)
    for sha256, shown in ((load_submission(folder).sha256, True), ("e" * 64, False)):
        record = make_record(submission="mine", submission_sha256=sha256)
        entry = Entry(Path("mini/noisy-mnist/mine.json"), record, "self-reported", None)
        files = dict(site_files([entry], tracks_of([entry])))
        (page,) = [files[name].decode() for name in files if name.startswith("methods/")]
        assert ("# a &lt;b&gt;remark&lt;/b&gt;" in page) == shown
        assert ("A. Tester" in page) == shown


def test_contended_times_are_marked_and_drawn_nowhere(make_record: MakeRecord) -> None:
    made = [
        make_record(submission="alone"),
        make_record(submission="beside", contended=True),
        make_record(submission="elsewhere", contended=True, device_name="another"),
    ]
    entries = [
        Entry(Path(f"mini/noisy-mnist/{n}.json"), record, "verified", None)
        for n, record in enumerate(made)
    ]
    tracks = tracks_of(entries)
    rows = {row.entrant.submission: row for row in rows_of(tracks)}
    assert rows["alone"].adaptation_seconds == 0.5 and rows["alone"].adaptation_passes == 5
    times = "adaptation_seconds", "adaptation_passes", "prediction_seconds"
    assert all(getattr(rows[name], t) is None for name in ("beside", "elsewhere") for t in times)
    files = dict(site_files(entries, tracks))
    pages = {
        name: next(files[each].decode() for each in files if each.startswith(f"methods/{name}-"))
        for name in rows
    }
    assert "contended" not in pages["alone"]
    assert pages["beside"].count('<span class="ends">contended</span>') == 6
    assert "2 of 2 episodes ran beside others" in pages["beside"]
    # one plot of times, with one method in it; the costs that do not depend on company have all
    plots = [name for name in files if name.startswith("plots/mini-pareto")]
    assert sorted(plots) == ["plots/mini-pareto-parameters.svg", "plots/mini-pareto-time-0.svg"]
    index = files["index.html"].decode()
    assert "d′ against adaptation time, mini: 1 methods" in index
    assert "d′ against parameters, mini: 3 methods" in index
    table = pd.read_parquet(
        io.BytesIO(dict(exported(entries, tracks_of(entries)))["episodes.parquet"])
    )
    assert table["contended"].tolist() == [False] * 2 + [True] * 4


def test_no_records_say_what_to_do() -> None:
    assert b"attnbench evaluate submissions/attention" in dict(site_files([], {}))["index.html"]


def test_a_new_site_replaces_the_old_one_and_leaves_the_rest(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    def built(*names: str) -> set[str]:
        made = [
            Entry(
                Path(f"mini/noisy-mnist/{name}.json"),
                make_record(submission=name),
                "verified",
                None,
            )
            for name in names
        ]
        write_site(tmp_path / "site", made, tracks_of(made))
        return {path.name.split("-")[0] for path in (tmp_path / "site" / "methods").iterdir()}

    assert built("one", "two") == {"one", "two"}
    (tmp_path / "site" / "CNAME").write_text("kept")
    (tmp_path / "beside").write_text("kept")
    (tmp_path / "site" / ".attnbench-site.json").write_text('["../beside", "methods/x", 3]')
    assert built("one", "two") == {"one", "two"}
    assert built("two") == {"two"}
    assert (tmp_path / "site" / "CNAME").exists() and (tmp_path / "beside").exists()


def test_the_verb_writes_all_of_it(tmp_path: Path, make_record: MakeRecord) -> None:
    RecordStore(tmp_path / "records").save(make_record(), pd.DataFrame({"score": [0.5]}))

    def leaderboard(*more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "attnbench", "leaderboard", *more]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)

    done = leaderboard("--site", "site", "--plots", "plots", "--export", "tables")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file() and (tmp_path / "leaderboard.md").is_file()
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".svg", ".png"}
    assert (tmp_path / "tables" / "results.parquet").is_file()
    refused = leaderboard("--check", "--site", "site")
    assert refused.returncode == 2 and "--check" in refused.stderr
    nowhere = leaderboard("--site", "leaderboard.md")
    assert nowhere.returncode == 2 and "leaderboard.md is a file" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


def test_pictures_are_those_of_the_tasks_and_never_of_a_data_set() -> None:
    tasks = [task for task in map(load_task, list_tasks()) if is_made_up(task)]
    assert {path.name for path in FOLDER.iterdir()} == {file_of(task) for task in tasks}, (
        "renew them: python -m attnbench.leaderboard.site.pictures"
    )
    for task in tasks:
        assert gallery(task, "mini") is not None
        assert gallery(task, "small") is None and gallery(task, "full") is None
    assert gallery(None, "mini") is None


def test_names_of_points_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.normal(0, 1, (40, 2))]
    with styled():
        figure = new_figure(9, 6.5)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set_xlim(-3, 3)
        axes.set_ylim(-3, 3)
        name_points(axes, points, [f"a_method_{n}" for n in range(40)], 8)
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [each.get_window_extent(renderer) for each in axes.texts]
        assert len(boxes) > 35
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:number])
        plot = Plot("x", "x", "x", figure)
        assert svg(plot) == svg(plot)


def test_fronts_are_on_the_pages(entries: list[Entry], files: dict[str, bytes]) -> None:
    pages = dict(pages_in(files))
    for name, label in (
        ("index.html", "Pareto front of the track mini"),
        (next(each for each in pages if "mini-noisy" in each), "Pareto front on shipped/"),
    ):
        (table,) = [
            each for each in pages[name].iter() if (each.get("aria-label") or "").startswith(label)
        ]
        rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")][1:]
        assert rows and all(len(row) == 6 for row in rows)
        assert any(row[2] == "none costs as little" for row in rows)
