"""Interference between adaptations: pure functions of a network's outputs.

A network has one output per label. Its evidence for a label is the log-odds of that label against all
others, so the same outputs can be read out for any target.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import Floats

Outputs = NDArray[np.floating[Any]]
Pair = tuple[int, int]


def sensitivity(outputs: Outputs, label: int, present: NDArray[np.bool_]) -> float:
    """Return d_a of the log-odds of a label.

    Args:
        outputs: logits `[n, labels]`.
        label: the index of the target's label.
        present: bool `[n]`, whether the target is in the image.

    Raises:
        ValueError: if one class is empty.
    """
    logits = np.asarray(outputs, float)
    others = np.delete(logits, label, axis=1)
    return detect(logits[:, label] - logsumexp(others, axis=1), present).d_a


def top1(outputs: Outputs, labels: NDArray[np.int64]) -> float:
    """Return the share of images whose largest output is that of their own label.

    Args:
        outputs: logits `[n, labels]`.
        labels: int `[n]`; images of label -1 do not count. NaN if all are.
    """
    known = labels >= 0
    if not known.any():
        return float("nan")
    return float((outputs.argmax(axis=1) == labels)[known].mean())


def confusion(outputs: Outputs, shown: NDArray[np.int64], labels: NDArray[np.int64]) -> Floats:
    """Return how much a network confuses some labels, symmetric `[k, k]`.

    It is the mean soft-max probability of one label on images of the other, over both directions. The
    diagonal is the mean probability of an image's own label.

    Args:
        outputs: logits `[n, all labels]`.
        shown: int `[n]`, the label of each image.
        labels: int `[k]`. Each of them is shown by at least one image.
    """
    probabilities = softmax(np.asarray(outputs, float), axis=1)[:, labels]
    means = np.array([probabilities[shown == label].mean(axis=0) for label in labels])
    symmetric: Floats = (means + means.T) / 2
    return symmetric


def choose_pairs(confusions: Floats, count: int) -> tuple[list[Pair], list[Pair]]:
    """Choose similar and dissimilar pairs: those confused most, and those confused least.

    The pairs of a kind have no target in common, so they are replicates.

    Args:
        confusions: float `[k, k]`, symmetric.
        count: how many of each kind, at most k // 2.

    Returns:
        The similar pairs, most confused first, and the dissimilar pairs, least confused first. No pair
        is both.
    """
    rows, columns = np.triu_indices(len(confusions), 1)
    ascending = np.argsort(confusions[rows, columns], kind="stable")
    pairs = list(zip(rows[ascending].tolist(), columns[ascending].tolist(), strict=True))
    similar = _disjoint(pairs[::-1], count)
    return similar, _disjoint([pair for pair in pairs if pair not in similar], count)


def _disjoint(pairs: list[Pair], count: int) -> list[Pair]:
    chosen: list[Pair] = []
    taken: set[int] = set()
    for pair in pairs:
        if len(chosen) < count and taken.isdisjoint(pair):
            chosen.append(pair)
            taken.update(pair)
    return chosen
