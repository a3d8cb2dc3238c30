"""`supervise`: what it refuses, and that it leaves the process as it was."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc import ChildSpec, SupervisorSpec

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


async def end_master(worker: aioipc.WorkerContext) -> None:
    await worker.ready()
    os.kill(int(os.environ["MASTER"]), signal.SIGTERM)
    await worker.stopping()


def test_leaves_no_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = SupervisorSpec([ChildSpec("web", end_master, env={"MASTER": str(os.getpid())})])
    calls: list[int] = []

    def load() -> SupervisorSpec:
        calls.append(1)
        return spec

    def state() -> list[Any]:
        root = logging.getLogger()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return [[signal.getsignal(each) for each in SIGNALS], mask, list(root.handlers), root.level]

    before = state()
    with caplog.at_level(logging.INFO, "aioipc"):
        before[3] = logging.getLogger().level
        code = aioipc.supervise(load, title="shop", pid_file=tmp_path / "pid", control=False, log_format=None)
    assert code == 0
    assert calls == [1]
    assert state() == before
    assert [each.message for each in caplog.records if each.message.startswith("starting shop (pid ")]
    assert os.listdir(tmp_path) == []


def test_the_pid_file_of_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pid").write_text("not a pid")
    spec = SupervisorSpec([ChildSpec("web", end_master)])
    assert aioipc.supervise(spec, pid_file=tmp_path / "pid", control=False, log_format=None) == 3
    assert "is there and is no pid file" in caplog.text


@pytest.mark.parametrize(
    ("services", "options", "error", "words"),
    [
        (["web"], {}, TypeError, "services must be a SupervisorSpec or a function"),
        (lambda: "web", {}, TypeError, "must return a SupervisorSpec, not 'web'"),
        (SupervisorSpec(), {"log_format": "xml"}, ValueError, "'text', 'json' or None, not 'xml'"),
        (SupervisorSpec(), {"shutdown": -1}, ValueError, "shutdown must be at least 0 s"),
        (SupervisorSpec(), {"control": 3}, TypeError, "path"),
    ],
)
def test_refused(services: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        aioipc.supervise(services, **options)


async def test_in_a_loop() -> None:
    with pytest.raises(RuntimeError, match="one runs in this thread"):
        aioipc.supervise(SupervisorSpec())
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(aioipc.supervise, SupervisorSpec())
