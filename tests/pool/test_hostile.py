"""A pool does all it does where little is allowed: no rights, nothing to write to, no pidfd, no memfd."""

from __future__ import annotations

import pytest

from ..harness import hostile

SCRIPT = """
    import asyncio, os, signal, sys, time
    import aioipc

    def square(number):
        return number * number

    async def later(number):
        await asyncio.sleep(0.01)
        return -number

    def die_in(pids):
        if os.getpid() in pids:
            os.kill(os.getpid(), signal.SIGKILL)
        return "lived"

    async def main():
        async with aioipc.Pool(2, grace=0.3) as pool:
            assert await pool.run(square, 12) == 144
            assert await asyncio.gather(*(pool.run(later, i) for i in range(20))) == [-i for i in range(20)]
            assert [r async for r in pool.map(square, range(300))] == [i * i for i in range(300)]
            assert len(await pool.run(bytes, 3_000_000)) == 3_000_000  # more than all of /dev/shm

            pids = [worker.pid for worker in pool.statistics().workers]
            error = await crash(pool.submit(die_in, pids))
            assert error.exitcode == -signal.SIGKILL and error.signal == signal.SIGKILL and error.pid, error

            assert await pool.submit(die_in, pids, retries=2) == "lived"

            sleeper = pool.submit(time.sleep, 100)
            while sleeper.state != "running":
                await asyncio.sleep(0.01)
            sleeper.cancel()
            assert isinstance((await asyncio.gather(sleeper, return_exceptions=True))[0], asyncio.CancelledError)

            try:
                await pool.submit(time.sleep, 100, timeout=0.2)
            except aioipc.TaskTimeout:
                pass
            else:
                raise AssertionError("no timeout")

            zygote = pool.statistics().zygote_pid
            os.kill(zygote, signal.SIGKILL)
            assert await pool.submit(square, 5, retries=1) == 25
            while pool.statistics().zygote_pid == zygote:
                await asyncio.sleep(0.01)
            assert pool.statistics().crashes >= 2
        async with aioipc.Pool(1, start_method="spawn") as pool:
            assert await pool.run(square, 3) == 9
        print("done", os.getuid(), type(asyncio.get_running_loop()).__module__)

    async def crash(job):
        try:
            await job
        except aioipc.WorkerCrashed as error:
            return error
        raise AssertionError("it did not crash")

    if sys.argv[1] == "uvloop":
        aioipc.run(main)
    else:
        asyncio.run(main())
"""

EACH = [
    (hostile.NOBODY,),
    (hostile.READ_ONLY_ROOT,),
    (hostile.TINY_SHM,),
    (hostile.SECCOMP_EPERM,),
    (hostile.SECCOMP_ENOSYS,),
]
ALL_BUT_SECCOMP = (hostile.NOBODY, hostile.READ_ONLY_ROOT, hostile.TINY_SHM)


@pytest.mark.parametrize("names", EACH, ids=lambda names: names[0])
def test_confined(names: tuple[str, ...]) -> None:
    check(names, "asyncio")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("refusal", [hostile.SECCOMP_EPERM, hostile.SECCOMP_ENOSYS])
def test_all_at_once(refusal: str, loop: str) -> None:
    check((*ALL_BUT_SECCOMP, refusal), loop)


def check(names: tuple[str, ...], loop: str) -> None:
    done = hostile.run_confined(names, SCRIPT, loop, timeout=30).check()
    words = done.stdout.split()
    assert words[0] == "done"
    assert (words[1] == "65534") == (hostile.NOBODY in names)
    assert words[2].startswith(loop)
    assert done.stderr == ""


def test_full_shared_memory() -> None:
    """No room for a page and no memfd: an error that says what was tried, not a SIGBUS."""
    source = """
        import asyncio, os, aioipc

        async def main():
            fd = os.open("/dev/shm/full", os.O_CREAT | os.O_RDWR)
            size = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
            os.posix_fallocate(fd, 0, size)
            try:
                async with aioipc.Pool(1):
                    print("opened")
            except aioipc.WorkerBootError as error:
                print(error)
        asyncio.run(main())
    """
    done = hostile.run_confined((*ALL_BUT_SECCOMP, hostile.SECCOMP_EPERM), source).check()
    assert "No space left on device" in done.stdout
    assert "/dev/shm" in done.stdout
