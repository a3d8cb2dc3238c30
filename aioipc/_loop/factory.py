"""Which event loop to make: uvloop's where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a new loop."""
    try:
        import uvloop
    except ImportError:  # not made for this interpreter
        return asyncio.new_event_loop
    return uvloop.new_event_loop
