"""The result of comparing submissions with each other, and its wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from attnbench.statistics.consistency import Consistency
from attnbench.statistics.joint_means import Estimate
from attnbench.statistics.ranking import LEVEL

_LISTED_PAIRS = 6
# More targets than this many times those at hand are not worth a number.
_MOST_TIMES = 100


@dataclass(frozen=True)
class SettingDifference:
    """A difference between two submissions on one task and backbone, first - second.

    Attributes:
        task, backbone: the setting.
        targets: number of targets that both have.
        in_mean: whether it is part of the joint difference.
        d_prime, d_a: mean over targets, in z units.
        present, absent: error consistency on images with the target, and on images without it.
    """

    task: str
    backbone: str
    targets: int
    in_mean: bool
    d_prime: Estimate
    d_a: Estimate
    present: Consistency
    absent: Consistency


@dataclass(frozen=True)
class PairComparison:
    """A comparison of two submissions: first - second.

    Attributes:
        first, second: names of the submissions.
        d_prime, d_a: the joint differences, means over settings of means over targets, in z units.
        p: two-sided p-value of the difference in d_a; None with a single target.
        p_holm: the same with Holm's correction for all pairs of the comparison.
        more_targets: how many more targets would show a difference in d_a of this size with a
            probability of 80 %; None if it is shown already, or if that many cannot be had.
        settings: the differences in each setting.
    """

    first: str
    second: str
    d_prime: Estimate
    d_a: Estimate
    p: float | None
    p_holm: float | None
    more_targets: int | None
    settings: tuple[SettingDifference, ...]

    @property
    def significant(self) -> bool:
        """Whether the difference in d_a is significant at 5 % after correction."""
        return self.p_holm is not None and self.p_holm < LEVEL

    @property
    def conclusion(self) -> str:
        """What the comparison shows, as a clause."""
        better, worse = (self.first, self.second)[:: 1 if self.d_a.value > 0 else -1]
        estimate = f"{_signed(self.d_a)} d_a"
        if self.p_holm is not None:
            estimate += ", p < 0.001" if self.p_holm < 0.001 else f", p = {self.p_holm:.3f}"
        if self.p_holm is None:
            return (
                f"{self.first} and {self.second} differ by {estimate}, which a single target cannot "
                "generalise to others"
            )
        if self.significant:
            return f"{better} is better than {worse} ({estimate})"
        clause = f"{self.first} and {self.second} could not be distinguished ({estimate}"
        if self.more_targets is None:
            clause += "; more targets would hardly show so small a difference)"
        else:
            more = f"{self.more_targets:,} more target{'' if self.more_targets == 1 else 's'}"
            clause += f"; about {more} would show a difference of this size)"
        low, high = self.d_prime.interval or (0.0, 0.0)
        if low > 0 or high < 0:
            clause += (
                f", although their d′ differs by {_signed(self.d_prime)}, which a shift of the "
                "criterion may explain"
            )
        return clause


@dataclass(frozen=True)
class TrackComparison:
    """A comparison of several submissions on a track, on targets of one kind.

    Attributes:
        track: the track.
        has_labels: whether the targets are labels of the backbone.
        tasks: the task and backbone of each setting that the joint differences are over.
        targets: number of different targets in these.
        episodes: number of episodes in these that all submissions have.
        d_prime, d_a: each submission's means, by name.
        pairs: the comparison of every pair.
        folders: where each submission's records are, by name.
    """

    track: str
    has_labels: bool
    tasks: tuple[tuple[str, str], ...]
    targets: int
    episodes: int
    d_prime: dict[str, float]
    d_a: dict[str, float]
    pairs: tuple[PairComparison, ...]
    folders: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The track, and what is compared on it."""
        kind = "" if self.has_labels else ", targets without a label"
        tasks = self.tasks[0][0] if len(self.tasks) == 1 else f"{len(self.tasks)} tasks"
        return (
            f"{self.track}{kind}: {tasks}, {_count(self.targets, 'target')}, "
            f"{_count(self.episodes, 'episode')}"
        )

    @property
    def conclusions(self) -> list[str]:
        """What the comparison shows, a sentence each. Many pairs are counted rather than listed."""
        pairs = self.pairs
        if len(pairs) == 1:
            return [f"{pairs[0].conclusion}.", "One comparison, so p needs no correction."]
        corrected = f"p is corrected for {len(pairs)} comparisons (Holm); intervals are not."
        if len(pairs) <= _LISTED_PAIRS:
            return [*(f"{pair.conclusion}." for pair in pairs), corrected]
        significant = sum(pair.significant for pair in pairs)
        return [f"{significant} of {len(pairs)} pairs differ significantly in d_a.", corrected]


def targets_to_show(more: float, targets: int, significant: bool) -> int | None:
    """Return how many more targets to advise; None if there is nothing to show, or too many."""
    if significant or not more <= _MOST_TIMES * targets:
        return None
    return max(1, int(more))


def names_by_folder(comparisons: Sequence[TrackComparison]) -> dict[str, list[str]]:
    """Return the submissions whose records are from each folder."""
    used: dict[str, dict[str, None]] = {}
    for comparison in comparisons:
        for name, folder in comparison.folders.items():
            used.setdefault(folder, {})[name] = None
    return {folder: list(names) for folder, names in used.items()}


def _signed(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{estimate.value:+.2f}"
    low, high = estimate.interval
    return f"{estimate.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
