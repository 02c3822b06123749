"""Detection by arg-max over logits, reported separately from detection by the binary score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnbench.records.record import Readout
from attnbench.statistics.detection import count, criterion, d_prime, rates
from attnbench.vocabulary import ArgmaxRule


def argmax_readouts(
    logits: NDArray[np.floating[Any]],
    target: int,
    rivals: tuple[int, ...],
    present: NDArray[np.bool_],
) -> dict[ArgmaxRule, Readout]:
    """Decide from a detector's logits whether the target is present, by two rules.

    `argmax-all`: "present" if the target's logit is the largest of all (Luo, Roads & Love 2021, who
    took the largest of 1000). `argmax-targets`: "present" if it is the largest among the task's
    targets. For the 200 targets of ImageNet-A that is the official rule (Hendrycks et al. 2019), and
    its hit rate is the official accuracy.

    Args:
        logits: float `[n, labels]`.
        target: the index of the target's label.
        rivals: the indices of the labels of all the task's targets, including this one.
        present: bool `[n]`, whether the target is in the image.

    Returns:
        The detection by each rule.
    """
    candidates = np.array(rivals)
    answers: dict[ArgmaxRule, NDArray[np.int64]] = {
        "argmax-all": logits.argmax(axis=1),
        "argmax-targets": candidates[logits[:, candidates].argmax(axis=1)],
    }
    return {rule: _readout(answer == target, present) for rule, answer in answers.items()}


def _readout(answers: NDArray[np.bool_], present: NDArray[np.bool_]) -> Readout:
    counts = count(answers.astype(np.float32), present)
    hit_rate, false_alarm_rate = rates(counts)
    return Readout(
        hits=counts.hits,
        positives=counts.positives,
        false_alarms=counts.false_alarms,
        negatives=counts.negatives,
        hit_rate=hit_rate,
        false_alarm_rate=false_alarm_rate,
        d_prime=d_prime(counts),
        criterion=criterion(counts),
    )
