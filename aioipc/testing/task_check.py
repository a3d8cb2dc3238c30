"""The part of the plugin that looks for tasks, which needs pytest-asyncio: it runs inside the test's loop.

anyio's own plugin cancels what a test leaves running, so there is nothing to find under it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio


@pytest.fixture(autouse=True)
def no_pending_tasks(request: pytest.FixtureRequest, no_leaks: None) -> None:
    """Fail an async test that leaves tasks in its loop."""
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_pending_tasks_check")


@pytest_asyncio.fixture
async def _pending_tasks_check(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Set up first and torn down last of all that uses the loop."""
    yield
    end = time.monotonic() + float(request.config.getini("aioipc_leak_deadline"))
    while (tasks := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    if tasks:
        pytest.fail("the test left tasks\n" + "\n".join(f"  {task!r}" for task in tasks), pytrace=False)
