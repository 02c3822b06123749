"""Means over settings that share targets, with intervals over targets: pure functions of arrays.

Targets are the replicates. A target may occur in several settings, where it is the same draw, so its
values in all of them together count as one observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from attnbench.statistics.intervals import Floats, Interval


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; None where a single target or person says nothing about others."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class JointMeans:
    """Means over settings of means over targets, `[k]` each.

    Attributes:
        estimates: the means.
        errors: their standard errors; NaN if a setting has a single target, which says nothing about
            other targets.
        freedoms: degrees of freedom of the errors; NaN likewise, and where the error is 0.
        targets: number of different targets.
    """

    estimates: Floats
    errors: Floats
    freedoms: Floats
    targets: int

    def intervals(self, level: float = 0.95) -> Floats:
        """Return the lower and upper ends of Student's t intervals, `[k, 2]`."""
        half = self._in_errors(stdtrit(self.freedoms, (1 + level) / 2))
        return np.stack([self.estimates - half, self.estimates + half], axis=-1)

    def estimate(self, number: int) -> Estimate:
        """Return one of the means with its interval."""
        low, high = self.intervals()[number].tolist()
        value = float(self.estimates[number])
        return Estimate(value, None if np.isnan(low) else (low, high))

    def p_values(self) -> Floats:
        """Return two-sided p-values `[k]` of Student's t test against 0.

        Without variance, an estimate of 0 has p = 1 and any other estimate p = 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ps = 2 * stdtr(self.freedoms, -np.abs(self.estimates) / self.errors)
        certain: Floats = np.where(self.errors == 0, np.where(self.estimates == 0, 1.0, 0.0), ps)
        return certain

    def detectable(self, level: float = 0.05, power: float = 0.8) -> Floats:
        """Return the smallest true means that a two-sided test finds with this power, `[k]`.

        This is (t(1 - level / 2) + t(power)) standard errors (Bloom 1995, Evaluation Review 19).
        """
        return self._in_errors(
            stdtrit(self.freedoms, 1 - level / 2) + stdtrit(self.freedoms, power)
        )

    def more_targets(self, level: float = 0.05) -> Floats:
        """Return how many more targets would make estimates of this size detectable, `[k]`.

        The variance of a mean is inversely proportional to the number of targets. Infinite for an
        estimate of 0, and 0 where the estimate is detectable as it is.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = (self.detectable(level) / np.abs(self.estimates)) ** 2
        more: Floats = np.ceil(self.targets * np.maximum(ratios - 1, 0))
        return more

    def _in_errors(self, quantiles: Floats) -> Floats:
        """Return quantiles times the standard errors; 0 where the error is 0."""
        products: Floats = np.where(self.errors == 0, 0.0, quantiles * self.errors)
        return products


def joint_means(values: Floats) -> JointMeans:
    """Return the means over settings of means over targets, and their standard errors.

    With S settings, the mean is a sum over targets of u_t = sum of x_st / (S n_s) over the settings s
    that have target t, where n_s is the number of targets of s. Targets are grouped into strata by the
    set of settings that have them. The variance is the sum over strata of n var(u), with
    Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2). With one setting this is
    Student's t. With two settings without a common target it is Welch's.

    Args:
        values: float `[settings, targets, k]`: k values of each target in each setting. They are all
            NaN where a setting does not have the target.

    Raises:
        ValueError: if only some of k values are NaN, or a setting has no target.
    """
    has = _membership(values)
    sums, strata = _sums(values, has), _strata(has)
    means, targets = sums.sum(axis=0), int(has.any(axis=0).sum())
    if has.sum(axis=1).min() < 2:
        unknown = np.full(len(means), np.nan)
        return JointMeans(means, unknown, unknown, targets)
    by_stratum = [sums[strata == stratum] for stratum in np.unique(strata[strata >= 0])]
    parts = np.array([len(of_one) * of_one.var(axis=0, ddof=1) for of_one in by_stratum])
    freedoms = np.array([len(of_one) - 1 for of_one in by_stratum])
    variances = parts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        total = variances**2 / (parts**2 / freedoms[:, None]).sum(axis=0)
    return JointMeans(means, np.sqrt(variances), total, targets)


def bootstrap_joint_means(values: Floats, *, replicates: int = 2000, seed: int = 0) -> Floats:
    """Return bootstrap replicates of the means of `joint_means`, `[replicates, k]`.

    Targets are drawn with replacement within strata, each with its values in all settings.

    Args:
        values: as for `joint_means`.
        replicates: number of replicates.
        seed: of the random generator.
    """
    has = _membership(values)
    sums, strata = _sums(values, has), _strata(has)
    rng = np.random.default_rng(seed)
    times_drawn = np.zeros((replicates, len(sums)))
    for stratum in np.unique(strata[strata >= 0]):
        (targets,) = np.nonzero(strata == stratum)
        times_drawn[:, targets] = rng.multinomial(
            len(targets), np.full(len(targets), 1 / len(targets)), replicates
        )
    means: Floats = times_drawn @ sums
    return means


def _membership(values: Floats) -> NDArray[np.bool_]:
    """Return which settings have which targets, `[settings, targets]`."""
    known = ~np.isnan(values)
    has = np.asarray(known.all(axis=-1))
    if (known.any(axis=-1) != has).any():
        raise ValueError("some values of a target are missing, others are not")
    if not has.any(axis=1).all():
        raise ValueError("a setting has no target")
    return has


def _sums(values: Floats, has: NDArray[np.bool_]) -> Floats:
    """Return each target's share of the means, u_t, `[targets, k]`; 0 for a target in no setting."""
    weights = has / (len(has) * has.sum(axis=1, keepdims=True))
    sums: Floats = np.einsum("st,stk->tk", weights, np.nan_to_num(values))
    return sums


def _strata(has: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the stratum of each target, `[targets]`; -1 for a target in no setting.

    A target that is alone in its stratum has no variance there. It joins the largest stratum.
    """
    strata = np.full(has.shape[1], -1)
    (used,) = np.nonzero(has.any(axis=0))
    _, numbers, counts = np.unique(has[:, used], axis=1, return_inverse=True, return_counts=True)
    numbers = numbers.ravel()  # its shape depends on the version of numpy
    strata[used] = np.where(counts[numbers] == 1, counts.argmax(), numbers)
    return strata
