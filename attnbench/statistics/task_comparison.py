"""The result of comparing several submissions on one task, and its wording."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnbench.statistics.comparison import Difference
from attnbench.statistics.consistency import Consistency

_LISTED_PAIRS = 6


@dataclass(frozen=True)
class PairComparison:
    """A comparison of two submissions on one task: first - second.

    Attributes:
        first, second: names of the submissions.
        d_prime, d_a: the paired differences; p-values are corrected for all pairs of the task.
        present, absent: error consistency on images with the target, and on images without it.
    """

    first: str
    second: str
    d_prime: Difference
    d_a: Difference
    present: Consistency
    absent: Consistency

    @property
    def is_in_both_measures(self) -> bool:
        """Whether d' and d_a both differ significantly, in the same direction.

        d_a does not depend on the criterion, so a gain in d' alone may be a shift of it.
        """
        both = self.d_prime.significant and self.d_a.significant
        return both and self.d_a.estimate * self.d_prime.estimate > 0

    @property
    def conclusion(self) -> str:
        """What the comparison shows, as a clause."""
        difference = self.d_prime
        estimate = f"{difference.estimate:+.2f} d′ [{difference.low:+.2f}, {difference.high:+.2f}]"
        if not difference.significant:
            return f"{self.first} and {self.second} could not be distinguished ({estimate})"
        better, worse = (self.first, self.second)[:: 1 if difference.estimate > 0 else -1]
        if self.is_in_both_measures:
            return f"{better} is better than {worse} ({estimate}, and in d_a too)"
        return (
            f"{better} has a larger d′ than {worse} ({estimate}), "
            "which a shift of the criterion may explain"
        )


@dataclass(frozen=True)
class TaskComparison:
    """A comparison of several submissions on one task, track and backbone.

    Attributes:
        episodes: number of targets and seeds that all of them have.
        d_prime: each submission's mean d' over these episodes, by name.
        pairs: the comparison of every pair.
        folders: where each submission's records are, by name.
    """

    track: str
    task: str
    backbone: str
    episodes: int
    d_prime: dict[str, float]
    pairs: tuple[PairComparison, ...]
    folders: dict[str, str] = field(default_factory=dict)

    @property
    def conclusion(self) -> str:
        """What the comparison shows, as a sentence. Many pairs are counted rather than listed."""
        pairs = self.pairs
        if len(pairs) <= _LISTED_PAIRS:
            shown = "; ".join(pair.conclusion for pair in pairs)
        else:
            shown = (
                f"{sum(pair.d_prime.significant for pair in pairs)} of {len(pairs)} pairs differ "
                f"significantly in d′, and {sum(pair.is_in_both_measures for pair in pairs)} "
                "in both d′ and d_a"
            )
        return f"On {self.task} ({self.track}, {self.backbone}, {self.episodes} episodes) {shown}."
