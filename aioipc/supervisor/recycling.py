"""When a worker has served long enough: pure decisions (``Pool(max_tasks=, max_memory=, max_age=, jitter=)``).

Each worker draws limits of its own, so that workers that were started together are not replaced together.
"""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_SHARE = 0.9
"""Part of the control group's memory that the workers may use together where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may reach; ``None`` is no limit."""

    tasks: int | None = None
    memory: int | None = None
    """Bytes."""
    age: float | None = None
    """Seconds."""

    def draw(self, share: float) -> Limits:
        """Return these limits less ``share`` (0 to 1) of the number of tasks and of the age; at least one task."""
        return Limits(
            None if self.tasks is None else max(1, round(self.tasks * (1 - share))),
            self.memory,
            None if self.age is None else self.age * (1 - share),
        )

    def exceeded(self, memory: int, age: float) -> str | None:
        """Return why a worker of so much memory and such an age is to be replaced, or ``None``."""
        if self.memory is not None and memory > self.memory:
            return f"it uses {memory >> 20} MiB, more than {self.memory >> 20}"
        if self.age is not None and age > self.age:
            return f"it is older than {self.age:g} s"
        return None


def memory_limit(group: int | None, workers: int) -> int | None:
    """Return each worker's share of the control group's memory, ``None`` where that is not limited."""
    return None if group is None else int(group * MEMORY_SHARE) // workers
