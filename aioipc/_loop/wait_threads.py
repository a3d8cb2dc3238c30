"""Who makes the calls that wait for objects without a descriptor (`aioipc._loop.waits`): threads of our own.

    start ──a thread is free, or may be started──> it sits in the call, tells the loop, is free again
          └──`CAP` threads sit in calls already──> one thread more, the sweeper, asks for all the others in turn

The threads are daemons with a small stack, which nothing else uses: never the loop's default executor, whose few
threads others need, and whose shutdown would wait for a call that may never return. Nothing joins them, so they do
not hold up the end of the interpreter. They block all signals but the one that interrupts them, so that they get
none of the program's. They end with the last object that waits in this way.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from aioipc._sys.interrupt import SIGNAL
from aioipc._sys.libc import set_process_name

from .waits import Wait

CAP = 64  # threads of this process that wait for one object each
STACK = 256 * 1024  # bytes
IDLE = 5.0  # seconds until a thread without work ends
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.02  # seconds between two rounds of the sweeper
BREATH = 64  # questions, until the sweeper lets others have the GIL

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}  # faulthandler's


class WaitThreads:
    """The waiting threads of a process; ``cap`` is how many there may be beside the sweeper."""

    def __init__(self, cap: int = CAP) -> None:
        self._cap = cap
        self._lock = threading.RLock()  # the garbage collector may close an object, in a thread that has it already
        self._idle: list[_Thread] = []
        self._count = 0
        self._users = 0
        self._sweeper = _Sweeper()

    @property
    def count(self) -> int:
        """How many threads there are beside the sweeper."""
        return self._count

    def join(self) -> None:
        """Count one more who may `start` waits."""
        with self._lock:
            self._users += 1

    def part(self) -> None:
        """Count one less; after the last one the threads end."""
        with self._lock:
            self._users = max(0, self._users - 1)
            idle = [] if self._users else self._idle
            if not self._users:
                self._idle = []
                self._count -= len(idle)
        for thread in idle:
            thread.give(None)
        if not self._users:
            self._sweeper.finish()

    def start(self, wait: Wait) -> None:
        """Begin a wait. Raises `RuntimeError` where the system has no thread to give."""
        with self._lock:
            thread = self._idle.pop() if self._idle else None
            new = thread is None and self._count < self._cap
            self._count += new
        if thread is not None:
            thread.give(wait)
        elif not new or not self._start_thread(wait):
            self._sweeper.add(wait)

    def rest(self, thread: _Thread) -> bool:
        """Take back a thread that has done its work; return False where it shall end."""
        with self._lock:
            if self._users:
                self._idle.append(thread)
            else:
                self._count -= 1
            return self._users > 0

    def retire(self, thread: _Thread) -> bool:
        """Return whether a thread that has had no work for long may end; not where it was just given some."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._count -= 1
            return True

    def _start_thread(self, wait: Wait) -> bool:
        thread = _Thread(self)
        thread.give(wait)
        try:
            _start(thread.run)
        except RuntimeError:  # a limit on threads (RLIMIT_NPROC, pids.max): the sweeper may have its own
            wait.unhold()
            with self._lock:
                self._count -= 1
            return False
        return True


class _Thread:
    """One thread that makes one call after the other."""

    def __init__(self, home: WaitThreads) -> None:
        self._home = home
        self._given = allocate_lock()
        self._given.acquire()
        self._wait: Wait | None = None

    def give(self, wait: Wait | None) -> None:
        """Have it do this wait; or end, without one."""
        if wait is not None:
            wait.hold()
        self._wait = wait
        self._given.release()

    def run(self) -> None:
        """Work until there is nothing to do."""
        while (wait := self._next()) is not None:
            wait.block()
            stay = self._home.rest(self)  # before the loop hears of it, so that it finds a free thread
            wait.leave()
            if not stay:
                return

    def _next(self) -> Wait | None:
        if not self._given.acquire(timeout=IDLE):
            if self._home.retire(self):
                return None
            self._given.acquire()
        wait, self._wait = self._wait, None
        return wait


class _Sweeper:
    """One thread that asks again and again for all the waits that have got no thread of their own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waits: list[Wait] = []
        self._running = False
        self._finished = False  # nobody is there who may add more

    def add(self, wait: Wait) -> None:
        """Ask for this one, too."""
        with self._changed:
            if not self._running:
                _start(self._run)
                self._running = True
            self._finished = False
            self._waits.append(wait)
            self._changed.notify()

    def finish(self) -> None:
        """Let the thread end now if there is nothing to ask."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while waits := self._current():
            over = {wait for number, wait in enumerate(waits) if self._look(number, wait)}
            with self._changed:
                self._waits = [wait for wait in self._waits if wait not in over]
            pause = FIRST_PAUSE if over else min(2 * pause, LONGEST_PAUSE)
            time.sleep(pause)

    def _current(self) -> list[Wait]:
        with self._changed:
            if not self._waits and not self._finished:
                self._changed.wait(IDLE)
            self._running = bool(self._waits)
            return list(self._waits)

    def _look(self, number: int, wait: Wait) -> bool:
        if number % BREATH == BREATH - 1:
            time.sleep(0)
        return wait.look()


def _start(function: Callable[[], None]) -> None:
    """Start a daemon with a small stack that blocks all signals but one, and has a name in ``ps -L``."""

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})
        set_process_name("aioipc-wait")
        function()

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    stack = threading.stack_size(STACK)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)  # the thread inherits it
        start_new_thread(run, ())
    finally:
        threading.stack_size(stack)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    global threads
    threads = WaitThreads()


threads = WaitThreads()
os.register_at_fork(after_in_child=_after_fork)
