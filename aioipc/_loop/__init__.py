"""Floor 2: how an asyncio loop waits for a kernel object."""
