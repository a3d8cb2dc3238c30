"""``python -m benchmarks pool [--quick] [--json FILE] [--case NAME]... [--peer NAME]...``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import pool
from .cases import CASES
from .peers import ENTRIES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="aioipc beside its peers, in one run")
    kinds = parser.add_subparsers(dest="kind", required=True)
    command = kinds.add_parser("pool", help="process pools, two workers each")
    command.add_argument("--quick", action="store_true", help="one round of smaller counts: does it work at all?")
    command.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and every round here")
    command.add_argument("--case", action="append", default=[], choices=CASES, help="only this case (repeatable)")
    command.add_argument("--peer", action="append", default=[], choices=ENTRIES, help="only this peer (repeatable)")
    options = parser.parse_args()
    try:
        pool.run(options.case, options.peer, options.quick, options.json)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
