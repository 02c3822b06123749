"""The evaluator: it holds labels, clock and scorer, and judges one episode at a time.

The clock itself runs in `attnbench.judge.worker_session` and `attnbench.judge.prediction_session`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attnbench.backbone_names import absolute
from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.judge import prediction_checks
from attnbench.judge.environment import describe_environment
from attnbench.judge.episode_outcomes import (
    TimedAdaptation,
    failed_outcome,
    outcomes_of,
    retimed_outcome,
)
from attnbench.judge.failures import EpisodeFailure, WorkerKilled
from attnbench.judge.parameter_count import (
    ArtefactSize,
    InvalidArtefact,
    ParameterCounter,
    changed_tensors,
)
from attnbench.judge.phase_timer import PhaseTimer
from attnbench.judge.prediction_session import Prediction
from attnbench.judge.predictions import predict_all
from attnbench.judge.template import Template
from attnbench.judge.trial import Trial
from attnbench.judge.worker_session import Adaptation, WorkerSession
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import Environment, EpisodeResult
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact

_T = TypeVar("_T")


class Evaluator:
    """Judges episodes on one backbone and device.

    Args:
        backbone: the backbone in this process, for counting parameters.
        template: loads the backbone of the same name for the workers, and forks them.
        device: `cpu` or `cuda`.
        untrained: whether the template leaves the backbone's weights as initialised.
        source: what `attnbench.backbones.load` was given for the backbone; its name by default. For
            a backbone of the user's own, that is a path.

    Attributes:
        timer: how long each phase of the episodes took, for diagnosis. No record depends on it.
    """

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        device: str,
        untrained: bool,
        source: str | None = None,
    ) -> None:
        self.timer = PhaseTimer()
        self._device = device
        self._counter = ParameterCounter(backbone)
        self._session = WorkerSession(
            template,
            backbone=backbone.name,
            labels=len(backbone.labels or ()),
            size=sum(tensor.nbytes for tensor in tensors_of(backbone).values()),
            device=device,
        )
        # The fork server has another working directory.
        template.load(absolute(source or backbone.name), untrained=untrained)

    @property
    def confinement(self) -> tuple[str, ...]:
        """What confined the last worker, such as `landlock 7`."""
        return self._session.confinement

    def judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> EpisodeOutcome:
        """Judge a single episode; see `judge_all`."""
        (outcome,) = self.judge_all(submission, [episode], timeout, cold=cold)
        return outcome

    def judge_all(
        self, submission: Submission, episodes: Sequence[Episode], timeout: float, *, cold: bool
    ) -> list[EpisodeOutcome]:
        """Adapt once, count parameters, and test the detector on each of several episodes.

        The episodes share the time and the parameters of the adaptation. A failure is an outcome with
        its reason. If the kernel killed the process, because memory may have run out, it runs again.

        Args:
            submission: what is judged.
            episodes: the images. They differ in their test images only. Their labels stay in this
                process.
            timeout: seconds for one adaptation. Prediction has a budget of its own.
            cold: whether to adapt once more, in a process that has not rehearsed, and time that too.

        Raises:
            ValueError: if the images to adapt on, the target or the seed differ between episodes.
        """
        first = _with_shared_adaptation(episodes)
        try:
            timed = _again_if_killed(lambda: self._adapt(submission, first, timeout, cold=cold))
        except EpisodeFailure as failure:
            return [failed_outcome(episode, failure, self._environment) for episode in episodes]
        with self.timer.phase("prediction"):
            found = self._test(submission, episodes, timed, timeout)
        return outcomes_of(timed, list(zip(episodes, found, strict=True)), self._environment)

    def time_again(
        self,
        submission: Submission,
        episodes: Sequence[Episode],
        timeout: float,
        measured: Sequence[EpisodeResult],
        *,
        cold: bool,
    ) -> list[EpisodeOutcome]:
        """Adapt once more, and return the earlier results with the new times and no scores.

        The late seconds (see `Cost.late_seconds`) keep their earlier value, because measuring them
        takes all test images. The outcome is a failure if the adaptation fails, if the images
        differ, or if the number of parameters differs.

        Args:
            submission: the submission to time.
            episodes: the images; see `judge_all`.
            timeout: seconds for one adaptation.
            measured: the earlier result of each episode.
            cold: see `judge_all`.

        Raises:
            ValueError: as `judge_all`.
        """
        first = _with_shared_adaptation(episodes)
        try:
            timed = self._adapt(submission, first, timeout, cold=cold)
        except EpisodeFailure as failure:
            return [failed_outcome(episode, failure, self._environment) for episode in episodes]
        return [
            retimed_outcome(episode, earlier, timed, self._environment)
            for episode, earlier in zip(episodes, measured, strict=True)
        ]

    def try_out(self, submission: Submission, episode: Episode, timeout: float) -> Trial:
        """Adapt twice in fresh processes, and predict once.

        Both rehearse: libraries may count something, such as hooks, and the count would differ.

        Args:
            submission: the submission to try.
            episode: the images.
            timeout: seconds for one adaptation.
        """
        trial = Trial()
        try:
            first = self._session.adapt(submission, episode, timeout, rehearse=True)
            second = self._session.adapt(submission, episode, timeout, rehearse=True, remark=True)
            trial = Trial(
                size=self._measure(first, submission),
                changed=changed_tensors(first.artefact),
                deterministic=first.artefact == second.artefact,
                remarks=second.remarks,
            )
            assert first.pass_seconds is not None
            self._predict(submission, [episode], first.artefact, timeout, first.pass_seconds)
        except EpisodeFailure as failure:
            return replace(
                trial,
                reason=failure.reason,
                detail=failure.detail,
                not_applicable=failure.status == "not applicable",
            )
        return trial

    def deliver(
        self,
        submission: Submission,
        episode: Episode,
        timeout: float,
        *,
        onto: Artefact | None = None,
    ) -> tuple[Artefact, ArtefactSize]:
        """Adapt once, and return the artefact with its size.

        Args:
            submission: the submission.
            episode: the images to adapt on.
            timeout: seconds for the adaptation.
            onto: the artefact of another target, whose network is adapted in place of the backbone.

        Raises:
            EpisodeFailure: if the submission delivers none.
        """
        adaptation = _again_if_killed(
            lambda: self._session.adapt(submission, episode, timeout, rehearse=False, onto=onto)
        )
        return adaptation.artefact, self._measure(adaptation, submission)

    def outputs(
        self, submission: Submission, episode: Episode, artefact: Artefact, timeout: float
    ) -> NDArray[np.float32]:
        """Return the outputs `[n, labels]` of a detector's network on the test images of an episode.

        Args:
            submission: the submission.
            episode: the test images; the target is one of the backbone's labels.
            artefact: the detector, which may be of another target.
            timeout: seconds to import the submission, and to predict.

        Raises:
            EpisodeFailure: if the detector does not keep the backbone's outputs, or fails.
        """
        assert episode.label is not None
        wanted = replace(episode, rivals=(episode.label,))
        (prediction,) = _again_if_killed(
            lambda: predict_all(
                self._session, submission, [wanted], artefact, timeout=timeout, budget=timeout
            )
        )
        if prediction.logits is None:
            raise EpisodeFailure(
                "its detector does not keep the outputs of the backbone: it has no `logits`",
                status="not applicable",
            )
        return prediction.logits

    def _adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> TimedAdaptation:
        with self.timer.phase("pass, rehearsal and adaptation"):
            adaptation = self._session.adapt(submission, episode, timeout, rehearse=True)
        cold_seconds, contended = None, adaptation.contended
        with self.timer.phase("cold adaptation"):
            if cold:
                again = self._session.adapt(submission, episode, timeout, rehearse=False)
                cold_seconds = again.seconds
                contended |= again.contended
        with self.timer.phase("counting parameters"):
            size = self._measure(adaptation, submission)
        assert adaptation.pass_seconds is not None
        return TimedAdaptation(adaptation, adaptation.pass_seconds, cold_seconds, size, contended)

    def _measure(self, adaptation: Adaptation, submission: Submission) -> ArtefactSize:
        try:
            return self._counter.measure(adaptation.artefact, submission.program)
        except InvalidArtefact as error:
            reason = f"the artefact is not valid: {error}"
            raise EpisodeFailure(reason, printed=adaptation.printed) from None

    def _test(
        self,
        submission: Submission,
        episodes: Sequence[Episode],
        timed: TimedAdaptation,
        timeout: float,
    ) -> list[Prediction | EpisodeFailure]:
        """Have the detector predict the test images of all episodes, or say why it cannot.

        One process predicts for all. If it fails, each episode has processes of its own, so that a
        detector that fails on one task has scores on the others.
        """
        try:
            return [
                *_again_if_killed(
                    lambda: self._predict(
                        submission,
                        episodes,
                        timed.adaptation.artefact,
                        timeout,
                        timed.pass_seconds,
                    )
                )
            ]
        except EpisodeFailure as failure:
            if len(episodes) == 1:
                failure.printed = timed.adaptation.printed + failure.printed
                return [failure]
        return [
            found
            for episode in episodes
            for found in self._test(submission, [episode], timed, timeout)
        ]

    def _predict(
        self,
        submission: Submission,
        episodes: Sequence[Episode],
        artefact: Artefact,
        timeout: float,
        pass_seconds: float,
    ) -> list[Prediction]:
        """Have the detector predict within its budget; see `predict_all`."""
        images = len(episodes[0].pos) + len(episodes[0].neg)
        count = sum(len(episode.present) for episode in episodes)
        budget = prediction_checks.budget_seconds(pass_seconds, images, count)
        return predict_all(
            self._session, submission, episodes, artefact, timeout=timeout, budget=budget
        )

    @property
    def _environment(self) -> Environment:
        """This machine, with what confined the last worker."""
        return describe_environment(self._device, self.confinement)


def _with_shared_adaptation(episodes: Sequence[Episode]) -> Episode:
    """Return the first of several episodes that have the same images to adapt on.

    Raises:
        ValueError: if they do not.
    """
    first = episodes[0]
    for other in episodes[1:]:
        same = (other.target, other.seed, other.label) == (first.target, first.seed, first.label)
        for one, two in ((first.pos, other.pos), (first.neg, other.neg)):
            same &= one is two or np.array_equal(one, two)
        if not same:
            raise ValueError("episodes that differ in their images to adapt on share no adaptation")
    return first


def _again_if_killed(step: Callable[[], _T]) -> _T:
    """Run a step, and once more if its process was killed. Memory may have run out."""
    try:
        return step()
    except WorkerKilled:
        return step()
