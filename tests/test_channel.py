"""The channel: messages arrive unchanged, and anything else is rejected in time."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from attnbench.wire.channel import (
    Channel,
    ChannelClosed,
    ChannelTimeout,
    Message,
    ProtocolError,
)


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.none()),
    npst.arrays(np.float32, npst.array_shapes(max_dims=4, min_side=0, max_side=4)),
)
def test_message_arrives_as_sent(
    fields: dict[str, object], array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(Message("kind", fields, {"images": array}))
        received = Channel(theirs).receive()
    assert (received.kind, received.fields) == ("kind", fields)
    np.testing.assert_array_equal(received.arrays["images"], array)


@given(st.binary(max_size=200))
def test_random_bytes_are_a_protocol_error_or_a_closed_channel(noise: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(noise)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises((ChannelClosed, ProtocolError)):
            Channel(theirs).receive()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_SIZES = st.lists(st.integers(-1, 3) | st.just(2**62) | st.floats(), max_size=70) | _JSON
_ARRAY = st.tuples(st.text(max_size=3), st.sampled_from(["uint8", "float32", "object"]), _SIZES)


@given(
    st.fixed_dictionaries(
        {"kind": st.just("k") | _JSON, "fields": st.just({}) | _JSON},
        optional={"arrays": st.lists(_ARRAY | _JSON, max_size=3) | _JSON},
    )
)
def test_any_json_header_is_a_message_or_a_protocol_error(header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(struct.pack("<I", len(text)) + text + bytes(100))
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ChannelClosed, ProtocolError):
            assert isinstance(Channel(theirs).receive(limit=100).kind, str)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b'{"kind": 1, "fields": {}, "arrays": []}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "object", [1]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "float32", [-1]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "float32", [1e9]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "uint8", [101]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "uint8", [Infinity]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "uint8", [0, 1180591620717411303424]]]}',
        b'{"kind": "k", "fields": {}, "arrays": [["a", "uint8", [' + b"0, " * 70 + b"0]]]}",
    ],
)
def test_invalid_header_is_a_protocol_error(header: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(struct.pack("<I", len(header)) + header)
        with pytest.raises(ProtocolError):
            Channel(theirs).receive(limit=100)


def test_receive_without_a_message_times_out_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChannelTimeout):
        Channel(ours).receive(time.monotonic() + 0.05)


def test_slow_bytes_do_not_extend_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        ours.sendall(struct.pack("<I", 1000))
        while not stop.wait(0.02):
            ours.sendall(b" ")

    sender = threading.Thread(target=drip)
    with ours, theirs:
        sender.start()
        with pytest.raises(ChannelTimeout):
            Channel(theirs).receive(time.monotonic() + 0.2)
        stop.set()
        sender.join()


def test_send_to_a_reader_that_does_not_read_times_out_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChannelTimeout):
        large = np.zeros(1 << 24, np.uint8)
        Channel(ours).send(Message("k", arrays={"a": large}), time.monotonic() + 0.1)
