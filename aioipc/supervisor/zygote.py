"""The master's handle on its zygote (see zygote_main.py): asks for workers, hears how they ended.

Nothing here blocks the loop: requests are packets, answers come by callback. The zygote is started by exec, so
that the master, which has threads and a loop, never forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .._sys.anonymous_file import open_anonymous_file
from ..exceptions import UnsupportedPlatform
from ..kernel.processes import ExitWatch, kill_session
from .boot import current_settings
from .child import Child, ExitReport, tail

_log = logging.getLogger("aioipc.zygote")
logging.getLogger("aioipc").addHandler(logging.NullHandler())  # what is said is the program's to show
_PACKET = 1 << 18
_REACTION = 3.0
"""Seconds after which a zygote that was told to kill a worker, or to end, and did not, is killed itself."""
LATE = 0.5
"""Seconds after which a timer says that the loop was blocked, or this process stopped."""
_LAST_MOMENTS = 0.5
_FOR_A_WHILE = (errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS)
"""What the kernel says to descriptors while too many are on their way (``unix(7)``): it takes them later."""
_AGAIN = 0.01
_LONGEST_WHILE = 3.0
"""Seconds."""
_ROOT = str(Path(__file__).resolve().parents[2])

_live: weakref.WeakSet[Zygote] = weakref.WeakSet()


def _leave_to_fork() -> None:
    """Keep a process that the program forks from holding our sockets: end of file must tell that we are gone."""
    for zygote in list(_live):
        zygote.forget()
    _live.clear()


os.register_at_fork(after_in_child=_leave_to_fork)


def kill_every_child() -> None:
    """Kill all worker groups of all pools of this process at once: the answer to a second signal."""
    for zygote in list(_live):
        zygote.doom()


class _Request(NamedTuple):
    """A packet that is to be sent."""

    packet: bytes
    fds: Sequence[int] = ()
    token: int | None = None
    """The child that it is to spawn."""


class Zygote:
    """Starts the zygote process. ``entry`` ("module:function") is what each worker runs.

    ``on_up(None)`` is called when it is ready, ``on_up(text)`` when a module to preload failed to import;
    ``on_lost(how, stderr)`` when it died without being asked (the owners of its children have been told before);
    ``on_doom()`` when all workers are about to be killed because the program is told to end at once.

    A worker that is still there 3 s after it was to be killed ends the zygote and all others with it, so that nobody
    waits for ever; with ``patient`` only if that is the zygote's fault, and not the kernel's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        entry: str,
        preload: Sequence[str] = (),
        on_up: Callable[[str | None], None],
        on_lost: Callable[[str, str], None],
        on_doom: Callable[[], None],
        patient: bool = False,
    ) -> None:
        if not sys.platform.startswith("linux"):
            raise UnsupportedPlatform(f"worker processes need Linux; this is {sys.platform}")
        self._loop = loop
        self._on_up = on_up
        self._on_lost = on_lost
        self._on_doom = on_doom
        self._patient = patient
        self._children: dict[int, Child] = {}
        self._killed: set[int] = set()
        self._next_token = 1
        self._unsent: deque[_Request] = deque()
        self._refused_since: float | None = None
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(self._sock.close)
            self._sock.setblocking(False)
            self._stderr = open_anonymous_file("stderr")
            undo.callback(os.close, self._stderr)
            with theirs:
                self._process = _start_process(theirs, self._stderr)
            undo.pop_all()
        self._watch = ExitWatch(loop, self._process.pid, self._process_ended)
        self._ended = loop.create_future()
        self._closing = False
        self._is_up = False
        loop.add_reader(self._sock.fileno(), self._readable)
        _live.add(self)
        self._request(("start", current_settings(), list(preload), entry, _fresh_command()))

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._process.pid

    def spawn(self, child: Child, *, fresh: bool = False) -> None:
        """Ask for a worker on the child's descriptors; its owner hears what becomes of it.

        ``fresh`` has it exec a new interpreter instead of going on in the fork.
        """
        token, self._next_token = self._next_token, self._next_token + 1
        self._children[token] = child
        inheritance = child.inheritance()
        self._request(("spawn", token, fresh, inheritance.layout()), inheritance.present(), token)

    def kill(self, child: Child, signum: int = signal.SIGKILL, *, group: bool = True) -> None:
        """Send a signal to a worker's whole process group, or to it alone; one that is gone already is no error."""
        for token, owned in self._children.items():
            if owned is child:
                self._request(("kill", token, signum, group))
                if signum == signal.SIGKILL:
                    self._expect_gone_in(_REACTION, token)

    def _expect_gone_in(self, seconds: float, token: int) -> None:
        self._loop.call_later(seconds, self._expect_gone, token, self._loop.time() + seconds)

    def _expect_gone(self, token: int, due: float) -> None:
        """Kill a zygote that is stopped or wedged: its workers go with it, and a new one can be started."""
        if token not in self._children or self._ended.done():
            return
        if self._loop.time() > due + LATE:  # nobody here could hear what it has said in time
            self._expect_gone_in(LATE, token)
        elif self._patient and token in self._killed and self._children[token].state() not in "ZX?":
            self._expect_gone_in(_REACTION, token)  # the kernel does not let it go (state D)
        else:
            self._process.kill()

    def doom(self) -> None:
        """Kill every worker's group at once; the owner hears of it first, so that it starts no more."""
        self._on_doom()
        for child in list(self._children.values()):
            self.kill(child)

    def forget(self) -> None:
        """Close the descriptors, in a process that only has copies of them."""
        self._sock.close()
        for child in self._children.values():
            child.close()

    async def aclose(self) -> None:
        """End the zygote, and with it every process it still has; returns when it was reaped.

        Cancelling leaves it ending by itself: it sees our end of file at once.
        """
        self._closing = True
        self._hang_up()
        timer = self._loop.call_later(_REACTION, self._process.kill)
        try:
            await asyncio.shield(self._ended)
        finally:
            if self._ended.done():
                timer.cancel()

    # -- packets -------------------------------------------------------------------------------------

    def _request(self, words: object, fds: Sequence[int] = (), token: int | None = None) -> None:
        self._unsent.append(_Request(pickle.dumps(words, 5), fds, token))
        if len(self._unsent) == 1:
            self._write()

    def _write(self) -> None:
        if self._sock.fileno() < 0:
            return
        while self._unsent:
            request = self._unsent[0]
            try:
                socket.send_fds(self._sock, [request.packet], request.fds)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._write)
                return
            except ConnectionError:
                break  # it died: the reader and the watch will say so
            except OSError as error:
                if self._is_for_a_while(error):
                    self._loop.call_later(_AGAIN, self._write)
                    break
                self._loop.call_soon(self._cannot_send, request.token, error)
            else:
                self._refused_since = None
                if request.token is not None:
                    self._children[request.token].handed_over()
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _is_for_a_while(self, error: OSError) -> bool:
        """Whether what the kernel does not take now is worth another try."""
        if error.errno not in _FOR_A_WHILE:
            return False
        now = self._loop.time()
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since < _LONGEST_WHILE

    def _cannot_send(self, token: int | None, error: OSError) -> None:
        if token in self._children:
            self._tell_exit(token, ExitReport(None, f"its descriptors cannot be sent: {error}", errno=error.errno))

    def _readable(self) -> bool:
        space = socket.CMSG_SPACE(4)
        try:
            packet, ancillary, _, _ = self._sock.recvmsg(_PACKET, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            packet, ancillary = b"", []
        if not packet:
            self._hang_up()  # what happens next is up to the watch, which also knows how it ended
            return False
        fds = [int.from_bytes(data[:4], sys.byteorder) for _, _, data in ancillary]
        verb, *arguments = pickle.loads(packet)
        getattr(self, "_heard_" + verb.replace("-", "_"))(*arguments, *fds)
        return True

    def _heard_up(self, pid: int) -> None:
        self._is_up = True
        self._on_up(None)

    def _heard_preload_failed(self, text: str) -> None:
        self._on_up(text)

    def _heard_spawned(self, token: int, pid: int, pidfd: int | None = None) -> None:
        child = self._children[token]
        child.pid, child.pidfd = pid, pidfd
        if child.owner is not None:
            child.owner.child_spawned()

    def _heard_refused(self, token: int, text: str, number: int | None) -> None:
        self._tell_exit(token, ExitReport(None, text, errno=number))

    def _heard_killed(self, token: int) -> None:
        if token in self._children:
            self._killed.add(token)

    def _heard_exited(self, token: int, code: int, user: float, system: float, peak: int) -> None:
        self._tell_exit(token, ExitReport(code, _describe(code), user, system, peak * 1024))

    def _tell_exit(self, token: int, report: ExitReport) -> None:
        child = self._children.pop(token)
        self._killed.discard(token)
        if child.owner is not None:
            child.owner.child_exited(report)

    # -- the end -------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        if (fd := self._sock.fileno()) >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._sock.close()
            self._unsent.clear()

    def _process_ended(self) -> None:
        """Reap the zygote. The kernel has killed its workers with it (PR_SET_PDEATHSIG); see to their children."""
        while self._sock.fileno() >= 0 and self._readable():  # what it reported before it died
            pass
        self._hang_up()  # no end of file comes where a process that a preloaded module forked holds the other end
        status = self._process.wait()
        stderr = tail(self._stderr)
        os.close(self._stderr)
        _live.discard(self)
        for token, child in list(self._children.items()):
            if child.pid is not None:
                kill_session(child.pid)
                child.wait_gone(_LAST_MOMENTS)
                child.reap()
            reason = f"its zygote (pid {self.pid}) {_describe(status)}"
            self._tell_exit(token, ExitReport(None, reason, with_zygote=True))
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._closing:
            _log.warning("zygote pid %d ended: %s", self.pid, _describe(status))
            self._on_lost(_describe(status), "" if self._is_up else stderr)


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _interpreter(code: str) -> list[str]:
    if not sys.executable:
        raise RuntimeError("sys.executable is empty: worker processes need the path of the interpreter")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # Exactly our path, before anything is imported: "-c" alone would put the working directory first.
    path = sys.path if _ROOT in sys.path else [*sys.path, _ROOT]
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


def _fresh_command() -> list[str]:
    return _interpreter("from aioipc.supervisor.boot import main_after_exec as main; main()")


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # a daemon has closed it
        return False


def _existing_directory() -> str | None:
    """Return where to start: where we are, unless that was removed; some interpreters cannot start there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return "/"
    return None


def _start_process(theirs: socket.socket, captured: int) -> subprocess.Popen[bytes]:
    """Start it with descriptors 0 to 2 taken, so that nothing that is sent to it gets one of these numbers."""
    fd = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        stderr = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:  # a daemon has closed it
        stderr = -1
    command = _interpreter(f"from aioipc.supervisor.zygote_main import main; main({fd}, {stderr})")
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if _is_inherited(1) else subprocess.DEVNULL,
            stderr=captured,
            pass_fds=[fd] if stderr < 0 else [fd, stderr],
            start_new_session=True,
            env=dict(os.environ),
            cwd=_existing_directory(),
        )
    finally:
        os.close(fd)
        if stderr >= 0:
            os.close(stderr)
