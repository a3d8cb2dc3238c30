"""What a worker has and has not: descriptors, signals, session, surroundings."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import aioipc

from ..harness.processes import eventually_async, open_descriptors, process
from ..harness.scripts import run_script
from . import fault_functions as tasks

StartMethod = Literal["zygote", "spawn"]
START_METHODS: list[StartMethod] = ["zygote", "spawn"]

both_ways = pytest.mark.parametrize("start_method", START_METHODS)


async def ready_pids(pool: aioipc.Pool, workers: int) -> list[int]:
    """The pids of all workers, once they are ready."""

    def ready() -> bool:
        return [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * workers

    await eventually_async(ready, 10, pool.statistics)
    return [worker.pid for worker in pool.statistics().workers if worker.pid is not None]


async def replaced(pool: aioipc.Pool) -> None:
    """Kill the only worker, so that the next task has a new one."""
    (before,) = await ready_pids(pool, 1)
    os.kill(before, signal.SIGKILL)
    await eventually_async(lambda: before not in [worker.pid for worker in pool.statistics().workers])


# -- descriptors and memory ------------------------------------------------------------------------------------


def sockets(pid: int) -> set[str]:
    return {target for target in open_descriptors(pid).values() if target.startswith("socket:")}


def scoreboards(pid: int) -> set[int]:
    """The inodes of the pages it shares, mapped or open."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    mapped = {int(line.split()[4]) for line in maps.splitlines() if "aioipc-scoreboard" in line}
    opened = {fd for fd, target in open_descriptors(pid).items() if "aioipc-scoreboard" in target}
    return mapped | {os.stat(f"/proc/{pid}/fd/{fd}").st_ino for fd in opened}


@both_ways
async def test_no_worker_holds_what_is_anothers(start_method: StartMethod) -> None:
    async with asyncio.timeout(20), aioipc.Pool(4, start_method=start_method, shutdown=1) as pool:
        for pid in (await ready_pids(pool, 4))[1:3]:  # and neither do the replacements
            os.kill(pid, signal.SIGKILL)
            await eventually_async(lambda pid=pid: pid not in [w.pid for w in pool.statistics().workers])
        workers = await ready_pids(pool, 4)
        await asyncio.gather(*(pool.run(asyncio.sleep, 0.05) for _ in range(64)))
        zygote, master = pool.statistics().zygote_pid, os.getpid()
        seen: dict[str, int] = {}
        for pid in (*workers, zygote, master):
            for each in sockets(pid):
                assert each not in seen, f"{each} is held by {seen[each]} and {pid}"
                seen[each] = pid
        assert len(sockets(zygote)) == 1
        for pid in workers:
            check_descriptors(pid)
        pages = [scoreboards(pid) for pid in workers]
        assert [len(each) for each in pages] == [1] * 4
        assert len(set.union(*pages)) == 4
        assert not scoreboards(zygote)
        assert scoreboards(master) == set.union(*pages)


def check_descriptors(pid: int) -> None:
    """Its sockets, its page, the standard ones, and what an event loop and wake-up pipes take; no files."""
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    own = {number: target for number, target in open_descriptors(pid).items() if number > 2}
    kinds = Counter(re.sub(r"\d+", "", target) for target in own.values())
    assert kinds.pop("socket:[]") in (2, 4), own  # an event loop may have a pair of its own
    assert kinds.pop("/memfd:aioipc-scoreboard (deleted)", 0) <= 1
    assert kinds.pop("/memfd:aioipc-stderr (deleted)", 0) <= 1  # where its stacks would be dumped
    of_a_loop = {"anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[io_uring]"}
    assert kinds.keys() <= {"pipe:[]", "/dev/null", *of_a_loop}, own


async def test_worker_without_a_loop_has_two_sockets() -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        for pid in await ready_pids(pool, 2):
            assert len(sockets(pid)) == 2
            assert len(os.listdir(f"/proc/{pid}/task")) == 2


async def test_descriptors_of_the_master_stay_there(tmp_path: Path) -> None:
    """Also those that it has made inheritable: workers come from the zygote, not from the master."""
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
            (worker,) = await ready_pids(pool, 1)
            for pid in (worker, pool.statistics().zygote_pid):
                assert str(tmp_path / "secret") not in open_descriptors(pid).values()


# -- signals and session ---------------------------------------------------------------------------------------


def signals(pid: int, field: str) -> set[signal.Signals]:
    """A mask of /proc/PID/status as a set."""
    status = Path(f"/proc/{pid}/status").read_text()
    bits = int(re.findall(rf"^{field}:\s*(\w+)$", status, re.MULTILINE)[0], 16)
    return {number for number in signal.Signals if bits >> (number - 1) & 1}


PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}


@both_ways
async def test_dispositions(start_method: StartMethod) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, start_method=start_method, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        zygote = pool.statistics().zygote_pid
        assert signals(worker, "SigBlk") == set()
        assert signals(worker, "SigIgn") == {signal.SIGHUP} | PYTHON_IGNORES
        assert signals(worker, "SigCgt") == {signal.SIGTERM, signal.SIGINT}
        assert signals(zygote, "SigBlk") == set()
        assert signals(zygote, "SigCgt") == {signal.SIGCHLD}
        ignored = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
        assert signals(zygote, "SigIgn") == ignored | PYTHON_IGNORES


def test_dispositions_under_an_odd_master() -> None:
    """What the master blocks or ignores is its own affair."""
    source = """
        import asyncio, os, signal, aioipc
        from tests.pool import test_isolation as t

        async def main():
            async with aioipc.Pool(1) as pool:
                zygote, worker = pool.statistics().zygote_pid, await pool.run(os.getpid)
                for pid in (zygote, worker):
                    assert t.signals(pid, "SigBlk") == set(), (pid, t.signals(pid, "SigBlk"))
                assert t.signals(worker, "SigIgn") == {signal.SIGHUP} | t.PYTHON_IGNORES
            print("done")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2})
        asyncio.run(main())
    """
    assert run_script(source, timeout=15).check().stdout == "done\n"


async def test_own_session_and_group() -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        zygote = pool.statistics().zygote_pid
        for pid in (zygote, *await ready_pids(pool, 2)):
            found = process(pid)
            assert found is not None
            assert found.sid == found.pgid == pid
            assert found.ppid == (os.getpid() if pid == zygote else zygote)


def look_after_fork() -> tuple[int, str, int]:
    """In a forked child: wake-up descriptor, disposition of SIGTERM, number of sockets."""
    read, write = os.pipe()
    if os.fork() == 0:
        report = (signal.set_wakeup_fd(-1), str(signal.getsignal(signal.SIGTERM)), len(tasks.worker_sockets()))
        os.write(write, repr(report).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.wait()
    wakeup, disposition, count = eval(text)
    return wakeup, disposition, count


def wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


@both_ways
async def test_fork_in_a_task_leaves_the_worker_behind(start_method: StartMethod) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, start_method=start_method, shutdown=1) as pool:
        assert await pool.run(wakeup_fd) > 2
        assert await pool.run(look_after_fork) == (-1, str(signal.SIG_DFL), 0)


def terminate_forked_child(wait_for_it: bool) -> int | None:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def live() -> None:
        send.send("alive")
        signal.pause()

    child = context.Process(target=live)
    child.start()
    if wait_for_it:
        receive.recv()
    child.terminate()
    child.join(5)
    code = child.exitcode
    child.kill()
    return code


@pytest.mark.parametrize("wait_for_it", [True, False])
async def test_multiprocessing_child_can_be_terminated(wait_for_it: bool) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        assert await pool.run(terminate_forked_child, wait_for_it) == -signal.SIGTERM
        assert await pool.run(os.getpid) == worker


# -- surroundings ----------------------------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@both_ways
async def test_surroundings_of_the_moment(
    start_method: StartMethod, umask: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker starts with what the master has when it starts, not with what it had when the pool was opened."""
    async with asyncio.timeout(20), aioipc.Pool(1, start_method=start_method, shutdown=1) as pool:
        first = await pool.run(tasks.surroundings)
        check_surroundings(first)
        for i in range(2):
            change(i, tmp_path, monkeypatch)
            assert await pool.run(tasks.surroundings) == first
            await replaced(pool)
            first = await pool.run(tasks.surroundings)
            check_surroundings(first)
        zygote = pool.statistics().zygote_pid
        os.kill(zygote, signal.SIGKILL)
        await eventually_async(lambda: pool.statistics().zygote_pid != zygote)
        check_surroundings(await pool.run(tasks.surroundings))


def change(i: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change everything that workers take over."""
    there = directory / f"dir {i}"
    there.mkdir()
    monkeypatch.chdir(there)
    monkeypatch.setenv("AIOIPC_TEST_ADDED", f"value {i}\nsecond line")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["program", str(i), "--option"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(there)])
    os.umask(0o027 + i)


def check_surroundings(found: dict[str, Any]) -> None:
    umask = os.umask(0o077)
    os.umask(umask)
    assert found["environ"] == dict(os.environ)
    assert (found["cwd"], found["umask"]) == (os.getcwd(), umask)
    assert found["path"] == sys.path
    assert found["argv"] == sys.argv
    assert found["sid"] == found["pgid"] == found["pid"]


async def test_module_that_appeared_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a module that is only on the path of now."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (tmp_path / "appeared_later.py").write_text("def answer():\n    return 42\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        import appeared_later  # type: ignore[import-not-found]

        monkeypatch.delitem(sys.modules, "appeared_later", raising=False)
        sys.modules["appeared_later"] = appeared_later
        await replaced(pool)
        assert await pool.run(appeared_later.answer) == 42
        del sys.modules["appeared_later"]


async def test_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master's working directory was removed: workers start all the same."""
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    monkeypatch.chdir(doomed)
    doomed.rmdir()
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        assert await pool.run(abs, -1) == 1
        await replaced(pool)
        assert await pool.run(abs, -2) == 2
    monkeypatch.chdir(tmp_path)


@both_ways
def test_main_is_not_imported_again(start_method: str) -> None:
    """A script without a guard: its functions, classes and lambdas run in workers, its lines do not."""
    source = f"""
        import sys, asyncio, aioipc
        print("top level", __name__, flush=True)

        class Thing:
            def __init__(self, n):
                self.n = n

        def double(thing):
            return Thing(thing.n * 2)

        def main_name():
            return sys.modules["__main__"].__spec__ is None, getattr(sys.modules["__main__"], "Thing", None)

        async def main():
            async with aioipc.Pool(2, start_method={start_method!r}) as pool:
                print((await pool.run(double, Thing(4))).n)
                print(await pool.run(lambda: 7))
                print(await pool.run(main_name))
        asyncio.run(main())
    """
    done = run_script(source).check()
    assert done.stdout == "top level __main__\n8\n7\n(True, None)\n"


# -- loops inside tasks ----------------------------------------------------------------------------------------


def run_a_loop(how: str) -> str:
    async def main() -> str:
        await asyncio.sleep(0.001)
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        return type(asyncio.get_running_loop()).__module__

    if how == "uvloop":
        import uvloop

        return uvloop.run(main())
    return asyncio.run(main())


@pytest.mark.parametrize("how", ["asyncio", "uvloop"])
async def test_event_loop_in_a_sync_task(how: str) -> None:
    """And the worker hears of signals as before, also after the loop had its wake-up descriptor."""
    pytest.importorskip(how)
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        for _ in range(2):
            assert (await pool.run(run_a_loop, how)).startswith(how)
            assert await pool.run(tasks.sleeping_async, 0.001) == 0.001
        assert (await pool.run(run_a_loop, how)).startswith(how)
        assert await pool.run(os.getpid) == worker
        os.kill(worker, signal.SIGTERM)
        assert await pool.run(os.getpid) != worker
        assert pool.statistics().crashes == 0
