"""Several processes append to one log, are killed half-way, and others follow: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from aioipc import LogReader, RecordLog
from aioipc.testing.conformance.storm import Storm
from tests.harness.processes import eventually_async
from tests.harness.scripts import Script, run_script, running_script

WRITER = """
    import asyncio, os, random, signal, sys, aioipc

    path, acks, name, count, seed, death = sys.argv[1:]
    chance = random.Random(seed)
    acks = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    fatal = chance.randrange(int(count) // 4, int(count)) if death == "pwrite" else 0

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def arm(function, before):
        def fatal_call(*arguments, **options):
            before or function(*arguments, **options)
            die()
        return fatal_call

    def half(fd, data, at, pwrite=os.pwrite):
        pwrite(fd, data[: chance.randrange(1, len(data))], at)
        die()

    async def main():
        async with aioipc.RecordLog.open(path, max_bytes=300_000, keep=1000) as log:
            for number in range(int(count)):
                if fatal and number == fatal:
                    os.pwrite = half
                elif death.split(":")[0] in ("link", "rename") and number == 10:
                    kind, when = death.split(":")
                    setattr(os, kind, arm(getattr(os, kind), when == "before"))
                body = f"{name} {number} ".encode() + bytes(chance.choice((0, 10, 3000, 70_000)))
                await log.append(body)
                os.write(acks, f"{name} {number}\\n".encode())
    asyncio.run(main())
"""

DEATHS = ["pwrite", "link:before", "link:after", "rename:before", "rename:after", "kill", "pwrite", "kill", "none"]


class Ledger:
    """What came out of the log: of each writer the numbers in order, each once."""

    def __init__(self) -> None:
        self.seen: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, body: bytes) -> None:
        name, number, _ = body.split(b" ", 2)
        self.seen[name.decode()].append(int(number))

    def check(self, acks: Path) -> None:
        acknowledged: defaultdict[str, int] = defaultdict(int)
        for line in acks.read_text().splitlines():
            acknowledged[line.split()[0]] += 1
        for name, numbers in self.seen.items():
            assert numbers == list(range(len(numbers))), name
        for name, count in acknowledged.items():
            assert len(self.seen[name]) in (count, count + 1), f"{name}: {count} acknowledged, {len(self.seen[name])}"


async def follow(reader: LogReader, ledger: Ledger) -> None:
    async for record in reader:
        ledger.add(record.body)


async def test_writers_that_are_killed_at_any_point(tmp_path: Path) -> None:
    """Half-way through a write, before and after each step of a rotation, and anywhere; while others go on."""
    path, acks = tmp_path / "log", tmp_path / "acks"
    chance = random.Random()
    live, late, again = Ledger(), Ledger(), Ledger()
    acks.touch()
    async with asyncio.timeout(58), RecordLog.open(path, max_bytes=300_000, keep=1000) as log:
        following = asyncio.create_task(follow(log.follow("oldest"), live))
        with ExitStack() as stack:
            writers: list[tuple[Script, str]] = []
            for number, death in enumerate(DEATHS):
                arguments = [str(path), str(acks), f"writer{number}", "80", str(chance.random()), death]
                writers.append((stack.enter_context(running_script(WRITER, *arguments)), death))
                if number == 4:
                    await eventually_async(lambda: len(live.seen) > 2, 30)
                    slow = log.follow("oldest")
                    stack.callback(slow.close)
            while any(script.popen.poll() is None for script, _ in writers):
                for script, death in writers:
                    if death == "kill" and f"writer{DEATHS.index('kill')} 2" in acks.read_text():
                        script.send_signal(signal.SIGKILL)
                await asyncio.sleep(chance.random() * 0.02)
            codes = {death: script.popen.returncode for script, death in writers}
            assert codes["none"] == 0, writers[-1][0].stderr
            assert {codes[death] for death in ("pwrite", "link:before", "rename:after")} == {-signal.SIGKILL}
            await log.append(b"end 0 ")
            await eventually_async(lambda: live.seen["end"] or following.done(), 30)
            assert not following.done(), following.exception()
            while not late.seen["end"]:
                late.add((await slow.receive()).body)
        following.cancel()
        await follow(log.read(), again)
    assert live.seen == late.seen == again.seen
    live.check(acks)


STORM = """
    import asyncio, sys, aioipc
    from aioipc.testing.conformance.storm import Storm

    async def main():
        path, name, count = sys.argv[1:]
        storm, over = Storm(5), asyncio.Event()
        async with aioipc.RecordLog.open(path, max_bytes=20_000, keep=1000) as log:
            async def work(task):
                for number in range(int(count)):
                    body = f"{name}{task} {number} ".encode()
                    await storm.until_done(lambda: log.append(body))
            async def work_all():
                await asyncio.gather(*(work(task) for task in range(4)))
                over.set()
            await asyncio.gather(work_all(), storm.blow(over))
        print("cancelled", storm.cancelled)
    aioipc.run(main)
"""


async def test_cancelled_appends_and_receives(tmp_path: Path) -> None:
    """Two processes cancel what they append, and here what is received: each record is there once, and in order."""
    path, count = tmp_path / "log", 300
    ledger, storm, over = Ledger(), Storm(6), asyncio.Event()
    async with asyncio.timeout(58), RecordLog.open(path) as log:
        reader = log.follow("oldest")

        async def receive() -> None:
            for _ in range(2 * 4 * count):
                ledger.add((await storm.until_done(reader.receive)).body)
            over.set()

        with ExitStack() as stack:
            scripts = [stack.enter_context(running_script(STORM, str(path), name, str(count))) for name in "ab"]
            await asyncio.gather(receive(), storm.blow(over))
            for script in scripts:
                await eventually_async(lambda script=script: script.popen.poll() is not None, 30)  # type: ignore[misc]
                assert int(script.wait().check().stdout.split()[1]) > 100
        assert reader.statistics().files > 1
        assert reader.position == log.end
    assert ledger.seen == {f"{name}{task}": list(range(count)) for name in "ab" for task in range(4)}


FORKER = """
    import asyncio, os, sys, aioipc
    async def main():
        log = aioipc.RecordLog.open(sys.argv[1])
        reader = log.follow()
        await log.append(b"1")
        assert (await reader.receive()).body == b"1"
        waiting = asyncio.create_task(reader.receive())
        await asyncio.sleep(0)
        if not (child := os.fork()):
            try:
                log.append_nowait(b"child")
            except aioipc.ClosedResourceError:
                os.write(1, b"closed in the child\\n")
            log.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await log.append(b"2")
        assert (await waiting).body == b"2"
        await log.aclose()
    asyncio.run(main())
"""


def test_a_forked_child_leaves_it_to_its_parent(tmp_path: Path) -> None:
    done = run_script(FORKER, str(tmp_path / "log"), python=("-W", "ignore")).check()
    assert done.stdout == "closed in the child\n"
