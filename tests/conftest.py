"""Every async test runs on asyncio and on uvloop; every test leaves the world as it found it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

pytest_plugins = ["aioipc.testing.plugin"]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

try:
    from uvloop import new_event_loop as new_uvloop
except ImportError:  # not made for this interpreter
    LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
else:
    LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": new_uvloop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    return LOOPS
