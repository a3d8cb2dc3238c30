"""Two signals to `aioipc run`, at every moment of its life: does it do what the table of its signals says?

``python -m tests.cli.signal_storms`` tries all pairs at all moments, which takes minutes; ``--help`` says what else.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..harness.processes import eventually, processes
from .masters import LONG, SERVICE, Running, master

SIGNALS = ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "USR1", "USR2", "WINCH", "CHLD")
MOMENTS = ("exec", "booting", "up", "reload")
GAPS = (0.0, 0.001, 0.005, 0.02, 0.05)
SAME_REQUEST = 0.2
SAYS = {"USR1": "shop (function, permanent): ", "USR2": "SIGUSR2 is ignored"}
"""What the log has of a signal, once it was heard."""


@dataclass(frozen=True)
class Case:
    """Two signals, the seconds between them, the moment of the first one and how long after its beginning."""

    moment: str
    first: str
    second: str
    gap: float
    delay: float

    @property
    def signals(self) -> tuple[str, str]:
        return self.first, self.second

    @property
    def stops(self) -> bool:
        return not {"TERM", "INT", "QUIT"}.isdisjoint(self.signals)


def all_cases(seed: int) -> list[Case]:
    """Every pair at every moment; gaps and delays are by chance."""
    chance = random.Random(seed)
    return [
        Case(moment, first, second, chance.choice(GAPS), chance.choice((0, chance.uniform(0, 0.15))))
        for moment, first, second in itertools.product(MOMENTS, SIGNALS, SIGNALS)
    ]


def some_cases(seed: int, count: int) -> list[Case]:
    """A sample, evenly of all moments."""
    cases = all_cases(seed)
    random.Random(seed).shuffle(cases)
    by_moment = [[case for case in cases if case.moment == moment] for moment in MOMENTS]
    return [case for several in zip(*by_moment, strict=True) for case in several][:count]


def check(case: Case, directory: Path) -> None:
    """Start a master, send the signals, and see what becomes of it; raises AssertionError."""
    (directory / "shop.py").write_text(SERVICE)
    address = f"127.{os.getpid() % 250 + 1}.{random.randrange(250)}.{random.randrange(1, 250)}"
    with master(directory, "shop:serve", "-w", "2", "--bind", f"http=tcp://{address}:8765") as running:
        try:
            _wait_for_moment(case, running)
            time.sleep(case.delay)
            running.send(signal.Signals[f"SIG{case.first}"])
            time.sleep(case.gap)
            running.send(signal.Signals[f"SIG{case.second}"])
            if case.moment == "exec":  # a signal that comes before Python runs may have stopped it
                running.send(signal.SIGCONT)
                if _ended_before_it_began(case, running):
                    return
            if not case.stops:
                _check_alive(case, running)
                running.send(signal.SIGTERM)
            _check_end(case, running)
        except AssertionError as error:
            error.add_note(f"{case}\n{running.log}")
            raise
        finally:
            _check_nothing_is_left(running, directory, address)


def _wait_for_moment(case: Case, running: Running) -> None:
    if case.moment == "exec":
        return
    eventually(lambda: running.popen.poll() is not None or running.blocks(signal.SIGTERM), LONG)
    if case.moment != "booting":
        running.wait_log("up: ")
    if case.moment == "reload":
        running.send(signal.SIGHUP)


def _ended_before_it_began(case: Case, running: Running) -> bool:
    """Tell whether a signal has ended Python itself, before it could keep signals for later: nothing was started."""
    eventually(
        lambda: running.popen.poll() is not None or "starting shop:serve" in running.log or _died_of(case, running),
        LONG,
    )
    return _died_of(case, running)


def _died_of(case: Case, running: Running) -> bool:
    code = running.popen.poll()
    early = {-signal.Signals[f"SIG{name}"] for name in case.signals} | ({1, 130} if "INT" in case.signals else set())
    return code in early and "starting shop:serve" not in running.log


def _check_alive(case: Case, running: Running) -> None:
    """No signal was to end it: it comes up, or has stayed up, and has done what it was told to."""
    running.wait_log("up: ")
    if case.moment == "reload" or "HUP" in case.signals:
        running.wait_log("the supervisor reloaded: generation 1")
    for name in {*case.signals} & SAYS.keys():
        if case.moment != "exec":
            running.wait_log(SAYS[name])
    replicas = _replicas(case)

    def is_settled(status: dict[str, Any]) -> bool:
        (shop,) = status["children"]
        running_now = [each for each in shop["processes"] if each["state"] == "RUNNING"]
        return status["state"] == "running" and shop["replicas"] in replicas and len(running_now) == shop["replicas"]

    status = running.until(is_settled)
    hups = case.signals.count("HUP") + (case.moment == "reload")
    assert min(1, hups) <= status["generation"] <= hups, status["generation"]


def _replicas(case: Case) -> set[int]:
    """How many there may be: equal signals may be one, and SIGCONT takes a pending SIGTTIN away."""
    if case.moment == "exec":
        return {1, 2, 3, 4}
    more, fewer = case.signals.count("TTIN"), case.signals.count("TTOU")
    if more == 2:
        return {3, 4}
    return {max(1, 2 + more - fewer)}


def _check_end(case: Case, running: Running) -> None:
    code = running.wait()
    assert code in _codes(case), code
    if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):  # the second one was another request, not the same again
        assert _seconds_between(running.log, "stopping, within", "everything is killed") >= SAME_REQUEST - 0.002
    assert "Traceback" not in running.log
    assert " ERROR " not in running.log
    if code == 0:
        assert "the end: all that was accepted is finished" in running.log


def _codes(case: Case) -> set[int]:
    if "QUIT" not in case.signals:
        ends = [name for name in case.signals if name in ("TERM", "INT")]
        return {0, *(128 + signal.Signals[f"SIG{name}"] for name in ends * (len(ends) == 2))}
    return {131} if case.first == "QUIT" or case.first not in ("TERM", "INT") else {131, 0}  # it may have ended before


def _seconds_between(log: str, earlier: str, later: str) -> float:
    times = []
    for text in (earlier, later):
        (found,) = re.findall(rf"^(\S+ \S+) .*{text}", log, re.MULTILINE)
        times.append(datetime.fromisoformat(found))
    return (times[1] - times[0]).total_seconds()


def _check_nothing_is_left(running: Running, directory: Path, address: str) -> None:
    if running.popen.poll() is None:
        return
    eventually(lambda: not list(_living_in(directory)), 10, lambda: list(_living_in(directory)))
    with socket.socket() as sock:
        sock.bind((address, 8765))
    assert os.listdir(directory / "state") == []


def _living_in(directory: Path) -> Iterator[str]:
    """Whatever process has this as its working directory, as all have that a master starts."""
    for each in processes():
        try:
            where = os.readlink(f"/proc/{each.pid}/cwd")
        except OSError:
            continue
        if where == str(directory) and not each.is_zombie:
            yield str(each)


def failures(cases: Iterable[Case], at_once: int, directory: Path) -> list[str]:
    """Check the cases, some at a time, and return what was wrong with those that failed."""

    def fault(case: Case) -> str:
        place = Path(tempfile.mkdtemp(dir=directory))
        try:
            check(case, place.resolve())
        except AssertionError as error:
            return "\n".join([repr(error), *error.__notes__])
        return ""

    with ThreadPoolExecutor(at_once) as threads:
        return [found for found in threads.map(fault, cases) if found]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.cli.signal_storms", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the gaps and delays")
    parser.add_argument("--moment", choices=MOMENTS, action="append", help="only at this one; may be given again")
    parser.add_argument("--at-once", type=int, default=3, help="how many masters run at a time")
    given = parser.parse_args()
    cases = [case for case in all_cases(given.seed) if case.moment in (given.moment or MOMENTS)]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="storms-") as directory:
        found = failures(cases, given.at_once, Path(directory))
    print(*found, f"{len(cases)} storms, {len(found)} failed, {time.monotonic() - begin:.0f} s", sep="\n\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
