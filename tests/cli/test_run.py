"""`aioipc run` and `aioipc ctl` with real processes: signals, files, exit codes, logs, the service manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from ..harness.processes import children, descendants, eventually, is_running, wait_gone
from ..harness.service_manager import service_manager
from .in_process import Command
from .masters import SERVICE, master

TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the module shop."""
    (tmp_path / "shop.py").write_text(SERVICE)
    return tmp_path


def test_a_life(place: Path) -> None:
    """Up, scaled, reloaded with new code, dumped, asked by ctl, drained: exit code 0, and nothing is left."""
    with service_manager() as manager:
        options = ("-w", "2", "--bind", "http=tcp://127.0.0.1:0", "--pid-file", "pid")
        with master(place, "shop:serve", *options, env=manager.environ(watchdog=60)) as running:
            running.wait_log("up: services 1, processes 2; shop: http at tcp://127.0.0.1:")
            assert "starting shop:serve" in running.log
            assert "workers 2, by --workers" in running.log
            assert int((place / "pid").read_text()) == running.pid
            assert stat.S_IMODE((place / "state" / f"run-{running.pid}.sock").stat().st_mode) == 0o600
            first = [each["pid"] for each in running.processes()]

            running.send(signal.SIGTTIN)
            running.until(lambda status: len(running.processes()) == 3)
            running.send(signal.SIGTTOU)
            running.until(lambda status: status["children"][0]["replicas"] == 2 and len(running.processes()) == 2)

            # of another length: what Python has compiled is told apart by size and whole seconds
            (place / "shop.py").write_text(SERVICE.replace('"one"', '"two and more"'))
            running.send(HUP)
            running.wait_log("the supervisor reloaded: generation 1")
            running.wait_log("shop: version two")  # records come on a way of their own
            assert {each["generation"] for each in running.processes()} == {1}
            for pid in first:
                wait_gone(pid, 20)

            running.send(signal.SIGUSR1, signal.SIGUSR2)
            log = running.wait_log("SIGUSR2 is ignored") and running.wait_log("shop.1 RUNNING, pid ")
            assert "the supervisor is running: up " in log
            assert "shop (function, permanent): up, 2 of 2 ready, http at tcp://127.0.0.1:" in log

            table = running.ctl("status").stdout.splitlines()
            assert table[0].startswith(f"shop:serve (pid {running.pid}): running, up ")
            assert [line.split()[:2] for line in table[3:]] == [["shop.0", "RUNNING"], ["shop.1", "RUNNING"]]

            last = [each["pid"] for each in running.processes()]
            running.send(TERM)
            assert running.wait() == 0, running.log
            assert "all that was accepted is finished" in running.log
            assert not any(is_running(pid) for pid in last)
            assert os.listdir(place / "state") == []
            assert not (place / "pid").exists()
        heard = [each.split(" MONOTONIC")[0].split(" STATUS")[0] for each in manager.heard()]
        assert heard[1:4] == ["READY=1", "RELOADING=1", "READY=1"]
        assert heard[4].startswith("STOPPING=1 EXTEND_TIMEOUT_USEC=30000000")
        assert "WATCHDOG=1" in manager.heard(watchdog=True)
        assert set(manager.senders) == {running.pid}


def test_ctl(place: Path) -> None:
    (place / "services.toml").write_text("""
        child.web.target = "shop:serve"
        child.db.target = ["sleep", "1000"]
        child.db.ready = 0.01
    """)
    with master(place, "services.toml") as running:
        running.wait_log("up: ")
        assert running.ctl("stop", "db").stderr == ""
        states = {
            child["name"]: child["state"] for child in json.loads(running.ctl("status", "--json").stdout)["children"]
        }
        assert states == {"web": "up", "db": "down"}
        for words, code, said in (
            ("restart nobody", 1, "aioipc ctl restart: there is no child 'nobody'\n"),
            ("start web", 2, "aioipc ctl start: 'web' is up already\n"),
            ("kill web.3", 1, "aioipc ctl kill: there is no replica 3 of 'web'\n"),
            ("signal db HUP", 1, "aioipc ctl signal: db has no process now\n"),
            ("--pid 1 status", 2, "aioipc ctl status: no master of yours with pid 1 is found"),
        ):
            done = running.ctl(*words.split())
            assert (done.returncode, done.stderr[: len(said)]) == (code, said)
            assert done.stderr.count("\n") == 1

        (pid,) = [each["pid"] for each in running.processes()]
        assert running.ctl("kill", "web.0", "--json").stdout == "1\n"
        running.until(lambda status: [each["pid"] for each in running.processes() if each["pid"] != pid])
        assert "told by the control socket: signal web KILL 0" in running.ctl("logs", "-n", "50").stdout

        (place / "services.toml").write_text("child.web.target = 'shop:serve'\nchild.web.replica = 2\n")
        refused = running.ctl("reload")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "there is no field 'replica'; did you mean 'replicas'?" in refused.stderr
        assert len(running.processes()) == 1
        (place / "services.toml").write_text("child.web.target = 'shop:serve'\nchild.web.replicas = 2\n")
        assert running.ctl("reload").stdout == "reloaded: removed db; changed web\n"
        assert len(running.processes()) == 2

        assert running.ctl("drain").returncode == 0
        assert running.processes() == []
        assert running.ctl("shutdown").returncode == 0
        assert running.wait() == 0, running.log


def test_json_log(place: Path) -> None:
    """Every line is JSON, and says who it is from; also of what a program prints."""
    (place / "services.toml").write_text("""
        child.web.target = "shop:serve"
        child.db.target = ["sh", "-c", "echo one; echo two >&2; exec sleep 1000"]
    """)
    with master(place, "services.toml", "--log-format", "json") as running:
        running.wait_log("up: ")
        running.send(TERM)
        assert running.wait() == 0, running.log
        records = running.records()
        assert all({"time", "level", "logger", "message", "pid"} <= set(each) for each in records)
        (said,) = [each for each in records if each["message"] == "version one"]
        assert (said["service"], said["replica"], said["logger"]) == ("web", 0, "shop")
        assert said["pid"] != running.pid
        assert said["extra"] == {"answer": "one"}
        printed = {(each["service"], each["stream"], each["message"]) for each in records if "stream" in each}
        assert printed == {("web", "stdout", "printed"), ("db", "stdout", "one"), ("db", "stderr", "two")}
        assert (place / "stdout").read_bytes() == b""


@pytest.mark.parametrize(("signums", "code"), [([INT, INT], 130), ([TERM, QUIT], 131), ([TERM], 1)], ids=str)
def test_what_does_not_stop(place: Path, signums: list[int], code: int) -> None:
    options = ["--shutdown-timeout", "2" if code == 1 else "60"]
    with master(place, "shop:stubborn", "-w", "1", *options) as running:
        running.wait_log("up: ")
        (pid,) = [each["pid"] for each in running.processes()]
        for number, signum in enumerate(signums):
            running.send(signum)
            running.wait_log("stopping, within" if number == 0 else "everything is killed")
            if number == 0 and len(signums) > 1:
                running.until(lambda status: status["uptime"] > 0 and status["state"] == "stopping")
                time.sleep(0.3)  # else it could be one request that was relayed twice
        assert running.wait() == code, running.log
        assert not is_running(pid)


def test_what_does_not_start(place: Path) -> None:
    with master(place, "shop:broken", "-w", "1") as running:
        assert running.wait() == 3
        assert "shop cannot start" in running.log
        assert running.log.count("this is why") == 1, "of three that fail alike, one is shown"
        assert running.log.count("wrote the same to standard error") == 2
    with master(place, "shop:serve", "-w", "1", "--bind", "tcp://192.0.2.1:1") as running:
        assert running.wait() == 3
        assert "nothing was started: " in running.log
    assert "there is no control socket" not in running.log
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    env = {"AIOIPC_STATE_DIR": str(shared)}
    with master(place, "shop:serve", "-w", "1", "--bind", "tcp://192.0.2.1:1", env=env) as running:
        assert running.wait() == 3
        assert f"no directory can be used that is of this user alone (see AIOIPC_STATE_DIR): {shared}" in running.log
    (place / "dying.toml").write_text('supervisor.intensity = 1\nchild.web = {target = ["sleep", "0.1"], ready = 0.01}')
    with master(place, "dying.toml") as running:
        assert running.wait() == 4
        assert "more than 1 restarts" in running.log


def test_signals_before_it_is_up(place: Path) -> None:
    """A signal that comes while nothing hears it yet is neither lost nor deadly, once the command has begun."""
    (place / "slow.toml").write_text('child.web = {target = ["sleep", "1000"], ready = 30, replicas = 2}')
    with master(place, "slow.toml") as running:
        eventually(lambda: running.blocks(TERM) or "control socket: " in running.log, 20)
        running.send(HUP, TERM)
        assert running.wait() == 0, running.log
        assert "up: " not in running.log


def test_a_socket_of_the_service_manager(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        shell = f'exec 3<&{passed.fileno()}; LISTEN_PID=$$ exec "$@"'
        env = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        options = {"env": env, "prefix": ["bash", "-c", shell, "bash"], "pass_fds": [passed.fileno()]}
        with master(place, "shop:serve", "-w", "1", "-b", "fd://web", **options) as running:
            running.wait_log(f"shop: web at tcp://127.0.0.1:{passed.getsockname()[1]}")
            running.send(TERM)
            assert running.wait() == 0, running.log


def test_a_killed_master(place: Path) -> None:
    """Nothing of it is left running, and what it leaves behind is in nobody's way."""
    options = ("shop:serve", "-w", "2", "--pid-file", "pid", "--control", "control.sock")
    with master(place, *options) as running:
        running.wait_log("up: ")
        workers = [each.pid for each in descendants(running.pid)]
        assert len(workers) == 3
        running.send(signal.SIGKILL)
        running.wait()
        for pid in workers:
            wait_gone(pid, 20)
    assert (place / "control.sock").is_socket()
    with master(place, *options) as running:
        running.wait_log("up: ")
        assert int((place / "pid").read_text()) == running.pid
        with master(place, *options, log="other") as other:
            assert other.wait() == 3
            assert f"process {running.pid} is running with this pid file" in other.log
        running.send(INT)
        assert running.wait() == 0, running.log
    assert not (place / "control.sock").exists()


def test_as_process_1(place: Path) -> None:
    """In a PID namespace of its own it reaps the orphans of others, and ends as it should."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "setsid"]  # as a container runtime does
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    with master(place, "shop:serve", "-w", "1", prefix=unshare) as running:
        running.wait_log("(pid 1)")
        running.wait_log("up: ")
        (inner,) = children(running.pid)
        inside = ["nsenter", "--target", str(inner.pid), "--pid", "sh", "-c"]
        subprocess.run([*inside, "true & exec sleep 0"], check=True)  # the shell is gone before what it has started
        subprocess.run([*inside, "sh -c 'sleep 0.1 &'"], check=True)
        before = {each.pid for each in children(inner.pid)}
        eventually(lambda: len(children(inner.pid)) == 1, 20, before)  # the zygote alone is left
        os.kill(inner.pid, TERM)
        assert running.wait() == 0, running.log


def test_wrong_usage(aioipc_command: Command, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for words, said in (
            ("run shop", "aioipc run: 'shop' is not of the form package.module:function"),
            ("run shop.py:serve", "aioipc run: 'shop.py:serve' names a file; name the module instead: shop:serve"),
            ("run shops:serve", f"aioipc run: no module named 'shops' (looked in {place} first); did you mean 'shop'?"),
            ("run none.toml", f"aioipc run: {place}/none.toml: No such file or directory"),
            (
                "run none.toml --workers 2",
                "aioipc run: --workers is for MODULE:FUNCTION; with a file, the file says it",
            ),
            ("run shop:serve --bind 8000", "aioipc run: --bind '8000': it must be [NAME=]tcp://HOST:PORT, unix://PATH"),
            ("run shop:serve --bind tcp://x:99999", "aioipc run: child 'shop': listeners['default']: 'tcp://x:99999'"),
            (
                "run shop:serve --drain-delay 30",
                "aioipc run: child 'shop': drain_delay must be less than shutdown (25 s)",
            ),
        ):
            assert aioipc_command.refused(words).startswith(said)
        monkeypatch.setenv("WEB_CONCURRENCY", "many")
        assert aioipc_command.refused("run shop:serve") == (
            "aioipc run: WEB_CONCURRENCY must be a positive number, not 'many'"
        )
        (place / "bad.toml").write_text("child.web.target = 3")
        assert "[child.web] target must be" in aioipc_command.refused("run bad.toml")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
