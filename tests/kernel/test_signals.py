"""`open_signal_receiver` without values: who hears what, what is given back, what cancellation does."""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import functools
import gc
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio

import aioipc
from aioipc._loop.signal_routing import Subscription
from aioipc._sys.signals import get_action, set_action

from ..harness.processes import eventually_async
from ..harness.scripts import run_script

HUP, USR1, USR2, INT, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM


def send(*signums: int) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What an ordinary handler for SIGUSR1 and SIGUSR2 has heard."""
    found: list[int] = []
    before = [signal.signal(signum, lambda number, _: found.append(number)) for signum in (USR1, USR2)]
    yield found
    for signum, handler in zip((USR1, USR2), before, strict=True):
        signal.signal(signum, handler)


async def settle() -> None:
    """Let the loop poll a few times."""
    for _ in range(5):
        await asyncio.sleep(0.001)


# -- receiving -------------------------------------------------------------------------------------------


async def test_signals_come_as_members_of_signals() -> None:
    with aioipc.open_signal_receiver(HUP, USR1) as signals:
        assert repr(signals) == "<SignalReceiver of SIGHUP, SIGUSR1>"
        send(HUP)
        async for signum in signals:
            assert signum is HUP
            break
        send(USR1)
        assert await signals.receive() is USR1
    assert repr(signals) == "<SignalReceiver of SIGHUP, SIGUSR1, closed>"


@pytest.mark.parametrize("from_thread", [False, True])
async def test_waiting(from_thread: bool) -> None:
    """For a signal from the loop, and one that the kernel gives to another thread: it wakes the loop."""
    async with aioipc.open_signal_receiver(USR1) as signals:
        for _ in range(20):
            task = asyncio.create_task(signals.receive())
            await asyncio.sleep(0)
            if from_thread:
                await asyncio.to_thread(signal.raise_signal, USR1)
            else:
                send(USR1)
            assert await task is USR1


async def test_signals_wait_for_who_reads_them() -> None:
    with aioipc.open_signal_receiver(HUP, USR1, USR2) as signals:
        for signum in (USR2, HUP, USR1):
            send(signum)
            await settle()
        assert [await signals.receive() for _ in range(3)] == [USR2, HUP, USR1]
        with pytest.raises(aioipc.WouldBlock):
            signals.receive_nowait()


async def test_equal_ones_unread_count_once() -> None:
    with aioipc.open_signal_receiver(USR1) as signals:
        for _ in range(5):
            send(USR1)
            await settle()
        assert signals.receive_nowait() is USR1
        with pytest.raises(aioipc.WouldBlock):
            signals.receive_nowait()
        send(USR1)
        assert await signals.receive() is USR1


async def test_each_goes_to_one_waiting_task() -> None:
    with aioipc.open_signal_receiver(HUP, USR1) as signals:
        tasks = [asyncio.create_task(signals.receive()) for _ in range(3)]
        await asyncio.sleep(0)
        send(USR1, HUP)
        assert {await tasks[0], await tasks[1]} == {USR1, HUP}
        assert not tasks[2].done()
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])


async def test_cancelled_receivers_lose_nothing() -> None:
    """The signal and the cancellation come in the same turn of the loop, in both orders, and beside other waiters."""
    got, sent = 0, 0
    with aioipc.open_signal_receiver(USR1) as signals:
        for i in range(300):
            task = asyncio.create_task(signals.receive())
            for _ in range(i % 3):
                await asyncio.sleep(0)
            if i % 2:
                task.cancel()
            send(USR1)
            sent += 1
            for _ in range(i % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                await asyncio.wait_for(signals.receive(), 10)
            got += 1
        with pytest.raises(aioipc.WouldBlock):
            signals.receive_nowait()
    assert got == sent


async def test_in_anyio_scopes() -> None:
    with aioipc.open_signal_receiver(USR1) as signals:
        with anyio.move_on_after(0.01) as scope:
            await signals.receive()
        assert scope.cancelled_caught
        send(USR1)
        with anyio.fail_after(10):
            assert await signals.receive() is USR1
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with aioipc.open_signal_receiver(USR1):
            await signals_never_come()
    assert scope.cancelled_caught
    assert signal.getsignal(USR1) is signal.SIG_DFL


async def signals_never_come() -> None:
    await asyncio.sleep(100)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[aioipc.SignalReceiver[signal.Signals]]:
    """Set up and torn down in different tasks by pytest-asyncio, with the loop stopped in between."""
    async with aioipc.open_signal_receiver(USR1) as signals:
        entered = asyncio.current_task()
        send(USR1)
        yield signals
        assert asyncio.current_task() is not entered


async def test_as_a_fixture(receiver: aioipc.SignalReceiver[signal.Signals]) -> None:
    assert await receiver.receive() is USR1
    send(USR1)
    assert await receiver.receive() is USR1


def test_a_loop_that_pauses() -> None:
    """What comes while the loop does not run is there when it runs again."""
    for make in ("asyncio.new_event_loop", "uvloop.new_event_loop"):
        source = f"""
            import asyncio, os, signal, aioipc, uvloop
            loop = {make}()
            async def open():
                return aioipc.open_signal_receiver(signal.SIGHUP)
            signals = loop.run_until_complete(open())
            os.kill(os.getpid(), signal.SIGHUP)
            assert loop.run_until_complete(asyncio.wait_for(signals.receive(), 10)) == signal.SIGHUP
            loop.run_until_complete(signals.aclose())
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            assert signal.set_wakeup_fd(-1) == -1
            loop.close()
        """
        run_script(source).check()


def test_a_loop_that_stops_for_good() -> None:
    """What was noted for a loop that does not run any more is heard by the next one, and so is what comes then."""
    source = """
        import asyncio, gc, os, signal, aioipc
        async def open():
            return aioipc.open_signal_receiver(signal.SIGHUP)
        async def receive():
            with aioipc.open_signal_receiver(signal.SIGHUP) as signals:
                for _ in range(2):
                    assert await asyncio.wait_for(signals.receive(), 10) == signal.SIGHUP
                    os.kill(os.getpid(), signal.SIGHUP)
                await signals.receive()
        for close in (False, True):
            first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
            old = first.run_until_complete(open())
            os.kill(os.getpid(), signal.SIGHUP)
            if close:
                first.close()
            second.run_until_complete(receive())
            second.close()
            old.close()
            first.close()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            assert signal.set_wakeup_fd(-1) == -1
    """
    run_script(source).check()


async def test_closing_wakes_who_waits() -> None:
    signals = aioipc.open_signal_receiver(USR1)
    task = asyncio.create_task(signals.receive())
    await asyncio.sleep(0)
    signals.close()
    signals.close()
    with pytest.raises(aioipc.ClosedResourceError):
        await task
    with pytest.raises(aioipc.ClosedResourceError):
        await signals.receive()
    with pytest.raises(aioipc.ClosedResourceError):
        signals.receive_nowait()
    with pytest.raises(aioipc.ClosedResourceError), signals:
        pass
    await signals.aclose()


async def test_closed_by_another_thread() -> None:
    signals = aioipc.open_signal_receiver(USR1)
    await asyncio.to_thread(signals.close)
    await eventually_async(lambda: signal.getsignal(USR1) == signal.SIG_DFL)


async def test_dropped() -> None:
    signals = aioipc.open_signal_receiver(USR1)
    with pytest.warns(ResourceWarning, match="unclosed <SignalReceiver of SIGUSR1>"):  # noqa: PT031
        del signals
        gc.collect()
    assert signal.getsignal(USR1) is signal.SIG_DFL


# -- stacks ----------------------------------------------------------------------------------------------


async def test_the_newest_hears_and_nobody_else() -> None:
    with aioipc.open_signal_receiver(USR1, USR2) as outer:
        with aioipc.open_signal_receiver(USR1) as inner:
            send(USR1)
            assert await inner.receive() is USR1
            send(USR2)
            assert await outer.receive() is USR2
            with pytest.raises(aioipc.WouldBlock):
                outer.receive_nowait()
        send(USR1)
        assert await outer.receive() is USR1


async def test_unread_ones_go_to_the_one_before(heard: list[int]) -> None:
    with aioipc.open_signal_receiver(USR1, USR2) as outer:
        with aioipc.open_signal_receiver(USR1, USR2):
            send(USR1)
            await settle()
            send(USR2)  # not even noted by the loop
        assert {await outer.receive(), await outer.receive()} == {USR1, USR2}
        send(USR2)
        await settle()
    assert heard == [USR2]
    send(USR1)
    assert heard == [USR2, USR1]


async def test_closed_in_any_order(heard: list[int]) -> None:
    for order in itertools.permutations(range(3)):
        receivers = [aioipc.open_signal_receiver(USR1) for _ in range(3)]
        open_ones = list(receivers)
        for number in order:
            receivers[number].close()
            open_ones.remove(receivers[number])
            send(USR1)
            if open_ones:
                assert await asyncio.wait_for(open_ones[-1].receive(), 10) is USR1
        assert heard == [USR1]
        heard.clear()


async def test_with_graceful_shutdown() -> None:
    """One stack for all of aioipc: inside of a block a receiver hears first, and the other way round."""
    async with aioipc.graceful_shutdown(10) as shutdown:
        with aioipc.open_signal_receiver(TERM) as signals:
            send(TERM)
            assert await signals.receive() is TERM
            assert not shutdown.is_requested
            async with aioipc.graceful_shutdown(10) as inner:
                send(TERM)
                await inner.requested()
            send(INT)  # is not the receiver's
            assert await shutdown.requested() is INT


async def test_a_signal_that_nobody_read_ends_the_program_as_asked() -> None:
    async with aioipc.graceful_shutdown(10) as shutdown:
        with aioipc.open_signal_receiver(TERM):
            send(TERM)
            await settle()
            assert not shutdown.is_requested
        assert await shutdown.requested() is TERM


@pytest.mark.parametrize("read", [True, False])
def test_at_the_end_the_default_acts_on_what_was_not_read(read: bool) -> None:
    source = f"""
        import asyncio, os, signal, aioipc
        async def main():
            with aioipc.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(0.01)
                {"await signals.receive()" if read else ""}
        asyncio.run(main())
    """
    assert run_script(source).returncode == (0 if read else -USR1)


async def test_a_handler_that_raises_by_it() -> None:
    """Ctrl-C that was not read, given back to Python: KeyboardInterrupt, and the other signals are not lost by it."""

    def raises(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(INT, raises)
    try:
        with aioipc.open_signal_receiver(USR1) as outer:
            with pytest.raises(KeyboardInterrupt), aioipc.open_signal_receiver(INT, USR1):  # noqa: PT012 - leaving raises
                send(INT, USR1)
                await settle()
            assert await outer.receive() is USR1
        assert signal.getsignal(INT) is raises
    finally:
        signal.signal(INT, before)


# -- giving back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [INT, TERM, HUP, USR1, signal.SIGWINCH, signal.SIGPIPE, signal.SIGTSTP])
async def test_the_handler_of_before_is_back(signum: signal.Signals) -> None:
    def mine(*_: object) -> None:
        pytest.fail("no signal was sent")

    found, action = signal.getsignal(signum), get_action(signum)
    try:
        for before in (signal.SIG_DFL, signal.SIG_IGN, mine, functools.partial(mine)):
            signal.signal(signum, before)
            exactly = get_action(signum)
            with aioipc.open_signal_receiver(signum):
                assert signal.getsignal(signum) is not before
            assert signal.getsignal(signum) is before
            assert get_action(signum)[:16] == exactly[:16]
    finally:
        signal.signal(signum, found)
        set_action(signum, action)  # readline's, of which Python does not know


async def test_siginterrupt_is_back() -> None:
    """SA_RESTART, which ``signal.signal`` alone would reset. Where the flags are is the kernel's business here."""
    before = signal.signal(USR1, lambda *_: None)
    try:
        without = caught_with_restart()
        signal.siginterrupt(USR1, False)
        assert caught_with_restart() != without
        with aioipc.open_signal_receiver(USR1):
            pass
        assert caught_with_restart() != without
    finally:
        signal.signal(USR1, before)


def caught_with_restart() -> bytes:
    return get_action(USR1)[:8] + get_action(USR1)[136:140]  # handler and flags in glibc's struct on 64 bits


def test_faulthandler_is_back() -> None:
    """A handler that Python's own table does not know."""
    source = """
        import asyncio, faulthandler, os, signal, aioipc
        async def main():
            faulthandler.register(signal.SIGUSR1)
            with aioipc.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                await signals.receive()
            os.kill(os.getpid(), signal.SIGUSR1)
            print("alive")
        asyncio.run(main())
    """
    done = run_script(source).check()
    assert done.stdout == "alive\n"
    assert done.stderr.count("most recent call first") == 1
    assert faulthandler.is_enabled()


async def test_somebody_replaces_the_handler(heard: list[int]) -> None:
    """It is not taken away from them, and the receiver says that it would wait in vain."""
    newer: list[int] = []
    with aioipc.open_signal_receiver(USR1, USR2) as signals:
        send(USR1)
        await settle()
        signal.signal(USR1, lambda number, _: newer.append(number))
        assert await signals.receive() is USR1  # what was there before
        with pytest.raises(aioipc.BrokenResourceError, match="SIGUSR1 does not come here any more"):
            await signals.receive()
        with aioipc.open_signal_receiver(USR1) as above:
            send(USR1)
            assert await above.receive() is USR1
        send(USR1)
        assert newer == [USR1]
    send(USR1)
    assert newer == [USR1, USR1]
    assert heard == []


async def test_a_handler_put_back_too_late(heard: list[int]) -> None:
    """By who has replaced it, found it there, and thinks that it must go back: then it acts as the one before did."""
    signals = aioipc.open_signal_receiver(USR1)
    ours = signal.signal(USR1, lambda *_: None)
    signals.close()
    signal.signal(USR1, ours)
    send(USR1)
    assert heard == [USR1]


async def test_over_a_handler_of_the_loop() -> None:
    """It could not be put back, so it is not taken away."""
    loop = asyncio.get_running_loop()
    called: list[int] = []
    before = signal.getsignal(USR1)
    loop.add_signal_handler(USR1, called.append, USR1)
    try:
        with pytest.raises(RuntimeError, match=r"SIGUSR1 has a handler by loop\.add_signal_handler"):
            aioipc.open_signal_receiver(USR2, USR1)
        assert signal.getsignal(USR2) is signal.SIG_DFL
        with pytest.raises(RuntimeError, match=r"SIGUSR1 has a handler by loop\.add_signal_handler"):
            async with aioipc.SignalRunbook({USR1: lambda: None}):
                pytest.fail("must not be entered")
        send(USR1)
        await eventually_async(lambda: called == [USR1])
    finally:
        loop.remove_signal_handler(USR1)
        signal.signal(USR1, before)


async def test_beside_handlers_of_the_loop() -> None:
    """For other signals, added before and after, removed before and after."""
    loop = asyncio.get_running_loop()
    called: list[int] = []
    for early, late in itertools.product([HUP, None], [USR2, None]):
        for first_out in (early, late):
            if early:
                loop.add_signal_handler(early, called.append, early)
            signals = aioipc.open_signal_receiver(USR1)
            if late:
                loop.add_signal_handler(late, called.append, late)
            for signum in filter(None, (early, late)):
                send(signum)
                await eventually_async(lambda signum=signum: called == [signum])  # type: ignore[misc]
                called.clear()
            if first_out:
                loop.remove_signal_handler(first_out)
            send(USR1)
            assert await asyncio.wait_for(signals.receive(), 10) is USR1
            task = asyncio.create_task(signals.receive())
            await asyncio.sleep(0)
            assert wake_up_descriptor() >= 0, "removing a handler of the loop has taken it away"
            await asyncio.to_thread(signal.raise_signal, USR1)
            assert await asyncio.wait_for(task, 10) is USR1
            signals.close()
            for signum in filter(None, {early, late} - {first_out}):
                send(signum)
                await eventually_async(lambda signum=signum: called == [signum])  # type: ignore[misc]
                called.clear()
                loop.remove_signal_handler(signum)


def wake_up_descriptor() -> int:
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number, warn_on_full_buffer=False)
    return number


async def test_a_blocked_signal_is_let_in() -> None:
    """And blocked again: a program that was started so, or has done it to be ready first."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {USR1})
    signal.raise_signal(USR1)  # to this thread: others let it in
    try:
        with aioipc.open_signal_receiver(USR1) as signals:
            assert await signals.receive() is USR1
            assert not signal.sigpending()
            send(USR1)
            await settle()  # and is not read: sent again, to this thread
        assert signal.sigpending() == {USR1}
        assert signal.sigtimedwait({USR1}, 0) is not None
        assert USR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {USR1})


# -- errors ----------------------------------------------------------------------------------------------

NO_SIGNALS: list[tuple[Any, type[Exception], str]] = [
    ("SIGHUP", TypeError, "a signal is a member of signal.Signals or its number, not 'SIGHUP'"),
    (True, TypeError, "not True"),
    (None, TypeError, "not None"),
    (1.0, TypeError, r"not 1\.0"),
    (0, ValueError, "there is no signal 0"),
    (-1, ValueError, "there is no signal -1"),
    (32, ValueError, "there is no signal 32"),
    (65, ValueError, "there is no signal 65"),
    (signal.SIGKILL, ValueError, "SIGKILL cannot be received: the kernel lets no process handle it"),
    (signal.SIGSTOP, ValueError, "SIGSTOP cannot be received"),
    (signal.SIGSEGV, ValueError, "SIGSEGV cannot be received: it is a fault of the program itself"),
    (signal.SIGCHLD, ValueError, "SIGCHLD cannot be received: it belongs to the loop"),
]


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(("signum", "error", "text"), NO_SIGNALS)
async def test_wrong_signals(signum: Any, error: type[Exception], text: str, values: bool) -> None:
    with pytest.raises(error, match=text):
        aioipc.open_signal_receiver(USR1, signum, values=values)
    assert signal.getsignal(USR1) is signal.SIG_DFL
    if not values:
        with pytest.raises(error, match=text):
            aioipc.SignalRunbook({signum: lambda: None})


async def test_no_signals() -> None:
    with pytest.raises(ValueError, match="needs at least one signal"):
        aioipc.open_signal_receiver()


async def test_the_same_twice() -> None:
    with aioipc.open_signal_receiver(USR1, USR1) as signals:
        assert repr(signals) == "<SignalReceiver of SIGUSR1>"


@pytest.mark.parametrize("signum", [signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX])
async def test_real_time_signals_need_values(signum: int) -> None:
    with pytest.raises(ValueError, match="is a real-time signal, of which each one counts: receive it with values"):
        aioipc.open_signal_receiver(signum)


@pytest.mark.parametrize("values", [False, True])
async def test_in_the_loop_of_another_thread(values: bool) -> None:
    async def use() -> None:
        aioipc.open_signal_receiver(USR1, values=True) if values else aioipc.open_signal_receiver(USR1)

    with pytest.raises(RuntimeError, match="open_signal_receiver handles signals, which Python allows in the main thr"):
        await asyncio.to_thread(lambda: asyncio.run(use()))


def test_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="open_signal_receiver needs a running asyncio"):
        aioipc.open_signal_receiver(USR1)


async def test_without_descriptors() -> None:
    """Nothing is half-done."""
    source = """
        import asyncio, os, resource, signal, sys, aioipc, uvloop
        async def main():
            aioipc.open_signal_receiver(signal.SIGUSR1).close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, 4096))
            for values in (False, True):
                try:
                    aioipc.open_signal_receiver(signal.SIGUSR1, values=values).close()
                except OSError as error:
                    print(error.errno)
            assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert signal.set_wakeup_fd(-1) == -1
        asyncio.run(main())
    """
    assert run_script(source).check().stdout == "24\n24\n"


# -- surroundings ----------------------------------------------------------------------------------------


async def test_a_forked_child_does_not_listen() -> None:
    """It has the handlers of before, and what it gets is not heard in its parent."""
    with aioipc.open_signal_receiver(TERM, USR1) as signals:
        child = os.fork()
        if not child:
            threading.Event().wait()
            os._exit(0)
        os.kill(child, TERM)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == -TERM
        await settle()
        with pytest.raises(aioipc.WouldBlock):
            signals.receive_nowait()
        send(USR1)
        assert await signals.receive() is USR1


async def test_a_forked_child_that_closes_it() -> None:
    """It unwinds the ``with`` of its parent, who is not disturbed by that."""
    with aioipc.open_signal_receiver(USR1) as signals:
        child = os.fork()
        if not child:
            try:
                signals.close()
                os._exit(0 if signal.getsignal(USR1) is signal.SIG_DFL else 3)
            finally:
                os._exit(4)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        task = asyncio.create_task(signals.receive())
        await asyncio.sleep(0)
        await asyncio.to_thread(signal.raise_signal, USR1)
        assert await asyncio.wait_for(task, 10) is USR1


async def test_children_have_the_default() -> None:
    with aioipc.open_signal_receiver(TERM, HUP):
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        process.send_signal(HUP)
        assert await process.wait() == -HUP
        popen = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
        popen.terminate()
        assert await asyncio.to_thread(popen.wait) == -TERM


async def receive_in_a_task(path: str) -> list[str]:
    """As an async task of a pool's worker: SIGHUP, which is ignored there, and SIGUSR1."""
    with aioipc.open_signal_receiver(HUP, USR1) as signals:
        Path(path).write_text(str(os.getpid()))  # noqa: ASYNC240
        found = [(await signals.receive()).name, (await signals.receive()).name]
    return [*sorted(found), str(signal.getsignal(HUP) is signal.SIG_IGN)]


def receive_in_a_sync_task(path: str) -> list[str]:
    return asyncio.run(receive_in_a_task(path))


@pytest.mark.parametrize("function", [receive_in_a_task, receive_in_a_sync_task])
async def test_in_a_worker(function: Any, tmp_path: Path) -> None:
    async with aioipc.Pool(1) as pool:
        for number in range(2):
            path = tmp_path / str(number)
            job = pool.submit(function, str(path))
            pid = int(await eventually_async(lambda path=path: path.exists() and path.read_text(), 20))  # type: ignore[misc]
            os.kill(pid, HUP)
            os.kill(pid, USR1)
            assert await job == ["SIGHUP", "SIGUSR1", "True"]
        assert pool.statistics().restarts == 0


async def test_context_of_listeners() -> None:
    """A listener is not called in the context of whatever the signal has interrupted."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    class Listens:
        def heard(self, signum: signal.Signals) -> bool:
            seen.append(variable.get())
            return True

    subscription = Subscription(asyncio.get_running_loop(), [USR1], Listens())
    variable.set("interrupted")
    send(USR1)
    await eventually_async(lambda: seen == ["none"])
    subscription.close()
