"""Launch options are in force before a process runs its own code, as the kernel tells; refusals name the option."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import signal
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aioipc.supervisor.launch import Launch

from ..harness.processes import command_line, eventually_async, process
from . import service_functions as f
from .launching import LONG, launcher, proc_status

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
PRELOAD = (f.__name__, "asyncio", "uvloop")
"""What another user may not be able to read where the interpreter is root's."""
NOBODY = pwd.getpwnam("nobody")


async def test_everything_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a service and for a command."""
    for name in ("TAKEN", "KEPT", "NOTIFY_SOCKET", "LISTEN_FDS"):
        monkeypatch.setenv(name, "of the master")
    cpu = min(os.sched_getaffinity(0))
    before = os.getpriority(os.PRIO_PROCESS, 0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    launch = Launch(
        env={"ADDED": "yes", "TAKEN": None},
        cwd=str(tmp_path),
        umask=0o27,
        nice=3,
        affinity=frozenset({cpu}),
        rlimits={"nofile": (200, 300), "core": (0, 0)},
        title="a title of some length",
        stdout="capture",
        stderr="null",
    )
    async with launcher() as start:
        service = start.service(f.tell_environment, launch)
        script = 'echo "$ADDED-$TAKEN-$KEPT-$NOTIFY_SOCKET"; echo no >&2; sleep 1000'
        command = start.command("sh", "-c", script, launch=launch)
        await service.heard("ready")
        await command.heard("spawned")
        for owner in (service, command):
            pid = owner.process.pid
            assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
            assert proc_status(pid, "Umask") == "0027"
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, before + 3)
            assert os.sched_getaffinity(pid) == {cpu}
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (200, min(300, hard))
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
            assert os.readlink(f"/proc/{pid}/fd/2") == os.devnull
        found = process(service.process.pid)
        assert found is not None
        assert found.name == "a title of some"
        assert command_line(service.process.pid) == "a title of some length"
        await eventually_async(lambda: "yes--of the master-" in start.texts(), LONG)
    texts = start.texts()
    home = os.environ.get("HOME")
    for line in ("ADDED yes", "TAKEN None", "KEPT of the master", "NOTIFY_SOCKET None", f"HOME {home}"):
        assert line in texts
    assert start.texts("stderr") == []


@NEEDS_ROOT
async def test_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ids and groups; it still dies with its parent, which the kernel forgets with the change."""
    by_name = Launch(user="nobody", stdout="capture", cwd="/", env={"USER": "mine"})
    monkeypatch.setenv("USER", "root")
    by_number = Launch(user=12345, group=23456, stdout="capture")
    group_only = Launch(group=grp.getgrgid(NOBODY.pw_gid).gr_name)
    async with launcher(PRELOAD) as start:
        owners = [start.service(f.tell_environment, each) for each in (by_name, by_number, group_only)]
        for owner in owners:
            await owner.heard("ready")
        seen = [
            tuple(proc_status(owner.process.pid, name).split() for name in ("Uid", "Gid", "Groups")) for owner in owners
        ]
        nobody, group = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
        groups = sorted(map(str, os.getgrouplist("nobody", NOBODY.pw_gid)))
        assert (seen[0][0], seen[0][1], sorted(seen[0][2])) == ([nobody] * 4, [group] * 4, groups)
        assert seen[1] == (["12345"] * 4, ["23456"] * 4, ["23456"])
        assert seen[2] == (["0"] * 4, [group] * 4, [group])
        commands = [start.command("sh", "-c", "id -u; exec sleep 1000", launch=each) for each in (by_name, by_number)]
        for command in commands:
            await command.heard("spawned")
        start.losses = 1
        os.kill(start.zygote.pid, signal.SIGKILL)
        for owner in (*owners, *commands):
            assert (await owner.ended()).with_zygote
            await_gone = process(owner.process.pid)
            assert await_gone is None or await_gone.is_zombie
    for line in (f"HOME {NOBODY.pw_dir}", "USER mine", "HOME /", "USER None"):
        assert line in start.texts()
    assert start.texts().count("dies with its parent by signal 9") == 2


REFUSED: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "env": ({"env": {"A": "\ud800"}}, "env: 'A': 'utf-8' codec can't encode", None),
    "cwd": ({"cwd": "/no/such/place"}, "cwd: '/no/such/place': No such file or directory", 2),
    "user": ({"user": "no-such-user"}, "user: 'no-such-user': there is no such user", None),
    "group": ({"group": "no-such-group"}, "group: 'no-such-group': there is no such group", None),
    "nameless": ({"user": 12345}, "group: user 12345 has no entry that names its group: name one", None),
    "affinity": ({"affinity": frozenset({60000})}, "affinity: [60000]: ", 22),
    "rlimits": ({"rlimits": {"nofile": (1 << 40, 1 << 40)}}, f"rlimits['nofile']: '{1 << 40}:{1 << 40}': ", 1),
    "unknown": ({"rlimits": {"patience": (1, 1)}}, "rlimits['patience']: '1:1': there is no such limit", None),
}


async def test_refusals_name_the_option() -> None:
    async with launcher() as start:
        services = {name: start.service(f.serve, Launch(**case[0])) for name, case in REFUSED.items()}
        command = start.command("true", launch=Launch(cwd="/no/such/place"))
        for name, owner in services.items():
            await owner.ended()
            _, text, number = REFUSED[name]
            [(event, reason, errno)] = owner.events
            assert event == "refused"
            assert reason.startswith(text)
            assert errno == number
        await command.ended()
        assert command.names == ["refused"]


@NEEDS_ROOT
async def test_what_only_root_may() -> None:
    """In a process that has become another user already."""

    lower = Launch(user="nobody", stdout="capture", rlimits={"nofile": (100, 100)})
    async with launcher(PRELOAD) as start:
        await start.service(f.try_launches, lower).ended()
    assert start.texts() == [
        "nice 13 less than the master's needs CAP_SYS_NICE, or a limit of that name",
        "user 1 only root, or who has CAP_SETUID and CAP_SETGID, becomes another user",
        "group 1 only root, or who has CAP_SETGID, gets another group",
        "rlimits['nofile'] 1 a hard limit above the master's needs CAP_SYS_RESOURCE, and nofile ends at fs.nr_open",
    ]


def test_is_taken_from_whatever_has_the_same_fields(tmp_path: Path) -> None:
    spec = SimpleNamespace(**{each.name: getattr(Launch(), each.name) for each in fields(Launch)}, more=1)
    spec.cwd, spec.nice = tmp_path, 4
    assert Launch.of(spec) == Launch(cwd=str(tmp_path), nice=4)
