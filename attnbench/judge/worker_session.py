"""Requests to workers, to adapt or to predict, and the clock that times adaptations."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.judge.background_load import BackgroundLoad
from attnbench.judge.failures import EpisodeFailure, WorkerKilled, describe_exit
from attnbench.judge.memory import PeakMemory
from attnbench.judge.parameter_count import InvalidArtefact, canonical
from attnbench.judge.prediction_checks import PREDICTION_LIMIT
from attnbench.judge.prediction_session import Prediction, PredictionSession
from attnbench.judge.replies import Remarks, expect, names_in, remarks_in
from attnbench.judge.template import Template, Worker
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission
from attnbench.wire.artefact import Artefact
from attnbench.wire.channel import ChannelClosed, ChannelTimeout, Message, ProtocolError
from attnbench.wire.shared_images import buffers, published

# The largest artefact allowed: this many times the size of the backbone, plus this many bytes.
_ARTEFACT_FACTOR, _ARTEFACT_BYTES = 4, 512 << 20
# Seconds for a worker to copy images and import the submission, on top of its rehearsal's timeout.
_SETUP_SECONDS = 4.0
# The most bytes of memory that a worker may claim to use.
_MAX_MEMORY = 10**12


@dataclass(frozen=True)
class Adaptation:
    """A timed adaptation.

    Attributes:
        artefact: the delivered detector.
        seconds: the time from "go" until the artefact was complete.
        pass_seconds: the duration of a forward pass over as many images, timed before the
            adaptation; None without a rehearsal.
        nondeterministic: operations used that have no deterministic form on the device.
        precision: the precisions that the rehearsal computed in; none without a rehearsal.
        remarks: what the worker remarks about them, if that was requested.
        printed: what the submission printed, without the rehearsal's output.
        peak_memory_bytes: memory beyond that of the loaded backbone, at most. On the CPU, what the
            kernel counts as resident while the pass, the rehearsal and the adaptation run. On a GPU,
            what the worker's allocator says; a submission could change that. None if unknown.
        contended: whether other work used the CPU while the pass, the rehearsal and the adaptation
            ran.
    """

    artefact: Artefact
    seconds: float
    pass_seconds: float | None
    nondeterministic: tuple[str, ...]
    precision: tuple[str, ...]
    remarks: Remarks
    printed: str
    peak_memory_bytes: int | None
    contended: bool = False


class WorkerSession:
    """Sends each request to a new worker, and times the adaptations.

    Args:
        template: forks the workers. It has to load the backbone before the first request.
        backbone: the backbone's name.
        labels: the number of its labels; 0 if it has none.
        size: the size of its tensors in bytes.
        device: `cpu` or `cuda`.

    Attributes:
        confinement: what confined the last worker, such as `landlock 7`.
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
        self,
        submission: Submission,
        episode: Episode,
        timeout: float,
        *,
        rehearse: bool,
        remark: bool = False,
        onto: Artefact | None = None,
    ) -> Adaptation:
        """Have a worker run the submission's `adapt`, and time it.

        Args:
            submission: the submission.
            episode: the images to adapt on.
            timeout: seconds for the adaptation.
            rehearse: whether to time a forward pass first, and have the submission adapt to noise
                images.
            remark: whether to have the worker look at the detector afterwards, for
                `attnbench check`.
            onto: the detector of another target, whose network is adapted in place of the backbone.

        Raises:
            EpisodeFailure: if it does not deliver a valid artefact in time.
        """
        self._warm_up(counts=[len(episode.pos), len(episode.neg)])
        self._template.settle()  # no earlier worker may still be running
        load = BackgroundLoad(self._threads)
        with self._worker("adapting", timeout) as worker:
            adaptation = self._adapt(worker, submission, episode, timeout, rehearse, remark, onto)
            return replace(adaptation, contended=load.is_contended())

    def _adapt(
        self,
        worker: Worker,
        submission: Submission,
        episode: Episode,
        timeout: float,
        rehearse: bool,
        remark: bool,
        onto: Artefact | None,
    ) -> Adaptation:
        images = (episode.pos, episode.neg)
        request = {
            "rehearse": rehearse,
            "remark": remark,
            "hyperparameters": submission.hyperparameters_for(self._backbone),
            "shapes": [array.shape for array in images],
        }
        # The worker gets its reachable state from the source.
        earlier = {} if onto is None else replace(onto, reachable_state=b"").arrays
        memory = PeakMemory(worker.process)
        ready_deadline = self._start(worker, "adapt", episode, request, submission.files, timeout)
        pass_seconds = None
        if rehearse:
            pass_seconds = float(expect(worker, "pass", ready_deadline, 0).fields["seconds"])
        with published(images) as descriptor:  # copied while the worker rehearses
            expect(worker, "ready", ready_deadline, 0)
            deadline = time.monotonic() + timeout
            # The clock runs from "go" until the whole artefact has arrived.
            started = time.perf_counter()
            worker.channel.send(Message("go", {}, earlier), deadline)
            worker.channel.send_descriptor(descriptor)
            reply = expect(worker, "artefact", deadline, self._artefact_limit)
            seconds = time.perf_counter() - started
        on_device = reply.fields.get("device_memory_bytes")
        peak = memory.growth() if self._device == "cpu" else _count(on_device)
        remarks = Remarks()
        if remark:
            remarks = remarks_in(expect(worker, "remarks", deadline, 0).fields)
        try:
            artefact = canonical(Artefact.of_arrays(reply.arrays))
        except KeyError as missing:
            raise ProtocolError(f"an artefact without {missing}") from None
        return Adaptation(
            artefact,
            seconds,
            pass_seconds,
            names_in(reply.fields, "nondeterministic"),
            names_in(reply.fields, "precision"),
            remarks,
            worker.printed(),
            peak,
        )

    def predict(
        self,
        submission: Submission,
        tests: Sequence[tuple[Episode, Sequence[NDArray[np.int64]]]],
        artefact: Artefact,
        *,
        timeout: float,
        budget: float,
        observe: bool = False,
    ) -> list[Prediction]:
        """Have a process that has not adapted score the test images of one or more episodes.

        Args:
            submission: the submission, whose Python files the detector needs.
            tests: episodes that share an adaptation, each with the indices of the test images in each
                batch, int64 `[n]`.
            artefact: the detector.
            timeout: seconds to import the submission.
            budget: seconds to load the detector and to predict for all episodes.
            observe: whether to observe the precision it computes in, which takes time.

        Returns:
            A prediction for each episode.

        Raises:
            EpisodeFailure: if the detector does not deliver valid scores in time.
        """
        sizes = {len(batch) for _, batches in tests for batch in batches}
        self._warm_up(batches=sorted(sizes))
        first, _ = tests[0]
        # Two buffers in turn: the worker scores one batch while the next is written.
        shapes = [(max(sizes), *first.pos.shape[1:])] * 2
        with self._worker("predicting", budget) as worker:
            request = {"shapes": shapes, "observe": observe}
            ready_deadline = self._start(
                worker, "predict", first, request, submission.program, timeout
            )
            with buffers(shapes) as (descriptor, image_buffers):
                worker.channel.send_descriptor(descriptor)
                expect(worker, "ready", ready_deadline, 0)
                session = PredictionSession(worker, image_buffers, budget=budget)
                # This worker gets its reachable state from the source.
                load = BackgroundLoad(self._threads)
                session.load(replace(artefact, reachable_state=b""))
                predictions = [
                    session.run(
                        episode, batches, labels=self._labels if episode.asks_for_logits else 0
                    )
                    for episode, batches in tests
                ]
                contended = load.is_contended()
                return [replace(each, contended=contended) for each in predictions]

    def _warm_up(self, *, counts: Sequence[int] = (), batches: Sequence[int] = ()) -> None:
        if self._device == "cpu":
            self._template.warm_up(counts=counts, batches=batches, threads=self._threads)

    def _start(
        self,
        worker: Worker,
        kind: str,
        episode: Episode,
        request: dict[str, Any],
        files: Mapping[str, bytes],
        timeout: float,
    ) -> float:
        """Send the worker its request and the submission's files. Return the deadline for "ready"."""
        deadline = time.monotonic() + timeout + _SETUP_SECONDS
        confinement = expect(worker, "started", deadline, 0).fields.get("confinement")
        self.confinement = tuple(map(str, confinement)) if isinstance(confinement, list) else ()
        fields = {
            "device": self._device,
            "threads": self._threads,
            "target": episode.label,
            "seed": episode.seed,
            **request,
        }
        source = {path: np.frombuffer(content, np.uint8) for path, content in files.items()}
        worker.channel.send(Message(kind, fields, source), deadline)
        return deadline

    @contextlib.contextmanager
    def _worker(self, activity: str, timeout: float) -> Iterator[Worker]:
        """Fork a worker, and turn whatever goes wrong on its side into an EpisodeFailure.

        Args:
            activity: what the worker does, for the reason of a failure.
            timeout: the seconds that the worker has, for the reason of a failure.
        """
        with self._template.worker() as worker:
            try:
                with self._failures_of_episode(activity, timeout):
                    yield worker
            except EpisodeFailure as failure:
                failure.printed = worker.printed()
                raise

    @contextlib.contextmanager
    def _failures_of_episode(self, activity: str, timeout: float) -> Iterator[None]:
        try:
            yield
        except InvalidArtefact as error:
            raise EpisodeFailure(f"the artefact is not valid: {error}") from None
        except ChannelTimeout:
            allowed = f"; {PREDICTION_LIMIT}" if activity == "predicting" else ""
            raise EpisodeFailure(
                f"timeout: not done {activity} after {timeout:g} s{allowed}"
            ) from None
        except ProtocolError as error:
            raise EpisodeFailure(f"the worker sent {error} while {activity}") from None
        except ChannelClosed:
            status = self._template.exit_code(grace=1.0)
            failure = WorkerKilled if status == -signal.SIGKILL else EpisodeFailure
            raise failure(f"the process {describe_exit(status)} while {activity}") from None


def _count(value: object) -> int | None:
    """Return a number of bytes that a worker sent, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_MEMORY else None
