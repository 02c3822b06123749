"""The page that `python -m benchmarks.report` writes from the published records."""

from __future__ import annotations

import pytest

from benchmarks import report


def test_the_page_is_up_to_date_with_the_published_records() -> None:
    """After a change of the records, run `python -m benchmarks.report`."""
    files = report.report(report.RECORDS)
    assert [path.name for path, content in files.items() if path.read_bytes() != content] == []
    assert {path for path in files if path.suffix == ".svg"} == set(report.FIGURES.glob("*.svg"))


def test_p_is_corrected_for_all_comparisons_of_the_page() -> None:
    answers = report.answer_all(report.QUESTIONS[2:], report.RECORDS)
    pairs = [answer.pair for of_question in answers for answer in of_question]
    assert all(answers) and len(pairs) > 4
    # Holm: the smallest p times m, the next times m - 1, and so on, never less than one before.
    expected = 0.0
    for place, pair in enumerate(sorted(pairs, key=lambda pair: pair.p or 0.0)):
        assert pair.p is not None
        expected = max(expected, min(1.0, pair.p * (len(pairs) - place)))
        assert pair.p_holm == pytest.approx(expected)
