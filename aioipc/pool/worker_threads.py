"""Sync functions in threads of a worker (``Pool(threads=True)``), under its event loop."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

from .worker_frames import is_in_an_import
from .worker_streams import drop

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


class _Raised(Exception):
    """Carries an exception that means something else where a coroutine raises it."""


def original(error: BaseException) -> BaseException:
    """Return what a function has raised, of what `ThreadCalls.call` has raised."""
    return error.args[0] if isinstance(error, _Raised) else error


class ThreadCalls:
    """Runs functions in up to ``limit`` threads, and breaks into those whose task is cancelled.

    ``on_torn`` is called, in a thread, when one was broken into during an import.
    """

    def __init__(self, limit: int, on_torn: Callable[[], None]) -> None:
        self._on_torn = on_torn
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="aioipc-task")
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}  # task number -> thread
        self._cancelled: set[int] = set()

    async def call(self, number: int, function: Callable[..., Any], arguments: Any, context: Context) -> Any:
        """Run a function for the task of this number; raises CancelledError where `interrupt` has ended it.

        It is over when the thread is: cancelling the waiting task is not the way to end it.
        """
        loop = asyncio.get_running_loop()
        value, error = await loop.run_in_executor(self._threads, self._run, number, function, arguments, context)
        if error is None and number in self._cancelled:  # between the end of the function and here
            drop(value)
            error = asyncio.CancelledError()
        if error is not None:
            raise error
        return value

    async def finish(self, function: Callable[[], Any], context: Context) -> None:
        """Run a function that must not be broken into."""
        await asyncio.get_running_loop().run_in_executor(self._threads, context.run, function)

    def interrupt(self, number: int) -> None:
        """Have KeyboardInterrupt raised in the function at its next bytecode, or before it is entered."""
        with self._lock:
            self._cancelled.add(number)
            if (thread := self._running.get(number)) is not None:
                _raise_in(thread, KeyboardInterrupt)

    def forget(self, number: int) -> None:
        """Say that no function is called for the task any more."""
        with self._lock:
            self._cancelled.discard(number)

    def _run(
        self, number: int, function: Callable[..., Any], arguments: Any, context: Context
    ) -> tuple[Any, BaseException | None]:
        """Return value and error: not every error may be set on a future."""
        try:
            try:
                with self._lock:
                    self._running[number] = threading.get_ident()
                    if number in self._cancelled:
                        raise KeyboardInterrupt
                return context.run(function, *arguments), None
            finally:
                with self._lock:
                    self._running.pop(number, None)
                _let_interrupts_in()
        except BaseException as error:
            asked = isinstance(error, KeyboardInterrupt) and number in self._cancelled
            if asked:
                if is_in_an_import(error.__traceback__):
                    self._on_torn()
                return None, asyncio.CancelledError()
            return None, _Raised(error) if isinstance(error, StopIteration | asyncio.CancelledError) else error


def _let_interrupts_in() -> None:
    """Be a function: an exception that another thread has raised here strikes when one is entered, if not before."""
