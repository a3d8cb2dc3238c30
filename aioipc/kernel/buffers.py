"""What a byte stream is asked for, checked before any system call: numbers of bytes, and buffers."""

from __future__ import annotations

from typing import TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"

LARGEST_READ = 1 << 20  # a pipe seldom holds more, and each read allocates as much as it asks for


def check_positive(name: str, value: object) -> None:
    """Raise `TypeError` where ``value`` is no integer, `ValueError` where it is below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def read_size(max_bytes: int) -> int:
    """Return how many bytes to ask the kernel for where the caller takes ``max_bytes`` at most."""
    if type(max_bytes) is not int or max_bytes < 1:
        check_positive("max_bytes", max_bytes)
    return max_bytes if max_bytes < LARGEST_READ else LARGEST_READ


def item_size(item: Buffer) -> int:
    """Return the size of ``item`` in bytes, if the kernel can take it as it is."""
    if type(item) is bytes:
        return len(item)
    with memoryview(item) as view:  # TypeError: a bytes-like object is required
        if not view.c_contiguous:
            raise ValueError("the memoryview to send is not contiguous")
        return view.nbytes


def check_target(buffer: bytearray | memoryview) -> None:
    """Raise `TypeError` or `ValueError` where nothing can be received into ``buffer``."""
    with memoryview(buffer) as view:
        if view.readonly:
            raise TypeError(f"a writable buffer is required, not a read-only {type(buffer).__name__!r}")
        if not view.nbytes or not view.c_contiguous:
            raise ValueError(f"the buffer to receive into is {'not contiguous' if view.nbytes else 'empty'}")
