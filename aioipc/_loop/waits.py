"""Waiting for an object that has no descriptor, by a call that reports and takes nothing.

The loop cannot poll a System V queue or semaphore. But there are system calls that return as soon as an operation
would succeed, and leave the object as it is: a `Probe` makes one. A `Wait` is one such call in flight; who makes it
is decided in `aioipc._loop.wait_threads`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from _thread import allocate_lock, get_native_id
from collections.abc import Callable
from typing import Protocol

from aioipc._sys.interrupt import interrupt
from aioipc._sys.sysv import GONE

PAUSE = 0.01  # seconds between two questions that failed for another reason than the end of the object


class Probe(Protocol):
    """A question about an object: is it ready for this operation? Hashable; equal ones ask the same."""

    def ask(self, block: bool) -> int | None:
        """Return when it is ready, or raise `BlockingIOError` where it is not and ``block`` is false.

        Called in any thread. It raises `InterruptedError` where a signal came, and another `OSError` where the
        object is in no state to be waited for. It takes nothing; where the kernel gives it something all the same,
        it returns that.
        """

    def keep(self, taken: int) -> None:
        """Take care of what `ask` could not help taking.

        Called in the thread of the loop; in the thread that has asked where that was given up by the loop.
        """


class Wait:
    """One wait for one probe. ``on_end`` is called in the loop when it is over."""

    __slots__ = (
        "_abandoned",
        "_cancelled",
        "_left",
        "_lock",
        "_loop",
        "_on_end",
        "_out",
        "_pid",
        "_taken",
        "_thread",
        "probe",
    )

    def __init__(self, probe: Probe, loop: asyncio.AbstractEventLoop, on_end: Callable[[Wait], None]) -> None:
        self.probe = probe
        self._loop = loop
        self._on_end = on_end
        self._pid = os.getpid()
        self._thread = 0  # the one that sits in the call
        self._taken: int | None = None
        self._cancelled = self._left = self._abandoned = False
        self._lock = threading.RLock()  # the garbage collector may cancel it, in a thread that has it already
        self._out = allocate_lock()  # held while a thread is busy with this

    def hold(self) -> None:
        """Note that a thread is about to `block` and then `leave`."""
        self._out.acquire()

    def unhold(self) -> None:
        """Note that it does not come to that."""
        self._out.release()

    def block(self) -> None:
        """Ask, and wait for the answer."""
        self._thread = get_native_id()
        try:
            while not self._cancelled:
                try:
                    self._taken = self.probe.ask(True)
                except InterruptedError:
                    continue
                except OSError as error:  # whoever tries will see it
                    if error.errno not in GONE:
                        time.sleep(PAUSE)  # or will not, and ask again
                return
        finally:
            self._thread = 0

    def leave(self) -> None:
        """Tell the loop the answer, and whoever cancels that this thread is out."""
        with self._lock:
            self._left = True
        if self._abandoned:
            self.settle()
        else:
            self._tell()
        self._out.release()

    def look(self) -> bool:
        """Ask without waiting; return whether it is over, and the loop was told."""
        with self._lock:  # `cancel` gets it when nothing can be taken any more
            if self._cancelled:
                return True
            try:
                self._taken = self.probe.ask(False)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                pass
        self._tell()
        return True

    def cancel(self) -> None:
        """Stop waiting, and have a thread leave the call; ``on_end`` may come once more if it is on its way."""
        if self._pid != os.getpid() or sys.is_finalizing():  # the thread is the parent's, or can run no more
            return
        with self._lock:
            self._cancelled = True
        if self._out.locked() and not interrupt(lambda: self._thread, self._out):
            with self._lock:
                self._abandoned = not self._left
            if self._abandoned:
                return  # it will find nobody to tell, and settle by itself
        self.settle()

    def settle(self) -> None:
        """Hand to the probe what was taken; done already, or nothing: do nothing."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self.probe.keep(taken)

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_end, self)
        except RuntimeError:  # the loop is closed
            pass
