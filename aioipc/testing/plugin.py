"""A pytest plugin: every test leaves the world as it found it.

Enable it in the ``conftest.py`` at the top of the tests:

    pytest_plugins = ["aioipc.testing.plugin"]

It is no entry point, because it would then change the tests of every project into whose environment aioipc
gets installed. From then on

- a test that leaves a descriptor, thread, process, IPC object, file, mapping, signal handler or task fails, and
  the failure names each (`aioipc.testing.leaks`);
- pytest runs under a process that adopts and ends what tests orphan (`aioipc.testing.reaper`);
- where the machine allows it, IPC objects and /dev/shm are private to the run (`aioipc.testing.isolation`);
- the fixture ``kill_points`` lets workers die at named points (`aioipc.testing.kill_points`).

Options of the ini file: ``aioipc_leak_deadline``, ``aioipc_private_ipc``, ``aioipc_reaper``. Of one test:
``@pytest.mark.may_leak("thread", …)``.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from .isolation import Isolation, dismantle, isolate, new_directory, remove_directory
from .kill_points import kill_points as kill_points
from .leaks import DEADLINE, LeakCheck, forget_failure, report
from .reaper import run_under_reaper
from .remove import forget_what_stays

ISOLATION = pytest.StashKey[Isolation]()
FAILURES = pytest.StashKey[int]()
BLAMED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the options of the ini file."""
    text = "seconds that processes, threads and the like have after a test to end by themselves"
    parser.addini("aioipc_leak_deadline", text, default=str(DEADLINE))
    text = "give the run an IPC namespace and a /dev/shm of its own, where the machine allows it"
    parser.addini("aioipc_private_ipc", text, type="bool", default=True)
    text = "run pytest under a process that adopts and ends what the tests orphan"
    parser.addini("aioipc_reaper", text, type="bool", default=True)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fork off the reaper and enter the namespaces, before there is a thread."""
    config.addinivalue_line("markers", "may_leak(kind, ...): do not fail the test for leaks of these kinds")
    directory = new_directory()
    if config.getini("aioipc_reaper"):
        run_under_reaper(at_end=lambda: remove_directory(directory))
    config.stash[ISOLATION] = isolate(directory, private=config.getini("aioipc_private_ipc"))
    _open_what_stays_open()
    if config.pluginmanager.hasplugin("asyncio"):  # pytest-asyncio
        from . import task_check

        config.pluginmanager.register(task_check)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory of the session."""
    if (isolation := config.stash.get(ISOLATION, None)) is not None:
        dismantle(isolation)


def pytest_collection_finish() -> None:
    """Let the collection after each test pass over all that was imported until now."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_leaks_at_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same for fixtures of a wider scope than a test, unless single tests were blamed already."""
    check = LeakCheck(request.config.stash[ISOLATION], without={"thread"})  # the first test's time limit is one
    yield
    if not request.session.testsfailed and BLAMED not in request.session.stash:
        _judge(check, "a fixture of wider scope", request.session)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something behind; `LeakCheck` knows the kinds."""
    session = request.session
    if session.testsfailed != session.stash.get(FAILURES, 0):
        session.stash[FAILURES] = session.testsfailed
        forget_failure()
    allowed = {kind for mark in request.node.iter_markers("may_leak") for kind in mark.args}
    check = LeakCheck(request.config.stash[ISOLATION], without=allowed)
    yield
    try:
        _judge(check, "the test", session)
    finally:
        forget_what_stays(request.config.stash[ISOLATION])


def _judge(check: LeakCheck, who: str, session: pytest.Session) -> None:
    if leaks := check.settle(float(session.config.getini("aioipc_leak_deadline"))):
        session.stash[BLAMED] = True
        text = report(who, leaks)
        check.clean_up()
        pytest.fail(text, pytrace=False)


def _open_what_stays_open() -> None:
    """A loop's first instance opens what then stays open for the life of the process."""
    asyncio.SelectorEventLoop().close()
    try:
        from uvloop import new_event_loop
    except ImportError:  # not made for this interpreter
        return
    new_event_loop().close()
