"""How programs end: `run` and `graceful_shutdown`, under real signals, a real terminal, as a real PID 1."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import children, descendants, eventually, eventually_async, wait_gone
from ..harness.scripts import Script, run_script, running_script
from ..harness.terminal import CTRL_C, terminal

INT, TERM = signal.SIGINT, signal.SIGTERM
EXITS = {INT: 130, TERM: -TERM}
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
SIGNALS = pytest.mark.parametrize("signum", [INT, TERM], ids=["INT", "TERM"])


def on(loop: str, source: str) -> str:
    """The script, with `run` on that loop."""
    return ("import sys; sys.modules['uvloop'] = None\n" if loop == "asyncio" else "") + textwrap.dedent(source)


def family_of(script: Script) -> list[int]:
    return [each.pid for each in descendants(script.pid)]


def wait_all_gone(pids: list[int]) -> None:
    for pid in pids:
        wait_gone(pid)


# -- run: results and errors -----------------------------------------------------------------------------


async def add(*numbers: int) -> int:
    await asyncio.sleep(0)
    return sum(numbers)


def test_run_returns_what_main_returns() -> None:
    assert aioipc.run(add, 1, 2, 3) == 6
    assert aioipc.run(add) == 0
    assert aioipc.run(add(1, 2)) == 3
    assert aioipc.run(lambda: add(4)) == 4


@LOOPS
def test_run_uses_uvloop_where_it_is_installed(loop: str) -> None:
    source = """
        import asyncio, aioipc
        async def main():
            return type(asyncio.get_running_loop()).__module__
        print(aioipc.run(main))
    """
    assert run_script(on(loop, source)).check().stdout.startswith(loop)


def test_run_raises_what_main_raises() -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        aioipc.run(fail)


def test_run_with_wrong_arguments() -> None:
    anything: Any = aioipc.run
    for main in (None, 5, "main", asyncio.sleep(0)):
        arguments = (1,) if asyncio.iscoroutine(main) else ()
        with pytest.raises(TypeError, match=r"aioipc\.run (needs an async function|takes arguments only)"):
            anything(main, *arguments)
    with pytest.raises(TypeError, match="returned 5, which cannot be awaited"):
        anything(lambda: 5)
    with pytest.raises(TypeError, match="argument"):
        anything(asyncio.sleep)
    with pytest.raises(TypeError):
        anything()


async def test_run_inside_a_running_loop() -> None:
    for main in (add, add(1)):
        with pytest.raises(RuntimeError, match="one runs in this thread"):
            aioipc.run(main)  # type: ignore[arg-type]


def test_run_outside_the_main_thread() -> None:
    errors: list[BaseException] = []

    def use() -> None:
        for main in (add, add(1)):
            try:
                aioipc.run(main)  # type: ignore[arg-type]
            except RuntimeError as error:
                errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(10)
    assert [str(error) for error in errors] == [
        "aioipc.run handles signals, which Python allows in the main thread only"
    ] * 2


def test_run_restores_the_handlers() -> None:
    def mine(*_: object) -> None:
        pytest.fail("no signal was sent")

    async def main() -> Any:
        return signal.getsignal(TERM)

    before = signal.signal(TERM, mine)
    try:
        assert aioipc.run(main) is not mine
        assert signal.getsignal(TERM) is mine
    finally:
        signal.signal(TERM, before)


@pytest.mark.parametrize(("code", "status"), [("5", 5), ("None", 0), ("'words'", 1)])
def test_system_exit_of_main(code: str, status: int) -> None:
    source = f"""
        import aioipc, sys
        async def main():
            sys.exit({code})
        aioipc.run(main)
    """
    assert run_script(source).returncode == status


# -- run: one signal -------------------------------------------------------------------------------------

WAITS = """
    import asyncio, atexit, aioipc
    atexit.register(print, "at exit")
    async def main():
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            print("cleaned up")
    aioipc.run(main)
    print("not reached")
"""

WITH_POOL = """
    import asyncio, os, sys, threading, aioipc

    def stubborn(number):
        print(f"task {number}", flush=True)
        while True:
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                pass

    async def main():
        async with aioipc.Pool(2, grace=60) as pool:
            for number in range(2):
                pool.submit(stubborn, number, retries=RETRIES)
            print("ready", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print("closing", flush=True)
    aioipc.run(main)
"""


@LOOPS
@SIGNALS
def test_a_signal_ends_it(loop: str, signum: signal.Signals) -> None:
    with running_script(on(loop, WAITS)) as script:
        script.wait_output("ready")
        script.send_signal(signum)
        done = script.wait()
    assert (done.returncode, done.stdout, done.stderr) == (EXITS[signum], "ready\ncleaned up\nat exit\n", "")


@SIGNALS
def test_a_signal_ends_pools_too(signum: signal.Signals) -> None:
    """What runs and can be cancelled is waited for; nothing is left."""
    source = """
        import asyncio, time, aioipc
        async def main():
            async with aioipc.Pool(2) as pool:
                jobs = [pool.submit(time.sleep, 1000) for _ in range(4)]
                print("ready", flush=True)
                await asyncio.gather(*jobs)
        aioipc.run(main)
    """
    with running_script(source) as script:
        script.wait_output("ready")
        family = family_of(script)
        assert len(family) == 3
        script.send_signal(signum)
        done = script.wait(10)
        wait_all_gone(family)
    assert (done.returncode, done.stderr) == (EXITS[signum], "")


@pytest.fixture(scope="session")
def as_pid_1() -> list[str]:
    """A launcher that makes a script the first process of its own PID namespace."""
    launcher = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        subprocess.run([*launcher, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine makes no PID namespaces: {error}")
    return launcher


@LOOPS
@SIGNALS
def test_as_pid_1(as_pid_1: list[str], loop: str, signum: signal.Signals) -> None:
    """The kernel ignores default actions of PID 1, so SIGTERM cannot kill it: it exits."""
    source = """
        import asyncio, os, aioipc
        async def main():
            async with aioipc.Pool(1) as pool:
                assert await pool.run(os.getppid) != 0
                print("ready", os.getpid(), flush=True)
                await asyncio.Event().wait()
        try:
            aioipc.run(main)
        finally:
            print("as any other program that exits")
    """
    with running_script(on(loop, source), launcher=as_pid_1) as script:
        script.wait_output("ready 1\n")
        [init] = children(script.pid)
        os.kill(init.pid, signum)
        done = script.wait()
    assert done.returncode == 128 + signum
    assert done.stdout == "ready 1\nas any other program that exits\n"


@LOOPS
@SIGNALS
def test_main_returns_in_spite_of_the_signal(loop: str, signum: signal.Signals) -> None:
    source = """
        import asyncio, aioipc
        async def main():
            try:
                print("ready", flush=True)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                return "all done"
        print(aioipc.run(main))
    """
    with running_script(on(loop, source)) as script:
        script.wait_output("ready")
        script.send_signal(signum)
        done = script.wait().check()
    assert (done.stdout, done.stderr) == ("ready\nall done\n", "")


@SIGNALS
def test_main_raises_after_the_signal(signum: signal.Signals) -> None:
    source = """
        import asyncio, aioipc
        async def main():
            try:
                print("ready", flush=True)
                await asyncio.Event().wait()
            finally:
                raise RuntimeError("clean-up went wrong")
        aioipc.run(main)
    """
    with running_script(source) as script:
        script.wait_output("ready")
        script.send_signal(signum)
        done = script.wait()
    assert done.returncode == 1
    assert "RuntimeError: clean-up went wrong" in done.stderr
    assert 'raise RuntimeError("clean-up went wrong")' in done.stderr


def test_a_cancellation_that_no_signal_asked_for() -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        aioipc.run(main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_started_with_sigint_ignored(loop: str) -> None:
    """As by the ``&`` of a shell script: it hears SIGINT all the same, and gives back what it found."""
    before = """
        import asyncio, signal, aioipc
        async def nothing():
            pass
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        aioipc.run(nothing)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    """
    source = on(loop, before) + textwrap.dedent(WAITS)
    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    with running_script(source, launcher=[sys.executable, "-c", ignore]) as script:
        script.wait_output("ready")
        script.send_signal(INT)
        assert script.wait().returncode == 130


# -- run: more signals, deadlines ------------------------------------------------------------------------


def patched(timeout: float, last_resort: float) -> str:
    return textwrap.dedent(f"""
        import aioipc.supervisor.shutdown as shutdown
        shutdown.DEFAULT_TIMEOUT, shutdown._LAST_RESORT = {timeout}, {last_resort}
    """)


@pytest.mark.parametrize("retries", [0, 5])
@SIGNALS
def test_a_second_signal_kills_the_workers_at_once(signum: signal.Signals, retries: int) -> None:
    """Their tasks are not tried again."""
    with running_script(WITH_POOL.replace("RETRIES", str(retries))) as script:
        script.wait_output("ready")
        eventually(lambda: script.stdout.count("task ") == 2)
        family = family_of(script)
        script.send_signal(signum)
        script.wait_output("closing")
        script.send_signal(signum)
        begin = time.monotonic()
        done = script.wait(10)
        assert time.monotonic() - begin < 1.5, done
        wait_all_gone(family)
    assert done.returncode == EXITS[signum]
    assert done.stdout.count("task ") == 2
    assert "did not end within its deadline" not in done.stderr


@SIGNALS
def test_a_pool_is_bounded_by_the_deadline(signum: signal.Signals) -> None:
    """Its own ``shutdown`` may be longer."""
    with running_script(patched(0.3, 5) + textwrap.dedent(WITH_POOL.replace("RETRIES", "0"))) as script:
        script.wait_output("ready")
        eventually(lambda: script.stdout.count("task ") == 2)
        family = family_of(script)
        script.send_signal(signum)
        done = script.wait(10)
        wait_all_gone(family)
    assert done.returncode == EXITS[signum]
    assert "did not end" not in done.stderr


IGNORES_EVERYTHING = """
    import asyncio, aioipc
    async def main():
        print("ready", flush=True)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("no", flush=True)
    aioipc.run(main)
"""


@LOOPS
@SIGNALS
def test_main_that_ignores_everything_is_ended_at_the_deadline(loop: str, signum: signal.Signals) -> None:
    with running_script(patched(0.2, 0.2) + on(loop, IGNORES_EVERYTHING)) as script:
        script.wait_output("ready")
        begin = time.monotonic()
        script.send_signal(signum)
        done = script.wait()
        assert 0.5 < time.monotonic() - begin < 5
    assert done.returncode == EXITS[signum]
    assert done.stderr == f"aioipc: main did not end within its deadline after {signum.name}\n"
    assert done.stdout == "ready\nno\nno\n"


@SIGNALS
def test_main_that_ignores_everything_is_ended_soon_after_a_second_signal(signum: signal.Signals) -> None:
    with running_script(patched(1000, 0.2) + textwrap.dedent(IGNORES_EVERYTHING)) as script:
        script.wait_output("ready")
        script.send_signal(signum)
        script.wait_output("no")
        script.send_signal(TERM)
        done = script.wait()
    assert done.returncode == EXITS[signum]  # as the first one asked


def test_a_signal_while_the_loop_is_closed() -> None:
    """Main has ended by the first one: the second ends the process at once, and breaks into nothing."""
    source = """
        import asyncio, threading, time, aioipc
        ended = threading.Event()
        def late():
            ended.wait()
            time.sleep(0.3)
            print("closing", flush=True)
            time.sleep(20)
        async def main():
            asyncio.get_running_loop().run_in_executor(None, late)
            print("ready", flush=True)
            try:
                await asyncio.sleep(1000)
            finally:
                ended.set()
        aioipc.run(main)
    """
    with running_script(source) as script:
        script.wait_output("ready")
        script.send_signal(INT)
        script.wait_output("closing")
        script.send_signal(INT)
        done = script.wait(10)
    assert (done.returncode, done.stderr) == (-INT, "")


@pytest.mark.parametrize("gap", [0, 0.002, 0.01, 0.05])
@pytest.mark.parametrize(("first", "second"), [(INT, INT), (INT, TERM), (TERM, INT), (TERM, TERM)])
def test_pairs_of_signals(first: signal.Signals, second: signal.Signals, gap: float) -> None:
    """Whatever hits it when: it ends soon, as one of the two says, and leaves nothing."""
    source = """
        import asyncio, time, aioipc
        async def main():
            async with aioipc.Pool(1) as pool:
                job = pool.submit(time.sleep, 1000)
                print("ready", flush=True)
                try:
                    await job
                finally:
                    await asyncio.sleep(0.02)
        aioipc.run(main)
    """
    with running_script(source) as script:
        script.wait_output("ready")
        family = family_of(script)
        script.send_signal(first)
        time.sleep(gap)
        script.send_signal(second)
        done = script.wait(10)
        wait_all_gone(family)
    # A second SIGINT may come when run has given the signal back already: then it is Python's own.
    assert done.returncode in {EXITS[first], EXITS[second], -INT}, done


BOOTS = """
    import asyncio, aioipc, uvloop
    aioipc.run, aioipc.Pool  # loads them
    print("started", flush=True)
    async def main():
        async with aioipc.Pool(2):
            await asyncio.Event().wait()
    aioipc.run(main)
"""


@pytest.mark.parametrize("delay", [0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2])
def test_sigterm_before_the_handlers_exist(delay: float) -> None:
    """At any moment of the start, the interpreter's included."""
    with running_script(BOOTS) as script:
        time.sleep(delay)
        script.send_signal(TERM)
        assert script.wait(10).returncode == -TERM


@pytest.mark.parametrize("delay", [0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2])
def test_sigint_before_the_handlers_exist(delay: float) -> None:
    """From the end of the imports on; before that, Python itself may lose it, in a callback of its own."""
    with running_script(BOOTS) as script:
        script.wait_output("started")
        time.sleep(delay)
        script.send_signal(INT)
        assert script.wait(10).returncode in {130, -INT}


def test_a_service_manager_signals_every_process() -> None:
    """systemd and containers do. Running tasks finish, queued ones run on the workers that come next."""
    source = """
        import asyncio, os, time, aioipc
        def work(i):
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
            return i
        async def main():
            async with aioipc.graceful_shutdown(20) as shutdown, aioipc.Pool(2) as pool:
                jobs = [pool.submit(work, i) for i in range(60)]
                await jobs[5]
                print("ready", flush=True)
                await shutdown.requested()
                return await asyncio.gather(*jobs)
        assert aioipc.run(main) == list(range(60))
        print("nothing lost")
    """
    with running_script(source) as script:
        script.wait_output("ready")
        for pid in [*family_of(script), script.pid]:
            os.kill(pid, TERM)
        done = script.wait().check()
    assert done.stdout.endswith("nothing lost\n")


# -- run: a terminal -------------------------------------------------------------------------------------


def test_ctrl_c_once(tmp_path: Path) -> None:
    """It reaches the foreground group; the workers, in sessions of their own, are left to their master."""
    source = """
        import asyncio, time, aioipc
        def work(number):
            print(f"task {number}", flush=True)
            time.sleep(0.3)
            print(f"finished {number}", flush=True)
        async def main():
            async with aioipc.Pool(2) as pool:
                jobs = [pool.submit(work, number) for number in range(2)]
                await asyncio.Event().wait()
        aioipc.run(main)
    """
    with terminal(source, tmp_path) as screen:
        eventually(lambda: screen.shown().count("task ") == 2, 10)
        family = [each.pid for each in descendants(screen.popen.pid)]
        screen.press(CTRL_C)
        assert screen.popen.wait(10) == 130
        wait_all_gone(family)
        assert screen.shown().count("finished ") == 2
        assert "Traceback" not in screen.shown()
        assert "^C" in screen.shown()


def test_ctrl_c_twice(tmp_path: Path) -> None:
    with terminal(WITH_POOL.replace("RETRIES", "3"), tmp_path) as screen:
        eventually(lambda: screen.shown().count("task ") == 2, 10)
        family = [each.pid for each in descendants(screen.popen.pid)]
        screen.press(CTRL_C)
        screen.wait_shown("closing")
        assert screen.popen.poll() is None
        screen.press(CTRL_C)
        assert screen.popen.wait(10) == 130
        wait_all_gone(family)
        assert "Traceback" not in screen.shown()


def test_ctrl_c_thrice(tmp_path: Path) -> None:
    """Even where main ignores the first two."""
    with terminal(patched(1000, 0.3) + textwrap.dedent(IGNORES_EVERYTHING), tmp_path) as screen:
        screen.wait_shown("ready")
        for times in range(1, 4):
            screen.press(CTRL_C)
            if times < 3:
                eventually(lambda times=times: screen.shown().count("no\n") == times, 10)  # type: ignore[misc]
        assert screen.popen.wait(10) == 130
        assert "main did not end within its deadline after SIGINT" in screen.shown()


# -- graceful_shutdown -----------------------------------------------------------------------------------


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@SIGNALS
async def test_a_signal_is_a_request(signum: signal.Signals) -> None:
    async with aioipc.graceful_shutdown(timeout=10) as shutdown:
        assert not shutdown.is_requested
        assert repr(shutdown) == "<GracefulShutdown open, timeout 10 s>"
        waiters = [asyncio.create_task(shutdown.requested()) for _ in range(3)]
        await asyncio.sleep(0)
        send(signum)
        assert await asyncio.gather(*waiters) == [signum] * 3
        assert await shutdown.requested() is signum
        assert shutdown.is_requested
        assert shutdown.signum is signum
        assert repr(shutdown) == f"<GracefulShutdown requested by {signum.name}, timeout 10 s>"
        await asyncio.sleep(0.01)  # the body goes on as it likes


async def test_a_request_from_inside() -> None:
    async with aioipc.graceful_shutdown() as shutdown:
        shutdown.request()
        shutdown.request()
        assert await shutdown.requested() is None
        assert shutdown.signum is None
        assert "requested by the program" in repr(shutdown)


async def test_cancelled_waiters_change_nothing() -> None:
    async with aioipc.graceful_shutdown() as shutdown:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await shutdown.requested()
        assert not shutdown.is_requested
        send(TERM)
        assert await shutdown.requested() is TERM


async def test_the_deadline() -> None:
    cleaned_up = False
    with pytest.raises(aioipc.ShutdownTimeout, match=r"the deadline of 0\.05 s passed") as caught:  # noqa: PT012 - leaving is what raises
        async with aioipc.graceful_shutdown(timeout=0.05) as shutdown:
            shutdown.request()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned_up = True
    assert isinstance(caught.value, TimeoutError)
    assert cleaned_up
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # no cancellation is left over


async def test_no_deadline_before_a_request() -> None:
    async with aioipc.graceful_shutdown(timeout=0.01):
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("timeout", [math.inf, 0])
async def test_extreme_deadlines(timeout: float) -> None:
    try:
        async with aioipc.graceful_shutdown(timeout) as shutdown:
            send(TERM)
            assert await shutdown.requested() is TERM
            await asyncio.sleep(0.05)
            assert timeout
    except aioipc.ShutdownTimeout:
        assert not timeout


async def test_a_second_signal_cancels_the_body_at_once() -> None:
    with pytest.raises(aioipc.ShutdownTimeout, match="a second signal, SIGINT, asked for an end at once"):  # noqa: PT012
        async with aioipc.graceful_shutdown(timeout=100) as shutdown:
            send(TERM)
            await shutdown.requested()
            send(INT)
            await asyncio.Event().wait()


async def test_a_body_that_ends_by_its_own_exception_after_the_deadline() -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.graceful_shutdown(timeout=0) as shutdown:
            shutdown.request()
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError("mine")


async def test_a_body_cancelled_by_somebody_else() -> None:
    async def body() -> None:
        async with aioipc.graceful_shutdown(timeout=100) as shutdown:
            shutdown.request()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_innermost_hears() -> None:
    async with aioipc.graceful_shutdown(10) as outer:
        async with aioipc.graceful_shutdown(10) as inner:
            send(TERM)
            assert await inner.requested() is TERM
            assert not outer.is_requested
        assert not outer.is_requested
        send(INT)
        assert await outer.requested() is INT


@SIGNALS
async def test_previous_handlers_are_restored(signum: signal.Signals) -> None:
    heard: list[int] = []

    def mine(number: int, frame: object) -> None:
        heard.append(number)

    before = signal.signal(signum, mine)
    try:
        async with aioipc.graceful_shutdown() as shutdown:
            send(signum)
            await shutdown.requested()
            assert not heard
        assert signal.getsignal(signum) is mine
        send(signum)
        await eventually_async(lambda: heard == [signum])
    finally:
        signal.signal(signum, before)


async def test_over_a_loop_handler() -> None:
    """It could not be put back, so it is not taken away."""
    loop = asyncio.get_running_loop()
    heard: list[int] = []
    before = signal.getsignal(TERM)
    loop.add_signal_handler(TERM, heard.append, TERM)
    try:
        with pytest.raises(RuntimeError, match=r"SIGTERM has a handler by loop\.add_signal_handler"):
            async with aioipc.graceful_shutdown():
                pytest.fail("must not be entered")
        send(TERM)
        await eventually_async(lambda: heard == [TERM])
    finally:
        loop.remove_signal_handler(TERM)
        signal.signal(TERM, before)


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run", "aioipc.run"])
def test_the_runner_has_its_sigint_back(runner: str) -> None:
    """Inside of the block SIGINT is a request, after it the runner's own business again."""
    source = f"""
        import asyncio, os, signal, sys, aioipc, uvloop
        async def main():
            for _ in range(2):
                async with aioipc.graceful_shutdown(10) as shutdown:
                    os.kill(os.getpid(), signal.SIGINT)
                    assert await shutdown.requested() == signal.SIGINT
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                print("cancelled by the runner")
                raise
        {runner}(main{"" if runner == "aioipc.run" else "()"})
    """
    done = run_script(source, python=())  # uvloop.run warns on some versions
    assert done.stdout == "cancelled by the runner\n", done
    assert done.returncode == (130 if runner == "aioipc.run" else -INT)


@pytest_asyncio.fixture
async def shutdown() -> AsyncIterator[aioipc.GracefulShutdown]:
    """Set up and torn down in different tasks by pytest-asyncio."""
    async with aioipc.graceful_shutdown(10) as shutdown:
        entered = asyncio.current_task()
        yield shutdown
        assert asyncio.current_task() is not entered


async def test_as_a_fixture(shutdown: aioipc.GracefulShutdown) -> None:
    send(TERM)
    assert await shutdown.requested() is TERM


async def test_as_a_fixture_past_the_deadline(shutdown: aioipc.GracefulShutdown) -> None:
    """There is no body to be cancelled any more: the task that entered has ended."""
    send(TERM)
    await shutdown.requested()
    send(TERM)
    await asyncio.sleep(0.01)


async def test_inside_a_cancelled_scope() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with aioipc.graceful_shutdown() as shutdown:
            shutdown.request()
    with anyio.CancelScope() as scope:
        async with aioipc.graceful_shutdown():
            scope.cancel()
            await anyio.sleep(10)
            pytest.fail("was cancelled")
    assert scope.cancelled_caught


async def test_entered_twice() -> None:
    shutdown = aioipc.graceful_shutdown()
    async with shutdown:
        with pytest.raises(RuntimeError, match="entered once"):
            await shutdown.__aenter__()
    with pytest.raises(RuntimeError, match="entered once"):
        await shutdown.__aenter__()


async def test_in_a_thread() -> None:
    async def use() -> None:
        async with aioipc.graceful_shutdown():
            pytest.fail("must not be entered")

    with pytest.raises(RuntimeError, match="graceful_shutdown handles signals, which Python allows in the main thread"):
        await asyncio.to_thread(lambda: asyncio.run(use()))


def test_bad_timeouts() -> None:
    for timeout in (-1, -0.001, math.nan):
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 on"):
            aioipc.graceful_shutdown(timeout)
    anything: Any = aioipc.graceful_shutdown
    for timeout in ("5", None):
        with pytest.raises(TypeError):
            anything(timeout)


# -- graceful_shutdown in programs -----------------------------------------------------------------------


@LOOPS
@SIGNALS
def test_a_program_that_finishes_its_work(loop: str, signum: signal.Signals) -> None:
    """No new work, what was accepted is done, exit 0."""
    source = """
        import asyncio, time, aioipc
        def work(i):
            time.sleep(0.05)
            return i
        async def main():
            async with aioipc.graceful_shutdown(20) as shutdown, aioipc.Pool(2) as pool:
                jobs = [pool.submit(work, i) for i in range(8)]
                print("ready", flush=True)
                await shutdown.requested()
            return [job.result() for job in jobs]
        print(aioipc.run(main))
    """
    with running_script(on(loop, source)) as script:
        script.wait_output("ready")
        family = family_of(script)
        script.send_signal(signum)
        done = script.wait().check()
        wait_all_gone(family)
    assert done.stdout == "ready\n[0, 1, 2, 3, 4, 5, 6, 7]\n"


@pytest.mark.parametrize("how", ["deadline", "second signal"])
def test_a_program_that_does_not_finish(how: str) -> None:
    """The pool that is being left then gives up too; the error is the program's to handle."""
    source = """
        import asyncio, threading, aioipc
        def stubborn(number):
            print(f"task {number}", flush=True)
            while True:
                try:
                    threading.Event().wait()
                except KeyboardInterrupt:
                    pass
        async def main():
            async with aioipc.graceful_shutdown(TIMEOUT) as shutdown, aioipc.Pool(2, grace=60) as pool:
                for number in range(2):
                    pool.submit(stubborn, number, retries=3)
                await shutdown.requested()
                print("requested", flush=True)
        try:
            aioipc.run(main)
        except aioipc.ShutdownTimeout as error:
            print(error)
            raise SystemExit(1)
    """.replace("TIMEOUT", "0.3" if how == "deadline" else "100")
    with running_script(source) as script:
        eventually(lambda: script.stdout.count("task ") == 2, 10)
        family = family_of(script)
        script.send_signal(TERM)
        script.wait_output("requested")
        if how == "second signal":
            script.send_signal(TERM)
        done = script.wait(10)
        wait_all_gone(family)
    assert done.returncode == 1
    expected = "the deadline of 0.3 s passed" if how == "deadline" else "a second signal, SIGTERM, asked"
    assert expected in done.stdout
    assert done.stdout.count("task ") == 2


def test_run_hears_again_after_the_block() -> None:
    source = """
        import asyncio, aioipc
        async def main():
            async with aioipc.graceful_shutdown(10) as shutdown:
                print("inside", flush=True)
                await shutdown.requested()
            print("outside", flush=True)
            await asyncio.Event().wait()
        aioipc.run(main)
    """
    with running_script(source) as script:
        script.wait_output("inside")
        script.send_signal(TERM)
        script.wait_output("outside")
        script.send_signal(INT)
        done = script.wait()
    assert (done.returncode, done.stderr) == (130, "")


def test_a_child_of_the_program_is_not_kept_by_a_handler() -> None:
    """A process that the program starts has the default handlers and can be ended."""
    source = """
        import asyncio, aioipc, signal
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "1000")
            process.terminate()
            return await process.wait()
        assert aioipc.run(main) == -signal.SIGTERM
    """
    run_script(source).check()


def test_signals_do_not_wake_a_deadline_that_is_over() -> None:
    """The shutdown deadline is gone after the block: a later pool has its own time again."""
    from aioipc.supervisor.shutdown import shutdown_deadline

    async def main() -> float:
        async with aioipc.graceful_shutdown(0.5) as shutdown:
            shutdown.request()
            assert shutdown_deadline() == pytest.approx(asyncio.get_running_loop().time() + 0.5, abs=0.2)
        return shutdown_deadline()

    assert aioipc.run(main) == math.inf
    assert shutdown_deadline() == math.inf


def test_a_body_that_will_not_end_is_not_for_ever() -> None:
    """Further signals go outward: to `run`, or, where nothing listens there, to the process itself."""
    source = """
        import asyncio, os, signal, sys
        import aioipc

        async def deaf():
            async with aioipc.graceful_shutdown():
                while True:
                    os.kill(os.getpid(), signal.SIGTERM)
                    try:
                        await asyncio.sleep(0.05)
                    except asyncio.CancelledError:
                        pass
        (asyncio.run if sys.argv[1] == "asyncio" else lambda main: aioipc.run(main))(deaf())
    """
    for how in ("asyncio", "aioipc"):
        assert run_script(source, how, timeout=20).returncode == -signal.SIGTERM
