"""An anonymous file is had wherever one can be had, takes its space at once, and leaves no name and no descriptor."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

import pytest

from aioipc._sys.anonymous_file import discard_front, open_anonymous_file

from ..harness.hostile import SECCOMP_ENOSYS, SECCOMP_EPERM, TINY_SHM, run_confined
from ..harness.scripts import run_script

DESCRIBE = """
def describe(fd):
    import fcntl, os
    path = os.readlink(f"/proc/self/fd/{fd}")
    about = os.fstat(fd)
    closed_on_exec = bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
    print(os.path.dirname(path), about.st_nlink, about.st_size, closed_on_exec)
"""


def test_it_is_a_memory_file_with_that_label() -> None:
    fd = open_anonymous_file("label", 10_000)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "/memfd:aioipc-label (deleted)"
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        about = os.fstat(fd)
        assert about.st_size == 10_000
        assert about.st_blocks * 512 >= 10_000, "the space is taken now, not when it is first written"
    finally:
        os.close(fd)


def test_without_a_size_it_is_empty_and_grows() -> None:
    fd = open_anonymous_file("growing")
    try:
        assert os.fstat(fd).st_size == 0
        os.write(fd, b"more")
        assert os.fstat(fd).st_size == 4
    finally:
        os.close(fd)


@pytest.mark.parametrize("refusal", [SECCOMP_EPERM, SECCOMP_ENOSYS])
def test_an_unlinked_file_where_memory_files_are_refused(refusal: str) -> None:
    source = f"""
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file
        {DESCRIBE.replace(chr(10), chr(10) + " " * 8)}
        import mmap, os
        fd = open_anonymous_file("scoreboard", 4096)
        describe(fd)
        if os.fork() == 0:
            mmap.mmap(fd, 4096)[:5] = b"hello"
            os._exit(0)
        os.wait()
        print(mmap.mmap(fd, 4096)[:5])
        print([name for name in os.listdir("/dev/shm") if "aioipc" in name])
    """
    done = run_confined(refusal, source).check()
    assert done.stdout == "/dev/shm 0 4096 True\nb'hello'\n[]\n"


FOLDERS = """
    import os, sys, tempfile
    from aioipc._sys.anonymous_file import discard_front, open_anonymous_file
    from aioipc.testing import namespaces

    try:
        namespaces.private_mounts()
        namespaces.mount("locked", "/dev/shm", "tmpfs", flags=namespaces.MS_RDONLY)
    except OSError as error:
        sys.exit(f"cannot mount: {error}")
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ.pop(name, None)
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.environ["TEMP"] = "/nonexistent"
    os.environ["TMP"] = sys.argv[1].replace("FOLDER", folder)
    fd = open_anonymous_file("scoreboard", 4096)
    print(os.path.dirname(os.readlink(f"/proc/self/fd/{fd}")).replace(folder, "FOLDER"), os.fstat(fd).st_nlink)
    assert os.listdir(folder) == []
    os.rmdir(folder)
"""


@pytest.mark.parametrize(("named", "chosen"), [("FOLDER", "FOLDER"), ("/nonexistent", "/tmp"), ("", "/tmp")])
def test_the_first_folder_that_takes_a_file(named: str, chosen: str) -> None:
    done = run_confined(SECCOMP_EPERM, FOLDERS, named)
    if "cannot mount" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.check().stdout == f"{chosen} 0\n"


def test_a_file_system_that_makes_no_nameless_files() -> None:
    """There a file gets a name for a moment; a filter refuses O_TMPFILE here as such a file system would."""
    source = """
        import ctypes, errno, os, platform, struct, tempfile
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file
        from tests.harness import linux, seccomp

        OPENAT = {"x86_64": 257, "aarch64": 56}[platform.machine()]
        O_TMPFILE = 0x400000  # without the O_DIRECTORY that is part of the constant
        THIRD_ARGUMENT, HAS_BIT = 32, 0x45  # offset in struct seccomp_data; BPF_JMP|JSET|K
        LOAD, EQUAL, RETURN, ALLOW, REFUSE = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
        code = [
            (LOAD, 0, 0, 0),
            (EQUAL, 0, 2, OPENAT),
            (LOAD, 0, 0, THIRD_ARGUMENT),
            (HAS_BIT, 1, 0, O_TMPFILE),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, REFUSE | errno.EOPNOTSUPP),
        ]

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

        instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
        buffer = ctypes.create_string_buffer(instructions, len(instructions))
        linux.prctl(linux.PR_SET_SECCOMP, 2, Program(len(code), ctypes.addressof(buffer)))

        try:
            os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
        before = os.listdir("/dev/shm")
        fd = open_anonymous_file("scoreboard", 4096)
        path = os.readlink(f"/proc/self/fd/{fd}")
        print(path.startswith("/dev/shm/aioipc-"), os.fstat(fd).st_nlink, os.get_inheritable(fd))
        assert os.listdir("/dev/shm") == before
    """
    assert run_confined(SECCOMP_EPERM, source).check().stdout == "True 0 False\n"


def test_none_to_be_had_says_what_was_tried() -> None:
    source = """
        import errno, os, resource
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file

        os.environ["TMPDIR"] = "/somewhere"
        count = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
        try:
            open_anonymous_file("scoreboard", 4096)
        except OSError as error:
            assert error.errno == errno.EMFILE
            print(error)
    """
    said = run_script(source).check().stdout
    for way in ("memfd_create", "/dev/shm", "/somewhere", "/tmp", "/var/tmp", "."):
        assert f" {way}: Too many open files" in said


def test_a_folder_that_is_full_is_passed_over() -> None:
    source = """
        import os
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file

        before = len(os.listdir("/proc/self/fd"))
        for size in (900 << 10, 2 << 20):
            fd = open_anonymous_file("scoreboard", size)
            print(os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/shm/"), os.fstat(fd).st_size)
            os.close(fd)
        assert len(os.listdir("/proc/self/fd")) == before, "the file that found no room is closed"
    """
    done = run_confined((TINY_SHM, SECCOMP_EPERM), source).check()
    assert done.stdout == f"True {900 << 10}\nFalse {2 << 20}\n"


def test_a_full_machine_is_an_error_at_once() -> None:
    source = """
        import errno, os, sys
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file
        from aioipc.testing import namespaces

        places = ["/dev/shm", os.environ["TMPDIR"], "/tmp", "/var/tmp"]
        try:
            namespaces.private_mounts()
            for place in reversed(places):
                os.makedirs(place, exist_ok=True)
                namespaces.mount("tiny", place, "tmpfs", options="size=64k")
        except OSError as error:
            sys.exit(f"cannot mount: {error}")
        os.chdir("/tmp")

        def look():
            return [os.listdir(place) for place in ["/proc/self/fd", *places]]

        before = look()
        try:
            open_anonymous_file("scoreboard", 1 << 20)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            print(error)
        assert look() == before, "the files that found no room are closed, and have no names"
    """
    done = run_confined(SECCOMP_EPERM, source)
    if "cannot mount" in done.stderr:
        pytest.skip(done.stderr.strip())
    said = done.check().stdout
    for place in ("/dev/shm", "/tmp", "/var/tmp", "."):
        assert f" {place}: No space left on device" in said


def test_over_the_limit_of_file_sizes() -> None:
    source = """
        import errno, os, resource
        from aioipc._sys.anonymous_file import discard_front, open_anonymous_file

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        before = os.listdir("/proc/self/fd")
        try:
            open_anonymous_file("scoreboard", 4097)
        except OSError as error:
            print(errno.errorcode[error.errno])
        assert os.listdir("/proc/self/fd") == before
    """
    assert run_script(source).check().stdout == "EFBIG\n"


def test_its_memory_is_shared() -> None:
    fd = open_anonymous_file("shared", mmap.PAGESIZE)
    try:
        with mmap.mmap(fd, mmap.PAGESIZE) as one, mmap.mmap(fd, mmap.PAGESIZE) as other:
            one[0] = 7
            assert other[0] == 7
    finally:
        os.close(fd)


def test_the_front_is_given_back() -> None:
    fd = open_anonymous_file("log")
    try:
        os.write(fd, b"x" * 1_000_000 + b"the end")
        full = os.fstat(fd).st_blocks
        discard_front(fd, 1_000_000)
        assert os.fstat(fd).st_blocks < full // 10
        assert os.fstat(fd).st_size == 1_000_007
        assert os.pread(fd, 100, 999_997) == b"\0\0\0the end"
        os.write(fd, b", and on")
        assert os.pread(fd, 100, 1_000_000) == b"the end, and on"
    finally:
        os.close(fd)


def test_a_front_that_cannot_be_given_back_stays() -> None:
    reader, writer = os.pipe()
    discard_front(writer, 10)
    os.close(reader)
    os.close(writer)


def test_a_size_that_cannot_be_is_refused() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        open_anonymous_file("negative", -1)


def test_sealed() -> None:
    """Its size is fixed for ever, its content is not; another kind of file cannot be sealed, which is no error."""
    fd = open_anonymous_file("shared", 10_000, sealed=True)
    for size in (0, 9_999, 20_000):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    assert os.pwrite(fd, b"x", 9_999) == 1
    os.close(fd)
    run_confined(
        SECCOMP_EPERM,
        """
        import os
        from aioipc._sys.anonymous_file import open_anonymous_file
        os.ftruncate(open_anonymous_file("shared", 10_000, sealed=True), 5)
        """,
    ).check()
