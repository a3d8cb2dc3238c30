"""Functions that tests of the whole supervisor run as services. What they do when is written to a journal."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
import time

from aioipc import Listener, SocketStream, WorkerContext
from aioipc.supervisor.service_main import WARM_UP


def write(text: str) -> None:
    """Add a line to the journal of the test."""
    fd = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


async def stand(worker: WorkerContext) -> None:
    """Be there, and write down when that begins and ends."""
    write(f"+{worker.name}.{worker.replica}")
    worker.set_status("at work")
    await worker.ready()
    await worker.stopping()
    write(f"-{worker.name}.{worker.replica}")


async def serve(worker: WorkerContext) -> None:
    """Answer each line with the pid, the generation and the line; what was accepted is answered before the end."""

    async def answer(connection: SocketStream) -> None:
        async with connection:
            line = await anext(connection.lines())
            worker.count_work()
            await connection.send(f"{os.getpid()} {worker.generation} {line}\n".encode())

    async def accept(listener: Listener[SocketStream]) -> None:
        async for connection in listener:
            group.create_task(answer(connection))

    async with asyncio.TaskGroup() as group, Listener(worker.listeners["http"]) as listener:
        accepting = group.create_task(accept(listener))
        await worker.ready()
        await worker.stopping()
        accepting.cancel()


async def fail(worker: WorkerContext) -> None:
    print("this is why", file=sys.stderr)
    sys.exit(7)


async def first_alone(worker: WorkerContext) -> None:
    """The first replica serves; every other one fails."""
    if worker.replica:
        sys.exit(f"there is no place for replica {worker.replica}")
    await worker.ready()
    await worker.stopping()


async def tell_what_was_there(worker: WorkerContext) -> None:
    """Write down which modules for services this process has not imported itself: the zygote keeps its own frozen."""
    own = {id(each) for each in gc.get_objects()}
    there = [name for name in WARM_UP if name in sys.modules and id(vars(sys.modules[name])) not in own]
    write(f"{worker.replica}:{','.join(there)}")
    await worker.ready()
    await worker.stopping()


async def stand_ready(worker: WorkerContext) -> None:
    """Write down that it has said that it is ready."""
    await worker.ready()
    write(f"{worker.replica}")
    await worker.stopping()


def allowed() -> bool:
    """Whether there is the file that the test makes and removes."""
    return os.path.exists(os.environ["GO"])


async def late(worker: WorkerContext) -> None:
    """Get ready when that is allowed, and stop when it is."""
    while not allowed():  # noqa: ASYNC110 - the one who knows is another process
        await asyncio.sleep(0.01)
    await worker.ready()
    await worker.stopping()
    while not allowed():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def while_allowed(worker: WorkerContext) -> None:
    """Fail where it is not."""
    if not allowed():
        sys.exit("not allowed")
    await worker.ready()
    await worker.stopping()


async def never_ready(worker: WorkerContext) -> None:
    await asyncio.Event().wait()


async def ignore_everything(worker: WorkerContext) -> None:
    """End by no request, cancellation or signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await worker.ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            time.sleep(60)  # noqa: ASYNC251 - on purpose


async def get_ready_slowly(worker: WorkerContext) -> None:
    """Take half a second to get ready."""
    write(worker.name)
    await asyncio.sleep(0.5)
    await worker.ready()
    await worker.stopping()


async def crash_in_drain(worker: WorkerContext) -> None:
    await worker.ready()
    await worker.stopping()
    os.kill(os.getpid(), signal.SIGSEGV)


async def block_the_loop(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0)
    time.sleep(600)  # noqa: ASYNC251 - on purpose


async def hold_the_gil(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0.1)
    ctypes.PyDLL(None).sleep(600)


async def stop_itself(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGSTOP)


async def use_memory(worker: WorkerContext) -> None:
    hoard = bytearray(os.urandom(64 << 20))
    await worker.ready()
    await worker.stopping()
    del hoard
