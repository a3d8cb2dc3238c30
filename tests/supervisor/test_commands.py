"""External programs: what they find when they start, how their start fails, how they become ready, how they end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from aioipc.supervisor.launch import Launch

from ..harness.processes import eventually_async, is_running, open_descriptors, wait_ended, wait_state
from .launching import LONG, launcher, proc_status

CAPTURED = Launch(stdout="capture", stderr="capture")


async def test_output_and_exit_codes(tmp_path: Path) -> None:
    async with launcher() as start:
        quick = start.command("sh", "-c", "echo out; echo error >&2; exit 3", launch=CAPTURED)
        killed = start.command("sh", "-c", "kill -SEGV $$", launch=CAPTURED)
        for owner, code in ((quick, 3), (killed, -signal.SIGSEGV)):
            assert (await owner.ended()).exitcode == code
            assert owner.names == ["spawned", "exited"]
        assert quick.stderr == "error\n"
    assert [(line.service, line.slot, line.stream, line.text) for line in start.lines] == [
        ("run", 0, "stdout", "out"),
        ("run", 0, "stderr", "error"),
    ]


async def test_what_cannot_be_executed(tmp_path: Path) -> None:
    """It never was: nothing is told but the refusal."""
    (tmp_path / "locked").write_text("#!/bin/sh\n")
    (tmp_path / "text").write_text("no program")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    for name in ("text", "lost"):
        (tmp_path / name).chmod(0o755)
    cases = {
        "no-such-program": (errno.ENOENT, "target: 'no-such-program': No such file or directory"),
        str(tmp_path / "locked"): (errno.EACCES, "Permission denied"),
        str(tmp_path): (errno.EACCES, "Permission denied"),
        str(tmp_path / "text"): (errno.ENOEXEC, "Exec format error"),
        str(tmp_path / "lost"): (errno.ENOENT, "(the interpreter that its first line names)"),
    }
    async with launcher() as start:
        owners = {name: start.command(name) for name in cases}
        for name, owner in owners.items():
            await owner.ended()
            [(event, reason, number)] = owner.events
            assert (event, number) == ("refused", cases[name][0])
            assert cases[name][1] in reason
            assert repr(name) in reason


async def test_a_clean_process() -> None:
    """Three descriptors, default dispositions, nothing blocked, its own session; as a service manager starts it."""
    async with launcher() as start:
        owner = start.command("cat", "/proc/self/status", "/dev/stdin", launch=Launch(stdout="capture"))
        waiting = start.command("sleep", "1000")
        await waiting.heard("spawned")
        pid = waiting.process.pid
        assert os.getsid(pid) == os.getpgid(pid) == pid
        # The dynamic loader has libraries open for a moment.
        await eventually_async(lambda: sorted(open_descriptors(pid)) == [0, 1, 2], LONG, lambda: open_descriptors(pid))
        assert open_descriptors(pid)[0] == os.devnull
        for name in ("SigBlk", "SigIgn", "SigCgt"):
            # 32 and 33 are the C library's own: whoever started us may ignore them, and nobody can change that.
            assert int(proc_status(pid, name), 16) & ~(0b11 << 31) == 0, name
        await owner.ended()
    assert any(line.startswith("Name:\tcat") for line in start.texts())


LISTENING = """
import os, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid()
names = os.environ["LISTEN_FDNAMES"].split(":")
print(os.environ["LISTEN_FDS"], names, sorted(map(int, os.listdir("/proc/self/fd")))[:-1])
for fd, name in enumerate(names, 3):
    print(name, socket.socket(fileno=fd).getsockname()[1])
"""


async def test_socket_activation() -> None:
    """From descriptor 3 on, in order, whatever the numbers were; and nothing else."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        socket.create_server(("127.0.0.1", 0)) as three,
    ):
        listeners = {"http": one.fileno(), "admin.2": two.fileno(), "x": three.fileno()}
        ports = [each.getsockname()[1] for each in (one, two, three)]
        async with launcher() as start:
            owner = start.command(
                *(sys.executable, "-c", LISTENING), launch=CAPTURED, listeners=listeners, ready="newline"
            )
            report = await owner.ended()
            assert report.exitcode == 0, start.texts("stderr")
        assert start.texts() == [
            "3 ['http', 'admin.2', 'x'] [0, 1, 2, 3, 4, 5, 6]",
            *(f"{name} {port}" for name, port in zip(listeners, ports, strict=True)),
        ]


async def test_readiness(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        async with launcher() as start:
            script = "printf not-yet >&$NOTIFY_FD; sleep 0.1; echo >&$NOTIFY_FD; exec sleep 1000"
            newline = start.command("sh", "-c", script, ready="newline")
            silent = start.command("sh", "-c", "exec 3>&-; exec sleep 1000", ready="newline")
            hasty = start.command("sh", "-c", "echo >&$NOTIFY_FD", ready="newline")
            shown = start.command(
                *("sh", "-c", 'echo "$NOTIFY_SOCKET $WATCHDOG_USEC $(($WATCHDOG_PID == $$))"'),
                launch=CAPTURED,
                notify_socket=path,
                watchdog=7.5,
            )
            await newline.heard("ready")
            assert newline.process.state == "RUNNING"
            await hasty.ended()
            assert hasty.names == ["spawned", "ready", "exited"]
            await silent.heard("spawned")
            silent.process.assume_ready()
            assert silent.process.state == "RUNNING"
            assert silent.names == ["spawned"]
            await shown.ended()
    assert start.texts() == [f"{path} 7500000 1"]


async def test_stop_reaches_the_group_even_where_it_is_stopped() -> None:
    async with launcher() as start:
        plain = start.command("sleep", "1000")
        shell = start.command("sh", "-c", "sleep 1000 & echo $!; wait", launch=CAPTURED)
        stopped = start.command("sleep", "1000")
        early = start.command("sleep", "1000")
        early.process.stop(start.loop.time() + 20)
        await plain.heard("spawned")
        await stopped.heard("spawned")
        await eventually_async(start.texts, LONG)
        grandchild = int(start.texts()[0])
        os.kill(stopped.process.pid, signal.SIGSTOP)
        wait_state(stopped.process.pid, "T")
        for owner in (plain, shell, stopped):
            owner.process.stop(start.loop.time() + 20)
            owner.process.stop(start.loop.time() + 20)
        for owner in (plain, shell, stopped, early):
            assert (await owner.ended()).exitcode == -signal.SIGTERM
        wait_ended(grandchild)


async def test_other_ways_to_stop() -> None:
    """By another signal, which it alone gets and passes on in its own way; before the exec by SIGTERM."""
    script = "sleep 1000 & trap 'echo asked; kill $!; wait $!; echo $?; exit 7' QUIT; echo; while :; do wait; done"
    async with launcher() as start:
        alone = start.command("sh", "-c", script, launch=CAPTURED, stop_signal=signal.SIGQUIT, stop_group=False)
        early = start.command("sh", "-c", script, stop_signal=signal.SIGINT, stop_group=False)
        early.process.stop(start.loop.time() + 20)
        await eventually_async(start.texts, LONG)
        alone.process.stop(start.loop.time() + 20)
        assert (await alone.ended()).exitcode == 7
        assert start.texts() == ["", "asked", str(128 + signal.SIGTERM)]
        assert (await early.ended()).exitcode == -signal.SIGTERM


async def test_what_ignores_sigterm_is_killed_with_its_children() -> None:
    async with launcher() as start:
        owner = start.command("sh", "-c", "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done", launch=CAPTURED)
        await eventually_async(start.texts, LONG)
        grandchild = int(start.texts()[0])
        owner.process.stop(start.loop.time())
        os.kill(owner.process.pid, signal.SIGTERM)
        assert is_running(grandchild)
        owner.process.condemn("it did not stop")
        report = await owner.ended()
        assert (report.exitcode, report.reason) == (-signal.SIGKILL, "it did not stop")
        wait_ended(grandchild)


@pytest.mark.parametrize("stdin", ["null", "inherit", "closed"])
def test_standard_input(stdin: str, tmp_path: Path) -> None:
    """The master's own, where that is asked for; where that is closed, nothing that has its number by now."""
    from ..harness.scripts import run_script

    how = "null" if stdin == "null" else "inherit"
    program = f"""
        import asyncio, os
        from aioipc.supervisor.launch import Launch
        from tests.supervisor.launching import launcher

        async def main():
            async with launcher() as start:
                await start.command("cat", launch=Launch(stdin={how!r}, stdout="capture")).ended()
            print(start.texts())

        if {stdin!r} == "closed":
            os.close(0)
            number, other = os.pipe()
            assert number == 0
            os.write(other, b"of the master alone")
            os.close(other)
        asyncio.run(main())
    """
    expected = ["typed here"] if stdin == "inherit" else []
    assert run_script(program, stdin=b"typed here").check().stdout == f"{expected}\n"
