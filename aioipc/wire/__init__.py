"""Floor 1: protocols as bytes and events, without I/O."""
