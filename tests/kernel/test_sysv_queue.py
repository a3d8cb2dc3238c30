"""System V message queues on the real kernel."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aioipc import (
    ClosedResourceError,
    IPCError,
    ObjectRemovedError,
    SysVMessage,
    SysVMessageQueue,
    UnsupportedPlatform,
    WouldBlock,
)
from aioipc._sys import sysv, sysv_messages
from aioipc.kernel.sysv_object import KEPT
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.kernel_limits import set_limit as set_limit
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

KEY = 0x41494F10


def exists(id: int) -> bool:
    try:
        sysv_messages.status(id)
    except OSError:
        return False
    return True


def peek_or_skip(queue: SysVMessageQueue, index: int = 0) -> SysVMessage:
    try:
        return queue.peek(index)
    except UnsupportedPlatform as error:
        pytest.skip(str(error))


class TestMaking:
    def test_private_queue_is_removed_at_the_end(self) -> None:
        with_key = SysVMessageQueue.create()
        assert with_key.key is None
        assert exists(with_key.id)
        with_key.close()
        assert not exists(with_key.id)
        with_key.close()

    def test_made_with_a_key_and_found_by_it_and_by_its_id(self) -> None:
        made = SysVMessageQueue.create(KEY)
        by_key, by_id = SysVMessageQueue.open(KEY), SysVMessageQueue.open(id=made.id)
        assert made.id == by_key.id == by_id.id
        assert made.key == by_key.key == by_id.key == KEY
        by_key.close()
        by_id.close()
        assert exists(made.id)
        made.close()
        assert not exists(made.id)

    def test_one_that_is_there(self) -> None:
        made = SysVMessageQueue.create(KEY)
        with pytest.raises(FileExistsError, match=r"0x41494f10 already; exist_ok=True") as caught:
            SysVMessageQueue.create(KEY)
        assert caught.value.errno == errno.EEXIST
        found = SysVMessageQueue.create(KEY, exist_ok=True)
        assert found.id == made.id
        found.close()
        assert exists(made.id), "it was removed by one who has not made it"
        made.close()

    def test_without_removal_it_outlives_its_maker(self) -> None:
        first = SysVMessageQueue.create(KEY, exist_ok=True, remove=False)
        first.send_nowait(b"kept")
        first.close()
        second = SysVMessageQueue.create(KEY, exist_ok=True, remove=False)
        assert second.receive_nowait().body == b"kept"
        second.remove()
        second.remove()
        second.close()

    def test_unsigned_and_signed_keys_are_the_same(self) -> None:
        with_sign = SysVMessageQueue.create(-5)
        without = SysVMessageQueue.open((1 << 32) - 5)
        assert without.id == with_sign.id
        assert without.key == -5
        without.close()
        with_sign.close()

    @pytest.mark.parametrize("mode", [0o600, 0o666, 0o400, 0])
    def test_mode_and_owner(self, mode: int) -> None:
        queue = SysVMessageQueue.create(mode=mode)
        if mode & 0o400 or os.geteuid() == 0:
            found = queue.statistics()
            assert (found.mode, found.owner, found.group) == (mode, os.geteuid(), os.getegid())
        queue.close()

    def test_an_object_that_nobody_closed(self) -> None:
        ids = []

        def forget() -> None:
            ids.append(SysVMessageQueue.create().id)
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed <SysVMessageQueue System V message queue"):
            forget()
        assert not exists(ids[0])

    def test_a_child_does_not_remove_the_queue_of_its_parent(self) -> None:
        source = """
            import os, aioipc
            queue = aioipc.SysVMessageQueue.create()
            if (pid := os.fork()) == 0:
                queue.close()
                os._exit(0)
            os.waitpid(pid, 0)
            queue.send_nowait(b"")
            queue.close()
        """
        run_script(source).check()

    def test_nothing_is_left_where_making_fails_half_way(self) -> None:
        if os.geteuid() == 0 and _may_exceed_limits():
            pytest.skip("this process may exceed kernel.msgmnb")
        with pytest.raises(PermissionError, match=r"kernel\.msgmnb"):
            SysVMessageQueue.create(KEY, max_bytes=(1 << 31) - 1)
        with pytest.raises(FileNotFoundError):
            SysVMessageQueue.open(KEY)


def _may_exceed_limits() -> bool:
    status = dict(line.partition(":\t")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> 24 & 1)  # CAP_SYS_RESOURCE


class TestTypes:
    """What ``msgrcv(2)`` says about its ``msgtyp``."""

    async def receive_all(self, **pattern: int) -> list[int]:
        async with SysVMessageQueue.create() as queue:
            for type in (5, 2, 7, 2, 1, 9):
                await queue.send(b"", type=type)
            return [message.type for message in await queue.receive_many(100, **pattern)]

    async def test_any(self) -> None:
        assert await self.receive_all() == [5, 2, 7, 2, 1, 9]

    async def test_exactly_one(self) -> None:
        assert await self.receive_all(type=2) == [2, 2]

    async def test_lowest_up_to(self) -> None:
        assert await self.receive_all(type=-5) == [1, 2, 2, 5]

    async def test_any_but(self) -> None:
        assert await self.receive_all(except_type=2) == [5, 7, 1, 9]

    async def test_each_waits_for_its_own(self) -> None:
        async with SysVMessageQueue.create() as queue:
            exact = asyncio.create_task(queue.receive(5))
            lowest = asyncio.create_task(queue.receive(-3))
            other = asyncio.create_task(queue.receive(except_type=5))
            await eventually_async(lambda: queue.statistics().receivers_waiting == 3)
            await queue.send(b"a", type=9)
            assert await asyncio.wait_for(other, 30) == (b"a", 9)
            await queue.send(b"b", type=5)
            assert await asyncio.wait_for(exact, 30) == (b"b", 5)
            assert not lowest.done()
            await queue.send(b"c", type=3)
            assert await asyncio.wait_for(lowest, 30) == (b"c", 3)

    async def test_the_largest_type(self) -> None:
        async with SysVMessageQueue.create() as queue:
            await queue.send(b"x", type=(1 << 63) - 1)
            assert (await queue.receive((1 << 63) - 1)).type == (1 << 63) - 1

    async def test_types_without_number_leave_nothing_behind(self) -> None:
        """A queue for answers, say, where each question has a type of its own."""
        async with SysVMessageQueue.create() as queue:
            for type in range(1, 4 * KEPT):
                with pytest.raises(WouldBlock):
                    queue.receive_nowait(type)
            task = asyncio.create_task(queue.receive(1))
            await eventually_async(lambda: queue.statistics().receivers_waiting == 1)
            for type in range(2, 4 * KEPT):
                with anyio.move_on_after(0):
                    await queue.receive(type)
            assert len(queue._receivers._places) <= KEPT + 1
            await queue.send(b"for the one that waits")
            assert (await asyncio.wait_for(task, 30)).body == b"for the one that waits"


class TestMessages:
    async def test_iteration(self) -> None:
        async with SysVMessageQueue.create() as queue:
            for number in range(3):
                await queue.send(bytes([number]), type=number + 1)
            found = []
            async for body, type in queue:
                found.append((body, type))
                if len(found) == 3:
                    break
            assert found == [(b"\0", 1), (b"\1", 2), (b"\2", 3)]

    @pytest.mark.parametrize("size", [0, 1, 7, 8, 1023, 4096, 8192])
    async def test_any_size(self, size: int) -> None:
        body = os.urandom(size)
        async with SysVMessageQueue.create() as queue:
            await queue.send(body, type=3)
            assert await queue.receive() == (body, 3)

    async def test_sizes_up_to_a_msgmax_that_was_raised(self, set_limit: Callable[[str, str], None]) -> None:
        set_limit("msgmax", str(1 << 20))
        set_limit("msgmnb", str(1 << 22))
        body = os.urandom(1 << 20)
        async with SysVMessageQueue.create() as queue:
            await queue.send(body)
            assert peek_or_skip(queue).body == body
            assert (await queue.receive()).body == body
            await queue.send(body)
            set_limit("msgmax", "8192")  # it is there already
            assert (await queue.receive()).body == body

    @pytest.mark.parametrize("body", [bytearray(b"abc"), memoryview(b"xabcx")[1:4], memoryview(b"abc").cast("c")])
    async def test_what_else_has_bytes(self, body: bytearray | memoryview) -> None:
        async with SysVMessageQueue.create() as queue:
            await queue.send(body)
            queue.send_nowait(body)
            assert [message.body for message in await queue.receive_many()] == [b"abc", b"abc"]

    @pytest.mark.parametrize("type", [0, 5, -9])
    async def test_one_without_a_body_reaches_who_waits(self, type: int) -> None:
        async with SysVMessageQueue.create() as queue:
            for _ in range(5):
                task = asyncio.create_task(queue.receive(type))
                await eventually_async(lambda: queue.statistics().receivers_waiting == 1)
                await queue.send(b"", type=5)
                assert await asyncio.wait_for(task, 30) == (b"", 5)

    async def test_one_without_a_body_goes_back_when_nobody_wants_it_any_more(self) -> None:
        async with SysVMessageQueue.create() as queue:
            task = asyncio.create_task(queue.receive(5))
            await eventually_async(lambda: queue.statistics().receivers_waiting == 1)
            task.cancel()
            await asyncio.wait([task])
            await queue.send(b"", type=5)  # the thread still waits, and takes it
            await eventually_async(lambda: queue.statistics().messages == 1)
            assert await queue.receive(-9) == (b"", 5)

    async def test_one_without_a_body_goes_back_at_the_end(self) -> None:
        made = SysVMessageQueue.create()
        for _ in range(20):
            async with SysVMessageQueue.open(id=made.id) as queue:
                task = asyncio.create_task(queue.receive(5))
                await eventually_async(lambda queue=queue: queue.statistics().receivers_waiting == 1)  # type: ignore[misc]
                task.cancel()
                made.send_nowait(b"", type=5)
            assert made.receive_nowait() == (b"", 5)
        made.close()

    async def test_longer_than_wanted_stays(self) -> None:
        async with SysVMessageQueue.create() as queue:
            await queue.send(b"12345")
            await queue.send(b"67")
            with pytest.raises(OSError, match="longer than max_size=4 bytes; it stays") as caught:
                await queue.receive(max_size=4)
            assert caught.value.errno == errno.E2BIG
            with pytest.raises(OSError, match="longer than max_size=0 bytes"):
                queue.receive_nowait(max_size=0)
            assert [message.body for message in await queue.receive_many(max_size=5)] == [b"12345", b"67"]

    async def test_longer_than_wanted_by_one_who_waits_leaves_it_to_the_next(self) -> None:
        async with SysVMessageQueue.create() as queue:
            first, second = (asyncio.create_task(queue.receive(max_size=size)) for size in (4, 5))
            await eventually_async(lambda: queue.statistics().receivers_waiting == 2)
            await queue.send(b"12345")
            with pytest.raises(OSError, match="longer"):
                await asyncio.wait_for(first, 30)
            assert (await asyncio.wait_for(second, 30)).body == b"12345"

    async def test_many_stop_before_one_that_is_too_long(self) -> None:
        async with SysVMessageQueue.create() as queue:
            for body in (b"1", b"2", b"345", b"6"):
                await queue.send(body)
            assert [message.body for message in await queue.receive_many(max_size=1)] == [b"1", b"2"]
            assert [message.body for message in await queue.receive_many(1)] == [b"345"]

    async def test_peeking_leaves_it_there(self) -> None:
        async with SysVMessageQueue.create() as queue:
            with pytest.raises(WouldBlock, match="no message at 0"):
                peek_or_skip(queue)
            await queue.send(b"first", type=4)
            await queue.send(b"", type=5)
            assert peek_or_skip(queue) == (b"first", 4)
            assert peek_or_skip(queue, 1) == (b"", 5)
            assert queue.statistics().messages == 2


class TestFullQueue:
    async def test_a_sender_waits_for_room(self) -> None:
        async with SysVMessageQueue.create(max_bytes=8) as queue:
            await queue.send(b"12345678")
            with pytest.raises(WouldBlock):
                queue.send_nowait(b"x")
            task = asyncio.create_task(queue.send(b"x"))
            await eventually_async(lambda: queue.statistics().senders_waiting == 1)
            with pytest.raises(WouldBlock, match="other tasks wait"):
                queue.send_nowait(b"")
            await queue.receive()
            await asyncio.wait_for(task, 30)
            assert queue.receive_nowait().body == b"x"

    async def test_room_that_another_process_makes(self) -> None:
        async with SysVMessageQueue.create(max_bytes=8) as queue:
            await queue.send(b"12345678")
            task = asyncio.create_task(queue.send(b"x"))
            await eventually_async(lambda: queue.statistics().senders_waiting == 1)
            assert sysv_messages.Room().receive(queue.id, 0) == (b"12345678", 1)
            await asyncio.wait_for(task, 30)

    async def test_room_that_a_larger_limit_makes(self) -> None:
        async with SysVMessageQueue.create(max_bytes=8) as queue:
            await queue.send(b"12345678")
            task = asyncio.create_task(queue.send(b"x"))
            await eventually_async(lambda: queue.statistics().senders_waiting == 1)
            queue.set_max_bytes(9)
            await asyncio.wait_for(task, 30)
            assert queue.statistics().max_bytes == 9

    async def test_senders_are_served_in_order(self) -> None:
        async with SysVMessageQueue.create(max_bytes=1) as queue:
            await queue.send(b"a")
            tasks = []
            for body in (b"b", b"c", b"d"):
                tasks.append(asyncio.create_task(queue.send(body)))
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                assert [(await queue.receive()).body for _ in range(4)] == [b"a", b"b", b"c", b"d"]
                await asyncio.gather(*tasks)

    async def test_messages_without_a_body_fill_it_too(self) -> None:
        """As many as it holds bytes."""
        async with SysVMessageQueue.create(max_bytes=3) as queue:
            for _ in range(3):
                queue.send_nowait(b"")
            with pytest.raises(WouldBlock):
                queue.send_nowait(b"")

    async def test_what_can_never_go_in_is_refused(self) -> None:
        async with SysVMessageQueue.create(max_bytes=8) as queue:
            for send in (queue.send_nowait, queue.send):
                with pytest.raises(
                    OSError, match=r"9 bytes can never go in: the queue holds 8 .*kernel\.msgmnb"
                ) as caught:
                    await _maybe(send(b"123456789"))
                assert caught.value.errno == errno.EMSGSIZE

    async def test_longer_than_the_kernel_takes(self) -> None:
        limit = sysv.sysctl("msgmax")
        assert limit is not None
        async with SysVMessageQueue.create() as queue:
            with pytest.raises(OSError, match=rf"kernel\.msgmax allows \({limit}\)") as caught:
                await queue.send(bytes(limit + 1))
            assert caught.value.errno == errno.EMSGSIZE


async def _maybe(result: object) -> None:
    if asyncio.iscoroutine(result):
        await result


class TestEnds:
    async def test_closing_wakes_everybody(self) -> None:
        made = SysVMessageQueue.create(max_bytes=1)
        made.send_nowait(b"x", type=9)
        queue = SysVMessageQueue.open(id=made.id)
        tasks = [asyncio.create_task(queue.receive(type)) for type in (1, 1, -2)]
        tasks.append(asyncio.create_task(queue.send(b"y")))  # type: ignore[arg-type]
        await eventually_async(lambda: queue.statistics().senders_waiting == 1)
        await queue.aclose()
        for task in tasks:
            with pytest.raises(ClosedResourceError):
                await asyncio.wait_for(task, 30)
        for use in (queue.receive_nowait, queue.statistics, queue.peek, queue.remove, lambda: queue.send_nowait(b"")):
            with pytest.raises(ClosedResourceError, match="is closed"):
                use()
        with pytest.raises(ClosedResourceError):
            await queue.receive()
        with pytest.raises(ClosedResourceError):
            await queue.send(b"")
        assert "closed" in repr(queue)
        made.close()

    async def test_removal_wakes_everybody_and_says_so(self) -> None:
        async with SysVMessageQueue.create(max_bytes=1) as queue:
            await queue.send(b"x", type=9)
            tasks: list[asyncio.Task[object]] = [asyncio.create_task(queue.receive(type)) for type in (1, 1, -2)]
            tasks.append(asyncio.create_task(queue.send(b"y")))
            await eventually_async(lambda: queue.statistics().senders_waiting == 1)
            sysv_messages.remove(queue.id)
            for task in tasks:
                with pytest.raises(ObjectRemovedError, match=f"message queue {queue.id} was removed") as caught:
                    await asyncio.wait_for(task, 30)
                assert isinstance(caught.value, IPCError)
                assert isinstance(caught.value, anyio.BrokenResourceError)
                assert isinstance(caught.value, OSError)
                assert caught.value.errno in (errno.EIDRM, errno.EINVAL)
            for use in (queue.receive_nowait, queue.statistics, queue.peek, lambda: queue.send_nowait(b"")):
                with pytest.raises(ObjectRemovedError):
                    use()
            with pytest.raises(ObjectRemovedError):
                queue.set_max_bytes(1)

    def test_the_error_can_be_pickled(self) -> None:
        error = pickle.loads(pickle.dumps(ObjectRemovedError(errno.EIDRM, "the queue was removed")))
        assert (type(error), error.errno, error.strerror) == (ObjectRemovedError, errno.EIDRM, "the queue was removed")

    async def test_it_belongs_to_one_loop(self) -> None:
        async with SysVMessageQueue.create() as queue:
            await queue.send(b"x")
            errors: list[BaseException] = []

            def other() -> None:
                try:
                    asyncio.run(queue.receive())
                except RuntimeError as error:
                    errors.append(error)

            thread = threading.Thread(target=other)
            thread.start()
            await eventually_async(lambda: not thread.is_alive(), 30)
            thread.join()
            assert "belongs to another event loop" in str(errors)
            assert queue.receive_nowait().body == b"x"

    def test_without_a_loop(self) -> None:
        queue = SysVMessageQueue.create()
        waiting = queue.receive()
        with pytest.raises(RuntimeError, match="running asyncio"):
            waiting.send(None)
        queue.close()

    async def test_statistics(self) -> None:
        async with SysVMessageQueue.create(max_bytes=100) as queue:
            empty = queue.statistics()
            assert (empty.messages, empty.bytes, empty.max_bytes) == (0, 0, 100)
            assert (empty.last_sender, empty.last_receiver, empty.last_send, empty.last_receive) == (0, 0, 0, 0)
            await queue.send(b"12")
            await queue.send(b"345")
            found = queue.statistics()
            assert (found.messages, found.bytes, found.last_sender) == (2, 5, os.getpid())
            assert found.last_send >= found.last_change > 0


def test_without_permission() -> None:
    source = """
        import sys, aioipc
        for key in map(int, sys.argv[1:]):
            queue = aioipc.SysVMessageQueue.open(key)
            for use in (
                lambda: queue.send_nowait(b""), queue.receive_nowait, queue.peek, queue.statistics, queue.remove,
                lambda: queue.set_max_bytes(1), lambda: aioipc.SysVMessageQueue.open(id=queue.id).receive_nowait(),
            ):
                try:
                    use()
                    print("done")
                except aioipc.WouldBlock:
                    print("empty")
                except PermissionError as error:
                    print(error)
            queue.close()
    """
    closed, for_all = SysVMessageQueue.create(KEY), SysVMessageQueue.create(KEY + 1, mode=0o622)
    try:
        out = run_confined(NOBODY, source, str(KEY), str(KEY + 1), python=("-W", "ignore")).check().stdout
    finally:
        closed.close()
        for_all.close()
    lines = out.splitlines()
    assert len(lines) == 14
    for line in lines[:6]:
        assert f"queue {closed.id} (key 0x41494f10): " in line
    for line in lines[:7]:
        assert "to uid 65534" in line
    assert lines[7] == "done"
    assert "its permissions forbid this" in lines[8]
    assert "only its owner may do this" in lines[11]


def test_only_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    for use in (SysVMessageQueue.create, lambda: SysVMessageQueue.open(KEY), lambda: SysVMessageQueue.open(id=1)):
        with pytest.raises(UnsupportedPlatform, match="darwin"):
            use()
