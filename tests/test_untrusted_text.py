"""Manifests, tasks, records and reasons from untrusted sources are read or rejected safely."""

from __future__ import annotations

import json
import re
import string
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.markdown import escape, markdown_of
from attnbench.leaderboard.standings import standings_of
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.resources import tasks_folder
from attnbench.submission import load_submission
from attnbench.tasks import read_task
from attnbench.text import printable

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b | c",
    "line\nbreak\r\nand\u2028another",
    "right\u202eto left\u2066",
    "x" * 1_000_000,
    "../../x",
    "/etc/passwd",
    "\x00\x1b[2J\x07",
    "![](http://example.org/x.png)",
    "`code` *bold* _it_ [link](http://x) ~~a~~",
    "",
    " ",
    ".",
    "..",
    "-rf",
    "con\u200bcat",
    "😀",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([text[:300] for text in HOSTILE]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
WITHOUT_HEALTH_CHECKS = settings(suppress_health_check=list(HealthCheck), deadline=None)


def assert_read_or_rejected(folder: Path, text: str | bytes) -> None:
    """Assert that a manifest has a valid name, or is rejected with an AttnbenchError."""
    (folder / "submission.py").write_text("", encoding="utf-8")
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (folder / "submission.toml").write_bytes(content)
    try:
        submission = load_submission(folder)
    except AttnbenchError as error:
        assert "Traceback" not in str(error) and len(str(error)) < 20_000
    else:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", submission.name)


def page_of(records: Sequence[Record]) -> str:
    """The leaderboard of some records, which must not raise."""
    newest = max((record.created for record in records), default="")
    return markdown_of(standings_of(records, {}, {}), newest)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_name_is_rejected(tmp_path: Path, name: str) -> None:
    text = f'name = {json.dumps(name)}\ntitle = "t"\nauthors = ["a"]\n'
    (tmp_path / "submission.py").touch()
    (tmp_path / "submission.toml").write_text(text, encoding="utf-8")
    with pytest.raises(AttnbenchError) as error:
        load_submission(tmp_path)
    assert len(str(error.value)) < 2000


@WITHOUT_HEALTH_CHECKS
@given(st.text(string.printable, max_size=200) | st.binary(max_size=200))
def test_any_text_is_a_valid_manifest_or_rejected(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert_read_or_rejected(Path(folder), text)


@WITHOUT_HEALTH_CHECKS
@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "title", "authors", "licence", "hyperparameters", "backbone", "x"]
        ),
        VALUES,
    )
)
def test_any_values_are_a_valid_manifest_or_rejected(fields: dict[str, object]) -> None:
    lines = []
    for key, value in fields.items():
        # JSON is nearly TOML. Where it is not, the manifest is rejected as invalid TOML.
        lines.append(f"{key} = {json.dumps(value)}")
    with tempfile.TemporaryDirectory() as folder:
        assert_read_or_rejected(Path(folder), "\n".join(lines))


@WITHOUT_HEALTH_CHECKS
@given(st.data())
def test_task_with_one_changed_line_is_valid_or_rejected(data: st.DataObject) -> None:
    text = (tasks_folder() / "noisy-mnist.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    key, equals, _ = lines[number].partition("=")
    lines[number] = f"{key}= {json.dumps(data.draw(VALUES))}" if equals else lines[number][::-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.toml")
        path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
        try:
            read_task(path)
        except AttnbenchError as error:
            assert str(path) in str(error)


@WITHOUT_HEALTH_CHECKS
@given(st.data())
def test_record_with_one_changed_value_is_valid_or_reported(data: st.DataObject) -> None:
    folder = Path(__file__).parents[1] / "published" / "mini" / "noisy-mnist"
    content = json.loads(next(iter(sorted(folder.glob("*.json")))).read_text())
    table = content
    for _ in range(data.draw(st.integers(0, 4))):
        if isinstance(table, dict) and table:
            key = data.draw(st.sampled_from(sorted(table)))
            if not isinstance(table[key], dict | list) or data.draw(st.booleans()):
                break
            table = table[key]
    if isinstance(table, dict) and table:
        table[data.draw(st.sampled_from(sorted(table)))] = data.draw(VALUES)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "mini", "noisy-mnist", "x.json")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        records, problems = RecordStore(Path(name)).load_all()
        assert len(records) + len(problems) == 1
        page_of([record for _, record in records])


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deeply_nested_text_is_rejected(tmp_path: Path, depth: int) -> None:
    assert_read_or_rejected(tmp_path, "name = " + "[" * depth)
    path = tmp_path / "mini" / "noisy-mnist" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_text("[" * depth)
    records, problems = RecordStore(tmp_path).load_all()
    assert not records and len(problems) == 1


@given(st.text() | st.sampled_from(HOSTILE))
def test_escaped_text_is_one_cell_without_markup(text: str) -> None:
    cell = escape(text)
    assert len(cell) < 1200
    assert not re.search(r"[\x00-\x1f\x7f<>\u2028\u2029\u200b\u202a-\u202e\u2066-\u2069]", cell)
    assert not re.search(r"(?<!\\)[|`*\[\]]", cell)


@given(st.text() | st.sampled_from(HOSTILE))
def test_printable_text_is_one_line_without_control_characters(text: str) -> None:
    line = printable(text)
    assert line.isprintable() and len(line) <= 1000


def test_hostile_reason_adds_no_row_to_the_leaderboard(make_record: Callable[..., Record]) -> None:
    rows = page_of([make_record()]).count("\n|")
    for text in HOSTILE:
        reason = text[:10_000]
        page = page_of([make_record(reason=reason or "none")])
        assert page.count("\n|") == rows
