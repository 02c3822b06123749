"""The trusted side: holds labels, clock and scorer, and judges one episode at a time."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attnbench.adaptation import batches
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation.artefact import Artefact, ArtefactSize, InvalidArtefact, measure
from attnbench.evaluation.channel import ChannelClosed, ChannelGarbage, ChannelTimeout, Message
from attnbench.evaluation.readouts import argmax_readouts
from attnbench.evaluation.warm import Template, Worker
from attnbench.records.record import Cost, EpisodeResult, Measures, Readout
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import Episode
from attnbench.submission import Submission

# An artefact may replace the largest backbones whole, and no more.
_ARTEFACT_LIMIT = 4 << 30
_REASON_LIMIT = 1000
# What the worker has, beside the time for its rehearsal, to copy images and import the submission.
_SETUP_SECONDS = 4.0

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Delivered:
    """An artefact and the seconds from "go" until it was complete."""

    artefact: Artefact
    seconds: float


@dataclass(frozen=True)
class _Predicted:
    """Scores `[n]`, maybe logits `[n, labels]`, in the episode's order; seconds for the scores."""

    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    seconds: float


@dataclass(frozen=True)
class Trial:
    """What came of trying a submission out: the reason it failed, or its size."""

    reason: str
    size: ArtefactSize | None = None
    deterministic: bool = False


class _Failure(Exception):
    def __init__(self, reason: str, detail: str = "", status: str = "failed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.status = status


class Evaluator:
    """Judges episodes on one backbone and device, with workers from a template process.

    Args:
        backbone: the backbone in this process, for the pass and for counting.
        template: loads the backbone of the same name for the workers, and starts them.
        device: `cpu` or `cuda`.
        untrained, data: how the template loads the backbone (see `attnbench.backbones.load`).
    """

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        device: str,
        untrained: bool,
        data: Path | None,
    ) -> None:
        self._backbone = backbone.to(device)
        self._device = device
        self._threads = torch.get_num_threads()
        self._template = template
        template.load(backbone.name, untrained=untrained, data=data)

    def judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> tuple[EpisodeResult, pd.DataFrame]:
        """Adapt, count, predict and score; a failure is a result with its reason.

        Args:
            submission: what is judged.
            episode: the images; their labels stay in this process.
            timeout: seconds for one adaptation, and for all predictions together.
            cold: adapt once more in a process that has not rehearsed, and time that too.

        Returns:
            The result and a score per test image (columns target, image, present, score).
        """
        try:
            warm = self._adapt(submission, episode, timeout, warm_up=True)
            unrehearsed = self._adapt(submission, episode, timeout, warm_up=False) if cold else None
            size = self._measure(warm.artefact)
            predicted = self._predict(submission, episode, warm, timeout)
        except _Failure as failure:
            result = EpisodeResult(
                target=episode.target,
                status="not applicable" if failure.status == "not applicable" else "failed",
                reason=failure.reason[:_REASON_LIMIT],
                detail=failure.detail[-4000:],
                images_sha256=episode.fingerprint,
            )
            return result, scores_frame(episode, None)
        found = detect(predicted.scores, episode.present)
        readouts: dict[Any, Readout] = {}
        if episode.label is not None and predicted.logits is not None:
            readouts.update(
                argmax_readouts(predicted.logits, episode.label, episode.rivals, episode.present)
            )
        result = EpisodeResult(
            target=episode.target,
            status="ok",
            images_sha256=episode.fingerprint,
            measures=Measures(
                hits=found.counts.hits,
                positives=found.counts.positives,
                false_alarms=found.counts.false_alarms,
                negatives=found.counts.negatives,
                hit_rate=found.hit_rate,
                false_alarm_rate=found.false_alarm_rate,
                d_prime=found.d_prime,
                criterion=found.criterion,
                auc=found.auc,
                d_a=found.d_a,
            ),
            cost=Cost(
                parameters_added=size.parameters_added,
                parameters_changed=size.parameters_changed,
                artefact_bytes=size.bytes,
                adaptation_seconds=warm.seconds,
                adaptation_seconds_cold=unrehearsed.seconds if unrehearsed else None,
                pass_seconds=self._pass_seconds(episode),
                prediction_seconds=predicted.seconds,
            ),
            readouts=readouts,
        )
        return result, scores_frame(episode, predicted.scores)

    def try_out(self, submission: Submission, episode: Episode, timeout: float) -> Trial:
        """Adapt twice in fresh processes and predict once; nothing is timed or scored."""
        try:
            first = self._adapt(submission, episode, timeout, warm_up=False)
            second = self._adapt(submission, episode, timeout, warm_up=False)
            size = self._measure(first.artefact)
            self._predict(submission, episode, first, timeout)
        except _Failure as failure:
            return Trial(failure.reason + (f"\n{failure.detail}" if failure.detail else ""))
        return Trial("", size, deterministic=first.artefact == second.artefact)

    def _adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, warm_up: bool
    ) -> Delivered:
        job = {
            "warm_up": warm_up,
            "hyperparameters": submission.hyperparameters_for(self._backbone.name),
        }
        arrays = {"pos": episode.pos, "neg": episode.neg}

        def adapt(worker: Worker) -> Delivered:
            self._start(worker, "adapt", episode, job, arrays, timeout)
            started = time.perf_counter()
            deadline = time.monotonic() + timeout
            worker.channel.send(Message("go"), deadline)
            answer = _answer(worker, "artefact", deadline, _ARTEFACT_LIMIT)
            seconds = time.perf_counter() - started
            missing = {"structure", "tensors"} - set(answer.arrays)
            if missing:
                raise ChannelGarbage("an artefact without " + " and ".join(sorted(missing)))
            parts = {name: array.tobytes() for name, array in answer.arrays.items()}
            return Delivered(Artefact(parts["structure"], parts["tensors"]), seconds)

        return self._with_worker(submission, adapt, "adapting", timeout)

    def _predict(
        self, submission: Submission, episode: Episode, delivered: Delivered, timeout: float
    ) -> _Predicted:
        # The order is secret: nothing the worker can see, the episode's seed least of all, tells it.
        secret = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
        order = secret.permutation(len(episode.present))
        arrays = {
            "structure": np.frombuffer(delivered.artefact.structure, np.uint8),
            "tensors": np.frombuffer(delivered.artefact.tensors, np.uint8),
        }

        def predict(worker: Worker) -> _Predicted:
            self._start(worker, "predict", episode, {}, arrays, timeout)
            deadline = time.monotonic() + timeout
            labels = len(self._backbone.labels or ()) if episode.asks_for_logits else 0
            asked = {"logits": labels > 0}
            scores, logits, seconds = [], [], 0.0
            for images in episode.test_images(order):
                started = time.perf_counter()
                worker.channel.send(Message("images", asked, {"images": images}), deadline)
                shapes = {"scores": (len(images),), "logits": (len(images), labels)}
                answer = _answer(worker, "scores", deadline, 4 * len(images) * (1 + labels))
                seconds += time.perf_counter() - started
                scores.append(_checked(answer, shapes, "scores"))
                if "logits" in answer.arrays:
                    logits.append(_checked(answer, shapes, "logits"))
            shown = np.argsort(order)  # back to the episode's order
            return _Predicted(
                np.concatenate(scores)[shown],
                np.concatenate(logits)[shown] if len(logits) == len(scores) else None,
                seconds,
            )

        return self._with_worker(submission, predict, "predicting", timeout)

    def _start(
        self,
        worker: Worker,
        kind: str,
        episode: Episode,
        job: dict[str, Any],
        arrays: dict[str, NDArray[Any]],
        timeout: float,
    ) -> None:
        """Hand the worker its job and wait until it is ready."""
        deadline = time.monotonic() + timeout + _SETUP_SECONDS
        fields = {
            "device": self._device,
            "threads": self._threads,
            "target": episode.label,
            "seed": episode.seed,
            "source": str(worker.source),
            **job,
        }
        worker.channel.send(Message(kind, fields, arrays), deadline)
        _answer(worker, "ready", deadline, 0)

    def _with_worker(
        self, submission: Submission, use: Callable[[Worker], Outcome], doing: str, timeout: float
    ) -> Outcome:
        with self._template.worker(submission.folder) as worker:
            try:
                return use(worker)
            except ChannelTimeout:
                raise _Failure(f"timeout: not done {doing} after {timeout:g} s") from None
            except ChannelGarbage as garbage:
                raise _Failure(f"the worker sent {garbage} while {doing}") from None
            except ChannelClosed:
                ended = _ending(self._template.end_worker(grace=1.0))
                raise _Failure(f"the process {ended} while {doing}") from None

    def _measure(self, artefact: Artefact) -> ArtefactSize:
        try:
            return measure(artefact, self._backbone)
        except InvalidArtefact as error:
            raise _Failure(f"the artefact is not valid: {error}") from None

    def _pass_seconds(self, episode: Episode) -> float:
        """Seconds of one no-grad forward over pos and neg: median of up to three after a warm-up."""
        images = [torch.from_numpy(side).to(self._device) for side in (episode.pos, episode.neg)]
        pieces = [side[rows] for side in images for rows in batches(side)]
        durations: list[float] = []
        with torch.no_grad():
            self._backbone(pieces[0])
            while len(durations) < 3 and sum(durations) < 2.0:
                self._synchronise()
                started = time.perf_counter()
                for piece in pieces:
                    self._backbone(piece)
                self._synchronise()
                durations.append(time.perf_counter() - started)
        return statistics.median(durations)

    def _synchronise(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


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


def _answer(worker: Worker, kind: str, deadline: float, limit: int) -> Message:
    answer = worker.receive(deadline, limit)
    if answer.kind in ("failed", "not applicable"):
        reason = str(answer.fields.get("reason", "")) or "no reason given"
        raise _Failure(reason, str(answer.fields.get("detail", "")), answer.kind)
    if answer.kind != kind:
        raise ChannelGarbage(f"{answer.kind[:40]!r} where {kind!r} was expected")
    return answer


def _checked(
    answer: Message, shapes: Mapping[str, tuple[int, ...]], what: str
) -> NDArray[np.float32]:
    values = answer.arrays.get(what)
    if values is None or values.dtype != np.float32 or values.shape != shapes[what]:
        raise ChannelGarbage(f"{what} of the wrong shape or type")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise _Failure(f"{bad} of {values.size} {what} are NaN or infinite; {what} must be finite")
    return values


def _ending(status: int | None) -> str:
    if status is None:
        return "closed its channel"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself (exit code {status})"
