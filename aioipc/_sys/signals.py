"""What receiving signals needs and the standard library lacks: signalfd(2), and sigaction(2) as it is, by ctypes."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_WITH_VALUE = (-1, -2, -3, -4)  # SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO

INFO_SIZE = 128
"""Bytes that one read of a signalfd takes for each signal."""
_INFO = struct.Struct("=IiiIIiIIIIii")  # signo errno code pid uid fd tid band overrun trapno status int
_SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_ACTION_SIZE = 256  # more than any libc's struct sigaction, whose fields nobody here looks into

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class SignalInfo:
    """One signal, as `open_signal_receiver` with ``values=True`` yields it (signalfd(2), sigaction(2))."""

    signum: signal.Signals | int  #: a plain number for the real-time signals between SIGRTMIN and SIGRTMAX
    value: int | None  #: what the sender added (sigqueue(3)), or ``None`` where it came without
    pid: int  #: the sender; 0 where the kernel sent it, or a process of another PID namespace
    uid: int  #: the sender's real user
    code: int  #: why it came: 0 kill(2), -1 sigqueue(3), -2 a timer, -3 a message queue, -6 tgkill(2), 128 the kernel


def named(signum: int) -> signal.Signals | int:
    """Return the signal as Python names it; real-time signals but the first and the last have no name."""
    try:
        return signal.Signals(signum)
    except ValueError:
        return signum


def name(signum: int) -> str:
    """Return the name of a signal for messages."""
    known = named(signum)
    return known.name if isinstance(known, signal.Signals) else f"SIGRTMIN+{signum - signal.SIGRTMIN}"


def decode(data: bytes) -> SignalInfo:
    """Read what one read of a signalfd brought; raises ValueError for another size than `INFO_SIZE`."""
    if len(data) != INFO_SIZE:
        raise ValueError(f"a signalfd gives {INFO_SIZE} bytes, not {len(data)}")
    signum, _, code, pid, uid, _, _, _, _, _, _, value = _INFO.unpack_from(data)
    return SignalInfo(named(signum), value if code in _WITH_VALUE else None, pid, uid, code)


def set_signalfd(fd: int, signums: Iterable[int]) -> int:
    """Make a signalfd for these signals (``fd`` -1), or have ``fd`` report these from now on; returns the descriptor.

    It is close-on-exec and non-blocking. Raises OSError without free descriptors (EMFILE, ENFILE).
    """
    mask = (ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong)))()  # sigset_t has 1024 bits
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    for signum in signums:
        mask[(signum - 1) // bits] |= 1 << (signum - 1) % bits
    return checked(_libc.signalfd(fd, ctypes.byref(mask), _SFD_FLAGS))


def get_action(signum: int) -> bytes:
    """Return what the kernel does with a signal (handler, flags, mask), for `set_action`."""
    action = ctypes.create_string_buffer(_ACTION_SIZE)
    checked(_libc.sigaction(signum, None, action))
    return action.raw


def set_action(signum: int, action: bytes) -> None:
    """Put back what `get_action` returned, also a handler that Python knows nothing of (faulthandler's)."""
    checked(_libc.sigaction(signum, ctypes.create_string_buffer(action, _ACTION_SIZE), None))


def checked(result: int) -> int:
    """Return what a libc function returned, or raise the OSError that it means."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
