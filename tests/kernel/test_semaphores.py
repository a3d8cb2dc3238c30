"""System V semaphore sets on the real kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import anyio
import pytest

from aioipc import ClosedResourceError, ObjectRemovedError, SysVSemaphoreSet, UnsupportedPlatform, WouldBlock
from aioipc._sys import sysv_semaphores
from aioipc._sys.sysv_semaphores import Operation
from aioipc.kernel.claims import Claim
from aioipc.kernel.semaphore_undo import Holdings, holdings
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.kernel_limits import set_limit as set_limit
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script, running_script

KEY = 0x41494F20


def exists(id: int) -> bool:
    try:
        sysv_semaphores.status(id)
    except OSError:
        return False
    return True


async def waiting(semaphores: SysVSemaphoreSet, count: int) -> None:
    await eventually_async(lambda: semaphores.statistics().tasks_waiting == count)


class TestMaking:
    def test_with_values(self) -> None:
        made = SysVSemaphoreSet.create(KEY, [100, 0, 1])
        assert made.values() == (100, 0, 1)
        assert [made.value(index) for index in range(len(made))] == [100, 0, 1]
        by_key, by_id = SysVSemaphoreSet.open(KEY), SysVSemaphoreSet.open(id=made.id)
        assert made.id == by_key.id == by_id.id
        assert made.key == by_key.key == by_id.key == KEY
        assert len(by_key) == len(by_id) == 3
        by_key.close()
        by_id.close()
        assert exists(made.id)
        made.close()
        made.close()
        assert not exists(made.id)

    def test_one_that_is_there_keeps_its_values(self) -> None:
        made = SysVSemaphoreSet.create(KEY, [5])
        made.acquire_nowait(3)
        with pytest.raises(FileExistsError, match="exist_ok=True"):
            SysVSemaphoreSet.create(KEY, [5])
        found = SysVSemaphoreSet.create(KEY, [5], exist_ok=True)
        assert found.values() == (2,)
        found.close()
        for values in ([1, 1], [1, 2, 3]):
            with pytest.raises(FileExistsError, match="has 1 semaphores, not"):
                SysVSemaphoreSet.create(KEY, values, exist_ok=True)
        assert exists(made.id)
        made.close()

    def test_zeros_only_count_as_in_use_too(self) -> None:
        """Whoever asks whether a set was initialised looks at the time of its last operation."""
        made = SysVSemaphoreSet.create(None, [0, 0])
        assert made.values() == (0, 0)
        assert made.statistics().last_operation > 0
        made.close()

    def test_more_values_than_operations_in_one_step(self, set_limit: Callable[[str, str], None]) -> None:
        set_limit("sem", "32000 1024000000 3 32000")
        made = SysVSemaphoreSet.create(None, range(10))
        assert made.values() == tuple(range(10))
        made.close()

    def test_a_large_set(self) -> None:
        values = [index % 7 for index in range(2000)]
        made = SysVSemaphoreSet.create(None, values)
        assert list(made.values()) == values
        made.close()

    def test_who_opens_it_while_it_is_made_loses_nothing(self) -> None:
        """What others add and take between the two system calls of the maker counts."""
        id = sysv_semaphores.get(KEY, 1, 0o1600)
        early = SysVSemaphoreSet.open(KEY)
        with pytest.raises(WouldBlock):
            early.acquire_nowait()
        early.release(2)
        maker = SysVSemaphoreSet(id, KEY, 1, Claim("sysv-semaphores", remove=True))
        maker._add_first_values([5])
        assert early.values() == (7,)
        early.close()
        maker.close()

    def test_many_processes_make_it_at_once(self) -> None:
        """One makes it, the others find it, and all of them get through a semaphore of 1."""
        source = """
            import asyncio, aioipc
            async def main():
                async with aioipc.SysVSemaphoreSet.create(0x41494F21, [1], exist_ok=True, remove=False) as semaphores:
                    for _ in range(20):
                        async with semaphores.held():
                            await asyncio.sleep(0)
            asyncio.run(main())
        """
        with (
            running_script(source) as first,
            running_script(source) as second,
            running_script(source) as third,
        ):
            for script in (first, second, third):
                script.wait(50).check()
        found = SysVSemaphoreSet.open(0x41494F21)
        assert found.values() == (1,)
        found.remove()
        found.close()


class TestBank:
    async def test_b_waits_until_a_gives_back(self) -> None:
        async with SysVSemaphoreSet.create(None, [100, 1]) as bank:
            await bank.acquire(80, index=0)
            b = asyncio.create_task(bank.acquire(50, index=0))
            await waiting(bank, 1)
            assert bank.value() == 20
            bank.release(30, index=0)
            await asyncio.wait_for(b, 30)
            assert bank.values() == (0, 1)

    async def test_all_or_nothing(self) -> None:
        async with SysVSemaphoreSet.create(None, [100, 0]) as bank:
            with pytest.raises(WouldBlock):
                bank.operate_nowait([(0, -50), (1, -1)])
            assert bank.values() == (100, 0)
            task = asyncio.create_task(bank.operate([(0, -50), (1, -1)]))
            await waiting(bank, 1)
            bank.release(index=1)
            await asyncio.wait_for(task, 30)
            assert bank.values() == (50, 0)

    async def test_operations_are_done_in_their_order(self) -> None:
        async with SysVSemaphoreSet.create(None, [1]) as semaphores:
            await semaphores.operate([(0, -1), (0, 0), (0, 3)])
            assert semaphores.values() == (3,)
            task = asyncio.create_task(semaphores.operate([(0, 0), (0, 1)]))
            await waiting(semaphores, 1)
            semaphores.acquire_nowait(3)
            await asyncio.wait_for(task, 30)
            assert semaphores.values() == (1,)

    async def test_waiting_for_zero(self) -> None:
        async with SysVSemaphoreSet.create(None, [1, 0]) as semaphores:
            await semaphores.wait_zero(1)
            task = asyncio.create_task(semaphores.wait_zero())
            await eventually_async(lambda: semaphores.statistics().waiting_for_zero == (1, 0))
            semaphores.acquire_nowait()
            await asyncio.wait_for(task, 30)

    async def test_held(self) -> None:
        async with SysVSemaphoreSet.create(None, [3, 2]) as semaphores:
            async with semaphores.held(2), semaphores.held(index=1):
                assert semaphores.values() == (1, 1)
            assert semaphores.values() == (3, 2)
            with pytest.raises(ZeroDivisionError):
                async with semaphores.held(3):
                    raise ZeroDivisionError
            assert semaphores.values() == (3, 2)

    async def test_held_and_cancelled(self) -> None:
        async with SysVSemaphoreSet.create(None, [1]) as semaphores:
            with anyio.CancelScope() as scope:
                async with semaphores.held():
                    scope.cancel()
                    await anyio.sleep_forever()
            assert semaphores.values() == (1,)
            async with semaphores.held():
                with anyio.move_on_after(0.01):
                    async with semaphores.held():
                        raise AssertionError
            assert semaphores.values() == (1,)


class TestFairness:
    async def test_first_come_first_served(self) -> None:
        async with SysVSemaphoreSet.create(None, [0]) as semaphores:
            order: list[int] = []

            async def take(number: int) -> None:
                await semaphores.acquire()
                order.append(number)

            tasks = []
            for number in range(10):
                tasks.append(asyncio.create_task(take(number)))
                await asyncio.sleep(0)
            for _ in range(10):
                semaphores.release()
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                await asyncio.gather(*tasks)
            assert order == list(range(10))

    async def test_who_wants_little_waits_behind_who_wants_much(self) -> None:
        async with SysVSemaphoreSet.create(None, [2]) as semaphores:
            much = asyncio.create_task(semaphores.acquire(3))
            await waiting(semaphores, 1)
            little = asyncio.create_task(semaphores.acquire(1))
            await waiting(semaphores, 2)
            with pytest.raises(WouldBlock, match="other tasks wait"):
                semaphores.acquire_nowait()
            semaphores.release()
            await asyncio.wait_for(much, 30)
            assert not little.done()
            semaphores.release()
            await asyncio.wait_for(little, 30)

    async def test_and_gets_its_turn_when_that_one_gives_up(self) -> None:
        async with SysVSemaphoreSet.create(None, [2]) as semaphores:
            much = asyncio.create_task(semaphores.acquire(3))
            await waiting(semaphores, 1)
            little = asyncio.create_task(semaphores.acquire(2))
            await waiting(semaphores, 2)
            much.cancel()
            await asyncio.wait_for(little, 30)
            assert semaphores.values() == (0,)

    async def test_or_waits_on_for_its_own_amount(self) -> None:
        async with SysVSemaphoreSet.create(None, [0]) as semaphores:
            much = asyncio.create_task(semaphores.acquire(3))
            await waiting(semaphores, 1)
            little = asyncio.create_task(semaphores.acquire(2))
            await waiting(semaphores, 2)
            much.cancel()
            await waiting(semaphores, 1)
            other = SysVSemaphoreSet.open(id=semaphores.id)
            other.release(2)  # no nudge: the thread has to tell
            other.close()
            await asyncio.wait_for(little, 30)

    async def test_semaphores_of_a_set_do_not_hold_each_other_up(self) -> None:
        async with SysVSemaphoreSet.create(None, [0, 1]) as semaphores:
            first = asyncio.create_task(semaphores.acquire(index=0))
            await waiting(semaphores, 1)
            await asyncio.wait_for(semaphores.acquire(index=1), 30)
            semaphores.release(index=0)
            await asyncio.wait_for(first, 30)


HOLDER = """
    import sys, aioipc
    semaphores = aioipc.SysVSemaphoreSet.open(id=int(sys.argv[1]))
    {body}
    print("values", *semaphores.values(), flush=True)
    sys.stdin.read()
    semaphores.close()
"""


class TestUndo:
    """What happens to the value when a process ends; -9 or not makes no difference to the kernel."""

    @pytest.mark.parametrize(
        ("body", "meanwhile", "at_the_end"),
        [
            ("semaphores.acquire_nowait(3)", 7, 10),
            ("semaphores.acquire_nowait(3, undo=False)", 7, 7),
            ("semaphores.acquire_nowait(3); semaphores.release(3)", 10, 10),
            ("semaphores.acquire_nowait(3); semaphores.release(1)", 8, 10),
            ("semaphores.acquire_nowait(3); semaphores.release(5)", 12, 12),
            ("semaphores.release(5)", 15, 15),
            ("semaphores.acquire_nowait(3, undo=False); semaphores.release(3)", 10, 10),
            ("semaphores.acquire_nowait(3, undo=False); semaphores.acquire_nowait(2); semaphores.release(4)", 9, 9),
            ("semaphores.operate_nowait([(0, -4), (0, 1)])", 7, 10),
            ("semaphores.operate_nowait([(0, -4), (0, 1)], undo=False)", 7, 7),
            ("semaphores.acquire_nowait(3); semaphores.operate_nowait([(0, 3)], undo=False)", 10, 13),
            ("semaphores.acquire_nowait(3); semaphores.set_value(5)", 5, 5),
            ("semaphores.acquire_nowait(3); semaphores.set_values([5]); semaphores.release(2)", 7, 7),
            ("semaphores.acquire_nowait(3); aioipc.SysVSemaphoreSet.open(id=semaphores.id).release(3)", 10, 10),
        ],
    )
    def test_at_the_end_of_a_process(self, body: str, meanwhile: int, at_the_end: int) -> None:
        semaphores = SysVSemaphoreSet.create(None, [10])
        try:
            done = run_script(HOLDER.format(body=body), str(semaphores.id), python=("-W", "ignore")).check()
            assert done.stdout == f"values {meanwhile}\n"
            assert semaphores.values() == (at_the_end,)
        finally:
            semaphores.close()

    def test_a_forked_child_holds_nothing(self) -> None:
        source = """
            import os, sys, aioipc
            semaphores = aioipc.SysVSemaphoreSet.open(id=int(sys.argv[1]))
            semaphores.acquire_nowait(3)
            if (pid := os.fork()) == 0:
                semaphores.release(3)
                os._exit(0)
            os.waitpid(pid, 0)
            print("values", *semaphores.values())
            semaphores.close()
        """
        semaphores = SysVSemaphoreSet.create(None, [10])
        assert run_script(source, str(semaphores.id)).check().stdout == "values 10\n"
        assert semaphores.values() == (13,), "the child gave plainly, and the parent's end gave it back once more"
        semaphores.close()

    def test_nothing_is_remembered_of_what_is_gone(self) -> None:
        semaphores = SysVSemaphoreSet.create(None, [10, 10])
        semaphores.acquire_nowait(3)
        semaphores.acquire_nowait(3, index=1)
        semaphores.release(3)
        assert holdings._held == {(semaphores.id, 1): 3}
        semaphores.close()
        assert not holdings._held

    def test_division(self) -> None:
        held = Holdings()
        held.count(1, (Operation(0, -5, True), Operation(1, -2, True)))
        assert held.divide(1, (Operation(0, 7, True),)) == ((0, 5, True), (0, 2, False))
        assert held.divide(1, (Operation(0, 5, True),)) == ((0, 5, True),)
        assert held.divide(1, (Operation(0, 5, False),)) == ((0, 5, False),)
        assert held.divide(2, (Operation(0, 5, True),)) == ((0, 5, False),)
        twice = held.divide(1, (Operation(0, 4, True), Operation(0, 4, True)))
        assert twice == ((0, 4, True), (0, 1, True), (0, 3, False))
        there_and_back = held.divide(3, (Operation(0, -4, True), Operation(0, 0), Operation(0, 4, True)))
        assert there_and_back == ((0, -4, True), (0, 0, False), (0, 4, True))


class TestEnds:
    async def test_closing_wakes_everybody(self) -> None:
        made = SysVSemaphoreSet.create(None, [0, 1])
        semaphores = SysVSemaphoreSet.open(id=made.id)
        wishes = [semaphores.acquire(), semaphores.acquire(2), semaphores.operate([(0, -1), (1, -1)])]
        tasks = [asyncio.create_task(wish) for wish in (*wishes, semaphores.wait_zero(1))]
        await waiting(semaphores, 4)
        await semaphores.aclose()
        for task in tasks:
            with pytest.raises(ClosedResourceError):
                await asyncio.wait_for(task, 30)
        for use in (semaphores.release, semaphores.acquire_nowait, semaphores.values, semaphores.remove):
            with pytest.raises(ClosedResourceError, match="is closed"):
                use()
        await eventually_async(lambda: made.statistics().waiting == (0, 0))
        assert made.values() == (0, 1)
        made.close()

    async def test_removal_wakes_everybody_and_says_so(self) -> None:
        async with SysVSemaphoreSet.create(None, [0, 1]) as semaphores:
            wishes = [semaphores.acquire(), semaphores.acquire(2), semaphores.operate([(0, -1), (1, -1)])]
            tasks = [asyncio.create_task(wish) for wish in (*wishes, semaphores.wait_zero(1))]
            await waiting(semaphores, 4)
            sysv_semaphores.remove(semaphores.id)
            for task in tasks:
                with pytest.raises(ObjectRemovedError, match=f"semaphore set {semaphores.id} was removed"):
                    await asyncio.wait_for(task, 30)
            for use in (semaphores.release, semaphores.acquire_nowait, semaphores.values, semaphores.statistics):
                with pytest.raises(ObjectRemovedError):
                    use()

    async def test_removed_while_held(self) -> None:
        async with SysVSemaphoreSet.create(None, [1]) as semaphores:
            with pytest.raises(ObjectRemovedError):
                async with semaphores.held():
                    sysv_semaphores.remove(semaphores.id)

    async def test_a_thread_may_release(self) -> None:
        async with SysVSemaphoreSet.create(None, [0]) as semaphores:
            task = asyncio.create_task(semaphores.acquire())
            await waiting(semaphores, 1)
            await asyncio.to_thread(semaphores.release)
            await asyncio.wait_for(task, 30)


def test_without_permission() -> None:
    source = """
        import sys, aioipc
        try:
            aioipc.SysVSemaphoreSet.open(int(sys.argv[1]))
        except PermissionError as error:
            print(error)
        semaphores = aioipc.SysVSemaphoreSet.open(int(sys.argv[2]))
        print(semaphores.values())
        for use in (semaphores.acquire_nowait, semaphores.release, semaphores.remove, lambda: semaphores.set_value(1)):
            try:
                use()
                print("done")
            except PermissionError as error:
                print(error)
        semaphores.close()
    """
    closed, readable = SysVSemaphoreSet.create(KEY, [1]), SysVSemaphoreSet.create(KEY + 1, [1], mode=0o644)
    try:
        lines = run_confined(NOBODY, source, str(KEY), str(KEY + 1)).check().stdout.splitlines()
        assert readable.values() == (1,)
    finally:
        closed.close()
        readable.close()
    assert lines[0].endswith("its permissions forbid uid 65534 to read it")
    assert lines[1] == "(1,)"
    assert "its permissions forbid this to uid 65534" in lines[2]
    assert "its permissions forbid this" in lines[3]
    assert "only its owner may do this" in lines[4]
    assert "its permissions forbid this" in lines[5]


async def test_statistics() -> None:
    async with SysVSemaphoreSet.create(None, [4, 0], mode=0o640) as semaphores:
        await semaphores.acquire()
        found = semaphores.statistics()
        assert found.values == (3, 0)
        assert found.last_pids == (os.getpid(), 0)
        assert (found.waiting, found.waiting_for_zero, found.tasks_waiting) == ((0, 0), (0, 0), 0)
        assert (found.owner, found.group, found.mode) == (os.geteuid(), os.getegid(), 0o640)
        assert found.last_operation >= found.last_change > 0


def test_only_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    for use in (
        lambda: SysVSemaphoreSet.create(None, [1]),
        lambda: SysVSemaphoreSet.open(KEY),
        lambda: SysVSemaphoreSet.open(id=1),
    ):
        with pytest.raises(UnsupportedPlatform, match="darwin"):
            use()
