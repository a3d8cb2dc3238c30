"""What workers log comes out of the master's `logging`."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import aioipc
from aioipc.supervisor.log_levels import current_levels

from ..harness.processes import eventually, eventually_async, wait_ended
from . import sample_functions
from . import talking_functions as tasks

NAME = "tests.logs"


@pytest.fixture(autouse=True)
def levels(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Workers that start in a test send INFO."""
    caplog.set_level(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def of(caplog: pytest.LogCaptureFixture, name: str = NAME) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == name]


def messages(caplog: pytest.LogCaptureFixture, name: str = NAME) -> list[str]:
    return [record.getMessage() for record in of(caplog, name)]


# -- what arrives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["zygote", "spawn"])
async def test_record_is_as_it_was(caplog: pytest.LogCaptureFixture, start_method: Literal["zygote", "spawn"]) -> None:
    begin = time.time()
    async with asyncio.timeout(30), aioipc.Pool(1, start_method=start_method) as pool:
        pid = await pool.run(sample_functions.worker_pid)
        line = await pool.run(tasks.log, NAME, logging.WARNING, "%s is %d", "answer", 42)
        (record,) = of(caplog)  # it has come before the result
    assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")
    assert (record.getMessage(), record.args) == ("answer is 42", None)
    assert (record.process, record.processName) == (pid, "aioipc-worker-0")
    assert vars(record)["worker"] == 0
    assert record.pathname == tasks.__file__
    assert (record.filename, record.module) == ("talking_functions.py", "talking_functions")
    assert (record.funcName, record.lineno) == ("log", line)
    assert record.threadName == "MainThread"
    assert begin <= record.created <= time.time()
    assert 0 <= record.msecs < 1000
    assert record.relativeCreated >= 0
    assert record.exc_info is None


async def test_threads(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        ident = await pool.run(tasks.log_in_thread, NAME, "some thread")
    (record,) = of(caplog)
    assert (record.thread, record.threadName) == (ident, "some thread")


async def test_long_records_of_several_threads(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(50), aioipc.Pool(1) as pool:
        await pool.run(tasks.log_in_threads, NAME, 4, 10, 5000)
    texts = messages(caplog)
    assert len(texts) + lost(caplog) == 40
    assert set(texts) <= {f"{who} {number} {'x' * 5000}" for who in range(4) for number in range(10)}
    assert len(set(texts)) == len(texts)


async def test_async_tasks(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(2) as pool:
        await asyncio.gather(*(pool.run(tasks.log_async, NAME, i) for i in range(50)))
    assert sorted(messages(caplog)) == sorted(f"async {i}" for i in range(50))


async def test_exception(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        await pool.run(tasks.log_exception, NAME)
    (record,) = of(caplog)
    assert record.exc_text is not None
    assert record.exc_text.startswith("Traceback (most recent call last):")
    assert "in log_exception" in record.exc_text
    assert record.exc_text.endswith("KeyError: 'what went wrong: é'")
    assert record.exc_text in logging.Formatter().format(record)


async def test_text_and_extra_attributes(caplog: pytest.LogCaptureFixture) -> None:
    extra = {"plain": 1.5, "text": "ö", "other": {1, 2}.__class__, "worker": "of the task"}
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        for text in ("größer 漢字 \N{GRINNING FACE}", "half \ud800 of a character", "two\nlines\0"):
            await pool.submit(tasks.log, NAME, logging.INFO, text)
        await pool.run(sample_log_with, extra)
    assert messages(caplog)[:3] == ["größer 漢字 \N{GRINNING FACE}", "half \ud800 of a character", "two\nlines\0"]
    values = vars(of(caplog)[3])
    assert (values["plain"], values["text"], values["other"]) == (1.5, "ö", "<class 'set'>")
    assert values["worker"] == 0


def sample_log_with(extra: dict[str, Any]) -> None:
    logging.getLogger(NAME).info("with", extra=extra)


async def test_huge_messages(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        await pool.run(tasks.log, NAME, logging.INFO, "z" * 50_000)
        await pool.run(tasks.log, NAME, logging.INFO, "begin %s", "é" * 1_000_000)
        await pool.run(tasks.log, NAME, logging.INFO, "after")
    whole, cut, after = messages(caplog)
    assert whole == "z" * 50_000
    assert cut.startswith("begin é")
    assert cut.endswith("more characters)")
    assert len(cut) < 5000
    assert after == "after"


async def test_arguments_that_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    """It is reported as `logging` does: on the worker's standard error."""
    lines: list[aioipc.OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.log, NAME, logging.INFO, "%d", "no number")
        await pool.run(tasks.log, NAME, logging.INFO, "next")
    assert messages(caplog) == ["next"]
    assert "--- Logging error ---" in [line.text for line in lines]


async def test_what_was_logged_just_before_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        pid = await pool.run(os.getpid)
        job = pool.submit(tasks.log_and_die, NAME, 250)
        await eventually_async(lambda: job.state == "running")
        wait_ended(pid, 20)  # blocks the loop: nothing of it is read before
        with pytest.raises(aioipc.WorkerCrashed):
            await job
        assert messages(caplog) == [f"record {i}" for i in range(250)]


# -- what is not to arrive -------------------------------------------------------------------------------------


async def test_levels_of_the_master(caplog: pytest.LogCaptureFixture) -> None:
    """Records that nobody wants are not even made."""
    caplog.set_level(logging.ERROR, "tests.logs.quiet")
    caplog.set_level(logging.DEBUG, "tests.logs.loud")
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        asked = [
            (NAME, logging.DEBUG),
            (NAME, logging.INFO),
            ("tests.logs.quiet.below", logging.WARNING),
            ("tests.logs.quiet.below", logging.ERROR),
            ("tests.logs.loud", logging.DEBUG),
        ]
        assert await pool.run(tasks.enabled, *asked) == [False, True, False, True, True]
        caplog.set_level(logging.ERROR, NAME)  # the worker does not know of this
        await pool.run(tasks.log, NAME, logging.WARNING, "too late for the worker, not for us")
        await pool.run(tasks.log, NAME, logging.ERROR, "this one")
    assert messages(caplog) == ["this one"]


async def test_disabled(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("tests.logs.off"), "disabled", True)
    logging.disable(logging.INFO)
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        asked = [(NAME, logging.INFO), (NAME, logging.WARNING), ("tests.logs.off", logging.ERROR)]
        assert await pool.run(tasks.enabled, *asked) == [False, True, False]


class Level(enum.IntEnum):
    """As programs have them that do not like plain numbers."""

    LOUD = 35


async def test_level_of_a_class_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(Level.LOUD, NAME)
    assert all(type(level) is int for level in current_levels()["levels"].values())
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        await pool.run(tasks.log, NAME, Level.LOUD, "loud")
        await pool.run(tasks.log, NAME, logging.WARNING, "not loud")
    assert messages(caplog) == ["loud"]


async def test_off(caplog: pytest.LogCaptureFixture) -> None:
    """Then it is as in any Python process: warnings go to standard error."""
    lines: list[aioipc.OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, logs=False, capture=lines.append) as pool:
        await pool.run(tasks.log, NAME, logging.WARNING, "on its own")
    assert messages(caplog) == []
    assert [(line.stream, line.text) for line in lines] == [("stderr", "on its own")]


@pytest.mark.parametrize("logs", [None, 1, "yes"])
def test_bad_option(logs: Any) -> None:
    with pytest.raises(TypeError, match="logs must be True or False"):
        aioipc.Pool(1, logs=logs)


# -- beside other handlers -------------------------------------------------------------------------------------


async def test_handlers_of_a_task_keep_working(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[aioipc.OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.configure_and_log, NAME)
    assert messages(caplog) == ["twice"]
    assert [line.text for line in lines] == ["own INFO twice"]


async def test_functions_of_the_module_print_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[aioipc.OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        assert await pool.run(tasks.log_to_the_root) == 0
    assert messages(caplog, "root") == ["by the module's function"]
    assert lines == []


async def test_handler_of_the_master_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))

    def refuse(record: logging.LogRecord) -> bool:
        if "bad" in record.getMessage():
            raise RuntimeError("a filter of the program")
        return True

    logging.getLogger(NAME).addFilter(refuse)
    try:
        async with asyncio.timeout(30), aioipc.Pool(1) as pool:
            for text in ("bad", "good"):
                await pool.run(tasks.log, NAME, logging.INFO, text)
    finally:
        logging.getLogger(NAME).removeFilter(refuse)
    assert messages(caplog) == ["good"]
    assert [str(problem["exception"]) for problem in problems] == ["a filter of the program"]


# -- a worker never waits, a master never starves --------------------------------------------------------------


def lost(caplog: pytest.LogCaptureFixture) -> int:
    """How many records the warnings say were lost."""
    told = [r for r in of(caplog, "aioipc.pool") if "were lost" in r.getMessage()]
    assert all(record.levelno == logging.WARNING for record in told)
    return sum(int(record.getMessage().split()[0]) for record in told)


async def test_master_that_does_not_read(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A worker logs and ends its task while our loop stands still; what found no room is counted."""
    marker = tmp_path / "finished"
    async with asyncio.timeout(55), aioipc.Pool(1) as pool:
        await pool.run(tasks.log, NAME, logging.INFO, "first")
        job = pool.submit(tasks.log_many, NAME, 100_000, str(marker))
        await eventually_async(lambda: job.state == "running")
        eventually(marker.exists, 45)  # blocks the loop
        await job
        await pool.run(tasks.log, NAME, logging.INFO, "last")
    texts = messages(caplog)
    assert (texts[0], texts[-1]) == ("first", "last")
    assert 100 < len(texts) < 100_000
    assert len(texts) + lost(caplog) == 100_002
    assert "were lost" in caplog.records[caplog.records.index(of(caplog)[-1]) - 1].getMessage()


async def test_losses_are_told_at_the_end(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    marker = tmp_path / "finished"
    async with asyncio.timeout(55), aioipc.Pool(1) as pool:
        job = pool.submit(tasks.log_many, NAME, 10_000, str(marker))
        await eventually_async(lambda: job.state == "running")
        eventually(marker.exists, 45)  # blocks the loop
    assert len(messages(caplog)) < 10_000
    assert len(messages(caplog)) + lost(caplog) == 10_000


async def test_flood_does_not_hold_up_others(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    async with asyncio.timeout(55), aioipc.Pool(2) as pool:
        flood = pool.submit(tasks.log_many, NAME, 20_000)
        for number in range(20):
            assert await pool.run(sample_functions.square, number) == number**2
            await asyncio.sleep(0.001)
        await flood
    assert len(messages(caplog)) + lost(caplog) == 20_000


# -- tasks that do odd things ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_fork_in_a_task(caplog: pytest.LogCaptureFixture) -> None:
    """The child has the logging of any Python process; what the worker says meanwhile is not torn apart."""
    async with asyncio.timeout(55), aioipc.Pool(1) as pool:
        count = await pool.run(tasks.log_and_fork, NAME, 20)
    texts = messages(caplog)
    assert [text for text in texts if text.startswith("parent")] == [f"parent {i}" for i in range(20)]
    assert not [text for text in texts if text.startswith("child")]
    assert {text for text in texts if text.startswith("thread")} <= {"thread " + "y" * 6000}
    assert len(texts) + lost(caplog) == count
    assert not garbage(caplog)


def garbage(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in messages(caplog, "aioipc.pool") if "descriptor of its log records" in text]


async def test_garbage(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a task writes there is skipped, with one warning; records go on."""
    pieces = [b"x", b"hello\n" * 500, os.urandom(4000), b"\xf5\xffLR" * 40, b"\xf5\xffLR\x08\x00\x03\0\0\0\0\0garbage!"]
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        await pool.run(tasks.write_garbage, NAME, pieces)
    assert messages(caplog)[-1] == "after 4"
    assert set(messages(caplog)) <= {f"after {i}" for i in range(5)}
    assert len(garbage(caplog)) == 1


async def test_closed_by_a_task(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        assert await pool.run(tasks.close_log_pipe, NAME) == "done"
        assert await pool.run(sample_functions.square, 3) == 9
    assert messages(caplog) == []


async def test_nested_pool(caplog: pytest.LogCaptureFixture) -> None:
    """What a worker of a worker logs comes here as well."""
    async with asyncio.timeout(50), aioipc.Pool(1) as pool:
        inner = await pool.run(run_in_a_pool_of_its_own, NAME)
    (record,) = of(caplog)
    assert (record.getMessage(), record.process) == ("deep inside", inner)


async def run_in_a_pool_of_its_own(name: str) -> int:
    async with aioipc.Pool(1) as pool:
        await pool.run(tasks.log, name, logging.INFO, "deep inside")
        return await pool.run(os.getpid)
