"""What all shared memory has in common: views, arrays, and an end that leaves no view dangling."""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from types import TracebackType
from typing import Any, Self

from anyio.abc import AsyncResource

from aioipc._sys.mappings import Mapping
from aioipc.exceptions import ClosedResourceError

from .names import check_range


class Segment(AsyncResource):
    """A piece of memory that processes share; both ``with`` and ``async with`` are its lifetime.

    Nobody orders what processes write here: take a lock, or a `GuardedMemory` with one.
    """

    _mapping: Mapping | None = None  # for __del__, where __init__ has refused

    def __init__(self, mapping: Mapping, size: int, label: str, *, readonly: bool) -> None:
        self._mapping = mapping
        self._label = label
        self.size: int = size
        self.readonly: bool = readonly

    @property
    def buffer(self) -> memoryview:
        """A new memoryview of all the memory, as bytes; the object can be closed when all its views are gone.

        Raises `ClosedResourceError` after closing.
        """
        return self._open().view()

    def array(self, shape: int | tuple[int, ...], dtype: Any = "uint8", *, offset: int = 0) -> Any:
        """Return the memory from byte ``offset`` on as a NumPy array, without a copy.

        ``shape`` and ``dtype`` are those of ``numpy.ndarray``. The array is a view: delete it before closing.
        Raises `ModuleNotFoundError` without NumPy, `ValueError` where the array is larger than the memory,
        `TypeError` for a ``dtype`` with Python objects, which are pointers, `ClosedResourceError` after closing.
        """
        mapping = self._open()
        try:
            import numpy
        except ModuleNotFoundError as error:
            text = "array() needs NumPy, which is not installed: pip install 'aioipc[numpy]'"
            raise ModuleNotFoundError(text, name=error.name) from None
        kind = numpy.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"dtype {kind} has Python objects, and a pointer means nothing to another process")
        lengths = shape if isinstance(shape, tuple) else (shape,)
        count = math.prod(check_range("a length in shape", length, 0, sys.maxsize) for length in lengths)
        needed = count * kind.itemsize
        if check_range("offset", offset, 0, sys.maxsize) + needed > self.size:
            raise ValueError(f"an array of {needed} bytes at {offset} does not fit in {self.size} bytes")
        view = mapping.view()[offset : offset + needed]
        return numpy.asarray(view).view(kind).reshape(lengths)

    def close(self) -> None:
        """Detach the memory, and remove it where this object has made it; closed already: do nothing.

        Raises `BufferError` while there are views (memoryviews, slices, NumPy arrays); then it is still open.
        """
        if self._mapping is None:
            return
        if self._mapping.has_views():
            raise BufferError(
                f"the {self._label} cannot be closed while there are views of it: "
                "delete the slices and arrays made of its buffer, or release() the memoryviews"
            )
        self._abandon()

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it. With views alive it is over, too: the last view unmaps it, and a block that ended well is told."""
        try:
            self.close()
        except BufferError:
            self._abandon()
            if exc_value is None:  # else the views may be held by the very error
                raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc_value, traceback)
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = "" if self._mapping is not None else ", closed"
        return f"<{type(self).__name__} {self._label}, {self.size} bytes{state}>"

    def __del__(self) -> None:
        if self._mapping is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._abandon()

    def _open(self) -> Mapping:
        if self._mapping is None:
            raise ClosedResourceError(f"the {self._label} is closed")
        return self._mapping

    def _abandon(self) -> None:
        """End it; the last view, if there is any, unmaps it."""
        mapping, self._mapping = self._mapping, None
        if mapping is None:
            return
        try:
            self._before_unmapping()
        finally:
            mapping.unmap()
            self._after_unmapping()

    def _before_unmapping(self) -> None:
        """Remove what can be found by others."""

    def _after_unmapping(self) -> None:
        """Free what is left."""
