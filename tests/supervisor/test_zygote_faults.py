"""What a zygote cannot do: send more descriptors than the kernel lets through, end what the kernel does not let go."""

from __future__ import annotations

from ..harness.scripts import run_script

STAND = """
    import asyncio, ctypes, os, resource, signal, sys
    import aioipc
    from aioipc._sys import libc, procfs
    from aioipc.supervisor import zygote
    from aioipc.testing.waiting import eventually_async

    LIBC = ctypes.CDLL(None, use_errno=True)

    async def stand(worker):
        await worker.ready()
        await worker.stopping()

    def pids(supervisor):
        return [each.pid for child in supervisor.children() for each in child.processes]
"""
TOO_MANY = (
    STAND
    + """
    import errno, socket

    SYS_ADMIN, SYS_RESOURCE, PR_CAPBSET_DROP = 21, 24, 24

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    def fill(sock):
        try:
            while True:
                socket.send_fds(sock, [b"x"], [0] * 50)
        except OSError as error:
            assert error.errno == errno.ETOOMANYREFS, error

    async def main():
        ours, theirs = socket.socketpair()
        async with aioipc.Supervisor() as supervisor:
            first = asyncio.ensure_future(supervisor.start_child(aioipc.ChildSpec("first", stand)))
            await eventually_async(supervisor.children, 20)  # the zygote is asked, and not up yet
            fill(ours)
            await first
            fill(ours)  # it has taken some
            second = asyncio.ensure_future(supervisor.start_child(aioipc.ChildSpec("second", stand)))
            await asyncio.wait([second], timeout=0.2)
            assert not second.done()
            ours.close()
            theirs.close()
            await second
            assert supervisor.statistics().restarts == 0
        print("done")

    # Root may have any number of descriptors on their way: give that right up, for the zygote too.
    for right in (SYS_ADMIN, SYS_RESOURCE):
        LIBC.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)
    assert LIBC.capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
    aioipc.run(main)
"""
)
STUCK = (
    STAND
    + """
    PTRACE_CONT, PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 7, 0x4206, 0x40

    async def main():
        zygote._REACTION = 0.3
        children = [aioipc.ChildSpec("stuck", stand, shutdown="brutal_kill"), aioipc.ChildSpec("web", stand)]
        async with aioipc.Supervisor(aioipc.SupervisorSpec(children)) as supervisor:
            stuck, other = pids(supervisor)
            zygotes = supervisor.statistics().zygotes
            # Who is traced so stops on its way out, and not even SIGKILL is heard there.
            assert LIBC.ptrace(PTRACE_SEIZE, stuck, 0, PTRACE_O_TRACEEXIT) == 0, ctypes.get_errno()
            ending = asyncio.ensure_future(supervisor.terminate_child("stuck"))
            await asyncio.sleep(1.5)
            assert procfs.process_info(stuck).state == "t"
            assert pids(supervisor) == [stuck, other] and supervisor.statistics().zygotes == zygotes
            LIBC.ptrace(PTRACE_CONT, stuck, 0, 0)
            await ending
        print("done")

    aioipc.run(main)
"""
)
ZOMBIES = (
    STAND
    + """
    async def main():
        async with aioipc.Supervisor() as supervisor:
            await supervisor.start_child(aioipc.ChildSpec("web", stand, replicas=2))
            (forker,) = supervisor.statistics().zygotes.values()
            old = pids(supervisor)
            os.kill(forker, signal.SIGKILL)
            await eventually_async(lambda: not any(map(procfs.process_info, old)), 20)
        print("done")

    libc.become_subreaper()
    aioipc.run(main)
"""
)


def test_too_many_descriptors_on_their_way() -> None:
    """While the kernel refuses more (ETOOMANYREFS) the zygote can tell a pid, and the master waits."""
    assert run_script(TOO_MANY, timeout=50).check().stdout == "done\n"


def test_one_that_cannot_be_killed_costs_nobody_else() -> None:
    assert run_script(STUCK, timeout=50).check().stdout == "done\n"


def test_its_children_are_no_zombies_of_a_subreaper() -> None:
    assert run_script(ZOMBIES, timeout=50).check().stdout == "done\n"
