"""The protocol of the control socket: whole frames whatever the cuts, and no garbage that does more than an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.wire import control_protocol as protocol
from aioipc.wire.control_protocol import Answer, ControlProtocolError, Failure, FrameSplitter

NAMES = st.text(max_size=20)
REQUESTS = st.one_of(
    st.builds(protocol.Status, id=st.integers(0, 1 << 53)),
    st.builds(protocol.Scale, name=NAMES, replicas=st.integers(-5, 1000)),
    st.builds(
        protocol.SignalChild, name=NAMES, signal=NAMES | st.integers(0, 64), replica=st.none() | st.integers(0, 9)
    ),
    st.builds(protocol.Logs, lines=st.integers(0, 1000), follow=st.booleans()),
    st.builds(protocol.Shutdown, quick=st.booleans()),
)
FIELDS = ["command", "id", "version", "name", "replicas", "signal", "lines", "quick", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@given(st.lists(REQUESTS, max_size=6), st.data())
def test_frames_survive_any_cut(requests: list[Any], data: st.DataObject) -> None:
    stream = b"".join(protocol.encode_frame(each) for each in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = FrameSplitter(protocol.REQUEST_LIMIT)
    bodies = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        bodies += splitter.feed(stream[begin:end])
    assert [protocol.decode_request(body) for body in bodies] == requests
    assert splitter.pending == 0


def test_what_is_no_unicode() -> None:
    """As in file names: it must not keep anybody from being answered."""
    splitter = FrameSplitter(protocol.ANSWER_LIMIT)
    said = {"\udce9": ["caf\udce9", 1, None]}
    (body,) = splitter.feed(protocol.encode_frame(Answer(ok=True, result=said)))
    assert protocol.decode_answer(body).result == {"\\udce9": ["caf\\udce9", 1, None]}


@given(st.binary(max_size=200))
def test_garbage_is_an_error_at_most(data: bytes) -> None:
    splitter = FrameSplitter(64)
    try:
        bodies = splitter.feed(data)
    except ControlProtocolError:
        return
    assert splitter.pending < 4 + 64
    for body in bodies:
        for decode in (protocol.decode_request, protocol.decode_answer):
            try:
                decode(body)
            except ControlProtocolError:
                pass


@given(JSON)
def test_json_that_is_no_request(value: Any) -> None:
    body = json.dumps(value).encode()
    assert protocol.envelope_of(body).id >= -(1 << 63)
    try:
        request = protocol.decode_request(body)
    except ControlProtocolError:
        return
    assert isinstance(request, protocol.Request)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"command": "explode"}', "explode"),
        ('{"name": "web"}', "command"),
        ('{"command": "scale", "name": "web", "replicas": "4"}', r"replicas"),
        ('{"command": "status", "version": 2}', "version 1 .* not 2"),
        ("[" * 10000, "no request"),
        ('"\\ud800"', "no request"),
        ("", "no request"),
    ],
)
def test_wrong_requests(text: str, words: str) -> None:
    with pytest.raises(ControlProtocolError, match=words):
        protocol.decode_request(text.encode())


def test_new_fields_are_left_out() -> None:
    request = protocol.decode_request(b'{"command": "stop", "name": "web", "since": "tomorrow", "id": 7}')
    assert request == protocol.Stop(name="web", id=7)


def test_limits() -> None:
    with pytest.raises(ControlProtocolError, match="1 to 8 bytes, not 9"):
        FrameSplitter(8).feed((9).to_bytes(4, "big"))
    with pytest.raises(ControlProtocolError, match="not 0"):
        FrameSplitter(8).feed(bytes(4))
    with pytest.raises(ValueError, match="too long"):
        protocol.encode_frame("x" * 10, limit=10)


def test_answers() -> None:
    for answer in (Answer(ok=True, id=3, result={"a": [1]}), Answer(ok=False, error=Failure("usage", "no"))):
        (body,) = FrameSplitter(protocol.ANSWER_LIMIT).feed(protocol.encode_frame(answer))
        assert protocol.decode_answer(body) == answer
    assert json.loads(protocol.encode_frame(Answer(ok=True))[4:]) == {"ok": True}
