"""The pools that are compared, one class each."""

from __future__ import annotations

from benchmarks.entry import Entry

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("aioipc", "peers.aioipc_pool", "AioipcPool"),
        Entry("aioipc-spin", "peers.aioipc_pool", "SpinningAioipcPool", on_request=True),
        Entry("cf-fork", "peers.futures", "ForkExecutor"),
        Entry("cf-forkserver", "peers.futures", "ForkserverExecutor"),
        Entry("mp.Pool", "peers.multiprocessing_pool", "MultiprocessingPool"),
        Entry("loky", "peers.loky_executor", "LokyExecutor", "loky"),
        Entry("pebble", "peers.pebble_pool", "PebblePool", "pebble"),
        Entry("mpire", "peers.mpire_pool", "MpirePool", "mpire"),
        Entry("aiomultiprocess", "peers.aiomultiprocess_pool", "AiomultiprocessPool", "aiomultiprocess"),
        Entry("anyio", "peers.anyio_process", "AnyioProcess", "anyio"),
    )
}
