"""Every async test runs on asyncio and on uvloop; every test leaves the world as it found it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping

import pytest

from .harness.differences import first_differences

pytest_plugins = ["aioipc.testing.plugin"]

# On CI pytest explains a comparison of long lists by a complete diff, whose cost grows with the cube of their
# length: the test's timeout would end the run within it, and nobody would see which test failed.
for name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(name, None)

# In the background of a shell SIGINT is ignored, and would be by all programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

try:
    from uvloop import new_event_loop as new_uvloop
except ImportError:  # not made for this interpreter
    LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
else:
    LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": new_uvloop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    return LOOPS


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of two long collections by the first places where they differ."""
    return first_differences(left, right) if op == "==" else None
