"""`open_signal_receiver` with ``values=True``: signals that stay in the kernel until they are received."""

from __future__ import annotations

import signal
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioipc
from aioipc._sys.signals import decode, name

from ..harness.scripts import run_script, running_script
from .signal_programs import LOOPS, program

# -- decoding --------------------------------------------------------------------------------------------

FIELDS = struct.Struct("=IiiIIiIIIIii")
U32, I32 = st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1)


@given(st.integers(1, 64), I32, U32, U32, U32, I32)
def test_what_was_encoded(signum: int, code: int, pid: int, uid: int, other: int, value: int) -> None:
    data = FIELDS.pack(signum, 0, code, pid, uid, -1, other, other, other, other, 0, value).ljust(128, b"\xaa")
    info = decode(data)
    assert (info.signum, info.code, info.pid, info.uid) == (signum, code, pid, uid)
    assert info.value == (value if -4 <= code <= -1 else None)
    assert isinstance(info.signum, signal.Signals) == (signum in set(signal.Signals))


@given(st.binary(max_size=300).filter(lambda data: len(data) != 128))
def test_other_sizes(data: bytes) -> None:
    with pytest.raises(ValueError, match="a signalfd gives 128 bytes"):
        decode(data)


def test_names() -> None:
    assert name(signal.SIGHUP) == "SIGHUP"
    assert name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert repr(aioipc.SignalInfo(signal.SIGHUP, 7, 1, 0, -1)).startswith("SignalInfo(signum=<Signals.SIGHUP: 1>")


# -- receiving -------------------------------------------------------------------------------------------


@LOOPS
def test_a_thousand_in_order(loop: str) -> None:
    """Sent by another process as fast as it can, over two signals: the lower one comes first, each in order."""
    receives = """
        with aioipc.open_signal_receiver(RT + 1, RT + 2, values=True) as signals:
            print("ready", flush=True)
            found = {RT + 1: [], RT + 2: []}
            while sum(map(len, found.values())) < 1000:
                info = await signals.receive()
                found[info.signum].append(info.value)
                assert (info.uid, info.code) == (os.getuid(), -1)
            assert found == {RT + 1: list(range(-250, 250)), RT + 2: list(range(500))}, found
            assert not signal.sigpending()
    """
    with running_script(program(loop, receives)) as script:
        script.wait_output("ready")
        for number in range(500):
            aioipc.send_signal(script.pid, signal.SIGRTMIN + 1, number - 250)
            aioipc.send_signal(script.popen, signal.SIGRTMIN + 2, number)
        script.wait().check()


@LOOPS
def test_who_and_what(loop: str) -> None:
    body = """
        with aioipc.open_signal_receiver(signal.SIGUSR1, RT, values=True) as signals:
            assert repr(signals) == "<SignalReceiver of SIGUSR1, SIGRTMIN>", signals
            me, user = os.getpid(), os.getuid()
            os.kill(me, signal.SIGUSR1)
            assert await signals.receive() == aioipc.SignalInfo(signal.SIGUSR1, None, me, user, 0)
            aioipc.send_signal(me, signal.SIGUSR1, 2**31 - 1)
            aioipc.send_signal(me, signal.SIGUSR1, 8)  # one is pending: the kernel drops this
            assert await signals.receive() == aioipc.SignalInfo(signal.SIGUSR1, 2**31 - 1, me, user, -1)
            aioipc.send_signal(me, RT, -2**31)
            aioipc.send_signal(me, RT)
            assert [(await signals.receive()).value for _ in range(2)] == [-2**31, 0]
            try:
                signals.receive_nowait()
            except aioipc.WouldBlock:
                print("all")
    """
    source = program(loop, body).replace("of SIGUSR1, SIGRTMIN>", f"of SIGUSR1, {name(signal.SIGRTMIN)}>")
    assert run_script(source).check().stdout == "all\n"


@LOOPS
def test_cancelled_receivers_lose_nothing(loop: str) -> None:
    body = """
        received = []
        with aioipc.open_signal_receiver(RT, values=True) as signals:
            for number in range(300):
                task = asyncio.create_task(signals.receive())
                for _ in range(number % 3):
                    await asyncio.sleep(0)
                aioipc.send_signal(os.getpid(), RT, number)
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    received.append((await task).value)
                except asyncio.CancelledError:
                    pass
            while signal.sigpending():
                received.append((await signals.receive()).value)
        assert received == list(range(300)), received
    """
    run_script(program(loop, body)).check()


@LOOPS
def test_the_newest_receives_and_nobody_else(loop: str) -> None:
    """Of receivers with values, and of both kinds."""
    body = """
        def send(value):
            aioipc.send_signal(os.getpid(), signal.SIGUSR1, value)
        async def value(signals):
            return (await asyncio.wait_for(signals.receive(), 10)).value
        with aioipc.open_signal_receiver(signal.SIGUSR1, RT, values=True) as outer:
            with aioipc.open_signal_receiver(signal.SIGUSR1, values=True) as inner:
                send(1)
                aioipc.send_signal(os.getpid(), RT, 2)
                assert await value(outer) == 2
                assert await value(inner) == 1
                send(3)
            assert await value(outer) == 3
            with aioipc.open_signal_receiver(signal.SIGUSR1) as without:
                send(4)
                assert await asyncio.wait_for(without.receive(), 10) is signal.SIGUSR1
                with aioipc.open_signal_receiver(signal.SIGUSR1, values=True) as inner:
                    send(5)
                    assert await value(inner) == 5
                    send(6)
                assert await asyncio.wait_for(without.receive(), 10) is signal.SIGUSR1
            send(7)
            assert await value(outer) == 7
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    """
    run_script(program(loop, body)).check()


@LOOPS
def test_closed_in_any_order(loop: str) -> None:
    """The mask is as it was in the end, whoever goes first."""
    body = """
        import itertools
        async def received(signals):
            return await asyncio.wait_for(signals.receive(), 10)
        for before in (set(), {signal.SIGUSR1}):
            for kinds in itertools.product([False, True], repeat=3):
                for order in itertools.permutations(range(3)):
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    receivers = [aioipc.open_signal_receiver(signal.SIGUSR1, values=values) for values in kinds]
                    alive = list(receivers)
                    for number in order:
                        receivers[number].close()
                        alive.remove(receivers[number])
                        if alive:
                            os.kill(os.getpid(), signal.SIGUSR1)
                            await received(alive[-1])
                    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
                    assert not signal.sigpending()
    """
    run_script(program(loop, body)).check()


@LOOPS
def test_other_masks_are_left_alone(loop: str) -> None:
    """What the program blocks meanwhile stays so."""
    body = """
        with aioipc.open_signal_receiver(RT, values=True):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2}
    """
    run_script(program(loop, body)).check()


@LOOPS
@pytest.mark.parametrize("handled", [True, False])
def test_what_was_not_read_acts_at_the_end(loop: str, handled: bool) -> None:
    before = "heard = []\n" + ("signal.signal(RT, lambda *_: heard.append(1))" if handled else "")
    body = """
        with aioipc.open_signal_receiver(RT, values=True):
            aioipc.send_signal(os.getpid(), RT, 1)
            await asyncio.sleep(0.01)
            assert not heard
        print("handled", heard)
    """
    done = run_script(program(loop, body, before))
    assert (done.returncode, done.stdout) == ((0, "handled [1]\n") if handled else (-signal.SIGRTMIN, ""))


@LOOPS
@pytest.mark.parametrize("signum", ["SIGWINCH", "SIGURG", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("disposition", ["SIG_IGN", "SIG_DFL"])
def test_ignored_signals_are_received(loop: str, signum: str, disposition: str) -> None:
    """What a signal would do otherwise has no say: a blocked one is not thrown away."""
    body = f"""
        signal.signal(signal.{signum}, signal.{disposition})
        with aioipc.open_signal_receiver(signal.{signum}, values=True) as signals:
            aioipc.send_signal(os.getpid(), signal.{signum}, 3)
            assert (await asyncio.wait_for(signals.receive(), 10)).value == 3
    """
    run_script(program(loop, body)).check()


# -- threads and children --------------------------------------------------------------------------------


@LOOPS
def test_threads_that_would_take_the_signal(loop: str) -> None:
    """They are named, nothing is changed; a thread that blocks it is fine, and so is one that starts later."""
    body = """
        end = threading.Event()
        def wait(block):
            signal.pthread_sigmask(signal.SIG_BLOCK, block)
            started.wait()
            end.wait()
        started = threading.Barrier(3)
        threads = [threading.Thread(target=wait, args=(block,), name=name, daemon=True)
                   for name, block in (("good", {RT, signal.SIGUSR1}), ("bad", {signal.SIGUSR1}))]
        for thread in threads:
            thread.start()
        started.wait()
        try:
            aioipc.open_signal_receiver(RT, values=True)
        except RuntimeError as error:
            assert "would take the signals away, and the process might die of it: bad. Open" in str(error), error
        else:
            raise AssertionError
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with aioipc.open_signal_receiver(signal.SIGUSR1, values=True) as signals:
            await asyncio.to_thread(aioipc.send_signal, os.getpid(), signal.SIGUSR1, 5)
            assert (await signals.receive()).value == 5
        end.set()
        for thread in threads:
            thread.join()
    """
    run_script(program(loop, body)).check()


@LOOPS
def test_children(loop: str) -> None:
    """Which of them inherit that it is blocked: as documented."""
    body = """
        async def blocked(*command):
            process = await asyncio.create_subprocess_exec(*command, stdout=-1)
            out, _ = await process.communicate()
            return int(out.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1
        command = ["grep", "SigBlk", "/proc/self/status"]
        with aioipc.open_signal_receiver(signal.SIGUSR1, values=True):
            import subprocess
            out = subprocess.run(command, stdout=-1).stdout
            print("subprocess", int(out.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
            print("loop", await blocked(*command))
            async with aioipc.Pool(1) as pool:
                print("pool", await pool.run(mask))
            if not (child := os.fork()):
                os._exit(len(mask()))
            print("fork", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    before = "def mask(): return [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())]"
    out = run_script(program(loop, body, before)).check().stdout
    assert out == f"subprocess 1\nloop {int(loop == 'asyncio')}\npool []\nfork 0\n"
