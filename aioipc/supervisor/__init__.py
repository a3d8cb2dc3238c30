"""Floor 6: starts, watches and stops processes; nothing else in the package does."""
