"""The pid file: whole or not there, locked while its process lives, replaced when that has died."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from aioipc.supervisor.pid_file import PidFile

from ..harness.processes import descendants
from ..harness.scripts import running_script

HOLDER = """
    import sys, time
    from aioipc.supervisor.pid_file import PidFile
    kept = PidFile(sys.argv[1])
    print("made", flush=True)
    time.sleep(60)
"""


def test_a_whole_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pid"
    before = os.umask(0o077)
    try:
        file = PidFile("a.pid")
    finally:
        os.umask(before)
    monkeypatch.chdir("/")
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(FileExistsError, match=f"process {os.getpid()} is running with this pid file: stop it"):
        PidFile(path)
    file.close()
    file.close()
    assert os.listdir(tmp_path) == []


def test_one_that_lives_and_one_that_has_died(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    with running_script(HOLDER, str(path)) as holder:
        holder.wait_output("made")
        with pytest.raises(FileExistsError, match=f"process {holder.pid} is running"):
            PidFile(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert path.read_text() == f"{holder.pid}\n"
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == []


def test_a_forked_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    source = HOLDER.replace('print("made"', 'import os; print("made" if os.fork() else "forked"')
    with running_script(source, str(path)) as holder:
        for text in ("made", "forked"):
            holder.wait_output(text)
        (forked,) = descendants(holder.pid)
        with pytest.raises(FileExistsError):
            PidFile(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            PidFile(path).close()
        finally:
            os.kill(forked.pid, signal.SIGKILL)


def test_a_living_pid_without_a_lock_is_left_over(tmp_path: Path) -> None:
    """After a crash the number may be another process."""
    path = tmp_path / "a.pid"
    path.write_text("1\n")
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_only_ours_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    with PidFile(path):
        path.unlink()
        path.write_text("7\n")
    assert path.read_text() == "7\n"
    path.unlink()
    file = PidFile(path)
    if (pid := os.fork()) == 0:  # a fork is another process: it removes nothing
        file.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert path.exists()
    file.close()


@pytest.mark.parametrize("content", [b"", b"root:x:0:0\n", b"12 \n", b"1\n2\n", b"9" * 100])
def test_a_file_that_holds_no_pid_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match="is there and is no pid file: remove it or choose another"):
        PidFile(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["passwd"]


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "link", "directory"):
        with pytest.raises(FileExistsError, match="no pid file"):
            PidFile(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["directory", "fifo", "link"]


def test_wrong_paths() -> None:
    with pytest.raises(FileNotFoundError, match=r"the pid file cannot be made: .*'/no/such/directory/a'"):
        PidFile("/no/such/directory/a")
    with pytest.raises(ValueError, match="path must name a file"):
        PidFile("")
    with pytest.raises(TypeError, match="path must be a str or a path, not int"):
        PidFile(3)  # type: ignore[arg-type]


def test_of_many_that_start_at_once_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    path.write_text("1\n")  # left over: the hard case
    source = """
        import os, sys, time
        from aioipc.supervisor.pid_file import PidFile
        started, go = os.pipe()
        children = []
        for _ in range(8):
            pid = os.fork()
            if not pid:
                os.close(go)
                os.read(started, 1)
                try:
                    kept = PidFile(sys.argv[1])
                except FileExistsError:
                    os._exit(1)
                time.sleep(60)
            children.append(pid)
        os.close(go)
        ended = [os.wait()[0] for _ in range(7)]
        winner, = set(children) - set(ended)
        while open(sys.argv[1]).read() != f"{winner}\\n":  # it may still be at it, with the left-over one locked
            time.sleep(0.001)
        os.kill(winner, 9)
        os.wait()
        print(os.listdir(os.path.dirname(sys.argv[1])))
    """
    with running_script(source, str(path)) as script:
        assert script.wait().check().stdout == "['a.pid']\n"
