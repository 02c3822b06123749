"""A detector's scores for all test images, checked by a second process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnbench.judge import prediction_checks
from attnbench.judge.failures import EpisodeFailure
from attnbench.judge.prediction_session import Prediction
from attnbench.judge.worker_session import WorkerSession
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact


def predict_all(
    session: WorkerSession,
    submission: Submission,
    episodes: Sequence[Episode],
    artefact: Artefact,
    *,
    timeout: float,
    budget: float,
) -> list[Prediction]:
    """Return one process's scores for each episode, after a second process has checked some.

    A score must depend on its own image only. A set of test images reveals more, such as how many of
    them are positive.

    Args:
        session: starts the processes.
        submission: the submission.
        episodes: the episodes, which share the adaptation.
        artefact: the detector.
        timeout: seconds to import the submission.
        budget: seconds to load the detector and to predict for all episodes.

    Returns:
        A prediction for each episode, with scores in the episode's order.

    Raises:
        EpisodeFailure: if a process fails, or scores depend on more than their image.
    """
    # The order is secret: nothing that a worker sees reveals it, not even the episode's seed.
    rng = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
    showings = [_Showing.plan(episode, rng) for episode in episodes]
    first, second = (
        session.predict(
            submission,
            [
                (each.episode, each.repeated_batches if is_second else each.batches)
                for each in showings
            ],
            artefact,
            timeout=timeout,
            budget=budget,
            observe=is_second,
        )
        for is_second in (False, True)
    )
    return [each.checked(*found) for each, *found in zip(showings, first, second, strict=True)]


@dataclass(frozen=True)
class _Showing:
    """The order in which both processes see the test images of an episode.

    Attributes:
        episode: the test images.
        order: the first process's order, int64 `[n]`.
        batches: its batches, int64 `[k]` each.
        repeated: the images that the second process sees, int64 `[m]`.
        repeated_batches: its batches, of another size.
    """

    episode: Episode
    order: NDArray[np.int64]
    batches: Sequence[NDArray[np.int64]]
    repeated: NDArray[np.int64]
    repeated_batches: Sequence[NDArray[np.int64]]

    @classmethod
    def plan(cls, episode: Episode, rng: np.random.Generator) -> _Showing:
        count = len(episode.present)
        order = rng.permutation(count)
        batches = list(episode.batches(order))
        repeated = prediction_checks.choose_repeated(count, rng)
        # One batch more than full batches would need, so that the sizes of batches differ.
        parts = min(len(repeated), len(repeated) // len(batches[0]) + 1)
        return cls(episode, order, batches, repeated, np.array_split(repeated, parts))

    def checked(self, first: Prediction, second: Prediction) -> Prediction:
        """Return the first prediction in the episode's order, with the second's precision.

        Raises:
            EpisodeFailure: if scores of the second differ.
        """
        # Scores of images that only fill the last batch are dropped.
        positions = np.argsort(self.order)
        logits = None if first.logits is None else first.logits[positions]
        prediction = replace(
            first, scores=first.scores[positions], logits=logits, precision=second.precision
        )
        scores = prediction.scores[self.repeated]
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
