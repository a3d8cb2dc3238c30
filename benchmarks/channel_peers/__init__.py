"""The ways to another process that are compared, one class each; each is used on both sides."""

from __future__ import annotations

from benchmarks.entry import Entry

_SEMAPHORE, _MEMORY = ("semaphore",), ("copy",)

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("aioipc", "channel_peers.aioipc_pipe", "AioipcPipe"),
        Entry("aioipc-fifo", "channel_peers.aioipc_fifo", "AioipcFifo"),
        Entry("aioipc-socketpair", "channel_peers.aioipc_sockets", "AioipcSocketPair"),
        Entry("aioipc-unix", "channel_peers.aioipc_sockets", "AioipcUnixStream"),
        Entry("aioipc-packets", "channel_peers.aioipc_sockets", "AioipcPackets"),
        Entry("aioipc-datagrams", "channel_peers.aioipc_sockets", "AioipcDatagrams"),
        Entry("aioipc-posix-queue", "channel_peers.aioipc_queues", "AioipcPosixQueue"),
        Entry("aioipc-sysv-queue", "channel_peers.aioipc_queues", "AioipcSysVQueue"),
        Entry("aioipc-asyncio", "channel_peers.aioipc_pipe", "AioipcPipe", on_asyncio=True),
        Entry("uvloop-streams", "channel_peers.asyncio_sockets", "AsyncioSockets", "uvloop"),
        Entry("uvloop-pipes", "channel_peers.asyncio_pipes", "AsyncioPipes", "uvloop"),
        Entry("anyio", "channel_peers.anyio_sockets", "AnyioSockets", "anyio"),
        Entry("pyzmq", "channel_peers.pyzmq_sockets", "PyzmqSockets", "pyzmq"),
        Entry("pynng", "channel_peers.pynng_sockets", "PynngSockets", "pynng"),
        Entry("aioprocessing", "channel_peers.aioprocessing_pipe", "AioprocessingPipe", "aioprocessing"),
        Entry("sysv_ipc-thread", "channel_peers.sysv_ipc_threads", "SysvIpcThreads", "sysv_ipc"),
        Entry("c-sysv-queue", "channel_peers.c_programs", "CSysVQueue", floor=True),
        Entry("aioipc-sysv-semaphore", "channel_peers.semaphores", "AioipcSysVSemaphore", only=_SEMAPHORE),
        Entry("aioipc-posix-semaphore", "channel_peers.semaphores", "AioipcPosixSemaphore", only=_SEMAPHORE),
        Entry("sysv_ipc-semaphore", "channel_peers.semaphores", "SysvIpcSemaphore", "sysv_ipc", only=_SEMAPHORE),
        Entry("posix_ipc-semaphore", "channel_peers.semaphores", "PosixIpcSemaphore", "posix_ipc", only=_SEMAPHORE),
        Entry("c-semaphore", "channel_peers.c_programs", "CSemaphore", floor=True, only=_SEMAPHORE),
        Entry("aioipc-memory", "channel_peers.memory", "AioipcMemory", only=_MEMORY),
        Entry("aioipc-sysv-memory", "channel_peers.memory", "AioipcSysVMemory", only=_MEMORY),
        Entry("multiprocessing-memory", "channel_peers.memory", "MultiprocessingMemory", only=_MEMORY),
        Entry("plain-memory", "channel_peers.memory", "PlainMemory", floor=True, only=_MEMORY),
        Entry("syscalls", "channel_peers.system_calls", "SystemCalls", floor=True),
    )
}
