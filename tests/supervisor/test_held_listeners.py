"""Listeners that the master holds: shared, kept over reloads, closed with the last lease."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioipc.supervisor.held_listeners import HeldListeners
from aioipc.supervisor.spec import ChildSpec

from ..harness.hostile import NOBODY, run_confined
from ..harness.scripts import running_script

ANY_PORT = "tcp://127.0.0.1:0"


@pytest.fixture
def held() -> Iterator[HeldListeners]:
    listeners = HeldListeners()
    yield listeners
    listeners.close()


def child(name: str = "web", **options: Any) -> ChildSpec:
    return ChildSpec(name, "module:function", **options)


def listening(*addresses: str, **options: Any) -> ChildSpec:
    return child(listeners={f"l{number}": address for number, address in enumerate(addresses)}, **options)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def addresses(held: HeldListeners) -> list[str]:
    """Where it listens."""
    return [each.address for each in held._held]


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
    return True


def accepted(descriptor: int) -> int:
    """How many connections wait at a listening socket; they are taken."""
    count = 0
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


async def test_all_that_name_an_address_share_its_socket(held: HeldListeners) -> None:
    first = await held.lease(("web",), listening(ANY_PORT))
    address = first.addresses["l0"]
    assert port_of(address)
    second = await held.lease(("api",), listening(address))
    assert first.descriptors(0) == first.descriptors(7) == second.descriptors(0)
    (fd,) = {*first.descriptors(0).values()}
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)
    with socket.create_connection(("127.0.0.1", port_of(address))):
        assert accepted(fd) == 1
    first.close()
    first.close()
    with socket.create_connection(("127.0.0.1", port_of(address))):  # somebody still uses it
        assert addresses(held) == [address]
    second.close()
    assert addresses(held) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(address)))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_a_free_port_is_of_one_child_and_stays_over_reloads(held: HeldListeners) -> None:
    old = await held.lease(("web",), listening(ANY_PORT, ANY_PORT))
    other = await held.lease(("api",), listening(ANY_PORT))
    assert len({*old.addresses.values(), *other.addresses.values()}) == 3
    new = await held.lease(("web",), listening(ANY_PORT, ANY_PORT, nice=1))
    old.close()
    assert new.addresses == old.addresses or not old.addresses
    fds = new.descriptors(0)
    newer = await held.lease(("web",), listening(ANY_PORT, ANY_PORT, nice=2))
    new.close()
    assert newer.descriptors(0) == fds


async def test_all_or_nothing(held: HeldListeners, tmp_path: Path) -> None:
    path = f"unix://{tmp_path}/a.sock"
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match=r"child 'web': listeners\['l1'\]: .*is no socket; remove it") as caught:
        await held.lease(("web",), listening(path, f"unix://{tmp_path}/file"))
    assert f"unix://{tmp_path}/file" in str(caught.value)
    assert addresses(held) == []
    assert os.listdir(tmp_path) == ["file"]


async def test_unix_sockets(held: HeldListeners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    lease = await held.lease(("web",), listening("unix://a.sock"))  # taken over: nobody listens
    assert lease.addresses == {"l0": f"unix://{path}"}
    same = await held.lease(("api",), listening(f"unix://{path}"))
    assert same.descriptors(0) == lease.descriptors(0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert accepted(lease.descriptors(0)["l0"]) == 1
    monkeypatch.chdir("/")
    lease.close()
    assert path.exists()
    same.close()
    assert not path.exists()


async def test_permissions_of_a_path(held: HeldListeners, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"

    def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    umask = os.umask(0o077)
    try:
        lease = await held.lease(("web",), listening(f"unix://{path}?mode=660"))
    finally:
        os.umask(umask)
    assert mode() == 0o660
    assert lease.addresses == {"l0": f"unix://{path}"}, "where to connect to"
    new = await held.lease(("web",), listening(f"unix://{path}?mode=666"))  # as in a reload
    assert new.descriptors(0) == lease.descriptors(0)
    assert mode() == 0o666
    lease.close()
    await held.lease(("api",), listening(f"unix://{path}"))  # whatever it has
    with pytest.raises(ValueError, match=r"child 'cron': listeners\['l0'\]: .* is held with mode=666 by 'web', 'api'"):
        await held.lease(("cron",), listening(f"unix://{path}?mode=660"))
    assert mode() == 0o666


async def test_permissions_go_back_to_the_usual_ones(held: HeldListeners, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    old = await held.lease(("web",), listening(f"unix://{path}?mode=666"))
    await held.lease(("web",), listening(f"unix://{path}"))
    old.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.touch(0o640)  # somebody else's now
    await held.lease(("web",), listening(f"unix://{path}?mode=666"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_path_that_is_not_ours_any_more_stays(tmp_path: Path) -> None:
    listeners = HeldListeners(mode=0o666, backlog=1)
    path = tmp_path / "a.sock"
    await listeners.lease(("web",), listening(f"unix://{path}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    path.unlink()
    path.touch()
    listeners.close()
    assert path.exists()


async def test_no_host_is_every_interface(held: HeldListeners) -> None:
    lease = await held.lease(("web",), listening("tcp://:0"))
    port = port_of(lease.addresses["l0"])
    hosts = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
    for host in hosts:
        socket.create_connection((host, port)).close()
    assert accepted(lease.descriptors(0)["l0"]) == len(hosts)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_ipv6_alone(held: HeldListeners) -> None:
    lease = await held.lease(("web",), listening("tcp://[::]:0"))
    port = port_of(lease.addresses["l0"])
    socket.create_connection(("::1", port)).close()
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", port))


async def test_names_are_looked_up_once(held: HeldListeners) -> None:
    lease = await held.lease(("web",), listening("tcp://localhost:0"))
    port = port_of(lease.addresses["l0"])
    with socket.create_connection(("localhost", port)):
        pass
    shared = await held.lease(("api",), listening(f"tcp://localhost:{port}"))
    assert shared.descriptors(0) == lease.descriptors(0)
    lease.close()
    loop = asyncio.get_running_loop()
    await loop.shutdown_default_executor()  # nothing could be looked up any more
    again = await held.lease(("api",), listening(f"tcp://localhost:{port}"))
    assert again.descriptors(0) == shared.descriptors(0)


async def test_cancelled_while_a_name_is_looked_up(held: HeldListeners, tmp_path: Path) -> None:
    wanted = held.lease(("web",), listening(f"unix://{tmp_path}/a", "tcp://localhost:0"))
    task = asyncio.ensure_future(wanted)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert addresses(held) == os.listdir(tmp_path) == []


async def test_a_socket_for_each_replica(held: HeldListeners, caplog: pytest.LogCaptureFixture) -> None:
    spec = listening(ANY_PORT, replicas=2, reuse_port=True)
    lease = await held.lease(("web",), spec)
    port = port_of(lease.addresses["l0"])
    first, second = (lease.descriptors(slot)["l0"] for slot in (0, 1))
    assert first != second
    assert (lease.descriptors(0)["l0"], lease.descriptors(1)["l0"]) == (first, second)  # also for a successor
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(32)]
    reload = await held.lease(("web",), spec)
    assert reload.descriptors(1)["l0"] == second
    other = await held.lease(("api",), listening(f"tcp://127.0.0.1:{port}", reuse_port=True))
    assert other.descriptors(0)["l0"] not in (first, second)
    lease.close()
    counts = accepted(first), accepted(second)
    assert sum(counts) == 32
    assert all(counts)  # the kernel has dealt them out: all to one by a chance of 2 to the -31
    more = [socket.create_connection(("127.0.0.1", port)) for _ in range(32)]
    reload.drop_slot(1)  # scaled down: nobody is sent there any more
    assert "connections to tcp://127.0.0.1" in caplog.text
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
    reload.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)
    assert addresses(held) == [f"tcp://127.0.0.1:{port}"]
    accepted(other.descriptors(0)["l0"])
    with socket.create_connection(("127.0.0.1", port)):
        assert accepted(other.descriptors(0)["l0"]) == 1
    for each in clients + more:
        each.close()


SERVE = """
import os, select, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    while True:
        select.select([listener], [], [])
        listener.accept()[0].sendall(b"%d" % os.getpid())
"""


def serve_once(descriptor: int, waiting: socket.socket) -> None:
    """Start a worker, see it answer who waits, and kill it."""
    worker = subprocess.Popen([sys.executable, "-c", SERVE, str(descriptor)], pass_fds=[descriptor])
    try:
        with waiting:
            assert int(waiting.recv(100)) == worker.pid
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("reuse_port", [False, True])
async def test_who_comes_while_nobody_accepts_is_served_by_the_next(held: HeldListeners, reuse_port: bool) -> None:
    lease = await held.lease(("web",), listening(ANY_PORT, reuse_port=reuse_port))
    address = ("127.0.0.1", port_of(lease.addresses["l0"]))
    waiting = socket.create_connection(address, timeout=20)  # before there is anybody
    for _ in range(2):
        serve_once(lease.descriptors(0)["l0"], waiting)
        waiting = socket.create_connection(address, timeout=20)
    waiting.close()


async def test_reuse_port_cannot_change_while_it_is_held(held: HeldListeners) -> None:
    lease = await held.lease(("web",), listening(ANY_PORT))
    address = lease.addresses["l0"]
    with pytest.raises(ValueError, match=f"child 'api': .*{address} is held without reuse_port by 'web'; take another"):
        await held.lease(("api",), listening(address, reuse_port=True))
    with pytest.raises(ValueError, match="is held without reuse_port by 'web'"):
        await held.lease(("web",), listening(ANY_PORT, reuse_port=True))
    one = await held.lease(("one",), listening(ANY_PORT, reuse_port=True))
    with pytest.raises(ValueError, match="is held with reuse_port by 'one'"):
        await held.lease(("api",), listening(one.addresses["l0"]))


async def test_says_who_has_the_port(held: HeldListeners, tmp_path: Path) -> None:
    source = f"""
        import socket, time
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
            unix.bind({str(tmp_path / "a")!r})
            unix.listen()
            print("port", tcp.getsockname()[1], "!", flush=True)
            time.sleep(60)
    """
    with running_script(source) as script:
        port = script.wait_output("!").split()[1]
        for address in (f"tcp://127.0.0.1:{port}", f"unix://{tmp_path}/a", f"tcp://:{port}"):
            words = rf"child 'back/db': listeners\['l0'\]: cannot listen at {address}: "
            with pytest.raises(OSError, match=words) as caught:
                await held.lease(("back", "db"), listening(address))
            assert f"(pid {script.pid}) listens there: stop it, or choose another" in str(caught.value)


def test_says_what_a_plain_user_lacks(tmp_path: Path) -> None:
    source = """
        import asyncio, sys
        from aioipc.supervisor.held_listeners import HeldListeners
        from aioipc.supervisor.spec import ChildSpec
        async def main():
            for address in sys.argv[1:]:
                try:
                    await HeldListeners().lease(("web",), ChildSpec("web", "m:f", listeners={"http": address}))
                except OSError as error:
                    print(error)
        asyncio.run(main())
    """
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        addresses = (f"tcp://127.0.0.1:{port}", f"unix://{tmp_path}/a", "tcp://127.0.0.1:1")
        lines = run_confined(NOBODY, source, *addresses).check().stdout.splitlines()
    assert lines[0].endswith(
        f"a process of uid {os.geteuid()} listens there, which this one may not look at: "
        "stop it, or choose another port"
    )
    assert lines[1].endswith(
        f"cannot listen at unix://{tmp_path}/a: Permission denied; {tmp_path} must be writable for uid 65534"
    )
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 1:
        assert "need CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start" in lines[2]


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("unix:///no/such/directory/a", FileNotFoundError, "make the directory /no/such/directory first"),
        ("tcp://192.0.2.1:80", OSError, "no interface of this machine has this address"),
        ("tcp://no-such-host.invalid:80", OSError, r"cannot listen at tcp://no-such-host.invalid:80"),
        ("unix://" + "x" * 107, ValueError, "may have 107 bytes, not 1"),
        ("fd://web", ValueError, "passed were none"),
    ],
)
async def test_errors_say_what_to_do(held: HeldListeners, address: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        await held.lease(("web",), listening(address))
    assert str(caught.value).find("child 'web': listeners['l0']: ") >= 0


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="mode"):
        HeldListeners(mode=0o7777)
    with pytest.raises(TypeError, match="backlog"):
        HeldListeners(backlog="much")  # type: ignore[arg-type]
