"""Receiving signals as an async iterator (``signal(7)``).

Two ways, one interface. Without values a handler notes the signal and the loop hands it to the newest receiver
(`aioipc._loop.signal_routing`). With values the signal is blocked and stays in the kernel, with all that is known of
it, until ``receive()`` reads it from a signalfd (``signalfd(2)``); blocked in *every* thread, since the kernel gives a
signal to any one that does not block it, and there it acts by its handler or kills.

Leaving a receiver gives everything back, and what was not read acts as if it had come after that. So no signal is lost,
and none is handled twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import warnings
from asyncio import _get_running_loop  # public by asyncio's __all__
from collections.abc import Iterable
from typing import ClassVar, Generic, Literal, Protocol, Self, TypeVar, overload

from anyio.abc import ObjectReceiveStream

from aioipc._loop.readiness import DescriptorReadiness, Readiness
from aioipc._loop.signal_inbox import SignalInbox
from aioipc._loop.signal_routing import need_main_thread
from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys import signal_mask
from aioipc._sys.procfs import threads_letting_in
from aioipc._sys.signals import INFO_SIZE, decode, name, set_signalfd
from aioipc._sys.signals import SignalInfo as SignalInfo
from aioipc.exceptions import ClosedResourceError, UnsupportedPlatform

T_co = TypeVar("T_co", covariant=True)

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class _Source(Protocol[T_co]):
    """Where a receiver takes signals from."""

    @property
    def readiness(self) -> Readiness:
        """Who tells that a signal is there."""

    def take(self) -> T_co:
        """Return the next signal; BlockingIOError where there is none."""

    def give_back(self) -> None:
        """Put everything back, and what nobody has taken too."""


class SignalReceiver(ObjectReceiveStream[T_co], Generic[T_co]):
    """Receives signals, in a ``with`` or an ``async with``; see `open_signal_receiver`, which makes it."""

    _source: _Source[T_co] | None = None  # for __del__, where __init__ has failed

    def __init__(self, source: _Source[T_co], names: str) -> None:
        self._source = source
        self._names = names
        self._loop = asyncio.get_running_loop()
        self._queue = WaitQueue(source.readiness, "signal receiver")

    async def receive(self) -> T_co:
        """Return the next signal; wait where there is none.

        Several tasks may wait, each signal goes to one of them, first come first served.
        Raises `ClosedResourceError` where the receiver is or gets closed, `BrokenResourceError` where somebody has
        replaced the handler of one of its signals, so that it would wait in vain.
        Cancelled: the signal, if one has come, is for the next call. See ``signal(7)``.
        """
        return await self._queue.take(self._open_source().take)

    def receive_nowait(self) -> T_co:
        """Return the next signal as `receive` does, or raise `WouldBlock` where there is none."""
        return self._queue.take_nowait(self._open_source().take)

    def close(self) -> None:
        """Give the signals back to whoever had them before; closed already: do nothing.

        Signals that came and were not received act as if they had come after this: another receiver, or the handler
        of before, gets them, and where that is the default they may end the process. What a handler raises by that
        comes out here. Tasks that wait get `ClosedResourceError`. In another thread: the loop does it.
        """
        source, self._source = self._source, None
        if source is None:
            return
        if threading.current_thread() is not threading.main_thread():
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._queue.close, source.give_back)
            return
        self._queue.close(source.give_back)

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __enter__(self) -> Self:
        self._open_source()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SignalReceiver of {self._names}{'' if self._source is not None else ', closed'}>"

    def __del__(self) -> None:
        if self._source is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _open_source(self) -> _Source[T_co]:
        if self._source is None:
            raise ClosedResourceError("the signal receiver is closed")
        return self._source


class _Descriptor:
    """A signalfd, and the blocking of its signals. Of several with the same signal only the newest gets it."""

    _open: ClassVar[list[_Descriptor]] = []  # newest last

    def __init__(self, signums: list[int]) -> None:
        self._signums = signums
        self._fd = -1
        signal_mask.hold(self, signums, blocked=True)
        try:
            _refuse_threads_that_let_in(signums)
            self._fd = set_signalfd(-1, signums)
        except BaseException:
            signal_mask.release(self)
            raise
        self.readiness = DescriptorReadiness(self._fd, "read")
        self._open.append(self)
        self._share_out()

    def take(self) -> SignalInfo:
        """Read one signal; what is not read stays in the kernel."""
        return decode(os.read(self._fd, INFO_SIZE))

    def give_back(self) -> None:
        """Close the signalfd and let the signals in again, if nobody else wants them blocked."""
        if self in self._open:  # not so in a forked child
            self._open.remove(self)
            os.close(self._fd)
            self._share_out()
            signal_mask.release(self)

    @classmethod
    def leave_to_child(cls) -> None:
        """Close what a forked child has of its parent's: a signalfd's set, if changed here, is changed there too."""
        for each in cls._open:
            os.close(each._fd)
        cls._open.clear()

    @classmethod
    def _share_out(cls) -> None:
        taken: set[int] = set()
        for each in reversed(cls._open):
            set_signalfd(each._fd, set(each._signums) - taken)
            taken.update(each._signums)


os.register_at_fork(after_in_child=_Descriptor.leave_to_child)


@overload
def open_signal_receiver(*signums: int, values: Literal[False] = False) -> SignalReceiver[signal.Signals]: ...
@overload
def open_signal_receiver(*signums: int, values: Literal[True]) -> SignalReceiver[SignalInfo]: ...
def open_signal_receiver(
    *signums: int, values: bool = False
) -> SignalReceiver[signal.Signals] | SignalReceiver[SignalInfo]:
    """Receive signals from now on, in the main thread's event loop::

        with aioipc.open_signal_receiver(signal.SIGHUP, signal.SIGUSR1) as signals:
            async for signum in signals:
                ...

    Of several receivers of a signal the newest gets it. Closing gives it back to the one before, or to what
    ``signal.signal`` had set. A signal that is blocked when the receiver opens is let in while it is open. One that
    comes again before the first was received counts once, as in the kernel: standard signals cannot be counted.

    ``values=True`` yields `SignalInfo` objects, with what the sender added (`send_signal` and its ``value``) and who it
    was. The signals are blocked meanwhile and stay in the kernel until they are received: real-time signals
    (``signal.SIGRTMIN`` to ``SIGRTMAX``) each one, in order; of equal standard ones the first. Children that are
    started meanwhile by ``subprocess`` or asyncio inherit that they are blocked; those of uvloop and of a `Pool` do
    not.

    Raises TypeError for what is no signal number, ValueError for none at all, for signals that do not exist or cannot
    be received (SIGKILL, SIGSTOP, faults such as SIGSEGV; SIGCHLD, which belongs to whoever starts processes) and for
    real-time signals without ``values=True``. RuntimeError outside of the main thread, without a running asyncio
    loop, where one of the signals has a handler by ``loop.add_signal_handler``, and, with values, where a thread runs
    that does not block them. OSError without free descriptors, `UnsupportedPlatform` for values on other systems than
    Linux. See ``signal(7)`` and ``signalfd(2)``.
    """
    wanted = list(dict.fromkeys(check_signal(signum, values=values) for signum in signums))
    if not wanted:
        raise ValueError("open_signal_receiver needs at least one signal")
    need_main_thread("open_signal_receiver")
    if _get_running_loop() is None:
        raise RuntimeError("open_signal_receiver needs a running asyncio (or uvloop) event loop")
    names = ", ".join(map(name, wanted))
    if not values:
        return SignalReceiver(SignalInbox([signal.Signals(signum) for signum in wanted]), names)
    if sys.platform != "linux":
        raise UnsupportedPlatform("signals with values need signalfd(2), which is Linux's own")
    return SignalReceiver(_Descriptor(wanted), names)


def check_signal(signum: object, *, values: bool) -> int:
    """Return a signal number that a receiver can receive, or raise TypeError or ValueError."""
    if not isinstance(signum, int) or isinstance(signum, bool):
        raise TypeError(f"a signal is a member of signal.Signals or its number, not {signum!r}")
    if signum not in signal.valid_signals():
        raise ValueError(f"there is no signal {signum}")
    if signum in (signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(f"{name(signum)} cannot be received: the kernel lets no process handle it")
    if signum in _FAULTS:
        raise ValueError(f"{name(signum)} cannot be received: it is a fault of the program itself (see faulthandler)")
    if signum == signal.SIGCHLD:
        raise ValueError(
            "SIGCHLD cannot be received: it belongs to the loop and to whoever has started the child. "
            "Await the process, or watch it by os.pidfd_open and loop.add_reader"
        )
    if signum >= signal.SIGRTMIN and not values:
        raise ValueError(f"{name(signum)} is a real-time signal, of which each one counts: receive it with values=True")
    return int(signum)


def _refuse_threads_that_let_in(signums: Iterable[int]) -> None:
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    threads = threads_letting_in(signums)
    if threads:
        names = ", ".join(sorted({known.get(number) or command for number, command in threads.items()}))
        raise RuntimeError(
            f"these threads would take the signals away, and the process might die of it: {names}. Open the receiver "
            "before they start, or call signal.pthread_sigmask(signal.SIG_BLOCK, ...) at the start of the program"
        )
