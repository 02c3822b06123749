"""Receiving and checking the replies of a worker, which may contain anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.judge.failures import EpisodeFailure, valid_unicode
from attnbench.judge.template import Worker
from attnbench.vocabulary import Status
from attnbench.wire.channel import Message, ProtocolError

# How many of a worker's remarks are kept.
_MAX_REMARKS = 20


@dataclass(frozen=True)
class Remarks:
    """What a worker remarks about a submission that works, for `attnbench check`.

    Attributes:
        problems: what is against the contract, one line each.
        warnings: what works, but is slow or probably not meant.
        scored: whether the detector scored images in the process that adapted.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scored: bool = False


def expect(worker: Worker, kind: str, deadline: float, limit: int) -> Message:
    """Receive the worker's next message, which must be of this kind.

    Args:
        worker: the worker.
        kind: the kind of message that the protocol requires now.
        deadline: when to give up, on the scale of `time.monotonic()`.
        limit: the most bytes that the message's arrays may have together.

    Raises:
        EpisodeFailure: if the worker reports a failure.
        ProtocolError: for a message of another kind.
        ChannelClosed, ChannelTimeout: see `Worker.receive`.
    """
    reply = worker.receive(deadline, limit)
    if reply.kind in ("failed", "not applicable"):
        names = ("reason", "detail", "traceback")
        reason, detail, traceback = (str(reply.fields.get(name, "")) for name in names)
        status: Status = "failed" if reply.kind == "failed" else "not applicable"
        raise EpisodeFailure(reason or "no reason given", detail, traceback, status=status)
    if reply.kind != kind:
        raise ProtocolError(f"{reply.kind[:40]!r} where {kind!r} was expected")
    return reply


def text_field(fields: Mapping[str, object], name: str) -> str:
    """Return a field of a reply as a short text; empty if it is missing.

    Args:
        fields: the fields of the reply.
        name: the name of the field.
    """
    return valid_unicode(str(fields.get(name, ""))[:200])


def remarks_in(fields: Mapping[str, object]) -> Remarks:
    """Return the remarks in a reply.

    Args:
        fields: the fields of the reply.
    """
    problems, warnings = (
        tuple(valid_unicode(str(line)[:1000]) for line in lines[:_MAX_REMARKS])
        if isinstance(lines := fields.get(name), list)
        else ()
        for name in ("problems", "warnings")
    )
    return Remarks(problems, warnings, scored=fields.get("scored") is True)


def checked_outputs(
    reply: Message, name: str, shape: tuple[int, ...], place: str
) -> NDArray[np.float32]:
    """Return an array of a reply, after checking its dtype, shape and values.

    Args:
        reply: the worker's message.
        name: the name of the array.
        shape: the shape that it must have.
        place: where the submission defines the detector, to begin a reason with.

    Returns:
        float32 of this shape, with finite values.

    Raises:
        ProtocolError: for another dtype or shape.
        EpisodeFailure: if some values are NaN or infinite.
    """
    values = reply.arrays.get(name)
    if values is None or values.dtype != np.float32 or values.shape != shape:
        raise ProtocolError(f"{name} of the wrong shape or type")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise EpisodeFailure(
            f"{place}{bad} of {values.size} {name} are NaN or infinite; {name} must be finite: keep "
            "logarithms, roots and divisions away from 0, for example with `.clamp(min=1e-6)`, or "
            "lower the learning rate"
        )
    return values


def names_in(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Return a field of a reply that is a list of short names, at most 100 of them.

    Args:
        fields: the fields of the reply.
        name: the name of the field; it may be missing.
    """
    names = fields.get(name)
    if not isinstance(names, list):
        return ()
    return tuple(valid_unicode(str(each)[:100]) for each in names[:100])
