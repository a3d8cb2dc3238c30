"""`Supervisor`: services that never stay down."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .._loop.finish import finish
from ..exceptions import ClosedResourceError, ReloadFailed, SerializationError, UnsupportedPlatform
from .checks import check_count, check_seconds
from .driver import Driver
from .events import DeleteChild, RestartChild, Scale, StartChild, TerminateChild
from .held_listeners import HeldListeners
from .node_state import Child
from .outcomes import has_any, is_lost, is_replaced, is_scaled, is_started, raise_boot_failure, supervisor_failed
from .serialization import dump
from .serving import has_failed, is_serving, pool_now
from .shutdown import DEFAULT_TIMEOUT, shutdown_deadline
from .socket_activation import take_passed_sockets
from .spec import ChildSpec, SupervisorSpec
from .strategies import Strategy
from .supervisor_statistics import ChildStatistics, SupervisorStatistics, children_of, state_of

if TYPE_CHECKING:
    from ..pool.pool import Pool

_DEFAULTS = SupervisorSpec()


class Supervisor:
    """Processes that are kept running: Python services and programs, started in order, restarted, reloaded, stopped::

        async with aioipc.Supervisor(strategy="one_for_one", intensity=5, period=10) as supervisor:
            await supervisor.start_child(aioipc.ChildSpec("web", serve, replicas=4))
            await supervisor.wait()

    Entering starts the children of the spec in order and returns when all have been ready. Leaving, in whatever way,
    stops all of them in reverse order. Children are named by their name, one below another supervisor by the names that
    lead to it, "backend/db". It works in the loop of any thread and touches no signals: under `aioipc.run` or in a
    `graceful_shutdown` its end keeps to their deadline, and a second signal kills all its processes at once.

    Parameters
    ----------
    spec
        The children and the three options that follow, as one value.
    strategy, intensity, period
        As in `SupervisorSpec`, where there is no ``spec``.
    shutdown
        Seconds that everything together may take to stop before the rest is killed.
    socket_activation
        Take the listening sockets that a service manager has passed to this process (``sd_listen_fds(3)``): children
        name them "fd://name", or find them by their address.

    Raises TypeError and ValueError for options that cannot be. Entering raises SupervisorFailed where a child cannot
    get ready, SerializationError where a function cannot be sent to another process, OSError where it cannot listen
    at an address, UnsupportedPlatform elsewhere than on Linux; then nothing is left running.
    """

    def __init__(
        self,
        spec: SupervisorSpec | None = None,
        *,
        strategy: Strategy = _DEFAULTS.strategy,
        intensity: int | None = _DEFAULTS.intensity,
        period: float = _DEFAULTS.period,
        shutdown: float = DEFAULT_TIMEOUT,
        socket_activation: bool = False,
    ) -> None:
        given = SupervisorSpec(strategy=strategy, intensity=intensity, period=period)
        if spec is not None:
            if not isinstance(spec, SupervisorSpec):
                raise TypeError(f"spec must be a SupervisorSpec, not {spec!r}")
            if given != _DEFAULTS:
                raise ValueError("strategy, intensity and period belong into the spec where there is one")
        self._spec = given if spec is None else spec
        self._shutdown = check_seconds("shutdown", shutdown)
        self._socket_activation = socket_activation
        self._driver: Driver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened_at = 0.0
        self._generation = 0
        self._signals = 0
        self._ending: asyncio.Task[None] | None = None
        self._deadline = float("inf")
        self._failure_seen = False

    def __repr__(self) -> str:
        if (driver := self._driver) is None:
            return "<Supervisor, not entered>"
        count = sum(len(node.state.children) for node in driver.tree.nodes.values())
        return f"<Supervisor of {count} children, {state_of(driver)}>"

    def __del__(self) -> None:
        if getattr(self, "_driver", None) is not None and self._ending is None:
            warnings.warn(f"{self!r} was not closed: use 'async with'", ResourceWarning, source=self, stacklevel=2)

    # -- lifetime --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._driver is not None:
            raise ClosedResourceError("a Supervisor is entered once; make a new one")
        if not sys.platform.startswith("linux"):
            raise UnsupportedPlatform(f"a Supervisor needs Linux; this is {sys.platform}")
        _check_sendable(self._spec.children)
        self._loop = asyncio.get_running_loop()
        held = HeldListeners(take_passed_sockets() if self._socket_activation else None)
        driver = self._driver = Driver(self._loop, self._spec, held)
        self._opened_at = time.monotonic()
        try:
            async with driver.listening((), tuple(self._spec.children)):
                driver.start()
            await driver.wait(lambda: driver.is_up or driver.finished is not None)
            self._raise_failure(driver)
        except BaseException:
            await self._end(self._shutdown)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(self._shutdown)
        if kind is None and not self._failure_seen and self._driver is not None:
            self._raise_failure(self._driver)

    async def wait(self) -> None:
        """Wait until the supervisor has ended: by `shutdown`, or because it gave up.

        Raises SupervisorFailed where it gave up. Cancelling it changes nothing.
        """
        driver = self._entered()
        await driver.wait(lambda: driver.finished is not None)
        self._raise_failure(driver)

    async def shutdown(self, timeout: float | None = None, *, quick: bool = False) -> None:
        """Stop all children in reverse order, and the supervisor; returns when no process is left.

        ``timeout`` is after how many seconds the rest is killed, by default what the supervisor was made with; never
        later than the deadline of a shutdown of the whole program. ``quick`` kills everything at once. It may be called
        again to make it quicker. Cancelled: it goes on, and CancelledError comes out when it has ended. Raises
        ClosedResourceError where it was never entered, TypeError or ValueError for a wrong timeout.
        """
        self._entered()
        await self._end(self._shutdown if timeout is None else check_seconds("timeout", timeout), quick=quick)

    async def _end(self, timeout: float, *, quick: bool = False) -> None:
        driver, loop = self._driver, self._loop
        assert driver is not None
        assert loop is not None
        self._deadline = min(self._deadline, time.monotonic() + timeout)
        if self._ending is None:
            self._ending = loop.create_task(driver.aclose(self._end_by))
        if quick or driver.finished is None:
            driver.shut_down(self._end_by, quick=quick)
        await finish(self._ending)

    def _end_by(self) -> float:
        """Return the deadline by the monotonic clock."""
        assert self._loop is not None
        return min(self._deadline, time.monotonic() + (shutdown_deadline() - self._loop.time()))

    def _raise_failure(self, driver: Driver) -> None:
        if driver.fault is not None:
            raise driver.fault
        if driver.finished is None or (failure := driver.finished.failure) is None:
            return
        self._failure_seen = True
        raise supervisor_failed(driver, failure)

    # -- children --------------------------------------------------------------------------------------------

    async def start_child(self, spec: ChildSpec) -> None:
        """Add a child behind the others and start it; returns when it is ready, without a ``gate`` at once.

        Raises WorkerBootError where it cannot get ready, SerializationError where its function cannot be sent, OSError
        where it cannot listen, TypeError or ValueError where it is no ChildSpec or its name is taken, and
        ClosedResourceError once the supervisor stops. Where it raises, or is cancelled, there is no such child.
        """
        driver = self._open()
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"a child must be a ChildSpec, not {spec!r}")
        _check_sendable([spec])
        if any(child.name == spec.name for child in driver.tree.root.state.children):
            raise ValueError(f"there is a child {spec.name!r} already")
        async with driver.listening((), (spec,)):
            driver.command(StartChild(spec))
        child = driver.tree.root.state.children[-1]
        try:
            if spec.gate:
                await self._until(driver, lambda: is_started(child))
            raise_boot_failure(driver, (spec.name,), child)
        except BaseException:
            root = driver.tree.root.state
            if child in root.children and child.goal != "deleted" and not root.stopping:
                driver.command(DeleteChild(spec.name))
            raise

    async def terminate_child(self, name: str) -> None:
        """Stop a child; returns when its processes of now are gone. It stays down until `restart_child`.

        Raises LookupError where there is none, ClosedResourceError once the supervisor stops. Cancelled: it goes on.
        """
        driver, path, child = self._find(name)
        old = {process.key for process in child.processes()}
        driver.command(TerminateChild(path[-1]), path[:-1])
        await self._until(driver, lambda: not has_any(child, old))

    async def restart_child(self, name: str) -> None:
        """Start a child that is down or has failed; replace the processes of one that runs, as in a reload.

        A process that is being started is new enough. Returns when what is new is ready and what was there is gone.
        Raises WorkerBootError where it cannot get ready (what ran goes on then, and it is tried again after a while),
        LookupError where there is no such child, ClosedResourceError once the supervisor stops. Cancelled: it goes on.
        """
        driver, path, child = self._find(name)
        old = {process.key for process in child.processes() if process.state != "STARTING"}
        driver.problems.pop(path, None)
        driver.command(RestartChild(path[-1]), path[:-1])
        await self._until(driver, lambda: path in driver.problems or is_replaced(child, old))
        raise_boot_failure(driver, path, child)

    async def delete_child(self, name: str) -> None:
        """Stop a child and forget it; returns when its processes are gone and its listeners closed.

        Raises LookupError where there is none, ClosedResourceError once the supervisor stops. Cancelled: it goes on.
        """
        driver, path, child = self._find(name)
        driver.command(DeleteChild(path[-1]), path[:-1])
        await self._until(driver, lambda: not child.processes())

    def signal_child(self, name: str, signum: int, replica: int | None = None) -> int:
        """Send a signal to the processes of a child, or of one of its replicas; returns to how many. Those of a pool
        are its workers.

        SIGKILL, SIGSTOP and SIGCONT go to all that they have started, too. Those that end by it are started again as
        their spec says, which counts as one restart. Raises LookupError where there is no such child or replica,
        TypeError or ValueError where that is no signal, ClosedResourceError once the supervisor stops.
        """
        driver, path, child = self._find(name)
        if check_count("signum", signum) not in signal.valid_signals():
            raise ValueError(f"signum must be a signal, not {signum}")
        slots = [slot for slot in child.slots if replica in (None, slot.number)]
        if replica is not None and not slots:
            raise LookupError(f"there is no replica {replica} of {name!r}")
        if child.spec.supervisor is not None:
            raise LookupError(f"{'/'.join(path)!r} is a supervisor and has no process")
        keys = [process.key for slot in slots for process in slot.processes()]
        found = [driver.processes[key] for key in keys if key in driver.processes]
        self._signals += 1
        why = f"signal {signum}, the {self._signals}. that was asked for"
        return sum(process.send_signal(signum, why) for process in found if process.handle.pid is not None)

    async def scale(self, name: str, replicas: int) -> None:
        """Have so many replicas of a child, at least one; returns when they are ready, and what is too many is gone.

        Raises WorkerBootError where they cannot get ready, LookupError where there is no such child, TypeError or
        ValueError for a wrong number, ClosedResourceError once the supervisor stops. Cancelled: it goes on.
        """
        driver, path, child = self._find(name)
        driver.command(Scale(path[-1], replicas), path[:-1])
        await self._until(driver, lambda: is_scaled(child))
        if is_lost(child):
            raise_boot_failure(driver, path, child)

    async def reload(self, spec: SupervisorSpec | None = None) -> None:
        """Replace every process by one with the code, environment and files of now, and take on a new spec if given.

        Child by child in start order; a replacement is ready before the old process is asked to stop. New children
        are started, and those that are not in ``spec`` any more stopped, when all others have been replaced; those of
        `start_child` stay, and one that ``spec`` names is its own from then on. Returns when all that is done and new
        children are ready.

        Raises ReloadFailed where a replacement cannot get ready: what ran goes on as before. Raises SerializationError
        and OSError as entering does, TypeError or ValueError for a spec that cannot be, ClosedResourceError once the
        supervisor stops. A reload that comes during another one waits for it. Cancelled: it goes on.
        """
        driver = self._open()
        if spec is not None and not isinstance(spec, SupervisorSpec):
            raise TypeError(f"spec must be a SupervisorSpec, not {spec!r}")
        children = tuple(spec.children) if spec is not None else ()
        _check_sendable(children)
        async with driver.listening((), children):
            generation = self._generation + 1
            ended = driver.reload(generation, spec)
            self._generation = generation
        await self._until(driver, ended.done)
        if (failure := ended.result()) is not None:
            raise ReloadFailed(f"the reload was given up: {failure}")
        new = [child for child in driver.tree.root.state.children if child.spec in children and child.goal == "up"]
        await self._until(driver, lambda: all(is_started(child) for child in new))
        if failed := [driver.problems.get((child.name,), child.name) for child in new if is_lost(child)]:
            raise ReloadFailed(f"all that ran before was reloaded, but {'; '.join(failed)}")

    def pool(self, name: str) -> Pool:
        """Return the pool of a child, the one that serves at the moment: ask anew for each task, or few of them::

            result = await supervisor.pool("jobs").run(function, 1)

        A pool that has been replaced, or is stopped, takes no more tasks, but finishes those that it has. Raises
        PoolClosed where none serves at the moment, as `wait_ready` can tell, LookupError where there is no such child,
        TypeError where it is no pool, ClosedResourceError where the supervisor was never entered.
        """
        return pool_now(self._entered(), _path(name))

    async def wait_ready(self, name: str) -> None:
        """Wait until all processes of a child are RUNNING, or the pool that it is; return at once where they are.

        Raises LookupError where there is no such child, or no more, WorkerBootError where it could not get ready and
        was given up, SupervisorFailed where the supervisor gives up, ClosedResourceError once it stops. Cancelling it
        changes nothing.
        """
        driver, path = self._open(), _path(name)

        def is_known() -> bool:
            with contextlib.suppress(LookupError):
                return is_serving(driver, path) or has_failed(driver, path)
            return True

        await self._until(driver, is_known)
        if has_failed(driver, path):
            raise_boot_failure(driver, path, driver.tree.nodes[path[:-1]].state.child(path[-1]))

    def children(self) -> tuple[ChildStatistics, ...]:
        """Return what the children are doing, at any depth, in start order. Raises ClosedResourceError where the
        supervisor was never entered.
        """
        return children_of(self._entered())

    def statistics(self) -> SupervisorStatistics:
        """Return what the supervisor is doing, or did last. Raises ClosedResourceError where it was never entered."""
        driver = self._entered()
        children = children_of(driver)
        return SupervisorStatistics(
            state=state_of(driver),
            generation=self._generation,
            uptime=time.monotonic() - self._opened_at,
            restarts=sum(each.restarts for child in children for each in child.processes if each.role == "serving"),
            overdue=driver.overdue,
            zygotes=driver.generations.pids,
            children=children,
        )

    # -- what they have in common ----------------------------------------------------------------------------

    def _entered(self) -> Driver:
        if self._driver is None:
            raise ClosedResourceError("the supervisor was not entered: use 'async with'")
        return self._driver

    def _open(self) -> Driver:
        driver = self._entered()
        if driver.tree.root.state.stopping:
            raise ClosedResourceError("the supervisor is stopping")
        return driver

    def _find(self, name: str) -> tuple[Driver, tuple[str, ...], Child]:
        """Return the child with this name and the names that lead to it; raises LookupError, TypeError."""
        driver, path = self._open(), _path(name)
        if (node := driver.tree.nodes.get(path[:-1])) is None:
            raise LookupError(f"there is no child {name!r}")
        return driver, path, node.state.child(path[-1])

    async def _until(self, driver: Driver, condition: Callable[[], bool]) -> None:
        """Wait until that is so; raises SupervisorFailed or ClosedResourceError where the supervisor ends before."""
        await driver.wait(lambda: condition() or driver.tree.root.state.stopping)
        if not condition():
            await driver.wait(lambda: driver.finished is not None)
            self._raise_failure(driver)
            raise ClosedResourceError("the supervisor has stopped")


def _path(name: object) -> tuple[str, ...]:
    """Return the names that lead to a child; raises TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a child must be a str, not {name!r}")
    return tuple(name.split("/"))


def _check_sendable(children: Sequence[ChildSpec]) -> None:
    """Raise SerializationError where a function cannot be sent to another process."""
    for child in children:
        if child.supervisor is not None:
            _check_sendable(child.supervisor.children)
        elif child.pool is not None:
            child.pool.check_sendable()
        elif child.kind == "function" and not isinstance(child.target, str):
            try:
                dump(child.target)
            except Exception as error:
                raise SerializationError(f"child {child.name!r}: its function cannot be sent: {error}") from error
