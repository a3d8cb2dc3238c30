"""A supervisor as a program of its own: its signals, control socket, logs, exit code."""
