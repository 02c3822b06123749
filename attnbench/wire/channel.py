"""The only channel between judge and worker: bounded JSON and plain arrays, never pickles."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# No honest header comes near this. Without a limit, a worker could make the judge allocate 4 GiB.
HEADER_LIMIT = 1 << 20
_PREFIX = struct.Struct("<I")
# The only dtypes that may arrive, with a fixed byte order. Object arrays would have to be unpickled.
_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "uint8": np.dtype("u1")}

Array = NDArray[Any]


class ChannelClosed(Exception):
    """The other side has ended or closed its end."""


class ChannelTimeout(Exception):
    """The other side did not answer, or did not read, before the deadline."""


class ProtocolError(Exception):
    """The bytes received are not a message: malformed, too large, or of a kind not allowed."""


@dataclass(frozen=True)
class Message:
    """A message between judge and worker.

    Attributes:
        kind: says what the message is, such as `artefact`.
        fields: values that JSON can represent, by name.
        arrays: float32 or uint8 arrays by name.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


class Channel:
    """Messages over a stream socket. Deadlines are on the scale of `time.monotonic()`.

    Args:
        stream: the connected socket.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream

    def fileno(self) -> int:
        """Return the socket's file descriptor, for `select`."""
        return self._stream.fileno()

    def close(self) -> None:
        """Close this end; the other end then raises ChannelClosed."""
        self._stream.close()

    def send(self, message: Message, deadline: float = math.inf) -> None:
        """Send a message.

        Args:
            message: its arrays must be float32 or uint8.
            deadline: when to give up.

        Raises:
            ChannelClosed: if the other side has gone.
            ChannelTimeout: if the other side has not read it all by the deadline.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
        header = json.dumps(
            {
                "kind": message.kind,
                "fields": dict(message.fields),
                "arrays": [[n, a.dtype.name, list(a.shape)] for n, a in arrays.items()],
            }
        ).encode()
        self._send_bytes(_PREFIX.pack(len(header)) + header, deadline)
        for array in arrays.values():
            self._send_bytes(array.reshape(-1).view(np.uint8).data, deadline)

    def send_descriptor(self, descriptor: int) -> None:
        """Send the other side a file descriptor for the same open file. Raises ChannelClosed."""
        try:
            socket.send_fds(self._stream, [b"d"], [descriptor])
        except OSError:
            raise ChannelClosed from None

    def receive_descriptor(self) -> int:
        """Receive a file descriptor from the other side. Raises ChannelClosed or ProtocolError."""
        try:
            _, descriptors, _, _ = socket.recv_fds(self._stream, 1, 1)
        except OSError:
            raise ChannelClosed from None
        if not descriptors:
            raise ProtocolError("no file descriptor where one was expected")
        return descriptors[0]

    def receive(self, deadline: float = math.inf, limit: int = 1 << 40) -> Message:
        """Receive the next message.

        Args:
            deadline: when to give up.
            limit: the most bytes that its arrays may have together. It is checked before any
                memory is allocated for them.

        Raises:
            ChannelClosed: if the other side has gone.
            ChannelTimeout: if the message is not complete by the deadline.
            ProtocolError: for anything that is not a message.
        """
        # Every size is checked before anything of that size is allocated: the sender is not trusted.
        (length,) = _PREFIX.unpack(self._receive_bytes(_PREFIX.size, deadline))
        if length > HEADER_LIMIT:
            raise ProtocolError(f"a header of {length} bytes")
        kind, fields, described = _read_header(bytes(self._receive_bytes(length, deadline)))
        sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in described]
        if sum(sizes) > limit:
            raise ProtocolError(f"arrays of {sum(sizes)} bytes where at most {limit} are expected")
        arrays = {}
        for (name, dtype, shape), size in zip(described, sizes, strict=True):
            content = np.frombuffer(self._receive_bytes(size, deadline), dtype)
            try:
                arrays[name] = content.reshape(shape)
            except ValueError:  # too many dimensions, or huge ones beside one of size 0
                raise ProtocolError("an array of an impossible shape") from None
        return Message(kind, fields, arrays)

    def _send_bytes(self, data: bytes | memoryview, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait_until(deadline)
            try:
                view = view[self._stream.send(view) :]
            except TimeoutError:
                raise ChannelTimeout from None
            except OSError:
                raise ChannelClosed from None

    def _receive_bytes(self, size: int, deadline: float) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            self._wait_until(deadline)
            try:
                count = self._stream.recv_into(view)
            except TimeoutError:
                raise ChannelTimeout from None
            except OSError:
                raise ChannelClosed from None
            if count == 0:
                raise ChannelClosed
            view = view[count:]
        return buffer

    def _wait_until(self, deadline: float) -> None:
        if deadline == math.inf:
            self._stream.settimeout(None)
            return
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ChannelTimeout
        self._stream.settimeout(remaining)


def _read_header(
    text: bytes,
) -> tuple[str, dict[str, Any], list[tuple[str, np.dtype[Any], tuple[int, ...]]]]:
    """Return kind, fields, and each array's name, dtype and shape. Raises ProtocolError."""
    try:
        header = json.loads(text)
        kind, fields = header["kind"], header["fields"]
        described = [
            (str(name), _DTYPES[dtype], tuple(int(n) for n in shape))
            for name, dtype, shape in header["arrays"]
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"a malformed header ({type(error).__name__})") from None
    if not isinstance(kind, str) or not isinstance(fields, dict):
        raise ProtocolError("a header without kind and fields")
    # A negative size would make the product of a shape pass the limit on bytes.
    if any(n < 0 for _, _, shape in described for n in shape):
        raise ProtocolError("an array of negative size")
    return kind, fields, described
