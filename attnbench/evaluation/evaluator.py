"""The trusted side: holds labels, clock and scorer, and judges one episode at a time."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from attnbench.adaptation import batches
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation import prediction
from attnbench.evaluation.artefact import Artefact
from attnbench.evaluation.channel import ChannelClosed, ChannelGarbage, ChannelTimeout, Message
from attnbench.evaluation.handover import shared
from attnbench.evaluation.inventory import InvalidArtefact, Size, canonical, measure
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
# A pass is repeated until this time is spent.
_PASSES_SECONDS = 0.05

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Delivered:
    """An artefact, and the seconds from "go" until it was complete."""

    artefact: Artefact
    seconds: float
    nondeterministic: tuple[str, ...]


@dataclass(frozen=True)
class _PredictionLimits:
    """Seconds to import the submission, and to load and use the detector."""

    setup: float
    budget: float


@dataclass(frozen=True)
class _Predicted:
    """Scores `[n]` and maybe logits `[n, labels]` in the order shown, and what they took.

    Attributes:
        loading_seconds: from the artefact's sending until it was a detector again.
        images, seconds: of each batch.
    """

    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    loading_seconds: float
    images: tuple[int, ...]
    seconds: tuple[float, ...]
    nondeterministic: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """What came of trying a submission out: the reason it failed, or its size."""

    reason: str
    size: Size | None = None
    deterministic: bool = False


class _Failure(Exception):
    def __init__(self, reason: str, detail: str = "", status: str = "failed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.status = status


class _Killed(_Failure):
    """The worker was sent SIGKILL, by someone else than the evaluator."""


class Evaluator:
    """Judges episodes on one backbone and device, with workers from a template process.

    Args:
        backbone: the backbone in this process, for the pass and for counting.
        template: loads the backbone of the same name for the workers, and starts them.
        device: `cpu` or `cuda`.
        untrained: whether the template is to leave the backbone's weights as they are initialised.
    """

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        device: str,
        untrained: bool,
    ) -> None:
        self._backbone = backbone.to(device)
        self._device = device
        self._threads = torch.get_num_threads()
        self._template = template
        self._confinement: tuple[str, ...] = ()
        template.load(backbone.name, untrained=untrained)

    @property
    def confinement(self) -> tuple[str, ...]:
        """What kept the last worker in its place, such as `landlock 7`."""
        return self._confinement

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
            return self._judge(submission, episode, timeout, cold=cold)
        except _Killed:
            # Not the evaluator's doing: the kernel's, where memory ran out, or a person's. Once more.
            pass
        except _Failure as failure:
            return _failed(episode, failure), scores_frame(episode, None)
        try:
            return self._judge(submission, episode, timeout, cold=cold)
        except _Failure as failure:
            return _failed(episode, failure), scores_frame(episode, None)

    def _judge(
        self, submission: Submission, episode: Episode, timeout: float, *, cold: bool
    ) -> tuple[EpisodeResult, pd.DataFrame]:
        warm = self._adapt(submission, episode, timeout, warm_up=True)
        unrehearsed = self._adapt(submission, episode, timeout, warm_up=False) if cold else None
        size = self._measure(warm.artefact, submission)
        pass_seconds = self._pass_seconds(episode)
        limits = _PredictionLimits(timeout, self._budget(episode, pass_seconds))
        predicted = self._predict_and_compare(submission, episode, warm, limits)
        found = detect(predicted.scores, episode.present)
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
                parameters_opaque=size.parameters_opaque,
                artefact_bytes=size.bytes,
                adaptation_seconds=warm.seconds + late,
                adaptation_seconds_cold=unrehearsed.seconds + late if unrehearsed else None,
                late_seconds=late,
                pass_seconds=pass_seconds,
                prediction_seconds=sum(predicted.seconds),
            ),
            readouts=readouts,
            nondeterministic=tuple(sorted({*warm.nondeterministic, *predicted.nondeterministic})),
        )
        return result, scores_frame(episode, predicted.scores)

    def try_out(self, submission: Submission, episode: Episode, timeout: float) -> Trial:
        """Adapt twice in fresh processes and predict once; nothing is timed or scored."""
        try:
            first = self._adapt(submission, episode, timeout, warm_up=False)
            second = self._adapt(submission, episode, timeout, warm_up=False)
            size = self._measure(first.artefact, submission)
            limits = _PredictionLimits(timeout, self._budget(episode, self._pass_seconds(episode)))
            self._predict_and_compare(submission, episode, first, limits)
        except _Failure as failure:
            return Trial(failure.reason + (f"\n{failure.detail}" if failure.detail else ""))
        return Trial("", size, deterministic=first.artefact == second.artefact)

    def _adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, warm_up: bool
    ) -> Delivered:
        sides = (episode.pos, episode.neg)
        job = {
            "warm_up": warm_up,
            "hyperparameters": submission.hyperparameters_for(self._backbone.name),
            "shapes": [side.shape for side in sides],
        }

        def adapt(worker: Worker) -> Delivered:
            with shared(sides) as images:
                self._start(worker, "adapt", episode, job, submission.files, timeout)
                deadline = time.monotonic() + timeout
                started = time.perf_counter()
                worker.channel.send(Message("go"), deadline)
                worker.channel.send_descriptor(images)
                answer = _answer(worker, "artefact", deadline, _ARTEFACT_LIMIT)
                seconds = time.perf_counter() - started
            missing = {"structure", "tensors"} - set(answer.arrays)
            if missing:
                raise ChannelGarbage("an artefact without " + " and ".join(sorted(missing)))
            parts = {name: array.tobytes() for name, array in answer.arrays.items()}
            artefact = canonical(Artefact(parts["structure"], parts["tensors"]))
            return Delivered(artefact, seconds, _nondeterministic(answer))

        return self._with_worker(adapt, "adapting", timeout)

    def _predict_and_compare(
        self,
        submission: Submission,
        episode: Episode,
        delivered: Delivered,
        limits: _PredictionLimits,
    ) -> _Predicted:
        """Scores in the episode's order, from one process; a second one must give the same for some.

        What the test images tell as a whole (how many are positive, say) is not a detector's to use.
        """
        # The order is secret: nothing the worker can see, the episode's seed least of all, tells it.
        secret = np.random.default_rng(int.from_bytes(os.urandom(16), "little"))
        order = secret.permutation(len(episode.present))
        found = self._predict(submission, episode, delivered, episode.batches(order), limits)
        shown = np.argsort(order)
        found = replace(
            found,
            scores=found.scores[shown],
            logits=None if found.logits is None else found.logits[shown],
        )
        some = prediction.choose_again(len(order), secret)
        again = self._predict(submission, episode, delivered, some, limits)
        first = found.scores[np.concatenate(some)]
        others = prediction.disagreeing(first, again.scores, float(found.scores.std()))
        if others:
            raise _Failure(
                f"{others} of {len(first)} scores were others when the same images came in other "
                "batches: a score may depend on its own image alone, not on its company or on chance"
            )
        return found

    def _predict(
        self,
        submission: Submission,
        episode: Episode,
        delivered: Delivered,
        batches_of: Iterable[NDArray[np.int64]],
        limits: _PredictionLimits,
    ) -> _Predicted:
        """Scores for batches of the episode's test images, in their order, by a fresh process."""
        arrays = {
            "structure": np.frombuffer(delivered.artefact.structure, np.uint8),
            "tensors": np.frombuffer(delivered.artefact.tensors, np.uint8),
        }
        labels = len(self._backbone.labels or ()) if episode.asks_for_logits else 0

        def predict(worker: Worker) -> _Predicted:
            self._start(worker, "predict", episode, {}, submission.program, limits.setup)
            started = time.perf_counter()
            deadline = time.monotonic() + limits.budget
            worker.channel.send(Message("artefact", arrays=arrays), deadline)
            answer = _answer(worker, "loaded", deadline, 0)
            loading = time.perf_counter() - started
            scores, logits, sizes = [], [], []
            durations: list[float] = []
            for batch in batches_of:
                images = episode.make(batch)
                started = time.perf_counter()
                deadline = time.monotonic() + limits.budget - loading - sum(durations)
                request = Message("images", {"logits": labels > 0}, {"images": images})
                worker.channel.send(request, deadline)
                answer = _answer(worker, "scores", deadline, 4 * len(images) * (1 + labels))
                durations.append(time.perf_counter() - started)
                sizes.append(len(images))
                shapes = {"scores": (len(images),), "logits": (len(images), labels)}
                scores.append(_checked(answer, shapes, "scores"))
                if "logits" in answer.arrays:
                    logits.append(_checked(answer, shapes, "logits"))
            return _Predicted(
                np.concatenate(scores),
                np.concatenate(logits) if len(logits) == len(scores) else None,
                loading,
                tuple(sizes),
                tuple(durations),
                _nondeterministic(answer),
            )

        return self._with_worker(predict, "predicting", limits.budget)

    def _start(
        self,
        worker: Worker,
        kind: str,
        episode: Episode,
        job: dict[str, Any],
        files: Mapping[str, bytes],
        timeout: float,
    ) -> None:
        """Hand the worker its job and the submission's files, and wait until it is ready."""
        deadline = time.monotonic() + timeout + _SETUP_SECONDS
        said = _answer(worker, "started", deadline, 0).fields.get("confinement")
        self._confinement = tuple(map(str, said)) if isinstance(said, list) else ()
        fields = {
            "device": self._device,
            "threads": self._threads,
            "target": episode.label,
            "seed": episode.seed,
            **job,
        }
        source = {path: np.frombuffer(content, np.uint8) for path, content in files.items()}
        worker.channel.send(Message(kind, fields, source), deadline)
        _answer(worker, "ready", deadline, 0)

    def _with_worker(self, use: Callable[[Worker], Outcome], doing: str, timeout: float) -> Outcome:
        with self._template.worker() as worker:
            try:
                return use(worker)
            except InvalidArtefact as error:
                raise _Failure(f"the artefact is not valid: {error}") from None
            except ChannelTimeout:
                raise _Failure(f"timeout: not done {doing} after {timeout:g} s") from None
            except ChannelGarbage as garbage:
                raise _Failure(f"the worker sent {garbage} while {doing}") from None
            except ChannelClosed:
                status = self._template.exit_code(grace=1.0)
                kind = _Killed if status == -signal.SIGKILL else _Failure
                raise kind(f"the process {_ending(status)} while {doing}") from None

    def _measure(self, artefact: Artefact, submission: Submission) -> Size:
        return measure(artefact, self._backbone, submission.program)

    def _budget(self, episode: Episode, pass_seconds: float) -> float:
        images = len(episode.pos) + len(episode.neg)
        return prediction.budget_seconds(pass_seconds, images, len(episode.present))

    def _pass_seconds(self, episode: Episode) -> float:
        """Seconds of one no-grad forward over pos and neg, in float32 as PyTorch comes.

        The median of up to three where they are short, after a first batch that does not count.
        """
        images = [torch.from_numpy(side).to(self._device) for side in (episode.pos, episode.neg)]
        pieces = [side[rows] for side in images for rows in batches(side)]
        durations: list[float] = []
        self._template.settle()  # nothing else is at work
        with torch.no_grad():
            self._backbone(pieces[0][:1])
            while len(durations) < 3 and sum(durations) < _PASSES_SECONDS:
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


def _failed(episode: Episode, failure: _Failure) -> EpisodeResult:
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


def _nondeterministic(answer: Message) -> tuple[str, ...]:
    said = answer.fields.get("nondeterministic")
    return tuple(str(name)[:100] for name in said[:100]) if isinstance(said, list) else ()


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
