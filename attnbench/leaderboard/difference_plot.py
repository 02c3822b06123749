"""A plot of paired differences between submissions, in colours that colour-blind readers can tell
apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.comparison import (
    PairComparison,
    SettingDifference,
    TrackComparison,
)
from attnbench.statistics.joint_means import Estimate

# Okabe & Ito's blue and orange.
_D_PRIME_COLOUR, _D_A_COLOUR = "#0072B2", "#E69F00"


def plot_differences(comparisons: Sequence[TrackComparison], path: Path) -> None:
    """Plot the differences in d' and d_a with 95 % intervals: for each pair joint, then by task.

    Args:
        comparisons: the comparison on each track.
        path: the file to write; its suffix says the format.

    Raises:
        AttnbenchError: if the file cannot be written, or matplotlib does not know its format.
    """
    rows = [
        (f"{pair.first} − {pair.second}\n{where}", difference)
        for comparison in comparisons
        for pair in comparison.pairs
        for where, difference in _differences(comparison, pair)
    ]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    for measure, colour, offset in (
        ("d_prime", _D_PRIME_COLOUR, -0.15),
        ("d_a", _D_A_COLOUR, 0.15),
    ):
        estimates: list[Estimate] = [getattr(difference, measure) for _, difference in rows]
        ends = [one.interval or (one.value, one.value) for one in estimates]
        axes.errorbar(
            [one.value for one in estimates],
            [number + offset for number in range(len(rows))],
            xerr=[
                [one.value - low for one, (low, _) in zip(estimates, ends, strict=True)],
                [high - one.value for one, (_, high) in zip(estimates, ends, strict=True)],
            ],
            fmt="o" if measure == "d_prime" else "s",
            color=colour,
            capsize=3,
            label="d′" if measure == "d_prime" else "d_a (unaffected by the criterion)",
        )
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("paired difference in sensitivity (z units), 95 % interval")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise AttnbenchError(f"{path} cannot be written: {error}") from None


def _differences(
    comparison: TrackComparison, pair: PairComparison
) -> Iterator[tuple[str, PairComparison | SettingDifference]]:
    """Yield what the rows of a pair are about, and the differences: joint, then of each setting."""
    if len(pair.settings) > 1:
        yield f"{comparison.track}, joint", pair
    for setting in pair.settings:
        yield f"{setting.task}, {comparison.track}, {setting.backbone}", setting
