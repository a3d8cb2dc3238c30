"""``python -m benchmarks pool|channels|prefork [--quick] [--json FILE] [--case NAME]... [--peer NAME]...``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .comparison import compare
from .suites import SUITES, Suite


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="aioipc beside its peers, in one run")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for suite in SUITES.values():
        _add(suite, kinds.add_parser(suite.name, help=suite.title, description=suite.title))
    options = parser.parse_args()
    try:
        compare(SUITES[options.kind], options.case, options.peer, options.quick, options.json)
    except KeyboardInterrupt:
        sys.exit(130)


def _add(suite: Suite, command: argparse.ArgumentParser) -> None:
    cases, peers = suite.cases, suite.entries
    command.add_argument("--quick", action="store_true", help="one round of smaller counts: does it work at all?")
    command.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and every round here")
    command.add_argument("--case", action="append", default=[], choices=cases, help="only this case (repeatable)")
    command.add_argument("--peer", action="append", default=[], choices=peers, help="only this peer (repeatable)")


if __name__ == "__main__":
    main()
