"""Carries out what the core of a supervisor decides, and tells it what happened: one loop, one timer, no task.

    Tree.step ── Spawn, Stop, Kill ──> Supervised ── zygote, links, sd_notify, heartbeats
        ^                                  │
        └──── Spawned, Ready, Exited … ────┘

What happens to processes is told to the core in the next turn of the loop, so that no action is carried out in the
midst of another, and a zygote that has died is known to have before its children are started anew. Commands are given
to the core at once, since they may be refused.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .actions import Action, Escalate, Finished, Kill, Reloaded, ReloadNested, Report, Spawn, Stop, Up
from .events import Command, Exited, ProcessEvent, ProcessKey, Reload, Shutdown, SpawnFailed, Tick
from .foreign_zombies import ForeignReaper
from .generations import Generations
from .held_listeners import HeldListeners
from .leases import Leases, Path
from .notify_receiver import NotifyDirectory
from .service_control import EXIT_DEADLINE
from .spec import ChildSpec, SupervisorSpec
from .supervised import Ending, Resources, Supervised
from .tree import Tree
from .zygote import LATE

_log = logging.getLogger("aioipc.supervisor")
_ASK_AGAIN = 0.5
_CATCH_UP = 0.2
"""Seconds that are given then to hear what was said in time."""
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Driver:
    """A tree of supervisors that runs. `start` starts its children; `aclose` is to be called in any case."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spec: SupervisorSpec, held: HeldListeners) -> None:
        self.tree: Tree = Tree(spec)
        self.processes: dict[ProcessKey, Supervised] = {}
        self.endings: dict[tuple[Path, int], Ending] = {}
        """How the last process of each slot has ended."""
        self.problems: dict[Path, str] = {}
        """Why a child, or the last replacement of one of its processes, could not get ready."""
        self._shown: dict[Path, str] = {}
        """What the last process of a child that was not ready in the end wrote to standard error."""
        self.is_up: bool = False
        """Every child has been ready once."""
        self.finished: Finished | None = None
        """How it has ended, when it has."""
        self.fault: BaseException | None = None
        """An error of this package that has ended it."""
        self.overdue: int = 0
        """How many processes did not stop in time while all was stopped."""
        self.generations: Generations = Generations(loop, self._doomed)
        self.leases: Leases = Leases(held)
        self._reloads: dict[int, asyncio.Future[str | None]] = {}
        """Those that have not ended, by generation."""
        self._notify = NotifyDirectory()
        self._resources = Resources(loop, self.generations, self.leases, self._notify, self._doomed)
        self._reaper = ForeignReaper(loop)
        self._quick = False
        self._loop = loop
        self._events: deque[ProcessEvent] = deque()
        self._due: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = math.inf
        self._catching_up = False
        self._hurry: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Start the children."""
        self._reaper.start()
        self._step(Tick())
        self._settle()

    def command(self, command: Command, at: Path = ()) -> None:
        """Do what is commanded, of the supervisor ``at`` these names; raises what `Tree.step` raises."""
        self._drain()
        try:
            self._carry_out(self.tree.step(command, self._now(), at=at))
        finally:
            self._settle()

    def reload(self, generation: int, spec: SupervisorSpec | None) -> asyncio.Future[str | None]:
        """Begin to reload everything; when that has ended the future has what was wrong. Raises as `command`."""
        ended = self._reloads[generation] = self._loop.create_future()
        try:
            self.command(Reload(generation, spec))
        except BaseException:
            self._reloads.pop(generation, None)
            raise
        return ended

    @asynccontextmanager
    async def listening(self, path: Path, specs: tuple[ChildSpec, ...]) -> AsyncIterator[None]:
        """Hold the listeners of children that are about to be added below ``path``; see `Leases.acquired`."""
        try:
            async with self.leases.acquired(path, specs):
                yield
        finally:
            self._settle()

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until that is so; it is looked at whenever anything has happened. Raises what has ended the driver."""
        while not condition():
            if self.fault is not None:
                raise self.fault
            future = self._loop.create_future()
            self._waiters.append(future)
            try:
                await future
            finally:
                if future in self._waiters:
                    self._waiters.remove(future)

    def shut_down(self, deadline: Callable[[], float], *, quick: bool = False) -> None:
        """Begin to stop everything by ``deadline()`` (monotonic clock), in reverse order, or by an earlier one.

        It is asked again now and then: it may come closer meanwhile.
        """
        if self.finished is None and self.fault is None:
            if self._hurry is not None:
                self._hurry.cancel()
            self._hurry = self._loop.call_later(_ASK_AGAIN, self.shut_down, deadline)
            self._quick = self._quick or quick
            self.command(Shutdown(deadline(), quick))

    async def aclose(self, deadline: Callable[[], float]) -> None:
        """Stop everything, see `shut_down`, and let go of all that was held."""
        try:
            self.shut_down(deadline)
            await self.wait(lambda: self.finished is not None)
        except BaseException as error:
            _log.error("the supervisor ends its processes at once: %s", error)
        finally:
            await self.generations.aclose()
            for process in list(self.processes.values()):  # those that not even SIGKILL has ended
                process.close()
                process.handle.close()
            for handle in (self._timer, self._due, self._hurry):
                if handle is not None:
                    handle.cancel()
            self._reaper.close()
            self.leases.close()
            self._notify.close()

    # -- events ----------------------------------------------------------------------------------------------

    def _post(self, event: ProcessEvent) -> None:
        self._events.append(event)
        if self._due is None:
            self._due = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = None
        self._drain()
        self._settle()

    def _drain(self) -> None:
        while self._events:
            event = self._events.popleft()
            self._step(event)
            if isinstance(event, Exited | SpawnFailed):
                self.processes.pop(event.key, None)

    def _tick(self) -> None:
        self._timer = None
        self._drain()
        if time.monotonic() - self._due_at > LATE and not self._catching_up:
            self._catching_up = True
            self._timer = self._loop.call_later(_CATCH_UP, self._tick)
            return
        self._catching_up = False
        self._due_at = math.inf
        self._step(Tick())
        self._settle()

    def _now(self) -> float:
        """Return the time; before the next deadline until that is acted on, for what was said in time may be heard
        after it.
        """
        return min(time.monotonic(), math.nextafter(self._due_at, -math.inf))

    def _step(self, event: ProcessEvent | Tick) -> None:
        try:
            self._carry_out(self.tree.step(event, self._now()))
        except Exception as error:  # a fault of this package: nobody decides any more, so nothing may go on
            _log.exception("the supervisor has failed at %r: all its processes are killed", event)
            self.fault = error
            for process in self.processes.values():
                process.handle.kill("the supervisor has failed")

    def _settle(self) -> None:
        """After every step: see to the timer, to what is needed no more, and to those that wait for something."""
        if not self._catching_up:
            self._set_timer()
        self.generations.keep(self.tree.generations)
        self.leases.keep(self.tree)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.tree.next_deadline() if self.fault is None else None
        self._due_at = math.inf if due is None else due
        if self._due_at != math.inf:
            self._timer = self._loop.call_later(max(0.0, self._due_at - time.monotonic()), self._tick)

    def _doomed(self) -> None:
        """The program is told to end at once, perhaps in another thread: start nothing any more."""
        self._loop.call_soon_threadsafe(self._quit)

    def _quit(self) -> None:
        if self.finished is None:
            self._quick = True
            self.command(Shutdown(time.monotonic(), quick=True))

    # -- actions ---------------------------------------------------------------------------------------------

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    self._spawn(action)
                case Stop(key, deadline, _):
                    if (process := self.processes.get(key)) is not None:
                        process.stop(deadline)
                case Kill(key, why, dump):
                    if (process := self.processes.get(key)) is not None:
                        self.overdue += self._is_ending and process.spec.shutdown != "brutal_kill"
                        process.kill(why, dump=dump)
                case Report():
                    self._report(action)
                case Up():
                    self.is_up = True
                case Reloaded(_, generation, failure):
                    if (ended := self._reloads.pop(generation, None)) is not None and not ended.done():
                        ended.set_result(failure)
                case Finished():
                    self.finished = action
                case Escalate() | ReloadNested():  # said by a report; within the tree
                    pass

    def _spawn(self, action: Spawn) -> None:
        try:
            self.processes[action.key] = Supervised(self._resources, action, self._post, self._note_ending)
        except Exception as error:  # no descriptors, no memory, no fork: to be tried again after a pause
            text = f"it could not be asked for: {error}"
            self._note_ending(action.key, Ending(text))
            self._post(SpawnFailed(action.key, text))

    @property
    def _is_ending(self) -> bool:
        """Whether everything is being stopped, with time for each to do so."""
        root = self.tree.root.state
        return root.stopping and root.failure is None and not self._quick

    def _note_ending(self, key: ProcessKey, ending: Ending) -> None:
        if ending.code == EXIT_DEADLINE and self._is_ending:
            self.overdue += 1
        self.endings[key.path, key.slot] = ending

    def last_ending(self, path: Path) -> Ending | None:
        """Return how a process of a child, or of one below it, has ended; one that says something on standard error."""
        found = [ending for (where, _), ending in self.endings.items() if where[: len(path)] == path]
        return max(found, key=lambda ending: bool(ending.stderr), default=None)

    def _report(self, report: Report) -> None:
        if report.what in ("failed", "replacement-failed"):
            self.problems[report.path] = report.why
        elif report.what == "removed":
            self._forget(report.path)
        elif report.what == "reloading":
            self._shown.clear()
        process = self.processes.get(report.key) if report.key is not None else None
        if process is not None and report.what == "ready":
            self._shown.pop(report.path, None)
            process.is_ready()
        who = str(process or report.key or "/".join(report.path) or "the supervisor")
        why, _, more = report.why.partition("\n")
        if report.what == "exited":
            why += self._details(report, process, more)
        about = {} if report.key is None else {"service": "/".join(report.path), "worker": report.key.slot}
        _log.log(_LEVELS[report.level], "%s %s: %s", who, report.what, why, extra=about)

    def _details(self, report: Report, process: Supervised | None, stderr: str) -> str:
        """Return what else is to be said of an end; what was written to standard error once, and nowhere else."""
        usage = f" ({process.usage})" if process is not None and process.usage else ""
        if not stderr:
            return usage
        if stderr in self._shown.values():
            return f"{usage}; it wrote the same to standard error as the one before"
        self._shown[report.path] = stderr
        return f"{usage}\n{stderr}"

    def _forget(self, path: Path) -> None:
        """A child is no more, with all that was below it."""
        for each in [each for each in self.endings if each[0][: len(path)] == path]:
            del self.endings[each]
        for known in (self.problems, self._shown):
            for where in [where for where in known if where[: len(path)] == path]:
                del known[where]
