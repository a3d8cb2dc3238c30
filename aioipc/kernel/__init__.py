"""Floor 3: one kernel object, one file."""
