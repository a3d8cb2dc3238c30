"""Pipelines of real programs and functions of our own."""

# ruff: noqa: ASYNC220 - files of a local file system, and programs that are to be in our hands at once

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledByteStream
from anyio.streams.text import TextReceiveStream

from aioipc import (
    BrokenResourceError,
    ClosedResourceError,
    CompletedPipeline,
    Pipeline,
    PipelineError,
    PipeReceiveStream,
    PipeSendStream,
    create_pipe,
    open_pipeline,
    run_pipeline,
)
from aioipc.kernel import stages
from tests.conftest import LOOPS, LoopFactory
from tests.harness.hostile import SECCOMP_EPERM, run_confined
from tests.harness.processes import (
    children,
    eventually_async,
    is_running,
    open_descriptors,
    process,
    wait_gone,
    wait_state,
)
from tests.harness.scripts import run_script

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
MANY = 5 << 20
ENDED = {-signal.SIGTERM, -signal.SIGKILL}  # a short grace may be over before a busy machine has let it end
DATA = random.Random(7).randbytes(MANY)

IGNORES_TERM = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done"]


async def upper(receive: PipeReceiveStream, send: PipeSendStream) -> None:
    async for chunk in receive:
        await send.send(chunk.upper())


async def copy(receive: PipeReceiveStream, send: PipeSendStream) -> None:
    async for chunk in receive:
        await send.send(chunk)


async def count(receive: PipeReceiveStream, send: PipeSendStream) -> None:
    total = sum([len(chunk) async for chunk in receive])
    await send.send(b"%d\n" % total)


async def fail(receive: PipeReceiveStream, send: PipeSendStream) -> None:
    await receive.receive()
    raise LookupError("on purpose")


async def endless(receive: PipeReceiveStream, send: PipeSendStream) -> None:
    while True:
        await send.send(b"x" * 1000)


def pid_of(pipeline: Pipeline, stage: int = 0) -> int:
    pid = pipeline.pids[stage]
    assert pid is not None
    return pid


def stdin_of(pipeline: Pipeline) -> PipeSendStream:
    assert pipeline.stdin is not None
    return pipeline.stdin


async def all_of(stream: PipeReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


# --- programs joined


async def test_as_in_a_shell() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        async with await open_pipeline(["ps", "-ef"], ["grep", "[s]leep 1000"], ["awk", "{print $2}"]) as pipeline:
            lines = [line async for line in pipeline.stdout.lines()]
        child.kill()
    assert str(child.pid) in lines
    assert pipeline.returncodes == (0, 0, 0)


async def test_run() -> None:
    done = await run_pipeline(["sort"], ["uniq", "-c"], input=b"b\na\nb\n")
    assert done == CompletedPipeline(b"      1 a\n      2 b\n", (b"", b""), (0, 0))


async def test_much_both_ways() -> None:
    done = await run_pipeline(["cat"], ["cat"], input=DATA)
    assert done.stdout == DATA
    assert done.returncodes == (0, 0)


@pytest.mark.parametrize("item", [bytearray(b"abc"), memoryview(b"abc")])
async def test_input_of_every_kind(item: bytes) -> None:
    assert (await run_pipeline(["cat"], input=item)).stdout == b"abc"


async def test_neighbours_share_a_pipe_and_we_have_no_end_of_it() -> None:
    async with await open_pipeline(["cat"], ["cat"], ["cat"], stdin=PIPE) as pipeline:
        await stdin_of(pipeline).send(b"x")
        assert await pipeline.stdout.receive() == b"x", "all are past their start, in which they open libraries"
        links = [open_descriptors(pid) for pid in pipeline.pids if pid is not None]
        assert links[0][1] == links[1][0]
        assert links[1][1] == links[2][0]
        ours = set(open_descriptors().values())
        assert not ours & {links[0][1], links[1][1]}
        assert {links[0][0], links[2][1]} <= ours
        for each in links:
            assert set(each) == {0, 1, 2}, "nothing else is inherited"


async def test_a_conversation() -> None:
    async with await open_pipeline(["cat"], ["cat"], stdin=PIPE) as pipeline:
        for number in range(3):
            await stdin_of(pipeline).send(b"%d" % number)
            assert await pipeline.stdout.receive() == b"%d" % number
        await stdin_of(pipeline).aclose()
        assert await pipeline.wait() == (0, 0)


async def test_an_early_end_is_no_error() -> None:
    done = await run_pipeline(["yes"], ["head", "-1"], check=True)
    assert done.stdout == b"y\n"
    assert done.returncodes == (-signal.SIGPIPE, 0)
    done = await run_pipeline(["head", "-c", "1"], input=DATA, check=True)
    assert (done.stdout, done.returncodes) == (DATA[:1], (0,))


async def test_a_stage_that_nobody_reads_is_ended() -> None:
    """Nothing tells it so but SIGPIPE, and it never writes."""
    done = await run_pipeline(["sleep", "1000"], ["true"], grace=0.05, check=True)
    assert done.returncodes[0] in ENDED
    assert done.returncodes[1] == 0
    done = await run_pipeline(["sleep", "1000"], ["true"], input=DATA, grace=0.05)
    assert done.returncodes[0] in ENDED
    assert done.returncodes[1] == 0


async def test_input_is_sent_on_when_output_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = await run_pipeline(["sh", "-c", 'exec >&-; exec cat > "$1"', "sh", target], input=DATA)
    assert done.returncodes == (0,)
    assert target.read_bytes() == DATA


# --- how they end


async def test_exit_codes_and_signals() -> None:
    done = await run_pipeline(["sh", "-c", "exit 3"], ["sh", "-c", "kill -USR1 $$"], ["true"], ["false"])
    assert done.returncodes == (3, -signal.SIGUSR1, 0, 1)


async def test_a_stage_that_is_killed() -> None:
    async with await open_pipeline(["yes"], ["cat"]) as pipeline:
        await pipeline.stdout.receive()
        os.kill(pid_of(pipeline), signal.SIGKILL)
        await all_of(pipeline.stdout)
        assert await pipeline.wait() == (-signal.SIGKILL, 0)


async def test_a_reader_that_is_killed() -> None:
    async with await open_pipeline(["cat"], ["sleep", "1000"], stdin=PIPE) as pipeline:
        sending = asyncio.create_task(stdin_of(pipeline).send(DATA))
        await eventually_async(lambda: stdin_of(pipeline)._queue.waiting)
        os.kill(pid_of(pipeline, 1), signal.SIGKILL)
        with pytest.raises(BrokenResourceError):
            await sending
        assert await pipeline.wait() == (-signal.SIGPIPE, -signal.SIGKILL)


async def test_returncodes_while_it_runs() -> None:
    async with await open_pipeline(["true"], ["cat"], ["sleep", "1000"]) as pipeline:
        await eventually_async(lambda: pipeline.returncodes == (0, 0, None), timeout=20)
        assert "(true): 0" in repr(pipeline)
        assert "stage 3 of 3 (sleep 1000): running" in repr(pipeline)


async def test_check() -> None:
    with pytest.raises(PipelineError) as caught:
        await run_pipeline(["echo", "x"], ["sh", "-c", "cat; echo oh no >&2; exit 3"], ["cat"], check=True)
    error = caught.value
    assert "stage 2 of 3 (sh -c 'cat; echo oh no >&2; exit 3') exited with 3" in str(error)
    assert str(error).endswith("oh no")
    assert (error.stage, error.returncodes, error.stdout) == (1, (0, 3, 0), b"x\n")
    assert error.stderr == (b"", b"oh no\n", b"")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.stage, again.returncodes, again.stderr) == (str(error), 1, (0, 3, 0), error.stderr)
    with pytest.raises(PipelineError, match="died of SIGPIPE"):  # of the last one nobody has had enough
        await run_pipeline(["sh", "-c", "kill -PIPE $$"], check=True)


async def test_wait_can_be_cancelled_and_does_nothing_then() -> None:
    async with await open_pipeline(["sleep", "1000"]) as pipeline:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pipeline.wait(), 0.01)
        assert pipeline.returncodes == (None,)
        assert is_running(pid_of(pipeline))


async def test_sigpipe_is_as_programs_expect_it() -> None:
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    done = await run_pipeline(["sh", "-c", "grep SigIgn /proc/self/status"])
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


async def test_somebody_else_reaps() -> None:
    async with await open_pipeline(["cat"], stdin=PIPE) as pipeline:
        os.kill(pid_of(pipeline), signal.SIGKILL)
        os.waitid(os.P_PID, pid_of(pipeline), os.WEXITED)  # noqa: ASYNC222
        assert await pipeline.wait() == (255,)
        assert pipeline._stages[0].is_reaped, "its number may be another's by now"


# --- standard error


async def test_the_end_of_each_standard_error() -> None:
    noisy = "for i in $(seq 20000); do echo line $i; done >&2; echo out"
    done = await run_pipeline(["sh", "-c", noisy], ["sh", "-c", "cat; echo second >&2"], stderr_limit=100)
    assert done.stdout == b"out\n"
    assert len(done.stderr[0]) == 100
    assert done.stderr[0].endswith(b"line 19999\nline 20000\n")
    assert done.stderr[1] == b"second\n"


async def test_standard_error_is_there_while_it_runs() -> None:
    async with await open_pipeline(["sh", "-c", "echo so far >&2; exec sleep 1000"]) as pipeline:
        await eventually_async(lambda: pipeline.stderr == (b"so far\n",), timeout=20)
    assert pipeline.stderr == (b"so far\n",)


async def test_the_memory_of_standard_error_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "TRIM_EVERY", 0.001)
    line = "head -c 2000000 /dev/zero >&2; echo more; read x; head -c 2000000 /dev/zero >&2; echo end >&2; echo done"
    async with await open_pipeline(["sh", "-c", line], stdin=PIPE, stderr_limit=4096) as pipeline:
        file = pipeline._stages[0]._stderr.fd  # type: ignore[union-attr]
        lines = pipeline.stdout.lines()
        for expected in ("more", "done"):
            assert await anext(lines) == expected
            await eventually_async(lambda: os.fstat(file).st_blocks * 512 < 100_000)
            if expected == "more":
                await stdin_of(pipeline).send(b"\n")
        assert os.fstat(file).st_size == 4_000_004
        assert len(pipeline.stderr[0]) == 4096
        assert pipeline.stderr[0].endswith(b"\0end\n")


async def test_where_standard_error_may_go(tmp_path: Path) -> None:
    say = ["sh", "-c", "echo out; echo err >&2"]
    async with await open_pipeline(say, stderr=STDOUT) as pipeline:
        assert await all_of(pipeline.stdout) == b"out\nerr\n"
    async with await open_pipeline(say, stderr=DEVNULL) as pipeline:
        assert await all_of(pipeline.stdout) == b"out\n"
    assert pipeline.stderr == (b"",)
    with (tmp_path / "err").open("wb") as file:
        async with await open_pipeline(say, ["sh", "-c", "cat; echo err >&2"], stderr=file) as pipeline:
            await all_of(pipeline.stdout)
    assert (tmp_path / "err").read_bytes() == b"err\nerr\n"


# --- redirections


async def test_files_and_descriptors(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    with source.open("rb") as read, target.open("wb") as write:
        async with await open_pipeline(["cat"], ["cat"], stdin=read, stdout=write.fileno()) as pipeline:
            assert pipeline.stdin is None
            with pytest.raises(AttributeError, match="redirected"):
                _ = pipeline.stdout
    assert pipeline.returncodes == (0, 0), "left normally, without a stream to read: it was waited for"
    assert target.read_bytes() == DATA


async def test_a_detached_pipe() -> None:
    reader, writer = create_pipe()
    fd = writer.detach()
    async with reader, await open_pipeline(["echo", "hello"], stdout=fd):
        os.close(fd)
        assert await all_of(reader) == b"hello\n"


def test_inherited() -> None:
    script = """
        import asyncio, aioipc
        async def main():
            async with await aioipc.open_pipeline(["cat"], stdin=None, stdout=None, stderr=None) as pipeline:
                assert pipeline.stdin is None and not hasattr(pipeline, 'stdout')
            print(pipeline.returncodes, flush=True)
        asyncio.run(main())
    """
    assert run_script(script, stdin=b"through\n").check().stdout == "through\n(0,)\n"


def test_with_standard_streams_closed() -> None:
    """The ends of pipes do not get the numbers 0 to 2."""
    script = """
        import asyncio, os, aioipc
        os.close(0); os.close(1)
        async def main():
            done = await aioipc.run_pipeline(["cat"], ["cat"], input=b"x")
            assert (done.stdout, done.returncodes) == (b"x", (0, 0)), done
        asyncio.run(main())
        os.open("/dev/null", os.O_RDWR); os.open("/dev/null", os.O_RDWR)
    """
    run_script(script).check()


async def test_environment_and_directory(tmp_path: Path) -> None:
    show = ["sh", "-c", 'echo "$COLOUR $(pwd)"']
    done = await run_pipeline(show, env={"COLOUR": "red", "PATH": os.environ["PATH"]}, cwd=tmp_path)
    assert done.stdout.decode() == f"red {tmp_path}\n"


async def test_arguments_of_every_kind(tmp_path: Path) -> None:
    name = b"\xff file"
    (tmp_path / os.fsdecode(name)).write_bytes(b"found")
    done = await run_pipeline((b"cat", "--", Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))))
    assert done.stdout == b"found"


# --- functions


async def test_functions_between_programs() -> None:
    done = await run_pipeline(["echo", "hello"], upper, ["cat"], upper, input=None)
    assert done == CompletedPipeline(b"HELLO\n", (b"", b"", b"", b""), (0, 0, 0, 0))


async def test_functions_alone() -> None:
    done = await run_pipeline(copy, copy, input=DATA)
    assert done.stdout == DATA
    assert (await run_pipeline(count)).stdout == b"0\n", "without input it is at the end"


async def test_much_through_a_function() -> None:
    done = await run_pipeline(["cat"], partial(copy), ["cat"], count, input=DATA)
    assert int(done.stdout) == MANY


async def test_an_object_that_is_called_like_a_function() -> None:
    class Prefix:
        async def __call__(self, receive: PipeReceiveStream, send: PipeSendStream) -> None:
            await send.send(b"> " + await receive.receive())

    assert (await run_pipeline(["echo", "x"], Prefix())).stdout == b"> x\n"


async def test_a_function_that_nobody_reads_any_more() -> None:
    done = await run_pipeline(endless, ["head", "-c", "1"], check=True)
    assert (done.stdout, done.returncodes) == (b"x", (-signal.SIGPIPE, 0))


async def test_a_function_that_fails() -> None:
    for checked in (True, False):
        with pytest.raises(LookupError, match="on purpose"):
            await run_pipeline(["cat"], fail, ["cat"], input=DATA, check=checked)
    with pytest.raises(LookupError, match="on purpose"):
        async with await open_pipeline(["echo", "x"], fail) as pipeline:
            assert await all_of(pipeline.stdout) == b""
    assert pipeline.returncodes == (0, 1)


async def test_the_error_is_told_once() -> None:
    async with await open_pipeline(["echo", "x"], fail) as pipeline:
        with pytest.raises(LookupError, match="on purpose"):
            await pipeline.wait()
        assert await pipeline.wait() == (0, 1)


async def test_the_errors_of_several() -> None:
    async def also(receive: PipeReceiveStream, send: PipeSendStream) -> None:
        raise ValueError

    with pytest.raises(ExceptionGroup) as caught:
        await run_pipeline(["echo", "x"], fail, also)
    assert [type(error) for error in caught.value.exceptions] == [LookupError, ValueError]


async def test_an_error_of_the_body_comes_first() -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with await open_pipeline(["echo", "x"], fail) as pipeline:
            await all_of(pipeline.stdout)
            raise ZeroDivisionError


async def test_a_function_is_cancelled_and_may_clean_up() -> None:
    cleaned = []

    async def careful(receive: PipeReceiveStream, send: PipeSendStream) -> None:
        try:
            await receive.receive()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    async with await open_pipeline(["sleep", "1000"], careful) as pipeline:
        await asyncio.sleep(0.01)
    assert pipeline.returncodes == (-signal.SIGTERM, -signal.SIGTERM)
    assert cleaned == [True]


async def test_a_function_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()
    monkeypatch.setattr("aioipc.kernel.pipelines.KILL_PATIENCE", 0.05)

    async def deaf(receive: PipeReceiveStream, send: PipeSendStream) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with await open_pipeline(deaf, grace=0.01) as pipeline:
        await asyncio.sleep(0)
    assert pipeline.returncodes == (-signal.SIGTERM,)
    release.set()


# --- leaving early


async def test_left_early() -> None:
    async with await open_pipeline(["yes"], ["cat"], upper) as pipeline:
        assert (await pipeline.stdout.receive()).startswith(b"Y\n")
    for pid in pipeline.pids[:2]:
        assert pid is not None
        assert process(pid) is None
    assert None not in pipeline.returncodes
    with pytest.raises(ClosedResourceError):
        await pipeline.stdout.receive()
    await pipeline.aclose()
    assert await pipeline.wait() == pipeline.returncodes


async def test_stdout_closed_by_hand() -> None:
    async with await open_pipeline(["yes"]) as pipeline:
        await pipeline.stdout.receive()
        await pipeline.stdout.aclose()
    assert pipeline.returncodes == (-signal.SIGPIPE,)
    async with await open_pipeline(["sleep", "1000"], grace=0.05) as pipeline:
        await pipeline.stdout.aclose()
    assert pipeline.returncodes[0] in ENDED


async def test_who_does_not_listen_is_killed() -> None:
    async with await open_pipeline(IGNORES_TERM, grace=0.1) as pipeline:
        assert await anext(pipeline.stdout.lines()) == "ready"
        [grandchild] = await eventually_async(lambda: [each.pid for each in children(pid_of(pipeline))])
    assert pipeline.returncodes == (-signal.SIGKILL,)
    wait_gone(grandchild)


async def test_who_is_stopped_is_ended() -> None:
    async with await open_pipeline(["sleep", "1000"]) as pipeline:
        os.kill(pid_of(pipeline), signal.SIGSTOP)
        wait_state(pid_of(pipeline), "T")
    assert pipeline.returncodes == (-signal.SIGTERM,)


async def test_grandchildren_of_one_that_has_ended() -> None:
    """Its group still bears its number, since it is not reaped before the end."""
    async with await open_pipeline(["sh", "-c", "sleep 1000 > /dev/null & echo $!"]) as pipeline:
        grandchild = int(await all_of(pipeline.stdout))
        assert await pipeline.wait() == (0,)
        wait_state(pid_of(pipeline), "Z")
        assert is_running(grandchild)
    wait_gone(grandchild)
    assert pipeline.returncodes == (0,)


async def test_a_grandchild_in_a_group_of_its_own() -> None:
    """As shells with job control make them; SIGTERM does not reach it, the end of the session does."""
    script = """if True:
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, process_group=0)
        print(child.pid, flush=True)
        child.wait()
    """
    async with await open_pipeline([sys.executable, "-SEc", script], grace=0.05) as pipeline:
        grandchild = int(await anext(pipeline.stdout.lines()))
        found = process(grandchild)
        assert found is not None
        assert found.pgid == grandchild
    wait_gone(grandchild)


async def test_a_grandchild_gets_its_time_too(tmp_path: Path) -> None:
    line = "(trap 'sleep 0.1; echo bye > \"$0\"; exit' TERM; echo ready; while :; do sleep 0.01; done) & wait"
    async with await open_pipeline(["sh", "-c", line, tmp_path / "bye"], grace=30) as pipeline:
        assert await anext(pipeline.stdout.lines()) == "ready"
    assert (tmp_path / "bye").read_text() == "bye\n"


async def test_left_by_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        async with await open_pipeline(["sleep", "1000"], ["cat"], stdout=DEVNULL) as pipeline:
            raise ZeroDivisionError
    assert pipeline.returncodes[0] == -signal.SIGTERM
    assert pipeline.returncodes[1] in (-signal.SIGTERM, 0), "it may have seen the end of its input first"


@pytest.mark.parametrize("stdout", [PIPE, DEVNULL])
async def test_left_in_a_cancelled_scope(stdout: int) -> None:
    with anyio.CancelScope() as scope:
        async with await open_pipeline(
            IGNORES_TERM, upper if stdout == PIPE else ["cat"], stdout=stdout, grace=0.05
        ) as it:
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert it.returncodes[0] in (-signal.SIGKILL, -signal.SIGTERM)
    assert process(pid_of(it)) is None


async def test_left_normally_in_a_cancelled_scope() -> None:
    with anyio.CancelScope() as scope:
        async with await open_pipeline(["sleep", "1000"], stdout=DEVNULL) as pipeline:
            scope.cancel()
    assert pipeline.returncodes == (-signal.SIGTERM,)


async def test_cancelled_again_and_again_while_it_ends() -> None:
    started = asyncio.Event()
    pipelines = []

    async def hold() -> None:
        async with await open_pipeline(IGNORES_TERM, grace=0.3) as pipeline:
            pipelines.append(pipeline)
            await anext(pipeline.stdout.lines())
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await started.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)
    assert task.cancelled()
    assert pipelines[0].returncodes == (-signal.SIGKILL,)


async def test_run_is_cancelled() -> None:
    before = {each.pid for each in children(os.getpid())}
    for number in range(10):
        task = asyncio.create_task(run_pipeline(["sleep", "1000"], copy, ["sleep", "1000"], input=DATA))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert {each.pid for each in children(os.getpid())} == before


async def test_fifty_of_them_leave_nothing() -> None:
    before = open_descriptors(), threading.active_count()
    for number in range(50):
        with anyio.move_on_after(0.001 * (number % 5)):
            await run_pipeline(["cat"], copy, ["cat"], input=DATA)
    assert (open_descriptors(), threading.active_count()) == before


async def test_unclosed() -> None:
    pipeline = await open_pipeline(["sleep", "1000"])
    pid = pid_of(pipeline)
    with pytest.warns(ResourceWarning, match=r"unclosed <Pipeline stage 1 of 1 \(sleep 1000\): running>"):
        del pipeline
    assert process(pid) is None


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_unclosed_when_the_loop_has_ended(make_loop: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        pipeline = runner.run(open_pipeline(["sleep", "1000"], stderr=DEVNULL))
    pid = pid_of(pipeline)
    with pytest.warns(ResourceWarning):
        del pipeline
    assert process(pid) is None


async def test_the_loop_is_ended_while_it_ends() -> None:
    """``asyncio.run`` cancels every task at last, the one that ends a pipeline too."""
    async with await open_pipeline(IGNORES_TERM, grace=1000) as pipeline:
        await anext(pipeline.stdout.lines())
        closing = asyncio.create_task(pipeline.aclose())
        await eventually_async(lambda: pipeline._ending is not None)
        await asyncio.sleep(0.01)
        assert pipeline._ending is not None
        pipeline._ending.cancel()
        await closing
    assert pipeline.returncodes == (-signal.SIGKILL,)
    assert process(pid_of(pipeline)) is None


@pytest_asyncio.fixture
async def cat() -> AsyncIterator[Pipeline]:
    async with await open_pipeline(["cat"], upper, stdin=PIPE) as pipeline:
        yield pipeline


async def test_as_a_fixture(cat: Pipeline) -> None:
    await stdin_of(cat).send(b"x")
    assert await cat.stdout.receive() == b"X"


def test_without_pidfds() -> None:
    script = """
        import asyncio, threading, aioipc
        async def main():
            done = await aioipc.run_pipeline(["echo", "x"], ["cat"], ["sh", "-c", "cat; echo e >&2; exit 3"])
            assert (done.stdout, done.returncodes, done.stderr[2]) == (b"x\\n", (0, 0, 3), b"e\\n"), done
            async with await aioipc.open_pipeline(["sleep", "1000"]) as pipeline:
                pass
            assert pipeline.returncodes == (-15,)
            while threading.active_count() > 1:
                await asyncio.sleep(0.001)
        asyncio.run(main())
    """
    run_confined(SECCOMP_EPERM, script).check()


# --- what cannot be


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    ran = []

    async def note(receive: PipeReceiveStream, send: PipeSendStream) -> None:
        ran.append(True)

    before = open_descriptors()
    for run in (open_pipeline, run_pipeline):
        with pytest.raises(FileNotFoundError, match=r"stage 3 of 4 \(nonesuch -x\) cannot start") as caught:
            await run(["sleep", "1000"], note, ["nonesuch", "-x"], ["cat"])  # type: ignore[operator]
        assert caught.value.filename == "nonesuch"
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="stage 1 of 1"):
        await open_pipeline([tmp_path / "file"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        await open_pipeline(["true"], cwd=tmp_path / "no folder")
    with pytest.raises(OSError, match="stage 2 of 2") as failed:
        await open_pipeline(["sleep", "1000"], ["echo", "x" * 10_000_000])
    assert failed.value.errno == errno.E2BIG
    assert len(str(failed.value)) < 300
    assert open_descriptors() == before
    assert not ran
    assert not [each for each in children(os.getpid()) if each.name == "sleep"]


def test_without_free_descriptors() -> None:
    """Wherever they run out while it starts, nothing is left of it."""
    script = """
        import asyncio, errno, os, resource, threading, aioipc

        async def copy(receive, send):
            async for chunk in receive:
                await send.send(chunk)

        async def attempt():
            return await aioipc.run_pipeline(["cat"], copy, ["cat"], input=b"x")

        async def main():
            await attempt()
            before = sorted(map(int, os.listdir("/proc/self/fd")))
            free = min(set(range(300)) - set(before))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            failures = 0
            while True:
                resource.setrlimit(resource.RLIMIT_NOFILE, (free + failures, hard))
                try:
                    done = await attempt()
                except OSError as error:
                    assert error.errno == errno.EMFILE, error
                else:
                    break
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                failures += 1
                assert sorted(map(int, os.listdir("/proc/self/fd"))) == before
                assert threading.active_count() == 1
                try:
                    os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    pass
                else:
                    raise SystemExit("a child is left")
            assert done.stdout == b"x", done
            assert failures > 5, failures
        asyncio.run(main())
    """
    run_script(script).check()


async def test_a_function_of_another_shape() -> None:
    async def one(receive: PipeReceiveStream) -> None: ...

    async def explodes(receive: PipeReceiveStream, send: PipeSendStream) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="stage 3 is called with a receive and a send stream, which does not fit"):
        await open_pipeline(explodes, ["sleep", "1000"], one, stdin=PIPE)  # type: ignore[arg-type]


def plain(receive: object, send: object) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ([], ValueError, "at least one stage"),
        (["ls -l"], TypeError, "stage 1 must be a sequence of arguments or an async function, not str; .*sh"),
        ([["ls"], b"ls"], TypeError, "stage 2 must be"),
        ([5], TypeError, "not int"),
        ([{"ls"}], TypeError, "not set"),
        ([plain], TypeError, "not function"),
        ([[]], ValueError, "stage 1 has no program"),
        ([["ls", 5]], TypeError, "must be str, bytes or paths, not int"),
        ([["ls", None]], TypeError, "not NoneType"),
        ([["ls", "a\0b"]], ValueError, "null byte"),
    ],
)
async def test_wrong_stages(wrong: list[object], error: type[Exception], text: str) -> None:
    for run in (open_pipeline, run_pipeline):
        with pytest.raises(error, match=text):
            await run(*wrong)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"stdin": "file"}, TypeError, "stdin must be PIPE, DEVNULL, a descriptor, an open file or None, not str"),
        ({"stdout": True}, TypeError, "not bool"),
        ({"stdout": STDOUT}, ValueError, "stdout cannot be -2"),
        ({"stderr": -7}, ValueError, "stderr cannot be -7"),
        ({"stdin": 9999}, OSError, "Bad file descriptor"),
        ({"stderr_limit": 0}, ValueError, "stderr_limit must be at least 1"),
        ({"stderr_limit": "1"}, TypeError, "stderr_limit must be an int"),
        ({"env": ["A=b"]}, TypeError, "env must be a mapping"),
        ({"cwd": 5}, TypeError, "not int"),
        ({"grace": "1"}, TypeError, "grace must be a number"),
        ({"grace": -1}, ValueError, "grace must be a finite number of seconds from 0 on"),
        ({"grace": float("nan")}, ValueError, "grace must be a finite"),
        ({"grace": float("inf")}, ValueError, "grace must be a finite"),
    ],
)
async def test_wrong_options(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await open_pipeline(["true"], **options)  # type: ignore[arg-type]


async def test_wrong_combinations(tmp_path: Path) -> None:
    reader, writer = create_pipe()
    async with reader, writer:
        with pytest.raises(TypeError, match=r"must not be a stream.*detach"):
            await open_pipeline(["true"], stdin=reader)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stdin must be PIPE or DEVNULL where the first stage is a function"):
        await open_pipeline(copy, stdin=None)
    for stdout in (DEVNULL, None):
        with pytest.raises(ValueError, match="stdout must be PIPE where the last stage is a function"):
            await open_pipeline(copy, stdout=stdout)
    with pytest.raises(TypeError, match="bytes-like"):
        await run_pipeline(["cat"], input="text")  # type: ignore[arg-type]


# --- beside others


async def test_under_the_streams_of_anyio() -> None:
    async with await open_pipeline(["cat"], stdin=PIPE) as pipeline:
        both = StapledByteStream(stdin_of(pipeline), pipeline.stdout)
        await both.send("zwölf\n".encode())
        assert await TextReceiveStream(both.receive_stream).receive() == "zwölf\n"
        await both.send(b"one\ntwo")
        assert await BufferedByteReceiveStream(both).receive_until(b"\n", 10) == b"one"
        await both.send_eof()
        assert await pipeline.wait() == (0,)


async def test_beside_subprocesses_of_asyncio() -> None:
    """Both reap their own children only."""
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
    done = await run_pipeline(["sh", "-c", "exit 3"], ["sh", "-c", "exit 4"])
    assert done.returncodes == (3, 4)
    assert await other.wait() == 7
