"""The limits against sysctl's files, ulimit, and objects that use them up."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import aioipc
from aioipc.objects.limit import Limit, hint
from tests.harness.kernel_limits import set_limit as set_limit
from tests.harness.scripts import run_script


def test_what_the_files_say() -> None:
    found = aioipc.limits()
    for name in ("kernel.msgmax", "kernel.msgmni", "kernel.shmmni", "fs.mqueue.msg_max", "fs.pipe-max-size"):
        assert found[name].value == int(Path(found[name].source).read_text())
        assert found[name].remedy == f"sysctl -w {name}=N"
    fields = Path("/proc/sys/kernel/sem").read_text().split()
    parts = [found[f"kernel.sem.{part}"] for part in ("semmsl", "semmns", "semopm", "semmni")]
    assert [limit.value for limit in parts] == [int(field) for field in fields]
    assert parts[1].remedy == f"sysctl -w kernel.sem='{fields[0]} N {fields[2]} {fields[3]}'"
    assert all(limit.name == name and limit.meaning and limit.remedy for name, limit in found.items())


def test_what_is_used() -> None:
    with (
        closing(aioipc.SysVMessageQueue.create()) as queue,
        closing(aioipc.SysVSemaphoreSet.create(None, [0] * 7)),
        aioipc.SysVSharedMemory.create(None, 3 * resource.getpagesize()),
        aioipc.SharedMemory.create(1 << 20, name=f"/aioipc-test-limits-{os.getpid()}") as memory,
    ):
        memory.buffer[:] = b"x" * (1 << 20)
        queue.send_nowait(b"hello")
        found = aioipc.limits()
    used = {name: limit.used or 0 for name, limit in found.items()}
    assert used["kernel.msgmni"] >= 1
    assert used["kernel.msgmnb"] >= 5
    assert used["kernel.sem.semmsl"] >= 7
    assert used["kernel.sem.semmns"] >= 7
    assert used["kernel.shmall"] >= 3
    assert used["/dev/shm"] >= 1 << 20
    assert used["RLIMIT_NOFILE"] >= 3
    share = found["/dev/shm"].share
    assert share is not None
    assert 0 < share <= 1


def test_this_process() -> None:
    source = """
        import resource, aioipc
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
        limit = aioipc.limits()["RLIMIT_NOFILE"]
        print(limit.value, limit.remedy, limit.hint, sep="; ")
    """
    expected = "100; ulimit -n N, up to 200; it is less than 1024: each worker needs some\n"
    assert run_script(source).check().stdout == expected


def test_one_that_is_nearly_used_up(set_limit: Callable[[str, str], None]) -> None:
    queues = [aioipc.SysVMessageQueue.create() for _ in range(8)]
    try:
        set_limit("msgmni", "10")
        limit = aioipc.limits()["kernel.msgmni"]
        assert limit.hint == f"{limit.used:.0f}0% of it is used"
    finally:
        for queue in queues:
            queue.close()


@pytest.mark.parametrize(
    ("value", "used", "least", "expected"),
    [
        (None, 5, 10, None),
        (10, 7.9, None, None),
        (10, 8, 20, "80% of it is used"),
        (10, None, 20, "it is less than 20: because"),
        (20, 1, 20, None),
        (0, 0, None, None),
        (0, 3, 1, "it is less than 1: because"),
    ],
)
def test_hints(value: float | None, used: float | None, least: float | None, expected: str | None) -> None:
    assert hint(value, used, least, "because") == expected


def test_share() -> None:
    def share(value: float | None, used: float | None) -> float | None:
        return Limit(name="a", value=value, used=used, unit="count", source="", meaning="", remedy="").share

    assert (share(10, 5), share(None, 5), share(10, None), share(0, 1)) == (0.5, None, None, 1.0)
