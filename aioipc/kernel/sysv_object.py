"""What System V queues and semaphore sets have in common: keys, ids, life, errors, and how tasks wait for them.

An object lives in the kernel until somebody removes it. Its key is how programs find each other; its id is what the
calls take. Whoever has made it removes it when closing, if that was wished; a forked child never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import warnings
from asyncio import _get_running_loop
from collections.abc import Callable, Hashable
from typing import ClassVar, Generic, TypeVar, TypeVarTuple

from anyio.abc import AsyncResource

from aioipc._loop.readiness import Readiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys import sysv
from aioipc.exceptions import ClosedResourceError, ObjectRemovedError

from .claims import UNFINISHED, Claim
from .owner_records import ObjectKind
from .sysv_keys import find, make_or_find

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R", bound=Readiness)

KEPT = 32  # wait queues of operations for which no task waits


class Place(Generic[R]):
    """Where the tasks wait that want the same operation."""

    __slots__ = ("queue", "readiness", "users")

    def __init__(self, readiness: R, name: str) -> None:
        self.readiness: R = readiness
        self.queue: WaitQueue = WaitQueue(readiness, name)
        self.users: int = 0  # tasks inside; one of them may be between two attempts


class SysVObject(AsyncResource):
    """A queue or a set. Subclasses know the calls."""

    _kind: ClassVar[str]
    _record_kind: ClassVar[ObjectKind]
    _closed = True  # for __del__, where __init__ has refused

    def __init__(self, id: int, key: int | None, claim: Claim) -> None:
        self.id: int = id
        self.key: int | None = key
        self._name = f"{self._kind} {id}" + (f" (key {key & 0xFFFFFFFF:#010x})" if key else "")
        self._claim = claim
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @classmethod
    def _make_or_find(
        cls, get: Callable[[int, int], int], limit: str, key: int | None, mode: int, exist_ok: bool, remove: bool
    ) -> tuple[int, Claim, bool]:
        """Make an object, or with ``exist_ok`` find it; return its id, the claim to it, and whether it was made."""
        marked = mode | UNFINISHED if mode & stat.S_IRUSR else mode  # or its mode could not be set again
        while True:
            with Claim.begin(cls._record_kind, key=key, remove=remove) as claim:
                id, made = make_or_find(get, cls._kind, limit, key, marked, exist_ok)
            if made:
                break
            claim.end(gone=True)
            claim = cls._join(id, key)
            if cls._exists(id):  # no clean-up was at it, for which joining waits
                return id, claim, False
        changed = cls._ctime(id)
        claim.complete(id=id, changed=changed)
        if marked != mode:
            with contextlib.suppress(OSError):  # removed already
                cls._set_mode(id, mode)
            if (now := cls._ctime(id)) != changed:
                claim.note_change(now)
        return id, claim, True

    @classmethod
    def _find(cls, get: Callable[[int, int], int], key: int) -> tuple[int, Claim]:
        """Find an object by its key; return its id and the claim to it."""
        while True:
            id = find(get, cls._kind, key)
            claim = cls._join(id, key)
            if cls._exists(id):  # no clean-up was at it, for which joining waits
                return id, claim

    @classmethod
    def _join(cls, id: int, key: int | None) -> Claim:
        """Lock the record of an object that is there; ``key`` is 0 for a private one, ``None`` where nobody knows."""
        return Claim.join(cls._record_kind, id=id, key=key, changed=cls._ctime(id))

    @classmethod
    def _ctime(cls, id: int) -> int | None:
        """Return what tells an object from a later one of its id; None where we may not look."""
        try:
            return cls._look(id)
        except OSError:
            return None

    def close(self) -> None:
        """Close the object at once, and remove it from the kernel where this call's object has made it so.

        Closed already: do nothing. Tasks that wait on it get `ClosedResourceError`; threads that wait for it leave.
        That it is gone already is no error. Raises `PermissionError` where it has changed its owner meanwhile; it is
        closed then, and still there.
        """
        if self._closed:
            return
        self._closed = True
        gone = False
        try:
            if self._claim.removes:
                self._remove_quietly()
            gone = not self._exists(self.id)
        finally:
            self._claim.end(gone=gone)
            self._close_places()

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def remove(self) -> None:
        """Remove the object from the kernel now, whoever uses it; gone already: do nothing.

        Whoever waits for it, in any process, learns of it: `ObjectRemovedError`, or EIDRM in C.
        Raises `ClosedResourceError` after closing, `PermissionError` where it is neither yours nor your making.
        """
        self._check_open()
        self._remove_quietly()
        self._claim.forget()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}{', closed' if self._closed else ''}>"

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _remove(self) -> None:
        raise NotImplementedError

    @staticmethod
    def _look(id: int) -> int:
        """Ask the kernel about an object, and return its ctime; raises its `OSError`."""
        raise NotImplementedError

    @staticmethod
    def _set_mode(id: int, mode: int) -> None:
        """Set the permissions of an object; raises its `OSError`."""
        raise NotImplementedError

    def _close_places(self) -> None:
        raise NotImplementedError

    def _remove_quietly(self) -> None:
        try:
            self._remove()
        except OSError as error:
            if error.errno not in sysv.GONE:
                raise self._explained(error) from None

    @classmethod
    def _exists(cls, id: int) -> bool:
        try:
            cls._look(id)
        except OSError as error:
            return error.errno not in sysv.GONE
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"the {self._name} is closed")

    async def _take(self, place: Place[R], attempt: Callable[[*Ts], T], *args: *Ts) -> T:
        """Wait in a place until the attempt succeeds; the kernel's errors are explained."""
        self._check_loop()
        place.users += 1
        try:
            return await place.queue.take(attempt, *args)
        except OSError as error:
            raise self._explained(error) from None
        finally:
            place.users -= 1

    def _take_nowait(self, place: Place[R], attempt: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return place.queue.take_nowait(attempt, *args)
        except OSError as error:
            raise self._explained(error) from None

    def _check_loop(self) -> None:
        """Belong to the loop of the first wait, with all places."""
        loop = _get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(f"the {self._name} belongs to another event loop; open it once more for this one")

    def _in_loop(self) -> bool:
        """Whether this is the thread of the loop, so that tasks may be woken."""
        return self._loop is not None and self._loop is _get_running_loop()

    def _explained(self, error: OSError) -> OSError:
        """Say of which object an error speaks, and what it means."""
        if isinstance(error, ObjectRemovedError):
            return error
        number = error.errno or 0
        if number in sysv.GONE and not self._exists(self.id):
            return ObjectRemovedError(number, f"the {self._name} was removed")
        if number in (errno.EACCES, errno.EPERM):
            why = "its permissions forbid this" if number == errno.EACCES else "only its owner may do this"
            return PermissionError(number, f"{self._name}: {why} to uid {os.geteuid()}")
        return OSError(number, f"{self._name}: {error.strerror or os.strerror(number)}")


class Places(Generic[R]):
    """The places of an object, by what their tasks want; of those without tasks only the latest are kept."""

    def __init__(self, make: Callable[[Hashable], Place[R]]) -> None:
        self._make = make
        self._places: dict[Hashable, Place[R]] = {}

    def get(self, wish: Hashable) -> Place[R]:
        """Return the place of those who want this."""
        place = self._places.get(wish)
        if place is None:
            if len(self._places) >= KEPT:
                self._drop_idle()
            place = self._places[wish] = self._make(wish)
        return place

    def find(self, wish: Hashable) -> Place[R] | None:
        """Return the place of those who want this, if there is one."""
        return self._places.get(wish)

    def waiting(self) -> int:
        """Return how many tasks wait in all places."""
        return sum(place.queue.waiting for place in self._places.values())

    def close(self) -> None:
        """Close them all."""
        places, self._places = self._places, {}
        for place in places.values():
            place.queue.close(_nothing)

    def _drop_idle(self) -> None:
        for wish in [wish for wish, place in self._places.items() if not place.users][: -KEPT // 2]:
            self._places.pop(wish).queue.close(_nothing)


def _nothing() -> None:
    pass
