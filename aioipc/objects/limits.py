"""The limits that programs run into when they communicate: the system's, this process's, its control group's."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from aioipc._sys import cgroup
from aioipc.kernel.free_descriptors import naming_the_limit

from .limit import Limit, LimitUnit, hint
from .posix_objects import SHARED_MEMORY
from .sysctl_limits import sysctl_limits

_RLIMIT_MSGQUEUE = 12  # no constant of Python's


def limits() -> dict[str, Limit]:
    """Return the limits of this system and process that concern communication, by name.

    Those of System V (``kernel.msgmax``, ``kernel.sem.semmsl``, ``kernel.shmmax`` …), POSIX queues
    (``fs.mqueue.msg_max`` …), pipes, files and sockets; ``RLIMIT_NOFILE``, ``RLIMIT_NPROC`` and ``RLIMIT_MSGQUEUE`` of
    this process, the soft ones; ``cgroup.cpu``, ``cgroup.memory``, ``cgroup.pids`` and ``cgroup.memory.oom.group`` of
    its control group; and the size of ``/dev/shm``. What this system does not have is left out.

    It is a plain call that reads some dozens of small files. It raises an `OSError` only where there is no descriptor
    or no memory for that.

    proc_sys_kernel(5), proc_sys_fs(5), getrlimit(2), cgroups(7), mq_overview(7).
    """
    with naming_the_limit("reading the limits"):
        found = [*sysctl_limits(), *_of_process(), *_of_group(), *_of_shared_memory()]
    return {limit.name: limit for limit in found}


def _of_process() -> Iterator[Limit]:
    """Yield what getrlimit(2) tells; the soft limits are those that hold."""
    files, processes = "open files of this process", "processes and threads of this user, if it is not root"
    yield _resource("RLIMIT_NOFILE", "count", files, "n", _own_descriptors(), 1024, "each worker needs some")
    yield _resource("RLIMIT_NPROC", "count", processes, "u", None, 256, "pools need more")
    why = "the usual default is more"
    yield _resource("RLIMIT_MSGQUEUE", "bytes", "all POSIX queues of this user", "q", None, 819200, why)


def _resource(
    name: str, unit: LimitUnit, meaning: str, option: str, used: float | None, least: float, why: str
) -> Limit:
    soft, hard = resource.getrlimit(getattr(resource, name, _RLIMIT_MSGQUEUE))
    value = None if soft == resource.RLIM_INFINITY else soft
    most = "" if hard in (soft, resource.RLIM_INFINITY) else f", up to {hard}"
    return Limit(
        name=name,
        value=value,
        used=used,
        unit=unit,
        source="getrlimit(2)",
        meaning=meaning,
        remedy=f"ulimit -{option} N{most}",
        hint=hint(value, used, least, why),
    )


def _of_group() -> Iterator[Limit]:
    """Yield what holds for the processes of this control group together."""
    quota = cgroup.cpu_quota()
    why = "the kernel stops the group for most of the time"
    yield Limit(
        name="cgroup.cpu",
        value=quota,
        used=None,
        unit="cpus",
        source="/sys/fs/cgroup",
        meaning="CPU time of the control group",
        remedy="docker run --cpus N, systemctl set-property UNIT CPUQuota=N%",
        hint=hint(quota, None, 0.5, why),
    )
    if (memory := cgroup.memory_use()) is not None:
        remedy = "docker run --memory N, systemctl set-property UNIT MemoryMax=N"
        yield _group("memory", "bytes", memory, "memory of the control group", remedy)
    if (tasks := cgroup.task_use()) is not None:
        remedy = "docker run --pids-limit N, systemctl set-property UNIT TasksMax=N"
        yield _group("pids", "count", tasks, "processes and threads of the control group", remedy)
    if (whole := cgroup.killed_as_a_whole()) is not None:
        yield Limit(
            name="cgroup.memory.oom.group",
            value=float(whole),
            used=None,
            unit="yes or no",
            source="/sys/fs/cgroup",
            meaning="where memory runs out, the kernel kills the whole control group",
            remedy="systemd: OOMPolicy=continue; else write 0 to memory.oom.group",
            hint="one worker that takes too much memory ends the master, too" if whole else None,
        )


def _group(name: str, unit: LimitUnit, found: tuple[int | None, int], meaning: str, remedy: str) -> Limit:
    return Limit(
        name=f"cgroup.{name}",
        value=found[0],
        used=found[1],
        unit=unit,
        source="/sys/fs/cgroup",
        meaning=meaning,
        remedy=remedy,
        hint=hint(found[0], found[1], None, ""),
    )


def _of_shared_memory() -> Iterator[Limit]:
    """Yield how much fits into the file system that POSIX semaphores and shared memory live in."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return
    size, used = found.f_blocks * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize
    yield Limit(
        name=SHARED_MEMORY,
        value=size or None,
        used=used,
        unit="bytes",
        source=f"statvfs(3) of {SHARED_MEMORY}",
        meaning="POSIX shared memory and semaphores",
        remedy=f"mount -o remount,size=N {SHARED_MEMORY}; docker run --shm-size N",
        hint=hint(size or None, used, 64 << 20, "who writes more to shared memory is killed by SIGBUS"),
    )


def _own_descriptors() -> float | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None
