"""The site, the plots and the exports: functions of the records, whatever stands in them."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from attnbench.leaderboard.drawing import Plot, name_points, new_figure, styled, svg
from attnbench.leaderboard.entries import Entry, read_entries
from attnbench.leaderboard.exports import CONSISTENCY_COLUMNS, EPISODE_COLUMNS, exported
from attnbench.leaderboard.fronts import Bid, front
from attnbench.leaderboard.plotting import plot_files
from attnbench.leaderboard.site.building import site_files, write_site
from attnbench.leaderboard.site.contents import rows_of
from attnbench.leaderboard.site.pictures import FOLDER, file_of, gallery, is_made_up
from attnbench.leaderboard.site.rendering import file_name, is_web, linked, source_text
from attnbench.leaderboard.standings import Entrant, Standings, standings_by_track
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.store import RecordStore
from attnbench.statistics.consistency import consistencies, consistency
from attnbench.submission import load_submission
from attnbench.tasks import list_tasks, load_task

ROOT = Path(__file__).parents[1]
MakeRecord = Callable[..., Record]
HOSTILE = (
    "<script>alert(1)</script> | `x` \x1b[31m \u202eabc\n# $x^2$ ../../x \" ' " + "long " * 900
)


def of_noisy_mnist() -> list[Entry]:
    """Records of one task of `mini` and one of `small`, as they lie in the repository."""
    entries, problems = read_entries(ROOT / "records")
    assert not problems
    return [entry for entry in entries if entry.record.identity.task == "noisy-mnist"]


def tracks_of(entries: list[Entry]) -> dict[str, Standings]:
    badges = {entry.record.identity: entry.badge for entry in entries}
    return standings_by_track([entry.record for entry in entries], badges)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return of_noisy_mnist()


@pytest.fixture(scope="module")
def files(entries: list[Entry]) -> dict[str, bytes]:
    return dict(site_files(entries, tracks_of(entries)))


@pytest.fixture
def hostile(make_record: MakeRecord) -> list[Entry]:
    """Entries in which every text that a record may choose is hostile."""
    text = HOSTILE[:9_000]
    made = [
        make_record(title=text, device_name=text, created=text, python=text),
        make_record(title=text, submission="failed-one", reason=text),
        make_record(submission="x..x", submission_sha256="d" * 64, device_name="=1+1"),
    ]
    renamed = []
    for record in made:
        episodes = [
            EpisodeResult.model_validate(e.model_dump() | {"target": f"{text}{number}"})
            for number, e in enumerate(record.episodes)
        ]
        renamed.append(record.model_copy(update={"episodes": tuple(episodes)}))
    names = [f"mini/noisy-mnist/{number} $(rm -rf x)'.json" for number in range(len(renamed))]
    return [
        Entry(Path(name), record, "self-reported", None)
        for name, record in zip(names, renamed, strict=True)
    ]


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


def test_a_spreadsheet_sees_no_formula(hostile: list[Entry]) -> None:
    evil = [
        entry.record.model_copy(update={"reason": "=HYPERLINK(1)", "status": "failed"})
        for entry in hostile
    ]
    changed = [Entry(e.path, r, e.badge, None) for e, r in zip(hostile, evil, strict=True)]
    files = dict(exported(changed, tracks_of(changed)))
    assert set(pd.read_csv(io.BytesIO(files["results.csv"]))["reason"]) == {"'=HYPERLINK(1)"}
    assert set(pd.read_parquet(io.BytesIO(files["results.parquet"]))["reason"]) == {"=HYPERLINK(1)"}


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


def test_exports_say_what_the_records_say(entries: list[Entry]) -> None:
    files = dict(exported(entries, tracks_of(entries)))
    expected = pd.DataFrame([row_of(each.record, each.path) for each in entries])
    episodes = [(entry, episode) for entry in entries for episode in entry.record.episodes]
    for read, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
        table = read(io.BytesIO(files[f"results.{suffix}"]))
        assert tuple(table.columns) == COLUMNS
        for name in COLUMNS:
            if expected[name].dtype.kind in "if":
                np.testing.assert_array_equal(
                    table[name].to_numpy(float), expected[name].astype(float)
                )
            elif name != "reason":
                assert list(table[name]) == list(expected[name].astype(str)), name
        table = read(io.BytesIO(files[f"episodes.{suffix}"]))
        assert tuple(table.columns) == EPISODE_COLUMNS and len(table) == len(episodes)
        for row, (entry, episode) in zip(table.to_dict("records"), episodes, strict=True):
            assert row["submission"] == entry.record.identity.submission
            assert str(row["target"]) == episode.target
            if episode.measures is not None:
                assert row["d_prime"] == episode.measures.d_prime
                assert row["hits"] == episode.measures.hits


def test_the_citation_names_these_records(entries: list[Entry]) -> None:
    cited = dict(exported(entries, tracks_of(entries)))["citation.bib"].decode()
    assert cited.startswith("@misc{") and f"{len(entries)} records" in cited
    assert dict(exported(entries[1:], tracks_of(entries[1:])))["citation.bib"].decode() != cited
    readme = dict(exported(entries, tracks_of(entries)))["README.md"].decode()
    assert cited.strip() in readme and "@RECORDS@" not in readme
    assert all(f"`{name}`" in readme for name in {*COLUMNS, *EPISODE_COLUMNS, *CONSISTENCY_COLUMNS})


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


def test_consistencies_of_all_pairs_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(900)
    said = 0.5 * hard + 0.5 * rng.random((5, 900)) < rng.uniform(0.3, 0.8, (5, 1))
    said[4] = True
    known = np.ones_like(said)
    known[1, :200] = False
    found = consistencies(said, known)
    for i in range(5):
        for j in range(5):
            both = known[i] & known[j]
            expected = consistency(said[i, both], said[j, both])
            assert found.images[i, j] == expected.images
            for name, close in (
                ("kappa", 1e-9),
                ("largest", 1e-9),
                ("low", 0.015),
                ("high", 0.015),
            ):
                value, wanted = getattr(found, name)[i, j], getattr(expected, name)
                if wanted is None:
                    assert np.isnan(value)
                else:
                    assert value == pytest.approx(wanted, abs=close)


def test_the_table_of_consistency_has_every_pair_once(entries: list[Entry]) -> None:
    files = dict(exported(entries, tracks_of(entries)))
    for read, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
        table = read(io.BytesIO(files[f"consistency.{suffix}"]))
        assert tuple(table.columns) == CONSISTENCY_COLUMNS
        keys = [
            "track",
            "backbone",
            "trials",
            *(c for c in CONSISTENCY_COLUMNS if c[-2:] in ("_a", "_b")),
        ]
        assert not table.duplicated(keys).any() and set(table["trials"]) == {"present", "absent"}
        known = table[table["kappa"].notna()]
        assert len(known) > 100
        assert (known["kappa_low"] <= known["kappa"]).all() and (
            known["kappa"] <= known["kappa_high"]
        ).all()
        assert (known["kappa"] <= known["kappa_largest"] + 1e-9).all()


def bid(name: str, d_prime: float, parameters: int, passes: float) -> Bid:
    return Bid(Entrant(name, "a" * 64, "cpu"), d_prime, parameters, passes, "a processor")


def test_a_front_has_whom_none_dominates_and_by_how_much() -> None:
    bids = [
        bid("cheap", 1.0, 1, 5.0),
        bid("quick", 0.5, 900, 0.1),
        bid("best", 3.0, 50, 9.0),
        bid("dominated", 1.2, 50, 9.5),
        bid("between", 1.5, 50, 9.0),
    ]
    found = {lead.bid.entrant.submission: lead.margin for lead in front(bids)}
    # nobody has one parameter, or a tenth of a pass; `best` leads "between" by 1.5
    assert found == {"best": 1.5, "cheap": None, "quick": None}
    assert [lead.bid.d_prime for lead in front(bids)] == [3.0, 1.0, 0.5]
    # a margin is what it says: a little less is still on the front, a little more is not
    for lost, names in ((1.49, {"best", "cheap", "quick"}), (1.51, {"between", "cheap", "quick"})):
        worse = [replace(b, d_prime=b.d_prime - lost * (b is bids[2])) for b in bids]
        assert {lead.bid.entrant.submission for lead in front(worse)} == names
    assert front([]) == ()


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
