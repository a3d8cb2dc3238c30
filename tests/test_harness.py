"""The harness does what it says: processes, scripts, the reaper, hostile surroundings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import pytest

from aioipc.testing.reaper import reaper_pid

from .harness import hostile
from .harness.processes import (
    children,
    descendants,
    eventually,
    eventually_async,
    is_running,
    process,
    wait_ended,
    wait_gone,
    wait_state,
)
from .harness.scripts import ROOT, run_script, running_script

SLEEPING_FAMILY = """
    import subprocess, sys
    subprocess.Popen(["setsid", "sleep", "1000"])
    print("ready", flush=True)
    sys.stdin.read()
    import signal; signal.pause()
"""


def test_process() -> None:
    me = process(os.getpid())
    assert me is not None
    assert (me.pid, me.ppid, me.pgid, me.sid) == (os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
    assert me.state == "R"
    assert is_running(me.pid)
    assert str(me).startswith(f"process {me.pid} ({me.name}) state R, ppid {me.ppid}")


def test_no_process() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert process(child.pid) is None
    assert not is_running(child.pid)
    wait_gone(child.pid)


def test_zombie_is_not_running() -> None:
    child = subprocess.Popen(["true"])
    wait_ended(child.pid)
    found = process(child.pid)
    assert found is not None
    assert found.is_zombie
    assert [each.pid for each in children(os.getpid())] == [child.pid]
    child.wait()
    wait_gone(child.pid)


def test_descendants_parents_first() -> None:
    with running_script(SLEEPING_FAMILY) as script:
        script.wait_output("ready")
        family = [each.pid for each in descendants(os.getpid())]
        assert family[0] == script.pid
        assert len(family) == 2
        assert [each.pid for each in descendants(script.pid)] == family[1:]
    for pid in family:
        wait_gone(pid)


def test_states() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        os.kill(child.pid, signal.SIGSTOP)
        wait_state(child.pid, "T")
        os.kill(child.pid, signal.SIGCONT)
        wait_state(child.pid, "S")
    finally:
        child.kill()
        child.wait()


def test_eventually() -> None:
    answers = iter(["", 0, "yes"])
    assert eventually(lambda: next(answers)) == "yes"


def test_eventually_gives_up() -> None:
    started = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon"):
        eventually(lambda: False, 0.05, "the moon")
    assert time.monotonic() - started >= 0.05


async def test_eventually_async() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await eventually_async(event.is_set)
    assert await eventually_async(event.wait)
    with pytest.raises(AssertionError, match="nothing"):
        await eventually_async(lambda: None, 0.01, lambda: "nothing")


async def test_both_loops(request: pytest.FixtureRequest) -> None:
    module = type(asyncio.get_running_loop()).__module__
    assert module.split(".")[0] == ("uvloop" if "[uvloop]" in request.node.name else "asyncio")


def test_script() -> None:
    source = "import sys; print(sys.argv[1:], sys.stdin.read()); print('oh', file=sys.stderr); sys.exit(3)"
    done = run_script(source, "a", "b", stdin=b"data")
    assert (done.returncode, done.stdout, done.stderr) == (3, "['a', 'b'] data\n", "oh\n")
    with pytest.raises(AssertionError, match="exit status 3"):
        done.check()


def test_script_finds_the_package_and_leads_a_session() -> None:
    source = "import aioipc, os; print(aioipc.__file__, os.getsid(0) == os.getpid(), os.environ.get('HOME'))"
    done = run_script(source, env={"HOME": None}, cwd="/").check()
    assert done.stdout == f"{ROOT}/aioipc/__init__.py True None\n"


def test_script_ended_by_a_signal() -> None:
    with running_script("import signal; print('on', flush=True); signal.pause()") as script:
        script.wait_output("on")
        script.send_signal(signal.SIGTERM)
        assert script.wait().returncode == -signal.SIGTERM


def test_script_past_its_deadline() -> None:
    with pytest.raises(AssertionError, match=r"(?s)still runs after 0\.5 s.*stdout\nhere"):
        run_script("import signal; print('here', flush=True); signal.pause()", timeout=0.5)


def test_script_that_ends_too_early() -> None:
    with (
        running_script("print('other')") as script,
        pytest.raises(AssertionError, match=r"(?s)ended before it wrote 'ready'.*other"),
    ):
        script.wait_output("ready")


def test_script_whose_child_keeps_the_output_open() -> None:
    source = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)"
    done = run_script(source).check()
    orphan = process(int(done.stdout))
    assert orphan is not None
    assert orphan.ppid == reaper_pid()
    os.kill(orphan.pid, signal.SIGKILL)
    wait_gone(orphan.pid)  # the reaper reaps what it adopted


def test_reaper_kills_what_outlives_pytest() -> None:
    done = run_script(
        """
        import os, subprocess, sys
        from aioipc.testing.reaper import run_under_reaper
        os.environ.pop("AIOIPC_TESTING_REAPER")
        run_under_reaper(at_end=lambda: print("end", flush=True))
        print(subprocess.Popen(["setsid", "sleep", "1000"]).pid, flush=True)
        os._exit(7)
        """
    )
    assert done.returncode == 7
    orphan, end = done.stdout.split()
    assert end == "end"
    assert process(int(orphan)) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_reaper_passes_signals_and_ends_as_pytest_ends(number: signal.Signals) -> None:
    source = """
        import os, signal
        from aioipc.testing.reaper import run_under_reaper
        os.environ.pop("AIOIPC_TESTING_REAPER")
        run_under_reaper(at_end=lambda: None)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(os.getpid(), flush=True)
        signal.pause()
    """
    with running_script(source) as script:
        child = int(script.wait_output("\n"))
        assert child != script.pid
        script.send_signal(number)
        assert script.wait().returncode == -number
        wait_gone(child)


WHO_AM_I = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"


def test_nobody() -> None:
    source = """
        import os, pathlib
        print(os.getresuid(), os.getresgid(), os.getgroups())
        status = open("/proc/self/status").read()
        print(status.partition("CapEff:")[2].split()[0].strip("0"))
        try:
            pathlib.Path("/aioipc-nobody").touch()
        except PermissionError:
            print("refused")
    """
    done = hostile.run_confined(hostile.NOBODY, source).check()
    assert done.stdout == "(65534, 65534, 65534) (65534, 65534, 65534) []\n\nrefused\n"


def test_read_only_root() -> None:
    source = """
        import os, errno, tempfile
        for directory in ("/", os.getcwd(), "/tmp", "/var/tmp", os.environ["TMPDIR"]):
            try:
                os.close(os.open(f"{directory}/aioipc-x", os.O_CREAT | os.O_WRONLY))
            except OSError as error:
                assert error.errno == errno.EROFS, error
            else:
                raise AssertionError(directory)
        open("/dev/null", "w").close()
        open("/proc/self/comm", "w").close()
        print("refused")
    """
    assert hostile.run_confined(hostile.READ_ONLY_ROOT, source).check().stdout == "refused\n"


def test_tiny_shared_memory() -> None:
    source = """
        import os, errno
        fd = os.open("/dev/shm/aioipc-x", os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(fd, 0, 1 << 19)
        try:
            os.posix_fallocate(fd, 0, 1 << 21)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            print("refused")
    """
    assert hostile.run_confined(hostile.TINY_SHM, source).check().stdout == "refused\n"


@pytest.mark.parametrize(
    ("confinement", "number"), [(hostile.SECCOMP_EPERM, "EPERM"), (hostile.SECCOMP_ENOSYS, "ENOSYS")]
)
def test_no_pidfd_and_no_memfd(confinement: str, number: str) -> None:
    source = f"""
        import os, errno, subprocess, sys
        for call in (lambda: os.memfd_create("x"), lambda: os.pidfd_open(os.getpid())):
            try:
                call()
            except OSError as error:
                assert error.errno == errno.{number}, error
            else:
                raise AssertionError("not refused")
        if len(sys.argv) == 1:  # a child, by fork and exec, is refused too
            subprocess.run([sys.executable, __file__, "child"], check=True)
            print("refused")
    """
    assert hostile.run_confined(confinement, source).check().stdout == "refused\n"


def test_all_at_once() -> None:
    names = (hostile.TINY_SHM, hostile.READ_ONLY_ROOT, hostile.NOBODY, hostile.SECCOMP_EPERM)
    source = """
        import os
        assert os.getuid() == 65534
        assert os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize == 1 << 20
        assert os.statvfs("/").f_flag & os.ST_RDONLY
        try:
            os.memfd_create("x")
        except PermissionError:
            print("refused")
    """
    assert hostile.run_confined(names, source).check().stdout == "refused\n"


def test_says_why_not() -> None:
    assert hostile.can_do(hostile.NOBODY) == (hostile.why_not(hostile.NOBODY) is None)
    assert "no such confinement" in str(hostile.why_not("wings"))
