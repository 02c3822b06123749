"""What adaptation learns, and what it costs elsewhere.

    python -m benchmarks.studies.what_adaptation_learns [--part PART]… [--records DIR] [--data DIR]
        [--write]

`--write` writes the tables and figures in docs/what-adaptation-learns.md. The parts are

- curves: data efficiency and generalisation lag, on digits and on drawings;
- many-images: the same with many images to adapt on, on photographs and MNIST, which `--data` holds;
- budgets: d_a against adaptation time for methods with a budget, and the Pareto front;
- interference: targets learned one after the other, and the accuracy on other classes;
- amplified: whether gains follow what channels tell of the target, and where they act.

All but the last are made from records, which are kept in the folder of records and resumed. The last
adapts in this process each time, since it looks into the detectors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

import attnbench
from attnbench.commands.explain import Explanation
from attnbench.leaderboard.curve_plot import curve_plot
from attnbench.leaderboard.interference_plot import interference_plot
from attnbench.leaderboard.plot_style import BLUE, INK, Plot, new_figure, styled, svg
from attnbench.records.learning_curves import Curve
from attnbench.runs.curve_plans import Size
from attnbench.statistics.curves import Estimate
from attnbench.statistics.intervals import mean_interval
from benchmarks.studies.pages import DOCS, write_block

PAGE = DOCS / "what-adaptation-learns.md"
DIGITS, DRAWINGS = "noisy-mnist", "imagenet-standard"
LEARNERS = ("prototype", "lda", "linear_probe", "bias_only", "attention", "film", "last_layer")
WITH_MANY_IMAGES = (
    "prototype",
    "tip_adapter",
    "linear_probe",
    "bias_only",
    "attention",
    "last_layer",
)
# The methods on a task and the numbers of images. There are fewer on drawings, which have three times
# the targets and take longer.
CURVES: dict[str, tuple[Sequence[str], Sequence[Size]]] = {
    DIGITS: ((*LEARNERS, "full_finetune"), (1, 2, 4, 8, "all")),
    DRAWINGS: (("prototype", "bias_only", "attention", "lda", "last_layer"), (1, 4, "all")),
}
TASKS = Path(__file__).parent / "tasks"
MANY_IMAGES: dict[str, tuple[Sequence[str], Sequence[Size]]] = {
    str(TASKS / "many-digits.toml"): ((*WITH_MANY_IMAGES, "film"), (1, 10, 100, "all")),
    str(TASKS / "many-photographs.toml"): (WITH_MANY_IMAGES, (1, 4, 16, 64, "all")),
}
BUDGETED = (
    "prototype",
    "lda",
    "bias_only",
    "attention",
    "film",
    "last_layer",
    "bitfit",
    "feature_gain",
    "full_finetune",
)
SEQUENTIAL = (
    "none",
    "bias_only",
    "last_layer",
    "attention",
    "feature_gain",
    "film",
    "bitfit",
    "adapter",
    "full_finetune",
)
AMPLIFYING = ("attention", "feature_gain", "film")
_TARGETS = 10


def curves(records: Path, data: Path | None) -> tuple[str, Plot]:
    """Return the table and the figure of learning curves."""
    return _curves(CURVES, records, data)


def many_images(records: Path, data: Path | None) -> tuple[str, Plot]:
    """Return the table and the figure of learning curves with many images to adapt on."""
    return _curves(MANY_IMAGES, records, data)


def _curves(
    wanted: dict[str, tuple[Sequence[str], Sequence[Size]]], records: Path, data: Path | None
) -> tuple[str, Plot]:
    found = [
        curve
        for task, (names, sizes) in wanted.items()
        for curve in attnbench.curve(names, images=sizes, tasks=task, records=records, data=data)
    ]
    rows = [
        (
            curve.key.task,
            curve.key.submission,
            *(f"{curve.d_a[:, n].mean():.2f} ({curve.abscissa[n]:g})" for n in (0, -1)),
            _text(curve.summary.area),
            f"{curve.summary.needed.value:.1f}",
            _text(curve.summary.lag),
            f"{curve.summary.peak.value:g}",
        )
        for curve in found
    ]
    heads = ("task", "", "d_a, fewest", "d_a, all", "area", "90 % from", "lag", "peak")
    return _table(rows, heads), curve_plot(found)


def budgets(records: Path, data: Path | None) -> tuple[str, Plot]:
    """Return the table and the figure of d_a against adaptation time."""
    found = attnbench.curve(BUDGETED, budget="declared", tasks=DIGITS, records=records)
    return _table(list(_budget_rows(found)), ("", "budget", "passes", "d_a")), curve_plot(found)


def _budget_rows(found: Sequence[Curve]) -> Iterator[tuple[str, ...]]:
    """Yield the Pareto front of all points: the fastest first, each better than those before."""
    points = sorted(
        (passes, -d_a, curve.key.submission, _budget(curve, value))
        for curve in found
        for value, passes, d_a in zip(
            curve.abscissa, curve.contended_passes, curve.d_a.mean(axis=0), strict=True
        )
    )
    best = -np.inf
    for passes, negative_d_a, submission, value in points:
        if -negative_d_a > best:
            best = -negative_d_a
            yield submission, value, f"{passes:.1f}", f"{best:.2f}"


def _budget(curve: Curve, value: float) -> str:
    return f"{value:g} {curve.axis}" if len(curve.abscissa) > 1 else ""


def interference(records: Path, data: Path | None) -> tuple[str, Plot]:
    """Return the table and the figure of interference."""
    found = attnbench.interference(SEQUENTIAL, task=DRAWINGS, records=records)
    kinds = (True, False)
    rows = [
        (
            each.submission,
            *(_text(each.lost(similar=similar), "+.2f") for similar in kinds),
            *(_text(each.gained(similar=similar), "+.2f") for similar in kinds),
            f"{each.top1('untouched').value:.1%}",
            f"{each.top1('adapted').value:.1%}",
            f"{each.top1('detached').value:.1%}",
        )
        for each in found
        if each.has_sequences
    ]
    heads = (
        "",
        "on A, similar",
        "on A, dissimilar",
        "on B, similar",
        "on B, dissimilar",
        "top-1 before",
        "after",
        "taken off",
    )
    return _table(rows, heads), interference_plot([each for each in found if each.has_sequences])


def amplified(records: Path, data: Path | None) -> tuple[str, Plot]:
    """Return the table and the figure of what gains amplify.

    Args:
        records, data: not used, as nothing is recorded.
    """
    found = {
        (task, name): [
            attnbench.explain(name, task=task, target=target) for target in _targets_of(task)
        ]
        for task in (DRAWINGS, DIGITS)
        for name in AMPLIFYING
    }
    rows = []
    for (task, name), explanations in found.items():
        inside = [each.inside for each in explanations if each.inside is not None]
        shares = [f"{share:.0%}" for share in np.mean(inside, axis=0)] if inside else ["", "", ""]
        rows.append((task, name, _text(_correlation(explanations), "+.2f"), *shares))
    heads = ("task", "", "rank correlation", "amplification inside", "activation", "area")
    return _table(rows, heads), _amplified_plot(found)


def _targets_of(task: str) -> Sequence[str]:
    return attnbench.episode(task).stimuli.targets[:_TARGETS]


def _correlation(explanations: Sequence[Explanation]) -> Estimate:
    """Return the mean over targets of the rank correlation of gains with the channels' d_a."""
    values = np.array([each.correlation[0] for each in explanations])
    values = values[np.isfinite(values)]
    return Estimate(float(values.mean()), *mean_interval(values))


def _amplified_plot(found: dict[tuple[str, str], list[Explanation]]) -> Plot:
    with styled():
        figure = new_figure(7, 0.9 + 0.4 * len(found))
        axes = figure.subplots()
        for row, explanations in enumerate(found.values()):
            values = [each.correlation[0] for each in explanations]
            axes.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.35, markersize=4)
            mean = _correlation(explanations)
            axes.plot([mean.low, mean.high], [row, row], color=INK, linewidth=1.5)
            axes.plot(mean.value, row, "D", color=INK, markersize=5)
        axes.set_yticks(range(len(found)), [f"{name}, {task}" for task, name in found])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlim(-1, 1)
        axes.grid(True, axis="x")
        axes.set_xlabel("rank correlation of a channel's gain with its d_a before adaptation")
        figure.tight_layout()
    description = (
        "Rank correlation between the gains of channels and their d_a, for each target, with the "
        "mean over targets and its interval"
    )
    return Plot("amplified", "What is amplified", description, figure)


def _text(estimate: Estimate, form: str = ".2f") -> str:
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


# The parts, with the files of their figures in docs.
PARTS: dict[str, tuple[Callable[[Path, Path | None], tuple[str, Plot]], str]] = {
    "curves": (curves, "learning-curves.svg"),
    "many-images": (many_images, "many-images.svg"),
    "budgets": (budgets, "budgets.svg"),
    "interference": (interference, "interference.svg"),
    "amplified": (amplified, "amplified.svg"),
}


def main() -> None:
    """Make the tables and figures of the chosen parts."""
    parser = argparse.ArgumentParser(description="what adaptation learns, and what it costs")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--records", type=Path, default=Path("records"), help="default: records")
    parser.add_argument("--data", type=Path, help="the data folder; without it, no many-images")
    parser.add_argument("--write", action="store_true", help="write the tables and figures in docs")
    options = parser.parse_args()
    parts = options.part or [name for name in PARTS if options.data or name != "many-images"]
    for name in parts:
        make, file = PARTS[name]
        table, plot = make(options.records, options.data)
        print(table)
        if options.write:
            (DOCS / file).write_bytes(svg(plot))
            write_block(PAGE, name, f"![{plot.description}]({file})\n\n{table}")


if __name__ == "__main__":
    main()
