"""The outcomes of episodes, from what an adaptation and the tests of its detector gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.judge import prediction_checks
from attnbench.judge.argmax_readouts import argmax_readouts
from attnbench.judge.failures import EpisodeFailure
from attnbench.judge.parameter_count import ArtefactSize
from attnbench.judge.prediction_session import Prediction
from attnbench.judge.worker_session import Adaptation
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import Cost, Environment, EpisodeResult, Measures, Readout
from attnbench.statistics.detection import detect
from attnbench.stimuli.episode import Episode

# The most characters of a reason and of any other text in a result.
_MAX_REASON, _MAX_TEXT = 1000, 10_000


@dataclass(frozen=True)
class TimedAdaptation:
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


def outcomes_of(
    timed: TimedAdaptation,
    tests: Sequence[tuple[Episode, Prediction | EpisodeFailure]],
    environment: Environment,
) -> list[EpisodeOutcome]:
    """Return the outcome of each test of one detector.

    They share the cost of the adaptation, so the late seconds of all are the most of any test.

    Args:
        timed: the adaptation.
        tests: the episodes that the detector was tested on, with what came of it.
        environment: where that was.
    """
    predictions = [found for _, found in tests if isinstance(found, Prediction)]
    late = max(map(_late_seconds, predictions), default=0.0)
    contended = timed.contended or any(prediction.contended for prediction in predictions)
    cost = {"late_seconds": late, "contended": contended, **timed.times(late)}
    return [
        failed_outcome(episode, found, environment)
        if isinstance(found, EpisodeFailure)
        else _scored_outcome(episode, timed, found, cost, environment)
        for episode, found in tests
    ]


def _late_seconds(prediction: Prediction) -> float:
    """Return the seconds of work that came after the artefact was delivered.

    An adaptation ends when a process that took no part in it has loaded the detector. So the time of
    loading counts as adaptation, and so does work deferred until prediction.
    """
    return prediction.loading_seconds + prediction_checks.deferred_seconds(
        prediction.batch_sizes, prediction.batch_seconds
    )


def _scored_outcome(
    episode: Episode,
    timed: TimedAdaptation,
    prediction: Prediction,
    cost: Mapping[str, Any],
    environment: Environment,
) -> EpisodeOutcome:
    adaptation, size = timed.adaptation, timed.size
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
            peak_memory_bytes=adaptation.peak_memory_bytes,
            prediction_seconds=sum(prediction.batch_seconds),
            **cost,
        ),
        readouts=readouts,
        nondeterministic=tuple(
            sorted({*adaptation.nondeterministic, *prediction.nondeterministic})
        ),
        precision=tuple(sorted({*adaptation.precision, *prediction.precision})),
        has_label=episode.label is not None,
        artefact_sha256=adaptation.artefact.sha256,
    )
    return EpisodeOutcome(result, _scores(episode, prediction.scores), environment)


def failed_outcome(
    episode: Episode, failure: EpisodeFailure, environment: Environment
) -> EpisodeOutcome:
    """Return the outcome of an episode that failed."""
    result = EpisodeResult(
        target=episode.target,
        status=failure.status,
        reason=failure.reason[:_MAX_REASON],
        detail=failure.detail[-_MAX_TEXT:],
        traceback=failure.traceback[-_MAX_TEXT:],
        printed=failure.printed[-_MAX_TEXT:],
        images_sha256=episode.fingerprint,
        has_label=episode.label is not None,
    )
    return EpisodeOutcome(result, _scores(episode, np.zeros(0, np.float32)), environment)


def retimed_outcome(
    episode: Episode, measured: EpisodeResult, timed: TimedAdaptation, environment: Environment
) -> EpisodeOutcome:
    """Return an earlier result with the times of another adaptation, without scores.

    The outcome is a failure if the images or the number of parameters differ.

    Args:
        episode: the images.
        measured: the earlier result.
        timed: the other adaptation.
        environment: where that was.
    """
    assert measured.cost is not None
    earlier = measured.cost
    if episode.fingerprint != measured.images_sha256:
        failure = EpisodeFailure("the images differ from those of the recorded episode")
        return failed_outcome(episode, failure, environment)
    counts = timed.size.parameters_added, timed.size.parameters_changed
    if counts != (earlier.parameters_added, earlier.parameters_changed):
        failure = EpisodeFailure("the number of parameters differs from the recorded episode's")
        return failed_outcome(episode, failure, environment)
    times = {**timed.times(earlier.late_seconds), "contended": timed.contended}
    result = measured.model_copy(update={"cost": earlier.model_copy(update=times)})
    return EpisodeOutcome(result, _scores(episode, np.zeros(0, np.float32)), environment)


def _scores(episode: Episode, scores: NDArray[np.float32]) -> pa.Table:
    """Return a row per test image, in the episode's order; no rows if there are no scores."""
    count = len(scores)
    return scores_table(episode.target, episode.image_ids[:count], episode.present[:count], scores)
