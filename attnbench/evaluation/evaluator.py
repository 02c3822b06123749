"""The trusted side: holds labels, clock and scorer, and judges one episode at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.evaluation import prediction
from attnbench.evaluation.artefact import Artefact
from attnbench.evaluation.inventory import InvalidArtefact, Inventory, Size
from attnbench.evaluation.jobs import Delivered, Failure, Jobs, Killed, Predicted
from attnbench.evaluation.laps import Laps
from attnbench.evaluation.readouts import argmax_readouts
from attnbench.evaluation.warm import Template
from attnbench.records.record import Cost, EpisodeResult, Measures, Readout
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import Episode
from attnbench.submission import Submission

_REASON_LIMIT = 1000


@dataclass(frozen=True)
class Trial:
    """What came of trying a submission out: the reason it failed, or its size.

    `refused` where the submission itself said that it does not apply to the backbone.
    """

    reason: str
    size: Size | None = None
    deterministic: bool = False
    refused: bool = False


@dataclass(frozen=True)
class _Adapted:
    """A timed adaptation, with the pass beside it, and seconds in a cold process if asked for."""

    delivered: Delivered
    pass_seconds: float
    cold_seconds: float | None
    size: Size

    def times(self, late: float) -> dict[str, Any]:
        """What goes into `Cost`; `late` are the seconds that came after the artefact."""
        cold = self.cold_seconds
        return {
            "adaptation_seconds": self.delivered.seconds + late,
            "adaptation_seconds_cold": None if cold is None else cold + late,
            "pass_seconds": self.pass_seconds,
        }


class Evaluator:
    """Judges episodes on one backbone and device, with workers from a template process.

    Args:
        backbone: the backbone in this process, for counting.
        template: loads the backbone of the same name for the workers, and starts them.
        device: `cpu` or `cuda`.
        untrained: whether the template is to leave the backbone's weights as they are initialised.

    Attributes:
        laps: how long each phase of all episodes judged so far took.
    """

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        device: str,
        untrained: bool,
    ) -> None:
        self.laps = Laps()
        self._inventory = Inventory(backbone)
        self._jobs = Jobs(
            template,
            backbone=backbone.name,
            labels=len(backbone.labels or ()),
            size=sum(tensor.nbytes for tensor in tensors_of(backbone).values()),
            device=device,
        )
        template.load(backbone.name, untrained=untrained)

    @property
    def confinement(self) -> tuple[str, ...]:
        """What kept the last worker in its place, such as `landlock 7`."""
        return self._jobs.confinement

    def judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> tuple[EpisodeResult, pd.DataFrame]:
        """Adapt, count, predict and score; a failure is a result with its reason.

        Args:
            submission: what is judged.
            episode: the images; their labels stay in this process.
            timeout: seconds for one adaptation; prediction has a budget of its own.
            cold: adapt once more in a process that has not rehearsed, and time that too.

        Returns:
            The result and a score per test image (columns target, image, present, score).
        """
        try:
            try:
                return self._judge(submission, episode, timeout, cold=cold)
            except Killed:
                # Not by the evaluator: by the kernel, where memory ran out, or a person. Once more.
                return self._judge(submission, episode, timeout, cold=cold)
        except Failure as failure:
            return _failed(episode, failure), scores_frame(episode, None)

    def _judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> tuple[EpisodeResult, pd.DataFrame]:
        adapted = self._adapt(submission, episode, timeout, cold=cold)
        artefact, size = adapted.delivered.artefact, adapted.size
        with self.laps("prediction"):
            predicted = self._predict(submission, episode, artefact, timeout, adapted.pass_seconds)
        # An adaptation has ended when a process that had no part in it holds the detector.
        late = predicted.loading_seconds
        late += prediction.deferred_seconds(predicted.images, predicted.seconds)
        readouts: dict[Any, Readout] = {}
        if episode.label is not None and predicted.logits is not None:
            readouts.update(
                argmax_readouts(predicted.logits, episode.label, episode.rivals, episode.present)
            )
        result = EpisodeResult(
            target=episode.target,
            status="ok",
            images_sha256=episode.fingerprint,
            measures=Measures.of(detect(predicted.scores, episode.present)),
            cost=Cost(
                parameters_added=size.parameters_added,
                parameters_changed=size.parameters_changed,
                parameters_opaque=size.parameters_opaque,
                artefact_bytes=size.bytes,
                late_seconds=late,
                prediction_seconds=sum(predicted.seconds),
                **adapted.times(late),
            ),
            readouts=readouts,
            nondeterministic=tuple(
                sorted({*adapted.delivered.nondeterministic, *predicted.nondeterministic})
            ),
        )
        return result, scores_frame(episode, predicted.scores)

    def time_again(
        self,
        submission: Submission,
        episode: Episode,
        timeout: float,
        measured: EpisodeResult,
        *,
        cold: bool,
    ) -> tuple[EpisodeResult, pd.DataFrame]:
        """What was measured of an episode with the times of another adaptation; no scores.

        What was late (see `Cost.late_seconds`) stays as found when all test images were shown. An
        adaptation that fails, of other images or to another size, is a failure.
        """
        assert measured.cost is not None
        was = measured.cost
        try:
            adapted = self._adapt(submission, episode, timeout, cold=cold)
            size = adapted.size
            if episode.fingerprint != measured.images_sha256:
                raise Failure("its images are others than those measured on")
            if (size.parameters_added, size.parameters_changed) != (
                was.parameters_added,
                was.parameters_changed,
            ):
                raise Failure("adapted once more, it has another number of parameters")
        except Failure as failure:
            return _failed(episode, failure), scores_frame(episode, None)
        cost = was.model_copy(update=adapted.times(was.late_seconds))
        return measured.model_copy(update={"cost": cost}), scores_frame(episode, None)

    def try_out(self, submission: Submission, episode: Episode, timeout: float) -> Trial:
        """Adapt twice in fresh processes, once rehearsed, and predict once; nothing is scored."""
        try:
            first = self._jobs.adapt(submission, episode, timeout, warm_up=True)
            second = self._jobs.adapt(submission, episode, timeout, warm_up=False)
            size = self._measure(first.artefact, submission)
            assert first.pass_seconds is not None
            self._predict(submission, episode, first.artefact, timeout, first.pass_seconds)
        except Failure as failure:
            reason = failure.reason + (f"\n{failure.detail}" if failure.detail else "")
            return Trial(reason, refused=failure.status == "not applicable")
        return Trial("", size, deterministic=first.artefact == second.artefact)

    def _adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> _Adapted:
        with self.laps("pass, rehearsal and adaptation"):
            delivered = self._jobs.adapt(submission, episode, timeout, warm_up=True)
        with self.laps("cold adaptation"):
            unrehearsed = (
                self._jobs.adapt(submission, episode, timeout, warm_up=False) if cold else None
            )
        with self.laps("counting parameters"):
            size = self._measure(delivered.artefact, submission)
        assert delivered.pass_seconds is not None
        cold_seconds = unrehearsed.seconds if unrehearsed else None
        return _Adapted(delivered, delivered.pass_seconds, cold_seconds, size)

    def _measure(self, artefact: Artefact, submission: Submission) -> Size:
        try:
            return self._inventory.measure(artefact, submission.program)
        except InvalidArtefact as error:
            raise Failure(f"the artefact is not valid: {error}") from None

    def _predict(
        self,
        submission: Submission,
        episode: Episode,
        artefact: Artefact,
        timeout: float,
        pass_seconds: float,
    ) -> Predicted:
        """Scores in the episode's order, from one process; a second one must give the same for some.

        What the test images tell as a whole (how many are positive, say) is not a detector's to use.
        """
        images = len(episode.pos) + len(episode.neg)
        count = len(episode.present)
        budget = prediction.budget_seconds(pass_seconds, images, count)
        # The order is secret: nothing the worker can see, the episode's seed least of all, tells it.
        secret = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
        order = secret.permutation(count)
        some = prediction.choose_again(count, secret)
        batches = list(episode.batches(order))
        smaller = np.array_split(some, len(some) // len(batches[0]) + 1)
        found, again = (
            self._jobs.predict(submission, episode, artefact, each, timeout=timeout, budget=budget)
            for each in (batches, smaller)
        )
        shown = np.argsort(order)  # the last batch may have been filled up beyond these
        logits = None if found.logits is None else found.logits[shown]
        found = replace(found, scores=found.scores[shown], logits=logits)
        first = found.scores[some]
        others = prediction.disagreeing(first, again.scores, found.scores)
        if others > prediction.MAY_DIFFER:
            raise Failure(
                f"{others} of {len(first)} scores were others when the same images came in other "
                "batches: a score may depend on its own image alone, not on its company or on chance"
            )
        return found


def _failed(episode: Episode, failure: Failure) -> EpisodeResult:
    return EpisodeResult(
        target=episode.target,
        status="not applicable" if failure.status == "not applicable" else "failed",
        reason=failure.reason[:_REASON_LIMIT],
        detail=failure.detail[-4000:],
        images_sha256=episode.fingerprint,
    )


def scores_frame(episode: Episode, scores: NDArray[np.float32] | None) -> pd.DataFrame:
    """A row per test image, in the episode's order; none where there are no scores."""
    count = 0 if scores is None else len(scores)
    return pd.DataFrame(
        {
            "target": pd.Series([episode.target] * count, dtype="str"),
            "image": pd.Series(list(episode.image_ids[:count]), dtype="str"),
            "present": episode.present[:count].astype(bool),
            "score": np.asarray([] if scores is None else scores, dtype=np.float32),
        }
    )
