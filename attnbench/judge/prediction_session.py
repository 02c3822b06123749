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
    """Shows a detector test images and collects its scores.

    The images go through two shared buffers in turn. A background thread writes the next batch into
    one of them while the worker scores the other, so the worker never waits for images.

    Args:
        worker: a worker that is ready to receive an artefact.
        episode: builds the test images.
        batches: the indices of the test images in each batch, int64 `[n]`.
        image_buffers: two buffers that the worker sees, float32 `[largest batch, 3, h, w]`.
        labels: the number of logits to ask for; 0 for none.
        budget: seconds for loading and all batches together. The time to make images does not count.
    """

    def __init__(
        self,
        worker: Worker,
        episode: Episode,
        batches: Sequence[NDArray[np.int64]],
        image_buffers: Sequence[Images],
        *,
        labels: int,
        budget: float,
    ) -> None:
        self._worker = worker
        self._episode = episode
        self._batches = batches
        self._buffers = image_buffers
        self._labels = labels
        self._budget = budget
        self._started = 0.0
        self._loading = 0.0
        self._place = ""
        self._scores: list[NDArray[np.float32]] = []
        self._logits: list[NDArray[np.float32]] = []
        self._seconds: list[float] = []

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
        self._place = text_field(reply.fields, "place")

    def run(self) -> Prediction:
        """Have the worker score all batches, once the detector is loaded.

        Raises:
            EpisodeFailure: if the worker reports a failure, or a score is NaN or infinite.
            ChannelClosed, ChannelTimeout, ProtocolError: see `Worker.receive`.
        """
        reply = Message("scores")
        ended = self._loading
        with ThreadPoolExecutor(1) as background:
            shown: list[Future[float]] = []

            def show_next() -> None:
                if len(shown) < len(self._batches):
                    shown.append(background.submit(self._show, len(shown)))

            for _ in self._buffers:
                show_next()
            for number in range(len(self._batches)):
                # The worker starts a batch once it has been shown and the previous one has ended.
                began = max(shown[number].result(), ended)
                reply = self._receive_scores(number)
                ended = self._elapsed()
                self._seconds.append(ended - began)
                show_next()  # the buffer of this batch is free again
                self._keep(reply, number)
        has_logits = len(self._logits) == len(self._scores)
        return Prediction(
            np.concatenate(self._scores),
            np.concatenate(self._logits) if has_logits else None,
            self._loading,
            tuple(map(len, self._batches)),
            tuple(self._seconds),
            names_in(reply.fields, "nondeterministic"),
            names_in(reply.fields, "precision"),
            self._place,
            self._worker.printed(),
        )

    def _show(self, number: int) -> float:
        """Write a batch into its buffer and tell the worker. Return the seconds since loading began."""
        buffer, count = number % len(self._buffers), len(self._batches[number])
        self._episode.make(self._batches[number], self._buffers[buffer][:count])
        fields = {"buffer": buffer, "count": count, "logits": self._labels > 0}
        self._worker.channel.send(Message("images", fields), time.monotonic() + self._budget)
        return self._elapsed()

    def _receive_scores(self, number: int) -> Message:
        left = self._budget - self._loading - sum(self._seconds)
        # A float32 score, and as many float32 logits as there are labels.
        limit = 4 * len(self._batches[number]) * (1 + self._labels)
        return expect(self._worker, "scores", time.monotonic() + left, limit)

    def _keep(self, reply: Message, number: int) -> None:
        count = len(self._batches[number])
        self._scores.append(checked_outputs(reply, "scores", (count,), self._place))
        if "logits" in reply.arrays:
            logits = checked_outputs(reply, "logits", (count, self._labels), self._place)
            self._logits.append(logits)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started
