"""Functions that tests run as services."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from aioipc.supervisor.launch import Launch, LaunchError
from aioipc.supervisor.service_context import WorkerContext
from aioipc.supervisor.service_process import ServiceProcess


async def serve(worker: WorkerContext) -> None:
    """What every service does, in short."""
    worker.set_status("starting")
    await worker.ready()
    worker.count_work()
    worker.count_work(2)
    await worker.stopping()
    assert worker.is_stopping
    left = worker.stop_deadline - asyncio.get_running_loop().time()
    print("stopping", 0 < left < 60, flush=True)


async def tell(worker: WorkerContext) -> None:
    """Say what it is."""
    print(type(asyncio.get_running_loop()).__module__.partition(".")[0])
    print(worker.name, worker.replica, worker.pid == os.getpid(), worker.generation, worker.concurrency, worker.title)
    print(worker.is_stopping, worker.stop_deadline, sorted(worker.listeners))
    logging.getLogger("from.service").warning("logged %s", worker.name, extra={"service": "another"})
    await worker.ready()
    await worker.ready()
    await worker.stopping()


async def echo(worker: WorkerContext) -> None:
    """Serve on a listener until it is to stop."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d " % os.getpid() + await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, sock=worker.listeners["http"])
    await worker.ready()
    await worker.stopping()
    server.close()


async def never_ready(worker: WorkerContext) -> None:
    print("still thinking", file=sys.stderr)
    worker.set_status("thinking")
    await asyncio.Event().wait()


async def withdraws(worker: WorkerContext) -> None:
    """Is cancelled before it is ready, and takes its time then."""
    worker.set_status("starting")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.2)
        print("cancelled", worker.is_stopping, flush=True)


async def returns(worker: WorkerContext) -> None:
    await worker.ready()


async def returns_number(worker: WorkerContext) -> int:
    return 5


def not_async(worker: WorkerContext) -> int:
    return 5


async def raises(worker: WorkerContext) -> None:
    raise ValueError("no luck")


async def raises_when_ready(worker: WorkerContext) -> None:
    print("before", file=sys.stderr)
    await worker.ready()
    raise ValueError("no luck")


async def exits(worker: WorkerContext) -> None:
    await worker.ready()
    sys.exit(7)


async def exits_with_text(worker: WorkerContext) -> None:
    asyncio.get_running_loop().call_soon(sys.exit, "words")
    await asyncio.Event().wait()


async def interrupted(worker: WorkerContext) -> None:
    raise KeyboardInterrupt


async def cancelled_by_itself(worker: WorkerContext) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def ignores_stop(worker: WorkerContext) -> None:
    """Is cancelled at the deadline."""
    await worker.ready()
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)


async def ignores_everything(worker: WorkerContext) -> None:
    """Takes neither a request nor a cancellation."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await worker.ready()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def blocks_the_loop(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0.05)
    time.sleep(3600)  # noqa: ASYNC251


async def holds_the_gil(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0.05)
    ctypes.PyDLL(None).sleep(3600)


async def stops_itself(worker: WorkerContext) -> None:
    await worker.ready()
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGSTOP)


async def hangs_at_exit(worker: WorkerContext) -> None:
    """Leaves behind all that can keep a process from ending."""

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    generator = items()
    await anext(generator)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    await worker.ready()
    await worker.stopping()
    globals()["kept"] = generator


async def exits_and_hangs(worker: WorkerContext) -> None:
    """The loop is left by sys.exit, and closing it takes for ever."""
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await ignores_everything(worker)


async def hanging_thread(worker: WorkerContext) -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    await worker.ready()
    await worker.stopping()


async def has_grandchildren(worker: WorkerContext) -> None:
    """One in its group that ignores SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", IGNORE_TERM], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert child.stdout is not None
    child.stdout.readline()
    worker.set_status(str(child.pid))
    await worker.ready()
    await worker.stopping()
    os._exit(0)


IGNORE_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("here", flush=True)
time.sleep(3600)
"""


async def busy_status(worker: WorkerContext) -> None:
    for i in range(10_000):
        worker.set_status(f"at {i}")
    await worker.ready()
    await worker.stopping()


async def forks(worker: WorkerContext) -> None:
    """A process that it forks is none of ours."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    worker.set_status(str(pid))
    await worker.ready()
    await worker.stopping()
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)  # noqa: ASYNC222
    print("child", os.waitstatus_to_exitcode(status), flush=True)


class Namespace:
    """Functions are found by dotted names."""

    serve = staticmethod(serve)


async def tell_environment(worker: WorkerContext) -> None:
    for name in ("ADDED", "TAKEN", "KEPT", "NOTIFY_SOCKET", "LISTEN_FDS", "HOME", "USER"):
        print(name, os.environ.get(name))
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
    print("dies with its parent by signal", number.value)
    await worker.ready()
    await worker.stopping()


async def try_launches(worker: WorkerContext) -> None:
    """What only root may, in a process that is somebody else."""
    for launch in (Launch(nice=-5), Launch(user=0), Launch(group=0), Launch(rlimits={"nofile": (50, 1 << 19)})):
        try:
            launch.apply(2)
        except LaunchError as error:
            print(error.refusal.field, error.refusal.errno, error.refusal.text.partition("; ")[2])
    await worker.ready()


async def takes_memory(worker: WorkerContext) -> None:
    pieces = []
    while True:
        pieces.append(bytes(1 << 24))


def _own_socket() -> Any:
    return next(each for each in gc.get_objects() if isinstance(each, ServiceProcess))._data


async def says_garbage(worker: WorkerContext) -> None:
    await worker.ready()
    _own_socket().send(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.Event().wait()


async def announces_much(worker: WorkerContext) -> None:
    await worker.ready()
    _own_socket().send(struct.pack("<HBBIQ", 0xA1C0, 18, 0, 1 << 27, 0))
    await asyncio.Event().wait()
