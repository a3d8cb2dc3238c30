"""What becomes of the tasks of a worker that died: pure decisions.

Started tasks without an answer are suspects. One that ran alone is charged with the death; of several, nobody
knows which did it, so each is tried alone before it can be charged (decision 10).
"""

from __future__ import annotations

from typing import Literal

from .job import Task

SOLO_DEATHS = 3
"""Workers a task may kill while it runs alone before it is quarantined."""

Verdict = Literal["stopped", "timeout", "retry", "crashed", "quarantined"]


def judge(suspects: list[Task], *, deliberate: bool) -> list[tuple[Task, Verdict]]:
    """Return what is to become of each suspect; notes the death on those that come back.

    ``deliberate``: we killed the worker ourselves, to end a task that has ``ending`` set; then the others are
    victims, not suspects.
    """
    alone = len(suspects) == 1
    verdicts: list[tuple[Task, Verdict]] = []
    for task in suspects:
        if task.ending == "cancel":
            verdicts.append((task, "stopped"))
        elif task.ending == "timeout":
            verdicts.append((task, "timeout"))
        else:
            verdicts.append((task, _charge(task, alone=alone, deliberate=deliberate)))
    return verdicts


def _charge(task: Task, *, alone: bool, deliberate: bool) -> Verdict:
    task.attempts += 1
    if not deliberate:
        task.suspect = True
        task.solo_deaths += alone
    if task.solo_deaths >= SOLO_DEATHS:
        return "quarantined"
    return "retry" if task.attempts <= task.retries else "crashed"
