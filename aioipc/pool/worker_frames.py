"""What the frames of a task tell about where it was broken into."""

from __future__ import annotations

from types import TracebackType


def is_in_an_import(trace: TracebackType | None) -> bool:
    """Tell whether the traceback leads through the body of a module."""
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>":
            return True
        trace = trace.tb_next
    return False
