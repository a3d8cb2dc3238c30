"""The other process of a conversation: ``python -m benchmarks.far_end PEER TASK SIZE COUNTS ADDRESS``.

`running` starts it. For each of the counts (``1000,20000``) it does the task, one of `TASKS`, with so many messages;
when it has taken that many, it says so with one message of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

from benchmarks import channel_peers
from benchmarks.channel_peers.base import ChannelPeer

_COMMAND = (sys.executable, "-W", "ignore", "-m", "benchmarks.far_end")


async def answer(peer: ChannelPeer, count: int, size: int) -> None:
    await peer.answer(count, bytes(size))


async def drain(peer: ChannelPeer, count: int, size: int) -> None:
    await peer.drain(count, size)
    await peer.pour(1, bytes(size))


async def swallow(peer: ChannelPeer, count: int, size: int) -> None:
    await peer.swallow(count, size)
    await peer.pour(1, bytes(size))


TASKS: dict[str, Callable[[ChannelPeer, int, int], Awaitable[None]]] = {
    "answer": answer,
    "drain": drain,
    "swallow": swallow,
}


async def start(peer: ChannelPeer, task: str, size: int, *counts: int) -> None:
    """Start the other process, and meet it. It ends by itself; where it fails, so does this one."""
    invitation = await peer.invite()
    order = [peer.name, task, str(size), ",".join(map(str, counts)), invitation.address]
    process = subprocess.Popen([*_COMMAND, *order], pass_fds=invitation.fds)  # noqa: ASYNC220
    for fd in invitation.fds:
        os.close(fd)
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    await peer.meet()


def _watch(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        os._exit(1)  # its message is on standard error


async def main(peer: ChannelPeer, task: str, size: int, counts: list[int], address: str) -> None:
    await peer.join(address)
    for count in counts:
        await TASKS[task](peer, count, size)
    await peer.leave()


if __name__ == "__main__":
    _, name, task_name, size_text, counts_text, place = sys.argv
    entry = channel_peers.ENTRIES[name]
    with entry.runner() as runner:
        runner.run(main(entry.make(), task_name, int(size_text), [int(each) for each in counts_text.split(",")], place))
        os._exit(0)
