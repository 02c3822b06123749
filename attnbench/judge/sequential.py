"""Adapting to one target and then to another, and what that does to either and to other classes.

The submission only runs in workers, as in any episode: the worker that adapts to the second target is
given the artefact of the first, and none of its images. The untouched backbone, and the backbone with
nothing but its own changed tensors, run in this process.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.errors import AttnbenchError
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.failures import EpisodeFailure
from attnbench.judge.parameter_count import ArtefactSize
from attnbench.records.interference import Alone, InSequence, Pair
from attnbench.statistics.interference import choose_pairs, confusion, sensitivity, top1
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact

_CHANGED = "changed/"
_BATCH = 64


def pairs_of_targets(
    backbone: Backbone, stimuli: TrackStimuli, targets: Sequence[str], seed: int, count: int
) -> list[Pair]:
    """Choose similar and dissimilar pairs by the backbone's confusion on the positives to adapt on.

    Args:
        backbone: the untouched backbone.
        stimuli: the episodes of a track.
        targets: the targets to choose from.
        seed: of the episodes.
        count: how many pairs of either kind, each in both orders.

    Raises:
        AttnbenchError: if a target is new to the backbone, or there are too few targets.
    """
    if len(targets) < 2 * count:
        raise AttnbenchError(
            f"{count} pairs need {2 * count} targets, but there are {len(targets)}: choose at most "
            f"--pairs {len(targets) // 2}"
        )
    labels, outputs, shown = [], [], []
    for target in targets:
        episode = stimuli.episode(target, seed)
        if episode.label is None:
            raise AttnbenchError(
                f"the target {target!r} is new to {backbone.name}, so its outputs say nothing of it: "
                "choose a task whose targets are among the backbone's labels"
            )
        labels.append(episode.label)
        shown += [episode.label] * len(episode.pos)
        outputs.append(_outputs(backbone, episode.pos))
    confusions = confusion(np.concatenate(outputs), np.array(shown), np.array(labels))
    similar, dissimilar = choose_pairs(confusions, count)
    return [
        Pair(
            first=targets[one],
            second=targets[other],
            similar=chosen is similar,
            confusion=confusions[one, other],
        )
        for chosen in (similar, dissimilar)
        for a, b in chosen
        for one, other in ((a, b), (b, a))
    ]


class SequentialAdaptations:
    """Adapts a submission to targets of one track, alone or one after the other.

    Args:
        evaluator: runs the submission in workers.
        backbone: the untouched backbone, in this process.
        stimuli: the episodes of the track.
        submission: the submission.
        seed: of the episodes.
        timeout: seconds for one adaptation.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        backbone: Backbone,
        stimuli: TrackStimuli,
        submission: Submission,
        *,
        seed: int,
        timeout: float,
    ) -> None:
        self._evaluator = evaluator
        self._backbone = backbone
        self._stimuli = stimuli
        self._submission = submission
        self._seed = seed
        self._timeout = timeout
        self._episodes: dict[str, Episode] = {}
        self._delivered: dict[str, tuple[Artefact, ArtefactSize]] = {}

    def alone(self, target: str) -> Alone:
        """Adapt to one target, and test that target and the classes of its negatives.

        A failure is a result with its reason.
        """
        episode = self._episode(target)
        try:
            artefact, size = self._deliver(target)
            adapted = self._outputs(episode, artefact)
        except EpisodeFailure as failure:
            return Alone(target=target, status=failure.status, reason=failure.reason[:1000])
        untouched = _outputs_on_test(self._backbone, episode)
        detached = untouched
        if size.parameters_changed:
            detached = _outputs_on_test(_with_changed_tensors(self._backbone, artefact), episode)
        assert episode.label is not None
        labels = self._stimuli.labels_of_test(target, self._seed)
        references = np.where(episode.present, -1, labels)
        return Alone(
            target=target,
            d_a_untouched=sensitivity(untouched, episode.label, episode.present),
            d_a=sensitivity(adapted, episode.label, episode.present),
            images=int((references >= 0).sum()),
            top1_untouched=_known(top1(untouched, references)),
            top1_adapted=_known(top1(adapted, references)),
            top1_detached=_known(top1(detached, references)),
            parameters_added=size.parameters_added,
            parameters_changed=size.parameters_changed,
        )

    def in_sequence(self, pair: Pair) -> InSequence:
        """Adapt to the first target of a pair, then adapt that network to the second; test both.

        A failure is a result with its reason.
        """
        first, second = self._episode(pair.first), self._episode(pair.second)
        try:
            artefact, _ = self._evaluator.deliver(
                self._submission, second, self._timeout, onto=self._deliver(pair.first)[0]
            )
            d_a_first, d_a_second = (
                sensitivity(self._outputs(each, artefact), each.label or 0, each.present)
                for each in (first, second)
            )
        except EpisodeFailure as failure:
            return InSequence(pair=pair, status=failure.status, reason=failure.reason[:1000])
        return InSequence(pair=pair, d_a_first=d_a_first, d_a_second=d_a_second)

    def _episode(self, target: str) -> Episode:
        if target not in self._episodes:
            self._episodes[target] = self._stimuli.episode(target, self._seed)
        return self._episodes[target]

    def _deliver(self, target: str) -> tuple[Artefact, ArtefactSize]:
        if target not in self._delivered:
            self._delivered[target] = self._evaluator.deliver(
                self._submission, self._episode(target), self._timeout
            )
        return self._delivered[target]

    def _outputs(self, episode: Episode, artefact: Artefact) -> NDArray[np.float32]:
        return self._evaluator.outputs(self._submission, episode, artefact, self._timeout)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _with_changed_tensors(backbone: Backbone, artefact: Artefact) -> Backbone:
    """Return a copy of the backbone with those of its tensors that an adaptation has changed.

    Tensors of another shape cannot take their places without what was added, and are left out.
    """
    changed = copy.deepcopy(backbone)
    tensors = tensors_of(changed)
    for key, value in safetensors.torch.load(artefact.tensors).items():
        own = tensors.get(key.removeprefix(_CHANGED)) if key.startswith(_CHANGED) else None
        if own is not None and own.shape == value.shape:
            own.data.copy_(value)
    return changed


def _outputs_on_test(backbone: Backbone, episode: Episode) -> NDArray[np.float32]:
    """Return a backbone's outputs on the test images, in the batches that a worker would have."""
    count = len(episode.present)
    batches = episode.batches(np.arange(count))
    return np.concatenate([_outputs(backbone, episode.make(batch)) for batch in batches])[:count]


@torch.no_grad()
def _outputs(backbone: Backbone, images: NDArray[np.float32]) -> NDArray[np.float32]:
    device = next(backbone.parameters()).device
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    outputs = [backbone(torch.from_numpy(part).to(device)).float().cpu() for part in parts]
    return torch.cat(outputs).numpy()
