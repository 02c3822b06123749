"""Questions of the timing protocol about the judge's clock: repeats, other work, what is charged."""

from __future__ import annotations

import statistics

from attnbench.submission import load_submission
from benchmarks.gpu import judging
from benchmarks.gpu.part import Measured, Sizes
from benchmarks.gpu.rates import until
from benchmarks.gpu.side_work import amount_of_work, with_work
from benchmarks.measured import Figure
from benchmarks.studies.timing_protocol import (
    busy_process,
    costs,
    interval_widths,
    rehearsal_ratios,
)

METHOD = "attention"


def repeats(sizes: Sizes, seconds: float, suffix: str = "") -> Measured:
    """Time the same adaptation again and again by the judge's clock."""
    submission = load_submission(METHOD)
    evaluator = judging.evaluator_on(sizes.device, sizes.backbone, submission)
    measured = costs(evaluator, sizes.repeats, seconds=seconds)
    by_row = {
        "by the judge, warm": [cost.adaptation_seconds for cost in measured],
        "by the judge, cold": [cost.adaptation_seconds_cold or 0.0 for cost in measured],
        "by the judge, the pass": [cost.pass_seconds for cost in measured],
    }
    figures = [Figure(row=row + suffix, unit="s", values=values) for row, values in by_row.items()]
    passes = [cost.adaptation_seconds / cost.pass_seconds for cost in measured]
    figures.append(Figure(row=f"by the judge, warm, in passes{suffix}", values=passes))
    if not suffix:
        warm = by_row["by the judge, warm"]
        figures += [
            Figure(
                row=f"half of the 95 % interval after {count} repeats, over the median",
                unit="%",
                values=[width],
            )
            for count, width in interval_widths(warm).items()
        ]
    return Measured(tuple(figures))


def second_job(sizes: Sizes, seconds: float) -> Measured:
    """Time the same beside another process that uses the device."""
    with busy_process(sizes.device):
        return repeats(sizes, seconds, ", beside a second job")


def side_streams(sizes: Sizes, seconds: float) -> Measured:
    """Is work charged that a submission has put off on another stream?"""
    size, count = amount_of_work(sizes)
    plain = load_submission(METHOD)
    versions = {
        "without more work": plain,
        "with more work": with_work(plain, size, count, aside=False),
        "with it on another stream": with_work(plain, size, count, aside=True),
    }
    evaluator = judging.evaluator_on(sizes.device, sizes.backbone, plain)
    figures, medians = [], []
    for row, version in versions.items():
        measured = costs(
            evaluator,
            max(1, sizes.repeats // 6),
            submission=version,
            cold=False,
            seconds=seconds / len(versions),
        )
        values = [cost.adaptation_seconds for cost in measured]
        figures.append(Figure(row=f"by the judge, {row}", unit="s", values=values))
        medians.append(statistics.median(values))
    without, on_current, on_other = medians
    charged = (on_other - without) / (on_current - without)
    row = "the share of the work on another stream that is charged"
    figures.append(Figure(row=row, unit="%", values=[charged], aim=0.9, more_is_better=True))
    return Measured(tuple(figures))


def rehearsal(sizes: Sizes, seconds: float) -> Measured:
    """How much longer does an adaptation take after a rehearsal on fewer images?"""
    submission = load_submission(METHOD)
    evaluator = judging.evaluator_on(sizes.device, sizes.backbone, submission)
    ratios: list[float] = []
    until(
        seconds,
        max(1, sizes.repeats // 2),
        lambda: ratios.extend(rehearsal_ratios(evaluator, METHOD, 1)),
    )
    row = "time after a rehearsal on 8 + 8 images, over that after one on 64 + 64"
    return Measured((Figure(row=row, values=ratios),))
