"""What a worker is doing, in memory it shares with its master; it can be read after the worker was killed.

One anonymous file per worker, which that worker alone writes (decision 9): 8-byte words, each written by one
aligned store, so no reader sees half a value (through a cast memoryview; struct.pack_into would zero a word
first). The master chooses the slot of each task and frees it when the answer comes, so nothing is ever cleared:
a task has started exactly if its slot holds its number.
"""

from __future__ import annotations

import mmap
import os
import time

from .._sys.anonymous_file import open_anonymous_file

_PID, _THREAD_BEAT, _LOOP_BEAT, _LOOP_RUNS, _WORK = range(5)
_FIXED = 8
_WORD = 8


class Scoreboard:
    """A worker's page. `create` one in the master, `attach` it by descriptor in the worker."""

    def __init__(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, size)
        self._words = memoryview(self._map).cast("Q")
        self.slots: int = (size // _WORD - _FIXED) // 2
        self.started: memoryview[int] = self._words[_FIXED : _FIXED + self.slots]
        """By slot: the number of the task that was started there last."""
        self.started_at: memoryview[int] = self._words[_FIXED + self.slots :]
        """By slot: when that was, in nanoseconds of the monotonic clock; only for tasks with a timeout."""

    @staticmethod
    def create(slots: int) -> int:
        """Return the descriptor of a new scoreboard for ``slots`` tasks in flight."""
        return open_anonymous_file("scoreboard", (_FIXED + 2 * slots) * _WORD, sealed=True)

    def close(self) -> None:
        """Give the memory back; nothing may be read or written afterwards."""
        self.started.release()
        self.started_at.release()
        self._words.release()
        self._map.close()

    # -- the worker's side ---------------------------------------------------------------------------

    def register(self) -> None:
        """Say which process this is."""
        self._words[_PID] = os.getpid()
        self.beat()

    def beat(self) -> None:
        """Say that the interpreter still runs threads (it holds the GIL for nobody and is not stopped)."""
        self._words[_THREAD_BEAT] = time.monotonic_ns()

    def loop_beat(self) -> None:
        """Say that the event loop still turns."""
        self._words[_LOOP_BEAT] = time.monotonic_ns()

    def loop_runs(self, running: bool) -> None:
        """Say whether there is an event loop to be judged by its beat at all."""
        self.loop_beat()
        self._words[_LOOP_RUNS] = running

    def count(self, work: int) -> None:
        """Say that so many more pieces of work are done."""
        self._words[_WORK] += work

    # -- the master's side ---------------------------------------------------------------------------

    @property
    def work(self) -> int:
        """How many pieces of work it has counted."""
        return self._words[_WORK]

    @property
    def pid(self) -> int:
        """The worker's process id; 0 before it has registered."""
        return self._words[_PID]

    def beats(self) -> tuple[int, int | None]:
        """Return the two beats, thread and loop, in ns; the loop's is ``None`` while no loop runs."""
        return self._words[_THREAD_BEAT], self._words[_LOOP_BEAT] if self._words[_LOOP_RUNS] else None
