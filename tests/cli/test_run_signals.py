"""Signals to `aioipc run`: in storms, from a terminal, where SIGINT was ignored, and as process 1."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ..harness.processes import children, descendants, eventually, is_running
from .masters import LONG, SERVICE, master
from .signal_storms import failures, some_cases

CTRL_C = b"\x03"
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the module shop."""
    (tmp_path / "shop.py").write_text(SERVICE)
    return tmp_path


@pytest.mark.timeout(240)
def test_storms(tmp_path: Path) -> None:
    """Two signals in quick succession, at any moment; `python -m tests.cli.signal_storms` tries them all."""
    seed = int(os.environ.get("AIOIPC_STORM_SEED", "0"))
    found = failures(some_cases(seed, 12), 2, tmp_path)
    assert not found, "\n\n".join([*found, f"AIOIPC_STORM_SEED={seed}"])


IGNORING = ("sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh")  # as a shell does for what it starts with &


@pytest.mark.parametrize(
    ("prefix", "function", "presses", "code"),
    [
        ((), "serve", 1, 0),
        ((), "stubborn", 3, 130),
        (("nohup",), "stubborn", 2, 130),
        (IGNORING, "serve", 1, 0),
        (IGNORING, "stubborn", 2, 130),
        (UNSHARE, "serve", 1, 0),
        (UNSHARE, "stubborn", 2, 130),
    ],
    ids=lambda value: str(value[0] if value else "plain") if isinstance(value, tuple) else str(value),
)
def test_ctrl_c(place: Path, prefix: tuple[str, ...], function: str, presses: int, code: int) -> None:
    """It reaches the master alone, also where that was started with SIGINT ignored; a second one kills."""
    if prefix == UNSHARE:
        need_namespaces()
    ours, theirs = pty.openpty()
    with master(place, f"shop:{function}", "-w", "1", prefix=("setsid", "--ctty", *prefix), stdin=theirs) as running:
        os.close(theirs)
        running.wait_log("up: services")
        others = [each.pid for each in descendants(running.pid)]
        os.write(ours, CTRL_C)
        running.wait_log("SIGINT: stopping, within 25 s")
        if presses > 1:
            time.sleep(0.3)  # else it could be one request that was relayed twice
        for _ in range(presses - 1):
            os.write(ours, CTRL_C)
        assert running.wait() == code, running.log
        assert "KeyboardInterrupt" not in running.log
        assert not any(map(is_running, others))
    os.close(ours)


def test_ignored_signals_are_heard(place: Path) -> None:
    """Started from a shell with & or nohup, all of them act as the table says."""
    for last, code in ((signal.SIGINT, 0), (signal.SIGQUIT, 131)):
        with master(place, "shop:stubborn" if code else "shop:serve", "-w", "1", prefix=IGNORING) as running:
            running.wait_log("up: services")
            if not code:
                running.send(signal.SIGHUP)
                running.wait_log("the supervisor reloaded: generation 1")
            running.send(last)
            assert running.wait() == code, running.log


def test_signals_to_process_1(place: Path) -> None:
    """The kernel drops what process 1 neither handles nor blocks; what comes before a master hears is kept."""
    need_namespaces()
    with master(place, "shop:serve", "-w", "1", prefix=(*UNSHARE, "setsid")) as running:
        inner = eventually(lambda: children(running.pid), LONG)[0].pid
        # SIGTERM would not tell: unshare has it blocked when it forks, and its child for a moment, too.
        eventually(lambda: running.blocks(signal.SIGHUP, inner) or "control socket: " in running.log, LONG)
        for signum in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
            os.kill(inner, signum)
        assert running.wait() == 0, running.log
        assert "SIGTERM: stopping" in running.log


def need_namespaces() -> None:
    """Skip the test where none can be made."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
