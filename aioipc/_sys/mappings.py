"""Memory mapped into this process, given out as memoryviews, and never taken away from under one.

All views refer to one ctypes array over the address, which nothing else refers to. So there are views as long as it
lives. Python's ``mmap`` counts views too, but ``numpy.ndarray(buffer=…)`` looks through a memoryview, keeps the mmap
object and no count: it could be closed, and the next look at the array would end the process.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Callable

from . import sysv_shm
from .library import failure

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


class Mapping:
    """Memory at an address, until ``release`` is called, which is after its last view is gone."""

    def __init__(self, address: int, size: int, release: Callable[[], None], *, readonly: bool) -> None:
        self._address = address
        self._kind = ctypes.c_ubyte * size
        self._release = release
        self._readonly = readonly
        self._array: weakref.ref[ctypes.Array[ctypes.c_ubyte]] | None = None
        self._lock = threading.Lock()
        self._over = False

    def view(self) -> memoryview:
        """Return a new view of all of it; `BufferError` after `unmap`."""
        with self._lock:
            if self._over:
                raise BufferError("the memory is not mapped any more")
            array = self._living()
            if array is None:
                array = self._kind.from_address(self._address)
                self._array = weakref.ref(array)
            view = memoryview(array).cast("B")
        return view.toreadonly() if self._readonly else view

    def has_views(self) -> bool:
        """Return True while there are views."""
        with self._lock:
            return self._living() is not None

    def unmap(self) -> None:
        """Release it now, or when the last view is gone; called again: do nothing."""
        with self._lock:
            over, self._over = self._over, True
            array = self._living()
        if over:
            return
        if array is None:
            self._release()
        else:
            weakref.finalize(array, self._release).atexit = False

    def _living(self) -> ctypes.Array[ctypes.c_ubyte] | None:
        return self._array() if self._array is not None else None


def map_file(fd: int, size: int, *, readonly: bool) -> Mapping:
    """Map a file, shared with all who do so (``mmap(2)``); it needs the descriptor no longer."""
    access = mmap.PROT_READ if readonly else mmap.PROT_READ | mmap.PROT_WRITE
    address: int | None = _libc.mmap(None, size, access, mmap.MAP_SHARED, fd, 0)
    if address is None or address == _FAILED:
        raise failure()

    def release() -> None:
        if _libc.munmap(address, size):
            raise failure()

    return Mapping(address, size, release, readonly=readonly)


def attach_segment(ident: int, size: int, *, readonly: bool) -> Mapping:
    """Attach a System V segment (``shmat(2)``)."""
    address = sysv_shm.attach(ident, readonly=readonly)
    return Mapping(address, size, lambda: sysv_shm.detach(address), readonly=readonly)
