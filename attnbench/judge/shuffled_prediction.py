"""Prediction in a secret order, checked in other batches by a second process."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from attnbench.judge import prediction_checks
from attnbench.judge.failures import EpisodeFailure
from attnbench.judge.prediction_session import Prediction
from attnbench.judge.worker_session import WorkerSession
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact


def predict_shuffled(
    session: WorkerSession,
    submission: Submission,
    episode: Episode,
    artefact: Artefact,
    *,
    timeout: float,
    budget: float,
) -> Prediction:
    """Return one process's scores, in the episode's order, after a second process has checked some.

    A score must depend on its own image only. A set of test images reveals more, such as how many of
    them are positive.

    Args:
        session: sends the requests to workers.
        submission, episode, artefact, timeout, budget: see `WorkerSession.predict`.

    Raises:
        EpisodeFailure: if the detector fails, or its scores depend on other images.
    """
    count = len(episode.present)
    # The order is secret: nothing that a worker sees reveals it, not even the episode's seed.
    rng = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
    order = rng.permutation(count)
    repeated = prediction_checks.choose_repeated(count, rng)
    batches = list(episode.batches(order))
    # One batch more than full batches would need, so that the sizes of batches differ.
    parts = min(len(repeated), len(repeated) // len(batches[0]) + 1)
    smaller_batches = np.array_split(repeated, parts)
    first, second = (
        session.predict(
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
