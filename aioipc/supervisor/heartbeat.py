"""How long a worker has been silent: pure, fed with its beats and our clock.

Silence is counted in our own steps and a step counts for at most one and a half periods, so that a machine that
was suspended, or a master that was stopped together with its workers, does not kill them when it wakes up.
"""

from __future__ import annotations

LEAST_TIMEOUT = 4.0
"""Seconds. Beats come no oftener than every 2 s, so that an idle pool stays idle."""


class Silence:
    """Tells for how many seconds a beat has not changed."""

    def __init__(self, period: float) -> None:
        self._most = period * 1.5
        self._beat: int | None = None
        self._seen_at = 0.0
        self._silent = 0.0

    def observe(self, beat: int | None, now: float) -> float:
        """Take note of the beat at ``now`` (seconds) and return the silence; ``None`` is never silent."""
        if beat is None or beat != self._beat:
            self._silent = 0.0
        else:
            self._silent += min(now - self._seen_at, self._most)
        self._beat, self._seen_at = beat, now
        return self._silent


class Heart:
    """Judges one worker by its two beats."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._thread = Silence(timeout / 4)
        self._loop = Silence(timeout / 4)

    def diagnose(self, thread_beat: int, loop_beat: int | None, state: str, now: float) -> str | None:
        """Return why the worker must be killed, or ``None`` where it is well.

        ``state`` is the letter of /proc/PID/stat: a stopped process is told from one whose GIL is held. The loop may
        have beaten a while before the thread did: as long as it is not clear whether both are silent, wait.
        """
        thread = self._thread.observe(thread_beat, now)
        loop = self._loop.observe(loop_beat, now)
        is_stopped = state in "Tt" and loop > self._timeout
        if thread > self._timeout or is_stopped:
            cause = "it was stopped (SIGSTOP)" if state in "Tt" else "a task held the GIL"
            return f"no heartbeat for {self._timeout:g} s: {cause}"
        if loop > self._timeout and thread <= self._timeout / 2:
            return f"no heartbeat of its event loop for {self._timeout:g} s: a task blocked the loop"
        return None
