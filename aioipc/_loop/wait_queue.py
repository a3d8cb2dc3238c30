"""The wait queue: how a task waits for a kernel object, and all that cancellation has to do with it.

One rule: *cancelled means nothing happened*. Nothing is ever taken in a callback or in a thread, where a
cancellation could strike between the taking and the handing over. A source of readiness only wakes a task;
the task takes by itself, with a call that does not block, and returns without another ``await``.

    try at once ──found──> return
        │ nothing there
        v
    join the queue, listen, sleep <──────┐
        │ woken                          │ nothing there after all (keeps its place)
        v                                │
    try again ───────────────────────────┘
        │ found, failed, closed or cancelled
        v
    leave the queue, wake the next one, return or raise

A woken task stays at the head until it has tried, so that no newcomer overtakes it. A task that was woken
and cancelled in the same turn of the loop wakes the next one as it leaves: wake-ups are handed on, not lost.
Readers and writers, descriptors and objects without one, all wait here; what differs is the `Readiness`.

Rejected: a transport and protocol (reads ahead, and data nobody asked for is lost at close),
``loop.sock_recv`` (uvloop loses the data of a cancelled call), registering anew for each wait (two system
calls per message).
"""

from __future__ import annotations

import asyncio
import os
from asyncio import _get_running_loop  # public by asyncio's __all__; None instead of an exception
from collections import deque
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from aioipc.exceptions import ClosedResourceError, WouldBlock

from .fairness import Turn, current_turn
from .readiness import Readiness

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WaitQueue:
    """Tasks that wait, first come first served, until a non-blocking call on one object succeeds.

    ``readiness`` reports that a call may succeed. ``name`` says in errors what the object is.
    The queue belongs to the first event loop in which something is taken.
    """

    __slots__ = ("_closed", "_loop", "_name", "_pid", "_readiness", "_reports", "_turn", "_waiters")

    def __init__(self, readiness: Readiness, name: str) -> None:
        self._readiness = readiness
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0  # of the process whose loop that is
        self._turn: Turn
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._reports = 0  # since something was taken
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiters)

    async def take(self, attempt: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``attempt(*args)`` until it does not raise `BlockingIOError`, and return its result.

        ``attempt`` must not block, and raises `BlockingIOError` where there is nothing to take and nothing
        has changed. Whatever else it raises comes out, and the next waiter has its try.

        Raises `ClosedResourceError` where the queue is closed or gets closed, `RuntimeError` without a
        running asyncio loop or in another loop than the first one.
        Cancelled: ``attempt`` has not succeeded. Once it has, nothing can be cancelled before this returns.
        """
        if self._closed or self._loop is None or self._loop is not _get_running_loop():
            self._bind()
        if not self._waiters and self._turn.spend():
            await asyncio.sleep(0)
            self._turn.renew()
            self._turn.spend()
            self._check_open()
        if not self._waiters:
            try:
                result = attempt(*args)
            except BlockingIOError:
                pass
            else:
                self._reports = 0
                return result
        return await self._wait(attempt, args)

    def take_nowait(self, attempt: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``attempt(*args)`` once and return its result.

        Raises `WouldBlock` where it raises `BlockingIOError` or where tasks wait already, who come first, and
        `ClosedResourceError` where the queue is closed.
        """
        self._check_open()
        if self._waiters:
            raise WouldBlock(f"other tasks wait for this {self._name} already")
        try:
            result = attempt(*args)
        except BlockingIOError:
            raise WouldBlock(f"this {self._name} is not ready") from None
        self._reports = 0
        return result

    def close(self, release: Callable[[], object]) -> None:
        """Wake every waiter with `ClosedResourceError`, stop listening, then call ``release``; idempotent.

        ``release`` frees the object (``os.close``); that comes last, because a descriptor must leave the loop
        before its number can be used again. Called in another thread while the loop runs, the loop does it; in a
        forked child, whose copy of the loop never turns, it is done at once.
        """
        if self._closed:
            return
        self._closed = True
        loop = self._loop
        if loop is not None and self._pid != os.getpid():
            self._readiness.close()
            release()
        elif loop is not None and loop.is_running() and loop is not _get_running_loop():
            loop.call_soon_threadsafe(self._finish, release)
        else:
            self._finish(release)

    async def _wait(self, attempt: Callable[[*Ts], T], args: tuple[*Ts]) -> T:
        waiter = self._sleeper()
        self._waiters.append(waiter)
        try:
            while True:
                if self._reports:
                    self._forget_reports()
                self._readiness.arm(self._report)
                await waiter
                self._turn.renew()
                if self._closed:
                    self._check_open()
                try:
                    result = attempt(*args)
                except BlockingIOError:
                    waiter = self._replace(waiter)
                else:
                    self._reports = 0
                    return result
        finally:
            self._waiters.remove(waiter)
            if self._waiters and waiter.done() and not waiter.cancelled():
                self._wake()

    def _bind(self) -> None:
        """Belong to the running loop from the first use on, and refuse any other."""
        self._check_open()
        loop = _get_running_loop()
        if loop is None:
            raise RuntimeError(f"the {self._name} needs a running asyncio (or uvloop) event loop")
        if self._loop is not None:
            raise RuntimeError(f"the {self._name} belongs to another event loop, the one of its first use")
        self._loop = loop
        self._pid = os.getpid()
        self._turn = current_turn()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"the {self._name} is closed")

    def _sleeper(self) -> asyncio.Future[None]:
        assert self._loop is not None
        return self._loop.create_future()

    def _replace(self, waiter: asyncio.Future[None]) -> asyncio.Future[None]:
        """Let a task that was woken for nothing sleep again at its old place."""
        fresh = self._sleeper()
        self._waiters[self._waiters.index(waiter)] = fresh
        return fresh

    def _report(self) -> bool:
        """The source says that the object may be ready; return True if that woke a task.

        A report that meets nobody may come from the turn in which a task has just taken and is not back yet,
        so the source is disarmed at the second one only.
        """
        self._reports += 1
        if self._waiters:
            return self._wake()
        if self._reports > 1:
            self._forget_reports()
        return False

    def _forget_reports(self) -> None:
        """Disarm the source: nobody wants its reports, or one came and there was nothing (it may be dead)."""
        self._readiness.disarm()
        self._reports = 0

    def _wake(self) -> bool:
        """Wake the first waiter that is not being cancelled; False where it is awake or none waits."""
        for waiter in self._waiters:
            if not waiter.cancelled():
                if waiter.done():
                    return False
                waiter.set_result(None)
                return True
        return False

    def _finish(self, release: Callable[[], object]) -> None:
        self._readiness.close()
        if self._loop is not None and not self._loop.is_closed():
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        release()
