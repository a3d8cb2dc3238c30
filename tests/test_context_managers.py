"""Every async context manager of the package, used as fixtures and cancel scopes use them.

A new one gets a function here, named after its class, that makes it. What it needs besides is entered on the
stack, which is left after it.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import anyio
import pytest
import pytest_asyncio

import aioipc

Manager = AbstractAsyncContextManager[object]
Make = Callable[[AsyncExitStack], Awaitable[Manager]]

MAKERS: dict[str, Make] = {}


def maker(make: Make) -> Make:
    MAKERS[getattr(make, "__name__", "")] = make
    return make


@maker
async def Pool(stack: AsyncExitStack) -> Manager:
    return aioipc.Pool(1, shutdown=5)


@maker
async def Supervisor(stack: AsyncExitStack) -> Manager:
    return aioipc.Supervisor(shutdown=5)


@maker
async def MapResults(stack: AsyncExitStack) -> Manager:
    pool = await stack.enter_async_context(aioipc.Pool(1, shutdown=5))
    return pool.map(len, ["a"] * 100)


@maker
async def StreamResults(stack: AsyncExitStack) -> Manager:
    pool = await stack.enter_async_context(aioipc.Pool(1, shutdown=5))
    return pool.stream(range, 1000)


@maker
async def PipeReceiveStream(stack: AsyncExitStack) -> Manager:
    receive, send = aioipc.create_pipe()
    await stack.enter_async_context(send)
    return receive


@maker
async def PipeSendStream(stack: AsyncExitStack) -> Manager:
    receive, send = aioipc.create_pipe()
    await stack.enter_async_context(receive)
    return send


@maker
async def FifoReceiveStream(stack: AsyncExitStack) -> Manager:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return await aioipc.open_fifo_reader(f"{folder}/fifo", create=True, remove=True)


@maker
async def FifoSendStream(stack: AsyncExitStack) -> Manager:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    await stack.enter_async_context(await aioipc.open_fifo_reader(f"{folder}/fifo", create=True))
    return await aioipc.open_fifo_writer(f"{folder}/fifo")


@maker
async def PosixMessageQueue(stack: AsyncExitStack) -> Manager:
    return aioipc.PosixMessageQueue.create("/aioipc-context-manager")


@maker
async def PosixSemaphore(stack: AsyncExitStack) -> Manager:
    return aioipc.PosixSemaphore.create("/aioipc-context-manager", 1)


@maker
async def SocketStream(stack: AsyncExitStack) -> Manager:
    left, right = aioipc.create_socketpair()
    await stack.enter_async_context(right)
    return left


@maker
async def PacketSocket(stack: AsyncExitStack) -> Manager:
    left, right = aioipc.create_socketpair("packets")
    await stack.enter_async_context(right)
    return left


@maker
async def DatagramSocket(stack: AsyncExitStack) -> Manager:
    return aioipc.open_datagram_socket(f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket")


@maker
async def Listener(stack: AsyncExitStack) -> Manager:
    return aioipc.listen_unix(f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket")


@maker
async def SharedMemory(stack: AsyncExitStack) -> Manager:
    return aioipc.SharedMemory.create(100, name="/aioipc-context-manager")


@maker
async def SysVSharedMemory(stack: AsyncExitStack) -> Manager:
    return aioipc.SysVSharedMemory.create(None, 100)


@maker
async def Pipeline(stack: AsyncExitStack) -> Manager:
    async def copy(receive: aioipc.PipeReceiveStream, send: aioipc.PipeSendStream) -> None:
        async for chunk in receive:
            await send.send(chunk)

    return await aioipc.open_pipeline(["sleep", "1000"], copy, ["cat"])


@maker
async def GracefulShutdown(stack: AsyncExitStack) -> Manager:
    return aioipc.graceful_shutdown(timeout=5)


@maker
async def SignalReceiver(stack: AsyncExitStack) -> Manager:
    return aioipc.open_signal_receiver(signal.SIGUSR1)


@maker
async def SignalRunbook(stack: AsyncExitStack) -> Manager:
    return aioipc.SignalRunbook({signal.SIGUSR1: lambda: None})


@maker
async def SysVMessageQueue(stack: AsyncExitStack) -> Manager:
    return aioipc.SysVMessageQueue.create()


@maker
async def SysVSemaphoreSet(stack: AsyncExitStack) -> Manager:
    return aioipc.SysVSemaphoreSet.create(None, [1])


@maker
async def FileLock(stack: AsyncExitStack) -> Manager:
    return aioipc.FileLock.open(f"{stack.enter_context(tempfile.TemporaryDirectory())}/lock")


@maker
async def MappedFile(stack: AsyncExitStack) -> Manager:
    return aioipc.MappedFile.create(f"{stack.enter_context(tempfile.TemporaryDirectory())}/file", 100)


@maker
async def RecordLog(stack: AsyncExitStack) -> Manager:
    return aioipc.RecordLog.open(f"{stack.enter_context(tempfile.TemporaryDirectory())}/log", fsync=0.1)


@maker
async def LogReader(stack: AsyncExitStack) -> Manager:
    path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/log"
    return (await stack.enter_async_context(aioipc.RecordLog.open(path))).follow()


def test_none_is_missing() -> None:
    public = {name: getattr(aioipc, name) for name in aioipc.__all__}
    managers = {name for name, value in public.items() if inspect.isclass(value) and hasattr(value, "__aenter__")}
    assert managers == set(MAKERS)


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


@pytest_asyncio.fixture
async def entered(make: Make) -> AsyncIterator[object]:
    task = asyncio.current_task()
    async with AsyncExitStack() as stack, await make(stack) as value:
        yield value
    assert asyncio.current_task() is not task, "set-up and tear-down shared a task, so this proves nothing"


async def test_as_a_fixture(entered: object) -> None:
    """Entered in one task, used in a second, left in a third."""
    await asyncio.sleep(0)


async def test_as_a_fixture_of_a_test_that_was_cancelled(entered: object) -> None:
    with anyio.move_on_after(0):
        await anyio.sleep_forever()


async def test_entered_in_a_cancelled_scope(make: Make) -> None:
    async with AsyncExitStack() as stack:
        manager = await make(stack)
        with anyio.fail_after(30), anyio.CancelScope() as scope:
            scope.cancel()
            async with manager:
                await anyio.sleep_forever()
        assert scope.cancelled_caught


async def test_cancelled_inside(make: Make) -> None:
    async with AsyncExitStack() as stack:
        manager = await make(stack)
        with anyio.fail_after(30), anyio.CancelScope() as scope:
            async with manager:
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught


async def test_left_in_a_cancelled_scope(make: Make) -> None:
    async with AsyncExitStack() as stack:
        manager = await make(stack)
        with anyio.fail_after(30), anyio.CancelScope() as scope:
            async with manager:
                scope.cancel()
        await asyncio.sleep(0)  # nothing of the cancellation is left over


async def test_a_scope_that_ends_between(make: Make) -> None:
    """It is entered inside of a scope and left outside of it, as a helper function would do."""
    async with AsyncExitStack() as stack:
        manager = await make(stack)
        with anyio.CancelScope():
            await manager.__aenter__()
        await manager.__aexit__(None, None, None)


async def test_the_task_is_cancelled(make: Make) -> None:
    inside = asyncio.Event()

    async def use(manager: Manager) -> None:
        async with manager:
            inside.set()
            await asyncio.get_running_loop().create_future()

    async with AsyncExitStack() as stack, asyncio.timeout(30):
        task = asyncio.create_task(use(await make(stack)))
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_its_task_group_is_cancelled(make: Make) -> None:
    async def use(manager: Manager) -> None:
        async with manager:
            await anyio.sleep_forever()

    async with AsyncExitStack() as stack, asyncio.timeout(30):
        manager = await make(stack)
        async with anyio.create_task_group() as group:
            group.start_soon(use, manager)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
