"""The leak check: read the world before and after a test, and compare.

Whatever may end a moment later is waited for (`settle`). Then each leak is named, and `clean_up` takes it
out of the world, so that it is not blamed on the next test.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass

from .isolation import Isolation
from .probes import KINDS, Probe, probes
from .processes import Process
from .remove import kill_and_reap, remove

DEADLINE = 2.0
"""Seconds that things have after a test to end by themselves."""


@dataclass(frozen=True)
class Leak:
    """One thing that is not as it was; None stands for "was not there"."""

    kind: str
    key: Hashable
    before: object
    after: object

    def __str__(self) -> str:
        key = _text(self.key)
        if isinstance(self.after, Process):
            return f"{self.kind}: {self.after}"
        if self.before is None:
            return f"{self.kind} {key}: {self.after}"
        if self.after is None:
            return f"{self.kind} {key} is gone; it was {self.before}"
        return f"{self.kind} {key} was {_text(self.before)}, is {_text(self.after)}"


def _text(thing: object) -> str:
    return thing if isinstance(thing, str) else repr(thing)


class LeakCheck:
    """Compares the world with how it was when this object was made, in all kinds but those in ``without``."""

    def __init__(self, isolation: Isolation, without: Collection[str] = ()) -> None:
        if unknown := sorted({*without} - {*KINDS}):
            raise ValueError(f"there is no kind of leak {unknown[0]!r}; there are {', '.join(KINDS)}")
        self._isolation = isolation
        self._probes = [probe for probe in probes(isolation) if probe.kind not in without]
        self._before = {probe.kind: probe.read() for probe in self._probes}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def settle(self, deadline: float = DEADLINE) -> list[Leak]:
        """The leaks that are still there after the deadline, with the garbage collected."""
        gc.collect()
        end, pause = time.monotonic() + deadline, 0.001
        while (found := self._leaks()) and time.monotonic() < end:
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return found

    def clean_up(self) -> None:
        """Undo what is leaked now, as far as one can from outside: processes, objects, files, settings.

        Descriptors, threads and mappings stay: they belong to objects that somebody may still hold.
        """
        self._end_descendants()
        for leak in self._leaks():
            if leak.before is None:
                remove(leak.kind, leak.key, self._isolation)
        self._restore_settings()

    def _leaks(self) -> list[Leak]:
        return [leak for probe in self._probes for leak in self._compare(probe)]

    def _compare(self, probe: Probe) -> Iterator[Leak]:
        before, after = self._before[probe.kind], probe.read()
        if before == after:
            return
        for key in after:
            if key not in before:
                yield Leak(probe.kind, key, None, after[key])
        if probe.exact:
            for key in before:
                if before[key] != after.get(key):
                    yield Leak(probe.kind, key, before[key], after.get(key))

    def _end_descendants(self) -> None:
        """Kill and reap until none is left: each death may bring us orphans that we did not see before."""
        judged = [probe for probe in self._probes if probe.kind == "descendant process"]
        end = time.monotonic() + 5
        while (family := [leak for probe in judged for leak in self._compare(probe)]) and time.monotonic() < end:
            for leak in family:
                assert isinstance(leak.after, Process)
                kill_and_reap(leak.after)
            time.sleep(0.001)

    def _restore_settings(self) -> None:
        for number, handler in self._before.get("signal handler", {}).items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)  # type: ignore[arg-type]
        if state := {name: str(value) for name, value in self._before.get("process state", {}).items()}:
            os.chdir(state["working directory"])
            os.umask(int(state["umask"], 8))
            signal.set_wakeup_fd(int(state["wake-up descriptor"]))
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def report(who: str, leaks: list[Leak]) -> str:
    """The failure message: one line a leak."""
    return f"{who} leaked\n" + "\n".join(f"  {leak}" for leak in leaks)


def forget_failure() -> None:
    """Let go of what the last failed test holds; its warnings are not blamed on the next."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
