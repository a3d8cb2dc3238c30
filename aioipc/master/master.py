"""A master as a process: one supervisor, and what the world outside tells it and hears from it.

SIGTERM, SIGINT, SIGQUIT, SIGHUP …   ──>  Master  ──>  Supervisor
control socket (control_server.py)   ──>     │
service manager (sd_notify)          <──     ┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from .._loop.signal_routing import Subscription
from ..exceptions import ClosedResourceError, IPCError, ReloadFailed, SupervisorFailed
from ..kernel.state_directory import VARIABLE, candidates
from ..supervisor.notify_sender import NotifySender
from ..supervisor.spec import ChildSpec, SupervisorSpec
from ..supervisor.spec_changes import compare_specs
from ..supervisor.supervisor import Supervisor
from .control_commands import ControlCommands
from .control_place import announce, clear_links, default_paths
from .control_server import ControlServer
from .log_tail import LogTail
from .state_dump import dump_lines

EXIT_OVERDUE, EXIT_BOOT, EXIT_GAVE_UP = 1, 3, 4
SIGNALS = tuple(
    getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "USR1", "USR2", "WINCH")
)
KILL_TIME = 5.0
"""Seconds that those have to be gone which are killed when the time for a stop is over."""
SAME_REQUEST = 0.2
"""Seconds within which a second SIGTERM or SIGINT is the first one told twice, as by a terminal and a wrapper."""

_log = logging.getLogger("aioipc.master")


class Master:
    """Runs what ``load()`` returns: its first result is ``spec``. `main` is to be awaited once.

    ``shutdown`` is in seconds; ``control`` the path of the control socket, True for the usual place, False for none;
    ``title`` is what it is called; ``adapt`` returns a child that is added as this master runs it.
    """

    def __init__(
        self,
        load: Callable[[], SupervisorSpec],
        spec: SupervisorSpec,
        *,
        shutdown: float,
        control: str | bool,
        title: str,
        tail: LogTail,
        adapt: Callable[[ChildSpec], ChildSpec],
    ) -> None:
        self.title: str = title
        self.supervisor: Supervisor = Supervisor(spec, shutdown=shutdown, socket_activation=True)
        self.adapt: Callable[[ChildSpec], ChildSpec] = adapt
        self._load = load
        self._spec = spec
        self._shutdown = shutdown
        self._control_path = control
        self._tail = tail
        self._notify = NotifySender.from_environ()
        self._control: ControlServer | None = None
        self._link: str | None = None
        self._up = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reload_waits = False
        self._asked_at: float | None = None
        self._quick_code: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def main(self) -> int:
        """Run everything until the end, and return the exit code."""
        loop = self._loop = asyncio.get_running_loop()
        subscription = Subscription(loop, SIGNALS, self)
        self._notify.starting("starting")
        try:
            try:
                self._control = self._listen()
            except (OSError, ValueError) as error:
                _log.error("nothing was started: there can be no control socket: %s", plain_text(error))
                return EXIT_BOOT
            if self._control is not None:
                _log.info("control socket: %s", self._control.path)
            return await self._run()
        finally:
            if self._asked_at is None:
                self._asked_at = loop.time()  # it has ended by itself: no signal is to begin anything any more
            await self._close()
            subscription.close()

    async def _run(self) -> int:
        failure: SupervisorFailed | None = None
        try:
            async with self.supervisor:
                self._is_up()
                await self.supervisor.wait()
        except SupervisorFailed as error:
            failure = error
            self._say_stopping(_first_line(error))
        except (IPCError, OSError, ValueError) as error:
            if self._up.is_set():
                raise
            if self._asked_at is None:  # else the start was broken off
                _log.error("nothing was started: %s", plain_text(error))
                return EXIT_BOOT
        return self._exit_code(failure)

    def _is_up(self) -> None:
        if self._asked_at is None:
            children = [child for child in self.supervisor.children() if child.kind != "supervisor"]
            processes = sum(child.ready for child in children)
            text = f"services {len(children)}, processes {processes}"
            places = (f"{child.name}: {name} at {at}" for child in children for name, at in child.listeners.items())
            _log.info("up: %s", "; ".join([text, *places]))
            self._up.set()
            self._notify.ready(text)
            self._notify.watch(lambda: self.supervisor.statistics().state != "failed")

    def _exit_code(self, failure: SupervisorFailed | None) -> int:
        if failure is not None:
            _log.error("the end: %s", _first_line(failure))
            return EXIT_BOOT if failure.kind == "boot" else EXIT_GAVE_UP
        if self._quick_code is not None:
            return self._quick_code
        if overdue := self.supervisor.statistics().overdue:
            _log.warning("the end: %d %s did not stop in time", overdue, "process" if overdue == 1 else "processes")
            return EXIT_OVERDUE
        _log.info("the end: all that was accepted is finished")
        return 0

    def _say_stopping(self, status: str) -> None:
        self._notify.stopping(self._shutdown + KILL_TIME, status)

    async def _close(self) -> None:
        self._say_stopping("ended")  # unless that was said before: the end has other causes than a signal
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._control is not None:
            if self._link is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self._link)
            await self._control.aclose()
        self._notify.close()

    def _start_task(self, doing: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- control ---------------------------------------------------------------------------------------------

    def _listen(self) -> ControlServer | None:
        if self._control_path is False:
            return None
        do = ControlCommands(self).do
        if isinstance(self._control_path, str):
            server = ControlServer(os.path.abspath(self._control_path), do, self._tail)
            self._link = announce(os.getpid(), server.path)
            return server
        clear_links(os.getpid())
        for path in default_paths(os.getpid()):
            with contextlib.suppress(OSError):  # then there is another place
                return ControlServer(path, do, self._tail)
        tried = ", ".join(each.path for each in candidates()) or "there is none"
        text = "there is no control socket: no directory can be used that is of this user alone (see %s): %s"
        _log.warning(text, VARIABLE, tried)
        return None

    # -- the end ---------------------------------------------------------------------------------------------

    def stop(self, *, quick: bool = False, code: int = EXIT_OVERDUE) -> None:
        """Begin to stop everything, or, ``quick``, kill it, and end with this code then."""
        if self._asked_at is None:
            self._asked_at = self._loop.time()
            self._say_stopping("stopping")
        if quick and self._quick_code is None:
            self._quick_code = code
        self._start_task(self._shut_down(quick))

    async def _shut_down(self, quick: bool) -> None:
        with contextlib.suppress(IPCError):  # `_run` hears of it, too
            await self.supervisor.shutdown(quick=quick)

    def _asked_to_stop(self, signum: signal.Signals) -> None:
        if self._asked_at is None and signum != signal.SIGQUIT:
            text = "%s: stopping, within %g s; a second signal kills at once"
            _log.info(text, signum.name, self._shutdown)
            self.stop()
        elif signum == signal.SIGQUIT or self._loop.time() - (self._asked_at or 0.0) > SAME_REQUEST:
            _log.warning("%s: everything is killed", signum.name)
            self.stop(quick=True, code=128 + signum)

    # -- other signals ---------------------------------------------------------------------------------------

    def heard(self, signum: signal.Signals) -> bool:
        """Take a signal; see `Listener`."""
        match signum:
            case signal.SIGTERM | signal.SIGINT | signal.SIGQUIT:
                self._asked_to_stop(signum)
            case signal.SIGUSR1:
                for line in dump_lines(self.supervisor.statistics()):
                    _log.info("%s", line)
            case signal.SIGWINCH:
                _log.debug("SIGWINCH is ignored")
            case signal.SIGUSR2:
                _log.info("SIGUSR2 is ignored: there is no upgrade of a running master")
            case _ if self._asked_at is not None:
                _log.info("%s is ignored: all is being stopped", signum.name)
            case signal.SIGHUP:
                if not self._reload_waits:
                    self._reload_waits = True
                    self._start_task(self._reload_by_signal())
            case signal.SIGTTIN | signal.SIGTTOU:
                self._start_task(self._scale_by(signum, 1 if signum == signal.SIGTTIN else -1))
        return True

    async def _reload_by_signal(self) -> None:
        await self._up.wait()
        with contextlib.suppress(IPCError, OSError, TypeError, ValueError):  # said already
            await self.reload()

    async def reload(self) -> str:
        """Load the specification anew and reload; return what has changed.

        What cannot be loaded or started is logged and raised, and changes nothing: ConfigError, OSError, ReloadFailed,
        SerializationError, TypeError, ValueError. ClosedResourceError where everything is being stopped.
        """
        if not self._up.is_set():
            raise ClosedResourceError("it is not up yet, or stopping")
        async with self._reloading:
            self._reload_waits = False
            self._notify.reloading("reloading")
            result = "the reload was given up"
            try:
                spec = self._load()
                changes = compare_specs(self._spec, spec)
                _log.info("reloading: %s", changes or "the same services")
                await self.supervisor.reload(spec)
                self._spec = spec
                result = f"reloaded: {changes or 'the same services, in new processes'}"
            except (IPCError, OSError, TypeError, ValueError) as error:
                if not isinstance(error, ReloadFailed):  # else the supervisor has said so
                    _log.log(self._level, "the reload was given up: %s; all goes on as before", _first_line(error))
                raise
            finally:
                self._notify.ready(result)
            return result

    async def _scale_by(self, signum: signal.Signals, step: Literal[1, -1]) -> None:
        """Have one replica more or less of the first child that is a service of ours."""
        children = [child for child in self.supervisor.children() if child.kind == "function"]
        if not children:
            _log.warning("%s: there is no service whose replicas it could change", signum.name)
            return
        child = children[0]
        wanted = child.replicas + step
        if wanted < 1:
            _log.info("%s: %s has one replica, and keeps it", signum.name, child.name)
            return
        _log.info("%s: %s is to have %d replicas", signum.name, child.name, wanted)
        try:
            await self.supervisor.scale(child.name, wanted)
        except IPCError as error:
            _log.log(self._level, "%s cannot have %d replicas: %s", child.name, wanted, error)

    @property
    def _level(self) -> int:
        """How bad it is that something is not done: not at all, while everything is being stopped."""
        return logging.ERROR if self._asked_at is None else logging.INFO


def plain_text(error: Exception) -> str:
    """Return what is wrong without the number of the error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    return str(error)


def _first_line(error: BaseException) -> str:
    """Return what has happened, without what it had to say on standard error: that is in the log already."""
    return str(error).partition("\n")[0]
