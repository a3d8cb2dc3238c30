"""``aioipc doctor``: is this a machine on which aioipc works well, and what to change where it is not."""

from __future__ import annotations

import click

from aioipc import limits

from . import screen
from .checks import Check, checks
from .exit_codes import EXIT_FAILED
from .json_text import to_json
from .object_json import SCHEMA, limit_json

_COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@click.command("doctor", short_help="Check limits, mounts and what the kernel refuses.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with typed values.")
@click.option("-q", "--quiet", is_flag=True, help="Only what is not OK.")
def doctor_command(as_json: bool, quiet: bool) -> None:
    """Check what aioipc needs of this machine, a line each: OK, WARN or FAIL, and what to set.

    It needs no rights, and changes nothing. Run it where the program runs: limits are those of this process, its user,
    its container.

    Exit code: 0; 1 where a part of aioipc cannot work (FAIL).
    """
    known = limits()
    found = checks(known)
    shown = [check for check in found if not quiet or check.verdict != "OK"]
    if as_json:
        document = {"schema": SCHEMA, "checks": shown, "limits": [limit_json(limit) for limit in known.values()]}
        screen.show([to_json(document).decode()], utf8=True)
    else:
        screen.show([*(line for check in shown for line in _lines(check)), *([] if quiet else [_summary(found)])])
    if any(check.verdict == "FAIL" for check in found):
        raise SystemExit(EXIT_FAILED)


def _lines(check: Check) -> list[str]:
    verdict = screen.style(f"{check.verdict:4}", fg=_COLOURS[check.verdict])
    lines = [f"{verdict}  {check.area:8}  {check.text}"]
    return [*lines, f"      {'':8}  -> {check.remedy}"] if check.remedy and check.verdict != "OK" else lines


def _summary(found: list[Check]) -> str:
    count = {verdict: sum(check.verdict == verdict for check in found) for verdict in _COLOURS}
    return f"{count['OK']} OK, {count['WARN']} WARN, {count['FAIL']} FAIL"
