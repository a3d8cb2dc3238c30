"""The soak's books: what was asked of the pool, what it may answer, what it has answered, what the journal says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import aioipc

from .fault_functions import Journal
from .soak_functions import expected, work, work_async

ACTS = {
    "return": 60,
    "sleep": 12,
    "compute": 6,
    "raise": 8,
    "large": 3,
    "talk": 2,
    "wait": 4,
    "gamble": 3,
    "die": 1,
    "exit": 1,
    "ignore": 1,
}
ENDLESS = ("wait", "ignore")
DEADLY = ("die", "exit", "gamble")


@dataclass
class Entry:
    """One task, from before it is handed to the pool to its end."""

    number: int
    act: str
    seconds: float
    is_async: bool
    retries: int = 0
    timeout: float | None = None
    retry_on: tuple[type[BaseException], ...] = ()
    priority: int = 0
    cancel_after: float | None = None
    way: str = ""
    """How it came to the pool."""
    cancelled: bool = False
    """Whether somebody asked for that."""
    asked_at: float = field(default_factory=time.monotonic)
    ended_at: int | None = None
    """In nanoseconds of the monotonic clock: nothing of it runs later."""
    outcomes: list[str] = field(default_factory=list)
    job: Any = None

    @property
    def function(self) -> Callable[..., Any]:
        return work_async if self.is_async else work

    @property
    def options(self) -> dict[str, Any]:
        """As `Pool.submit` takes them."""
        names = ("timeout", "retries", "retry_on", "priority")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        kind = "async" if self.is_async else "sync"
        text = f"{self.number} by {self.way}, {kind} {self.act} {self.seconds * 1000:.0f} ms, {self.options}"
        text += ", cancelled" if self.cancelled else ""
        text += f", {self.outcomes}" if self.outcomes else f", for {time.monotonic() - self.asked_at:.1f} s"
        return text + (f", {self.job!r}" if self.job is not None else "")


class Ledger:
    """All entries of a round. What is wrong is written down and failed at the end, with its entry."""

    def __init__(self, journal: Journal, chance: random.Random) -> None:
        self.journal = journal
        self.chance = chance
        self.entries: dict[int, Entry] = {}
        self.open: set[int] = set()
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.last_end = time.monotonic()
        self.closing = False
        """The pool is being left: what has no end of its own is ended."""
        self.dropping = False
        """The pool is left by an exception: whatever has not ended may be cancelled."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    # -- what is asked -------------------------------------------------------------------------------

    def new(self, way: str, *, plain: bool = False) -> Entry:
        """Invent a task; a plain one has no options, ends by itself and is not deadly."""
        chance = self.chance
        acts = {act: weight for act, weight in ACTS.items() if not (plain and act in ENDLESS + DEADLY)}
        entry = Entry(
            next(self._numbers),
            act=chance.choices(list(acts), list(acts.values()))[0],
            seconds=chance.expovariate(1 / 0.01),
            is_async=chance.random() < 0.5,
            way=way,
        )
        if not plain:
            self._add_options(entry)
        self.entries[entry.number] = entry
        self.open.add(entry.number)
        return entry

    def arguments(self, entry: Entry) -> tuple[str, int, str, float]:
        """What its function is called with."""
        return self.journal.path, entry.number, entry.act, entry.seconds

    def _add_options(self, entry: Entry) -> None:
        chance = self.chance
        entry.retries = chance.choice([0, 0, 0, 1, 2, 5])
        entry.priority = chance.choice([-1, 0, 0, 0, 0, 1])
        endless = entry.act in ENDLESS
        if chance.random() < (0.5 if endless else 0.08):
            entry.timeout = 0.005 + chance.expovariate(1 / 0.1)
        if chance.random() < 0.1 or (endless and entry.timeout is None):
            entry.cancel_after = chance.choice([0.0, chance.expovariate(1 / 0.05)])
        if entry.retries and chance.random() < 0.3:
            entry.retry_on = chance.choice([(LookupError,), (aioipc.TaskTimeout,), (LookupError, aioipc.TaskTimeout)])

    # -- what comes back -----------------------------------------------------------------------------

    def ended(self, entry: Entry, future: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
        """Book the end of a job or future."""
        if future.cancelled():
            self.book(entry, asyncio.CancelledError())
        else:
            error = future.exception()
            self.book(entry, future.result() if error is None else error)

    def book(self, entry: Entry, outcome: Any) -> None:
        """Book a result, or an exception, and judge whether it may be."""
        now = time.monotonic_ns()
        with self._lock:  # threads book what they have cancelled
            self._book(entry, outcome, now)

    def _book(self, entry: Entry, outcome: Any, now: int) -> None:
        self.last_end = now / 1e9
        entry.ended_at = now
        name = type(outcome).__name__ if isinstance(outcome, BaseException) else "result"
        entry.outcomes.append(name)
        self.open.discard(entry.number)
        self.counts[name] += 1
        if (problem := self._judge(entry, outcome)) is not None:
            self.wrong.append(f"{problem}: task {entry}: {outcome!r:.300}")
        if len(entry.outcomes) > 1:
            self.wrong.append(f"settled more than once: task {entry}")
        entry.job = None

    def abandon(self, entries: Iterable[Entry], *, ended: bool) -> None:
        """Nobody will hear of these, as far as they are open; where they have ``ended``, nothing of them runs later."""
        now = time.monotonic_ns()
        for entry in entries:
            if entry.number in self.open:
                self.open.discard(entry.number)
                entry.ended_at = now if ended else None
                entry.outcomes.append("abandoned")
                self.counts["abandoned"] += 1

    def refused(self, entry: Entry) -> None:
        """The pool did not accept it."""
        self.open.discard(entry.number)
        del self.entries[entry.number]

    def _judge(self, entry: Entry, outcome: Any) -> str | None:
        match outcome:
            case asyncio.CancelledError():
                return None if entry.cancelled or self.dropping else "cancelled by nobody"
            case aioipc.PoolClosed():
                return None if self.dropping else "no reason to say so"
            case aioipc.TaskQuarantined():
                return None if entry.retries >= 2 else "quarantined too early"
            case aioipc.WorkerCrashed():
                return None
            case aioipc.TaskTimeout():
                return None if entry.timeout is not None else "it had no timeout"
            case LookupError():
                return None if entry.act == "raise" and outcome.args == (entry.number,) else "not its own exception"
            case BaseException():
                return "an error that nobody has documented"
        if entry.act in ("raise", "die", "exit", *ENDLESS):
            return "it cannot have returned"
        return None if outcome == expected(entry.number, entry.act) else "not its own result"

    # -- the end -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare with the journal, and raise AssertionError with all that is wrong."""
        executions: defaultdict[int, list[int]] = defaultdict(list)
        for line in self.journal.lines():
            number, moment = line.split()
            executions[int(number)].append(int(moment))
        for number, moments in executions.items():
            entry = self.entries[number]
            if len(moments) > 1 + entry.retries:
                self.wrong.append(f"executed {len(moments)} times: task {entry}")
            if entry.ended_at is not None and max(moments) > entry.ended_at:
                late = (max(moments) - entry.ended_at) / 1e6
                self.wrong.append(f"executed {late:.3f} ms after its end: task {entry}")
        for entry in self.entries.values():
            if "result" in entry.outcomes and entry.number not in executions:
                self.wrong.append(f"not executed: task {entry}")
            if entry.way == "executor" and "CancelledError" in entry.outcomes and entry.number in executions:
                self.wrong.append(f"executed in spite of being cancelled: task {entry}")
            if not entry.outcomes:
                self.wrong.append(f"never settled: task {entry}")
        assert not self.wrong, f"{len(self.wrong)} things are wrong:\n" + "\n".join(self.wrong[:40])

    def unsettled(self) -> str:
        """The tasks that have not ended, for a report."""
        entries = [self.entries[number] for number in sorted(self.open.copy())]
        return "\n".join([f"{len(entries)} tasks have not ended", *(f"  {entry}" for entry in entries[:40])])
