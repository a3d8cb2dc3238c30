"""prctl(2) with a pointer, which a seccomp filter needs."""

from __future__ import annotations

import ctypes
import os

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]


def prctl(option: int, argument: int = 0, pointer: ctypes.Structure | None = None) -> None:
    """``prctl(option, argument, pointer)``; the caller keeps the pointer's object alive."""
    address = ctypes.addressof(pointer) if pointer is not None else None
    if _libc.prctl(option, argument, address, 0, 0) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
