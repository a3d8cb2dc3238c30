"""`SignalRunbook`: what runs when, what errors do, how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from ..harness.scripts import run_script
from .signal_programs import LOOPS, program

HUP, USR1, USR2, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM


def send(*signums: int) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


class Response:
    """An async response that begins, waits until it may end, and counts."""

    def __init__(self) -> None:
        self.begun = self.ended = self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1


async def test_functions_of_both_kinds() -> None:
    called: list[str] = []

    async def reload() -> None:
        await asyncio.sleep(0)
        called.append("reload")

    runbook = aioipc.SignalRunbook({HUP: reload, USR1: lambda: called.append("dump")})
    assert repr(runbook) == "<SignalRunbook for SIGHUP, SIGUSR1>"
    async with runbook as entered:
        assert entered is runbook
        send(HUP)
        await eventually_async(lambda: called == ["reload"])
        send(USR1)
        await eventually_async(lambda: called == ["reload", "dump"])
    assert signal.getsignal(HUP) is signal.SIG_DFL


async def test_one_at_a_time_and_once_more() -> None:
    """What comes while the response runs makes it run again, once; others run beside it."""
    slow, other = Response(), Response()
    async with aioipc.SignalRunbook({HUP: slow, USR1: other}) as runbook:
        send(HUP)
        await eventually_async(lambda: slow.begun == 1)
        for _ in range(5):
            send(HUP)
            await asyncio.sleep(0.002)
        send(USR1)
        await eventually_async(lambda: other.begun == 1)
        assert slow.begun == 1
        assert runbook.running == {HUP, USR1}
        slow.may_end.set()
        other.may_end.set()
        await eventually_async(lambda: slow.ended == 2 and not runbook.running)
        send(HUP)
        await eventually_async(lambda: slow.ended == 3)
    assert (slow.begun, other.begun) == (3, 1)


async def test_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    called = []

    async def fails_late() -> None:
        await asyncio.sleep(0)
        raise KeyError("late")

    def fails() -> None:
        called.append(1)
        raise ValueError("at once")

    with caplog.at_level(logging.ERROR, "aioipc.signals"):
        async with aioipc.SignalRunbook({HUP: fails, USR1: fails_late}):
            send(HUP)
            await eventually_async(lambda: len(caplog.records) == 1)
            send(USR1)
            await eventually_async(lambda: len(caplog.records) == 2)
            send(HUP)
            await eventually_async(lambda: len(caplog.records) == 3)
    assert len(called) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the response to SIGHUP failed",
        "the response to SIGUSR1 failed",
        "the response to SIGHUP failed",
    ]
    assert "ValueError: at once" in caplog.text
    assert "KeyError: 'late'" in caplog.text


@LOOPS
def test_system_exit_of_a_response(loop: str) -> None:
    body = """
        async with aioipc.SignalRunbook({signal.SIGTERM: lambda: sys.exit(7)}):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(1000)
    """
    done = run_script(program(loop, body))
    assert (done.returncode, done.stderr) == (7, "")


async def test_leaving_waits_for_what_runs() -> None:
    response = Response()
    async with aioipc.SignalRunbook({HUP: response}, shutdown=100):
        send(HUP)
        await eventually_async(lambda: response.begun == 1)
        asyncio.get_running_loop().call_later(0.02, response.may_end.set)
    assert (response.ended, response.cancelled) == (1, 0)


async def test_leaving_cancels_what_does_not_end() -> None:
    response = Response()
    async with aioipc.SignalRunbook({HUP: response}, shutdown=0.02):
        send(HUP)
        await eventually_async(lambda: response.begun == 1)
    assert (response.ended, response.cancelled) == (0, 1)


async def test_leaving_a_response_that_cannot_be_ended(caplog: pytest.LogCaptureFixture) -> None:
    response, stubborn = Response(), asyncio.Event()

    async def ignores() -> None:
        while not stubborn.is_set():
            try:
                await response()
            except asyncio.CancelledError:
                pass

    with caplog.at_level(logging.WARNING, "aioipc.signals"):
        async with aioipc.SignalRunbook({HUP: ignores}, shutdown=0.02):
            send(HUP)
            await eventually_async(lambda: response.begun == 1)
    assert caplog.messages == ["the response to SIGHUP does not end, although it was cancelled"]
    stubborn.set()
    response.may_end.set()


async def test_the_leaving_is_cancelled() -> None:
    """What runs is cancelled and waited for, then the cancellation goes on."""
    response = Response()

    async def body() -> None:
        async with aioipc.SignalRunbook({HUP: response}, shutdown=100):
            send(HUP)
            await eventually_async(lambda: response.begun == 1)
            leaving.set()

    leaving = asyncio.Event()
    task = asyncio.create_task(body())
    await leaving.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (response.ended, response.cancelled) == (0, 1)
    assert signal.getsignal(HUP) is signal.SIG_DFL


async def test_in_a_cancelled_scope() -> None:
    """The response has its time all the same."""
    response = Response()
    with anyio.CancelScope() as scope:
        async with aioipc.SignalRunbook({HUP: response}, shutdown=100):
            send(HUP)
            await eventually_async(lambda: response.begun == 1)
            asyncio.get_running_loop().call_later(0.02, response.may_end.set)
            scope.cancel()
            await anyio.sleep(100)
    assert scope.cancelled_caught
    assert (response.ended, response.cancelled) == (1, 0)


async def test_what_was_not_begun_goes_outward() -> None:
    response = Response()
    with aioipc.open_signal_receiver(HUP, USR1) as outer:
        async with aioipc.SignalRunbook({HUP: response, USR1: response}):
            send(HUP)
            await eventually_async(lambda: response.begun == 1)
            send(HUP)
            await asyncio.sleep(0.01)
            send(USR1)
            response.may_end.set()
        assert {await outer.receive(), await outer.receive()} == {HUP, USR1}
    assert response.begun == 1


async def test_context() -> None:
    """Responses have the context of who has entered the block."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    variable.set("entered")
    async with aioipc.SignalRunbook({HUP: lambda: seen.append(variable.get())}):
        variable.set("changed since")
        send(HUP)
        await eventually_async(lambda: seen == ["entered"])


@pytest_asyncio.fixture
async def runbook() -> AsyncIterator[Response]:
    """Set up and torn down in different tasks by pytest-asyncio."""
    response = Response()
    async with aioipc.SignalRunbook({USR2: response}):
        entered = asyncio.current_task()
        yield response
        assert asyncio.current_task() is not entered
        response.may_end.set()
    assert response.ended == 1


async def test_as_a_fixture(runbook: Response) -> None:
    send(USR2)
    await eventually_async(lambda: runbook.begun == 1)


async def test_entered_twice() -> None:
    runbook = aioipc.SignalRunbook({HUP: lambda: None})
    async with runbook:
        with pytest.raises(RuntimeError, match="entered once"):
            await runbook.__aenter__()
    with pytest.raises(RuntimeError, match="entered once"):
        await runbook.__aenter__()


async def test_in_a_thread() -> None:
    async def use() -> None:
        async with aioipc.SignalRunbook({HUP: lambda: None}):
            pytest.fail("must not be entered")

    with pytest.raises(RuntimeError, match="SignalRunbook handles signals, which Python allows in the main"):
        await asyncio.to_thread(lambda: asyncio.run(use()))


async def test_wrong_arguments() -> None:
    anything: Any = aioipc.SignalRunbook
    coroutine = asyncio.sleep(0)
    with pytest.raises(TypeError, match="the response to SIGHUP must be a function without arguments, not <coroutine"):
        anything({HUP: coroutine})
    with pytest.raises(TypeError, match="must be a function without arguments, not None"):
        anything({HUP: None})
    with pytest.raises(TypeError, match="needs a mapping of signals to functions"):
        anything([(HUP, print)])
    with pytest.raises(ValueError, match="needs at least one signal"):
        anything({})
    for shutdown in ("5", None, True):
        with pytest.raises(TypeError, match="shutdown must be a number of seconds"):
            anything({HUP: print}, shutdown=shutdown)
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="from 0 on"):
            anything({HUP: print}, shutdown=seconds)
