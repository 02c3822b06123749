"""Read-outs by arg-max, kept apart from the binary score by name."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnbench.records.record import Readout
from attnbench.statistics.detection import count, criterion, d_prime, rates

Name = Literal["argmax-all", "argmax-targets"]


def argmax_readouts(
    logits: NDArray[np.floating[Any]],
    target: int,
    rivals: tuple[int, ...],
    present: NDArray[np.bool_],
) -> dict[Name, Readout]:
    """Detection where a detector keeps the backbone's outputs.

    `argmax-all`: "present" where the target's logit is the largest of all (Luo, Roads & Love 2021, who
    took the largest of 1000). `argmax-targets`: the largest among the task's targets, the official
    rule of ImageNet-A, where these are 200 (Hendrycks et al. 2019); its hit rate is the official
    accuracy.

    Args:
        logits: `[n, labels]`.
        target: the target's label.
        rivals: the labels of the task's targets, the target's own included.
        present: bool `[n]`, whether the target is in the image.
    """
    among = np.array(rivals)
    answers: dict[Name, NDArray[np.int64]] = {
        "argmax-all": logits.argmax(axis=1),
        "argmax-targets": among[logits[:, among].argmax(axis=1)],
    }
    return {name: _readout(answer == target, present) for name, answer in answers.items()}


def _readout(said: NDArray[np.bool_], present: NDArray[np.bool_]) -> Readout:
    counts = count(said.astype(np.float32), present)
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
