"""Every async test runs on asyncio and on uvloop; every test leaves the world as it found it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import pytest_asyncio

from .harness.isolation import Isolation, dismantle, isolate, new_directory, remove_directory
from .harness.leaks import DEADLINE, LeakCheck, forget_failure, report
from .harness.reaper import run_under_reaper

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

try:
    from uvloop import new_event_loop as new_uvloop
except ImportError:  # not made for this interpreter
    LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
else:
    LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": new_uvloop}

ISOLATION = pytest.StashKey[Isolation]()
FAILURES = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    directory = new_directory()
    run_under_reaper(at_end=lambda: remove_directory(directory))
    config.stash[ISOLATION] = isolate(directory)
    for make_loop in LOOPS.values():  # what a loop opens once for the life of the process
        make_loop().close()


def pytest_unconfigure(config: pytest.Config) -> None:
    dismantle(config.stash[ISOLATION])


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # so that the collection after each test is quick


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    return LOOPS


@pytest.fixture(autouse=True, scope="session")
def no_leaks_at_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same for fixtures of a wider scope than a test, unless single tests were blamed already."""
    check = LeakCheck(request.config.stash[ISOLATION], without={"thread"})  # the first test's time limit is one
    yield
    if not request.session.testsfailed and (leaks := check.settle()):
        text = report("a fixture of wider scope", leaks)
        check.clean_up()
        pytest.fail(text, pytrace=False)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something behind; `LeakCheck` knows the kinds."""
    session = request.session
    if session.testsfailed != session.stash.get(FAILURES, 0):
        session.stash[FAILURES] = session.testsfailed
        forget_failure()
    check = LeakCheck(request.config.stash[ISOLATION])
    yield
    if leaks := check.settle():
        text = report("the test", leaks)
        check.clean_up()
        pytest.fail(text, pytrace=False)


@pytest.fixture(autouse=True)
def no_pending_tasks(request: pytest.FixtureRequest, no_leaks: None) -> None:
    """Fail an async test that leaves tasks in its loop."""
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_pending_tasks_check")


@pytest_asyncio.fixture
async def _pending_tasks_check() -> AsyncIterator[None]:
    """Set up first and torn down last of all that uses the loop."""
    yield
    end = time.monotonic() + DEADLINE
    while (tasks := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    if tasks:
        pytest.fail("the test left tasks\n" + "\n".join(f"  {task!r}" for task in tasks), pytrace=False)
