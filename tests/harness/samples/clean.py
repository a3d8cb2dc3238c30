"""Tests that look like leaks and are none; run by tests/test_leak_check.py."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import AsyncIterator

import pytest


def test_slow_end() -> None:
    """Ends by itself, a moment after the test."""
    thread = threading.Thread(target=time.sleep, args=(0.05,))
    thread.start()
    child = subprocess.Popen(["sleep", "0.05"])
    threading.Thread(target=child.wait).start()


async def test_subprocess() -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    await child.communicate(b"")


def test_adopted_orphan() -> None:
    """A grandchild that ends after its parent: init's to reap, not ours."""
    subprocess.run(["sh", "-c", "sleep 0.05 &"], check=True)


async def test_executor() -> None:
    await asyncio.to_thread(time.sleep, 0)
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@pytest.fixture
async def background() -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(asyncio.sleep(1000))
    yield task
    task.cancel()


async def test_task_of_a_fixture(background: asyncio.Task[None]) -> None:
    assert not background.done()
