"""``aioipc mk``, ``send`` and ``recv`` as programs: in a shell, beside util-linux and C, and how signals end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import aioipc
from tests.cli.command import DEADLINE, environment
from tests.harness.c_programs import compile_c, need, run_c
from tests.harness.hostile import NOBODY, run_confined
from tests.kernel.test_sysv_programs import MESSAGES

COMMAND = [sys.executable, "-W", "error", "-m", "aioipc"]


def shell(script: str, directory: Path) -> list[str]:
    """Run a bash script in which ``$A`` is the command; what it printed, errors among the rest, by lines."""
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1; {script}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        cwd=directory,
        env=environment(A=" ".join(COMMAND)),
    )
    return done.stdout.splitlines()


def test_the_classic_tools(tmp_path: Path) -> None:
    """msgget(key, IPC_CREAT) again and again, then a sender and a receiver, each a run of its own; ipcs between."""
    need("ipcs", "ipcrm")
    script = """
        touch queuekey
        for i in 1 2 3; do $A mk msg --ftok queuekey --ftok-id 1 --exist-ok; done
        id=$($A mk msg --ftok queuekey --ftok-id 1 --exist-ok)
        look() { ipcs -q | awk -v id="$id" '$2 == id { print $4, $5, $6 }'; }
        $A send -i $id -t 123 -m "hello world"; echo "sent: $?"
        look
        $A recv -i $id -t 123; echo "received: $?"
        look
        $A recv -i $id -t 123 --no-wait; echo "again: $?"
        ipcrm -q $id
        $A recv -i $id -t 123; echo "removed: $?"
    """
    one, two, three, *rest = shell(script, tmp_path)
    assert one == two == three
    assert rest == [
        "sent: 0",
        "600 11 1",
        "hello world",
        "received: 0",
        "600 0 0",
        "aioipc recv: no message of that type",
        "again: 1",
        f"aioipc recv: there is no System V message queue with the id {one}",
        "removed: 2",
    ]


def test_with_a_program_in_c(tmp_path: Path) -> None:
    """An ``mtext`` of 1,024 bytes comes whole, with its zeros; and back as a string with its end."""
    program = compile_c(MESSAGES, tmp_path, "messages")
    with closing(aioipc.SysVMessageQueue.create()) as queue:
        run_c(program, "send", str(queue.id), "123", "hello world")
        found = shell(
            f"$A recv -i {queue.id} --peek | wc -c; $A recv -i {queue.id} --strip-zeros;"
            f"$A send -i {queue.id} -t 5 --add-zero -m hello",
            tmp_path,
        )
        assert found == ["1025", "hello world"]
        assert run_c(program, "receive", str(queue.id), "5", "0") == "5 6 hello"


def test_in_a_pipeline(tmp_path: Path) -> None:
    """What the reader did not want stays in the queue, and nobody complains."""
    script = """
        set -o pipefail
        $A mk pmsg $Q --max-messages 10 > /dev/null
        seq 1 3 | $A send -n $Q
        $A recv -n $Q --follow | (read a; read b; read c; echo "$a $b $c"); echo "left: $?"
        $A send -n $Q -m 4
        mkfifo hello
        $A recv --all hello & sleep 0
        echo "hello world" > hello; wait
        cat < hello & $A send hello -m "hello shell"; wait
        $A recv -n $Q --json
    """
    name = f"/aioipc-shell-{os.getpid()}"
    try:
        assert shell(f"Q={name}; {script}", tmp_path) == [
            "1 2 3",
            "left: 141",
            "hello world",
            "hello shell",
            '{"priority":0,"body":"4","encoding":"text"}',
        ]
    finally:
        with closing(aioipc.PosixMessageQueue.open(name)) as queue:
            queue.remove()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals(number: signal.Signals, code: int) -> None:
    with closing(aioipc.SysVMessageQueue.create()) as queue:
        queue.send_nowait(b"hello")
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*COMMAND, "recv", "-i", str(queue.id), "-f"], stdout=pipe, stderr=pipe, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"hello\n"
            process.send_signal(number)
            assert process.wait(DEADLINE) == code
            assert process.stdout.read() == process.stderr.read() == b""


def test_without_standard_streams() -> None:
    with closing(aioipc.SysVMessageQueue.create()) as queue:
        queue.send_nowait(b"hello")
        lines = shell(f"$A recv -i {queue.id} >&-; echo $?", Path("/"))
        assert lines == ["aioipc recv: standard output is closed, so nothing was received", "2"]
        assert queue.receive_nowait().body == b"hello"
        lines = shell(f"$A send -i {queue.id} <&-; $A send -i {queue.id} -m x <&- >&-; echo $?", Path("/"))
        assert lines == ["aioipc send: standard input is closed: give messages with -m", "0"]
        assert queue.receive_nowait().body == b"x"


def test_as_somebody_without_permission() -> None:
    name = f"/aioipc-theirs-{os.getpid()}"
    with closing(aioipc.SysVMessageQueue.create()) as queue, closing(aioipc.PosixMessageQueue.create(name)):
        queue.send_nowait(b"hello")
        script = """
            import sys
            from aioipc.cli.main import main
            for words in sys.argv[1:]:
                try:
                    main(words.split())
                except SystemExit as end:
                    print(end.code, flush=True)
        """
        words = [f"{command} {target}" for target in (f"-i {queue.id}", f"-n {name}") for command in COMMANDS]
        done = run_confined(NOBODY, script, *words)
    assert done.stdout.split() == ["2"] * 4
    assert done.stderr.splitlines() == [
        f"aioipc recv: System V message queue {queue.id}: its permissions forbid this to uid 65534",
        f"aioipc send: System V message queue {queue.id}: its permissions forbid this to uid 65534",
        f"aioipc recv: {name}: the permissions of this POSIX queue forbid it",
        f"aioipc send: {name}: the permissions of this POSIX queue forbid it",
    ]


COMMANDS = ("recv", "send -m x")
