"""Coverage and false positives of the leaderboard's tests, for simulated methods.

    python -m benchmarks.studies.coverage [EXPERIMENTS]

It writes the table in docs/leaderboard.md. In each experiment, a control and seven methods score the
test images of all targets in all tasks. Six methods are drawn as the control is, so that they do not
differ on average. The last one has stronger evidence. The score of an image is the sum of

- the target's strength, if it is present; strengths vary between targets, and are shared by methods;
- what a method gains or loses on a target: in all tasks, in one task, and in one adaptation, which is
  shared by all tasks;
- evidence shared by all methods, half of it in all tasks with the picture;
- a method's own evidence, of which 30 % belongs to the picture, whatever the target and the task.

The last is what links targets that share pictures. The positives of a target are drawn as negatives of
others. In the published records of seven methods, the difference between the normal scores of two has
a variance of 0.03 to 0.65, and 0 to 40 % of it is shared by the targets that a picture is used for.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from attnbench.statistics.detection import d_a
from attnbench.statistics.joint_means import joint_means
from attnbench.statistics.ranking import paired_differences, rank_methods

Floats = NDArray[np.float64]
PAGE = Path(__file__).parents[2] / "docs" / "leaderboard.md"
START, END = "<!-- coverage -->", "<!-- end -->"
# Variances of evidence, whose sum is 1.
SHARED, OWN_OF_PICTURE, OWN = 0.75, 0.075, 0.175
EQUAL_METHODS, ADVANTAGE = 6, 0.3


@dataclass(frozen=True)
class Design:
    """How methods are measured.

    Attributes:
        name: what it is.
        targets, tasks: their numbers; all tasks have all targets.
        positives, negatives: test images of a target.
        others: pictures of no target that negatives are drawn from too.
        seeds: adaptations to each target, each tested on other pictures.
        strength: mean d' of the targets.
        effect: standard deviation of a method's gain on a target, and on one adaptation.
        one_set: whether all targets have the same negatives, the first of the other pictures.
    """

    name: str
    targets: int
    tasks: int
    positives: int
    negatives: int
    others: int
    seeds: int = 1
    strength: float = 2.0
    effect: float = 0.2
    one_set: bool = False


DESIGNS = (
    Design("30 targets, 3 tasks, 200 + 200 images", 30, 3, 200, 200, 2000),
    Design("the same, three seeds", 30, 3, 200, 200, 2000, seeds=3),
    Design("the same, near the ceiling", 30, 3, 200, 200, 2000, strength=4.0),
    Design("the same, similar methods", 30, 3, 200, 200, 2000, effect=0.05),
    Design("40 targets, 3 tasks, 100 + 250 images", 40, 3, 100, 250, 6000),
    Design("the same, three seeds", 40, 3, 100, 250, 6000, seeds=3),
    Design("the same, near the ceiling", 40, 3, 100, 250, 6000, strength=4.0),
    Design("the same, similar methods", 40, 3, 100, 250, 6000, effect=0.05),
    Design("10 digits, 50 + 400 of 500 images", 10, 1, 50, 400, 0),
    Design("the same, three seeds", 10, 1, 50, 400, 0, seeds=3),
    Design("the same, near the ceiling", 10, 1, 50, 400, 0, strength=4.0),
    Design("the same, similar methods", 10, 1, 50, 400, 0, effect=0.05),
    Design("30 targets with one set of 200 negatives", 30, 3, 200, 200, 200, one_set=True),
    Design("the same, similar methods", 30, 3, 200, 200, 200, effect=0.05, one_set=True),
)


def simulate(design: Design, rng: np.random.Generator) -> Floats:
    """Return the d_a of the control and of each method, `[1 + m, tasks, targets, seeds]`."""
    methods, tasks, targets = EQUAL_METHODS + 2, design.tasks, design.targets
    strengths = rng.normal(design.strength, 0.6, (targets, 1)) + rng.normal(0, 0.3, tasks)
    gains = rng.normal(0, design.effect, (methods, targets, 1)) + rng.normal(
        0, design.effect / 2, (methods, targets, tasks)
    )
    gains[-1] += ADVANTAGE
    values = np.empty((methods, tasks, targets, design.seeds))
    for seed in range(design.seeds):
        adaptation = rng.normal(0, design.effect, (methods, targets, 1))
        means = strengths + gains + adaptation
        pictures = rng.normal(
            0, np.sqrt(OWN_OF_PICTURE), (methods, targets * design.positives + design.others)
        )
        for target in range(targets):
            first = target * design.positives
            negatives = _other_pictures(target, design, rng)
            if design.one_set:
                negatives = targets * design.positives + np.arange(design.negatives)
            shown = np.concatenate([np.arange(first, first + design.positives), negatives])
            scores = rng.normal(0, np.sqrt(OWN), (methods, tasks, len(shown)))
            scores += pictures[:, None, shown]
            scores += rng.normal(0, np.sqrt(SHARED / 2), len(shown))
            scores += rng.normal(0, np.sqrt(SHARED / 2), (tasks, len(shown)))
            scores[..., : design.positives] += means[:, target, :, None]
            values[:, :, target, seed] = _d_a(scores, design.positives)
    return values


def _other_pictures(target: int, design: Design, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the negatives of a target from all pictures but its positives."""
    own = design.positives
    others = (design.targets - 1) * own + design.others
    drawn = rng.choice(others, design.negatives, replace=False, shuffle=False)
    return np.where(drawn < target * own, drawn, drawn + own)


def _d_a(scores: Floats, positives: int) -> Floats:
    """Return d_a of scores `[..., n]` without ties, whose positives come first."""
    order = np.argsort(scores, axis=-1)
    # Each negative is ranked above the positives that come before it.
    before = np.cumsum(order < positives, axis=-1)
    wrong = positives * (scores.shape[-1] - positives) - np.where(
        order >= positives, before, 0
    ).sum(-1)
    negatives = scores.shape[-1] - positives
    areas: Floats = wrong / (positives * negatives)
    return d_a(areas, positives, negatives)


@dataclass(frozen=True)
class Outcomes:
    """What tests said in r experiments.

    Attributes:
        difference: float `[r, 3]`, the estimated difference of the better method, and its interval.
        false_positive: bool `[r]`, whether an equal method differs from the control in one test.
        any_false_positive: bool `[r]`, whether any equal method does after correction.
    """

    difference: Floats
    false_positive: NDArray[np.bool_]
    any_false_positive: NDArray[np.bool_]

    @property
    def coverage(self) -> float:
        """How often the interval contains the mean difference of all experiments."""
        estimates, low, high = self.difference.T
        return float(((low <= estimates.mean()) & (estimates.mean() <= high)).mean())


def run(design: Design, experiments: int, seed: int = 0) -> Outcomes:
    """Return the outcomes of simulated experiments."""
    rng = np.random.default_rng(seed)
    differences, single, corrected = [], [], []
    for _ in range(experiments):
        control, *methods = simulate(design, rng)
        values = np.array(methods)
        means = joint_means(paired_differences(values, control))
        differences.append([means.estimates[-1], *means.intervals()[-1]])
        single.append(means.p_values()[0] < 0.05)
        ranking = rank_methods(values[:-1], control, np.ones(EQUAL_METHODS, bool))
        corrected.append((ranking.verdicts != 0).any())
    return Outcomes(np.array(differences), np.array(single), np.array(corrected))


def table(experiments: int) -> str:
    """Return the table of all designs as Markdown."""
    parts = 4
    rows = []
    with ProcessPoolExecutor() as pool:
        for number, design in enumerate(DESIGNS):
            seeds = range(number * parts, (number + 1) * parts)
            runs = list(pool.map(partial(run, design, experiments // parts), seeds))
            outcomes = Outcomes(
                np.concatenate([one.difference for one in runs]),
                np.concatenate([one.false_positive for one in runs]),
                np.concatenate([one.any_false_positive for one in runs]),
            )
            shares = (
                outcomes.coverage,
                outcomes.false_positive.mean(),
                outcomes.any_false_positive.mean(),
            )
            rows.append((design.name, *(f"{100 * share:.1f} %" for share in shares)))
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    headers = ("design", "coverage", "false positives, one test", f"any of {EQUAL_METHODS} methods")
    return tabulate(rows, headers, "github", colalign=("left", "right", "right", "right"))


def main(experiments: int) -> None:
    """Write the table into the page."""
    results = table(experiments)
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    content = f"{START}\n\n{results}\n\n{experiments:,} experiments each.\n\n{END}"
    PAGE.write_text(f"{before}{content}{after}", "utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
