"""Exit codes of the commands."""

EXIT_FAILED = 1
"""Some of it has failed."""
EXIT_NOTHING = 1
"""There is nothing of what was asked for."""
EXIT_ERROR = 2
EXIT_BOOT = 3
"""Workers cannot start."""
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
"""Nobody reads the output any more (128 + SIGPIPE): as quiet as other Unix tools."""
