"""The source of readiness for objects without a descriptor (see `aioipc._loop.readiness` and `waits`).

A thread that waits has to be woken, get the GIL, and wake the loop: that takes several times as long as the message
itself. So the loop looks by itself for a moment first, once a turn, and only then leaves the waiting to a thread.
Where that was in vain, the next waits go to a thread at once, twice as many each time, so that objects which are seldom
ready cost nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from time import monotonic

from . import wait_threads
from .waits import Probe, Wait

KEPT = 4  # waits for other probes that may go on
LOOKING = 0.0002  # seconds that the loop looks by itself; 0: never
NOT_NOW = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # a probe may need something that the system lacks for a while
MOST_SKIPPED = 64  # waits in a row that go to a thread at once


class ObjectReadiness:
    """Reports that an object may be ready, once for each time it is armed, as soon as a probe says so.

    ``probe`` is what to wait for. It may be changed at any time and counts from the next `arm` on: the first of
    the tasks that wait may want more or less than the one before it.

    Disarming does not stop the wait, which takes nothing from the object; that would cost more than the report it
    spares. A wait for a probe of before goes on too, until there are too many.
    """

    __slots__ = ("_closed", "_in_vain", "_look", "_report", "_skip", "_until", "_waits", "probe")

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._waits: dict[Probe, Wait] = {}  # oldest first
        self._report: Callable[[], bool] | None = None
        self._closed = False
        self._look: asyncio.Handle | None = None  # the next one
        self._until = 0.0
        self._skip = 0  # so many waits go to a thread at once
        self._in_vain = 0  # how many there were last time
        wait_threads.threads.join()

    def arm(self, report: Callable[[], bool]) -> None:
        """Wait for the probe. Raises `RuntimeError` where the system has no thread to give."""
        self._report = report
        if self.probe in self._waits or self._look is not None:
            return
        if LOOKING and not self._skip:
            self._until = monotonic() + LOOKING
            self._look = asyncio.get_running_loop().call_soon(self._look_now)
        else:
            self._skip = max(0, self._skip - 1)
            self._start()

    def disarm(self) -> None:
        """Do not report until armed again."""
        self._report = None

    def close(self) -> None:
        """Have the threads leave the object; idempotent."""
        if not self._closed:
            self._closed, self._report = True, None
            if self._look is not None:
                self._look.cancel()
            for probe in list(self._waits):
                self._stop(probe)
            wait_threads.threads.part()

    def nudge(self) -> None:
        """Report now, if armed: something has changed in this process. In the loop's thread."""
        if self._report is not None:
            self._report()

    def _look_now(self) -> None:
        """Ask without waiting; again in the next turn of the loop while there is time, else leave it to a thread."""
        self._look = None
        if self._report is None:
            return
        os.sched_yield()  # to who shall make it ready, if that is on this core
        try:
            taken = self.probe.ask(False)
        except (BlockingIOError, InterruptedError):
            self._look_again()
            return
        except OSError as error:
            if error.errno in NOT_NOW:
                self._look_again()
                return
            taken = None  # whoever tries will see it
        if taken is not None:
            self.probe.keep(taken)
        self._in_vain = 0
        self._tell()

    def _look_again(self) -> None:
        if monotonic() < self._until:
            self._look = asyncio.get_running_loop().call_soon(self._look_now)
        else:
            self._skip = self._in_vain = min(2 * self._in_vain + 1, MOST_SKIPPED)
            self._start()

    def _start(self) -> None:
        """Have a thread wait for the probe."""
        if self.probe in self._waits:
            return
        if len(self._waits) > KEPT:
            self._stop(next(iter(self._waits)))
        wait = Wait(self.probe, asyncio.get_running_loop(), self._end)
        wait_threads.threads.start(wait)
        self._waits[self.probe] = wait

    def _stop(self, probe: Probe) -> None:
        self._waits.pop(probe).cancel()

    def _end(self, wait: Wait) -> None:
        wait.settle()
        if self._waits.get(wait.probe) is wait:
            del self._waits[wait.probe]
            self._tell()

    def _tell(self) -> None:
        report, self._report = self._report, None
        if report is not None:
            report()
