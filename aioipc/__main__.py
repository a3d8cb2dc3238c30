"""``python -m aioipc`` is the command ``aioipc``."""

from aioipc.cli.main import main

if __name__ == "__main__":
    main()
