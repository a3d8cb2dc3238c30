"""What the tests of worker state, context variables and threads have workers run. Importable by workers."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aioipc

from .fault_functions import note, wait_at

request: contextvars.ContextVar[Any] = contextvars.ContextVar("request")
language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")

# -- state of a worker -----------------------------------------------------------------------------------


def set_up(journal: str, *more: object) -> dict[str, Any]:
    note(journal, f"up {os.getpid()}")
    return {"journal": journal, "more": more, "pid": os.getpid()}


async def set_up_async(journal: str, *more: object) -> dict[str, Any]:
    await asyncio.sleep(0)
    state = set_up(journal, *more)
    state["loop"] = asyncio.get_running_loop()
    return state


def tear_down(state: dict[str, Any]) -> None:
    note(state["journal"], f"down {os.getpid()}")


async def tear_down_async(state: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    tear_down(state)


def tear_down_badly(state: dict[str, Any]) -> None:
    tear_down(state)
    raise LookupError("cannot be torn down")


def see_state() -> tuple[Any, int, int]:
    """What the initializer has returned, as far as it can be sent, and which worker this is."""
    worker = aioipc.current_worker()
    state = worker.state
    return ({**state, "loop": None} if isinstance(state, dict) else state), worker.slot, worker.pid


async def see_state_async() -> tuple[Any, int, int]:
    return see_state()


async def is_loop_of_state() -> bool:
    return asyncio.get_running_loop() is aioipc.current_worker().state["loop"]


def count_up() -> int:
    worker = aioipc.current_worker()
    worker.state = (worker.state or 0) + 1
    return int(worker.state)


def cannot_set_up(journal: str) -> None:
    note(journal, "tried")
    raise LookupError("no such table")


def exits() -> None:
    os._exit(5)


def waits_at(journal: str, gate: str) -> None:
    note(journal, os.getpid())
    wait_at(gate)


# -- context variables -----------------------------------------------------------------------------------


def see_request() -> tuple[Any, str]:
    return request.get("unset"), language.get()


async def see_request_async() -> tuple[Any, str]:
    await asyncio.sleep(0)
    return see_request()


def see_request_at(_: int) -> tuple[Any, str]:
    return see_request()


def change_request(value: Any) -> Any:
    before = request.get("unset")
    request.set(value)
    language.set("xx")
    return before


async def change_request_async(value: Any) -> Any:
    return change_request(value)


def stream_requests(count: int) -> Iterator[tuple[Any, str]]:
    for i in range(count):
        yield see_request()
        language.set(f"{i}")


async def stream_requests_async(count: int) -> AsyncIterator[tuple[Any, str]]:
    for i in range(count):
        yield see_request()
        language.set(f"{i}")


# -- threads ---------------------------------------------------------------------------------------------


def meet(path: str, parties: int, number: int) -> int:
    """Say that one is here, and wait until so many are, in any thread of this process."""
    here = f"{os.getpid()} {number}"
    note(path, here)
    deadline = time.monotonic() + 30
    while len(_lines(path)) < parties:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {_lines(path)}")
        time.sleep(0.002)
    return os.getpid()


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()


def thread_name() -> str:
    return threading.current_thread().name


async def thread_name_async() -> str:
    return threading.current_thread().name


def loop_until_interrupted(journal: str) -> None:
    try:
        note(journal, "started")
        while True:
            time.sleep(0.001)
    except KeyboardInterrupt:
        note(journal, "interrupted")
        raise
    finally:
        note(journal, "finally")


def swallow_interrupts(journal: str) -> None:
    word = "started"
    while True:
        try:
            note(journal, word)
            while True:
                time.sleep(0.001)
        except KeyboardInterrupt:
            word = "ignored"


def raise_this(error: BaseException) -> None:
    raise error


def return_a_coroutine(journal: str) -> Any:
    return wait_in_vain(journal)


async def wait_in_vain(journal: str) -> None:
    note(journal, "started")
    try:
        await asyncio.Event().wait()
    finally:
        note(journal, "finally")


def spin_briefly(turns: int) -> int:
    """Come to an end at any moment, so that a cancellation meets every part of it."""
    for _ in range(turns):
        pass
    return turns
