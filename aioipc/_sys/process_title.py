"""What ``ps`` shows of this process: its name (prctl(2), PR_SET_NAME) and its arguments.

The arguments are shown from the memory where the kernel once put them (``arg_start`` and ``arg_end`` in proc(5)), so a
title is written there; a longer one is cut off. Nothing in Python looks at that memory any more.
"""

from __future__ import annotations

import contextlib
import ctypes

from .libc import set_process_name


def set_process_title(title: str) -> None:
    """Set the name and, where that is possible, the arguments that ``ps`` and ``top`` show for this process."""
    set_process_name(title)
    with contextlib.suppress(OSError, ValueError, IndexError):
        begin, end = _arguments_area()
        room = end - begin
        if begin > 0 and room > 1:
            ctypes.memset(begin, 0, room)
            text = title.encode("utf-8", "replace")[: room - 1]
            ctypes.memmove(begin, text, len(text))


def _arguments_area() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:
        text = file.read()
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[45]), int(fields[46])
