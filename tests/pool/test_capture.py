"""What workers print, line by line."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any, Literal

import pytest

import aioipc
from aioipc import OutputLine

from ..harness.processes import eventually_async, is_running, open_descriptors, wait_ended
from ..harness.scripts import run_script
from . import sample_functions
from . import talking_functions as tasks


def texts(lines: list[OutputLine], stream: str = "stdout") -> list[str]:
    return [line.text for line in lines if line.stream == stream]


# -- what is captured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["zygote", "spawn"])
async def test_both_streams(start_method: Literal["zygote", "spawn"]) -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append, start_method=start_method) as pool:
        pid = await pool.run(tasks.say, "größer 漢字", "", "two\nlines")
        await pool.run(tasks.say_loudly, "in red")
    assert [line for line in lines if line.stream == "stdout"] == [
        OutputLine(0, pid, "stdout", text) for text in ("größer 漢字", "", "two", "lines")
    ]
    assert [line for line in lines if line.stream == "stderr"] == [OutputLine(0, pid, "stderr", "in red")]


async def test_while_the_task_runs(tmp_path: Path) -> None:
    """A line is here as soon as it is printed, not when the task has ended."""
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        job = pool.submit(say_and_wait, str(tmp_path / "go"))
        await eventually_async(lambda: texts(lines) == ["now"], 20)
        assert not job.done()
        (tmp_path / "go").touch()
        await job


def say_and_wait(path: str) -> None:
    print("now")
    while not os.path.exists(path):
        threading.Event().wait(0.01)


async def test_below_python() -> None:
    """Descriptors 1 and 2 themselves: other programs, C code, undecodable bytes, the last line without an end."""
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.write, 1, b"raw \xff\n")
        await pool.run(tasks.shell, "echo from a shell; echo its error >&2")
        await pool.run(tasks.write, 1, b"no end")
        await pool.run(tasks.write, 2, b"none here")
    assert texts(lines) == ["raw \ufffd", "from a shell", "no end"]
    assert texts(lines, "stderr") == ["its error", "none here"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_fork_in_a_task() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.say, "before")
        await pool.run(tasks.fork_and_print)
    assert texts(lines) == ["before", "in the child", "in the parent"]


async def test_long_line() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.say, "é" * 100_000)
    assert "".join(texts(lines)) == "é" * 100_000
    assert [len(text.encode()) for text in texts(lines)] == [65536, 65536, 65536, 3392]


async def test_several_workers() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(2, capture=lines.append) as pool:
        pids = await asyncio.gather(*(pool.run(tasks.say, f"line {i}") for i in range(40)))
        slots = {worker.pid: worker.slot for worker in pool.statistics().workers}
    by_text = {line.text: line for line in lines}
    assert len(lines) == 40
    for number, pid in enumerate(pids):
        assert by_text[f"line {number}"] == OutputLine(slots[pid], pid, "stdout", f"line {number}")


async def test_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with asyncio.timeout(30), aioipc.Pool(1, capture=True) as pool:
        pid = await pool.run(tasks.say, "100 % fine")
        await pool.run(tasks.say_loudly, "not fine")
    out, error = (
        next(record for record in caplog.records if record.name == "aioipc.output" and record.levelno == level)
        for level in (logging.INFO, logging.WARNING)
    )
    assert out.getMessage() == f"worker 0 (pid {pid}): 100 % fine"
    assert error.getMessage() == f"worker 0 (pid {pid}): not fine"
    assert (out.process, out.processName) == (pid, "aioipc-worker-0")
    assert (vars(out)["worker"], vars(out)["stream"]) == (0, "stdout")


# -- crashes ---------------------------------------------------------------------------------------------------


async def test_crash_says_what_was_written_to_stderr() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.say_loudly, "long ago")
        with pytest.raises(aioipc.WorkerCrashed) as caught:
            await pool.run(tasks.write_and_die, 2, b"x" * 20_000 + b"\nlast words \xff")
        assert texts(lines, "stderr")[-1] == "last words \ufffd"
        assert caught.value.stderr == "x" * (8192 - 13) + "\nlast words \ufffd"
        assert "last words" in str(caught.value)
        with pytest.raises(aioipc.WorkerCrashed) as caught:
            await pool.run(os.kill, 0, signal.SIGKILL)
        assert caught.value.stderr == ""  # another worker's words are not this one's


async def test_crash_without_capture() -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        with pytest.raises(aioipc.WorkerCrashed) as caught:
            await pool.run(sample_functions.die_until, os.devnull, 1 << 30)
        assert caught.value.stderr == ""


def test_failed_boot_with_capture(tmp_path: Path) -> None:
    """What a worker writes before it is ready is told by WorkerBootError, as without capture."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'aioipc.pool.worker_main:main' in sys.argv:\n"
        "    import aioipc._sys.failpoints as f\n"
        "    def hit(name): sys.exit('no boot today')\n"
        "    f.hit = hit\n"
    )
    source = """
        import asyncio, aioipc
        async def main():
            try:
                async with aioipc.Pool(1, capture=True, start_method="spawn"):
                    pass
            except aioipc.WorkerBootError as error:
                print("no boot today" in error.stderr)
        asyncio.run(main())
    """
    done = run_script(source, timeout=30, env={"PYTHONPATH": str(tmp_path)})
    assert done.check().stdout == "True\n"


# -- nothing is held up ----------------------------------------------------------------------------------------


async def test_more_than_a_pipe_holds() -> None:
    """The worker waits while the pipe is full, and so nothing is lost."""
    lines: list[OutputLine] = []
    async with asyncio.timeout(50), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.shell, "yes | head -n 100000")
        assert await pool.run(sample_functions.square, 3) == 9
    assert texts(lines) == ["y"] * 100_000


async def test_flood_does_not_hold_up_others() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(50), aioipc.Pool(2, capture=lines.append) as pool:
        flood = pool.submit(tasks.shell, "yes")
        await eventually_async(lambda: len(lines) > 1000, 20)
        for number in range(20):
            assert await pool.run(sample_functions.square, number) == number**2
            await asyncio.sleep(0.001)
        flood.cancel()
        await asyncio.wait([flood])
        assert flood.cancelled()


async def test_grandchild_that_holds_the_pipe() -> None:
    lines: list[OutputLine] = []
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lines.append) as pool:
        await pool.run(tasks.say, "hello")
        grandchild = await pool.run(tasks.leave_a_grandchild)
        assert is_running(grandchild)
    wait_ended(grandchild)  # with the pool
    assert texts(lines) == ["hello"]


async def test_output_closed_by_a_task() -> None:
    async with asyncio.timeout(30), aioipc.Pool(1, capture=lambda line: None) as pool:
        assert await pool.run(tasks.close_output) == "done"
        assert await pool.run(sample_functions.square, 3) == 9


async def test_sink_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def sink(line: OutputLine) -> None:
        seen.append(line.text)
        raise RuntimeError("no room for this line")

    async with asyncio.timeout(30), aioipc.Pool(1, capture=sink) as pool:
        await pool.run(tasks.say, "one", "two")
        assert await pool.run(sample_functions.square, 3) == 9
    assert seen == ["one", "two"]
    failures = [record for record in caplog.records if record.exc_info and "capture=" in record.getMessage()]
    assert [str(record.exc_info[1]) for record in failures if record.exc_info] == ["no room for this line"] * 2


# -- descriptors -----------------------------------------------------------------------------------------------


async def test_each_worker_has_pipes_of_its_own() -> None:
    async with asyncio.timeout(30), aioipc.Pool(3, capture=lambda line: None) as pool:
        await eventually_async(lambda: [w.state for w in pool.statistics().workers] == ["RUNNING"] * 3, 20)
        statistics = pool.statistics()
        own: list[set[str]] = []
        for worker in statistics.workers:
            assert worker.pid is not None
            found = open_descriptors(worker.pid)
            assert found[1] != found[2]
            own.append({target for target in found.values() if target.startswith("pipe:")})
            assert list(found.values()).count(found[1]) == list(found.values()).count(found[2]) == 1
        assert len(set.union(*own)) == sum(map(len, own))
        zygote = set(open_descriptors(statistics.zygote_pid).values())
        assert not set.union(*own) & zygote


async def test_without_capture_they_are_inherited() -> None:
    async with asyncio.timeout(30), aioipc.Pool(1) as pool:
        found = await pool.run(tasks.standard_descriptors)
    assert found == {0: "/dev/null", **{fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}}


def test_program_without_standard_output() -> None:
    """A daemon that has closed it: the number goes to no socket, and captured lines arrive."""
    source = """
        import asyncio, os, sys, aioipc
        from tests.pool import talking_functions as tasks

        async def main():
            for capture in (False, lines.append):
                async with aioipc.Pool(2, capture=capture) as pool:
                    await pool.run(tasks.shell, "echo from a shell")
                    await pool.run(tasks.say, "from Python")
        lines = []
        os.close(1)
        asyncio.run(main())
        print([line.text for line in lines], file=sys.stderr)
    """
    assert run_script(source, timeout=30).check().stderr.endswith("['from a shell', 'from Python']\n")


def test_too_few_descriptors() -> None:
    """Wherever the limit strikes: an error that says so, or a pool that works; nothing stays open."""
    source = """
        import asyncio, os, resource, aioipc

        async def attempt(limit):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                async with aioipc.Pool(2, capture=True) as pool:
                    return await pool.run(abs, -3)
            except (OSError, aioipc.WorkerBootError) as error:
                return str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        async def main():
            before = os.listdir("/proc/self/fd")
            for limit in (len(before) + 6, len(before) + 10, len(before) + 14, soft):
                answer = await attempt(limit)
                print(answer == 3 or "Too many open files" in answer)
            assert os.listdir("/proc/self/fd") == before
            assert answer == 3

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        asyncio.run(main())
    """
    assert run_script(source, timeout=40).check().stdout == "True\n" * 4


# -- options ---------------------------------------------------------------------------------------------------


async def coroutine_function(line: OutputLine) -> None:
    pass


@pytest.mark.parametrize("capture", [None, "yes", 3, coroutine_function])
def test_bad_option(capture: Any) -> None:
    with pytest.raises(TypeError, match="capture must be"):
        aioipc.Pool(1, capture=capture)
