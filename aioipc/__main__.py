"""``python -m aioipc`` is the command ``aioipc``."""

from aioipc.cli.start import main

if __name__ == "__main__":
    main()
