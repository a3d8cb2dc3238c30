"""How many workers a pool has when nobody says: what this process may really use."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._sys import cgroup


def default_workers(
    environ: Mapping[str, str] = os.environ, cpus: int | None = None, quota: float | None = None
) -> tuple[int, str]:
    """Return the number of workers and which rule gave it.

    ``WEB_CONCURRENCY`` wins; else the lesser of the CPUs the scheduler allows and the control group's quota, at
    least 1. Raises ValueError where ``WEB_CONCURRENCY`` is no positive number.
    """
    if text := environ.get("WEB_CONCURRENCY", "").strip():
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"WEB_CONCURRENCY must be a positive number, not {text!r}")
        return int(text), "WEB_CONCURRENCY"
    cpus = cgroup.usable_cpus() if cpus is None else cpus
    quota = cgroup.cpu_quota() if quota is None else quota
    if quota is not None and quota < cpus:
        return max(1, int(quota)), f"the control group's quota of {quota:g} CPUs"
    return cpus, f"the {cpus} CPUs this process may use"
