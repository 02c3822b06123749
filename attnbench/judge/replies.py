"""Receiving and checking the replies of a worker, which may contain anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attnbench.judge.failures import EpisodeFailure, valid_unicode
from attnbench.judge.template import Worker
from attnbench.vocabulary import Status
from attnbench.wire.channel import Message, ProtocolError


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


def checked_outputs(reply: Message, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array of a reply, after checking its dtype, shape and values.

    Args:
        reply: the worker's message.
        name: the name of the array.
        shape: the shape that it must have.

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
            f"{bad} of {values.size} {name} are NaN or infinite; {name} must be finite"
        )
    return values


def nondeterministic_operations(fields: Mapping[str, object]) -> tuple[str, ...]:
    """Return the nondeterministic operations that a reply names, at most 100.

    Args:
        fields: the fields of the reply.
    """
    names = fields.get("nondeterministic")
    if not isinstance(names, list):
        return ()
    return tuple(valid_unicode(str(name)[:100]) for name in names[:100])
