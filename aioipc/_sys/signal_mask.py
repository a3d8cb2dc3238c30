"""Which signals the main thread blocks (pthread_sigmask(3)), when several parts of a program want it differently.

The newest wish for a signal counts. When the last one is withdrawn, the signal is again what it was before the first,
in whatever order they are withdrawn. Putting back a whole saved mask would instead undo what others did meanwhile.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

_wishes: dict[int, dict[object, bool]] = {}  # newest last
_found: dict[int, bool] = {}


def hold(holder: object, signums: Iterable[int], *, blocked: bool) -> None:
    """Block the signals in the calling thread, or let them in, until `release` is called with the same holder."""
    now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for signum in signums:
        _found.setdefault(signum, signum in now)
        _wishes.setdefault(signum, {})[holder] = blocked
        _apply(signum)


def release(holder: object) -> None:
    """Withdraw the holder's wishes; a signal that nobody holds any more is as it was found."""
    block: list[int] = []
    let_in: list[int] = []
    for signum in [signum for signum, wishes in _wishes.items() if holder in wishes]:
        del _wishes[signum][holder]
        (block if _is_to_be_blocked(signum) else let_in).append(signum)
        if not _wishes[signum]:
            del _wishes[signum], _found[signum]
    signal.pthread_sigmask(signal.SIG_BLOCK, block)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, let_in)  # last, and all at once: handlers run here, and may raise


def release_all() -> None:
    """Withdraw every wish: what a forked child does, which has none of its parent's."""
    block = [signum for signum, blocked in _found.items() if blocked]
    let_in = [signum for signum, blocked in _found.items() if not blocked]
    _wishes.clear()
    _found.clear()
    signal.pthread_sigmask(signal.SIG_BLOCK, block)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, let_in)  # last: handlers run here, and may raise


def _apply(signum: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK if _is_to_be_blocked(signum) else signal.SIG_UNBLOCK, {signum})


def _is_to_be_blocked(signum: int) -> bool:
    return next(reversed(_wishes[signum].values()), _found[signum])
