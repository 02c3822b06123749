"""Plans for the points of learning curves: one record per number of images and kind of test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from attnbench.errors import AttnbenchError
from attnbench.judge.resource_cache import ResourceCache
from attnbench.runs.planning import Plan

Size = int | Literal["all"]


def plans_of_curve(
    plans: Sequence[Plan], sizes: Sequence[Size], resources: ResourceCache
) -> list[Plan]:
    """Return two plans for each point of a curve: tested on held-out images, and on those seen.

    Args:
        plans: the records of a run that adapts on all images.
        sizes: the numbers of positives to adapt on. If empty, the powers of two, and all.
        resources: where stimuli are loaded.

    Raises:
        AttnbenchError: if a task has fewer positives than a size.
    """
    by_point = []
    for plan in plans:
        stimuli = resources.stimuli(plan.track, plan.backbone)
        available = min(map(stimuli.adaptation_positives, plan.targets))
        for size in _numbers(sizes, available, plan.identity.task):
            for seen in (False, True):
                identity = plan.identity.model_copy(update={"images": size, "seen": seen})
                by_point.append(replace(plan, identity=identity))
    return by_point


def _numbers(sizes: Sequence[Size], available: int, task: str) -> list[int]:
    """Return sizes as ascending numbers."""
    powers = [2**exponent for exponent in range(available.bit_length()) if 2**exponent <= available]
    numbers = sorted({available if size == "all" else size for size in sizes or [*powers, "all"]})
    if numbers[-1] > available:
        raise AttnbenchError(
            f"{task} has {available} positives to adapt on, so a curve cannot have {numbers[-1]}; "
            f"leave out --images for {', '.join(map(str, powers))} and all"
        )
    return numbers
