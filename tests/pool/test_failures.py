"""What a task raised, as an exception that can be raised here."""

from __future__ import annotations

import asyncio
import pickle
import sys
import types
from typing import Any

import anyio
import pytest

from aioipc import exceptions
from aioipc.exceptions import IPCError, RemoteError, RemoteTraceback
from aioipc.pool.failures import to_exception
from aioipc.pool.functions import Function
from aioipc.pool.job import Task
from aioipc.pool.sent_failures import Failure, dump_failure

TASK = Task(7, Function(1, "package.function", False, b""), b"", sink=None)  # type: ignore[arg-type]
WHERE = "worker 2 (pid 123)"


def sent(error: BaseException, notes: tuple[str, ...] = ()) -> BaseException:
    """The exception on its way through a worker to here."""
    return to_exception(memoryview(dump_failure(error, notes)), TASK, WHERE)


def received(failure: Failure) -> BaseException:
    return to_exception(pickle.dumps(tuple(failure), 5), TASK, WHERE)


def raised(function: str, error: BaseException) -> BaseException:
    """The error with a traceback through a function of that name."""
    scope: dict[str, Any] = {"error": error}
    exec(f"def {function}(): raise error", scope)
    try:
        scope[function]()
    except BaseException as caught:
        return caught
    raise AssertionError


class Custom(Exception):
    def __init__(self, code: int, *, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def test_it_arrives_as_itself() -> None:
    error = sent(raised("users_function", Custom(5, detail="more")))
    assert type(error) is Custom
    assert (error.code, error.detail) == (5, "more")


def test_its_cause_is_the_remote_traceback() -> None:
    error = sent(raised("users_function", ValueError("no")))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in users_function" in error.__cause__.text
    assert "users_function" in str(error.__cause__)


def test_its_notes_say_where_it_was() -> None:
    original = ValueError("no")
    original.add_note("the user's own")
    error = sent(original, ("the worker's",))
    assert error.__notes__ == ["the user's own", "the worker's", f"raised in {WHERE}, in package.function, task 7"]


@pytest.mark.parametrize(
    "original",
    [
        SystemExit(3),
        KeyboardInterrupt("stop"),
        GeneratorExit(),
        asyncio.CancelledError("by itself"),
        BaseExceptionGroup("group", [KeyboardInterrupt()]),
        StopIteration(5),
        StopAsyncIteration("the end"),
    ],
)
def test_what_would_do_harm_here_is_a_remote_error(original: BaseException) -> None:
    """It would end the master, or its map, or be refused by the future."""
    error = sent(original)
    assert type(error) is RemoteError
    kind = type(original)
    assert error.type_name == f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    assert str(error) == f"{error.type_name}: {original}"


def test_what_cannot_be_pickled_is_a_remote_error_that_says_so() -> None:
    class TwoArguments(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    error = sent(TwoArguments(1, 2))
    assert type(error) is RemoteError
    assert error.type_name.endswith("TwoArguments")
    assert str(error).endswith("TwoArguments: 1 and 2")
    assert "the exception itself could not be sent: " in error.__notes__[0]


def test_a_class_that_exists_in_the_worker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_in_the_worker")
    exec("class Unknown(Exception): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    payload = dump_failure(module.Unknown("text"))
    monkeypatch.delitem(sys.modules, module.__name__)
    error = to_exception(payload, TASK, WHERE)
    assert type(error) is RemoteError
    assert error.type_name == "only_in_the_worker.Unknown"
    assert str(error) == "only_in_the_worker.Unknown: text"
    assert isinstance(error.__cause__, RemoteTraceback)


@pytest.mark.parametrize("pickled", [b"", b"garbage", pickle.dumps("no exception"), pickle.dumps(ValueError)])
def test_a_pickle_of_something_else(pickled: bytes) -> None:
    error = received(Failure(pickled, "Kind", "message", "traceback"))
    assert type(error) is RemoteError
    assert str(error) == "Kind: message"


def every_error() -> list[IPCError]:
    """One of each class that the package defines."""
    special = {
        exceptions.BusyResourceError: exceptions.BusyResourceError("reading from"),
        exceptions.WorkerBootError: exceptions.WorkerBootError("text", stderr="tail", exitcode=3),
        exceptions.WorkerCrashed: exceptions.WorkerCrashed(
            "why", exitcode=-9, oom=True, pid=5, slot=1, task="t", stderr="e"
        ),
        exceptions.TaskQuarantined: exceptions.TaskQuarantined("why", exitcode=1, pid=5, slot=0),
        exceptions.RemoteError: exceptions.RemoteError("text", type_name="kind"),
    }
    classes = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, IPCError)]
    return [special.get(each) or each("text") for each in classes]


@pytest.mark.parametrize("original", every_error(), ids=lambda error: type(error).__name__)
def test_our_own_errors_arrive_as_they_were(original: IPCError) -> None:
    error = sent(original)
    assert type(error) is type(original)
    assert str(error) == str(original)
    own = {name: value for name, value in vars(error).items() if name != "__notes__"}
    assert own == vars(original)


async def test_a_future_takes_whatever_comes() -> None:
    for original in (ValueError(), StopIteration(), SystemExit(1), asyncio.CancelledError(), anyio.WouldBlock()):
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = sent(original)
        future.set_exception(error)
        with pytest.raises(type(error)) as caught:
            await future
        assert caught.value is error
