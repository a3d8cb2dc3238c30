"""The zygote: a small single-threaded process that forks workers, reaps them and reports how they ended.

The master never forks: it has threads and a loop. It starts this process by exec and asks it for workers over a
SEQPACKET pair; one packet is one request or one report.

    master → zygote   ("start", settings, preload, entry, command)
                      ("spawn", token, fresh, layout) + descriptors      ("kill", token, signal, whole group)
    zygote → master   ("up", pid)   ("preload-failed", text)
                      ("spawned", token, pid) + a pidfd            ("refused", token, text, errno or None)
                      ("killed", token)   (a SIGKILL was sent)
                      ("exited", token, exit code, user seconds, system seconds, peak memory in KiB)

End of file from the master means that it is gone: the workers, which see it too, get a second to end by
themselves and are then killed, groups and adopted orphans included.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import math
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from types import ModuleType
from typing import Any

from .._sys import failpoints, libc, procfs
from ..kernel.processes import kill_group, open_pidfd
from . import boot

ORPHAN_GRACE = 1.0
_WARM_UP_AFTER = 200  # ms
_PACKET = 1 << 18
_FDS = 253  # the most that the kernel lets one packet carry (SCM_MAX_FD)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class ZygoteProcess:
    """The zygote's whole state: its master, its children by pid."""

    def __init__(self, master: socket.socket, stderr: int) -> None:
        self._master = master
        self._stderr = stderr
        self._tokens: dict[int, int] = {}  # pid -> token
        self._entry = ""
        self._command: list[str] = []
        self._warm = True
        self._asked = 0  # how many workers have been asked for
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for signum in _IGNORED:
            signal.signal(signum, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until the master is gone and so are the workers."""
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            ready = poller.poll(None if self._warm else _WARM_UP_AFTER)
            if not ready:
                self._warm_up()
            for fd, _ in ready:
                if fd == self._wake:
                    self._drain_wake()
                    self._reap()
                elif not self._serve():
                    return self._end()

    # -- requests ------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Serve one request; False at end of file."""
        try:
            packet, ancillary, _, _ = self._master.recvmsg(
                _PACKET, socket.CMSG_SPACE(_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return False
        if not packet:
            return False
        fds = _descriptors(ancillary)
        verb, *arguments = pickle.loads(packet)
        if verb == "start":
            self._start(*arguments)
        elif verb == "spawn":
            token, fresh, layout = arguments
            self._spawn(token, fresh, layout, fds)
        elif verb == "kill":
            self._kill(*arguments)
        return True

    def _start(self, settings: dict[str, Any], preload: list[str], entry: str, command: list[str]) -> None:
        self._entry, self._command = entry, command
        try:
            boot.apply_settings(settings)
            for name in [entry.partition(":")[0], *preload]:
                importlib.import_module(name)
        except BaseException:
            self._report("preload-failed", traceback.format_exc()[-8192:])
            return
        self._release_stderr()
        self._settle_memory()
        self._warm = False
        self._report("up", os.getpid())

    def _release_stderr(self) -> None:
        """What preloaded modules wrote was held back, in case one of them ends this process."""
        if self._stderr >= 0:
            boot.release_stderr(self._stderr, os.dup(2))
            self._stderr = -1

    @staticmethod
    def _settle_memory() -> None:
        """Keep what is imported shared with the workers: no collection will touch it any more, nothing is half said."""
        gc.disable()
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()

    def _warm_up(self) -> None:
        """Import what async and ``__main__`` tasks need, and what the entry module says, for those to come.

        That is done when idle, and the first workers do not wait for it: most of the time of a pool's start would go
        here. An entry module whose workers all need it says before which of them it is done at the latest.
        """
        self._warm = True
        for name in ("asyncio", "uvloop", "cloudpickle", *getattr(self._entry_module, "WARM_UP", ())):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        self._settle_memory()

    @property
    def _entry_module(self) -> ModuleType:
        return sys.modules[self._entry.partition(":")[0]]

    def _spawn(self, token: int, fresh: bool, layout: list[str], fds: list[int]) -> None:
        if len(fds) != len(layout):  # the kernel drops what does not fit
            _close(*fds)
            text = "the zygote may open no more files (RLIMIT_NOFILE, ulimit -n)"
            self._report("refused", token, text, errno.EMFILE)
            return
        self._asked += 1
        if not self._warm and self._asked >= getattr(self._entry_module, "WARM_UP_BEFORE", math.inf):
            self._warm_up()
        inheritance, parent = boot.Inheritance.received(layout, fds), os.getpid()
        try:
            failpoints.hit("zygote-before-fork")
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            pid = os.fork()
        except (OSError, RuntimeError) as error:
            self._report("refused", token, _why_no_fork(error), getattr(error, "errno", None))
            return
        finally:
            if os.getpid() == parent:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                _close(*fds)
        if pid == 0:
            self._leave_to_child()
            boot.become_worker(parent, self._entry, inheritance, self._command if fresh else None)
        self._tokens[pid] = token
        failpoints.hit("zygote-after-fork")
        pidfd = open_pidfd(pid)  # nothing has reaped it yet, so the number is its own
        try:
            self._report("spawned", token, pid, fds=[] if pidfd is None else [pidfd])
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _leave_to_child(self) -> None:
        """Close, in the child, what belongs to the zygote alone; what preloaded modules opened stays open."""
        self._master.close()
        _close(self._wake, self._woken)
        gc.enable()

    def _kill(self, token: int, signum: int, group: bool) -> None:
        for pid, owner in self._tokens.items():
            if owner == token and group:
                kill_group(pid, signum)
            elif owner == token:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
        if signum == signal.SIGKILL:
            self._report("killed", token)

    # -- reports -------------------------------------------------------------------------------------

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass

    def _reap(self) -> None:
        """Report every child that has ended; what is left of its group goes with it.

        Peek, kill the group, reap, in this order: until it is reaped its number is nobody else's.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            token = self._tokens.pop(pid, None)
            if token is not None:
                kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            if token is not None:
                code = os.waitstatus_to_exitcode(status)
                self._report("exited", token, code, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)

    def _report(self, *words: object, fds: list[int] | None = None) -> None:
        """Send a packet; a master that is gone is noticed by the next receive.

        Where the kernel takes no descriptors now (ETOOMANYREFS), it goes without: the master can do without a pidfd.
        """
        packet = boot.dump(words)
        try:
            socket.send_fds(self._master, [packet], fds or [])
        except OSError:
            if fds:
                with contextlib.suppress(OSError):
                    self._master.send(packet)

    # -- the end -------------------------------------------------------------------------------------

    def _end(self) -> None:
        deadline = time.monotonic() + ORPHAN_GRACE
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        self._reap()
        while self._tokens and (left := deadline - time.monotonic()) > 0:
            poller.poll(left * 1000)
            self._drain_wake()
            self._reap()
        for pid in self._tokens:
            kill_group(pid)
        self._kill_adopted()

    @staticmethod
    def _kill_adopted() -> None:
        """End every descendant, those too that fled into sessions of their own: we are their subreaper."""
        deadline = time.monotonic() + ORPHAN_GRACE
        while (pids := procfs.children(os.getpid())) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in pids:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(memoryview(data[: len(data) // 4 * 4]).cast("i").tolist())
    return fds


def _why_no_fork(error: Exception) -> str:
    """Say what keeps fork(2) from making a process, and where that is set."""
    if getattr(error, "errno", None) == errno.EAGAIN:
        return (
            "there may be no more processes: see ulimit -u (RLIMIT_NPROC), pids.max of the control group, "
            "kernel.threads-max and kernel.pid_max"
        )
    return f"fork: {error}"


def _close(*fds: int) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def main(fd: int, stderr: int) -> None:
    """Be a zygote on the SEQPACKET socket ``fd`` until the master is gone.

    ``stderr`` is the real standard error, or -1; what goes to descriptor 2 is captured until the zygote is up.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the master may block signals, which exec passes on
    libc.set_process_name("aioipc-zygote")
    libc.become_subreaper()
    libc.set_parent_death_signal(signal.SIGCONT)  # a stopped zygote wakes up to clean up after its master
    failpoints.load(os.environ)
    with socket.socket(fileno=fd) as master:
        master.set_inheritable(False)
        ZygoteProcess(master, stderr).run()
