"""What the pool's tests run in workers, the gate at which such tasks wait, and pools that always close."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import aioipc

# -- plain tasks -----------------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


async def async_square(x: int) -> int:
    await asyncio.sleep(0)
    return x * x


def echo(value: Any) -> Any:
    return value


async def async_echo(value: Any) -> Any:
    return value


def join(*parts: str) -> str:
    return "-".join(parts)


def worker_pid() -> int:
    return os.getpid()


async def async_worker_pid() -> int:
    return os.getpid()


def moment(label: object) -> tuple[int, object]:
    """When it ran, on the clock that all processes share."""
    return time.monotonic_ns(), label


def keep_busy(seconds: float) -> float:
    """Use the CPU for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


class Account:
    """A callable class with methods of each kind."""

    def __init__(self, balance: int = 0) -> None:
        self.balance = balance

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and other.balance == self.balance

    __hash__ = None  # type: ignore[assignment]

    def plus(self, amount: int) -> int:
        return self.balance + amount

    async def async_plus(self, amount: int) -> int:
        return self.balance + amount

    @classmethod
    def opened_with(cls, balance: int) -> Self:
        return cls(balance)

    @staticmethod
    def fee(amount: int) -> int:
        return amount // 100

    def __call__(self, amount: int) -> int:
        return self.balance - amount


class AsyncCallable:
    async def __call__(self, x: int) -> int:
        return -x


# -- tasks that leave a mark -----------------------------------------------------------------------------


def mark(path: str | Path, text: str = "x") -> None:
    """Append to a file, by one write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def marks(path: str | Path) -> str:
    """All that was written with `mark`."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def mark_and_raise(path: str, error: BaseException) -> None:
    mark(path)
    raise error


def fail_until(path: str, good: int, error: type[BaseException]) -> int:
    """Raise until it is called for the ``good``-th time; return how often it was called."""
    mark(path)
    if (calls := len(marks(path))) < good:
        raise error(f"call {calls}")
    return calls


def die_until(path: str, good: int) -> int:
    """As `fail_until`, but take the worker down."""
    mark(path)
    if (calls := len(marks(path))) < good:
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()
    return calls


def wait_until_interrupted(path: str) -> None:
    """Say ``started``; wait for ever; say ``finally`` when broken into, which may be before the first word."""
    try:
        mark(path, "started ")
        threading.Event().wait()
    finally:
        mark(path, "finally ")


async def async_wait_until_cancelled(path: str) -> None:
    mark(path, "started ")
    try:
        await asyncio.Event().wait()
    finally:
        mark(path, "finally ")


def ignore_interrupts(path: str) -> None:
    """End by SIGKILL only."""
    mark(path, "started ")
    while True:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            mark(path, "ignored ")


async def async_ignore_cancel(path: str) -> None:
    mark(path, "started ")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            mark(path, "ignored ")


def finish_in_spite_of_interrupts(path: str) -> str:
    """Swallow the first interruption and return."""
    mark(path, "started ")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return "finished"
    return "not interrupted"


# -- pools -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_pool(workers: int, **options: Any) -> AsyncIterator[aioipc.Pool]:
    """For fixtures: leave it normally, but not for ever, where a test that failed has left tasks that do not end."""
    import aioipc

    async with aioipc.Pool(workers, **{"shutdown": 1, **options}) as pool:
        yield pool
        async with asyncio.timeout(15):
            await pool.aclose()


# -- tasks that wait to be let through -------------------------------------------------------------------


class Gate:
    """Tasks in any process say that they have come and wait until the test lets them through.

    Two FIFOs, both held open by the test: one byte for each arrival, one for each pass.
    """

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.path = str(directory / name)
        self._arrivals = _open_fifo(f"{self.path}.arrivals")
        self._passes = _open_fifo(f"{self.path}.passes")
        self._arrived = 0

    @property
    def arrived(self) -> int:
        """How many tasks have come so far."""
        try:
            self._arrived += len(os.read(self._arrivals, 65536))
        except BlockingIOError:
            pass
        return self._arrived

    async def wait_arrived(self, count: int = 1) -> None:
        """Wait until so many have come."""
        from ..harness.processes import eventually_async  # not for workers, who import this file too

        await eventually_async(
            lambda: self.arrived >= count, message=lambda: f"{count} at the gate, not {self.arrived}"
        )

    def let(self, count: int = 1) -> None:
        """Let so many through."""
        os.write(self._passes, b"!" * count)

    def close(self) -> None:
        os.close(self._arrivals)
        os.close(self._passes)


def _open_fifo(path: str) -> int:
    os.mkfifo(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def _arrive(gate: str) -> None:
    fd = os.open(f"{gate}.arrivals", os.O_WRONLY)
    try:
        os.write(fd, b"!")
    finally:
        os.close(fd)


def pass_gate(gate: str, value: Any = None) -> Any:
    """Wait at the gate, then return the value."""
    _arrive(gate)
    fd = os.open(f"{gate}.passes", os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)
    return value


async def async_pass_gate(gate: str, value: Any = None) -> Any:
    """Wait at the gate with the loop running, then return the value."""
    loop = asyncio.get_running_loop()
    _arrive(gate)
    fd = os.open(f"{gate}.passes", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            readable = asyncio.Event()
            loop.add_reader(fd, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(fd)
            try:
                os.read(fd, 1)
            except BlockingIOError:  # another one was let through
                continue
            return value
    finally:
        os.close(fd)


# -- tasks that look around ------------------------------------------------------------------------------


def surroundings(variable: str) -> dict[str, Any]:
    """What a worker takes over from its master."""
    import sys

    umask = os.umask(0)
    os.umask(umask)
    return {
        "variable": os.environ.get(variable),
        "cwd": os.getcwd(),
        "path": list(sys.path),
        "argv": list(sys.argv),
        "umask": umask,
    }


def is_imported(name: str) -> bool:
    import sys

    return name in sys.modules


def attribute_of(module: str, name: str) -> Any:
    import sys

    return getattr(sys.modules[module], name)


async def sum_in_a_pool_of_its_own(numbers: list[int]) -> int:
    """Open a pool inside of a worker."""
    import aioipc

    async with aioipc.Pool(1) as pool:
        return sum([x async for x in pool.map(square, numbers)])


def in_a_loop_of_its_own(function: Callable[..., Any], *args: Any) -> Any:
    """Run an async function with asyncio.run, in a sync task."""
    return asyncio.run(function(*args))


def in_aioipc_run(function: Callable[..., Any], *args: Any) -> Any:
    """Run an async function with aioipc.run, in a sync task."""
    import aioipc

    return aioipc.run(function, *args)


# -- tasks of maps ---------------------------------------------------------------------------------------


async def async_pass_gate_or_not(gate: str, value: Any) -> Any:
    """Wait at the gate unless its path is empty."""
    return await async_pass_gate(gate, value) if gate else value


def stop_at_first(path: str, number: int) -> int:
    """Return at once for 0; wait for ever for the others."""
    if number:
        wait_until_interrupted(path)
    return number


def fail_at_first(path: str, number: int) -> None:
    """Raise for 0 as soon as another one runs; wait for ever for the others."""
    if number:
        wait_until_interrupted(path)
    while not marks(path):
        os.sched_yield()
    raise KeyError("first")


# -- errors ----------------------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("I stay here")

    def method(self) -> None:
        raise AssertionError("never called")

    def __call__(self) -> None:
        raise AssertionError("never called")


def make_unpicklable() -> Unpicklable:
    return Unpicklable()


def make_generator() -> Any:
    return (i for i in range(3))


async def async_make_generator() -> Any:
    return make_generator()


async def make_async_generator() -> Any:
    yield 1


class LoadsOnlyIn:
    """Can be unpickled in one process only."""

    def __init__(self, pid: int, error: type[BaseException] = ValueError) -> None:
        self.pid = pid
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_only_in, (self.pid, self.error)


def _load_only_in(pid: int, error: type[BaseException]) -> LoadsOnlyIn:
    if os.getpid() != pid:
        raise error(f"not in {os.getpid()}")
    return LoadsOnlyIn(pid, error)


def make_loadable_only_here(error: type[BaseException]) -> LoadsOnlyIn:
    return LoadsOnlyIn(os.getpid(), error)


class NeedsTwo(Exception):
    """Takes two arguments and passes one on: it does not survive pickling."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class NeedsTwoAndKnowsHow(NeedsTwo):
    def __reduce__(self) -> tuple[Any, ...]:
        return NeedsTwoAndKnowsHow, (self.code, "again")


class BadReduce(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("no pickling")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BadState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise SystemExit("no loading")

    def __reduce__(self) -> tuple[Any, ...]:
        return BadState, (), {"x": 1}


class BecomesAnother(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, self.args


class BadElsewhere(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_elsewhere, (os.getpid(), *self.args)


def _raise_elsewhere(pid: int, *args: Any) -> BadElsewhere:
    if os.getpid() != pid:
        raise RuntimeError("not in this process")
    return BadElsewhere(*args)


class Carrier(Exception):
    """Carries something that cannot be sent."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.luggage = make_generator()


def raise_(kind: Callable[..., BaseException], *args: Any) -> None:
    raise kind(*args)


async def async_raise(kind: Callable[..., BaseException], *args: Any) -> None:
    await asyncio.sleep(0)
    raise kind(*args)


def raise_this(error: BaseException) -> None:
    raise error


async def async_raise_this(error: BaseException) -> None:
    raise error


def raise_noted(text: str, note: str) -> None:
    error = ValueError(text)
    error.add_note(note)
    raise error


def outer(x: int) -> None:
    inner(x)


def inner(x: int) -> None:
    raise ValueError(f"from inner: {1 // x}")  # this very line


async def async_outer(x: int) -> None:
    await async_inner(x)


async def async_inner(x: int) -> None:
    try:
        inner(x)
    except ZeroDivisionError as error:
        raise LookupError("translated") from error
