"""The ways to another process that are compared, one class each; each is used on both sides."""

from __future__ import annotations

from benchmarks.entry import Entry

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("aioipc", "channel_peers.aioipc_pipe", "AioipcPipe"),
        Entry("aioipc-fifo", "channel_peers.aioipc_fifo", "AioipcFifo"),
        Entry("aioipc-asyncio", "channel_peers.aioipc_pipe", "AioipcPipe", on_asyncio=True),
        Entry("uvloop-streams", "channel_peers.asyncio_sockets", "AsyncioSockets", "uvloop"),
        Entry("uvloop-pipes", "channel_peers.asyncio_pipes", "AsyncioPipes", "uvloop"),
        Entry("anyio", "channel_peers.anyio_sockets", "AnyioSockets", "anyio"),
        Entry("pyzmq", "channel_peers.pyzmq_sockets", "PyzmqSockets", "pyzmq"),
        Entry("pynng", "channel_peers.pynng_sockets", "PynngSockets", "pynng"),
        Entry("aioprocessing", "channel_peers.aioprocessing_pipe", "AioprocessingPipe", "aioprocessing"),
        Entry("sysv_ipc-thread", "channel_peers.sysv_ipc_threads", "SysvIpcThreads", "sysv_ipc"),
        Entry("syscalls", "channel_peers.system_calls", "SystemCalls", floor=True),
    )
}
