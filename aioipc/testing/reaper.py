"""The process that pytest runs under: it adopts what the tests orphan.

pytest forks once, before the first test. The child goes on as pytest; the parent stays behind as the child
subreaper (prctl(2)), as init would be in a container. So

- an orphan, even one that called setsid, becomes a child of the reaper and is found there by the leak check;
- an adopted process that has ended is reaped by the reaper, as init would; a zombie among pytest's own
  children is therefore one that the code under test failed to reap;
- whatever outlives pytest (or pytest killed by its own timeout) is killed by the reaper.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from aioipc._sys.libc import become_subreaper, set_parent_death_signal

_MARK = "AIOIPC_TESTING_REAPER"
_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_SI_USER = 0


def reaper_pid() -> int | None:
    """The pid of the reaper that this process runs under, or None."""
    return os.getppid() if os.environ.get(_MARK) == str(os.getppid()) else None


def run_under_reaper(at_end: Callable[[], object]) -> None:
    """Fork; return in the child. The parent ends with the child's exit status and never returns.

    ``at_end`` is called by the parent when no process is left.
    """
    if reaper_pid() is not None:
        return
    if len(os.listdir("/proc/self/task")) > 1:  # a debugger's or another plugin's threads: no safe fork
        become_subreaper()
        return
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child:
        _watch(child, at_end)
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.environ[_MARK] = str(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(child: int, at_end: Callable[[], object]) -> None:
    become_subreaper()
    status = None
    while status is None:
        info = signal.sigwaitinfo({*_PASSED_ON, signal.SIGCHLD})
        if info.si_signo == signal.SIGCHLD:
            status = _reap(child)
        elif info.si_code <= _SI_USER:  # from kill(2); the terminal's reached the child by itself
            os.kill(child, info.si_signo)
    _kill_the_rest()
    at_end()
    if os.WIFSIGNALED(status):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _reap(child: int) -> int | None:
    """Reap all that has ended; return the wait status of the child once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _kill_the_rest() -> None:
    """Kill our remaining children, and theirs as they come to us, until there are none."""
    own = f"/proc/self/task/{os.getpid()}/children"
    while children := Path(own).read_text().split():
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)  # unreaped children of ours: the number cannot be another's
        os.waitpid(-1, 0)
