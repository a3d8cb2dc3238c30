"""A task as the pool keeps it, and the future a user gets for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from .functions import Function
    from .master import Master

T = TypeVar("T")
State = Literal["queued", "running", "cancelling", "done"]


class Sink(Protocol):
    """Where a task's end goes. Exactly one of the three is called, once."""

    def succeed(self, task: Task, value: Any) -> None:
        """The function returned ``value``."""

    def fail(self, task: Task, error: BaseException) -> None:
        """The function raised, or could not be run to its end."""

    def stopped(self, task: Task) -> None:
        """The task was cancelled, and nothing of it runs any more."""


class Task:
    """One accepted call, until it settles."""

    __slots__ = (
        "attempts",
        "ending",
        "envelopes",
        "estimate",
        "function",
        "number",
        "payload",
        "priority",
        "result_size",
        "retries",
        "retry_on",
        "seat",
        "sink",
        "slot",
        "solo_deaths",
        "suspect",
        "timeout",
    )

    def __init__(
        self,
        number: int,
        function: Function,
        payload: bytes,
        sink: Sink,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: tuple[type[BaseException], ...] = (),
        priority: int = 0,
    ) -> None:
        self.number: int = number
        self.function: Function = function
        self.payload: bytes = payload
        self.sink: Sink | None = sink
        """``None`` once it has settled."""
        self.timeout: float | None = timeout
        self.retries: int = retries
        self.retry_on: tuple[type[BaseException], ...] = retry_on
        self.priority: int = priority
        self.attempts: int = 0
        """How often it was started and came to no end."""
        self.solo_deaths: int = 0
        """How many workers died while they ran it alone."""
        self.suspect: bool = False
        """A worker died while it ran this among others: next time it runs alone."""
        self.ending: Literal["cancel", "timeout"] | None = None
        """Why it is being stopped while it runs, if it is."""
        self.seat: int = -1
        """The worker it was sent to; -1 while it is queued."""
        self.slot: int = -1
        self.estimate: float = 0.0
        self.result_size: int = 0
        """Bytes of its result as it came."""
        self.envelopes: int = 0
        """CONTEXT and STREAM, as far as the payload is packed so."""

    def __repr__(self) -> str:
        return f"{self.function.name}, task {self.number}"

    def claim(self) -> bool:
        """Say that it is about to be sent; False where another thread has cancelled it."""
        return True


class Job(asyncio.Future[T]):
    """The future of a submitted task: await it, or cancel it.

    ``cancel()`` ends the work for real: a queued task is never started; one that runs is cancelled in its
    worker (``CancelledError`` in an async function, ``KeyboardInterrupt`` in a sync one) and killed with its
    worker if it has not ended after the pool's ``grace``. The job is cancelled when that has happened, not
    before; until then ``state`` is ``"cancelling"``. Cancelling a task that awaits the job cancels the job.
    """

    _master: Master
    _task: Task
    _message: Any | None = None

    @property
    def state(self) -> State:
        """``"queued"``, ``"running"`` (or waiting in a worker), ``"cancelling"`` or ``"done"``."""
        if self.done():
            return "done"
        if self._task.ending == "cancel":
            return "cancelling"
        return "queued" if self._task.seat < 0 else "running"

    @property
    def worker(self) -> int | None:
        """The number of the worker that has the task, or had it last; ``None`` while it is queued."""
        return None if self._task.seat < 0 else self._task.seat

    def cancel(self, msg: Any | None = None) -> bool:
        """Have the work ended and the job cancelled; False where it is done already.

        The job is cancelled when the work has ended, which for a task that runs is later than this returns.
        """
        if self.done():
            return False
        self._message = msg  # anyio knows its own cancellations by it
        self._master.cancel(self._task)
        return True

    def __repr__(self) -> str:
        return f"<Job {self._task!r}, {self.state}>"

    # -- Sink ----------------------------------------------------------------------------------------

    def succeed(self, task: Task, value: T) -> None:
        """See `Sink`."""
        self.set_result(value)

    def fail(self, task: Task, error: BaseException) -> None:
        """See `Sink`."""
        self.set_exception(error)

    def stopped(self, task: Task) -> None:
        """See `Sink`."""
        super().cancel(self._message)
