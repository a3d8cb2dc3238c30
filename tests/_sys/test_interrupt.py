"""Getting threads out of system calls that would wait for ever."""

from __future__ import annotations

import signal
import threading
from _thread import allocate_lock, get_native_id

import pytest

from aioipc._sys import interrupt as module
from aioipc._sys import sysv, sysv_messages
from aioipc._sys.interrupt import interrupt
from aioipc._sys.signals import get_action


def action_of_urg() -> bytes:
    """Handler and mask, as far as the kernel knows them; beyond them glibc leaves what it finds."""
    return get_action(signal.SIGURG)[:16]


class Waiter:
    """A thread in a ``msgrcv`` for messages that never come."""

    def __init__(self, queue: int) -> None:
        self.thread = 0
        self.out = allocate_lock()
        self.out.acquire()
        self.result: object = None
        self._queue = queue
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.thread = get_native_id()
        try:
            sysv_messages.wait(self._queue, 0, 0)
        except OSError as error:
            self.result = error
        self.thread = 0
        self.out.release()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_it_comes_out_wherever_it_is() -> None:
    """Also where the first signal meets it before it is in the call."""
    queue = sysv_messages.get(sysv.IPC_PRIVATE, 0o600)
    before = action_of_urg()
    try:
        for _ in range(200):
            waiter = Waiter(queue)
            while not interrupt(lambda waiter=waiter: waiter.thread, waiter.out):  # type: ignore[misc]
                pass  # a machine that is very busy
            waiter.join()
            assert isinstance(waiter.result, InterruptedError)
            assert not waiter.out.locked()
        assert action_of_urg() == before
    finally:
        sysv_messages.remove(queue)


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_was_there_is_given_back(action: signal.Handlers) -> None:
    queue = sysv_messages.get(sysv.IPC_PRIVATE, 0o600)
    old = signal.signal(signal.SIGURG, action)
    before = action_of_urg()
    try:
        waiter = Waiter(queue)
        while not interrupt(lambda: waiter.thread, waiter.out):
            pass
        waiter.join()
        assert action_of_urg() == before
        assert signal.getsignal(signal.SIGURG) == action
    finally:
        signal.signal(signal.SIGURG, old)
        sysv_messages.remove(queue)


def test_one_that_does_not_come_out_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.02)
    lock = allocate_lock()
    lock.acquire()
    assert not interrupt(lambda: 0, lock)


def test_one_that_is_out_already_or_has_ended() -> None:
    lock = allocate_lock()
    assert interrupt(lambda: 0, lock)
    assert interrupt(lambda: 2**22 + 5, lock)
    assert not lock.locked()
