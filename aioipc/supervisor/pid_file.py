"""The file that says which process the master is, and, by a lock, whether it lives.

A pid alone says nothing: after a crash the file stays, and the number may be another process by now. So the master
keeps its file locked (``flock(2)``), which ends with it, however it ends. The file is written beside its place, locked,
and then moved there: whoever reads it finds a whole pid, and whoever finds it unlocked may take its place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from types import TracebackType
from typing import Self

from .._sys.file_locks import try_flock
from ..kernel.names import unlink_if_same

_PID = re.compile(rb"[0-9]{1,10}\n?")
_TRIES = 20
_open: set[PidFile] = set()


def _leave_to_fork() -> None:
    """Close the files in a process that the program forks: the lock is to end with this one, whatever lives on."""
    for file in list(_open):
        file.close()


os.register_at_fork(after_in_child=_leave_to_fork)


class PidFile:
    """A file with the pid of this process, until it is closed; also a context manager.

    Made at once, readable for all (0644), whatever the umask. One that a dead process has left is replaced.

    Raises `FileExistsError` where a living process has it locked, or where the file holds anything but a pid; the
    `OSError` that names the file where it cannot be made; `TypeError` or `ValueError` for what cannot be a path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
        if not os.path.basename(os.fspath(path)):
            raise ValueError(f"path must name a file, not {os.fspath(path)!r}")
        self.path: str = os.path.abspath(path)
        """Absolute, so that it is found again whatever the working directory is."""
        self._pid = os.getpid()
        self._fd = self._make()
        self._known = os.fstat(self._fd)
        _open.add(self)

    def close(self) -> None:
        """Remove the file, if it still is the one that this process has made. Closed already: do nothing."""
        fd, self._fd = self._fd, -1
        _open.discard(self)
        if fd >= 0:
            try:
                if os.getpid() == self._pid:
                    unlink_if_same(self.path, self._known)
            finally:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> int:
        temporary = os.path.join(os.path.dirname(self.path), f".{secrets.token_hex(8)}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OSError(error.errno, f"the pid file cannot be made: {error.strerror}", self.path) from None
        try:
            os.fchmod(fd, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(fd, b"%d\n" % self._pid)
            self._publish(temporary)
        except BaseException:
            os.close(fd)
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):  # it has been moved
                os.unlink(temporary)
        return fd

    def _publish(self, temporary: str) -> None:
        """Give the file its name, in place of one that nobody has locked."""
        for _ in range(_TRIES):
            try:
                os.link(temporary, self.path)
                return
            except FileExistsError:
                pass
            if self._replace(temporary):
                return
        raise FileExistsError(errno.EEXIST, "others make this pid file again and again", self.path)

    def _replace(self, temporary: str) -> bool:
        """Move the file in place of the one that is there; False where that has gone meanwhile."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileExistsError(errno.EEXIST, "a symbolic link is no pid file", self.path) from None
            raise
        try:
            if not self._is_left_over(fd):
                return False
            os.rename(temporary, self.path)  # while the lock is held: of several who try, one comes here
            return True
        finally:
            os.close(fd)

    def _is_left_over(self, fd: int) -> bool:
        """True where nobody has the file locked, which we have then; False where it is not there any more."""
        content = os.read(fd, 64) if stat.S_ISREG(os.fstat(fd).st_mode) else b"?"
        if not _PID.fullmatch(content):
            raise FileExistsError(errno.EEXIST, "is there and is no pid file: remove it or choose another", self.path)
        if not try_flock(fd, shared=False):
            text = f"process {int(content)} is running with this pid file: stop it, or choose another file"
            raise FileExistsError(errno.EEXIST, text, self.path)
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self.path))
        except FileNotFoundError:
            return False
