"""One task at a time: the guard of operations that two tasks must not mix.

Bytes of a stream have no boundaries, so two tasks that read one stream, or write to it, would tear each
other's messages apart. That is a bug in the program, so it is answered at once instead of being queued.
"""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn

from aioipc.exceptions import BusyResourceError


class Guard:
    """A context manager that lets one task in and answers every further one with an error.

    ``action`` completes the sentence "Another task is already … this resource".
    It never waits, and cancellation passes through it: leaving the block frees it, however it is left.

    A ``with`` makes two calls, which a message of 64 bytes notices. The operations called most do by hand what it
    does: `refuse` where ``busy``, set it, and clear it in a ``finally``.
    """

    __slots__ = ("_action", "busy")

    def __init__(self, action: str) -> None:
        self._action = action
        self.busy: bool = False

    def __enter__(self) -> None:
        """Enter, or raise `BusyResourceError` where another task is inside."""
        if self.busy:
            self.refuse()
        self.busy = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.busy = False

    def refuse(self) -> NoReturn:
        """Raise `BusyResourceError`."""
        raise BusyResourceError(self._action)
