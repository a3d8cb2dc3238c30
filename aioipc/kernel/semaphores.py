"""The System V semaphore set (``sysvipc(7)``): counters that processes take from and give back, several at once.

A set has no descriptor, so the loop cannot poll it. A task tries first. Where it has to wait, a thread waits in a
``semop(2)`` that takes the amount and gives it back in one step, which nobody can notice; then the task takes it, with
a call that does not wait. Tasks that acquire from the same semaphore stand in one line, whatever they want.

*Undo.* What is taken under SEM_UNDO the kernel gives back when the process ends. It counts for each process what it
has to give back, and does not tell. So it is counted here too (`aioipc.kernel.semaphore_undo`), for a plain release
of something that was taken under undo would be given back twice.

*Making.* A new set has zeros, and setting values is another step; whoever opens it between the two could add to them,
or find them. Here the first values are *added*, by one ``semop`` without undo: what others add or take meanwhile
counts, and who takes waits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, Self

from aioipc._loop.object_readiness import ObjectReadiness
from aioipc._sys import sysv, sysv_semaphores
from aioipc._sys.sysv_semaphores import LARGEST, Operation

from .claims import Claim
from .held import Held
from .names import check_range
from .semaphore_undo import holdings
from .sysv_keys import check_key
from .sysv_object import Place, Places, SysVObject

_KIND, _LIMIT = "System V semaphore set", "the first or the last number of kernel.sem"
_LARGEST_SET = 65535


@dataclass(frozen=True, slots=True)
class SysVSemaphoreStatistics:
    """A System V semaphore set at one moment. Times are seconds since the epoch; they and pids are 0 for never."""

    values: tuple[int, ...]  #: of each semaphore
    waiting: tuple[int, ...]  #: threads, of all processes, that wait for each to grow; aioipc's tasks share threads
    waiting_for_zero: tuple[int, ...]  #: threads, of all processes, that wait for each to become 0
    last_pids: tuple[int, ...]  #: who has operated on each last
    last_operation: int
    last_change: int  #: of owner, permissions, or by setting values
    owner: int  #: uid
    group: int  #: gid
    mode: int  #: the permissions
    tasks_waiting: int  #: tasks of this object


class _Probe(NamedTuple):
    """The probe for operations: they and their contrary, in one step."""

    id: int
    operations: tuple[Operation, ...]

    def ask(self, block: bool) -> None:
        (sysv_semaphores.wait if block else sysv_semaphores.operate)(self.id, self.operations)

    def keep(self, taken: int) -> None:
        raise AssertionError("a semaphore gives nothing to whoever only asks")


class SysVSemaphoreSet(SysVObject):
    """A System V semaphore set; `create` or `open` makes the object, ``async with`` or `aclose` ends it.

    Tasks that acquire from one semaphore of the set are served first come first served: one that wants little waits
    behind one that wants much. The object belongs to the first event loop in which a task waits; another loop opens
    the set for itself. Ending it gives nothing back that is held.

    ``id`` is what the kernel calls the set (``ipcs -s``), ``key`` what programs find it by; ``None``: private.
    ``len()`` is how many semaphores it has.
    """

    _kind = _KIND
    _record_kind = "sysv-semaphores"

    def __init__(self, id: int, key: int | None, count: int, claim: Claim) -> None:
        """Take a set that exists; `create` and `open` do that."""
        super().__init__(id, key, claim)
        name = self._name
        self._count = count

        def make(wish: Hashable) -> Place[ObjectReadiness]:
            return Place(ObjectReadiness(_Probe(id, ())), name)

        self._places = Places(make)

    @classmethod
    def create(
        cls, key: int | None, values: Sequence[int], *, exist_ok: bool = False, remove: bool = True, mode: int = 0o600
    ) -> Self:
        """Make a set with a semaphore for each of ``values``, at once (``semget(2)``), and open it.

        ``key`` is for others to find it by, from `ftok` or agreed upon; with ``None`` the set is private to those who
        learn its id. ``exist_ok`` opens one that is there already, with its values; nothing is removed then.
        ``remove`` takes the set away when this object is closed. ``mode`` are the permissions.
        Whoever opens the set while it is being made may find zeros, and waits if it acquires.

        Raises `FileExistsError` where there is one, or with ``exist_ok`` one of another size, `PermissionError` where
        its permissions forbid it, `OSError` with ENOSPC where there are as many sets or semaphores as there may be
        (kernel.sem), `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        key = None if key is None else check_key(key)
        check_range("mode", mode, 0, 0o777)
        numbers = _check_values(values)
        largest = sysv.sysctl("sem", 0)
        if largest is not None and len(numbers) > largest:
            raise ValueError(f"a set of {len(numbers)} is larger than the first number of kernel.sem ({largest})")
        id, claim, made = cls._make_or_find(_getter(len(numbers)), _LIMIT, key, mode, exist_ok, remove)
        if not made:
            return cls._found(id, key, claim, len(numbers))
        made_set = cls(id, key, len(numbers), claim)
        try:
            made_set._add_first_values(numbers)
        except BaseException:
            made_set.remove()
            made_set.close()
            raise
        return made_set

    @classmethod
    def open(cls, key: int | None = None, *, id: int | None = None) -> Self:
        """Open a set that exists, by its ``key`` or its ``id``, at once. Closing never removes it.

        Raises `FileNotFoundError` where there is none, `PermissionError` without the permission to read,
        `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments, and where both or none are given.
        """
        if (key is None) == (id is None):
            raise ValueError("a set is opened by its key or by its id: give one of them")
        if key is not None:
            key = check_key(key)
            number, claim = cls._find(_getter(0), key)
        else:
            sysv.check_platform()
            number = check_range("id", id, 0, (1 << 31) - 1)
            claim = cls._join(number, _key_of(number))
        return cls._found(number, key, claim)

    @classmethod
    def _found(cls, id: int, key: int | None, claim: Claim, expected: int | None = None) -> Self:
        """Look at a set that is there; where it is not the one, the claim ends with the error."""
        try:
            status = sysv_semaphores.status(id)
        except PermissionError as error:
            text = f"{_KIND} {id}: its permissions forbid uid {os.geteuid()} to read it"
            raise PermissionError(error.errno, text) from error
        except OSError as error:
            raise FileNotFoundError(errno.ENOENT, f"there is no {_KIND} with the id {id}") from error
        if expected is not None and expected != status.count:
            text = f"the {_KIND} {id} is there already and has {status.count} semaphores, not {expected}"
            raise FileExistsError(errno.EEXIST, text)
        return cls(id, key or status.owner.key or None, status.count, claim)

    def __len__(self) -> int:
        return self._count

    async def acquire(self, n: int = 1, *, index: int = 0, undo: bool = True) -> None:
        """Take ``n`` from a semaphore; wait until it has that many, and for those who came before (P, ``semop(2)``).

        ``undo`` has the kernel give it back if this process ends without having done so; without it others may
        give it back.

        Raises `ObjectRemovedError` where the set is or gets removed, `ClosedResourceError` where this object is or
        gets closed, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
        Cancelled: nothing was taken.
        """
        await self._operate(self._check_single(index, -_check_amount(n), undo))

    def acquire_nowait(self, n: int = 1, *, index: int = 0, undo: bool = True) -> None:
        """Take ``n`` from a semaphore, or raise `WouldBlock` where it has not that many or tasks wait for it."""
        self._operate_nowait(self._check_single(index, -_check_amount(n), undo))

    def release(self, n: int = 1, *, index: int = 0) -> None:
        """Give ``n`` to a semaphore (V, ``semop(2)``).

        What this process holds under undo goes back first, and with it the kernel's note of it; the rest, which
        others have taken or which was taken without undo, is added plainly; all in one step.

        Raises `OSError` with ERANGE where the semaphore would count beyond 32,767, `ObjectRemovedError`,
        `ClosedResourceError`, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
        """
        self._operate_nowait(self._check_single(index, _check_amount(n), True))

    async def operate(self, operations: Sequence[tuple[int, int]], *, undo: bool = True) -> None:
        """Do several operations in one step, all or none; wait until all can be done (``semop(2)``).

        Each is the index of a semaphore and what to add to it; a negative number waits for as much and takes it, 0
        waits for zero. ``undo`` is that of `acquire`; with it, what is added goes back as by `release`, and without
        it plainly.

        Tasks with the same operations are served first come first served; among different ones the kernel decides.
        A single operation that takes is an `acquire`.
        Raises as `acquire` and `release` do, `OSError` with E2BIG for more operations than the third number of
        kernel.sem. Cancelled: nothing was done.
        """
        await self._operate(self._check_operations(operations, undo))

    def operate_nowait(self, operations: Sequence[tuple[int, int]], *, undo: bool = True) -> None:
        """Do several operations in one step, or raise `WouldBlock` where not all can be done now (IPC_NOWAIT)."""
        self._operate_nowait(self._check_operations(operations, undo))

    async def wait_zero(self, index: int = 0) -> None:
        """Wait until a semaphore is 0 (``semop(2)``). It may have grown again when you look.

        Raises as `acquire` does. Cancelled: nothing has happened.
        """
        await self._operate(self._check_single(index, 0, False))

    def held(self, n: int = 1, *, index: int = 0, undo: bool = True) -> AbstractAsyncContextManager[None]:
        """Return an ``async with`` in whose body ``n`` of a semaphore are held: `acquire` before, `release` after.

        Cancelled while it waits: nothing was taken. Cancelled inside: it is given back.
        """
        self._check_single(index, -_check_amount(n), undo)
        return Held(partial(self.acquire, n, index=index, undo=undo), partial(self.release, n, index=index))

    def value(self, index: int = 0) -> int:
        """Return the value of a semaphore now. Raises as `values` does, and `ValueError` for a wrong index."""
        self._check_index(index)
        return self.values()[index]

    def values(self) -> tuple[int, ...]:
        """Return the values of all semaphores, of one moment (``semctl(2)`` GETALL).

        Raises `ClosedResourceError`, `ObjectRemovedError`, `PermissionError` without the permission to read.
        """
        self._check_open()
        try:
            return sysv_semaphores.values(self.id, self._count)
        except OSError as error:
            raise self._explained(error) from None

    def set_value(self, value: int, index: int = 0) -> None:
        """Set the value of a semaphore (``semctl(2)`` SETVAL).

        The kernel forgets what any process holds of it under undo; so it is for the beginning, and for repairs.
        Raises as `values` does, `TypeError` or `ValueError` for wrong arguments.
        """
        self._check_index(index)
        check_range("value", value, 0, LARGEST)
        self._set([value], index)

    def set_values(self, values: Sequence[int]) -> None:
        """Set the values of all semaphores in one step (``semctl(2)`` SETALL), else as `set_value`."""
        numbers = _check_values(values)
        if len(numbers) != self._count:
            raise ValueError(f"the set has {self._count} semaphores, not {len(numbers)}")
        self._set(numbers, None)

    def statistics(self) -> SysVSemaphoreStatistics:
        """Return what the kernel knows of the set (``semctl(2)``), and how many tasks of this object wait.

        It asks for each semaphore by itself, so the numbers are not of exactly one moment. Raises as `values` does.
        """
        values = self.values()
        every = range(self._count)
        try:
            status = sysv_semaphores.status(self.id)
            waiting = tuple(sysv_semaphores.waiting(self.id, index) for index in every)
            waiting_for_zero = tuple(sysv_semaphores.waiting_for_zero(self.id, index) for index in every)
            last_pids = tuple(sysv_semaphores.last_pid(self.id, index) for index in every)
        except OSError as error:
            raise self._explained(error) from None
        return SysVSemaphoreStatistics(
            values,
            waiting,
            waiting_for_zero,
            last_pids,
            status.last_operation,
            status.last_change,
            status.owner.uid,
            status.owner.gid,
            status.owner.mode,
            self._places.waiting(),
        )

    async def _operate(self, operations: tuple[Operation, ...]) -> None:
        place = self._places.get(_line(operations))
        try:
            await self._take(place, self._try_waiting, operations, place.readiness)
        except BaseException:
            if self._in_loop():
                place.readiness.nudge()  # who is first now may want less than this one
            raise
        self._nudge(operations)

    def _operate_nowait(self, operations: tuple[Operation, ...]) -> None:
        if operations[0].delta > 0 and all(each.delta > 0 for each in operations[1:]):  # nobody has to come first
            try:
                self._try(operations)
            except OSError as error:
                raise self._explained(error) from None
        else:
            self._take_nowait(self._places.get(_line(operations)), self._try, operations)
        if self._in_loop():
            self._nudge(operations)

    def _try_waiting(self, operations: tuple[Operation, ...], readiness: ObjectReadiness) -> None:
        try:
            self._try(operations)
        except BlockingIOError:
            readiness.probe = _Probe(self.id, _and_back(operations))
            raise

    def _try(self, operations: tuple[Operation, ...]) -> None:
        with holdings.lock:
            divided = holdings.divide(self.id, operations)
            sysv_semaphores.operate(self.id, divided)
            holdings.count(self.id, divided)

    def _nudge(self, operations: tuple[Operation, ...]) -> None:
        """Wake those of this object who wait for what was just given; a thread would, a little later."""
        for index, delta, _ in operations:
            if delta > 0 and (place := self._places.find(index)):
                place.readiness.nudge()

    def _set(self, numbers: list[int], index: int | None) -> None:
        self._check_open()
        try:
            if index is None:
                sysv_semaphores.set_values(self.id, numbers)
            else:
                sysv_semaphores.set_value(self.id, index, numbers[0])
        except OSError as error:
            raise self._explained(error) from None
        self._claim.note_change(self._ctime(self.id))
        holdings.forget(self.id, index)

    def _add_first_values(self, numbers: list[int]) -> None:
        """Add them, in as few steps as the kernel allows; one step at least, which marks the set as in use."""
        operations = tuple(Operation(index, number) for index, number in enumerate(numbers) if number)
        operations = operations or (Operation(0, 1), Operation(0, -1))
        most = sysv.sysctl("sem", 2) or 32
        for start in range(0, len(operations), most):
            try:
                sysv_semaphores.operate(self.id, operations[start : start + most])
            except OSError as error:
                raise self._explained(error) from None

    def _check_single(self, index: int, delta: int, undo: bool) -> tuple[Operation, ...]:
        self._check_open()
        if type(index) is not int or not 0 <= index < self._count:
            self._check_index(index)
        return _single(index, delta, bool(undo))

    def _check_operations(self, operations: Sequence[tuple[int, int]], undo: bool) -> tuple[Operation, ...]:
        self._check_open()
        if not isinstance(operations, Iterable):
            raise TypeError(f"operations must be a sequence of (index, number), not {type(operations).__name__}")
        found = []
        for operation in operations:
            index, delta = _check_pair(operation)
            self._check_index(index)
            found.append(Operation(index, check_range("what to add", delta, -LARGEST, LARGEST), undo and delta != 0))
        if not found:
            raise ValueError("there is no operation to do")
        most = sysv.sysctl("sem", 2) if len(found) > 1 else None
        if most is not None and 2 * len(found) > most:
            text = (
                f"{len(found)} operations are too many at once: half the third number of kernel.sem ({most}) can wait"
            )
            raise OSError(errno.E2BIG, text)
        return tuple(found)

    def _check_index(self, index: int) -> None:
        check_range("index", index, 0, self._count - 1)

    def _explained(self, error: OSError) -> OSError:
        if error.errno == errno.ERANGE:
            return OSError(errno.ERANGE, f"{self._name}: a semaphore cannot count beyond {LARGEST}")
        return super()._explained(error)

    def _remove(self) -> None:
        try:
            sysv_semaphores.remove(self.id)
        finally:
            holdings.forget(self.id)

    @staticmethod
    def _look(id: int) -> int:
        return sysv_semaphores.status(id).last_change

    @staticmethod
    def _set_mode(id: int, mode: int) -> None:
        sysv_semaphores.set_mode(id, mode)

    def _close_places(self) -> None:
        self._places.close()


def _key_of(id: int) -> int | None:
    """Return the key of a set, 0 for a private one; ``None`` where we may not look."""
    try:
        return sysv_semaphores.status(id).owner.key
    except OSError:
        return None


def _line(operations: tuple[Operation, ...]) -> Hashable:
    """Return in which line to stand: all who acquire from one semaphore in one, else those who want the same."""
    if len(operations) == 1 and operations[0].delta < 0:
        return operations[0].number
    return operations


def _and_back(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Return operations that can be done when these can, and change nothing."""
    there = [Operation(index, delta) for index, delta, _ in operations]
    back = [Operation(index, -delta) for index, delta, _ in reversed(operations) if delta]
    return (*there, *back)


def _getter(count: int) -> Callable[[int, int], int]:
    def get(key: int, flags: int) -> int:
        return sysv_semaphores.get(key, count if flags & sysv.IPC_CREAT else 0, flags)

    return get


def _check_pair(operation: object) -> tuple[int, int]:
    if not isinstance(operation, tuple | list) or len(operation) != 2:
        raise TypeError(f"an operation is (index, number), not {operation!r}")
    return operation[0], operation[1]


@lru_cache(maxsize=256)  # making one takes longer than the call
def _single(index: int, delta: int, undo: bool) -> tuple[Operation, ...]:
    return (Operation(index, delta, undo),)


def _check_amount(n: int) -> int:
    return n if type(n) is int and 1 <= n <= LARGEST else check_range("n", n, 1, LARGEST)


def _check_values(values: Sequence[int]) -> list[int]:
    if not isinstance(values, Iterable):
        raise TypeError(f"values must be a sequence of int, not {type(values).__name__}")
    numbers = [check_range("each of values", value, 0, LARGEST) for value in values]
    if not 1 <= len(numbers) <= _LARGEST_SET:
        raise ValueError(f"a set has 1 to {_LARGEST_SET} semaphores, not {len(numbers)}")
    return numbers
