"""The evaluator: it holds labels, clock and scorer, and judges one episode at a time.

The clock itself runs in `attnbench.judge.worker_session` and `attnbench.judge.prediction_session`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.backbone_names import absolute
from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.judge import prediction_checks
from attnbench.judge.argmax_readouts import argmax_readouts
from attnbench.judge.environment import describe_environment
from attnbench.judge.failures import EpisodeFailure, WorkerKilled
from attnbench.judge.parameter_count import (
    ArtefactSize,
    InvalidArtefact,
    ParameterCounter,
    changed_tensors,
)
from attnbench.judge.phase_timer import PhaseTimer
from attnbench.judge.prediction_session import Prediction
from attnbench.judge.template import Template
from attnbench.judge.trial import Trial
from attnbench.judge.worker_session import Adaptation, WorkerSession
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import Cost, EpisodeResult, Measures, Readout
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import Episode
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact

# The most characters of a reason and of any other text in a result.
_MAX_REASON, _MAX_TEXT = 1000, 10_000


@dataclass(frozen=True)
class _TimedAdaptation:
    """An adaptation after a rehearsal, and the seconds of a cold one if it was requested.

    `contended` says whether other work used the CPU during either.
    """

    adaptation: Adaptation
    pass_seconds: float
    cold_seconds: float | None
    size: ArtefactSize
    contended: bool

    def times(self, late: float) -> dict[str, Any]:
        """Return the times of a `Cost`.

        Args:
            late: the seconds of work that came after the artefact was delivered.
        """
        cold = self.cold_seconds
        return {
            "adaptation_seconds": self.adaptation.seconds + late,
            "adaptation_seconds_cold": None if cold is None else cold + late,
            "pass_seconds": self.pass_seconds,
        }


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
        """Adapt, count parameters, predict and score. A failure is an outcome with its reason.

        Args:
            submission: what is judged.
            episode: the images. Their labels stay in this process.
            timeout: seconds for one adaptation. Prediction has a budget of its own.
            cold: whether to adapt once more, in a process that has not rehearsed, and time that too.
        """
        try:
            try:
                return self._judge(submission, episode, timeout, cold=cold)
            except WorkerKilled:
                # The kernel may have killed it because memory ran out. Try once more.
                return self._judge(submission, episode, timeout, cold=cold)
        except EpisodeFailure as failure:
            return self._failed(episode, failure)

    def _judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> EpisodeOutcome:
        timed = self._adapt(submission, episode, timeout, cold=cold)
        adaptation, size = timed.adaptation, timed.size
        try:
            with self.timer.phase("prediction"):
                prediction = self._predict(
                    submission, episode, adaptation.artefact, timeout, timed.pass_seconds
                )
        except EpisodeFailure as failure:
            failure.printed = adaptation.printed + failure.printed
            raise
        # An adaptation ends when a process that took no part in it has loaded the detector. So the
        # time of loading counts as adaptation, and so does work deferred until prediction.
        late = prediction.loading_seconds
        late += prediction_checks.deferred_seconds(prediction.batch_sizes, prediction.batch_seconds)
        readouts: dict[Any, Readout] = {}
        if episode.label is not None and prediction.logits is not None:
            readouts.update(
                argmax_readouts(prediction.logits, episode.label, episode.rivals, episode.present)
            )
        result = EpisodeResult(
            target=episode.target,
            status="ok",
            printed=adaptation.printed + prediction.printed,
            images_sha256=episode.fingerprint,
            measures=Measures.of(detect(prediction.scores, episode.present)),
            cost=Cost(
                parameters_added=size.parameters_added,
                parameters_changed=size.parameters_changed,
                other_numbers=size.other_numbers,
                artefact_bytes=size.bytes,
                late_seconds=late,
                prediction_seconds=sum(prediction.batch_seconds),
                contended=timed.contended or prediction.contended,
                **timed.times(late),
            ),
            readouts=readouts,
            nondeterministic=tuple(
                sorted({*adaptation.nondeterministic, *prediction.nondeterministic})
            ),
            precision=tuple(sorted({*adaptation.precision, *prediction.precision})),
            has_label=episode.label is not None,
            artefact_sha256=adaptation.artefact.sha256,
        )
        return self._outcome(result, _scores(episode, prediction.scores))

    def time_again(
        self,
        submission: Submission,
        episode: Episode,
        timeout: float,
        measured: EpisodeResult,
        *,
        cold: bool,
    ) -> EpisodeOutcome:
        """Adapt once more, and return the earlier result with the new times and no scores.

        The late seconds (see `Cost.late_seconds`) keep their earlier value, because measuring them
        takes all test images. The outcome is a failure if the adaptation fails, if the images
        differ, or if the number of parameters differs.

        Args:
            submission: the submission to time.
            episode: the images.
            timeout: seconds for one adaptation.
            measured: the earlier result.
            cold: see `judge`.
        """
        assert measured.cost is not None
        earlier = measured.cost
        try:
            timed = self._adapt(submission, episode, timeout, cold=cold)
            if episode.fingerprint != measured.images_sha256:
                raise EpisodeFailure("the images differ from those of the recorded episode")
            counts = timed.size.parameters_added, timed.size.parameters_changed
            if counts != (earlier.parameters_added, earlier.parameters_changed):
                raise EpisodeFailure("the number of parameters differs from the recorded episode's")
        except EpisodeFailure as failure:
            return self._failed(episode, failure)
        times = {**timed.times(earlier.late_seconds), "contended": timed.contended}
        cost = earlier.model_copy(update=times)
        return self._outcome(measured.model_copy(update={"cost": cost}), _scores(episode, None))

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
            self._predict(submission, episode, first.artefact, timeout, first.pass_seconds)
        except EpisodeFailure as failure:
            return replace(
                trial,
                reason=failure.reason,
                detail=failure.detail,
                not_applicable=failure.status == "not applicable",
            )
        return trial

    def _adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> _TimedAdaptation:
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
        return _TimedAdaptation(adaptation, adaptation.pass_seconds, cold_seconds, size, contended)

    def _measure(self, adaptation: Adaptation, submission: Submission) -> ArtefactSize:
        try:
            return self._counter.measure(adaptation.artefact, submission.program)
        except InvalidArtefact as error:
            reason = f"the artefact is not valid: {error}"
            raise EpisodeFailure(reason, printed=adaptation.printed) from None

    def _predict(
        self,
        submission: Submission,
        episode: Episode,
        artefact: Artefact,
        timeout: float,
        pass_seconds: float,
    ) -> Prediction:
        """Return one process's scores, in the episode's order, after a second process has checked some.

        A score must depend on its own image only. A set of test images reveals more, such as how
        many of them are positive.
        """
        images = len(episode.pos) + len(episode.neg)
        count = len(episode.present)
        budget = prediction_checks.budget_seconds(pass_seconds, images, count)
        # The order is secret: nothing that a worker sees reveals it, not even the episode's seed.
        rng = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
        order = rng.permutation(count)
        repeated = prediction_checks.choose_repeated(count, rng)
        batches = list(episode.batches(order))
        # One batch more than full batches would need, so that the sizes of batches differ.
        smaller_batches = np.array_split(repeated, len(repeated) // len(batches[0]) + 1)
        first, second = (
            self._session.predict(
                submission,
                episode,
                artefact,
                shown,
                timeout=timeout,
                budget=budget,
                observe=shown is smaller_batches,
            )
            for shown in (batches, smaller_batches)
        )
        # Back to the episode's order. This drops the scores of images that only pad the last batch.
        positions = np.argsort(order)
        logits = None if first.logits is None else first.logits[positions]
        prediction = replace(
            first, scores=first.scores[positions], logits=logits, precision=second.precision
        )
        scores = prediction.scores[repeated]
        different = prediction_checks.count_different(scores, second.scores, prediction.scores)
        if different > prediction_checks.MAX_DIFFERENT:
            raise EpisodeFailure(
                f"{prediction.place}{different} of {len(scores)} scores differ when the same images "
                "come in other batches: a score may depend on its own image only, not on other images "
                "or on chance. Compute means and thresholds in adapt and keep them with "
                "`register_buffer`; write `F.dropout(x, training=self.training)`",
                printed=first.printed,
            )
        return prediction

    def _failed(self, episode: Episode, failure: EpisodeFailure) -> EpisodeOutcome:
        result = EpisodeResult(
            target=episode.target,
            status=failure.status,
            reason=failure.reason[:_MAX_REASON],
            detail=failure.detail[-_MAX_TEXT:],
            traceback=failure.traceback[-_MAX_TEXT:],
            printed=failure.printed[-_MAX_TEXT:],
            images_sha256=episode.fingerprint,
        )
        return self._outcome(result, _scores(episode, None))

    def _outcome(self, result: EpisodeResult, scores: pa.Table) -> EpisodeOutcome:
        environment = describe_environment(self._device, self.confinement)
        return EpisodeOutcome(result, scores, environment)


def _scores(episode: Episode, scores: NDArray[np.float32] | None) -> pa.Table:
    """Return a row per test image, in the episode's order; no rows if there are no scores."""
    if scores is None:
        scores = np.zeros(0, np.float32)
    count = len(scores)
    return scores_table(episode.target, episode.image_ids[:count], episode.present[:count], scores)
