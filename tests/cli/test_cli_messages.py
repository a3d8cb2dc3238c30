"""Messages as lines of JSON, and which of them a System V receiver would get."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc import SysVMessageQueue, WouldBlock
from aioipc.cli.messages import Message, from_record, in_order_of_taking, to_record


@given(st.binary(), st.none() | st.integers(1), st.none() | st.integers(0, 32767))
def test_a_message_survives_json(body: bytes, type: int | None, priority: int | None) -> None:
    message = Message(body, type, priority)
    line = to_record(message)
    assert b"\n" not in line
    assert from_record(line) == message


def test_the_record_says_whether_it_is_text_or_base64() -> None:
    assert json.loads(to_record(Message("grüße\n".encode(), type=5))) == {
        "type": 5,
        "body": "grüße\n",
        "encoding": "text",
    }
    assert json.loads(to_record(Message(b"\xff", priority=1, sender="/s"))) == {
        "priority": 1,
        "sender": "/s",
        "body": "/w==",
        "encoding": "base64",
    }


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not a JSON value"),
        (b"[" * 100_000, "not a JSON value"),
        (b"[1]", '"body"'),
        (b'{"type": 1}', '"body"'),
        (b'{"body": 1}', '"body"'),
        (b'{"body": "a", "typ": 1}', "'typ'"),
        (b'{"body": "a", "type": "1"}', '"type" is a number'),
        (b'{"body": "a", "type": true}', '"type" is a number'),
        (b'{"body": "a", "encoding": "hex"}', '"base64"'),
        (b'{"body": "a", "encoding": "base64"}', "no base64"),
    ],
)
def test_lines_that_are_no_message(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_record(line)


@given(
    st.lists(st.integers(1, 5), max_size=8),
    st.one_of(st.tuples(st.integers(-5, 5), st.none()), st.tuples(st.just(0), st.integers(1, 5))),
)
def test_the_order_of_taking_is_that_of_the_kernel(types: list[int], wish: tuple[int, int | None]) -> None:
    wanted, except_type = wish
    messages = [Message(str(number).encode(), type) for number, type in enumerate(types)]
    queue = SysVMessageQueue.create()
    try:
        for message in messages:
            queue.send_nowait(message.body, type=message.type or 1)
        taken = []
        try:
            while True:
                taken.append(Message(*queue.receive_nowait(wanted, except_type=except_type)))
        except WouldBlock:
            pass
        assert in_order_of_taking(messages, wanted, except_type) == taken
    finally:
        queue.close()
