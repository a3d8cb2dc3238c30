"""The C library by ctypes: which file has a function, and what a failure means."""

from __future__ import annotations

import ctypes
import errno
import os


def library_with(symbol: str, *elsewhere: str) -> ctypes.CDLL | None:
    """Return the library that has this function: the C library, else one of the files named; None without any.

    glibc before 2.34 keeps POSIX queues in librt and semaphores in libpthread, which nobody need have loaded.
    """
    for name in (None, *elsewhere):
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        if hasattr(library, symbol):
            return library
    return None


def failure() -> OSError:
    """Return the error of the call that has just failed in this thread, as the subclass that Python has for it."""
    number = ctypes.get_errno()
    if number == errno.EAGAIN:  # every wait begins with it, and strerror(3) asks for the language
        return BlockingIOError(number, "it would have to wait")
    return OSError(number, os.strerror(number))
