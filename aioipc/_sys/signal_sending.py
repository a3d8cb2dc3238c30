"""Sending signals with values, to processes and threads, through ctypes where the standard library lacks the call.

glibc's sigqueue(3) takes a union by value, which ctypes cannot pass, and has nothing for threads of other processes:
so the system calls themselves, rt_sigqueueinfo(2), rt_tgsigqueueinfo(2), tgkill(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from typing import NamedTuple

from ..exceptions import UnsupportedPlatform
from .signals import INFO_SIZE, checked

_SI_QUEUE = -1
_PIDFD_SEND_SIGNAL = 424  # everywhere


class _Numbers(NamedTuple):
    """Of system calls, which differ from machine to machine."""

    tgkill: int
    rt_sigqueueinfo: int
    rt_tgsigqueueinfo: int


_GENERIC = _Numbers(131, 138, 240)
_NUMBERS = {"x86_64": _Numbers(234, 129, 297), "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}

_libc = ctypes.CDLL(None, use_errno=True)


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("pointer", ctypes.c_void_p))


class _Sender(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_int), ("uid", ctypes.c_uint), ("value", _Value))


class _Fields(ctypes.Union):
    _fields_ = (("sender", _Sender), ("room", ctypes.c_char * (INFO_SIZE - 2 * ctypes.sizeof(ctypes.c_void_p))))


class _Info(ctypes.Structure):
    """siginfo_t, as far as a signal with a value fills it; the union begins where a pointer may."""

    _fields_ = (("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("fields", _Fields))


def send(pid: int, signum: int, value: int | None = None) -> None:
    """Send a signal to a process by its number; raises OSError as kill(2) and rt_sigqueueinfo(2) do."""
    if value is None:
        os.kill(pid, signum)
    else:
        _call(_numbers().rt_sigqueueinfo, pid, signum, _info(signum, value))


def send_by_pidfd(pidfd: int, signum: int, value: int | None = None) -> None:
    """Send a signal to the process that a pidfd names; raises OSError as pidfd_send_signal(2) does."""
    if value is None:
        signal.pidfd_send_signal(pidfd, signum)
    else:
        _call(_PIDFD_SEND_SIGNAL, pidfd, signum, _info(signum, value), 0)


def send_to_thread(pid: int, thread: int, signum: int, value: int | None = None) -> None:
    """Send a signal to one thread, by the kernel's number for it (``threading.Thread.native_id``).

    Raises OSError as tgkill(2) and rt_tgsigqueueinfo(2) do.
    """
    if value is None:
        _call(_numbers().tgkill, pid, thread, signum)
    else:
        _call(_numbers().rt_tgsigqueueinfo, pid, thread, signum, _info(signum, value))


def _info(signum: int, value: int) -> _Info:
    info = _Info(signo=signum, code=_SI_QUEUE)
    sender = info.fields.sender
    sender.pid, sender.uid, sender.value.number = os.getpid(), os.getuid(), value
    return info


def _numbers() -> _Numbers:
    machine = platform.machine()
    if machine not in _NUMBERS or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise UnsupportedPlatform(f"aioipc does not know how to send this signal on {machine}")
    return _NUMBERS[machine]


def _call(number: int, *arguments: int | _Info) -> None:
    converted = [ctypes.byref(each) if isinstance(each, _Info) else ctypes.c_long(each) for each in arguments]
    checked(_libc.syscall(ctypes.c_long(number), *converted))
