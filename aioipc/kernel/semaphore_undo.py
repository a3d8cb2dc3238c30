"""What this process holds of System V semaphores under SEM_UNDO, counted as the kernel counts it.

The kernel gives it back when the process ends, and does not tell how much it is. Whoever gives back plainly what was
taken under undo gives it back twice; whoever gives back under undo what was taken plainly has it taken away at the
end. So the two are told apart here, for the whole process: the kernel's count does not know of our objects.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

from aioipc._sys.sysv_semaphores import Operation


class Holdings:
    """What this process holds under undo, by set and semaphore, as the kernel counts it."""

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()  # reentrant for the garbage collector, which may close a set
        self._held: dict[tuple[int, int], int] = {}

    def divide(self, id: int, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        """Let an operation that gives back under undo do so only with what is held; the rest is plain."""
        if len(operations) == 1:
            number, delta, undo = operations[0]
            if delta <= 0 or not undo or delta <= self._held.get((id, number), 0):
                return operations
        held: dict[int, int] = {}
        found = []
        for index, delta, undo in operations:
            have = held.get(index, self._held.get((id, index), 0))
            part = min(delta, have) if undo and delta > 0 else delta
            if part:
                found.append(Operation(index, part, undo))
            if part != delta or not delta:
                found.append(Operation(index, delta - part))
            held[index] = have - part if undo else have
        return tuple(found)

    def count(self, id: int, operations: Iterable[Operation]) -> None:
        """Note operations that were done."""
        for index, delta, undo in operations:
            if undo and delta:
                held = self._held.get((id, index), 0) - delta
                if held:
                    self._held[id, index] = held
                else:
                    self._held.pop((id, index), None)

    def forget(self, id: int, index: int | None = None) -> None:
        """Forget a semaphore, or a whole set: its value was set, or it is gone."""
        with self.lock:
            for each in [each for each in self._held if each[0] == id and index in (None, each[1])]:
                del self._held[each]

    def forget_all(self) -> None:
        """Forget everything: the child of a fork holds nothing."""
        self.lock = threading.RLock()
        self._held.clear()


holdings: Holdings = Holdings()
os.register_at_fork(after_in_child=holdings.forget_all)
