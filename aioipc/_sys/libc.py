"""prctl(2) through ctypes: what the standard library lacks and a child process needs."""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_libc = ctypes.CDLL(None, use_errno=True)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send ``signum`` to this process when the thread that forked it ends (0: never).

    The setting is cleared by fork(2) and survives execve(2).
    Compare ``os.getppid()`` with the expected parent afterwards: it may have died before.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Make orphaned descendants of this process its children, so that none escapes by forking twice."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def is_subreaper() -> bool:
    """Return whether orphaned descendants of this process become its children; PID 1 is no subreaper, and gets them."""
    found = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found))
    return bool(found.value)


def set_process_name(name: str) -> None:
    """Set what ``ps -o comm`` and ``top`` show (15 bytes at most; the rest is cut off)."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _prctl(option: int, argument: object) -> None:
    if not sys.platform.startswith("linux"):
        return
    if isinstance(argument, int):
        argument = ctypes.c_ulong(argument)
    if _libc.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
