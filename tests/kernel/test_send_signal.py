"""`send_signal`: to processes of every kind and to threads, with values, and never to a stranger."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import aioipc

from ..harness.processes import wait_ended
from ..harness.scripts import run_script, running_script
from .signal_programs import program

TERM, USR1, RT = signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 5
SLEEP = ["sleep", "1000"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    popen = subprocess.Popen(SLEEP)
    yield popen
    popen.kill()
    popen.wait()


@pytest.mark.parametrize("value", [None, 7])
@pytest.mark.parametrize("signum", [TERM, RT, signal.SIGKILL])
def test_to_a_number(child: subprocess.Popen[bytes], signum: int, value: int | None) -> None:
    aioipc.send_signal(child.pid, signum, value)
    assert child.wait() == -signum


@pytest.mark.parametrize("value", [None, 7])
def test_to_a_popen(child: subprocess.Popen[bytes], value: int | None) -> None:
    aioipc.send_signal(child, TERM, value)
    assert child.wait() == -TERM


@pytest.mark.parametrize("value", [None, 7])
async def test_to_a_process_of_asyncio(value: int | None) -> None:
    process = await asyncio.create_subprocess_exec(*SLEEP)
    aioipc.send_signal(process, TERM, value)
    assert await process.wait() == -TERM
    with pytest.raises(ProcessLookupError):
        aioipc.send_signal(process, TERM, value)


async def test_to_a_process_of_anyio() -> None:
    async with await anyio.open_process(SLEEP) as process:
        aioipc.send_signal(process, TERM)
        assert await process.wait() == -TERM
        with pytest.raises(ProcessLookupError):
            aioipc.send_signal(process, TERM)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_to_a_process_of_multiprocessing(method: str) -> None:
    source = f"""
        import multiprocessing, signal, time, aioipc
        if __name__ == "__main__":
            process = multiprocessing.get_context({method!r}).Process(target=time.sleep, args=(1000,))
            try:
                aioipc.send_signal(process, signal.SIGTERM)
            except ValueError as error:
                assert "was not started" in str(error)
            process.start()
            aioipc.send_signal(process, signal.SIGTERM)
            process.join()
            assert process.exitcode == -signal.SIGTERM
            try:
                aioipc.send_signal(process, signal.SIGTERM)
            except ProcessLookupError as error:
                print(error)
    """
    assert "it is gone" in run_script(source).check().stdout
    assert isinstance(multiprocessing.current_process().pid, int)


def test_to_one_that_was_reaped(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for target in (child, child.pid):
        with pytest.raises(ProcessLookupError, match=rf"cannot send SIGTERM to process {child.pid}: it is gone"):
            aioipc.send_signal(target, TERM)


def test_to_a_zombie(child: subprocess.Popen[bytes]) -> None:
    """By number nobody can know better; the object finds out."""
    child.kill()
    wait_ended(child.pid)
    aioipc.send_signal(child.pid, TERM)
    with pytest.raises(ProcessLookupError):
        aioipc.send_signal(child, TERM)


def test_never_to_who_has_its_number_now(child: subprocess.Popen[bytes]) -> None:
    """An object of a process that was reaped by others, whose number belongs to a stranger by now."""
    for stale in (
        SimpleNamespace(pid=child.pid, returncode=0),
        SimpleNamespace(pid=child.pid, exitcode=-9),
        SimpleNamespace(pid=os.getppid(), returncode=None),  # not known as dead yet, but no child of ours
    ):
        with pytest.raises(ProcessLookupError):
            aioipc.send_signal(stale, signal.SIGCONT)
    assert child.poll() is None


@pytest.mark.parametrize("value", [None, 3])
def test_to_threads(value: int | None) -> None:
    """Each has a mask and pending signals of its own: who takes it is who was meant."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {RT})
    ready, end = threading.Barrier(3), threading.Barrier(3)
    found: dict[str, Any] = {}

    def take() -> None:
        ready.wait(10)
        found[threading.current_thread().name] = signal.sigtimedwait({RT}, 10)
        end.wait(10)

    threads = [threading.Thread(target=take, name=name) for name in ("one", "two")]
    try:
        for thread in threads:
            thread.start()
        ready.wait(10)
        aioipc.send_signal(os.getpid(), RT, value, thread=threads[0])
        assert threads[1].native_id is not None
        aioipc.send_signal(os.getpid(), RT, value, thread=threads[1].native_id)
        end.wait(10)
        for thread in threads:
            thread.join(10)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RT})
    assert found["one"].si_pid == found["two"].si_pid == os.getpid()
    with pytest.raises(ProcessLookupError, match=r"to thread <Thread\(one, stopped"):
        aioipc.send_signal(os.getpid(), USR1, thread=threads[0])
    with pytest.raises(ProcessLookupError, match="to thread 1 of process"):
        aioipc.send_signal(os.getpid(), USR1, value, thread=1)


def test_without_pidfds() -> None:
    """Where the kernel or a sandbox refuses pidfd_open."""
    source = """
        import errno, os, signal, subprocess, aioipc
        def refuse(pid, flags=0):
            raise OSError(errno.EPERM, "no")
        os.pidfd_open = refuse
        for value in (None, 7):
            for target in ("pid", "popen"):
                popen = subprocess.Popen(["sleep", "1000"])
                aioipc.send_signal(popen if target == "popen" else popen.pid, signal.SIGTERM, value)
                assert popen.wait() == -signal.SIGTERM
                try:
                    aioipc.send_signal(popen, signal.SIGTERM, value)
                except ProcessLookupError:
                    pass
                else:
                    raise AssertionError
    """
    run_script(source).check()


def test_without_permission() -> None:
    source = """
        import os, signal, aioipc
        aioipc.send_signal  # loads it, while the standard library can be read
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for value in (None, 7):
            try:
                aioipc.send_signal(1, signal.SIGUSR1, value)
            except PermissionError as error:
                print(error)
    """
    if os.getuid():
        source = source.replace("os.setgroups([]); os.setgid(65534); os.setuid(65534)", "")
    text = "cannot send SIGUSR1 to process 1: it belongs to another user (kill(2))"
    assert run_script(source).check().stdout.count(text) == 2


@pytest.mark.parametrize("value", [None, 7])
def test_a_full_queue(value: int | None) -> None:
    """RLIMIT_SIGPENDING: an error that names it, and not a signal less than were accepted."""
    body = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (20, 20))
        with aioipc.open_signal_receiver(RT, values=True) as signals:
            sent = 0
            try:
                while True:
                    aioipc.send_signal(os.getpid(), RT, {value})
                    sent += 1
            except BlockingIOError as error:
                print(error)
            for _ in range(sent):
                await signals.receive()
            assert not signal.sigpending()
            assert sent
    """
    out = run_script(program("asyncio", body)).check().stdout
    assert "its user has as many signals pending as RLIMIT_SIGPENDING (ulimit -i) allows" in out
    assert resource.RLIMIT_SIGPENDING


def test_many_senders() -> None:
    """Each sender's own order is kept."""
    body = """
        with aioipc.open_signal_receiver(RT, values=True) as signals:
            print("ready", flush=True)
            found = {}
            for _ in range(400):
                info = await signals.receive()
                found.setdefault(info.pid, []).append(info.value)
            assert sorted(map(len, found.values())) == [100] * 4
            assert all(values == list(range(100)) for values in found.values())
    """
    sender = "import sys, signal, aioipc\nfor i in range(100): aioipc.send_signal(int(sys.argv[1]), signal.SIGRTMIN, i)"
    with running_script(program("uvloop", body)) as script:
        script.wait_output("ready")
        senders = [subprocess.Popen([sys.executable, "-c", sender, str(script.pid)]) for _ in range(4)]
        assert [each.wait(20) for each in senders] == [0] * 4
        script.wait().check()


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (("1", USR1), {}, TypeError, "a process is its number or an object with a pid, not '1'"),
    ((True, USR1), {}, TypeError, "not True"),
    ((None, USR1), {}, TypeError, "not None"),
    ((SimpleNamespace(pid="1"), USR1), {}, TypeError, "an object with a pid, not namespace"),
    ((0, USR1), {}, ValueError, r"0 is not the number of one process; os\.killpg"),
    ((-1, USR1), {}, ValueError, "-1 is not the number of one process"),
    ((SimpleNamespace(pid=None), USR1), {}, ValueError, "was not started"),
    ((os.getpid(), 0), {}, ValueError, "there is no signal 0"),
    ((os.getpid(), 65), {}, ValueError, "there is no signal 65"),
    ((os.getpid(), "SIGUSR1"), {}, TypeError, "a signal is a member of signal.Signals or its number"),
    ((os.getpid(), True), {}, TypeError, "not True"),
    ((os.getpid(), USR1, 2**31), {}, ValueError, r"from -2\*\*31 to 2\*\*31-1, not 2147483648"),
    ((os.getpid(), USR1, -(2**31) - 1), {}, ValueError, r"from -2\*\*31"),
    ((os.getpid(), USR1, "7"), {}, TypeError, "the value of a signal is a whole number, not '7'"),
    ((os.getpid(), USR1, True), {}, TypeError, "whole number, not True"),
    ((os.getpid(), USR1), {"thread": "main"}, TypeError, "a thread is a threading.Thread or its native_id"),
    ((os.getpid(), USR1), {"thread": 0}, ValueError, "0 is not the number of a thread"),
    ((os.getpid(), USR1), {"thread": threading.Thread()}, ValueError, "was not started"),
    ((1, USR1), {"thread": threading.main_thread()}, ValueError, "is a thread of this process, not of process 1"),
    ((2**40, USR1), {}, ValueError, "is not the number of one process"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "text"), WRONG)
def test_wrong_arguments(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        aioipc.send_signal(*arguments, **options)
