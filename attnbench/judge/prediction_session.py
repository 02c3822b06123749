"""One worker's prediction: test images go out in batches, scores come back, each batch is timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.judge.replies import (
    checked_outputs,
    expect,
    names_in,
    text_field,
)
from attnbench.judge.template import Worker
from attnbench.stimuli.episode import Episode
from attnbench.wire.artefact import Artefact
from attnbench.wire.channel import Message
from attnbench.wire.shared_images import Images


@dataclass(frozen=True)
class Prediction:
    """The scores of all batches, in the order shown, and their times.

    Attributes:
        scores: float32 `[n]`.
        logits: float32 `[n, labels]`, or None if the detector has none.
        loading_seconds: the time from sending the artefact until the detector was loaded.
        batch_sizes: the number of images in each batch.
        batch_seconds: the duration of each batch.
        nondeterministic: operations used that have no deterministic form on the device.
        precision: the precisions computed in, if the worker was to observe them.
        place: where the submission defines the detector, as the worker says, for messages.
        printed: what the detector printed.
        contended: whether other work used the CPU meanwhile.
    """

    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    loading_seconds: float
    batch_sizes: tuple[int, ...]
    batch_seconds: tuple[float, ...]
    nondeterministic: tuple[str, ...]
    precision: tuple[str, ...]
    place: str
    printed: str
    contended: bool = False


class PredictionSession:
    """Shows a detector the test images of one or more episodes, and collects its scores.

    The images go through two shared buffers in turn. A background thread writes the next batch into
    one of them while the worker scores the other, so the worker never waits for images.

    Args:
        worker: a worker that is ready to receive an artefact.
        image_buffers: two buffers that the worker sees, float32 `[largest batch, 3, h, w]`.
        budget: seconds for loading and all batches together. The time to make images does not count.
    """

    def __init__(self, worker: Worker, image_buffers: Sequence[Images], *, budget: float) -> None:
        self._worker = worker
        self._buffers = image_buffers
        self._budget = budget
        self._left = budget
        self._started = 0.0
        self._loading = 0.0
        self._place = ""

    def load(self, artefact: Artefact) -> None:
        """Have the worker load the detector.

        Args:
            artefact: the detector.

        Raises:
            EpisodeFailure: if the worker reports a failure.
            ChannelClosed, ChannelTimeout, ProtocolError: see `Worker.receive`.
        """
        self._started = time.perf_counter()
        deadline = time.monotonic() + self._budget
        self._worker.channel.send(Message("artefact", arrays=artefact.arrays), deadline)
        reply = expect(self._worker, "loaded", deadline, 0)
        self._loading = self._elapsed()
        self._left -= self._loading
        self._place = text_field(reply.fields, "place")

    def run(
        self, episode: Episode, batches: Sequence[NDArray[np.int64]], *, labels: int
    ) -> Prediction:
        """Have the worker score the test images of an episode, once the detector is loaded.

        Args:
            episode: builds the test images.
            batches: the indices of the test images in each batch, int64 `[n]`.
            labels: the number of logits to ask for; 0 for none.

        Raises:
            EpisodeFailure: if the worker reports a failure, or a score is NaN or infinite.
            ChannelClosed, ChannelTimeout, ProtocolError: see `Worker.receive`.
        """
        scores: list[NDArray[np.float32]] = []
        logits: list[NDArray[np.float32]] = []
        seconds: list[float] = []
        reply = Message("scores")
        ended = self._elapsed()
        with ThreadPoolExecutor(1) as background:
            shown: list[Future[float]] = []

            def show_next() -> None:
                if len(shown) < len(batches):
                    number = len(shown)
                    buffer, indices = number % len(self._buffers), batches[number]
                    shown.append(background.submit(self._show, episode, indices, buffer, labels))

            for _ in self._buffers:
                show_next()
            for number, indices in enumerate(batches):
                # The worker starts a batch once it has been shown and the previous one has ended.
                began = max(shown[number].result(), ended)
                reply = self._receive_scores(len(indices), labels)
                ended = self._elapsed()
                seconds.append(ended - began)
                self._left -= ended - began
                show_next()  # the buffer of this batch is free again
                scores.append(checked_outputs(reply, "scores", (len(indices),), self._place))
                if "logits" in reply.arrays:
                    shape = (len(indices), labels)
                    logits.append(checked_outputs(reply, "logits", shape, self._place))
        return Prediction(
            np.concatenate(scores),
            np.concatenate(logits) if len(logits) == len(scores) else None,
            self._loading,
            tuple(map(len, batches)),
            tuple(seconds),
            names_in(reply.fields, "nondeterministic"),
            names_in(reply.fields, "precision"),
            self._place,
            self._worker.printed(),
        )

    def _show(
        self, episode: Episode, indices: NDArray[np.int64], buffer: int, labels: int
    ) -> float:
        """Write a batch into a buffer and tell the worker. Return the seconds since loading began."""
        episode.make(indices, self._buffers[buffer][: len(indices)])
        fields = {"buffer": buffer, "count": len(indices), "logits": labels > 0}
        self._worker.channel.send(Message("images", fields), time.monotonic() + self._budget)
        return self._elapsed()

    def _receive_scores(self, count: int, labels: int) -> Message:
        # A float32 score, and as many float32 logits as there are labels.
        limit = 4 * count * (1 + labels)
        return expect(self._worker, "scores", time.monotonic() + self._left, limit)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started
