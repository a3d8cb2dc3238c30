"""Any value in any place: the call succeeds, waits, or fails with an error of a known kind. It never ends the process.

`tests.kernel.bad_input` says what the errors are; this is about what nobody has thought of. ctypes and pointers to
buffers are near, so it runs as a program of its own.
"""

from __future__ import annotations

from pathlib import Path

from tests.harness.scripts import run_script

PROGRAM = """
import asyncio, faulthandler, inspect, itertools, resource
import aioipc

faulthandler.enable()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
VALUES = [
    None, True, 0, -1, 1.5, 1 << 31, 1 << 32, 1 << 63, 1 << 64, float("nan"), "text", "", "a\\0b", "x" * 300, "\\udcff",
    b"x", b"", [], [1], {}, (), (1, 2, 3), object(), type, memoryview(b"abcd")[::2], bytearray(3),
]
LARGE = (1 << 31, 1 << 32)  # which a machine may well have, and nobody wants to fill
KNOWN = (TypeError, ValueError, OSError, LookupError, ImportError, aioipc.WouldBlock)

CALLS = [
    lambda v: aioipc.SysVMessageQueue.create(v),
    lambda v: aioipc.SysVMessageQueue.create(mode=v),
    lambda v: aioipc.SysVMessageQueue.create(max_bytes=v),
    lambda v: aioipc.SysVMessageQueue.open(v),
    lambda v: aioipc.SysVMessageQueue.open(id=v),
    lambda v: aioipc.SysVSemaphoreSet.create(v, [1]),
    lambda v: aioipc.SysVSemaphoreSet.create(None, v),
    lambda v: aioipc.SysVSemaphoreSet.create(None, [v]),
    lambda v: aioipc.SysVSemaphoreSet.open(v),
    lambda v: aioipc.SysVSemaphoreSet.open(id=v),
    lambda v: aioipc.SysVSharedMemory.create(v, 10),
    lambda v: aioipc.SysVSharedMemory.create(None, -1 if v in LARGE else v),
    lambda v: aioipc.SysVSharedMemory.open(v),
    lambda v: aioipc.SysVSharedMemory.open(id=v),
    lambda v: aioipc.PosixMessageQueue.create(v),
    lambda v: aioipc.PosixMessageQueue.create("/value", max_messages=v),
    lambda v: aioipc.PosixMessageQueue.create("/value", max_message_size=v),
    lambda v: aioipc.PosixMessageQueue.open(v),
    lambda v: aioipc.PosixMessageQueue.open("/value", access=v),
    lambda v: aioipc.PosixSemaphore.create(v),
    lambda v: aioipc.PosixSemaphore.create("/value", v),
    lambda v: aioipc.PosixSemaphore.open(v),
    lambda v: aioipc.SharedMemory.create(-1 if v in LARGE else v),
    lambda v: aioipc.SharedMemory.create(10, name=v),
    lambda v: aioipc.SharedMemory.open(v),
    lambda v: aioipc.SharedMemory.from_descriptor(v if v not in (True, 0) else -1),
    lambda v: aioipc.create_pipe(v),
    lambda v: aioipc.create_socketpair(v),
    lambda v: aioipc.connect_unix(v),
    lambda v: aioipc.connect_unix("socket", v),
    lambda v: aioipc.listen_unix(v),
    lambda v: aioipc.listen_unix("socket", v),
    lambda v: aioipc.listen_unix("socket", backlog=v),
    lambda v: aioipc.listen_unix("socket", mode=v),
    lambda v: aioipc.connect_tcp(v, 1),
    lambda v: aioipc.connect_tcp("127.0.0.1", v),
    lambda v: aioipc.listen_tcp("127.0.0.1", v),
    lambda v: aioipc.listen_tcp("127.0.0.1", 0, backlog=v),
    lambda v: aioipc.open_datagram_socket(v),
    lambda v: aioipc.open_datagram_socket("other", mode=v),
    lambda v: aioipc.open_fifo_reader(v, create=True, remove=True),
    lambda v: aioipc.open_fifo_writer(v),
    lambda v: aioipc.ftok(v, 1),
    lambda v: aioipc.ftok(".", v),
]
METHODS = [
    *(lambda v, name=name: made[name].send(v) for name in ("packets", "stream", "writer", "sysv", "posix")),
    *(lambda v, name=name: made[name].send_nowait(v) for name in ("packets", "stream", "writer", "sysv", "posix")),
    lambda v: made["packets"].send(b"x", descriptors=v),
    lambda v: made["packets"].send(b"x", descriptors=[v]),
    lambda v: made["datagrams"].send(v, "datagrams"),
    lambda v: made["datagrams"].send(b"x", v),
    lambda v: made["datagrams"].send_nowait(b"x", v),
    lambda v: made["stream"].receive(v),
    lambda v: made["stream"].receive_into(v),
    lambda v: made["stream"].lines(encoding=v),
    lambda v: made["stream"].lines(max_line=v),
    lambda v: made["reader"].receive_nowait(v),
    lambda v: made["sysv"].send(b"x", type=v),
    lambda v: made["sysv"].receive(v),
    lambda v: made["sysv"].receive(except_type=v),
    lambda v: made["sysv"].receive(max_size=v),
    lambda v: made["sysv"].receive_many(v),
    lambda v: made["sysv"].peek(v),
    lambda v: made["sysv"].set_max_bytes(v),
    lambda v: made["posix"].send(b"x", priority=v),
    lambda v: made["semaphores"].acquire(v),
    lambda v: made["semaphores"].acquire_nowait(index=v),
    lambda v: made["semaphores"].release(v),
    lambda v: made["semaphores"].operate(v),
    lambda v: made["semaphores"].operate([v]),
    lambda v: made["semaphores"].operate([(0, v)]),
    lambda v: made["semaphores"].operate([(v, 1)]),
    lambda v: made["semaphores"].wait_zero(v),
    lambda v: made["semaphores"].set_value(v),
    lambda v: made["semaphores"].set_values([1, v]),
    lambda v: made["semaphores"].value(v),
    lambda v: made["memory"].array(v),
    lambda v: made["memory"].array(1, offset=v),
    lambda v: aioipc.GuardedMemory(v, asyncio.Lock()),
    lambda v: aioipc.GuardedMemory(made["memory"], v),
]
made = {}


async def main():
    done = failed = waited = 0
    result = each = None
    for number, call in enumerate([*CALLS, *METHODS]):
        if number >= len(CALLS):
            make()
        for value in VALUES:
            try:
                result = call(value)
                if inspect.isawaitable(result):
                    async with asyncio.timeout(0.005):
                        result = await result
            except TimeoutError:
                waited += 1
            except KNOWN:
                failed += 1
            except Exception as error:
                print(number, repr(value)[:30], repr(error)[:200])
            else:
                done += 1
                for each in result if isinstance(result, tuple) else (result,):
                    if hasattr(each, "aclose"):
                        await each.aclose()
                each = None
            result = None
        for each in made.values():
            await each.aclose()
        made.clear()
    print("survived", done, failed, waited)


def make():
    packets, other = aioipc.create_socketpair("packets")
    stream, peer = aioipc.create_socketpair()
    reader, writer = aioipc.create_pipe()
    made.update(
        packets=packets, other=other, stream=stream, peer=peer, reader=reader, writer=writer,
        datagrams=aioipc.open_datagram_socket("datagrams"), sysv=aioipc.SysVMessageQueue.create(),
        posix=aioipc.PosixMessageQueue.create("/values"), memory=aioipc.SharedMemory.create(1000),
        semaphores=aioipc.SysVSemaphoreSet.create(None, [1, 1]),
    )


asyncio.run(main())
"""


def test_no_value_ends_the_process(tmp_path: Path) -> None:
    done = run_script(PROGRAM, cwd=tmp_path, timeout=55, python=("-X", "dev", "-W", "ignore")).check()
    assert done.stdout.startswith("survived"), done.stdout
