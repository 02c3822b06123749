"""Which methods can be compared with each other, and their measures as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnbench.leaderboard.pooling import Setting, SettingResult
from attnbench.statistics.intervals import Floats
from attnbench.statistics.joint_means import JointMeans, joint_means
from attnbench.statistics.ranking import mean_of_known, paired_differences

# The control that only moves the criterion: it learns a single bias.
CONTROL = "bias_only"
Results = Mapping[Setting, SettingResult]
Measure = Literal["d_prime", "d_a"]


@dataclass(frozen=True)
class EpisodeTable:
    """Measures of m methods in the same settings, float `[m, settings, targets, episodes]` each.

    The episodes of a target are ordered by seed and images, so that two methods have the same episode
    at the same place. A value is NaN where a method lacks the episode, or failed in the setting.
    """

    settings: tuple[Setting, ...]
    d_prime: Floats
    d_a: Floats

    def select(self, measure: Measure) -> Floats:
        """Return the array of a measure."""
        return self.d_prime if measure == "d_prime" else self.d_a


def tabulate_episodes(methods: Sequence[Results], settings: Sequence[Setting]) -> EpisodeTable:
    """Return the measures of methods in some settings."""
    values = [
        {
            (number, episode.target, record.identity.seed, episode.images_sha256): episode.measures
            for number, setting in enumerate(settings)
            if setting in results and results[setting].status == "ok"
            for record in results[setting].records
            for episode in record.episodes
            if episode.measures is not None
        }
        for results in methods
    ]
    episodes = sorted(set().union(*values))
    targets = {target: n for n, target in enumerate(sorted({target for _, target, *_ in episodes}))}
    counts: dict[tuple[int, int], int] = {}
    places = {}
    for episode in episodes:
        cell = episode[0], targets[episode[1]]
        places[episode] = (*cell, counts.get(cell, 0))
        counts[cell] = counts.get(cell, 0) + 1
    shape = len(methods), len(settings), len(targets), max(counts.values(), default=0)
    d_prime, d_a = np.full(shape, np.nan), np.full(shape, np.nan)
    for number, of_method in enumerate(values):
        for episode, measures in of_method.items():
            d_prime[(number, *places[episode])] = measures.d_prime
            d_a[(number, *places[episode])] = measures.d_a
    return EpisodeTable(tuple(settings), d_prime, d_a)


@dataclass(frozen=True)
class Comparable:
    """Methods with all episodes that a comparison needs, and what the others have of these.

    Attributes:
        table: the measures of all m methods in the settings that are compared.
        control: float `[settings, targets, episodes]`, the control's d_a; None without a control.
        needed: bool `[settings, targets, episodes]`, the episodes that a method must have.
        complete: bool `[m]`, whether a method has them.
    """

    table: EpisodeTable
    control: Floats | None
    needed: NDArray[np.bool_]
    complete: NDArray[np.bool_]

    @property
    def targets(self) -> int:
        """The number of different targets."""
        return int(self.needed.any(axis=(0, 2)).sum())

    @property
    def seeds(self) -> int:
        """The largest number of episodes of a target in a setting."""
        return int(self.needed.sum(axis=2).max(initial=0))

    def values(self, measure: Measure) -> Floats:
        """Return a measure of the complete methods, `[complete, settings, targets, episodes]`."""
        needed_targets = self.needed.any(axis=2, keepdims=True)
        return np.where(needed_targets, self.table.select(measure)[self.complete], np.nan)

    def by_target(self, measure: Measure) -> Floats:
        """Return a measure of the complete methods by target, `[settings, targets, complete]`."""
        return np.moveaxis(mean_of_known(self.values(measure)), 0, -1)

    def difference_of(self, method: int) -> JointMeans | None:
        """Return a method's difference from the control in d_a, on the episodes that both have."""
        if self.control is None:
            return None
        difference = paired_differences(self.table.d_a[method : method + 1], self.control)
        has_some = ~np.isnan(difference).all(axis=(1, 2))
        return joint_means(difference[has_some]) if has_some.any() else None

    def episodes(self, method: int) -> int:
        """Return how many of the needed episodes a method has."""
        return int((~np.isnan(self.table.d_a[method]) & self.needed).sum())

    def lacking(self, method: int) -> str:
        """Return what a method lacks most of, such as "2 of 5 tasks"; empty if it is complete."""
        has = ~np.isnan(self.table.d_a[method]) & self.needed
        for what, axes in (("tasks", (1, 2)), ("targets", 2), ("seeds", 1)):
            # Of tasks there is one number, of targets and seeds one for each task.
            every, own = (
                np.atleast_1d(episodes.any(axis=axes).sum(axis=-1))
                for episodes in (self.needed, has)
            )
            worst = int((every - own).argmax())
            if own[worst] < every[worst]:
                return f"{every[worst] - own[worst]} of {every[worst]} {what}"
        return "" if self.complete[method] else "some episodes"


def find_comparable(
    methods: Sequence[Results], control: Results, settings: Sequence[Setting]
) -> Comparable | None:
    """Return which methods can be compared in some settings.

    They need the episodes of the control. A method that lacks one cannot win by what it leaves out,
    and one that has others changes nothing. Without a control, the episodes are needed that at least
    half of the methods have.

    Args:
        methods: the results of each method.
        control: the control's results; empty without a control.
        settings: the settings to compare in, of which those without a needed episode are left out.

    Returns:
        None if no episode is needed.
    """
    table = tabulate_episodes([control, *methods], settings)
    known = ~np.isnan(table.d_a)
    has_control = bool(known[0].any())
    present = known[1:][known[1:].any(axis=(1, 2, 3))]
    needed = known[0] if has_control else 2 * present.sum(axis=0) >= max(1, len(present))
    used = needed.any(axis=(1, 2))
    if not used.any():
        return None
    of_used = EpisodeTable(
        tuple(setting for setting, is_used in zip(settings, used, strict=True) if is_used),
        table.d_prime[1:, used],
        table.d_a[1:, used],
    )
    return Comparable(
        table=of_used,
        control=table.d_a[0, used] if has_control else None,
        needed=needed[used],
        complete=(known[1:, used] | ~needed[used]).all(axis=(1, 2, 3)),
    )
