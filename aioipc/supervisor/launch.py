"""How a process is to be set up before its own code runs: applied in the forked child, step by step.

What the kernel refuses ends the start with a `LaunchError` that names the option.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from .._sys import libc
from ..wire.service_protocol import Refusal

_OF_OTHERS = (
    *("NOTIFY_SOCKET", "NOTIFY_FD", "WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_PIDFDID", "MAINPID", "MAINPIDFDID"),
    *("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "FDSTORE"),
)
"""What a service manager tells the master alone."""

_NEEDED = {
    "nice": "less than the master's needs CAP_SYS_NICE, or a limit of that name",
    "user": "only root, or who has CAP_SETUID and CAP_SETGID, becomes another user",
    "group": "only root, or who has CAP_SETGID, gets another group",
    "rlimits": "a hard limit above the master's needs CAP_SYS_RESOURCE, and nofile ends at fs.nr_open",
}
"""What is missing where the kernel does not permit an option."""


class LaunchError(Exception):
    """The kernel refuses to set a process up as it was asked to."""

    def __init__(self, field: str, errno: int | None, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.refusal: Refusal = Refusal(field, errno, text)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a process is to be like; the fields are those of a child spec that bear the same names."""

    env: Mapping[str, str | None] = field(default_factory=dict)
    """Environment variables on top of the master's; ``None`` takes one away."""
    cwd: str | None = None
    """Entered with the rights that the process is to have."""
    umask: int | None = None
    nice: int = 0
    """Added to the master's."""
    affinity: frozenset[int] | None = None
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Soft and hard limit, by the names of ``getrlimit(2)`` in lower case without ``RLIMIT_``; -1 is no limit."""
    user: str | int | None = None
    """With it come its groups, and HOME, USER and LOGNAME, unless `env` says otherwise. A number without an entry has
    the HOME "/", and neither of the others.
    """
    group: str | int | None = None
    title: str | None = None
    """What ``ps`` shows for a service; a command shows its own command line."""
    stdin: Literal["null", "inherit"] = "null"
    stdout: Literal["inherit", "capture", "null"] = "inherit"
    stderr: Literal["inherit", "capture", "null"] = "inherit"

    @classmethod
    def of(cls, spec: Any) -> Launch:
        """Return the fields that a child spec shares with this class."""
        values = {each.name: getattr(spec, each.name) for each in fields(cls)}
        values["cwd"] = None if values["cwd"] is None else os.fspath(values["cwd"])
        return cls(**values)

    def apply(self, saved_stderr: int) -> None:
        """Make this process, a fresh child with one thread, what is wanted; ``saved_stderr`` is what is to be its
        standard error.

        Raises LaunchError at the first thing that is refused. Ends the process where its parent dies meanwhile.
        """
        for name in _OF_OTHERS:
            os.environ.pop(name, None)
        person = self._person()
        if person is not None:
            os.environ.update({"HOME": person.pw_dir, "USER": person.pw_name, "LOGNAME": person.pw_name})
        elif self.user is not None:  # a number without a name: at least nothing of the master's is taken for its own
            os.environ["HOME"] = "/"
            os.environ.pop("USER", None)
            os.environ.pop("LOGNAME", None)
        for name, value in self.env.items():
            with _naming("env", name):
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        if self.umask is not None:
            os.umask(self.umask)
        self._silence(saved_stderr)
        self._limit()
        self._drop_rights(person)
        if self.cwd is not None:
            with _naming("cwd", self.cwd):
                os.chdir(self.cwd)

    def _silence(self, saved_stderr: int) -> None:
        """Have nobody read what it prints, where that is wanted."""
        targets = [1] * (self.stdout == "null") + [saved_stderr] * (self.stderr == "null")
        if targets:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            for fd in targets:
                os.dup2(null, fd, inheritable=fd == 1)
            os.close(null)

    def _limit(self) -> None:
        for name, (soft, hard) in self.rlimits.items():
            number = getattr(resource, f"RLIMIT_{name.upper()}", None)
            with _naming(f"rlimits[{name!r}]", f"{soft}:{hard}"):
                if number is None:
                    raise ValueError("there is no such limit on this system")
                resource.prlimit(0, number, (soft, hard))  # setrlimit() would not say the errno
        if self.nice:
            with _naming("nice", self.nice):
                os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + self.nice)
        if self.affinity is not None:
            with _naming("affinity", sorted(self.affinity)):
                os.sched_setaffinity(0, self.affinity)

    # -- rights --------------------------------------------------------------------------------------

    def _person(self) -> pwd.struct_passwd | None:
        """Return the entry of the user, ``None`` where no user is asked for, or a number that has no entry."""
        if self.user is None:
            return None
        with _naming("user", self.user):
            try:
                return pwd.getpwnam(self.user) if isinstance(self.user, str) else pwd.getpwuid(self.user)
            except KeyError:
                if isinstance(self.user, int):
                    return None
                raise LookupError("there is no such user") from None

    def _group(self, person: pwd.struct_passwd | None) -> int | None:
        if isinstance(self.group, str):
            with _naming("group", self.group):
                try:
                    return grp.getgrnam(self.group).gr_gid
                except KeyError:
                    raise LookupError("there is no such group") from None
        if self.group is not None:
            return self.group
        if self.user is not None and person is None:
            raise LaunchError("group", None, f"user {self.user} has no entry that names its group: name one")
        return None if person is None else person.pw_gid

    def _drop_rights(self, person: pwd.struct_passwd | None) -> None:
        """Become another user; the kernel forgets then to kill us with our parent, so it is told again."""
        group = self._group(person)
        if self.user is None and group is None:
            return
        parent = os.getppid()
        with _naming("user", self.user) if self.group is None else _naming("group", self.group):
            assert group is not None
            if person is not None:
                os.initgroups(person.pw_name, group)
            else:
                os.setgroups([group])
            os.setresgid(group, group, group)
        if self.user is not None:
            number = person.pw_uid if person is not None else self.user
            assert isinstance(number, int)
            with _naming("user", self.user):
                os.setresuid(number, number, number)
        libc.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextlib.contextmanager
def _naming(name: str, value: object) -> Iterator[None]:
    """Turn what goes wrong into a LaunchError that names the option and its value."""
    try:
        yield
    except LaunchError:
        raise
    except OSError as error:
        text = f"{value!r}: {os.strerror(error.errno or 0)}"
        if isinstance(error, PermissionError) and (needed := _NEEDED.get(name.partition("[")[0])):
            text += f"; {needed}"
        raise LaunchError(name, error.errno, text) from error
    except (ValueError, LookupError, OverflowError) as error:
        raise LaunchError(name, None, f"{value!r}: {error}") from error
