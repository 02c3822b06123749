"""Coverage of the interval of a task's d', for simulated observers whose d' is known.

    python -m benchmarks.studies.coverage [EXPERIMENTS]

The d' of targets is drawn from a normal population, and all have the same criterion c. An image
with the target is called present at the rate Phi(d'/2 - c), one without it at Phi(-d'/2 - c). The
study counts how often the interval contains each of two true values:

- **expected**: the mean of the estimated d' over targets and images. With few images, the
  log-linear correction draws it towards 0, for every method alike.
- **uncorrected**: the mean d' of the population, which infinitely many images would give.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom
from tabulate import tabulate

from attnbench.statistics.detection import corrected_rates
from attnbench.statistics.intervals import d_prime_interval
from attnbench.statistics.measures import Counts

CRITERION = 0.3


@dataclass(frozen=True)
class Design:
    """A population of observers, and how it is measured.

    Attributes:
        targets: their number.
        positives, negatives: test images of each target.
        seeds: measurements of each target.
        mean, spread: mean and standard deviation of the targets' d'.
    """

    targets: int
    positives: int
    negatives: int
    seeds: int
    mean: float = 1.5
    spread: float = 0.5

    def expected_d_prime(self) -> float:
        """Return the mean of the estimated d' over targets and images, without simulation."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        strengths = self.mean + self.spread * nodes
        hits, false_alarms = np.arange(self.positives + 1), np.arange(self.negatives + 1)
        hit_rates, _ = corrected_rates(hits, self.positives, 0, self.negatives)
        _, false_alarm_rates = corrected_rates(0, self.positives, false_alarms, self.negatives)
        hit_probabilities = binom.pmf(
            hits, self.positives, ndtr(strengths / 2 - CRITERION)[:, None]
        )
        false_alarm_probabilities = binom.pmf(
            false_alarms, self.negatives, ndtr(-strengths / 2 - CRITERION)[:, None]
        )
        estimates = hit_probabilities @ ndtri(hit_rates)
        estimates = estimates - false_alarm_probabilities @ ndtri(false_alarm_rates)
        return float(estimates @ weights / weights.sum())

    def simulate(self, rng: np.random.Generator) -> list[list[Counts]]:
        """Return one experiment: for each target, the counts of each seed."""
        strengths = rng.normal(self.mean, self.spread, self.targets)[:, None]
        shape = self.targets, self.seeds
        hits = rng.binomial(self.positives, ndtr(strengths / 2 - CRITERION), shape)
        false_alarms = rng.binomial(self.negatives, ndtr(-strengths / 2 - CRITERION), shape)
        return [
            [
                Counts(int(h), self.positives, int(f), self.negatives)
                for h, f in zip(*counts, strict=True)
            ]
            for counts in zip(hits, false_alarms, strict=True)
        ]


def coverage(design: Design, experiments: int, seed: int = 0) -> tuple[float, float]:
    """Return how often the 95 % interval contains the expected and the uncorrected mean."""
    rng = np.random.default_rng(seed)
    intervals = np.array([d_prime_interval(design.simulate(rng)) for _ in range(experiments)])
    true_values = np.array([design.expected_d_prime(), design.mean])
    contained = (intervals[:, :1] <= true_values) & (true_values <= intervals[:, 1:])
    expected, uncorrected = contained.mean(axis=0)
    return float(expected), float(uncorrected)


def main(experiments: int) -> None:
    """Print a table of designs."""
    rows = []
    for images, seeds, targets in product(((50, 450), (200, 2000)), (1, 3), (5, 10, 20, 200)):
        design = Design(targets, *images, seeds)
        expected, uncorrected = coverage(design, experiments)
        settings = f"{images[0]} + {images[1]:,}", seeds, targets
        bias = design.expected_d_prime() - design.mean
        rows.append((*settings, f"{bias:+.3f}", f"{expected:.1%}", f"{uncorrected:.1%}"))
    headers = ("images", "seeds", "targets", "bias", "expected", "uncorrected")
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
