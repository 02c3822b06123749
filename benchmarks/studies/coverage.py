"""How often the interval of a task's d' holds the true mean, for observers whose d' is known.

    python -m benchmarks.studies.coverage [EXPERIMENTS]

Targets' d' are drawn from a normal population, all with one criterion c; an image with the target is
called present at the rate Phi(d'/2 - c), one without it at Phi(-d'/2 - c). Two truths are counted:

- **expected**: the mean, over targets and images, of the d' that is estimated. With few images the
  log-linear correction draws it towards 0, for every method alike.
- **uncorrected**: the mean d' of the population, which infinitely many images would show.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom
from tabulate import tabulate

from attnbench.statistics.detection import Counts, corrected_rates
from attnbench.statistics.intervals import d_prime_interval

CRITERION = 0.3


@dataclass(frozen=True)
class Design:
    """What is known of the observers, and how they are measured.

    Attributes:
        mean, spread: of targets' d', normal.
    """

    targets: int
    positives: int
    negatives: int
    seeds: int
    mean: float = 1.5
    spread: float = 0.5

    def expected(self) -> float:
        """The mean of the estimated d' over targets and images, by quadrature and exact sums."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        strengths = self.mean + self.spread * nodes
        hits, false_alarms = np.arange(self.positives + 1), np.arange(self.negatives + 1)
        hit_rates, _ = corrected_rates(hits, self.positives, 0, self.negatives)
        _, false_alarm_rates = corrected_rates(0, self.positives, false_alarms, self.negatives)
        of_hits = binom.pmf(hits, self.positives, ndtr(strengths / 2 - CRITERION)[:, None])
        of_false = binom.pmf(
            false_alarms, self.negatives, ndtr(-strengths / 2 - CRITERION)[:, None]
        )
        found = of_hits @ ndtri(hit_rates) - of_false @ ndtri(false_alarm_rates)
        return float(found @ weights / weights.sum())

    def measured(self, rng: np.random.Generator) -> list[list[Counts]]:
        """One experiment: for each target one outcome for each seed."""
        strengths = rng.normal(self.mean, self.spread, self.targets)[:, None]
        shape = self.targets, self.seeds
        hits = rng.binomial(self.positives, ndtr(strengths / 2 - CRITERION), shape)
        false_alarms = rng.binomial(self.negatives, ndtr(-strengths / 2 - CRITERION), shape)
        return [
            [
                Counts(int(h), self.positives, int(f), self.negatives)
                for h, f in zip(*each, strict=True)
            ]
            for each in zip(hits, false_alarms, strict=True)
        ]


def coverage(design: Design, experiments: int, seed: int = 0) -> tuple[float, float]:
    """The share of experiments whose 95 % interval holds the expected and the uncorrected mean."""
    rng = np.random.default_rng(seed)
    ends = np.array([d_prime_interval(design.measured(rng)) for _ in range(experiments)])
    truths = np.array([design.expected(), design.mean])
    held = (ends[:, :1] <= truths) & (truths <= ends[:, 1:])
    expected, uncorrected = held.mean(axis=0)
    return float(expected), float(uncorrected)


def main(experiments: int) -> None:
    """Print a table of designs."""
    rows = []
    for images, seeds, targets in product(((50, 450), (200, 2000)), (1, 3), (5, 10, 20, 200)):
        design = Design(targets, *images, seeds)
        expected, uncorrected = coverage(design, experiments)
        shown = f"{images[0]} + {images[1]:,}", seeds, targets
        bias = design.expected() - design.mean
        rows.append((*shown, f"{bias:+.3f}", f"{expected:.1%}", f"{uncorrected:.1%}"))
    headers = ("images", "seeds", "targets", "bias", "expected", "uncorrected")
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
