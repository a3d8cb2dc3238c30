"""A pool that a supervisor has opened: from the request for it to its end, as the supervisor sees it.

It is opened and closed as any pool is, by a task of its own, that waits in an ``async with`` for the request to leave
it. Left in that way it finishes what it has accepted; whoever has asked kills it when that takes too long. Killed, it
fails what it has with errors, instead of cancelling it: nobody who waits for a result here has asked for its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ..exceptions import IPCError, PoolClosed, WorkerBootError
from ..supervisor.child import ExitReport
from ..supervisor.child_handle import HandleOwner
from ..supervisor.process_handle import ProcessState
from .pool import Pool
from .statistics import PoolStatistics

_log = logging.getLogger("aioipc.pool")
_KILLED = -9


class HostedPool:
    """See `PoolHandle` and `PoolHost`. ``name`` is what the child is called, with the names that lead to it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        pool: Pool,
        owner: HandleOwner,
        on_doom: Callable[[], None],
    ) -> None:
        self.name: str = name
        self.pool: Pool = pool
        self.state: ProcessState = "STARTING"
        self.was_ready: bool = False
        self.kill_reason: str = ""
        self.stacks: str = ""
        self._loop = loop
        self._owner = owner
        self._on_doom = on_doom
        self._leave = asyncio.Event()
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        pool._host = self

    def start(self) -> None:
        """See `PoolHandle`."""
        self._task = self._loop.create_task(self._live())

    async def _live(self) -> None:
        try:
            if not self._leave.is_set():  # else it was stopped before its turn came
                async with self.pool:
                    self._is_ready()
                    await self._leave.wait()
        except asyncio.CancelledError:  # by somebody who ends all tasks of the loop
            self.kill_reason = self.kill_reason or "its task was cancelled"
            raise
        except Exception as error:
            self._error = self._error or error
            if not isinstance(error, IPCError | OSError):
                _log.exception("the pool %s has failed", self.name)
        finally:
            self.state = "EXITED"
            self._tell_end()

    def _is_ready(self) -> None:
        if not self._leave.is_set():
            self.state, self.was_ready = "RUNNING", True
            self._owner.spawned(self, self.pid or 0)
            self._owner.ready(self)

    def _tell_end(self) -> None:
        error = self._error
        if self.kill_reason:
            self._owner.exited(self, ExitReport(_KILLED, self.kill_reason))
        elif isinstance(error, OSError):
            self._owner.refused(self, f"the pool cannot be opened: {error}", error.errno)
        elif error is not None:
            code = error.exitcode if isinstance(error, WorkerBootError) else None
            self._owner.exited(self, ExitReport(code or 1, f"was given up: {error}".rstrip()))
        else:
            self._owner.exited(self, ExitReport(0, "was closed"))

    # -- PoolHandle ------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process id of its zygote, while it is open."""
        return None if (found := self._open_statistics()) is None else found.zygote_pid

    @property
    def work(self) -> int:
        """How many tasks have settled."""
        return 0 if (found := self.statistics()) is None else found.submitted - found.pending

    def memory(self) -> int:
        """Return how many bytes of memory its workers have for themselves."""
        return sum(worker.memory() for worker in self.pool._workers())

    def statistics(self) -> PoolStatistics | None:
        """Return what it is doing, or has done; ``None`` before it was opened."""
        with suppress(PoolClosed):
            return self.pool.statistics()
        return None

    def _open_statistics(self) -> PoolStatistics | None:
        return None if self.state == "EXITED" else self.statistics()

    def stderr_tail(self) -> str:
        """Return the end of what the last worker wrote to standard error that could not start."""
        return self._error.stderr if isinstance(self._error, WorkerBootError) else ""

    def diagnose(self, now: float) -> str | None:
        """See `ChildHandle`: it looks after its workers by itself."""
        return None

    def assume_ready(self) -> None:
        """See `ChildHandle`: nobody but the pool knows that."""

    def send_signal(self, signum: int, *, group: bool = True) -> int:
        """Send a signal to its workers; returns to how many."""
        return sum(worker.send_signal(signum, group=group) for worker in self.pool._workers() if worker.pid)

    def stop(self, deadline: float) -> None:
        """See `ChildHandle`: it takes no more tasks and finishes those it has."""
        if not self.was_ready:
            self.kill("it was stopped before it was ready")
        else:
            self._leave_soon()

    def kill(self, reason: str) -> None:
        """See `ChildHandle`."""
        self._kill(reason, dump=False)

    def condemn(self, reason: str) -> None:
        """See `ChildHandle`: what its busy workers are doing is in the log, and in the errors of their tasks."""
        self._kill(reason, dump=True)

    def _kill(self, reason: str, *, dump: bool) -> None:
        if self.state != "EXITED":
            self.kill_reason = self.kill_reason or reason
            self._leave_soon()
            self.pool._kill(reason, dump=dump)

    def _leave_soon(self) -> None:
        if self.state != "EXITED":
            self.state = "STOPPING"
            self._leave.set()

    def close(self) -> None:
        """See `ChildHandle`."""
        if self._task is not None:
            self._task.cancel()

    # -- PoolHost --------------------------------------------------------------------------------------------

    @property
    def advice(self) -> str:
        """See `PoolHost`."""
        return f"; await supervisor.wait_ready({self.name!r}), then supervisor.pool({self.name!r}) is one that does"

    def pool_closing(self, error: WorkerBootError | PoolClosed | None) -> None:
        """See `PoolHost`."""
        self._error = self._error or error
        self._leave_soon()

    def pool_doomed(self) -> None:
        """See `PoolHost`: everything that the supervisor has is about to end."""
        self._on_doom()
