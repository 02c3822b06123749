"""The channel: what is sent arrives; anything else is refused by name, in time, without harm."""

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
    ChannelGarbage,
    ChannelTimeout,
    Message,
)


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.none()),
    npst.arrays(np.float32, npst.array_shapes(max_dims=4, min_side=0, max_side=4)),
)
def test_a_message_arrives_as_it_was_sent(
    fields: dict[str, object], array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(Message("kind", fields, {"images": array}))
        got = Channel(theirs).receive()
    assert (got.kind, got.fields) == ("kind", fields)
    np.testing.assert_array_equal(got.arrays["images"], array)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_never_crash_the_reader(noise: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(noise)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises((ChannelClosed, ChannelGarbage)):
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
def test_any_json_is_a_message_or_garbage(header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(struct.pack("<I", len(text)) + text + bytes(100))
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ChannelClosed, ChannelGarbage):
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
def test_a_header_outside_the_rules_is_garbage(header: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(struct.pack("<I", len(header)) + header)
        with pytest.raises(ChannelGarbage):
            Channel(theirs).receive(limit=100)


def test_silence_ends_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChannelTimeout):
        Channel(ours).receive(time.monotonic() + 0.05)


def test_a_drip_of_bytes_does_not_prolong_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        ours.sendall(struct.pack("<I", 1000))
        while not stop.wait(0.02):
            ours.sendall(b" ")

    dripping = threading.Thread(target=drip)
    with ours, theirs:
        dripping.start()
        with pytest.raises(ChannelTimeout):
            Channel(theirs).receive(time.monotonic() + 0.2)
        stop.set()
        dripping.join()


def test_a_reader_that_does_not_read_stops_the_writer_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChannelTimeout):
        big = np.zeros(1 << 24, np.uint8)
        Channel(ours).send(Message("k", arrays={"a": big}), time.monotonic() + 0.1)
