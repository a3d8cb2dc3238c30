"""Floor 7: the Master-Worker task pool."""
