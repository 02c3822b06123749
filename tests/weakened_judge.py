"""Functions that take one defence each out of the judge, with pytest's `MonkeyPatch`.

Those that take one out of the sandbox are in `weakened_sandbox`.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from attnbench.isolation import visible_paths
from attnbench.judge import (
    failures,
    parameter_count,
    prediction_checks,
    prediction_session,
    replies,
    template,
    worker_session,
)
from attnbench.judge.parameter_count import Contents
from attnbench.judge.predictions import predict_all
from attnbench.judge.template import Template
from attnbench.judge.worker_session import WorkerSession
from attnbench.submission import Submission
from attnbench.wire import channel
from attnbench.wire.channel import Channel, Message, ProtocolError
from tests.defence import Weaken


def pass_on_the_environment(patch: pytest.MonkeyPatch) -> None:
    """Give workers all environment variables of the judge."""
    patch.setattr(template, "_PASSED_ON", tuple(os.environ))


def hide_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let workers read all that lies among programs and libraries."""
    patch.setattr(visible_paths, "hidden_folders", lambda also: [])


def let_errors_through(patch: pytest.MonkeyPatch) -> None:
    """Do not turn what a worker does wrong into a failure of the episode."""

    @contextlib.contextmanager
    def worker(session: WorkerSession, activity: str, timeout: float) -> Iterator[Any]:
        with session._template.worker() as worker:
            yield worker

    patch.setattr(WorkerSession, "_worker", worker)


def ignore_exit_codes(patch: pytest.MonkeyPatch) -> None:
    """End a worker whose channel has closed without asking for its exit code."""
    exit_code = Template.exit_code

    def no_exit_code(self: Template, grace: float) -> None:
        exit_code(self, grace)

    patch.setattr(Template, "exit_code", no_exit_code)


def keep_invalid_unicode(patch: pytest.MonkeyPatch) -> None:
    """Keep lone surrogates in what a worker writes."""
    for module in (failures, replies):
        patch.setattr(module, "valid_unicode", lambda text: text)


def no_header_limit(patch: pytest.MonkeyPatch) -> None:
    """Accept headers of any size."""
    patch.setattr(channel, "HEADER_LIMIT", 1 << 40)


def no_array_limit(patch: pytest.MonkeyPatch) -> None:
    """Accept arrays of any size."""
    receive = Channel.receive
    patch.setattr(
        Channel, "receive", lambda self, deadline=math.inf, limit=0: receive(self, deadline)
    )


def allow_any_shape_and_dtype(patch: pytest.MonkeyPatch) -> None:
    """Take scores of any shape and dtype."""
    patch.setattr(prediction_session, "checked_outputs", lambda reply, name, *_: reply.arrays[name])


def allow_any_names(patch: pytest.MonkeyPatch) -> None:
    """Take any number of names of any length."""
    for module in (prediction_session, worker_session):
        patch.setattr(module, "names_in", lambda fields, name: tuple(fields.get(name) or ()))


def allow_infinite_scores(patch: pytest.MonkeyPatch) -> None:
    """Take scores that are NaN or infinite."""

    def checked_shape(reply: Message, name: str, shape: tuple[int, ...], place: str) -> Any:
        values = reply.arrays[name]
        if values.shape != shape or values.dtype != np.float32:
            raise ProtocolError(f"{name} of the wrong shape or type")
        return values

    patch.setattr(prediction_session, "checked_outputs", checked_shape)


def unpickle(patch: pytest.MonkeyPatch) -> None:
    """Unpickle an artefact's structure to count its parameters."""
    count = parameter_count.contents_of_pickles

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, key: object) -> None:
            return None

        def find_class(self, module: str, name: str) -> Any:
            try:
                return super().find_class(module, name)
            except ImportError:  # the submission's own classes
                return type(name, (), {})

    def unpickle_and_count(pickled: bytes) -> list[Contents]:
        if pickled:
            Unpickler(BytesIO(pickled)).load()
        return count(pickled)

    patch.setattr(parameter_count, "contents_of_pickles", unpickle_and_count)


def send_labels(patch: pytest.MonkeyPatch) -> None:
    """Send the labels of the test images along with the request."""
    start = WorkerSession._start

    def start_with_labels(
        self: WorkerSession, worker: Any, kind: str, episode: Any, request: Any, *rest: Any
    ) -> float:
        request = {**request, "present": episode.present.tolist()}
        return start(self, worker, kind, episode, request, *rest)

    patch.setattr(WorkerSession, "_start", start_with_labels)


def send_images_with_the_request(patch: pytest.MonkeyPatch) -> None:
    """Send the images to adapt on before the clock starts."""
    start = WorkerSession._start

    def start_with_images(
        self: WorkerSession, worker: Any, kind: str, episode: Any, *rest: Any
    ) -> float:
        images = {"pos": episode.pos, "neg": episode.neg}

        def message(kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> Message:
            return Message(kind, fields, {**arrays, **images})

        with patch.context() as during_start:
            during_start.setattr(worker_session, "Message", message)
            return start(self, worker, kind, episode, *rest)

    patch.setattr(WorkerSession, "_start", start_with_images)


def trust_the_time_of_the_worker(patch: pytest.MonkeyPatch) -> None:
    """Take the adaptation's time from the worker's message."""
    adapt, expect = WorkerSession._adapt, replies.expect
    received: list[Message] = []

    def remember(*arguments: Any) -> Message:
        received.append(expect(*arguments))
        return received[-1]

    def adapt_by_the_clock_of_the_worker(self: WorkerSession, *arguments: Any) -> Any:
        adaptation = adapt(self, *arguments)
        return replace(adaptation, seconds=max(0.0, received[-1].fields["seconds"]))

    patch.setattr(worker_session, "expect", remember)
    patch.setattr(WorkerSession, "_adapt", adapt_by_the_clock_of_the_worker)


def no_charge_for_outliers(patch: pytest.MonkeyPatch) -> None:
    """Do not charge for batches that take far longer than others."""
    patch.setattr(prediction_checks, "deferred_seconds", lambda images, seconds: 0.0)


def no_charge_for_loading(patch: pytest.MonkeyPatch) -> None:
    """Do not charge for loading the detector."""

    def predict_without_loading(*arguments: Any, **options: Any) -> Any:
        found = predict_all(*arguments, **options)
        return [replace(prediction, loading_seconds=0.0) for prediction in found]

    patch.setattr("attnbench.judge.evaluator.predict_all", predict_without_loading)


def no_prediction_budget(patch: pytest.MonkeyPatch) -> None:
    """Let predictions take a quarter of an hour."""
    patch.setattr(prediction_checks, "budget_seconds", lambda *arguments: 900.0)


def no_second_scores(patch: pytest.MonkeyPatch) -> None:
    """Do not compare scores with those of the same images in other batches."""
    patch.setattr(prediction_checks, "count_different", lambda *arguments: 0)


def send_all_files_for_prediction(patch: pytest.MonkeyPatch) -> None:
    """Give the process that predicts all files of the submission, not only its program."""
    patch.setattr(Submission, "program", property(lambda submission: submission.files))


def count_no_tensors(patch: pytest.MonkeyPatch) -> None:
    """Count no numbers in tensors."""
    patch.setattr(parameter_count, "_scalars", lambda tensor: 0)


def count_elements(patch: pytest.MonkeyPatch) -> None:
    """Count each element of a tensor once, whatever its size."""
    patch.setattr(parameter_count, "_scalars", lambda tensor: tensor.numel())


def count_no_contents(patch: pytest.MonkeyPatch) -> None:
    """Count nothing that stands in the pickle or in the source."""
    patch.setattr(Contents, "excess_over", lambda contents, allowance: 0)


def count_all_contents_but(kind: str) -> Weaken:
    """Count all contents of the pickle and of the source except those of one kind."""
    assert kind in {field.name for field in fields(Contents)}
    excess_over = Contents.excess_over

    def weaken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            Contents,
            "excess_over",
            lambda contents, allowance: excess_over(replace(contents, **{kind: 0}), allowance),
        )

    return weaken


def parse_no_pickles(patch: pytest.MonkeyPatch) -> None:
    """Take the artefact's structure for a pickle without looking."""
    patch.setattr(parameter_count, "contents_of_pickles", lambda pickled: [Contents()])


def allow_any_tensor_name(patch: pytest.MonkeyPatch) -> None:
    """Accept tensors of any name."""
    patch.setattr(parameter_count, "_TENSOR_NAME", re.compile(".*"))


def keep_the_tensor_file(patch: pytest.MonkeyPatch) -> None:
    """Pass on the file of tensors as the worker sent it."""
    patch.setattr(worker_session, "canonical", lambda artefact: artefact)
