"""What the master logs: as JSON and text, without ever waiting for a reader, and for those who follow."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.master.log_output import LogOutput
from aioipc.master.log_records import JsonFormatter, TextFormatter, describe
from aioipc.master.log_tail import LogTail
from aioipc.supervisor.output_lines import OutputLine
from aioipc.supervisor.output_relay import log_line


def record(text: str = "hello you", *arguments: Any, **attributes: Any) -> logging.LogRecord:
    found = logging.LogRecord("shop.cart", logging.WARNING, __file__, 1, text, arguments, None)
    vars(found).update(attributes)
    return found


def test_fields() -> None:
    plain = describe(record())
    assert plain["time"].endswith("Z")
    assert {key: plain[key] for key in ("level", "logger", "message", "pid")} == {
        "level": "WARNING",
        "logger": "shop.cart",
        "message": "hello you",
        "pid": os.getpid(),
    }
    assert set(plain) == {"time", "level", "logger", "message", "pid"}
    relayed = describe(record(service="web", worker=3, process=77, user=4, cart=object))
    assert (relayed["service"], relayed["replica"], relayed["pid"]) == ("web", 3, 77)
    assert relayed["extra"] == {"user": 4, "cart": "<class 'object'>"}
    assert "do not fit" in describe(record("%d", "x"))["message"]


def test_captured_output(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aioipc.output"):
        log_line(OutputLine(1, 77, "stdout", "a line", "web"))
    (found,) = caplog.records
    described = describe(found)
    expected = {"message": "a line", "stream": "stdout", "service": "web", "replica": 1, "pid": 77, "level": "INFO"}
    assert {key: described[key] for key in expected} == expected
    assert TextFormatter().format(found).endswith("INFO    web.1 (pid 77) a line")


def test_attributes_of_others_are_no_captured_output() -> None:
    found = describe(record(service="web", worker=1, stream="s", line="l"))
    assert (found["message"], found["extra"]) == ("hello you", {"stream": "s", "line": "l"})
    assert "stream" not in found


def test_exceptions() -> None:
    try:
        raise KeyError("x")
    except KeyError:
        found = record(exc_info=sys.exc_info())
    assert "KeyError: 'x'" in describe(found)["exception"]
    assert TextFormatter().format(found).splitlines()[-1] == "KeyError: 'x'"


@given(st.text(), st.dictionaries(st.text(min_size=1, max_size=5), st.floats() | st.text() | st.none(), max_size=3))
def test_json_is_always_one_line(text: str, extra: dict[str, Any]) -> None:
    found = record("%s", text, **{f"x_{key}": value for key, value in extra.items()})
    line = JsonFormatter().format(found)
    assert len(line.split("\n")) == 1

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(line, parse_constant=refuse)["message"] == text


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    reading, writing = os.pipe()
    output = LogOutput(writing, logging.Formatter("%(message)s"), most=100)
    try:
        text = "x" * 1000
        for number in range(1000):  # a pipe holds 64 of them
            output.handle(record(f"%d {text}", number))
        numbers: list[int] = []
        lost = 0
        with open(reading, encoding="utf-8") as file:
            while len(numbers) + lost < 1000:
                number, _, rest = file.readline().partition(" ")
                if "were lost" in rest:
                    lost += int(number)
                else:
                    numbers.append(int(number))
        assert lost > 0
        assert numbers == sorted(set(numbers))
        output.handle(record("nobody reads any more"))
    finally:
        output.stop()
        os.close(writing)


def test_what_waits_is_bounded_in_size() -> None:
    reading, writing = os.pipe()
    output = LogOutput(writing, logging.Formatter("%(message)s"), most_characters=1 << 20)
    try:
        output.handle(record("x" * (1 << 17)))  # more than the pipe holds: the thread waits with this one at the latest
        for _ in range(32):
            output.handle(record("x" * (1 << 16)))
        assert 12 <= output.lost <= 18
        os.close(reading)
    finally:
        output.stop()
        os.close(writing)


async def test_followers() -> None:
    tail = LogTail(3)
    for number in range(5):
        tail.handle(record("%d", number))
    assert [each["message"] for each in tail.last(10)] == ["2", "3", "4"]
    assert [each["message"] for each in tail.last(1)] == ["4"]
    assert tail.last(0) == []
    follower = tail.follow()
    waiting = asyncio.ensure_future(follower.next())
    await asyncio.sleep(0)
    await asyncio.to_thread(tail.handle, record("from a thread"))
    assert [each["message"] for each in await waiting] == ["from a thread"]
    for number in range(1200):
        tail.handle(record("%d", number))
    found = await follower.next()
    assert len(found) == 1001
    assert found[-1] == {"lost": 200}
    follower.close()
    tail.handle(record("x" * 10000, extra="y" * 10000, exc_text="z" * 10000))
    assert len(repr(tail.last(1))) < 10000
    waiting = asyncio.ensure_future(follower.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
