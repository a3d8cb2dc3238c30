"""The public API as a type checker sees it. Checked by mypy, never run, and not collected by pytest."""

from __future__ import annotations

import asyncio
import functools
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, assert_type

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

import aioipc
from aioipc.testing.conformance import ByteStreamConformance, ChannelConformance
from aioipc.testing.kill_points import KillPoint, KillPoints
from aioipc.testing.waiting import eventually, eventually_async


def count_words(path: Path) -> int:
    return len(path.read_text().split())


async def fetch(url: str, retries: int) -> bytes:
    return b""


async def read_rows(path: Path) -> AsyncIterator[str]:
    yield ""


async def run_functions(pool: aioipc.Pool) -> None:
    assert_type(await pool.run(count_words, Path("a")), int)
    assert_type(await pool.run(fetch, "url", 3), bytes)
    assert_type(await pool.run(functools.partial(fetch, "url", retries=3)), bytes)
    assert_type(await pool.run(lambda: 1.5), float)


async def run_wrongly(pool: aioipc.Pool) -> None:
    await pool.run(count_words, 1)  # type: ignore[arg-type]
    await pool.run(count_words)  # type: ignore[call-arg, arg-type]


async def submit(pool: aioipc.Pool) -> None:
    job = pool.submit(count_words, Path("a"), timeout=5, retries=2)
    assert_type(job, aioipc.Job[int])
    assert_type(await job, int)
    assert_type(job.cancel(), bool)
    future: asyncio.Future[int] = job
    assert_type(future.result(), int)
    assert_type(await pool.submit(fetch, "url", 3, priority=1), bytes)
    assert_type(await asyncio.gather(job, pool.submit(fetch, "url", 3)), tuple[int, bytes])


async def map_functions(pool: aioipc.Pool, urls: AsyncIterator[Path]) -> None:
    async for count in pool.map(count_words, [Path("a"), Path("b")]):
        assert_type(count, int)
    async with pool.map(count_words, urls, ordered=False) as results:
        assert_type(results, aioipc.MapResults[int])
        assert_type([count async for count in results], list[int])
    async for body in pool.map(functools.partial(fetch, retries=1), ["a"]):
        assert_type(body, bytes)


def rows(path: Path) -> Iterator[int]:
    yield 1


async def stream(pool: aioipc.Pool) -> None:
    async for row in pool.stream(read_rows, Path("a")):
        assert_type(row, str)
    async with pool.stream(rows, Path("a"), window=10, priority=1) as results:
        assert_type(results, aioipc.StreamResults[int])
    pool.stream(rows)  # type: ignore[call-arg, arg-type]


async def manage(pool: aioipc.Pool) -> None:
    pool.resize(3)
    pool.pause()
    pool.resume()
    await pool.drain()
    await pool.wait_room()
    assert_type(aioipc.current_worker(), aioipc.PoolWorker)
    assert_type(aioipc.current_worker().slot, int)
    full: anyio.WouldBlock = aioipc.PoolFull()
    del full


async def with_state(name: str) -> object:
    return name


def pools_with_options(variable: ContextVar[str]) -> None:
    aioipc.Pool(1, initializer=with_state, initargs=("x",), finalizer=lambda state: None, contextvars=[variable])
    aioipc.Pool(4, min_workers=1, idle_timeout=5, threads=True, boot_timeout=60)
    aioipc.Pool(1, max_tasks=5, max_memory=1 << 30, max_age=60.0, jitter=0.2, max_pending=5, max_pending_bytes=1 << 20)


def pools_as_children(supervisor: aioipc.Supervisor) -> None:
    spec = aioipc.PoolSpec(4, initializer=with_state, initargs=("x",), max_age=60.0, capture=capture)
    assert_type(spec.workers, int | None)
    assert_type(spec.new_pool(), aioipc.Pool)
    child = aioipc.ChildSpec("jobs", spec, shutdown="brutal_kill")
    aioipc.SupervisorSpec([child])
    assert_type(supervisor.pool("jobs"), aioipc.Pool)
    assert_type(supervisor.children()[0].processes[0].pool, aioipc.PoolStatistics | None)
    aioipc.PoolSpec("4")  # type: ignore[arg-type]
    aioipc.PoolSpec(4, 4)  # type: ignore[call-arg]
    aioipc.Pool(4, 4)  # type: ignore[call-arg]


def capture(line: aioipc.OutputLine) -> None:
    assert_type((line.slot, line.pid, line.text), tuple[int, int, str])
    assert_type(line.stream, Literal["stdout", "stderr"])


def capturing_pools(lines: list[aioipc.OutputLine]) -> None:
    aioipc.Pool(1, capture=capture)
    aioipc.Pool(1, capture=lines.append, logs=False)
    aioipc.Pool(1, capture=True)
    aioipc.Pool(1, capture=print)
    aioipc.Pool(1, capture="yes")  # type: ignore[arg-type]


def statistics(pool: aioipc.Pool) -> None:
    assert_type(pool.statistics(), aioipc.PoolStatistics)
    assert_type(pool.statistics().workers[0], aioipc.WorkerStatistics)


async def use_executor(pool: aioipc.Pool) -> None:
    assert_type(pool.executor, aioipc.PoolExecutor)
    assert_type(pool.executor.submit(count_words, path=Path("a")), Future[int])
    assert_type(pool.executor.submit(fetch, "url", retries=3).result(), bytes)
    assert_type(list(pool.executor.map(count_words, [Path("a")])), list[int])
    assert_type(await asyncio.get_running_loop().run_in_executor(pool.executor, count_words, Path("a")), int)


async def submit_wrongly(executor: aioipc.PoolExecutor) -> None:
    executor.submit(count_words, 1)  # type: ignore[call-overload]


async def main(name: str) -> int:
    async with aioipc.Pool(workers=4, concurrency=16) as pool:
        assert_type(pool, aioipc.Pool)
        return await pool.run(len, name)


def program() -> None:
    assert_type(aioipc.run(main, "x"), int)
    assert_type(aioipc.run(main("x")), int)


async def pipe() -> None:
    reader, writer = aioipc.create_pipe(capacity=1 << 20)
    assert_type(reader, aioipc.PipeReceiveStream)
    assert_type(writer, aioipc.PipeSendStream)
    async with reader, writer:
        await writer.send(b"hello")
        assert_type(await reader.receive(), bytes)
        async for chunk in reader:
            assert_type(chunk, bytes)


async def fifo(path: Path) -> None:
    async with await aioipc.open_fifo_reader(path, create=True, persistent=True) as reader:
        assert_type(reader, aioipc.FifoReceiveStream)
        assert_type(await reader.receive(), bytes)
        async for line in reader.lines(max_line=None):
            assert_type(line, str)
    async with await aioipc.open_fifo_writer(b"path") as writer:
        assert_type(writer, aioipc.FifoSendStream)
        assert_type(writer.send_nowait(b"x"), int)


async def posix_objects() -> None:
    async with aioipc.PosixMessageQueue.create("/jobs", max_messages=10, exist_ok=True) as queue:
        assert_type(queue, aioipc.PosixMessageQueue)
        await queue.send(b"x", priority=5)
        message = await queue.receive()
        assert_type(message, aioipc.PosixMessage)
        assert_type(message.body, bytes)
        assert_type(message.priority, int)
        async for each in queue:
            assert_type(each, aioipc.PosixMessage)
        assert_type(queue.statistics(), aioipc.PosixQueueStatistics)
        await queue.send("text")  # type: ignore[arg-type]
    aioipc.PosixMessageQueue.open("/jobs", access="rw")  # type: ignore[arg-type]
    async with aioipc.PosixSemaphore.create("/slots", 4) as slots, slots.held():
        assert_type(slots.value, int)
        assert_type(slots.statistics(), aioipc.PosixSemaphoreStatistics)


async def shared_memory(lock: asyncio.Lock, slots: aioipc.PosixSemaphore) -> None:
    with aioipc.SharedMemory.create(1 << 20, name="/x") as memory:
        assert_type(memory, aioipc.SharedMemory)
        assert_type(memory.buffer, memoryview)
        assert_type(memory.statistics(), aioipc.SharedMemoryStatistics)
    async with aioipc.SysVSharedMemory.create(None, 100) as segment:
        assert_type(segment.statistics().attached, int)
        assert_type(aioipc.SysVSharedMemory.open(id=segment.id).statistics(), aioipc.SysVSharedMemoryStatistics)
    guarded = aioipc.GuardedMemory(segment, lock)
    async with guarded.read() as view:
        assert_type(view, memoryview)
    async with aioipc.GuardedMemory(memory, slots.held).write(repair=True) as view:
        view[0] = 1


async def sockets(path: Path) -> None:
    left, right = aioipc.create_socketpair()
    assert_type(left, aioipc.SocketStream)
    assert_type(await right.receive(), bytes)
    one, _ = aioipc.create_socketpair("packets")
    assert_type(one, aioipc.PacketSocket)
    await one.send(b"x", descriptors=[0])
    assert_type(await one.receive_descriptors(), tuple[bytes, list[int]])
    assert_type(one.peer, aioipc.PeerCredentials)
    assert_type(one.statistics(), aioipc.SocketStatistics)
    async with aioipc.listen_unix(path, "packets") as listener:
        assert_type(listener, aioipc.Listener[aioipc.PacketSocket])
        async for connection in listener:
            assert_type(connection, aioipc.PacketSocket)
    assert_type(await aioipc.connect_unix(path), aioipc.SocketStream)
    assert_type(await aioipc.connect_unix(path, "packets"), aioipc.PacketSocket)
    async with await aioipc.listen_tcp("localhost", 0) as tcp:
        assert_type(await tcp.accept(), aioipc.SocketStream)
    async with aioipc.open_datagram_socket(path) as datagrams:
        assert_type(datagrams, aioipc.DatagramSocket)
        message = await datagrams.receive()
        assert_type(message, aioipc.Datagram)
        assert_type(message.sender, str | None)
    aioipc.create_socketpair("datagram")  # type: ignore[call-overload]


async def upper(receive: aioipc.PipeReceiveStream, send: aioipc.PipeSendStream) -> None:
    await send.send((await receive.receive()).upper())


async def pipeline(path: Path) -> None:
    async with await aioipc.open_pipeline(["cat", path], upper, [b"sort"]) as running:
        assert_type(running, aioipc.Pipeline)
        assert_type(running.stdin, aioipc.PipeSendStream | None)
        assert_type(running.stdout, aioipc.PipeReceiveStream)
        assert_type(await running.wait(), tuple[int, ...])
    assert_type(running.returncodes, tuple[int | None, ...])
    done = await aioipc.run_pipeline(["sort"], ["uniq", "-c"], input=b"data", check=True)
    assert_type(done.stdout, bytes)
    assert_type(done.returncodes, tuple[int, ...])


async def shutdown() -> None:
    async with aioipc.graceful_shutdown(timeout=25) as scope:
        assert_type(scope, aioipc.GracefulShutdown)
        await scope.requested()


async def signals() -> None:
    with aioipc.open_signal_receiver(signal.SIGHUP, signal.SIGUSR1) as receiver:
        assert_type(receiver, aioipc.SignalReceiver[signal.Signals])
        async for signum in receiver:
            assert_type(signum, signal.Signals)
    async with aioipc.open_signal_receiver(signal.SIGRTMIN + 1, values=True) as infos:
        info = await infos.receive()
        assert_type(info, aioipc.SignalInfo)
        assert_type(info.value, int | None)
    async with aioipc.SignalRunbook({signal.SIGHUP: signals, signal.SIGUSR1: lambda: None}) as runbook:
        assert_type(runbook, aioipc.SignalRunbook)


def send_signals(popen: subprocess.Popen[bytes], process: asyncio.subprocess.Process) -> None:
    aioipc.send_signal(1, signal.SIGUSR1)
    aioipc.send_signal(popen, signal.SIGUSR1, value=7)
    aioipc.send_signal(process, signal.SIGUSR1)
    aioipc.send_signal(1, signal.SIGUSR1, thread=threading.current_thread())
    aioipc.send_signal("1", signal.SIGUSR1)  # type: ignore[arg-type]


def errors(crash: aioipc.WorkerCrashed) -> None:
    assert_type(crash.exitcode, int | None)
    assert_type(crash.oom, bool)
    base: aioipc.IPCError = crash
    timeout: TimeoutError = aioipc.TaskTimeout()
    removed: OSError = aioipc.ObjectRemovedError()
    del base, timeout, removed


class TestPipe(ByteStreamConformance):
    atomic_size = 4096

    async def make_pair(self) -> tuple[aioipc.PipeSendStream, aioipc.PipeReceiveStream]:
        return aioipc.create_pipe()[::-1]


class TestMemoryChannel(ChannelConformance):
    shared = True

    async def make_pair(self) -> tuple[MemoryObjectSendStream[int], MemoryObjectReceiveStream[int]]:
        return anyio.create_memory_object_stream[int](1)

    def make_item(self, number: int) -> int:
        return number


async def kill(kill_points: KillPoints) -> None:
    assert_type(kill_points.arm("mid-task", "kill", held=True), KillPoint)
    assert_type(eventually(lambda: "x", timeout=1), str)
    assert_type(await eventually_async(lambda: 1, 1, "a number"), int)
    assert_type(await eventually_async(lambda: main("x")), int)


async def sysv_queues(path: Path) -> None:
    key = aioipc.ftok(path, 1)
    assert_type(key, int)
    aioipc.ftok("queuekey", 1024, allow_zero=True)
    async with aioipc.SysVMessageQueue.create(key, exist_ok=True, remove=False, mode=0o660, max_bytes=1024) as queue:
        assert_type(queue, aioipc.SysVMessageQueue)
        await queue.send(b"hello", type=123)
        queue.send_nowait(bytearray(b"hello"))
        message = await queue.receive(type=123)
        assert_type(message, aioipc.SysVMessage)
        assert_type(message.body, bytes)
        assert_type(message.type, int)
        assert_type(await queue.receive(-5, max_size=100), aioipc.SysVMessage)
        assert_type(queue.receive_nowait(except_type=3), aioipc.SysVMessage)
        assert_type(await queue.receive_many(10), list[aioipc.SysVMessage])
        assert_type(queue.receive_many_nowait(), list[aioipc.SysVMessage])
        assert_type(queue.peek(), aioipc.SysVMessage)
        async for message in queue:
            assert_type(message, aioipc.SysVMessage)
        queue.set_max_bytes(4096)
        assert_type(queue.statistics(), aioipc.SysVQueueStatistics)
        assert_type((queue.id, queue.key), tuple[int, int | None])
        queue.remove()
    aioipc.SysVMessageQueue.open(key).close()
    aioipc.SysVMessageQueue.open(id=5).close()
    await queue.send("text")  # type: ignore[arg-type]
    gone: OSError = aioipc.ObjectRemovedError()
    broken: anyio.BrokenResourceError = aioipc.ObjectRemovedError()
    del gone, broken


async def semaphore_sets() -> None:
    async with aioipc.SysVSemaphoreSet.create(None, [100, 1]) as bank:
        assert_type(bank, aioipc.SysVSemaphoreSet)
        await bank.acquire(80, index=0)
        bank.acquire_nowait(undo=False)
        bank.release(30, index=0)
        await bank.operate([(0, -50), (1, -1)], undo=False)
        bank.operate_nowait([(0, 50)])
        await bank.wait_zero(1)
        async with bank.held(20, index=0) as nothing:
            assert_type(nothing, None)
        assert_type(bank.value(), int)
        assert_type(bank.values(), tuple[int, ...])
        bank.set_value(5, 1)
        bank.set_values([1, 2])
        assert_type(bank.statistics(), aioipc.SysVSemaphoreStatistics)
        assert_type(len(bank), int)


def objects(folder: Path) -> None:
    found = aioipc.inventory(["sysv-queue", "fifo"], folders=[folder, "/tmp"])
    assert_type(found, aioipc.Inventory)
    assert_type(found.notes, tuple[str, ...])
    assert_type(found.find("/jobs"), tuple[aioipc.KernelObject, ...])
    for each in found:
        assert_type(each, aioipc.KernelObject)
        assert_type((each.name, each.id, each.user, each.label), tuple[str | None, int | None, str | None, str])
        assert_type(each.openers, tuple[aioipc.ObjectOpener, ...])
        assert_type(each.semaphores, tuple[aioipc.SemaphoreState, ...] | None)
        kind: aioipc.ObjectKind = each.kind
        assert_type((each.in_use, each.orphan), tuple[bool, bool])
        del kind
    aioipc.inventory(["queue"])  # type: ignore[list-item]


def system_limits() -> None:
    found = aioipc.limits()
    assert_type(found, dict[str, aioipc.Limit])
    assert_type(found["kernel.msgmax"].value, float | None)
    assert_type(found["/dev/shm"].share, float | None)


async def file_locks(path: Path) -> None:
    async with aioipc.FileLock.open(path, kind="ofd", start=10, length=5) as lock:
        assert_type(lock, aioipc.FileLock)
        await lock.acquire(shared=True)
        lock.release()
        async with lock.held():
            pass
        assert_type(lock.statistics(), aioipc.FileLockStatistics)
        assert_type(lock.statistics().held, Literal["exclusive", "shared"] | None)
    aioipc.FileLock.open(path, kind="lockf")  # type: ignore[arg-type]


def owner_records() -> None:
    results = aioipc.remove_orphans(kinds=["fifo", "posix-queue"], older_than=60, dry_run=True)
    assert_type(results, list[aioipc.OrphanResult])
    assert_type(results[0].outcome, Literal["removed", "removable", "gone", "kept", "failed"])
    assert_type(results[0].record, aioipc.OwnerRecord)
    assert_type(results[0].record.is_alive(), bool)
    assert_type(results[0].record.kind, aioipc.ObjectKind)
    aioipc.remove_orphans(kinds=["pipe"])  # type: ignore[list-item]


async def mapped_files(path: Path) -> None:
    with aioipc.MappedFile.create(path, 100, exist_ok=True) as file:
        assert_type(file, aioipc.MappedFile)
        assert_type(file.buffer, memoryview)
        file.resize(200)
        await file.aflush()
        assert_type(file.statistics(), aioipc.MappedFileStatistics)


async def record_logs(path: Path) -> None:
    async with aioipc.RecordLog.open(path, fsync=0.5, max_bytes=1 << 20) as log:
        assert_type(await log.append(b"x"), int)
        assert_type(await log.append_many([b"x", bytearray(b"y")]), list[int])
        reader = log.follow("oldest", on_lost="skip")
        assert_type(reader, aioipc.LogReader)
        async for record in log.read(5):
            assert_type(record, aioipc.LogRecord)
            assert_type((record.position, record.body, record.end), tuple[int, bytes, int])
        assert_type(reader.statistics(), aioipc.LogReaderStatistics)
        assert_type(log.statistics(), aioipc.RecordLogStatistics)
    aioipc.RecordLog.open(path, fsync="sometimes")  # type: ignore[arg-type]


def masters(path: Path) -> None:
    spec = aioipc.read_config(path)
    assert_type(spec, aioipc.SupervisorSpec)
    assert_type(aioipc.supervise(spec, shutdown=5, control=False, log_format="json"), int)
    aioipc.supervise(lambda: spec, title="shop", pid_file=path, control=path, log_format=None)
    aioipc.supervise(spec, log_format="xml")  # type: ignore[arg-type]
    assert_type(aioipc.find_masters(), dict[int, str])
    assert_type(aioipc.default_workers(), tuple[int, str])
    with aioipc.ControlClient(path) as client:
        assert_type(client, aioipc.ControlClient)
        assert_type(client.request("scale", name="web", replicas=4, timeout=10), Any)
        assert_type(client.follow(10), Iterator[dict[str, Any]])
        assert_type(client.wait_ended(timeout=10), None)


async def supervisors(spec: aioipc.ChildSpec) -> None:
    aioipc.ChildSpec("db", ["postgres"], stop_signal="INT", stop_group=False)
    async with aioipc.Supervisor(strategy="rest_for_one", intensity=None) as supervisor:
        assert_type(supervisor, aioipc.Supervisor)
        await supervisor.start_child(spec)
        await supervisor.scale("web", 2)
        await supervisor.reload(aioipc.SupervisorSpec([spec]))
        assert_type(supervisor.signal_child("web", 1), int)
        (child,) = supervisor.children()
        assert_type(child, aioipc.ChildStatistics)
        assert_type(child.processes, tuple[aioipc.ReplicaStatistics, ...])
        assert_type(child.processes[0].role, Literal["serving", "replacement", "leaving"])
        assert_type(supervisor.statistics(), aioipc.SupervisorStatistics)
        await supervisor.shutdown(5, quick=True)
        await supervisor.wait()
    aioipc.Supervisor(strategy="two_for_one")  # type: ignore[arg-type]
