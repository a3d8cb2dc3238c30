"""Getting a thread out of a system call that waits and has no time limit (``msgrcv(2)``, ``semop(2)``).

Only a signal with a handler makes such a call return (EINTR, ``signal(7)``); nothing else does without changing the
object that others use, too. SIGURG is the one to take: the kernel drops it where there is no handler, so that one
which comes late harms nobody; no library uses it for itself; and those who use it must expect it without a reason.
The handler, a C function that does nothing, is there only while a thread is being interrupted. A handler that the
program itself has for SIGURG stays, and is called once or twice for nothing.

A signal that comes just before the thread enters the call is lost. So it is sent again until the thread is out.

Rejected: ``pthread_kill(3)``, which crashes where the thread has ended in the meantime.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from _thread import LockType
from collections.abc import Callable

from .signal_sending import send_to_thread
from .signals import get_action, set_action

SIGNAL = signal.SIGURG
"""The threads that wait let this signal in, and no other."""

LONGEST = 0.25  # seconds until the thread is left to itself
_PAUSE = 0.001

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_NONE = {int(signal.SIG_DFL), int(signal.SIG_IGN)}  # the handler comes first in struct sigaction
_lock = threading.RLock()  # the garbage collector may come in between, and close another object


def interrupt(thread: Callable[[], int], out: LockType) -> bool:
    """Signal a thread until the lock ``out`` is free, and return whether it became so.

    ``thread`` returns the kernel's number for it, 0 while it is not yet, or no more, where it could wait.
    It takes 0.1 to 0.4 ms as a rule, and gives up after `LONGEST` seconds.
    """
    end = time.monotonic() + LONGEST
    with _lock:
        before = get_action(SIGNAL)
        if _handler(before) in _NONE:
            set_action(SIGNAL, _nothing().ljust(len(before), b"\0"))
        try:
            _send(thread())
            while not out.acquire(timeout=_PAUSE):
                if time.monotonic() > end:
                    return False
                _send(thread())
        finally:
            if _handler(before) in _NONE and _handler(get_action(SIGNAL)) == _handler(_nothing()):
                set_action(SIGNAL, before)
    out.release()
    return True


def _send(thread: int) -> None:
    try:
        if thread:
            send_to_thread(os.getpid(), thread, SIGNAL)
    except ProcessLookupError:
        pass  # it has ended; the lock says so in a moment


def _nothing() -> bytes:
    """Return the address of a function of libc that takes a number, does nothing else, and is safe in a handler."""
    address = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value
    assert address is not None
    return address.to_bytes(_POINTER, "little")


def _handler(action: bytes) -> int:
    return int.from_bytes(action[:_POINTER], "little")
