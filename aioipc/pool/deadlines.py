"""When to look at which task again: a heap of moments, no clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Moments (seconds, any one clock) with something to be done at each; equal moments in order of `add`."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, item: T) -> None:
        """Note an item for a moment."""
        heapq.heappush(self._heap, (when, next(self._order), item))

    def next(self) -> float | None:
        """Return the earliest moment, ``None`` where there is none."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[T]:
        """Take out the items whose moment has come."""
        items: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            items.append(heapq.heappop(self._heap)[2])
        return items

    def retain(self, wanted: Callable[[T], bool]) -> None:
        """Forget the items that are not wanted any more."""
        self._heap = [entry for entry in self._heap if wanted(entry[2])]
        heapq.heapify(self._heap)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
