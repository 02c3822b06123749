"""Backbones and judges that stay open for as long as this process runs."""

from __future__ import annotations

import contextlib
import functools

from attnbench.backbones.backbone import Backbone
from attnbench.commands.check import noise_episode
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import Judge, open_judge
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.record import Cost, EpisodeResult
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission
from attnbench.vocabulary import DeviceKind, IsolationLevel

TIMEOUT_SECONDS = 300.0


def network(name: str) -> Backbone:
    """Return a backbone on the CPU. torchvision's have their weights as initialised."""
    return _resources(_is_untrained(name)).backbone(name)


def noise_on(name: str, *, per_class: int, tested: int | None = None) -> Episode:
    """Return an episode of white noise for a backbone; see `noise_episode`."""
    return noise_episode(network(name), per_class, tested)


def evaluator_on(
    device: DeviceKind,
    name: str,
    submission: Submission,
    isolation: IsolationLevel = "process",
) -> Evaluator:
    """Return an evaluator. Earlier ones for other backbones become invalid.

    Args:
        device: what detectors are adapted on.
        name: the backbone's name.
        submission: what is judged.
        isolation: how workers are isolated.
    """
    conditions = Conditions(
        device=device,
        isolation=isolation,
        modules=submission.modules,
        untrained=_is_untrained(name),
    )
    return _opened(conditions)[1].evaluator(name)


def judged(evaluator: Evaluator, submission: Submission, episode: Episode) -> EpisodeResult:
    """Judge an episode.

    Raises:
        AttnbenchError: with the reason, if it fails.
    """
    result = evaluator.judge(submission, episode, TIMEOUT_SECONDS, cold=False).result
    if result.status != "ok":
        raise AttnbenchError(result.reason)
    return result


def cost_of(result: EpisodeResult) -> Cost:
    """Return the cost of an episode that succeeded."""
    assert result.cost is not None
    return result.cost


def _is_untrained(name: str) -> bool:
    return name.startswith("torchvision/")


@functools.cache
def _resources(untrained: bool) -> ResourceCache:
    return ResourceCache(None, untrained=untrained)


@functools.cache
def _opened(conditions: Conditions) -> tuple[contextlib.ExitStack, Judge]:
    """Open a judge. It closes together with the stack, and its processes end with this one."""
    stack = contextlib.ExitStack()
    judge = open_judge(conditions, _resources(conditions.untrained))
    return stack, stack.enter_context(judge)
