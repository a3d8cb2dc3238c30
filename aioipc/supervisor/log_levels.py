"""Which log records are wanted: read from the master's `logging`, and put into force in a worker's."""

from __future__ import annotations

import logging
from typing import Any


def current_levels() -> dict[str, Any]:
    """Return the levels that are set explicitly, the loggers that are disabled, and what `logging.disable` says."""
    root = logging.getLogger()
    loggers = {"": root}
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):  # and not the place-holder of a parent that nobody has asked for
            loggers[name] = logger
    return {
        "disable": int(root.manager.disable),  # a level may be of a class that the worker lacks
        "levels": {name: int(logger.level) for name, logger in loggers.items() if logger.level or not name},
        "disabled": [name for name, logger in loggers.items() if logger.disabled],
    }


def apply_levels(settings: dict[str, Any]) -> None:
    """Take on what `current_levels` returned; records that the master would not show cost nothing here then."""
    logging.disable(settings["disable"])
    for name, level in settings["levels"].items():
        logging.getLogger(name).setLevel(level)
    for name in settings["disabled"]:
        logging.getLogger(name).disabled = True
