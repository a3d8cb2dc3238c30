"""From the options of `aioipc run` to what is run; and how `aioipc ctl` shows what a master says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aioipc import ChildSpec, PoolSpec, SupervisorSpec
from aioipc.cli.failure import CommandError
from aioipc.cli.master_text import log_line, status_lines
from aioipc.cli.services import Services, read_bindings
from aioipc.master.captured_output import with_captured_output

NAMES = """
    name workers app_dir concurrency boot_timeout heartbeat_timeout drain_delay max_age max_memory max_tasks jitter
"""
NOTHING: dict[str, Any] = dict.fromkeys(NAMES.split())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.py").write_text("raise SystemExit('the master must not import this')")
    return tmp_path


def test_options(place: Path) -> None:
    given = {
        "workers": 3,
        "max_memory": 1 << 29,
        "jitter": 0.0,
        "binds": ("http=tcp://:80", "unix://x.sock"),
        "max_age": 60.0,
    }
    services = Services("shop.web:serve", is_file=False, options={**NOTHING, **given})
    assert services.about(9.0) == "workers 3, by --workers"
    (child,) = services.load().children
    assert services.load() is services.load()
    assert child == ChildSpec(
        "web",
        "shop.web:serve",
        replicas=3,
        shutdown=9.0,
        max_memory=1 << 29,
        max_age=60.0,
        jitter=0.0,
        app_dir=str(place),
        listeners={"http": "tcp://:80", "default": "unix://x.sock"},
        stdout="capture",
        stderr="capture",
    )


def test_default_workers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    services = Services("shop.web:serve", is_file=False, options={**NOTHING, "binds": (), "name": "front"})
    assert services.about(25.0) == "workers 7, by WEB_CONCURRENCY"
    (child,) = services.load().children
    assert (child.name, child.replicas) == ("front", 7)


def test_files(place: Path) -> None:
    (place / "a.toml").write_text('child.web = {target = ["true"], stderr = "null"}')
    plain = Services("a.toml", is_file=True, options={}).load().children[0]
    assert (plain.stdout, plain.stderr) == ("inherit", "null")
    services = Services("a.toml", is_file=True, options={})
    assert services.about(25.0) == "services as the file says"
    (child,) = with_captured_output(services.load()).children
    assert (child.stdout, child.stderr) == ("capture", "null")
    (place / "a.toml").write_text('child.db.target = ["true"]')
    assert services.load().children[0].name == "db"
    below = SupervisorSpec([ChildSpec("inner", SupervisorSpec([plain]))], intensity=3)
    captured = with_captured_output(below)
    assert captured.intensity == 3
    assert captured.children[0].supervisor is not None
    assert captured.children[0].supervisor.children[0].stdout == "capture"
    pools = with_captured_output(SupervisorSpec([ChildSpec("a", PoolSpec()), ChildSpec("b", PoolSpec(capture=print))]))
    assert [getattr(child.pool, "capture", None) for child in pools.children] == [True, print]


def test_bindings() -> None:
    assert read_bindings(("fd://web", "a=fd://3", "tcp://[::1]:0")) == {
        "web": "fd://web",
        "a": "fd://3",
        "default": "tcp://[::1]:0",
    }
    with pytest.raises(CommandError, match="there is a listener 'default' already"):
        read_bindings(("tcp://:1", "tcp://:2"))


def test_text() -> None:
    process = {
        "name": "web",
        "replica": 0,
        "state": "RUNNING",
        "pid": 7,
        "generation": 2,
        "uptime": 61.0,
        "restarts": 1,
    }
    process |= {
        "last_exit": "it exited\x1b[2J with 1",
        "memory": 3 << 20,
        "work": 0,
        "status": "busy",
        "role": "serving",
    }
    leaving = process | {"state": "DRAINING", "role": "leaving", "pid": None, "status": ""}
    child = {"name": "web", "kind": "function", "listeners": {"http": "tcp://x:1"}, "processes": [process, leaving]}
    nested = {"name": "inner", "kind": "supervisor", "listeners": {}, "processes": [leaving]}
    status = {"title": "shop", "pid": 1, "state": "running", "uptime": 5.0, "generation": 2, "restarts": 1}
    assert status_lines(status | {"children": [nested, child]}, None) == [
        "shop (pid 1): running, up 5s, generation 2, restarts 1",
        "  web: http at tcp://x:1",
        "NAME   STATE               PID  UPTIME  MEMORY  GEN  RESTARTS  SAYS  LAST EXIT",
        "web.0  RUNNING               7   1m01s    3.0M    2         1  busy  it exited\\x1b[2J with 1",
        "web.0  DRAINING (leaving)    -       -       -    2         1        it exited\\x1b[2J with 1",
    ]
    assert len(status_lines(status | {"children": []}, 80)) == 1
    record = {
        "time": "T",
        "level": "INFO",
        "logger": "shop",
        "message": "a\x1b[2Jb",
        "pid": 7,
        "service": "web",
        "replica": 0,
    }
    assert log_line(record) == "T INFO    web.0 (pid 7) a\\x1b[2Jb"
    assert (
        log_line({**record, "logger": "aioipc.supervisor", "exception": "x\ny"}) == "T INFO    (pid 7) a\\x1b[2Jb\nx\ny"
    )
    assert "17 records are missing" in log_line({"lost": 17})
