"""The printed results of an evaluation: the table, the reasons of failures, and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from attnbench.cli import report, results_table
from attnbench.cli.main import app
from attnbench.commands.evaluate import Evaluation
from attnbench.records.outcome import SCORES_SCHEMA
from attnbench.records.record import Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.store import RecordStore
from attnbench.text import printable


def frame() -> pd.DataFrame:
    """Three rows as `evaluate` returns them: two succeeded and one failed."""
    ok = {
        "submission": "attention",
        "task": "imagenet-standard",
        "track": "mini",
        "backbone": "shipped/figures-vgg",
        "seed": 0,
        "device": "cpu",
        "status": "ok",
        "reason": "",
        "targets": 12,
        "d_prime": 2.345,
        "d_prime_low": 2.011,
        "d_prime_high": 2.612,
        "d_prime_pooled": 2.4,
        "criterion": -0.123,
        "d_a": 2.5,
        "auc": 0.96,
        "hit_rate": 0.9,
        "false_alarm_rate": 0.1,
        "parameters_added": 512,
        "parameters_changed": 0,
        "other_numbers": 35,
        "artefact_bytes": 4000,
        "peak_memory_bytes": 5_000_000,
        "adaptation_seconds": 0.1234,
        "adaptation_seconds_cold": 0.2,
        "adaptation_passes": 12.34,
        "prediction_seconds": 0.01,
        "precision": "float32",
        "isolation": "process",
        "record": "records/a-rather-long-name-of-a-record-that-must-not-be-wrapped-at-all-now.json",
    }
    large = ok | {
        "submission": "last_layer",
        "parameters_added": 4_097_000,
        "parameters_changed": 4_097_000,
        "d_prime_low": -10.0,
        "adaptation_seconds": 12.34,
        "adaptation_passes": 1234.5,
        "device": "cuda",
    }
    missing = dict.fromkeys(column for column in ok if column not in _COLUMNS_OF_FAILURES)
    failed = ok | missing | {"status": "failed", "reason": "raised: \x1b[31m[bold]boom[/]\nagain"}
    return pd.DataFrame([ok, large, failed | {"submission": "broken"}])


# The columns that a failed row fills.
_COLUMNS_OF_FAILURES = [
    "submission",
    "task",
    "track",
    "backbone",
    "seed",
    "device",
    "status",
    "reason",
    "targets",
    "isolation",
    "record",
]


def evaluation(rows: pd.DataFrame) -> Evaluation:
    """What an evaluation with these rows gives. Counts are integers and missing values None."""
    counts = ("seed", "targets", "parameters_added", "parameters_changed", "other_numbers")
    counts += ("artefact_bytes",)
    plain = [
        {
            column: None if pd.isna(value) else int(value) if column in counts else value
            for column, value in row.items()
        }
        for row in rows.to_dict("records")
    ]
    for number, results in rows.attrs.get("episodes", {}).items():
        plain[number]["episodes"] = results
    return Evaluation(plain, rows.attrs.get("folders", {}))


def report_text(width: int, rows: pd.DataFrame | None = None, **options: bool) -> str:
    """The printed report of some rows, those of `frame()` by default."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    report.print_report(evaluation(frame() if rows is None else rows), console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 96, 120])
def test_table_fits_the_terminal_without_broken_lines(width: int) -> None:
    text = report_text(width)
    table = text.split("failed: ")[0].splitlines()
    assert max(map(len, table)) <= width
    assert "…" not in "".join(table)
    assert table[0].startswith("task / submission") and "d′ [95 %]" in table[0]
    (attention,) = [line for line in table if "attention" in line]
    assert "2.35 [2.01, 2.61]" in attention and "2.50" in attention
    headings = ("targets", "c", "parameters", "adaptation", "passes", "device")
    missing = [heading for heading in headings if f" {heading}" not in table[0]]
    # What is not in the table is named below it.
    note = f"Too narrow for all columns. --wide also shows: {', '.join(missing)}"
    assert (note in " ".join(" ".join(table).split())) == bool(missing)
    assert ("4,097,000 + 4,097,000" in text) == ("parameters" not in missing)
    assert "a-rather-long-name-of-a-record-that-must-not-be-wrapped-at-all-now.json" in text


def test_wide_table_has_all_columns_in_any_terminal() -> None:
    assert report_text(60, wide=True).splitlines()[0] == report_text(200).splitlines()[0]


def test_rows_of_a_task_stand_together() -> None:
    rows = pd.concat([frame(), frame().assign(task="noisy-mnist")]).sample(frac=1, random_state=0)
    lines = report_text(200, rows).split("failed: ")[0].splitlines()[2:]
    names = [line.split("  ")[0] or line.split()[0] for line in lines]
    tasks = [name for name in names if name in ("imagenet-standard", "noisy-mnist")]
    assert sorted(tasks) == ["imagenet-standard", "noisy-mnist"]
    assert len(names) == 2 * 4 and names.index(tasks[1]) == 4


def test_rows_of_several_tracks_name_them() -> None:
    rows = pd.concat([frame().head(1).assign(track=track) for track in ("edge", "silhouette")])
    table = report_text(100, rows).splitlines()
    assert table[0].startswith("task / track ")
    assert [line.split()[0] for line in table[3:5]] == ["edge", "silhouette"]


def test_failure_is_printed_without_control_characters() -> None:
    text = report_text(120)
    assert "failed: broken, imagenet-standard" in text
    assert "[bold]boom[/]\n    again" in text
    assert "\x1b" not in text


DETAIL = """Traceback (most recent call last):
  File "submission.py", line 1, in adapt
    raise ValueError("a long message that is not wrapped anywhere, however narrow the terminal")
ValueError: a long message that is not wrapped anywhere, however narrow the terminal"""


@pytest.fixture
def failed_frame(tmp_path: Path, make_record: Callable[..., Record]) -> pd.DataFrame:
    """Two rows of one submission, whose targets all fail alike and print escape sequences."""
    store = RecordStore(tmp_path / "records")
    rows = []
    for task in ("noisy-mnist", "imagenet-standard"):
        record = make_record(reason=DETAIL.splitlines()[-1], task=task)
        update = {"detail": DETAIL, "traceback": f"all of it\n{DETAIL}", "printed": "\x1b[2Jhi\a"}
        episodes = tuple(episode.model_copy(update=update) for episode in record.episodes)
        path = store.save(
            record.model_copy(update={"episodes": episodes}), SCORES_SCHEMA.empty_table()
        )
        rows.append(row_of(store.read(path), path))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    (tmp_path / "made-up").mkdir()
    (tmp_path / "made-up" / "submission.py").touch()
    frame.attrs["folders"] = {"made-up": str(tmp_path / "made-up")}
    return frame


def test_a_row_of_some_targets_is_explained_by_these_targets(failed_frame: pd.DataFrame) -> None:
    """There may be no record yet, or one of all targets."""
    path = Path(failed_frame["record"][0])
    (first, *_) = RecordStore(path.parent).read(path).episodes
    for record in (None, str(path)):
        rows = failed_frame.head(1).assign(record=record)
        rows.attrs["episodes"] = {0: (first,)}
        text = " ".join(report_text(120, rows, verbose=True).split())
        assert "failed: made-up on 1 of 1 target of noisy-mnist" in text
        assert "all of it Traceback" in text
        assert "printed by made-up on noisy-mnist, cat:" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_equal_failures_are_printed_once_with_the_lines_of_code(
    width: int, failed_frame: pd.DataFrame, tmp_path: Path
) -> None:
    text = report_text(width, failed_frame)
    message = DETAIL.splitlines()[-1]
    heading = f"failed: made-up on 4 of 4 targets of 2 tasks: {message}"
    assert " ".join(text.split()).count(heading) == 1
    lines = text.splitlines()
    start = lines.index("    Traceback (most recent call last):")
    assert lines[start + 1] == f'      File "{tmp_path}/made-up/submission.py", line 1, in adapt'
    assert lines[start + 2] == f"    {DETAIL.splitlines()[2]}"
    assert "all of it" not in text and "hi" not in text.split()


def test_verbose_report_has_whole_tracebacks_and_what_was_printed(
    failed_frame: pd.DataFrame,
) -> None:
    text = report_text(80, failed_frame, verbose=True)
    assert text.count("\n    all of it\n") == 1
    assert text.count("printed by made-up on noisy-mnist, cat and 3 more:\n    hi�\n") == 1


def test_records_show_prints_them_too(failed_frame: pd.DataFrame) -> None:
    path = failed_frame["record"][0]
    plain, verbose = (
        CliRunner().invoke(app, ["records", "show", path, *options]).output
        for options in ([], ["--verbose"])
    )
    assert verbose.startswith(plain) and "all of it" not in plain
    assert '      File "submission.py", line 1, in adapt' in verbose.splitlines()
    assert "    hi�" in verbose.splitlines()


def test_json_has_one_object_per_line_with_nulls(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json(evaluation(frame()))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["submission"] for row in rows] == ["attention", "last_layer", "broken"]
    assert list(rows[0]) == list(frame().columns)
    assert rows[2]["d_prime"] is None
    assert rows[0]["parameters_added"] == 512
    assert isinstance(rows[0]["parameters_added"], int)


def test_any_failed_is_true_for_a_failed_row() -> None:
    assert report.any_failed(evaluation(frame()))
    assert not report.any_failed(evaluation(frame().head(2)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0000005, "0 µs"), (0.00042, "420 µs"), (0.0123, "12.3 ms"), (1.5, "1.5 s")],
)
def test_seconds_have_three_significant_digits(value: float | None, text: str) -> None:
    assert results_table.seconds(value) == text


def test_report_explains_missing_times() -> None:
    assert "--timing-only" not in report_text(80)
    contended = frame().assign(adaptation_seconds=None, adaptation_passes=None)
    assert "--timing-only" in report_text(80, contended)


def test_printable_text_is_one_bounded_line() -> None:
    assert printable("a\n\x1b[2J‮b", 100) == "a �[2J�b"
    assert len(printable("x" * 5000)) == 1000


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_names_of_a_sweep_stay_apart(width: int) -> None:
    swept = frame().iloc[:2].assign(submission=[f"{'method_' * 6}-rate-0.{n}" for n in (1, 2)])
    output = io.StringIO()
    report.print_report(evaluation(swept), Console(width=width, file=output, highlight=False))
    table, _ = output.getvalue().split("Record:")
    assert max(map(len, table.splitlines())) <= width
    text = "".join(table.split())
    assert "rate-0.1" in text and "rate-0.2" in text
