"""Sockets that a service manager has passed: the real thing, descriptors from 3 on, in a program of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aioipc.supervisor.socket_activation import take_passed_sockets

from ..harness.processes import eventually
from ..harness.scripts import ROOT, run_script

START = """
    import fcntl, os, socket, sys
    directory = sys.argv[1]
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(directory + "/a")
    unix.listen()
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened = [tcp.detach(), unix.detach(), datagrams.detach(), os.open("/dev/null", os.O_RDONLY)]
    sources = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in opened]
    os.closerange(3, 100)
    for number, source in enumerate(sources, 3):
        os.dup2(source, number)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="5", LISTEN_FDNAMES="http:admin:http:null:gone")
"""


def test_taken_once_and_matched_by_name_number_and_address(tmp_path: Path) -> None:
    source = (
        START
        + """
    import asyncio
    from aioipc.supervisor.held_listeners import HeldListeners
    from aioipc.supervisor.socket_activation import take_passed_sockets
    from aioipc.supervisor.spec import ChildSpec

    passed = take_passed_sockets()
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert len(take_passed_sockets()) == 0
    assert not any(os.get_inheritable(each.number) for each in passed if each.fault != "is not open")
    assert not os.get_blocking(3)

    def wants(name, **listeners):
        return (name,), ChildSpec(name, "m:f", listeners=listeners)

    async def main():
        held = HeldListeners(passed)
        web = await held.lease(*wants("web", a="fd://3", b=f"tcp://127.0.0.1:{port}"))
        assert web.descriptors(0) == {"a": 3, "b": 3}, web.descriptors(0)
        assert web.addresses["a"] == f"tcp://127.0.0.1:{port}"
        admin = await held.lease(*wants("admin", c="fd://admin", d=f"unix://{directory}/a"))
        assert admin.descriptors(1) == {"c": 4, "d": 4}
        assert [each.address for each in held._held] == [f"tcp://127.0.0.1:{port}", f"unix://{directory}/a"]
        web.close()
        assert os.fstat(3)  # it could not be bound again
        back = await held.lease(*wants("web", a="fd://3"))
        for address in ("fd://http", "fd://gone", "fd://null", "fd://5", "fd://nobody"):
            try:
                await held.lease(*wants("web", a=address))
            except ValueError as error:
                print(error)
        try:
            address = f"tcp://127.0.0.1:{port}"
            await held.lease(("each",), ChildSpec("each", "m:f", listeners={"a": address}, reuse_port=True))
        except ValueError as error:
            print(str(error).replace(str(port), "PORT"))
        held.close()
        assert os.path.exists(directory + "/a")  # the service manager's
    asyncio.run(main())
    """
    )
    lines = run_script(source, str(tmp_path)).check().stdout.splitlines()
    assert lines == [
        "child 'web': listeners['a']: fd://http: several sockets have this name; write fd://3 or fd://5",
        "child 'web': listeners['a']: fd://gone: descriptor 7 ('gone') is not open",
        "child 'web': listeners['a']: fd://null: descriptor 6 ('null') is no socket",
        "child 'web': listeners['a']: fd://5: descriptor 5 ('http') does not listen "
        "(its unit must have ListenStream= and Accept=no)",
        "child 'web': listeners['a']: fd://nobody: no such socket was passed to this process; passed were "
        "descriptor 3 ('http'), descriptor 4 ('admin'), descriptor 5 ('http'), descriptor 6 ('null'), "
        "descriptor 7 ('gone')",
        "child 'each': listeners['a']: tcp://127.0.0.1:PORT was passed as one socket: leave reuse_port out",
    ]


def test_not_for_this_process(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "HOME": "/"}
    assert len(take_passed_sockets(environ)) == 0
    assert environ == {"HOME": "/"}
    assert f"passed to process {os.getppid()}, and not to this one ({os.getpid()}): start it directly" in caplog.text
    assert len(take_passed_sockets(environ)) == 0


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LISTEN_PID": "me", "LISTEN_FDS": "1"}, "LISTEN_PID must be a number, not 'me'"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"}, "LISTEN_FDS must be a number, not '-1'"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "9" * 30}, "LISTEN_FDS must be a number"),
    ],
)
def test_nonsense(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        take_passed_sockets(environ)


def test_names_that_are_too_few_do_not_count() -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": "a:b"}
    assert [*take_passed_sockets(environ)] == []


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="there is no systemd-socket-activate")
def test_by_systemd_itself(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(
        "from aioipc.supervisor.socket_activation import take_passed_sockets\n"
        "(found,) = take_passed_sockets()\n"
        "connection, _ = found.sock.accept()\n"
        "connection.sendall(f'{found} at {found.sock.getsockname()}'.encode())\n"
    )
    listen = ["systemd-socket-activate", f"--listen={tmp_path}/a", "--fdname=web", f"--setenv=PYTHONPATH={ROOT}"]
    process = subprocess.Popen([*listen, sys.executable, str(script)], stderr=subprocess.PIPE)
    try:
        eventually((tmp_path / "a").exists, 20)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            eventually(lambda: client.connect_ex(f"{tmp_path}/a") == 0, 20)
            assert client.recv(1000).decode() == f"descriptor 3 ('web') at {tmp_path}/a"
    finally:
        process.kill()
        process.communicate()
