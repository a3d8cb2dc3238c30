"""Looks at one process that is ready, again and again: whether it is alive, whether it has served long enough."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

from .heartbeat import Silence
from .recycling import Limits
from .spec import ChildSpec

EVERY = 1.0
"""Seconds between two looks at memory and work."""


class Patient(Protocol):
    """Who is looked at."""

    @property
    def work(self) -> int:
        """How many pieces of work it has done."""

    def memory(self) -> int:
        """How many bytes of memory it has."""

    def diagnose(self, now: float) -> str | None:
        """Why it must be killed, judged by its heartbeats; ``now`` is in loop time."""


class Checkup:
    """Begins at once and ends with `close`.

    ``lost`` is called, once, with the reason, where heartbeats are missing, ``spent`` where it is to be replaced.
    ``watchdog`` says that it beats by calling `beat`, and not by its scoreboard.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patient: Patient,
        spec: ChildSpec,
        *,
        watchdog: bool,
        lost: Callable[[str], object],
        spent: Callable[[str], object],
    ) -> None:
        self._loop = loop
        self._patient = patient
        self._timeout = spec.heartbeat_timeout
        self._lost = lost
        self._spent = spent
        self._born = time.monotonic()
        self._limits = Limits(spec.max_tasks, spec.max_memory, spec.max_age).draw(random.random() * spec.jitter)
        self._beats = 0
        self._silence = Silence(self._timeout / 4) if watchdog and self._timeout is not None else None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if self._timeout is not None:
            self._listen()
        if self._limits != Limits():
            self._weigh()

    def beat(self) -> None:
        """Say that it is alive."""
        self._beats += 1

    def close(self) -> None:
        """Look no more."""
        for timer in self._timers.values():
            timer.cancel()

    def _listen(self) -> None:
        assert self._timeout is not None
        now = self._loop.time()
        if self._silence is None:
            why = self._patient.diagnose(now)
        else:
            silent = self._silence.observe(self._beats, now) > self._timeout
            why = f"no WATCHDOG=1 for {self._timeout:g} s" if silent else None
        if why is None:
            self._timers["heart"] = self._loop.call_later(self._timeout / 4, self._listen)
        else:
            self._lost(why)

    def _weigh(self) -> None:
        age = time.monotonic() - self._born
        memory = 0 if self._limits.memory is None else self._patient.memory()
        why = self._limits.exceeded(memory, age)
        if why is None and self._limits.tasks is not None and self._patient.work >= self._limits.tasks:
            why = f"it has done {self._patient.work} pieces of work"
        if why is None:
            self._timers["scales"] = self._loop.call_later(self._pause(age), self._weigh)
        else:
            self._spent(why)

    def _pause(self, age: float) -> float:
        """Return when to look again: at once where only time can tell, else every second."""
        left = EVERY if self._limits.age is None else max(0.01, self._limits.age - age)
        alone = self._limits.tasks is None and self._limits.memory is None
        return left if alone else min(EVERY, left)
