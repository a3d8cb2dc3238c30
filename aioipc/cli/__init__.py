"""Floor 9: the command line; it stands on the public API."""
