"""Adapting and predicting, each in a worker of its own, by the evaluator's clock."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.evaluation.artefact import Artefact
from attnbench.evaluation.channel import ChannelClosed, ChannelGarbage, ChannelTimeout, Message
from attnbench.evaluation.handover import places, shared
from attnbench.evaluation.inventory import InvalidArtefact, canonical
from attnbench.evaluation.warm import Template, Worker
from attnbench.stimuli.episodes import Episode
from attnbench.stimuli.preparing import Images
from attnbench.submission import Submission

# An artefact may be so many times as large as the backbone, and so many bytes larger.
_ARTEFACT_FACTOR, _ARTEFACT_BYTES = 4, 512 << 20
# What the worker has, beside the time for its rehearsal, to copy images and import the submission.
_SETUP_SECONDS = 4.0

Outcome = TypeVar("Outcome")


class Failure(Exception):
    """An episode cannot be judged, for this reason."""

    def __init__(self, reason: str, detail: str = "", status: str = "failed") -> None:
        super().__init__(reason)
        self.reason = _unicode(reason)
        self.detail = _unicode(detail)
        self.status = status


class Killed(Failure):
    """The worker was sent SIGKILL, by someone else than the evaluator."""


@dataclass(frozen=True)
class Delivered:
    """An artefact, and the seconds from "go" until it was complete.

    Attributes:
        pass_seconds: of one forward over as many images, timed before; None without a rehearsal.
        nondeterministic: operations used that have no deterministic form on the device.
    """

    artefact: Artefact
    seconds: float
    pass_seconds: float | None
    nondeterministic: tuple[str, ...]


@dataclass(frozen=True)
class Predicted:
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


class Jobs:
    """What workers from a template are asked to do on one backbone and device.

    Args:
        template: has loaded the backbone.
        backbone: its name.
        labels: how many outputs it has; `size`: its bytes.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self, template: Template, *, backbone: str, labels: int, size: int, device: str
    ) -> None:
        self._template = template
        self._backbone = backbone
        self._labels = labels
        self._artefact_limit = _ARTEFACT_FACTOR * size + _ARTEFACT_BYTES
        self._device = device
        self._threads = torch.get_num_threads()
        self.confinement: tuple[str, ...] = ()

    def adapt(
        self, submission: Submission, episode: Episode, timeout: float, *, warm_up: bool
    ) -> Delivered:
        """Have the submission adapt, behind a pass and a rehearsal on made-up images or without.

        Raises Failure.
        """
        sides = (episode.pos, episode.neg)
        job = {
            "warm_up": warm_up,
            "hyperparameters": submission.hyperparameters_for(self._backbone),
            "shapes": [side.shape for side in sides],
        }

        def adapt(worker: Worker) -> Delivered:
            ready = self._start(worker, "adapt", episode, job, submission.files, timeout)
            pass_seconds = None
            if warm_up:
                pass_seconds = float(_answer(worker, "pass", ready, 0).fields["seconds"])
            with shared(sides) as images:  # copied while the worker rehearses
                _answer(worker, "ready", ready, 0)
                deadline = time.monotonic() + timeout
                started = time.perf_counter()
                worker.channel.send(Message("go"), deadline)
                worker.channel.send_descriptor(images)
                answer = _answer(worker, "artefact", deadline, self._artefact_limit)
                seconds = time.perf_counter() - started
            try:
                artefact = canonical(Artefact.of_arrays(answer.arrays))
            except KeyError as missing:
                raise ChannelGarbage(f"an artefact without {missing}") from None
            return Delivered(artefact, seconds, pass_seconds, _nondeterministic(answer))

        self._warm_up(sides=[len(side) for side in sides])
        self._template.settle()  # nothing else is at work
        return self._with_worker(adapt, "adapting", timeout)

    def predict(
        self,
        submission: Submission,
        episode: Episode,
        artefact: Artefact,
        batches: Sequence[NDArray[np.int64]],
        *,
        timeout: float,
        budget: float,
    ) -> Predicted:
        """Scores for batches of the episode's test images, by a process that has not adapted.

        Args:
            submission: whose program the detector needs.
            episode: where the images come from.
            artefact: the detector.
            batches: indices of test images.
            timeout: seconds to import the program.
            budget: seconds to load the detector and to predict.

        Raises:
            Failure: where it does not, or not in time.
        """
        packed = replace(artefact, held=b"").arrays
        labels = self._labels if episode.asks_for_logits else 0
        # Two, in turn: the worker has always images to look at, and the next are made beside them.
        shapes = [(max(map(len, batches)), *episode.pos.shape[1:])] * 2

        def predict(worker: Worker) -> Predicted:
            job = {"shapes": shapes}
            ready = self._start(worker, "predict", episode, job, submission.program, timeout)
            with places(shapes) as (descriptor, trays):
                worker.channel.send_descriptor(descriptor)
                _answer(worker, "ready", ready, 0)
                return show(worker, trays)

        def show(worker: Worker, trays: Sequence[Images]) -> Predicted:
            started = time.perf_counter()
            deadline = time.monotonic() + budget
            worker.channel.send(Message("artefact", arrays=packed), deadline)
            answer = _answer(worker, "loaded", deadline, 0)
            loading = ended = time.perf_counter() - started
            scores, logits = [], []
            durations: list[float] = []

            def ask(turn: int) -> float:
                place, count = turn % 2, len(batches[turn])
                episode.make(batches[turn], trays[place][:count])
                where = {"place": place, "count": count, "logits": labels > 0}
                worker.channel.send(Message("images", where), time.monotonic() + budget)
                return time.perf_counter() - started

            with ThreadPoolExecutor(1) as asker:
                asked = [asker.submit(ask, turn) for turn in range(len(batches[:2]))]
                for turn, batch in enumerate(batches):
                    began = max(asked[turn].result(), ended)
                    deadline = time.monotonic() + budget - loading - sum(durations)
                    answer = _answer(worker, "scores", deadline, 4 * len(batch) * (1 + labels))
                    ended = time.perf_counter() - started
                    durations.append(ended - began)
                    if turn + 2 < len(batches):
                        asked.append(asker.submit(ask, turn + 2))
                    expected = {"scores": (len(batch),), "logits": (len(batch), labels)}
                    scores.append(_checked(answer, expected, "scores"))
                    if "logits" in answer.arrays:
                        logits.append(_checked(answer, expected, "logits"))
            return Predicted(
                np.concatenate(scores),
                np.concatenate(logits) if len(logits) == len(scores) else None,
                loading,
                tuple(map(len, batches)),
                tuple(durations),
                _nondeterministic(answer),
            )

        self._warm_up(batches=sorted({len(batch) for batch in batches}))
        return self._with_worker(predict, "predicting", budget)

    def _warm_up(self, *, sides: Sequence[int] = (), batches: Sequence[int] = ()) -> None:
        if self._device == "cpu":
            self._template.warm_up(sides=sides, batches=batches, threads=self._threads)

    def _start(
        self,
        worker: Worker,
        kind: str,
        episode: Episode,
        job: dict[str, Any],
        files: Mapping[str, bytes],
        timeout: float,
    ) -> float:
        """Hand the worker its job and the submission's files; until when it has to be ready."""
        deadline = time.monotonic() + timeout + _SETUP_SECONDS
        said = _answer(worker, "started", deadline, 0).fields.get("confinement")
        self.confinement = tuple(map(str, said)) if isinstance(said, list) else ()
        fields = {
            "device": self._device,
            "threads": self._threads,
            "target": episode.label,
            "seed": episode.seed,
            **job,
        }
        source = {path: np.frombuffer(content, np.uint8) for path, content in files.items()}
        worker.channel.send(Message(kind, fields, source), deadline)
        return deadline

    def _with_worker(self, use: Callable[[Worker], Outcome], doing: str, timeout: float) -> Outcome:
        with self._template.worker() as worker:
            try:
                return use(worker)
            except InvalidArtefact as error:
                raise Failure(f"the artefact is not valid: {error}") from None
            except ChannelTimeout:
                raise Failure(f"timeout: not done {doing} after {timeout:g} s") from None
            except ChannelGarbage as garbage:
                raise Failure(f"the worker sent {garbage} while {doing}") from None
            except ChannelClosed:
                status = self._template.exit_code(grace=1.0)
                kind = Killed if status == -signal.SIGKILL else Failure
                raise kind(f"the process {_ending(status)} while {doing}") from None


def _nondeterministic(answer: Message) -> tuple[str, ...]:
    said = answer.fields.get("nondeterministic")
    return tuple(_unicode(str(name)[:100]) for name in said[:100]) if isinstance(said, list) else ()


def _answer(worker: Worker, kind: str, deadline: float, limit: int) -> Message:
    answer = worker.receive(deadline, limit)
    if answer.kind in ("failed", "not applicable"):
        reason = str(answer.fields.get("reason", "")) or "no reason given"
        raise Failure(reason, str(answer.fields.get("detail", "")), answer.kind)
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
        raise Failure(f"{bad} of {values.size} {what} are NaN or infinite; {what} must be finite")
    return values


def _unicode(text: str) -> str:
    """A text as it can be stored: JSON can carry halves of characters, which UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _ending(status: int | None) -> str:
    if status is None:
        return "closed its channel"
    if status < 0:
        known = -status in list(signal.Signals)  # real-time signals have no names
        return "was ended by " + (signal.Signals(-status).name if known else f"signal {-status}")
    return f"ended by itself (exit code {status})"
