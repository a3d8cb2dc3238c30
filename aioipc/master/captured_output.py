"""Children whose output is to come through the master's log, as JSON lines need it (pure)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..supervisor.spec import ChildSpec, SupervisorSpec


def with_captured_output(spec: SupervisorSpec) -> SupervisorSpec:
    """Return the same, but what is printed to the master's own output comes through its log."""
    return replace(spec, children=[captured(child) for child in spec.children])


def captured(child: ChildSpec) -> ChildSpec:
    """Return the same of one child, and of all below it."""
    if child.supervisor is not None:
        return replace(child, target=with_captured_output(child.supervisor))
    if child.pool is not None:
        pool: Any = child.pool
        return replace(child, target=replace(pool, capture=pool.capture or True))
    streams: dict[str, Any] = {name: "capture" for name in ("stdout", "stderr") if getattr(child, name) == "inherit"}
    return replace(child, **streams)
