"""CPU quota, memory limit and out-of-memory kills of this process's control group (cgroups(7), v1 and v2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62
"""Version 1 says so with a number near 2**63."""


def cpu_quota(root: Path = _ROOT, membership: str | None = None) -> float | None:
    """Return how many CPUs' worth of time the group may use, or ``None`` where nothing limits it.

    The strictest limit between this process's group and the root of the tree counts.
    """
    quotas = [quota for folder in _folders("cpu", root, membership) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def memory_limit(root: Path = _ROOT, membership: str | None = None) -> int | None:
    """Return how many bytes of memory the group may use, or ``None`` where nothing limits it.

    The strictest limit between this process's group and the root of the tree counts.
    """
    limits: list[int] = []
    for folder in _folders("memory", root, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = (_read(folder / name) or "").strip()
            if text.isdecimal() and int(text) < _NO_LIMIT:
                limits.append(int(text))
    return min(limits, default=None)


def oom_kills(root: Path = _ROOT, membership: str | None = None) -> int | None:
    """Return how many processes the kernel has killed in this group for want of memory; ``None`` if unknown."""
    for folder in _folders("memory", root, membership):
        for name in ("memory.events.local", "memory.events", "memory.oom_control"):
            if (count := _field(folder / name, "oom_kill")) is not None:
                return count
    return None


def memory_use(root: Path = _ROOT, membership: str | None = None) -> tuple[int | None, int] | None:
    """Return how many bytes the group may use and uses, where the limit is strictest; ``None`` where nobody knows."""
    limits, uses = ("memory.max", "memory.limit_in_bytes"), ("memory.current", "memory.usage_in_bytes")
    return _strictest(_folders("memory", root, membership), limits, uses)


def task_use(root: Path = _ROOT, membership: str | None = None) -> tuple[int | None, int] | None:
    """Return how many processes and threads the group may have and has; ``None`` where nobody knows."""
    return _strictest(_folders("pids", root, membership), ("pids.max",), ("pids.current",))


def killed_as_a_whole(root: Path = _ROOT, membership: str | None = None) -> bool | None:
    """Return whether the kernel kills the whole group where memory runs out (memory.oom.group); ``None`` under v1."""
    found = [_read(folder / "memory.oom.group") for folder in _folders("memory", root, membership)]
    known = [text.strip() == "1" for text in found if text is not None]
    return any(known) if known else None


def _strictest(
    folders: Iterator[Path], limits: tuple[str, ...], uses: tuple[str, ...]
) -> tuple[int | None, int] | None:
    """Return limit and use of the group with the least room; the innermost one where nothing is limited."""
    found: list[tuple[int | None, int]] = []
    for folder in folders:
        limit, use = (next((text for name in names if (text := _read(folder / name))), "") for names in (limits, uses))
        if use.strip().isdecimal():
            number = int(limit) if limit.strip().isdecimal() else _NO_LIMIT
            found.append((number if number < _NO_LIMIT else None, int(use)))
    limited = [(limit, use) for limit, use in found if limit is not None]
    return min(limited, key=lambda each: each[0] - each[1], default=found[0] if found else None)


def _folders(controller: str, root: Path, membership: str | None) -> Iterator[Path]:
    """Yield the group's folder and its parents, innermost first, under v1 and under v2."""
    if membership is None:
        membership = _read(Path("/proc/self/cgroup")) or ""
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            hierarchies = [root, root / "unified"]
        elif controller in controllers.split(","):
            hierarchies = [root / controller, root / controllers]
        else:
            continue
        for top in hierarchies:
            # Inside a container the path may be the host's: what is mounted is then the group itself.
            inner = top / path.lstrip("/")
            while inner != top:
                yield inner
                inner = inner.parent
            yield top


def _quota(folder: Path) -> float | None:
    if (text := _read(folder / "cpu.max")) is not None:
        quota, _, period = text.strip().partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_text, period_text = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if quota_text is None or period_text is None or int(quota_text) <= 0:
        return None
    return int(quota_text) / int(period_text)


def _field(path: Path, name: str) -> int | None:
    for line in (_read(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def usable_cpus() -> int:
    """Return how many CPUs the scheduler may run this process on (sched_getaffinity(2))."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
