"""Memory mapped into this process, given out as memoryviews, and never taken away from under one."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Callable

from . import sysv_shm


class FileMapping:
    """A file mapped as a whole (``mmap(2)``); Python's mmap object counts the views."""

    def __init__(self, fd: int, size: int, *, readonly: bool) -> None:
        self._mmap = mmap.mmap(fd, size, access=mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE)

    def view(self) -> memoryview:
        """Return a new view of all of it."""
        return memoryview(self._mmap)

    def unmap(self) -> None:
        """Unmap it; `BufferError` while there are views, and then it stays."""
        self._mmap.close()

    def abandon(self) -> None:
        """Leave it to the last view to unmap it."""


class SysVMapping:
    """An attached System V segment (``shmat(2)``).

    Every view refers to one ctypes array, which nothing else refers to. So there are views as long as it lives.
    ``ending`` is called in the end, when the segment is still attached.
    """

    def __init__(self, ident: int, size: int, ending: Callable[[], None], *, readonly: bool) -> None:
        self._readonly = readonly
        self._ending = ending
        self._lock = threading.Lock()
        self._kind = ctypes.c_ubyte * size
        self._array: weakref.ref[ctypes.Array[ctypes.c_ubyte]] | None = None
        self._address: int | None = sysv_shm.attach(ident, readonly=readonly)

    def view(self) -> memoryview:
        """Return a new view of all of it."""
        with self._lock:
            array = self._array() if self._array is not None else None
            if array is None:
                assert self._address is not None
                array = self._kind.from_address(self._address)
                self._array = weakref.ref(array)
            view = memoryview(array).cast("B")
        return view.toreadonly() if self._readonly else view

    def unmap(self) -> None:
        """Detach it; `BufferError` while there are views, and then it stays."""
        with self._lock:
            if self._array is not None and self._array() is not None:
                raise BufferError
            address, self._address = self._address, None
        if address is not None:
            self._end(lambda: sysv_shm.detach(address))

    def abandon(self) -> None:
        """Leave it to the last view to detach it."""
        with self._lock:
            address, self._address = self._address, None
            array = self._array() if self._array is not None else None
        if address is None:
            return
        if array is None:
            self._end(lambda: sysv_shm.detach(address))
        else:
            weakref.finalize(array, sysv_shm.detach, address).atexit = False
            self._ending()

    def _end(self, detach: Callable[[], None]) -> None:
        try:
            self._ending()
        finally:
            detach()
