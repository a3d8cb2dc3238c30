"""`aioipc map`, as users meet it: real processes, pipes and terminals."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import pytest

from aioipc.cli.map_run import WINDOW_PER_WORKER
from aioipc.cli.tasks_input import CHUNK, LOOK_AHEAD
from tests.harness.processes import descendants, eventually

from .command import DEADLINE, Gate, environment, on_terminal, records, results, run, running, shell

SHOUT = "jobs_for_map:shout"
ECHO = "jobs_for_map:echo"
POSITIVE = "jobs_for_map:positive"
GATE = "jobs_for_map:wait_for_writer"
PIPE_CAPACITY = 65_536


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


# -- tasks and results ---------------------------------------------------------------------------------


def test_lines_of_standard_input() -> None:
    done = run(SHOUT, tasks="one\n\ntwo\nnaïve")

    assert done.returncode == 0, done.stderr
    assert sorted(records(done.stdout), key=lambda record: record["index"]) == [
        {"index": 0, "task": "one", "result": "ONE"},
        {"index": 1, "task": "two", "result": "TWO"},
        {"index": 2, "task": "naïve", "result": "NAÏVE"},
    ]
    assert done.stderr.startswith("aioipc map: 3 done, 0 failed, 0 retried in ")


def test_no_tasks() -> None:
    done = run(SHOUT)

    assert (done.returncode, done.stdout) == (0, "")


def test_lines_of_files_and_standard_input_between(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\nb\n")
    (tmp_path / "two").write_text("d\n")

    done = run(SHOUT, str(tmp_path / "one"), "-", str(tmp_path / "two"), "--ordered", tasks="c\n")

    assert [record["result"] for record in records(done.stdout)] == ["A", "B", "C", "D"]


@pytest.mark.parametrize("function", ["echo", "echo_later", "wrapped_echo_later"])
def test_json_values_sync_and_async(function: str) -> None:
    values = [[1, 2], {"a": None}, "text", 1.5, None]

    done = run(f"jobs_for_map:{function}", "--json", "--ordered", tasks="\n".join(map(json.dumps, values)))

    assert [record["task"] for record in records(done.stdout)] == values
    assert [record["result"] for record in records(done.stdout)] == values


def test_file_names_with_any_byte(tmp_path: Path) -> None:
    done = run(ECHO, "--null", "--ordered", tasks=b"caf\xe9\0two\nlines\0")

    assert [os.fsencode(record["result"]) for record in records(done.stdout)] == [b"caf\xe9", b"two\nlines"]


def test_many_tasks_give_one_result_each() -> None:
    done = run(ECHO, tasks="".join(f"{number}\n" for number in range(20_000)))

    assert done.returncode == 0
    assert results(done.stdout) == {str(number): str(number) for number in range(20_000)}


def test_results_come_as_they_are_ready_or_in_order(gate: Gate) -> None:
    tasks = f"{gate.path}\nquick\n".encode()
    for order, expected in (("--ordered", [0, 1]), ("--quiet", [1, 0])):
        with running(GATE, order, "--workers", "2") as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(tasks)
            process.stdin.flush()
            first = process.stdout.readline() if order == "--quiet" else b""  # while the other is still running
            gate.open()
            process.stdin.close()
            lines = records((first + process.stdout.read()).decode())
            assert [record["index"] for record in lines] == expected
            assert process.wait(DEADLINE) == 0


def test_async_tasks_run_at_the_same_time() -> None:
    done = run("jobs_for_map:meet_two_others", "--workers", "1", "--concurrency", "3", tasks="a\nb\nc\n")

    assert sorted(results(done.stdout)) == ["a", "b", "c"]


def test_results_to_a_file(tmp_path: Path) -> None:
    done = run(SHOUT, "--output", str(tmp_path / "results"), tasks="a\n")

    assert done.stdout == ""
    assert results((tmp_path / "results").read_text()) == {"a": "A"}


def test_what_workers_print_is_no_result() -> None:
    done = run("jobs_for_map:print_everywhere", tasks="a\n")

    assert results(done.stdout) == {"a": "a"}
    assert {"stdout of a", "stderr of a", "child of a"} <= set(done.stderr.splitlines())


# -- failures ------------------------------------------------------------------------------------------


def test_a_task_that_raises() -> None:
    done = run(POSITIVE, "--ordered", tasks="1\n-2\n3\n")

    assert done.returncode == 1
    good, bad, other = records(done.stdout)
    assert (good["result"], other["result"]) == (1, 3)
    assert bad["error"]["type"] == "ValueError"
    assert bad["error"]["message"] == "-2 is negative"
    assert bad["error"]["traceback"].startswith("Traceback (most recent call last):\n")
    assert "raise ValueError" in bad["error"]["traceback"]
    assert "aioipc" not in bad["error"]["traceback"].replace(str(Path(__file__).parent), "")
    assert "2 done, 1 failed" in done.stderr


def test_a_line_that_is_no_json() -> None:
    done = run(ECHO, "--json", "--ordered", tasks="1\n{\n3\n")

    assert done.returncode == 1
    good, bad, other = records(done.stdout)
    assert (good["result"], other["result"]) == (1, 3)
    assert bad["task"] == "{"
    assert bad["error"]["type"] == "JSONDecodeError"
    assert "standard input, line 2: not a JSON value" in bad["error"]["message"]


def test_a_worker_that_dies() -> None:
    done = run("jobs_for_map:kill_yourself", tasks="a\n")

    assert done.returncode == 1
    (record,) = records(done.stdout)
    error = record["error"]
    assert (error["type"], error["signal"], error["exitcode"]) == ("WorkerCrashed", "SIGKILL", None)
    assert "while it ran jobs_for_map:kill_yourself" in error["message"]


def test_a_worker_that_dies_is_made_up_for_by_retries(tmp_path: Path) -> None:
    tasks = [str(tmp_path / name) for name in "abc"]

    done = run("jobs_for_map:kill_yourself_once", "--retries", "2", tasks="\n".join(tasks))

    assert done.returncode == 0, done.stdout
    assert results(done.stdout) == dict.fromkeys(tasks, "second try")
    assert "3 done, 0 failed, 3 retried" in done.stderr


def test_an_exception_is_made_up_for_by_retries(tmp_path: Path) -> None:
    done = run("jobs_for_map:fail_once", "--retries", "1", tasks=str(tmp_path / "a"))

    assert done.returncode == 0, done.stdout
    assert "1 done, 0 failed, 1 retried" in done.stderr


def test_a_task_that_takes_too_long() -> None:
    done = run("jobs_for_map:hang", "--timeout", "0.2", tasks="a\n")

    assert done.returncode == 1
    (record,) = records(done.stdout)
    assert record["error"] == {
        "type": "TaskTimeout",
        "message": "jobs_for_map:hang ran longer than its timeout of 0.2 s",
        "traceback": None,
    }


def test_a_task_that_exits() -> None:
    done = run("jobs_for_map:exit_with_text", tasks="a\n")

    assert done.returncode == 1
    (record,) = records(done.stdout)
    assert record["error"]["type"] == "SystemExit"
    assert "leaving" in record["error"]["message"]


def test_fail_fast_starts_no_more_tasks() -> None:
    tasks = "-1\n" + "1\n" * 5000

    done = run(POSITIVE, "--fail-fast", "--workers", "1", tasks=tasks)

    assert done.returncode == 1
    lines = records(done.stdout)
    assert "error" in lines[0]
    assert len(lines) < 5000
    assert "1 failed" in done.stderr


def test_workers_that_cannot_start() -> None:
    done = run(ECHO, tasks="a\n", AIOIPC_FAILPOINTS="before-ready=exit")

    assert (done.returncode, done.stdout) == (3, "")
    assert "aioipc map: workers cannot start: 3 in a row ended before they were ready" in done.stderr


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["jobs_for_map:shot"], "'jobs_for_map' has no function 'shot'; did you mean 'shout'?"),
        (["jobs_for_mapp:shout"], "did you mean 'jobs_for_map'?"),
        (["jobs_for_map:LIMIT"], "is no function but of type int"),
        (["jobs_for_map"], "is not of the form package.module:function"),
        ([SHOUT, "-o", "/missing/results"], "cannot write /missing/results: No such file or directory"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], text: str) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("aioipc map: ")
    assert text in done.stderr


@pytest.mark.parametrize(
    "arguments", [[SHOUT, "--workers", "0"], [SHOUT, "missing"], [], [SHOUT, "--timeout", "0"], [SHOUT, "--bad"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert "Usage: aioipc map" in done.stderr


def test_an_input_that_is_also_the_output(tmp_path: Path) -> None:
    name = str(tmp_path / "tasks")
    Path(name).write_text("a\n")

    done = run(SHOUT, name, "-o", name)

    assert done.returncode == 2
    assert Path(name).read_text() == "a\n"


def test_a_full_disk() -> None:
    done = run(ECHO, "--output", "/dev/full", tasks="a\n" * 10)

    assert done.returncode == 1
    assert "aioipc map: cannot write the results: No space left on device\n" in done.stderr


# -- pipes ---------------------------------------------------------------------------------------------


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    done = shell(f"yes | $MAP {SHOUT} | head -n 3; echo ${{PIPESTATUS[@]}}")

    *lines, codes = done.stdout.splitlines()
    assert [json.loads(line)["result"] for line in lines] == ["Y", "Y", "Y"]
    assert codes == "141 141 0"
    assert done.stderr == ""


def test_a_reader_that_leaves_is_noticed_while_no_result_comes(gate: Gate) -> None:
    with running(GATE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"quick\n{gate.path}\n".encode())
        process.stdin.flush()
        os.close(gate.wait_reader())
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 141


def test_an_endless_input_is_not_read_ahead(gate: Gate) -> None:
    """While the only worker is busy, no more than the window is taken from the input."""
    with running(GATE, "--workers", "1", "--ordered") as process:
        assert process.stdin
        descriptor = process.stdin.fileno()
        os.write(descriptor, f"{gate.path}\n".encode())
        blocked = gate.wait_reader()
        os.set_blocking(descriptor, False)
        taken = 0
        while select.select([], [descriptor], [], 0.5)[1]:
            taken += os.write(descriptor, b"y\n" * 2048)
        assert taken <= 2 * WINDOW_PER_WORKER + (LOOK_AHEAD + 2) * CHUNK + PIPE_CAPACITY
        process.terminate()
        os.close(blocked)
        assert process.wait(DEADLINE) == 143


def test_a_slow_reader_of_results_stops_the_input() -> None:
    with running(ECHO, "--quiet") as process:
        assert process.stdin
        assert process.stdout
        descriptor = process.stdin.fileno()
        line = b"y" * 999 + b"\n"
        os.write(descriptor, line)
        assert process.stdout.readline()  # it is up; nothing more is read
        os.set_blocking(descriptor, False)
        taken = 0
        while select.select([], [descriptor], [], 0.5)[1]:
            taken += os.write(descriptor, line)
        assert taken < 20_000_000
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 143


def test_closed_standard_descriptors() -> None:
    assert shell(f"echo a | $MAP {SHOUT} >&-").returncode == 0
    assert results(shell(f"echo a | $MAP {SHOUT} 2>&-").stdout) == {"a": "A"}
    assert shell(f"$MAP {SHOUT} <&-").returncode == 0


# -- signals -------------------------------------------------------------------------------------------


def test_sigterm_finishes_what_runs_and_starts_nothing_more(gate: Gate, tmp_path: Path) -> None:
    never = Gate(tmp_path / "never")
    with running(GATE, "--workers", "1", "--shutdown", "5") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(f"quick\n{gate.path}\n{never.path}\n".encode())
        process.stdin.flush()  # and stays open: reading it does not hold up the exit
        held = gate.wait_reader()
        process.terminate()
        assert b"SIGTERM" in process.stderr.readline()
        os.write(held, b"finished")
        os.close(held)
        output = process.stdout.read().decode()
        assert process.wait(DEADLINE) == 143
        assert results(output) == {"quick": "quick", gate.path: "finished"}
        assert b"2 done, 0 failed, 0 retried, 1 not finished" in process.stderr.read()


def test_the_deadline_ends_what_does_not_finish(gate: Gate) -> None:
    with running(GATE, "--workers", "1", "--shutdown", "0.1") as process:
        assert process.stdin
        process.stdin.write(f"quick\n{gate.path}\n".encode())
        process.stdin.flush()
        held = gate.wait_reader()
        process.terminate()
        output, errors = process.communicate(timeout=DEADLINE)
        os.close(held)
        assert process.returncode == 143
        assert results(output.decode()) == {"quick": "quick"}
        assert b"were ended" in errors


def test_a_second_signal_ends_it_at_once(gate: Gate) -> None:
    with running(GATE, "--workers", "1", "--shutdown", "1000") as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(f"quick\n{gate.path}\n".encode())
        process.stdin.flush()
        held = gate.wait_reader()
        process.terminate()
        assert b"SIGTERM" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE)
        os.close(held)
        assert process.returncode == 143
        assert results(output.decode()) == {"quick": "quick"}


def test_a_signal_while_workers_start_ends_it_at_once() -> None:
    with running(ECHO, "--shutdown", "1000", env=environment(AIOIPC_FAILPOINTS="before-ready=stop")) as process:
        eventually(lambda: [each for each in descendants(process.pid) if each.state == "T"], DEADLINE)
        process.terminate()
        assert process.wait(DEADLINE) == 143


# -- terminals -----------------------------------------------------------------------------------------


def test_ctrl_c_on_a_terminal(gate: Gate, tmp_path: Path) -> None:
    never = Gate(tmp_path / "never")
    (tmp_path / "tasks").write_text(f"quick\n{gate.path}\n{never.path}\n")
    output = tmp_path / "results"
    with on_terminal(GATE, str(tmp_path / "tasks"), "-w1", "--shutdown", "5", "-o", str(output)) as terminal:
        held = gate.wait_reader()
        terminal.press("\x03")
        terminal.wait_for("SIGINT: finishing the tasks that run")
        os.write(held, b"finished")
        os.close(held)
        assert terminal.wait() == 130
        assert results(output.read_text()) == {"quick": "quick", gate.path: "finished"}
        assert "2 done, 0 failed, 0 retried, 1 not finished" in terminal.text


def test_a_progress_bar(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text(f"quick\n{gate.path}\n")
    with on_terminal(GATE, str(tmp_path / "tasks"), "-w", "1", "-o", str(tmp_path / "results")) as terminal:
        terminal.wait_for("1/2")
        gate.open()
        assert terminal.wait() == 0
        assert "\x1b[3" in terminal.raw
        assert "2 done" in terminal.text


def test_what_workers_print_scrolls_above_the_bar(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("a\n")
    with on_terminal("jobs_for_map:print_everywhere", str(tmp_path / "tasks"), "-o", "/dev/null") as terminal:
        assert terminal.wait() == 0
        assert {"stdout of a", "stderr of a", "child of a"} <= set(terminal.lines)


def test_no_color(gate: Gate, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.write_text(f"quick\n{gate.path}\n")
    with on_terminal(GATE, str(tasks), "-w", "1", "-o", "/dev/null", NO_COLOR="1") as terminal:
        terminal.wait_for("1/2")
        gate.open()
        assert terminal.wait() == 0
        assert "\x1b[3" not in terminal.raw


@pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
def test_no_bar(option: str, gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("quick\n")
    with on_terminal(ECHO, str(tmp_path / "tasks"), option, "-o", "/dev/null") as terminal:
        assert terminal.wait() == 0
        assert terminal.raw.startswith("aioipc map: 1 done" if option == "--no-progress" else "")
        assert "1/1" not in terminal.text
        assert option == "--no-progress" or not terminal.raw


def test_tasks_typed_at_a_terminal() -> None:
    with on_terminal(SHOUT) as terminal:
        terminal.wait_for("Ctrl-D ends the input")
        terminal.press("typed\n")
        terminal.wait_for('"result":"TYPED"')
        terminal.press("\x04")
        assert terminal.wait() == 0
