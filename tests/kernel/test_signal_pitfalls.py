"""Ten known traps of signals with asyncio, uvloop and several processes; each has a test that falls into it without us.

They are numbered. What needs a process of its own, since it may die by it, is a program.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

import aioipc

from ..harness.processes import eventually, eventually_async
from ..harness.scripts import run_script, running_script
from ..harness.terminal import CTRL_C, terminal
from .signal_programs import LOOPS, program

HUP, USR1, USR2, INT, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM


def send(*signums: int) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


# -- 1: what add_signal_handler does -----------------------------------------------------------------------


@LOOPS
def test_1a_a_blocked_loop_loses_nothing(loop: str) -> None:
    """Two thousand signals while a callback does not return, then another: asyncio's own socket is full by then."""
    body = """
        with aioipc.open_signal_receiver(signal.SIGUSR1, signal.SIGHUP) as signals:
            for _ in range(2000):
                signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGHUP)
            found = [await asyncio.wait_for(signals.receive(), 10) for _ in range(2)]
            assert set(found) == {signal.SIGUSR1, signal.SIGHUP}
    """
    assert run_script(program(loop, body)).check().stderr == ""


@LOOPS
def test_1b_the_handler_of_before_comes_back_and_never_the_default(loop: str) -> None:
    """Not even for a moment: another process sends SIGUSR1 without a pause while receivers open and close.

    The program has one thread only. A second one might be given the signal, and be on its way to the wake-up
    descriptor of before when that is closed; Python would grumble about it on standard error.
    """
    body = """
        import subprocess
        heard, received = [], 0
        signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
        source = "import os, sys\\nwhile True: os.kill(int(sys.argv[1]), 10)"
        with subprocess.Popen([sys.executable, "-c", source, str(os.getpid())]) as sender:
            try:
                end = time.monotonic() + 1
                while time.monotonic() < end or not received or not heard:
                    assert time.monotonic() < end + 20
                    with aioipc.open_signal_receiver(signal.SIGUSR1) as signals:
                        await asyncio.sleep(0)
                        try:
                            received += bool(signals.receive_nowait())
                        except aioipc.WouldBlock:
                            pass
            finally:
                sender.kill()
    """
    assert run_script(program(loop, body)).check().stderr == ""


async def test_1c_a_response_may_be_a_coroutine_function() -> None:
    done = asyncio.Event()

    async def response() -> None:
        await asyncio.sleep(0)
        done.set()

    async with aioipc.SignalRunbook({USR1: response}):
        send(USR1)
        await asyncio.wait_for(done.wait(), 10)


async def test_1d_the_wake_up_descriptor_is_given_back() -> None:
    """And whoever had it before is woken all the time."""
    mine, other = socket.socketpair()
    mine.setblocking(False)
    other.setblocking(False)
    heard: list[int] = []
    handler = signal.signal(USR2, lambda number, _: heard.append(number))
    before = signal.set_wakeup_fd(mine.fileno())
    try:
        with aioipc.open_signal_receiver(USR1) as signals:
            if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):  # uvloop has gone on without it
                send(USR2)
                await eventually_async(lambda: woken(other) == bytes([USR2]))
                send(USR1)
                assert await asyncio.wait_for(signals.receive(), 10) is USR1
                await eventually_async(lambda: woken(other) == bytes([USR1]))
        assert signal.set_wakeup_fd(mine.fileno()) == mine.fileno()
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(USR2, handler)
        mine.close()
        other.close()


def woken(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


# -- 2: fork copies handlers and the wake-up descriptor ----------------------------------------------------


@LOOPS
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_2_a_forked_child_neither_swallows_signals_nor_sends_them_up(loop: str, how: str) -> None:
    """Fifty children, each signalled as early as can be."""
    body = f"""
        import multiprocessing
        context = multiprocessing.get_context("fork")
        with aioipc.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
            for _ in range(50):
                if {how!r} == "os.fork":
                    if not (child := os.fork()):
                        time.sleep(1000)
                    os.kill(child, signal.SIGTERM)
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                else:
                    process = context.Process(target=time.sleep, args=(1000,))
                    process.start()
                    process.terminate()
                    process.join()
                    code = process.exitcode
                assert code == -signal.SIGTERM, code
            await asyncio.sleep(0.01)
            signal.raise_signal(signal.SIGUSR1)
            assert await signals.receive() is signal.SIGUSR1
            try:
                signals.receive_nowait()
            except aioipc.WouldBlock:
                print("nothing came up")
    """
    assert run_script(program(loop, body), python=()).check().stdout == "nothing came up\n"


# -- 3: SIGCHLD belongs to the loop ------------------------------------------------------------------------


async def test_3_children_are_reaped_beside_receivers_of_everything_else() -> None:
    with pytest.raises(ValueError, match="SIGCHLD cannot be received: it belongs to the loop"):
        aioipc.open_signal_receiver(signal.SIGCHLD)
    refused = {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    every = {signum for signum in signal.Signals if signum < signal.SIGRTMIN} - refused - {signal.SIGCHLD}
    with aioipc.open_signal_receiver(*every):
        processes = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}") for number in range(10)]
        assert [await process.wait() for process in processes] == list(range(10))


# -- 4: standard signals do not count, real-time ones do ---------------------------------------------------


@LOOPS
def test_4_five_of_each(loop: str) -> None:
    body = """
        count = {}
        with aioipc.open_signal_receiver(signal.SIGUSR1, RT + 1, values=True) as signals:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGUSR1)
                os.kill(os.getpid(), RT + 1)
            while signal.sigpending():
                signum = (await signals.receive()).signum
                count[signum] = count.get(signum, 0) + 1
        assert count == {signal.SIGUSR1: 1, RT + 1: 5}, count
    """
    run_script(program(loop, body)).check()


# -- 5: Python's handlers get no sender and no value -------------------------------------------------------


@LOOPS
def test_5_sender_and_value(loop: str) -> None:
    body = """
        with aioipc.open_signal_receiver(signal.SIGHUP, RT, values=True) as signals:
            print("ready", flush=True)
            for _ in range(2):
                info = await signals.receive()
                print(int(info.signum), info.value, info.pid, info.uid, flush=True)
    """
    with running_script(program(loop, body)) as script:
        script.wait_output("ready")
        os.kill(script.pid, HUP)
        script.wait_output(f"1 None {os.getpid()} {os.getuid()}")
        aioipc.send_signal(script.pid, signal.SIGRTMIN, -1)
        script.wait_output(f"{int(signal.SIGRTMIN)} -1 {os.getpid()} {os.getuid()}")
        script.wait().check()


@LOOPS
def test_5_a_forked_child_does_not_change_its_parents_signalfd(loop: str) -> None:
    """It is one open file: setting its signals in the child would set them in the parent."""
    source = f"""
        import asyncio, os, signal, aioipc, uvloop
        RT = signal.SIGRTMIN
        async def open():
            receivers = [aioipc.open_signal_receiver(*each, values=True) for each in ([RT], [RT, RT + 1])]
            return receivers, [asyncio.create_task(each.receive()) for each in receivers]
        async def wait_for(task):
            return (await asyncio.wait_for(task, 10)).value
        factory = {{"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}}[{loop!r}]
        with asyncio.Runner(loop_factory=factory) as runner:
            receivers, tasks = runner.run(open())
            runner.run(asyncio.sleep(0.01))  # they wait, and the loop watches
            if not (child := os.fork()):
                receivers[1].close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            aioipc.send_signal(os.getpid(), RT, 4)
            assert runner.run(wait_for(tasks[1])) == 4
            receivers[1].close()
            aioipc.send_signal(os.getpid(), RT, 5)
            assert runner.run(wait_for(tasks[0])) == 5
            receivers[0].close()
    """
    run_script(source, python=()).check()


# -- 6: Ctrl-C goes to the whole group ---------------------------------------------------------------------


def test_6_ctrl_c_reaches_children_but_not_workers(tmp_path: Path) -> None:
    """Once each: what shares the group hears the terminal by itself, workers have sessions of their own."""
    source = """
        import asyncio, signal, subprocess, sys, time, aioipc
        child = '''if True:
            import signal
            signal.signal(signal.SIGINT, lambda *_: print("child", flush=True))
            print("up", flush=True)
            while True: signal.pause()
        '''
        def work():
            print("working", flush=True)
            time.sleep(0.5)
            return "worked"
        async def main():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", child)
            with aioipc.open_signal_receiver(signal.SIGINT) as signals:
                async with aioipc.Pool(1) as pool:
                    job = pool.submit(work)
                    for _ in range(2):
                        assert await signals.receive() is signal.SIGINT
                        print("heard", flush=True)
                    print(await job, flush=True)
                process.kill()
                await process.wait()
        aioipc.run(main)
    """
    with terminal(source, tmp_path) as screen:
        eventually(lambda: {"up", "working"} <= set(screen.shown().split()), 20, screen.shown)
        for times in (1, 2):
            screen.press(CTRL_C)
            eventually(lambda times=times: screen.shown().count("heard") == times, 10, screen.shown)  # type: ignore[misc]
            eventually(lambda times=times: screen.shown().count("child") == times, 10, screen.shown)  # type: ignore[misc]
        assert screen.popen.wait(20) == 0
        assert "worked" in screen.shown()
        assert "Traceback" not in screen.shown()


# -- 7: asyncio.Runner and SIGINT --------------------------------------------------------------------------

IGNORES_INT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
)


@LOOPS
def test_7_started_with_sigint_ignored(loop: str) -> None:
    """As by ``nohup`` or ``&``: neither Python nor a Runner hears it then. A receiver does, and leaves it ignored."""
    body = """
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        with aioipc.open_signal_receiver(signal.SIGINT) as signals:
            print("ready", flush=True)
            print(await signals.receive(), flush=True)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.01)
    """
    with running_script(program(loop, body), launcher=[sys.executable, "-c", IGNORES_INT]) as script:
        script.wait_output("ready")
        script.send_signal(INT)
        assert str(int(INT)) in script.wait().check().stdout


@LOOPS
def test_7_the_runner_has_its_sigint_back(loop: str) -> None:
    body = """
        for _ in range(2):
            with aioipc.open_signal_receiver(signal.SIGINT) as signals:
                os.kill(os.getpid(), signal.SIGINT)
                await signals.receive()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("cancelled by the runner", flush=True)
            raise
    """
    done = run_script(program(loop, body))
    assert (done.returncode, done.stdout) == (-INT, "cancelled by the runner\n")


@LOOPS
def test_7_a_receiver_that_outlives_the_runner(loop: str) -> None:
    """Its handler is not called for a task that has ended long ago."""
    body = "keep.append(aioipc.open_signal_receiver(signal.SIGINT))"
    after = """
signals = keep.pop()
signals.close()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    run_script(program(loop, body, "keep = []") + after).check()


# -- 8: masks and dispositions over fork and exec ----------------------------------------------------------

BLOCKS_ALL = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals());"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@LOOPS
def test_8_started_with_everything_blocked(loop: str) -> None:
    """By a supervisor that wants nothing lost before handlers exist. What a receiver does not want stays blocked."""
    body = """
        with aioipc.open_signal_receiver(signal.SIGTERM) as signals:
            print(await signals.receive(), flush=True)
            assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        print("done")
    """
    with running_script(program(loop, body), launcher=[sys.executable, "-c", BLOCKS_ALL]) as script:
        eventually(lambda: blocks(script.pid, TERM), 10)
        script.send_signal(TERM)
        script.send_signal(USR1)
        assert script.wait().check().stdout == f"{int(TERM)}\ndone\n"


@pytest.mark.parametrize("kind", ["run", "graceful_shutdown"])
def test_8_a_program_started_with_everything_blocked_ends_on_sigterm(kind: str) -> None:
    source = """
        import asyncio, sys, aioipc
        async def main():
            if sys.argv[1] == "run":
                await asyncio.sleep(1000)
            else:
                async with aioipc.graceful_shutdown() as shutdown:
                    await shutdown.requested()
        aioipc.run(main)
    """
    with running_script(source, kind, launcher=[sys.executable, "-c", BLOCKS_ALL]) as script:
        eventually(lambda: blocks(script.pid, TERM), 10)
        script.send_signal(TERM)
        assert script.wait().returncode == (128 + TERM if kind == "run" else 0)


def blocks(pid: int, signum: int) -> bool:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigBlk"], 16) >> (signum - 1) & 1)


# -- 9: the parent-death signal is the thread's ------------------------------------------------------------


@LOOPS
def test_9_it_comes_when_the_thread_ends_that_started_the_child(loop: str) -> None:
    """The kernel's way, heard by a receiver: its sender is the process that lives on."""
    body = """
        from aioipc._sys.libc import set_parent_death_signal
        with aioipc.open_signal_receiver(signal.SIGUSR1, values=True) as signals:
            set_parent_death_signal(signal.SIGUSR1)
            print("ready", flush=True)
            info = await signals.receive()
            assert info.pid == os.getppid() != 1, info
    """
    source = f"""
import subprocess, sys, threading
children = []
def start():
    children.append(subprocess.Popen([sys.executable, "-c", {program(loop, body)!r}], stdout=subprocess.PIPE))
    assert children[0].stdout.readline() == b"ready\\n"
thread = threading.Thread(target=start)
thread.start()
thread.join()
raise SystemExit(children[0].wait(20))
"""
    run_script(source, python=()).check()


@LOOPS
def test_9_workers_do_not_hang_on_a_thread_of_their_master(loop: str) -> None:
    """A pool that is opened in the loop of a thread, while other threads of the program come and go."""
    source = f"""
        import asyncio, os, threading, aioipc, uvloop
        async def main():
            async with aioipc.Pool(2) as pool:
                before = {{await pool.run(os.getpid) for _ in range(10)}}
                for _ in range(20):
                    thread = threading.Thread(target=int)
                    thread.start()
                    thread.join()
                assert all([await pool.run(os.getpid) in before for _ in range(10)])
                assert pool.statistics().restarts == 0
        factory = {{"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}}[{loop!r}]
        def run():
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
            print("fine")
        for _ in range(2):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    """
    assert run_script(source).check().stdout == "fine\n" * 2


# -- 10: and the rest --------------------------------------------------------------------------------------


async def test_10_later_signals_are_heard_too() -> None:
    with aioipc.open_signal_receiver(HUP) as signals:
        for _ in range(20):
            send(HUP)
            assert await asyncio.wait_for(signals.receive(), 10) is HUP


async def test_10_a_framework_takes_the_handler_away() -> None:
    """`signal.signal` in some start-up code: not silently."""
    async with aioipc.open_signal_receiver(TERM) as signals:
        theirs = signal.signal(TERM, lambda *_: None)
        with pytest.raises(aioipc.BrokenResourceError, match=r"somebody has called signal\.signal"):
            await signals.receive()
        signal.signal(TERM, theirs)
        send(TERM)
        assert await signals.receive() is TERM


def test_10_no_window_between_the_shutdown_and_what_was_before() -> None:
    """SIGTERM at any moment of many shutdown blocks: heard by one of them, or by the handler around them."""
    source = """
        import asyncio, os, signal, sys, aioipc
        heard = 0
        def handler(*_):
            global heard
            heard += 1
        async def main():
            global heard
            signal.signal(signal.SIGTERM, handler)
            print("ready", flush=True)
            while heard < 200:
                async with aioipc.graceful_shutdown(1000) as shutdown:
                    await asyncio.sleep(0)
                heard += shutdown.is_requested
                print(".", end="", flush=True)
        asyncio.run(main())
    """
    with running_script(source) as script:
        script.wait_output("ready")
        while script.popen.poll() is None:
            script.send_signal(TERM)
            time.sleep(0.0003)
        done = script.wait()
    assert done.returncode in (0, -TERM), done  # -TERM: sent when Python itself was ending
    assert done.stdout.count(".") > 1
